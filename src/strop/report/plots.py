"""Plots: the history of a search over parameters, slices and contours of its space, as figures of Plotly.

Histories and contours are Optuna's. Slices are drawn here: Optuna's leave out what was dropped or failed. Plotly takes
names for HTML, so they are escaped.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._lazy import lazy
from ..rundir import finite
from ..units import quantity

if TYPE_CHECKING:
    import optuna
    from plotly import graph_objects
else:
    optuna = lazy("optuna")
    graph_objects = lazy("plotly.graph_objects")

Trials: TypeAlias = "Sequence[optuna.trial.FrozenTrial]"

LEVELS = 24  # that numbers are rounded to in a contour plot, where there are more: its grid has a cell for each pair
FEWEST = 6  # candidates that a contour plot is drawn from
MOST = 3  # parameters in contour plots: those that matter most
FAR = 5  # times the median's distance to the best: a slice shows what is as near
LOOKS = {
    "done": ("#3b8fd0", "circle", "●"), "not told apart": ("#cc79a7", "diamond", "◆"),
    "breaks a limit": ("#e69f00", "square", "■"), "dropped": ("#8c8c8c", "triangle-down", "▼"),
    "failed": ("#d55e00", "x", "✕"), "chosen": ("#009e73", "star", "★"),
}  # fmt: skip
"""By what came of a candidate: a colour (after Okabe & Ito 2008, which eyes of all kinds tell apart), a shape as Plotly
names it, and the same as text."""
_SIZES = {"chosen": 15, "not told apart": 10}  # pixels; of others 8


def outcomes(found: Mapping[str, Any]) -> list[str]:
    """What came of each candidate: a key of `LOOKS`.

    Args:
        found: As `Tuned.to_json` has it.
    """
    ties = {json.dumps(finite(params)) for params in found["ties"]}
    told = []
    for row in found["trials"]:
        tied = row["state"] == "done" and json.dumps(finite(params_of(row))) in ties
        outcome = "not told apart" if tied else "breaks a limit" if row["breaks"] else row["state"]
        told.append("chosen" if row["trial"] == found["chosen"] else outcome)
    return told


def params_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a candidate, out of its row."""
    return {name.removeprefix("param_"): value for name, value in row.items() if name.startswith("param_")}


def plots(found: Mapping[str, Any], study: optuna.Study) -> dict[str, list[graph_objects.Figure]]:
    """By head, the figures that there is something to show in.

    Args:
        found: As `Tuned.to_json` has it.
        study: `Tuned.study`.
    """
    trials = study.get_trials(deepcopy=False)
    drawn = {"History": _history(found, study), "Slices": _slices(found, trials), "Contours": _contours(found, trials)}
    return {head: figures for head, figures in drawn.items() if figures}


def drawn(found: Mapping[str, Any], study: optuna.Study) -> dict[str, list[Any]]:
    """The same figures as plain data."""
    return {head: [json.loads(one.to_json()) for one in figures] for head, figures in plots(found, study).items()}


def _history(found: Mapping[str, Any], study: optuna.Study) -> list[graph_objects.Figure]:
    """The objective by candidate, and by the seconds that fits took until then, with the best so far."""
    objective = escape(found["goal"]["objective"])
    by_trial = optuna.visualization.plot_optimization_history(study, target_name=objective)
    by_trial.update_layout(title=None, xaxis_title="trial", yaxis_title=objective)
    for trace in by_trial.data:
        if trace.mode == "lines":
            trace.update(name="best so far", line={"shape": "hv", "color": "#e69f00"})
        else:
            trace.update(marker={"color": "#3b8fd0"})
    spent = np.cumsum([row["seconds"] for row in found["trials"]])
    by_time = graph_objects.Figure(by_trial)
    for trace in by_time.data:
        trace.x = [float(spent[number]) for number in trace.x]
    by_time.update_layout(xaxis_title="seconds of fitting, of all cores together")
    return [by_trial, by_time]


def _slices(found: Mapping[str, Any], trials: Trials) -> list[graph_objects.Figure]:
    """Each parameter of which several values were tried against the objective, by what came of the candidate."""
    told, kinds = outcomes(found), _ranked(found, trials)
    several = {
        name: kind
        for name, kind in kinds.items()
        if len({trial.params[name] for trial in trials if name in trial.params}) > 1
    }
    return [_slice(found, trials, name, kind, told) for name, kind in several.items()]


def _contours(found: Mapping[str, Any], trials: Trials) -> list[graph_objects.Figure]:
    """Pairs of the parameters that matter most, and the objective, of the candidates that were judged whole."""
    done = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    kinds = {name: kind for name, kind in _ranked(found, trials).items() if _ordered(kind)}
    figures = []
    for pair in itertools.combinations(list(kinds)[:MOST], 2):
        both = [trial for trial in done if all(name in trial.params for name in pair)]
        if len(both) >= FEWEST and all(len({trial.params[name] for trial in both}) > 1 for name in pair):
            figures.append(_contour(found, both, {name: kinds[name] for name in pair}))
    return figures


def _ordered(kind: Any) -> bool:
    """Whether there is anything between its values: nothing lies between names."""
    named = isinstance(kind, optuna.distributions.CategoricalDistribution)
    return not named or all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in kind.choices)


def _ranked(found: Mapping[str, Any], trials: Trials) -> dict[str, optuna.distributions.BaseDistribution]:
    """The parameters with what they were drawn from, the one that matters most first."""
    kinds = {name: kind for trial in trials for name, kind in trial.distributions.items()}

    def matters(name: str) -> float:  # in a space of several grids it may go by several names
        own = re.compile(re.escape(name) + r"(\[\d+\])?")
        return math.fsum(by for known, by in found["importance"].items() if own.fullmatch(known))

    return {name: kinds[name] for name in sorted(kinds, key=matters, reverse=True)}


def _slice(found: Mapping[str, Any], trials: Trials, name: str, kind: Any, told: Sequence[str]) -> graph_objects.Figure:
    objective, rows = found["goal"]["objective"], found["trials"]
    values = [row.get(objective, math.nan) for row in rows]
    heights = _heights(values, 1.0 if found["goal"]["direction"] == "maximize" else -1.0)
    figure = graph_objects.Figure()
    for outcome, (colour, shape, _) in LOOKS.items():
        numbers = [n for n, trial in enumerate(trials) if told[n] == outcome and name in trial.params]
        if not numbers:
            continue
        places = [trials[number].params[name] for number in numbers]
        figure.add_scatter(
            x=[escape(place) if isinstance(place, str) else place for place in places],
            y=[heights[number] for number in numbers],
            text=[_said(rows[number], values[number], found["metrics"][objective]["unit"]) for number in numbers],
            mode="markers", hovertemplate="%{x}: %{text}<extra></extra>",
            marker={"color": colour, "symbol": shape, "size": _SIZES.get(outcome, 8), "opacity": 0.85},
        )  # fmt: skip
    named = isinstance(kind, optuna.distributions.CategoricalDistribution)
    scale = "category" if named else "log" if kind.log else "linear"
    return figure.update_layout(
        xaxis_title=escape(name), yaxis_title=escape(objective), xaxis_type=scale, showlegend=False
    )


def _heights(values: Sequence[float], sign: float) -> list[float]:
    """Where candidates lie by the objective; at an edge what is so much worse than most, or failed, that it would press
    all others together."""
    better = sign * np.array(values, float)
    known = better[np.isfinite(better)]
    if not known.size:
        return [0.0] * len(values)
    best, median = known.max(), np.median(known)
    lowest = max(known.min(), best - FAR * (best - median)) if best > median else known.min()
    edge = lowest - 0.06 * (best - lowest or abs(lowest) or 1.0)
    found: list[float] = (sign * np.where(np.isfinite(better) & (better >= lowest), better, edge)).tolist()
    return found


def _said(row: Mapping[str, Any], value: float, unit: str) -> str:
    why = f": {row['why']}" if row["why"] else ""
    return escape(f"{quantity(value, unit)}, trial {row['trial']}, {row['state']}{why}")


def _contour(found: Mapping[str, Any], trials: Trials, kinds: Mapping[str, Any]) -> graph_objects.Figure:
    drawn = {escape(name): _drawable(kind, [trial.params[name] for trial in trials]) for name, kind in kinds.items()}
    study = optuna.create_study(direction=found["goal"]["direction"])
    for place, trial in enumerate(trials):
        study.add_trial(
            optuna.trial.create_trial(
                value=trial.value, params={name: values[place] for name, (_, values) in drawn.items()},
                distributions={name: kind for name, (kind, _) in drawn.items()}, constraints=trial.constraints,
            )
        )  # fmt: skip
    objective = escape(found["goal"]["objective"])
    return optuna.visualization.plot_contour(study, list(drawn), target_name=objective).update_layout(title=None)


def _drawable(kind: Any, values: Sequence[Any]) -> tuple[optuna.distributions.BaseDistribution, list[Any]]:
    """Values, and what they are from: no more numbers than a grid can hold, and text that Plotly shows as it is."""
    if isinstance(kind, optuna.distributions.CategoricalDistribution):
        choices = [escape(str(choice)) for choice in kind.choices]
        return optuna.distributions.CategoricalDistribution(choices), [escape(str(value)) for value in values]
    there: Callable[[Any], Any] = np.log if kind.log else np.asarray
    back: Callable[[Any], Any] = np.exp if kind.log else np.asarray
    places = there(np.array(values, float))
    if len(set(values)) > LEVELS:
        step = (places.max() - places.min()) / (LEVELS - 1)
        places = places.min() + np.round((places - places.min()) / step) * step
    low, high = float(min(values)), float(max(values))
    return optuna.distributions.FloatDistribution(low, high, log=kind.log), np.clip(back(places), low, high).tolist()
