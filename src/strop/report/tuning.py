"""The page of a search over parameters: what was chosen, what else was tried, how the objective goes with each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..rundir import finite
from ..units import counted, duration, quantity, share, spread, stored
from .limits import limits_table
from .parts import badge, code, document, figure, spread_text, table
from .plots import LOOKS, outcomes, params_of
from .put_to_use import deploy, once_more

TIED = f"{LOOKS['not told apart'][2]} not told apart"
_NOTE = (
    "Contours lie between the candidates that went through all folds. In slices, what was dropped is at the mean of "
    "the folds that it saw; what failed, or is far behind, is at the edge."
)


def tuning_page(found: Mapping[str, Any], figures: Mapping[str, Sequence[Any]]) -> str:
    """One self-contained HTML page. Every name is escaped.

    Args:
        found: As `Tuned.to_json` has it.
        figures: As `drawn` has them.
    """
    how, verdict = found["how"], found["verdict"]
    title = f"strop tune: {' '.join(str(how.get('model', '')).partition('(')[0].split())[:80]}"
    told = outcomes(found)
    head = f'<p class="lead"><strong>{badge(verdict)}</strong>: {escape(_chosen(found))}.</p>'
    return document(title, head, [
        ("get", "What you get", _figures(found) + _parameters(found) + _limits(found)),
        ("choices", f"What the choices were: {counted(len(told), 'candidate')}",
         f"<p>In {duration(found['seconds'])}; ended because {escape(found['ended'])}.</p>"
         + _ties(found) + _candidates(found, told)),
        ("why", "Why", tuning_figures(found, figures)),
        ("deploy", "How to deploy it", deploy(found)),
        ("again", "How to do it again", once_more(found)),
        ("all", "All of it", "<details><summary>As data</summary>"
         + code(json.dumps(finite(found), indent=1), "As data") + "</details>"),
    ])  # fmt: skip


def tuning_figures(found: Mapping[str, Any], figures: Mapping[str, Sequence[Any]]) -> str:
    """Importance, history, slices and contours, as HTML; the same arguments."""
    told = zip(outcomes(found), found["trials"], strict=True)
    return _importance(found["importance"]) + _plots(figures, [outcome for outcome, row in told if params_of(row)])


def _chosen(found: Mapping[str, Any]) -> str:
    objective = found["goal"]["objective"]
    one = found["metrics"].get(objective)
    if not found["params"]:
        return "nothing that was tried is better than the estimator as given"
    if one is None:
        return f"chosen: {_spelled(found['params'])}"
    than = f", {share(stored(one['ratio']))} of that as given" if found["how"].get("given") is not None else ""
    value = spread(stored(one["candidate"]), one["unit"])
    return f"{_spelled(found['params'])}. {objective} is {value}{than}"


def _spelled(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in params.items()) or "as given"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures(found: Mapping[str, Any]) -> str:
    """Beside the estimator as given; by themselves where nothing was given to be beside."""
    metrics = found["metrics"]
    note = f'<p class="note">Judged on {escape(found["judged_on"])}; bounds are one-sided, at 95 % each.</p>'
    if not found["params"] or found["how"].get("given") is None:
        rows = [[escape(name), _side(one, "candidate")] for name, one in metrics.items()]
        return table("Figures", ["metric", "value"], rows) + note
    rows = [
        [escape(name), _side(one, "original"), _side(one, "candidate"), escape(share(stored(one["ratio"])))]
        for name, one in metrics.items()
    ]
    return table("Figures", ["metric", "as given", "chosen", "ratio"], rows) + note


def _side(one: Mapping[str, Any], side: str) -> str:
    return spread_text({**one[side], "unit": one["unit"]})


def _parameters(found: Mapping[str, Any]) -> str:
    """Beside what they are of the estimator as given, where there is one."""
    if not found["params"]:
        return ""
    given = found["how"].get("given")
    rows = [
        [escape(name), *([] if given is None else [escape(str(given.get(name, "")))]), escape(str(value))]
        for name, value in found["params"].items()
    ]
    heads = ["parameter", "chosen"] if given is None else ["parameter", "as given", "chosen"]
    return "<h3>Parameters</h3>" + table("Parameters", heads, rows)


def _limits(found: Mapping[str, Any]) -> str:
    if not found["limits"]:
        return ""
    before, after = (
        {name: {**one[side], "unit": one["unit"]} for name, one in found["metrics"].items()}
        for side in ("original", "candidate")
    )
    ratios = {name: one["ratio"] for name, one in found["metrics"].items()}
    return "<h3>Limits</h3>" + limits_table(found["limits"], before, after, ratios, {})


def _ties(found: Mapping[str, Any]) -> str:
    if not found["ties"]:
        return ""
    given = ", the estimator as given among them" if {} in found["ties"] else ""
    said = (
        f"The folds can't tell {counted(len(found['ties']), 'candidate')} from what was chosen (one-sided, 5 %){given}"
    )
    return f"<p>{said}: {TIED} in the table.</p>"


def _importance(found: Mapping[str, float]) -> str:
    if not found:
        return ""
    ordered = sorted(found.items(), key=lambda item: -item[1])
    rows = [[escape(name), f'<meter value="{by:.4f}" aria-hidden="true"></meter> {by:.2f}'] for name, by in ordered]
    note = (
        '<p class="note">How much of it lies with each parameter whether a candidate is among the best (PED-ANOVA, '
        "Watanabe et al. 2023).</p>"
    )
    return "<h3>Importance</h3>" + table("Importance", ["parameter", "share"], rows) + note


def _plots(by_head: Mapping[str, Sequence[Any]], told: Sequence[str]) -> str:
    parts = []
    for head, figures in by_head.items():
        drawn = [
            figure(one, f"{head}, {place} of {len(figures)}. The table of candidates has the same figures.")
            for place, one in enumerate(figures, 1)
        ]
        keys = _keys(told) if head == "Slices" else ""
        parts.append(f'<h3>{escape(head)}</h3>{keys}<div class="plots">{"".join(drawn)}</div>')
    return "".join(parts) + (f'<p class="note">{escape(_NOTE)}</p>' if by_head else "")


def _keys(told: Sequence[str]) -> str:
    items = [
        f'<li><span style="color: {colour}">{sign}</span> {escape(outcome)}</li>'
        for outcome, (colour, _, sign) in LOOKS.items()
        if outcome in told
    ]
    return f'<ul class="keys">{"".join(items)}</ul>'


def _candidates(found: Mapping[str, Any], told: Sequence[str]) -> str:
    """The best first, of those that went through all folds; then what was dropped, then what failed."""
    objective, metrics = found["goal"]["objective"], found["metrics"]
    sign = -1.0 if found["goal"]["direction"] == "maximize" else 1.0
    states = ("done", "dropped", "failed")

    def rank(row: Mapping[str, Any]) -> tuple[int, float]:
        value = row.get(objective)
        return states.index(row["state"]), sign * value if value is not None and math.isfinite(value) else math.inf

    rows: list[list[Any]] = []
    for row in sorted(found["trials"], key=rank):
        outcome = told[row["trial"]]
        colour, _, glyph = LOOKS[outcome]
        why = "; ".join([*(f"breaks {limit}" for limit in row["breaks"]), *([row["why"]] if row["why"] else [])])
        values = [_sorted_by(row.get(name), one["unit"]) for name, one in metrics.items()]
        rows.append([
            str(row["trial"]), f'<span style="color: {colour}" aria-hidden="true">{glyph}</span> {escape(outcome)}',
            f'<div class="long">{escape(_spelled(params_of(row)))}</div>', *values, str(row["folds"]),
            (f"{row['seconds']:.2f} s", row["seconds"]), f'<div class="long">{escape(why)}</div>' if why else "",
        ])  # fmt: skip
    heads = ["trial", "what came of it", "parameters", *metrics, "folds", "time", "why"]
    note = '<p class="note">Metrics are means over the folds that were run.</p>'
    return table("Candidates", heads, rows, "wide dense tall", sortable=True) + note


def _sorted_by(value: float | None, unit: str) -> tuple[str, object]:
    if value is None or not math.isfinite(value):
        return ("" if value is None else escape(quantity(value, unit))), ""
    return escape(quantity(value, unit)), value
