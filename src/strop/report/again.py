"""Again: how a result was measured, and what to type to have it once more."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from .. import details
from .._plain import restore
from ..fixed import texts
from ..images import Preprocessing
from ..target import Target
from ..units import counted, duration
from .parts import bullets, code, table

MODEL, DATA = "MODEL", "DATA"


def again(manifest: Mapping[str, Any]) -> str:
    """What was asked, as a command and as a plan; seeds, samples, machine, versions and hashes."""
    asked = _asked(manifest)
    command = code(_command(asked), "The command")
    plan = code(_plan(asked), "strop.toml")
    return (
        f"<h3>The command</h3>{command}<p>Or <code>strop.toml</code>, which <code>strop optimize</code> runs:</p>"
        f"{plan}<p>{_which(manifest)}</p>"
        f"<h3>How it was measured</h3>{_how(manifest)}"
        f"<h3>Machine and versions</h3>{environment(manifest['environment'])}"
        f"<h3>Hashes (SHA-256)</h3>{hashes(manifest['hashes'])}"
    )


def _asked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """By key of a plan, as far as a manifest has it; paths, which it has not, are left to be filled in."""
    goal, target, more = manifest["goal"], restore(Target, manifest["target"]), manifest.get("asked", {})
    asked: dict[str, Any] = {
        "model": MODEL, "data": DATA, **{name: name.upper() for name in more.get("beside", [])},
        "label": more.get("label"), "group": more.get("group"), goal["direction"]: goal["objective"],
        "limit": list(goal["limits"]),
        "slice": _columns(manifest), "protected": list(manifest["fairness"]), "threads": target.threads,
        "batch": target.batch, "formats": list(target.formats), "rate": target.rate, "p99": target.p99,
        "price": target.price, "target": None if target.kind == "server" else target.kind, "seed": manifest["seed"],
        "budget": f"{math.ceil(more.get('budget', manifest['seconds']))}s", "trials": more.get("trials"),
        "set": manifest.get("settings"),
    }  # fmt: skip
    return {name: value for name, value in asked.items() if value not in (None, [], {})}


def _columns(manifest: Mapping[str, Any]) -> list[str]:
    """What slices were asked for: `sex` of `sex=f`, `sex*race` of `sex=f*race=w`."""
    asked = ("*".join(part.partition("=")[0] for part in name.split("*")) for name in manifest["slices"])
    return [name for name in dict.fromkeys(asked) if name not in manifest["fairness"]]


def _command(asked: Mapping[str, Any]) -> str:
    others = {name: value for name, value in asked.items() if name not in ("model", "data")}
    return " \\\n    ".join([f"strop optimize {asked['model']} --data {asked['data']}", *_flags(others)])


def _flags(asked: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in asked.items():
        if name == "formats":
            value = ",".join(value)
        if name == "p99":
            value = f"{value:g}s"
        if name == "set":
            value = texts(value)
        found += [f"--{name} {shlex.quote(str(one))}" for one in (value if isinstance(value, list) else [value])]
    return found


def verifying(manifest: Mapping[str, Any]) -> str:
    """The command that measures a bundle again where it will run."""
    asked = _asked(manifest)
    slices = [*asked.get("slice", []), *asked.get("protected", [])]
    columns = {"label": asked.get("label"), "slice": slices, "group": asked.get("group")}
    flags = _flags({name: value for name, value in columns.items() if value})
    return " ".join([f"strop verify BUNDLE --original {MODEL} --data {DATA}", *flags])


def _plan(asked: Mapping[str, Any]) -> str:
    keys = {name: value for name, value in asked.items() if name != "set"}
    keys |= {f"set.{step}.{name}": v for step, chosen in asked.get("set", {}).items() for name, v in chosen.items()}
    return "\n".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in keys.items())


def _which(manifest: Mapping[str, Any]) -> str:
    return (
        f"{MODEL} is {escape(manifest['original']['source'])}, and {DATA} the samples whose hashes are below. The "
        "route is replayed on another model, without a search, by <code>--recipe</code> and this bundle. What is tried "
        "depends on measured times, and so differs from run to run; the seed fixes splits and training."
    )


def _how(manifest: Mapping[str, Any]) -> str:
    env, splits, target = manifest["environment"], manifest["splits"], manifest["target"]
    lines = [
        f"{env['cpu']}, {counted(env['cores'], 'core')}; {counted(target['threads'], 'thread')}, "
        f"batch {target['batch']}",
        f"{counted(splits['calibration'], 'sample')} to calibrate with, {splits['search']:,} to search by (the search "
        f"split), {splits['confirm']:,} to confirm on (the confirm split)",
        *([f"images: {restore(Preprocessing, images)}"] if (images := manifest.get("preprocessing")) else []),
        f"noise: {details.noise(manifest['noise'])}",
        f"{counted(manifest['candidates'], 'candidate')} in {duration(manifest['seconds'])}, seed {manifest['seed']}",
        *manifest["notes"],
    ]
    return bullets(lines)


def environment(found: Mapping[str, Any]) -> str:
    """The machine and the versions of packages, folded."""
    sets = ", ".join(found["instruction_sets"]) or "not known"
    named = {
        "CPU": f"{found['cpu']}, {counted(found['cores'], 'core')}", "instruction sets": sets,
        "system": found["system"], "Python": found["python"], **found["packages"],
    }  # fmt: skip
    rows = [[escape(name), escape(str(value))] for name, value in named.items()]
    return _folded("Versions", table("Machine and versions", ["what", "which"], rows, "wide dense"))


def hashes(found: Mapping[str, Any], kind: str = "SHA-256") -> str:
    """What files and data are known by, folded."""
    plain = {**found, **{f"file {Path(name).name}": value for name, value in found.get("files", {}).items()}}
    rows = [[escape(name), f"<code>{escape(str(value))}</code>"] for name, value in plain.items() if name != "files"]
    return _folded("Hashes", table("Hashes", ["of", kind], rows, "wide dense"))


def _folded(summary: str, html: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"
