"""History: what was tried, as an Optuna study whose parameters have their own values.

The study that a sampler is asked with holds points of a space: places in lists, names that tell grids apart. A person,
optuna-dashboard and Optuna's plots want to see what an estimator was given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._lazy import lazy
from .space import Domain, Listed, Ranged, Space, is_number, label
from .trials import Trial

if TYPE_CHECKING:
    import optuna
else:
    optuna = lazy("optuna")

WIDE = 100  # times the lowest of a list of numbers that its highest is, from where on they are seen by their magnitude
_STATES = {"done": "COMPLETE", "dropped": "PRUNED", "failed": "FAIL"}


@dataclass(frozen=True)
class Scales:
    """What each parameter may be, over all grids of a space: numbers, or the labels of anything else.

    One that is any number of a range in one grid, and something else in another, has no scale, and is left out.
    """

    kinds: Mapping[str, optuna.distributions.BaseDistribution]

    @classmethod
    def of(cls, space: Space) -> Scales:
        names = dict.fromkeys(name for grid in space.grids for name in grid)
        kinds = {name: _kind([grid[name] for grid in space.grids if name in grid]) for name in names}
        return cls({name: kind for name, kind in kinds.items() if kind is not None})

    def shown(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as the study has them."""
        found = {}
        for name, value in params.items():
            kind = self.kinds.get(name)
            if isinstance(kind, optuna.distributions.CategoricalDistribution):
                found[name] = value if value in kind.choices else label(value)
            elif name in self.kinds:
                found[name] = value.item() if hasattr(value, "item") else value
        return found

    def frozen(self, trial: Trial, objective: str, attrs: Mapping[str, Any]) -> optuna.trial.FrozenTrial:
        """A trial that has ended."""
        params = self.shown(trial.params)
        state = optuna.trial.TrialState[_STATES[trial.state]]
        scores = dict(zip(trial.full, trial.folds(objective).tolist(), strict=True))
        return optuna.trial.create_trial(
            state=state,
            value=trial.means()[objective] if trial.state == "done" else None,
            params=params, distributions={name: self.kinds[name] for name in params},
            intermediate_values={fold: score for fold, score in scores.items() if not math.isnan(score)},
            user_attrs=dict(attrs), constraints=dict.fromkeys(trial.breaks, 1.0),
        )  # fmt: skip


def study_of(
    trials: Sequence[Trial], scales: Scales, objective: str, direction: Literal["minimize", "maximize"]
) -> optuna.Study:
    """A study in memory that holds them all, in their order."""
    study = optuna.create_study(direction=direction)
    study.add_trials([scales.frozen(trial, objective, {"state": trial.state, "why": trial.why}) for trial in trials])
    return study


def _kind(domains: Sequence[Domain]) -> optuna.distributions.BaseDistribution | None:
    """One distribution that has room for whatever several may give."""
    values = [value for domain in domains for value in _values(domain)]
    drawn: list[Any] = [domain.distribution for domain in domains if isinstance(domain, Ranged)]
    if all(map(is_number, values)):
        low, high = (end.item() if hasattr(end, "item") else end for end in (min(values), max(values)))
        log = low > 0 and (any(found.log for found in drawn) or (not drawn and high >= WIDE * low))
        if all(isinstance(value, (int, np.integer)) for value in values):
            return optuna.distributions.IntDistribution(low, high, log=log)
        return optuna.distributions.FloatDistribution(float(low), float(high), log=log)
    return None if drawn else optuna.distributions.CategoricalDistribution(list(dict.fromkeys(map(label, values))))


def _values(domain: Domain) -> Sequence[Any]:
    """All values of a list, and the ends of a range."""
    if isinstance(domain, Listed):
        return domain.values
    found: Any = domain.distribution
    return [domain.value(found.low), domain.value(found.high)]
