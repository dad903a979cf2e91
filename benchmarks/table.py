"""The table of the real models, as Markdown."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models import Case
from strop.target import cpu_name, instruction_sets, usable_cores

HEAD = (
    "model", "original", "winner", "latency.p50, winner / original", "size, winner / original", "quality of original",
    "quality of winner", "verdict", "search", "peak memory", "best single step of a peer",
)  # fmt: skip
LIBRARIES = ("strop", "onnxruntime", "openvino", "nncf", "onnx", "numpy")
PEER = re.compile(r"^(?P<step>.{22}) quality (?P<quality>\S+) \(.*\)\s+(?P<ms>\S+) ms\s+(?P<gain>\S+)x", re.MULTILINE)


def write(file: Path, found: Mapping[Case, dict[str, Any]], peers: str) -> None:
    """Write the machine and one row a model.

    Args:
        file: Markdown.
        found: Manifests, with `wall` (seconds) and `peak` (bytes), or with `error`.
        peers: What the tool for single steps printed, of any of the models, one after another.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [
        "# Real models through `strop optimize`",
        "",
        "Written by `benchmarks/real_models.py`; what the columns mean is in `benchmarks/README.md`.",
        "",
        f"{cpu_name()}, {len(usable_cores())} cores ({', '.join(sorted(instruction_sets()))}); {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}; {libraries}. One thread, batch 1, seed 0.",
        "",
        _row(HEAD),
        _row(["---"] * len(HEAD)),
        *(_row(_cells(case, manifest, _steps(case, peers))) for case, manifest in found.items()),
        "",
    ]
    if peers:
        said = [line for line in peers.splitlines() if re.search(r" quality | FAILED |: \d+ samples", line)]
        lines += ["What single steps of peers give:", "", "```", *said, "```", ""]
    file.write_text("\n".join(lines))


def _cells(case: Case, manifest: dict[str, Any], steps: list[re.Match[str]]) -> list[str]:
    if "error" in manifest:
        return [case.name, *["-"] * 6, manifest["error"], *["-"] * 3]
    original, kept = manifest["original"], manifest["winner"] or manifest["closest"]
    route = " > ".join(step["technique"] for step in kept["route"]) or "the original"
    before, after = original["metrics"], kept["metrics"]
    return [
        case.name,
        f"{_runtime(original)}, {_metric(before, 'latency.p50')}, {_metric(before, 'size')}",
        f"{route}, {_runtime(kept)}" + ("" if manifest["winner"] else " (closest)"),
        _ratio(kept, "latency.p50"),
        _ratio(kept, "size"),
        f"{case.quality} {_metric(before, case.quality)}",
        _metric(after, case.quality),
        f"{manifest['verdict']} (`{case.limit}`)",
        f"{manifest['wall']:.0f} s, {manifest['candidates']} candidates",
        f"{manifest['peak'] / 1e9:.1f} GB",
        _best(steps),
    ]


def _runtime(described: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in described["runtime"]["options"].items())
    return described["runtime"]["name"] + (f" ({options})" if options else "")


def _metric(metrics: dict[str, Any], name: str) -> str:
    if name not in metrics:
        return "-"
    one = metrics[name]
    factor, unit = {"s": (1e3, " ms"), "bytes": (1e-6, " MB")}.get(one["unit"], (1.0, ""))
    return _spread(one, factor) + unit


def _ratio(kept: dict[str, Any], name: str) -> str:
    return _spread(kept["ratios"][name], 1.0) if name in kept["ratios"] else "-"


def _spread(one: dict[str, float], factor: float) -> str:
    value, low, high = (f"{one[key] * factor:.4g}" for key in ("value", "low", "high"))
    return value if low == high else f"{value} [{low}, {high}]"


def _steps(case: Case, peers: str) -> list[re.Match[str]]:
    for part in re.split(r"(?=^\S+: \d+ samples)", peers, flags=re.MULTILINE):
        if Path(part.split(":", 1)[0]).name == case.name:
            return list(PEER.finditer(part))
    return []


def _best(steps: list[re.Match[str]]) -> str:
    """The fastest step that keeps 99 % of float32's quality."""
    if not steps:
        return "-"
    least = 0.99 * float(steps[0]["quality"])
    best = min((step for step in steps if float(step["quality"]) >= least), key=lambda step: float(step["ms"]))
    return f"{best['step'].strip()}: {1 / float(best['gain']):.3g} ({best['ms']} ms, quality {best['quality']})"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
