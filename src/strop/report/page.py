"""The page of a search for a better model: what came of it, what it costs, what the choices were, and why."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .. import details
from ..goal import Goal
from ..metrics import better
from ..rundir import finite
from ..units import counted, duration, named, quantity, share, stored
from .again import again, verifying
from .choices import choices, confirmed_table
from .cost import cost
from .frontier import Tried
from .limits import limits_table
from .parts import badge, bullets, code, document, part, spread_text, table
from .why import EXPLAIN, why

PACKAGES = {
    "sklearn": ("scikit-learn",), "xgboost": ("xgboost-cpu", "xgboost"), "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "daal4py": ("scikit-learn-intelex",),
}  # fmt: skip
"""What a module is installed by, where that is called otherwise."""
NOTHING = "There is nothing to deploy: no candidate was measured."
FARTHEST = "those whose outputs are farthest off"
WORST = {
    "row": "Row: the sample's place in the data, from 0.",
    "step": "Step: the place in its output that changed.",
    "margin": "Margin: by how much the candidate puts its own prediction above the original's.",
    "error": "Error: root mean square of the differences, over that of the outputs.",
    "cosine": "Cosine: 1 is the same direction.",
}
"""What the columns of the worst samples mean."""


def page(
    manifest: Mapping[str, Any], tried: Sequence[Tried], snippet: str = "",
    anatomy: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """One self-contained HTML page. Every name is escaped.

    Args:
        manifest: Of the bundle, or of a run.
        tried: Every candidate with its outcome.
        snippet: Python that runs what is handed over; empty where it is not in a bundle yet.
        anatomy: What was found of it layer by layer: see `why`.
    """
    anatomy = anatomy or {}
    explained = anatomy.get("explained")
    verdict = manifest["verdict"]
    content = manifest["winner"] or manifest["closest"] or {}
    title = f"strop: {manifest['original']['source']}"
    head = f'<p class="lead"><strong>{badge(verdict)}</strong>: {escape(manifest["reason"])}.</p>'
    not_tried = [f"{name} {reason}" for name, reason in manifest["not_tried"].items()]
    return document(title, head, [
        ("get", "What you get", _get(manifest, content)),
        ("cost", "What it costs you", cost(manifest) + _worst(explained, content)),
        ("choices", f"What the choices were: {counted(manifest['candidates'], 'candidate')}",
         choices(tried, manifest)
         + confirmed_table(manifest["confirmed"], content.get("metrics", {}))
         or "<p>No candidate was measured.</p>"),
        ("why", "Why", why(manifest, anatomy)),
        ("not", "What was not tried, or failed",
         f"<p>{escape(_sentence(details.search(manifest)))}</p>"
         + bullets([*not_tried, *details.refused(tried)], "Not tried")
         + bullets(_failed(tried), "Failed")),
        ("deploy", "How to deploy it", _deploy(snippet, content, manifest)),
        ("again", "How to do it again", again(manifest)),
        ("manifest", "The manifest",
         "<details><summary>Settings, versions, hashes</summary>"
         + code(json.dumps(finite(manifest), indent=1), "The manifest") + "</details>"),
    ])  # fmt: skip


def _get(manifest: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    original, closest = manifest["original"], ""
    if content and not manifest["winner"]:
        keeps = "keeps the limits" if manifest["verdict"] == "infeasible" else "is proven to keep the limits"
        closest = f"<p>No candidate {keeps}. These are the figures of the closest one.</p>"
    counts = details.counts(original["counts"], content.get("counts", {}))
    limits = limits_table(
        manifest["limits"], original["metrics"], content.get("metrics", {}), content.get("ratios", {}),
        manifest["slices"], manifest["goal"]["limits"],
    )  # fmt: skip
    return (
        closest
        + _tiles(manifest, content)
        + (_figures(manifest, content) if content else "")
        + bullets([*details.called(original), *counts])
        + "<h3>Limits</h3>"
        + (limits if manifest["limits"] else "<p>No limit was set.</p>")
        + bullets(manifest["advice"], "What would help")
        + bullets([f"{m}: {why}" for m, why in manifest["not_measurable"].items()], "What was not measurable here")
    )


def _sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


def _tiles(manifest: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The objective and what the limits speak of, at a glance: how many times the original's."""
    goal, found = Goal.of_json(manifest["goal"]), content.get("metrics", {})
    tiles = []
    for name in dict.fromkeys([goal.objective, "size", *goal.metrics]):
        if name not in found or found[name]["value"] is None:
            continue
        now, before = found[name], manifest["original"]["metrics"].get(name, {}).get("value")
        ratio = stored(content["ratios"][name])
        cost = name in better() and bool(now["unit"]) and math.isfinite(ratio.value)
        said = quantity(now["value"], now["unit"])
        was = "" if before is None else f"was {quantity(before, now['unit'])}"
        lines = [f"{ratio.value:.3g}x" if cost else said, ", ".join([said] * cost + [was] * bool(was))]
        lines += [f"{share(ratio)} of the original's"] if math.isfinite(ratio.value) else []
        told = "".join(f"<dd>{escape(line)}</dd>" for line in lines if line)
        tiles.append(f"<div><dt>{escape(named(name, now.get('source', '')))}</dt>{told}</div>")
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def _figures(manifest: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    original, rows = manifest["original"], []
    for name, found in content["metrics"].items():
        before = original["metrics"].get(name)
        rows.append([
            escape(named(name, found.get("source", ""))),
            spread_text(before) if before else "",
            spread_text(found),
            escape(share(stored(content["ratios"][name]))),
        ])  # fmt: skip
    heads = ["metric", "original", "handed over" if manifest["winner"] else "closest", "ratio"]
    steps = " + ".join(s["technique"] for s in content["route"]) or "the original, unchanged"
    runtimes = [escape(side["runtime"]["name"]) for side in (content, original)]
    run = f", run by {runtimes[0]}" + (f"; the original is run by {runtimes[1]}" if content["route"] else "")
    return f"<p>Route: <strong>{escape(steps)}</strong>{run}.</p>" + (table("Figures", heads, rows) if rows else "")


def _worst(explained: Mapping[str, Any] | None, content: Mapping[str, Any]) -> str:
    """The samples that changed the most."""
    if explained is None:
        return f"<p>Which samples changed the most, {EXPLAIN}</p>" if content.get("route") else ""
    return part("Worst samples", lambda explained: _samples(explained["samples"]), explained)


def _samples(found: Mapping[str, Any]) -> str:
    if not (worst := found["worst"]):
        return ""
    heads = [name for name in worst[0] if any(one[name] is not None for one in worst)]
    rows = [[escape(_cell(one[name])) for name in heads] for one in worst]
    changed = f"{counted(found['changed'], 'prediction')} changed" if found["changed"] else ""
    shown = f": these {len(worst)} by the widest margin" if (found["changed"] or 0) > len(worst) else ""
    legend = " ".join(said for name, said in WORST.items() if name in heads)
    return (
        f"<p>{escape(_sentence(f'{changed}{shown}' or FARTHEST))}</p>"
        + table("Worst samples", heads, rows, "wide dense")
        + f'<p class="note">{escape(legend)}</p>'
    )


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _failed(tried: Sequence[Tried]) -> list[str]:
    failed = (one for one in tried if one["cause"] not in ("done", "refused"))
    return [f"{one['candidate']}, after {duration(one['seconds'])}: {one['reason']}" for one in failed]


def _needed(snippet: str, versions: Mapping[str, str]) -> str:
    """What to install for a snippet, in the versions that it was measured with."""
    names = re.findall(r"^(?:import|from) (\w+)", snippet, re.MULTILINE)
    found = []
    for name in dict.fromkeys(name for name in names if name not in sys.stdlib_module_names):
        package = next((one for one in PACKAGES.get(name, ()) if one in versions), name.replace("_", "-"))
        found.append(f"{package}=={versions[package]}" if package in versions else package)
    return f"<code>pip install {escape(' '.join(found))}</code>" if found else "nothing but Python"


def _deploy(snippet: str, content: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    if not content:
        return f"<p>{NOTHING}</p>"
    if not snippet:
        return (
            "<p>It lies in the run directory. <code>strop optimize --resume</code> with that, and <code>--out</code>, "
            "writes it as a bundle, whose report has code that runs it.</p>"
        )
    files = ", ".join(f"<code>{escape(file)}</code>" for file in content["files"])
    images = manifest.get("preprocessing")
    kept = (
        "" if manifest["winner"] else "<p>It is the closest candidate, not one that is proven to keep the limits.</p>"
    )
    return (
        f"{kept}<p>Files: {files}. Format: {escape(content['format'])}. Runtime: {escape(content['runtime']['name'])}. "
        "This runs in the folder of the bundle:</p>" + code(snippet, "Python that runs it")
        + f"<p>It needs {_needed(snippet, manifest['environment']['packages'])}.</p>"
        + ("<p>The samples are pre-processed as <code>preprocessing</code> of the manifest says.</p>" if images else "")
        + ("<p><code>device.md</code> has the commands that measure it on a phone.</p>"
           if manifest["target"]["kind"] == "mobile" else "")
        + "<p>On the machine where it will run, this measures it again:</p>" + code(verifying(manifest), "The command")
    )  # fmt: skip
