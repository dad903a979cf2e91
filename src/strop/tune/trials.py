"""Trials: what was tried, and what came of it fold by fold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._plain import told
from .asking import Asked
from .folds import Fit, Stage

Array = np.ndarray[Any, Any]

# Why a search ended.
INTERRUPTED = "it was interrupted"
NO_TIME = "the time was used up"
NO_TRIALS = "the trials were used up"


@dataclass
class Trial:
    """One candidate: parameters, and the fits that were made with them.

    Attributes:
        params: What differs from the estimator as given.
        asked: Where they come from; None for the estimator as given, where that is no point of the space.
        fits: By stage.
        state: `running`, `done` (all folds), `dropped` (worse on the first ones) or `failed`.
        why: Of `dropped` and `failed`.
        breaks: Of one that is done, the limits that its means over the folds do not keep.
    """

    params: Mapping[str, Any]
    asked: Asked | None = None
    fits: dict[Stage, Fit] = field(default_factory=dict)
    state: str = "running"
    why: str = ""
    breaks: tuple[str, ...] = ()

    @property
    def full(self) -> list[int]:
        """The folds that were run whole, in order."""
        return sorted(stage.fold for stage in self.fits if stage.share == 1)

    def folds(self, metric: str, of: Sequence[int] | None = None) -> Array:
        """[k], NaN where a fit failed."""
        chosen = self.full if of is None else of
        return np.array([self.fits[Stage(fold)].values.get(metric, np.nan) for fold in chosen])

    def means(self) -> dict[str, float]:
        """By metric, over the folds that were run whole and tell it."""
        names = dict.fromkeys(name for fold in self.full for name in self.fits[Stage(fold)].values)
        told = {name: values[~np.isnan(values)] for name in names if (values := self.folds(name)) is not None}
        return {name: float(values.mean()) if len(values) else math.nan for name, values in told.items()}

    @property
    def seconds(self) -> float:
        return sum(fit.seconds for fit in self.fits.values())

    def row(self, number: int) -> dict[str, Any]:
        """Plain data, for a table."""
        return {
            "trial": number, "state": self.state, "why": self.why, "breaks": list(self.breaks), **self.means(),
            "folds": len(self.full), "seconds": self.seconds,
            **{f"param_{name}": _plain(value) for name, value in self.params.items()},
        }  # fmt: skip


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else told(value)
