"""The page: verdict, figures, limits, candidates, and how it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .. import details
from .._plain import restore
from ..images import Preprocessing
from ..rundir import finite
from ..slices import SMALLEST_SLICE
from ..units import counted, duration, named, share, spread, stored
from .parts import bullets, document, limit_text, limits_table, spread_text, table, verdict_text


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
        bullets(manifest["advice"], "What would help"),
        "<h2>What you get</h2>",
        _figures(manifest["original"], content),
        bullets([*details.called(manifest["original"]), *_counts(manifest["original"], content)], ""),
        bullets([f"{m}: {why}" for m, why in manifest["not_measurable"].items()], "What was not measurable here"),
        "<h2>Limits</h2>",
        limits_table(manifest["limits"]),
        _slices(manifest["slices"], manifest["worst_drops"]),
        bullets(details.churn(manifest["churn"]), "Churn"),
        _fairness(manifest["fairness"]),
        _confirmed(manifest["confirmed"], content.get("metrics", {})),
        f"<h2>What was tried: {counted(manifest['candidates'], 'candidate')}</h2>",
        f"<p>{escape(details.search(manifest['search']))}.</p>",
        _candidates(tried),
        bullets(
            details.without(manifest["without"], manifest["goal"]["objective"]),
            "What each step gave, on the search split",
        ),
        bullets(
            [f"{name} {reason}" for name, reason in (*manifest["not_tried"].items(), *_refused(tried))],
            "What was not tried",
        ),
        "<h2>How it was measured</h2>",
        _how(manifest),
        "<h2>The manifest</h2>",
        "<details><summary>Settings, versions, hashes</summary>"
        f"<pre>{escape(json.dumps(finite(manifest), indent=1))}</pre></details>",
    ]
    return document(title, parts)


def _figures(original: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    rows = []
    for name, found in content.get("metrics", {}).items():
        before = original["metrics"].get(name)
        rows.append([
            escape(named(name, found.get("source", ""))),
            spread_text(before) if before else "",
            spread_text(found),
            escape(share(stored(content["ratios"][name]))),
        ])  # fmt: skip
    runtimes = [original["runtime"]["name"], content.get("runtime", {}).get("name", "")]
    heads = ["metric", f"original ({runtimes[0]})", f"handed over ({runtimes[1]})", "ratio"]
    steps = " + ".join([s["technique"] for s in content.get("route", [])]) or "the original, unchanged"
    return f"<p>Route: <strong>{escape(steps)}</strong></p>" + table(heads, rows)


def _counts(original: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    return details.counts(original["counts"], content.get("counts", {}))


def _slices(slices: Mapping[str, Mapping[str, Any]], drops: Sequence[Mapping[str, Any]]) -> str:
    """One table of all slices and metrics, what stands out in a sentence above it."""
    if not slices:
        return ""
    rows = [row for name, found in slices.items() if found["n"] >= SMALLEST_SLICE for row in _slice(name, found)]
    heads = ["slice", "samples", "metric", "original", "handed over", "difference", ""]
    said = [f"{line}." for line in (*details.drops(drops), *details.unjudged(slices))]
    return (
        "<h2>Slices</h2>"
        + "".join(f"<p>{escape(line[0].upper() + line[1:])}</p>" for line in said)
        + (table(heads, rows, "wide dense") if rows else "")
        + '<p class="note">Differences are handed over - original, on the same samples. Flagged slices are proven to '
        "lose more than the whole does, all of them together at 95 % (Holm).</p>"
    )


def _slice(name: str, found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for metric, one in found["metrics"].items():
        flag = '<span class="broken">flagged</span>' if one["flagged"] else ""
        sides = [escape(spread(stored(one[side]), one["unit"])) for side in ("original", "candidate", "difference")]
        rows.append([escape(metric), *sides, flag])
    rows += [[escape(metric), f"undefined here: {escape(why)}"] for metric, why in found["undefined"].items()]
    first = [escape(name), f"{found['n']:,}"]
    return [[*(first if place == 0 else ["", ""]), *row] for place, row in enumerate(rows)]


def _fairness(columns: Mapping[str, Mapping[str, Any]]) -> str:
    if not columns:
        return ""
    parts = [f"<p>{escape(line)}.</p>" for line in details.fairness({c: r for c, r in columns.items() if not r})]
    for column, rates in columns.items():
        rows = [row for rate, found in rates.items() for row in _rate(rate, found)]
        heads = ["rate", "value", "samples", "original", "handed over", "change"]
        parts.append(f"<h3>{escape(column)}</h3>" + table(heads, rows, "wide dense") if rows else "")
    note = f'<p class="note">Undecidable: fewer than {SMALLEST_SLICE} samples; left out of the difference.</p>'
    return f"<h2>Fairness</h2>{''.join(parts)}{note}"


def _rate(name: str, found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for value, one in found["values"].items():
        sides = [one["original"], one["candidate"]]
        told = ["undecidable" if side is None else escape(spread(stored(side), "")) for side in sides]
        rows.append(["", escape(value), f"{one['n']:,}", *told, ""])
    if gap := found["gap"]:
        told = [escape(spread(stored(gap[key]), "")) for key in ("original", "candidate", "change")]
        rows.append(["", "<em>largest difference</em>", "", *told])
    rows[0][0] = escape(name.replace("_", " "))
    return rows


def _confirmed(found: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not found:
        return ""
    rows = []
    for one in found:
        verdict = one["verdict"]
        better = "" if verdict != "met" or one["better"] else ", but no better than the original"
        said = [f'<div class="{escape(verdict)}">{escape(verdict + better)}</div>']
        said += [f"<div>{limit_text(x)}: {verdict_text(x)}</div>" for x in one["limits"]]
        said += [f"<div>{escape(one['why'])}</div>"] if one["why"] and not one["limits"] else []
        sources = {metric: metrics.get(metric, {}).get("source", "") for metric in one["ratios"]}
        ratios = _ratios({named(metric, sources[metric]): ratio for metric, ratio in one["ratios"].items()})
        rows.append([escape(one["candidate"]), "".join(said), ratios])
    heads = ["finalist", "verdict", "ratio to the original (confirm split)"]
    return "<h2>What was confirmed on unseen samples</h2>" + table(heads, rows)


def _ratios(ratios: Mapping[str, Any]) -> str:
    return "".join(f"<div>{escape(f'{name} {share(stored(ratio))}')}</div>" for name, ratio in ratios.items())


def _refused(tried: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, str]]:
    return [(name, outcome["reason"]) for name, outcome in tried if outcome["cause"] == "refused"]


def _candidates(tried: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    rows = []
    for name, outcome in tried:
        if outcome["cause"] == "refused" or not outcome["seconds"]:
            continue  # not counted either: refused, or a longer chain of something that failed and is listed before
        figures = outcome["report"]["figures"]
        stopped = [j["limit"] for j in outcome["report"]["judged"] if j["verdict"] == "broken"]
        said = outcome["reason"] or (f"broke {', '.join(stopped)}" if stopped else "measured")
        said = "; ".join([said, *outcome["report"]["notes"]])
        ratios = _ratios({named(m, f.get("source", "")): f["ratio"] for m, f in figures.items()})
        rows.append([escape(name), escape(said), ratios, duration(outcome["seconds"])])
    return table(["candidate", "outcome", "ratio to the original (search split)", "time"], rows)


def _how(manifest: Mapping[str, Any]) -> str:
    env, splits, target = manifest["environment"], manifest["splits"], manifest["target"]
    noise = manifest["noise"]
    lines = [
        f"{env['cpu']}, {counted(env['cores'], 'core')}; {counted(target['threads'], 'thread')}, "
        f"batch {target['batch']}",
        f"{counted(splits['calibration'], 'sample')} calibrated, {splits['search']:,} searched, "
        f"{splits['confirm']:,} confirmed",
        *([f"images: {restore(Preprocessing, images)}"] if (images := manifest.get("preprocessing")) else []),
        f"noise: {details.noise(noise)}",
        f"{counted(manifest['candidates'], 'candidate')} in {duration(manifest['seconds'])}, seed {manifest['seed']}",
        *manifest["notes"],
    ]
    return bullets(lines, "")
