"""The page: verdict, figures, limits, candidates, and how it was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..rundir import finite
from ..stats import Interval
from ..units import duration, named, share, spread

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #17803d; --bad: #b3261e; --open: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --good: #5bd68a; --bad: #ff8a80; --open: #f0b849 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top }
td.n { font-variant-numeric: tabular-nums } th { background: var(--soft) }
.met { color: var(--good) } .broken, .infeasible { color: var(--bad) } .inconclusive { color: var(--open) }
.verdict { font-weight: 700 } pre { background: var(--soft); padding: .8rem; overflow-x: auto }
"""


def page(manifest: Mapping[str, Any], tried: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """One self-contained HTML page. Every name is escaped.

    Args:
        manifest: Of the bundle.
        tried: Every candidate, as text, with its outcome as plain data.
    """
    verdict = manifest["verdict"]
    content = manifest["winner"] or manifest["closest"] or {}
    title = f"strop: {manifest['original']['source']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="verdict {escape(verdict)}">{escape(verdict)}</span>: {escape(manifest["reason"])}.</p>',
        _list(manifest["advice"], "What would help"),
        "<h2>What you get</h2>",
        _figures(manifest["original"], content),
        _list([f"{m}: {why}" for m, why in manifest["not_measurable"].items()], "What was not measurable here"),
        "<h2>Limits</h2>",
        _limits(manifest["limits"]),
        _slices(manifest["slices"]),
        f"<h2>What was tried: {manifest['candidates']} candidates</h2>",
        _candidates(tried),
        _list([f"{name} {reason}" for name, reason in manifest["not_tried"].items()], "What was not tried"),
        "<h2>How it was measured</h2>",
        _how(manifest),
        "<h2>The manifest</h2>",
        "<details><summary>Settings, versions, hashes</summary>"
        f"<pre>{escape(json.dumps(finite(manifest), indent=1))}</pre></details>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>'
        f"{''.join(parts)}</main></body></html>\n"
    )


def _figures(original: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    rows = []
    for name, found in content.get("metrics", {}).items():
        before = original["metrics"].get(name)
        rows.append([
            escape(named(name, found.get("source", ""))),
            _spread(before) if before else "",
            _spread(found),
            escape(share(_interval(content["ratios"][name]))),
        ])  # fmt: skip
    runtimes = [original["runtime"]["name"], content.get("runtime", {}).get("name", "")]
    heads = ["metric", f"original ({runtimes[0]})", f"handed over ({runtimes[1]})", "ratio"]
    steps = " + ".join([s["technique"] for s in content.get("route", [])]) or "the original, unchanged"
    return f"<p>Route: <strong>{escape(steps)}</strong></p>" + _table(heads, rows)


def _limits(limits: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for found in limits:
        verdict = found["verdict"]
        needed = f", {found['needed']:,} samples would decide" if found.get("needed") else ""
        where = f" ({found['slice']})" if found.get("slice") else ""
        rows.append([
            escape(named(found["limit"], found.get("source", "")) + where),
            f'<span class="{escape(verdict)}">{escape(verdict + needed)}</span>',
        ])  # fmt: skip
    return _table(["limit", "verdict"], rows)


def _slices(slices: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [escape(name), escape(metric), _spread(found), f"{found['n']:,}"]
        for name, metrics in slices.items()
        for metric, found in metrics.items()
    ]
    return "<h2>Slices</h2>" + _table(["slice", "metric", "handed over", "samples"], rows) if rows else ""


def _candidates(tried: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    rows = []
    for name, outcome in tried:
        if outcome["cause"] != "done" and not outcome["seconds"]:
            continue  # a longer chain of something that failed, and is listed, before
        figures = outcome["report"]["figures"]
        stopped = [j["limit"] for j in outcome["report"]["judged"] if j["verdict"] == "broken"]
        said = outcome["reason"] or (f"broke {', '.join(stopped)}" if stopped else "measured")
        shown = [
            f"<div>{escape(named(m, f.get('source', '')) + ' ' + share(_interval(f['ratio'])))}</div>"
            for m, f in figures.items()
        ]
        rows.append([escape(name), escape(said), "".join(shown), duration(outcome["seconds"])])
    return _table(["candidate", "outcome", "ratio to the original (search split)", "time"], rows)


def _how(manifest: Mapping[str, Any]) -> str:
    env, splits, target = manifest["environment"], manifest["splits"], manifest["target"]
    noise = finite(manifest["noise"])
    lines = [
        f"{env['cpu']}, {env['cores']} cores; {target['threads']} threads, batch {target['batch']}",
        f"{splits['calibration']:,} samples calibrated, {splits['search']:,} searched, {splits['confirm']:,} confirmed",
        "the original against itself differs by up to "
        f"{'an unknown share' if noise is None else f'{noise:.1%}'} in median latency: less is none",
        f"{manifest['candidates']} candidates in {duration(manifest['seconds'])}, seed {manifest['seed']}",
        *manifest["notes"],
    ]
    return _list(lines, "")


def _list(lines: Sequence[str], head: str) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (f"<h2>{escape(head)}</h2>" if head else "") + f"<ul>{items}</ul>"


def _spread(found: Mapping[str, Any]) -> str:
    return escape(spread(_interval(found), found["unit"]))


def _interval(found: Mapping[str, Any]) -> Interval:
    """As stored; null, in a manifest that was read from a file, is a number that is not known."""
    return Interval(*(math.nan if found[key] is None else found[key] for key in ("value", "low", "high")))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    body = "".join(
        f"<tr><td>{row[0]}</td>{''.join(f'<td class=n>{cell}</td>' for cell in row[1:])}</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
