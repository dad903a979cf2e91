"""Conclusion: which candidate is chosen, what it is worth, and which others can't be told from it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from .._plain import told
from ..errors import RunFailed
from ..goal import Limit
from ..judge import Judged
from ..stats import Comparison, verdict
from ..units import counted
from . import holdout
from .history import Scales, study_of
from .race import Race, spelled
from .racing import Folds, apart, corrected_for_choice
from .result import Figure, Tuned
from .trials import INTERRUPTED, Trial

if TYPE_CHECKING:
    import optuna
else:
    optuna = lazy("optuna")

CONFIDENCE = 0.95  # of one-sided bounds


def conclude(race: Race, data: Any, seed: int, begun: float) -> Tuned:
    """Choose, fit and measure.

    Raises:
        RunFailed: No candidate went through all folds, or the best can't be fitted on all samples.
        KeyboardInterrupt: It came before any candidate had.
    """
    done = [trial for trial in race.trials if trial.state == "done"]
    if not done:
        if race.why == INTERRUPTED:
            raise KeyboardInterrupt
        causes = [trial.why for trial in race.trials if trial.state == "failed"]
        why = f"{causes[0]}. Look at the data and the estimator" if causes else f"{race.why}. Give more time"
        raise RunFailed(f"no candidate could be judged on all folds: {why}.")
    best = min(done, key=race.rank)  # of equal ones the first
    original = race.original if race.original.state == "done" else best
    comparisons = _by_folds(race, original, best, done)
    fitted = _fit(race, best, data)
    judged_on = f"{counted(len(race.folds), 'fold')}, corrected for having chosen the best of {len(done)} on them"
    if data.held is not None:
        first = fitted if original is best else _fit(race, original, data)
        fresh = _by_holdout(race, first, fitted, data, seed)
        comparisons |= fresh
        rows = len(data.held[0]) if not hasattr(data.held[0], "shape") else data.held[0].shape[0]
        judged_on = f"{counted(rows, 'sample')} that no fold has seen"
        if left := [name for name in comparisons if name not in fresh]:
            judged_on += f"; {', '.join(left)} on the folds"
    measures = race.judge.measures
    limits = tuple(_judged(race, limit, comparisons[limit.metric]) for limit in race.judge.goal.limits)
    verdicts = {found.verdict for found in limits}
    return Tuned(
        verdict="infeasible" if "broken" in verdicts else "inconclusive" if "inconclusive" in verdicts else "met",
        params=best.params if best.asked else {},
        estimator=fitted,
        goal=race.judge.goal,
        figures={
            name: Figure(c.original(CONFIDENCE), c.candidate(CONFIDENCE), c.ratio(CONFIDENCE), measures[name].unit)
            for name, c in comparisons.items()
        },
        judged_on=judged_on,
        limits=limits,
        ties=tuple(trial.params for trial in done if trial is not best and _tied(race, best, trial)),
        trials=tuple(race.trials),
        importance=importance(race.asking.study),
        ended=race.why,
        seconds=time.monotonic() - begun,
        study=study_of(race.trials, Scales.of(race.asking.space), race.judge.goal.objective, race.judge.goal.direction),
    )


def _tied(race: Race, best: Trial, other: Trial) -> bool:
    return race.rank(other)[0] <= race.rank(best)[0] and not apart(race.ahead(best, other), race.ratio)


def _fit(race: Race, trial: Trial, data: Any) -> Any:
    """On all samples of the search, with one thread as on the folds: they tell how long it takes."""
    import threadpoolctl
    from sklearn.base import clone

    estimator = clone(race.case.estimator).set_params(**clone(dict(trial.params), safe=False))
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said of the folds, too
        try:
            return estimator.fit(*(part for part in (data.X, data.y) if part is not None), **data.arguments)
        except Exception as error:  # of whatever the estimator is made of
            raise RunFailed(
                f"{spelled(trial.params)} was the best on the folds, and its fit on all samples failed with "
                f"{type(error).__name__}: {told(error)}. Look at the data, or leave it out of the space."
            ) from error


def _by_folds(race: Race, original: Trial, best: Trial, done: list[Trial]) -> dict[str, Comparison]:
    objective, folds = race.judge.goal.objective, race.folds
    samples = sum(len(race.splits[stage][1]) for stage in race.splits if stage.share == 1 and stage.fold in folds)
    kept = [trial for trial in done if race.rank(trial)[0] <= race.rank(best)[0]]
    signed = [race.judge.sign * trial.folds(objective, folds) for trial in kept]
    flattered = race.judge.sign * corrected_for_choice(signed, kept.index(best))
    return {
        name: Folds(
            original.folds(name, folds), best.folds(name, folds) - (flattered if name == objective else 0.0),
            race.ratio, samples,
        )
        for name in race.judge.measures
    }  # fmt: skip


def _by_holdout(race: Race, original: Any, fitted: Any, data: Any, seed: int) -> dict[str, Comparison]:
    X, y, groups = data.held
    found: dict[str, Comparison | None] = {}
    for name, measure in race.judge.measures.items():
        if measure.scorer is not None:
            found[name] = holdout.quality(measure, original, fitted, X, y, groups, seed)
        else:
            rows = np.arange(race.case.batch)
            found[name] = holdout.cost(name, race.case, original, fitted, X, rows, seed)
    return {name: comparison for name, comparison in found.items() if comparison is not None}


def _judged(race: Race, limit: Limit, comparison: Comparison) -> Judged:
    side, factor, constant = race.judge.bound(limit)
    found, margin = verdict(comparison, side, factor, constant, CONFIDENCE)
    value = comparison.candidate(CONFIDENCE)
    gap = margin.value if side == "at_most" else -margin.value
    return Judged(str(limit), found, value.value, value.low, value.high, max(0.0, gap))


def importance(study: optuna.Study) -> Mapping[str, float]:
    """Of each parameter; empty where there are too few trials to tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError):  # nothing varied, or too few
            return {}
    return {name: float(by) for name, by in found.items()}
