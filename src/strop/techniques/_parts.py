"""What the fitted steps of a pipeline are made of, and the parameters that say how much of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..formats.sklearn import load, steps

FOLLOW = 0.75  # how far the rate of boosting makes up for fewer rounds, as `retune` has it by default
STORES = ("support_vectors_", "X_fit_", "X_train_", "_fit_X")


@dataclass(frozen=True)
class Part:
    """A step, without what it has learned.

    Attributes:
        name: Of its class.
        has: Its parameters.
        stores: Whether it compares what it is asked with samples that it was trained on.
        neighbours: Whether that is by their distance.
        machine: Whether it is a support vector machine.
        linear: Whether it is one product.
        gamma: Of its kernel, as a number.
        rounds: Estimators of an ensemble.
        width: Numbers that a projection or selection gives.
    """

    name: str
    has: dict[str, Any]
    stores: bool
    neighbours: bool
    machine: bool
    linear: bool
    gamma: float | None
    rounds: int
    width: int | None

    @classmethod
    def of(cls, step: Any) -> Self:
        has, inner = step.get_params(deep=False), getattr(step, "base_estimator_", None)
        gamma = getattr(step, "_gamma", has.get("gamma"))
        if "gamma" in has and gamma is None:
            gamma = 1 / step.n_features_in_
        return cls(
            type(step).__name__, has,
            any(hasattr(one, name) for one in (step, inner, *getattr(inner, "estimators_", ())) for name in STORES),
            hasattr(step, "_fit_X"), hasattr(step, "support_vectors_"),
            hasattr(step, "coef_") and not hasattr(step, "support_vectors_"),
            float(gamma) if isinstance(gamma, (int, float)) else None,
            int(getattr(step, "n_iter_", 0) if "max_bins" in has else len(getattr(step, "estimators_", ()))),
            _width(step, has),
        )  # fmt: skip

    def smaller(self, share: float) -> dict[str, Any] | None:
        """The parameters for that share of neurons or estimators; None where it has neither."""
        if "hidden_layer_sizes" in self.has:
            sizes = np.atleast_1d(self.has["hidden_layer_sizes"]).tolist()
            return {"hidden_layer_sizes": tuple(max(1, round(size * share)) for size in sizes)}
        name = "max_iter" if self.name.startswith("HistGradientBoosting") else "n_estimators"
        if name not in self.has:
            return None
        found: dict[str, Any] = {name: max(1, round((self.rounds or self.has[name]) * share))}
        if rate := self.has.get("learning_rate"):
            found["learning_rate"] = min(max(1.0, rate), rate * share**-FOLLOW)
        return found

    def narrower(self, share: float) -> dict[str, Any]:
        """The parameters for that share of the numbers that it gives."""
        name = "n_components" if "n_components" in self.has else "k"
        return {name: max(1, round((self.width or 1) * share))} if share < 1 else {}


def parts(source: Any) -> tuple[Part, ...]:
    """The steps of a pipeline, live or in a file; a file is read once."""
    if not isinstance(source, Path):
        return tuple(Part.of(step) for step in steps(load(source)))
    stat = source.stat()
    return _of_file(source, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _of_file(path: Path, time: int, size: int) -> tuple[Part, ...]:
    return tuple(Part.of(step) for step in steps(load(path)))


def _width(step: Any, has: dict[str, Any]) -> int | None:
    for name in ("n_components", "k"):
        if name in has and hasattr(step, "transform"):
            known = getattr(step, "n_components_", getattr(step, "components_", has[name]))
            count = len(known) if isinstance(known, np.ndarray) else known
            return int(count) if isinstance(count, (int, np.integer)) else None
    return None
