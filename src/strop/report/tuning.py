"""The page of a search over parameters: what was chosen, what else was tried, how the objective goes with each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ..rundir import finite
from ..units import counted, duration, quantity, share, stored
from .parts import bullets, document, spread_text, table
from .plots import LOOKS, outcomes, params_of, plots

if TYPE_CHECKING:
    import optuna


_STYLE = """
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem }
.plot { min-width: 0; height: 19rem } .plot > div { height: 100% } meter { width: 60% }
.keys { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.2rem }
h1, p, li, td { overflow-wrap: anywhere }
.plot .main-svg { background: none !important } .plot svg text { fill: currentColor !important }
.plot .hoverlayer text { fill: #fff !important } .why { white-space: normal; min-width: 14rem }
"""
_FITTING = "<script>addEventListener('load', () => dispatchEvent(new Event('resize')))</script>"
"""A plot is drawn before its neighbours are there, and takes the width of the page: now that they are, its own."""
_GRID = "rgba(128,128,128,0.3)"  # seen on a white page and on a black one
_PACKAGES = ("strop", "scikit-learn", "numpy", "optuna", "torch", "lightgbm", "xgboost")
_NOTE = (
    "Contours lie between the candidates that went through all folds. In slices, what was dropped is at the mean of "
    "the folds that it saw; what failed, or is far behind, is at the edge."
)


def tuning_page(found: Mapping[str, Any], study: optuna.Study) -> str:
    """One self-contained HTML page. Every name is escaped.

    Args:
        found: As `Tuned.to_json` has it.
        study: `Tuned.study`.
    """
    from plotly.offline import get_plotlyjs

    how, verdict = found["how"], found["verdict"]
    title = f"strop tune: {' '.join(str(how.get('model', '')).split())[:80]}"
    told, figures = outcomes(found), plots(found, study)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="verdict {escape(verdict)}">{escape(verdict)}</span>: {escape(_chosen(found))}.</p>',
        _figures(found),
        _parameters(found),
        _limits(found["limits"]),
        _ties(found),
        _importance(found["importance"]),
        _plots(figures, [outcome for outcome, row in zip(told, found["trials"], strict=True) if params_of(row)]),
        f"<h2>What was tried: {counted(len(told), 'candidate')}</h2>",
        f"<p>In {duration(found['seconds'])}; ended because {escape(found['ended'])}.</p>",
        _candidates(found, told),
        "<h2>How to do it again</h2>",
        _again(how),
        "<h2>All of it</h2><details><summary>As data</summary>"
        f"<pre>{escape(json.dumps(finite(found), indent=1))}</pre></details>",
    ]
    return document(title, parts, _STYLE, get_plotlyjs() if figures else "")


def _chosen(found: Mapping[str, Any]) -> str:
    if not found["params"]:
        return "nothing that was tried is better than the estimator as given"
    return _spelled(found["params"])


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
        return table(["metric", "value"], rows) + note
    rows = [
        [escape(name), _side(one, "original"), _side(one, "candidate"), escape(share(stored(one["ratio"])))]
        for name, one in metrics.items()
    ]
    return table(["metric", "as given", "chosen", "ratio"], rows) + note


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
    return "<h2>Parameters</h2>" + table(heads, rows)


def _limits(limits: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for limit in limits:
        verdict = escape(limit["verdict"])
        rows.append([escape(limit["limit"]), f'<span class="{verdict}">{verdict}</span>'])
    return "<h2>Limits</h2>" + table(["limit", "verdict"], rows) if rows else ""


def _ties(found: Mapping[str, Any]) -> str:
    if not found["ties"]:
        return ""
    lines = list(map(_spelled, found["ties"]))
    more = [f"and {len(lines) - 10:,} more, in the table below"] if len(lines) > 10 else []
    said = f"The folds can't tell {counted(len(lines), 'candidate')} from what was chosen (one-sided, 5 %):"
    return f"<h2>Ties</h2><p>{said}</p>{bullets([*lines[:10], *more], '')}"


def _importance(found: Mapping[str, float]) -> str:
    if not found:
        return ""
    ordered = sorted(found.items(), key=lambda item: -item[1])
    rows = [[escape(name), f'<meter value="{by:.4f}"></meter> {by:.2f}'] for name, by in ordered]
    note = '<p class="note">For being among the best, by PED-ANOVA (Watanabe et al. 2023).</p>'
    return "<h2>Importance</h2>" + table(["parameter", "share"], rows) + note


def _plots(by_head: Mapping[str, Sequence[Any]], told: Sequence[str]) -> str:
    parts, count = [], 0
    for head, figures in by_head.items():
        drawn = []
        for figure in figures:
            drawn.append(f'<div class="plot">{_drawn(figure, count)}</div>')
            count += 1
        keys = _keys(told) if head == "Slices" else ""
        parts.append(f'<h2>{escape(head)}</h2>{keys}<div class="plots">{"".join(drawn)}</div>')
    return "".join(parts) + (f'<p class="note">{escape(_NOTE)}</p>{_FITTING}' if by_head else "")


def _keys(told: Sequence[str]) -> str:
    items = [
        f'<li><span style="color: {colour}">{sign}</span> {escape(outcome)}</li>'
        for outcome, (colour, _, sign) in LOOKS.items()
        if outcome in told
    ]
    return f'<ul class="keys">{"".join(items)}</ul>'


def _drawn(figure: Any, number: int) -> str:
    """HTML of a figure: as wide as there is room, in the colours of the page."""
    figure.update_layout(
        template=None, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, font={"family": "system-ui, sans-serif", "size": 12},
        hoverlabel={"bgcolor": "#222", "font": {"color": "#fff"}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip
    axes = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "exponentformat": "power"}
    figure.update_xaxes(**axes).update_yaxes(**axes)
    config = {"responsive": True, "displayModeBar": False}
    made: str = figure.to_html(
        config=config, include_plotlyjs=False, full_html=False, div_id=f"plot-{number}", default_height="100%"
    )
    return made


def _candidates(found: Mapping[str, Any], told: Sequence[str]) -> str:
    """The best first, of those that went through all folds; then what was dropped, then what failed."""
    objective, metrics = found["goal"]["objective"], found["metrics"]
    sign = -1.0 if found["goal"]["direction"] == "maximize" else 1.0
    states = ("done", "dropped", "failed")

    def rank(row: Mapping[str, Any]) -> tuple[int, float]:
        value = row.get(objective)
        return states.index(row["state"]), sign * value if value is not None and math.isfinite(value) else math.inf

    rows = []
    for row in sorted(found["trials"], key=rank):
        outcome = told[row["trial"]]
        colour, _, glyph = LOOKS[outcome]
        why = "; ".join([*(f"breaks {limit}" for limit in row["breaks"]), *([row["why"]] if row["why"] else [])])
        values = [quantity(row[name], one["unit"]) if name in row else "" for name, one in metrics.items()]
        rows.append([
            str(row["trial"]), f'<span style="color: {colour}">{glyph}</span> {escape(outcome)}',
            f'<div class="why">{escape(_spelled(params_of(row)))}</div>', *map(escape, values), str(row["folds"]),
            f"{row['seconds']:.2f} s", f'<div class="why">{escape(why)}</div>' if why else "",
        ])  # fmt: skip
    heads = ["trial", "what came of it", "parameters", *metrics, "folds", "time", "why"]
    note = '<p class="note">Metrics are means over the folds that were run.</p>'
    return table(heads, rows, "wide dense") + note


def _again(how: Mapping[str, Any]) -> str:
    if not how:
        return "<p>The search did not say how it was asked.</p>"
    asked = ("sampler", "rungs", "pruner", "holdout", "batch", "threads", "seed")
    words = [f"goal={how['goal']!r}", *(f"{name}={how[name]!r}" for name in asked if name in how)]
    words += [f"cv={how['cv']}"] if "cv" in how else []
    words.append(f"budget=strop.Budget({how['seconds']:g}, {how['trials']})")
    given = ["model", "space", *(["X", "y"] if "cv" in how else [])]
    code = f"strop.tune.search(\n    {', '.join(given)},\n" + "".join(f"    {word},\n" for word in words) + ")"
    env = how["environment"]
    versions = ", ".join(f"{name} {env['packages'][name]}" for name in _PACKAGES if name in env["packages"])
    lines = [
        f"model: {how['model']}",
        f"space: {how['space'] or 'drawn by the function itself'}",
        f"{env['cpu']}, {counted(env['cores'], 'core')}, Python {env['python']}, {versions}",
        "on one thread the same call tries the same candidates; on several, what is tried next depends on which fit "
        "ends first",
    ]
    return f"<pre>{escape(code)}</pre>" + bullets(lines, "")
