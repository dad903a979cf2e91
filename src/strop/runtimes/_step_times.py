"""What each step of a scikit-learn pipeline takes, told by a clock around its own method."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._estimator_peaks import LOOPS
from ..formats.sklearn import named
from ..runtime import LayerTime, Profiled
from ._profiled import EACH, per_layer, take_turns

WITHIN = 1e-6  # seconds that the clock takes within a step, at the most
EXACT = 1e-9  # seconds that it tells apart


class Watch:
    """An estimator whose steps are timed, each from without: steps within it count as its own.

    Args:
        estimator: Fitted; it is changed.
        method: That gives its output, by name.
    """

    def __init__(self, estimator: Any, method: str):
        self.steps = named(estimator)
        self.spent = [0.0] * len(self.steps)
        self.kinds = [""] * len(self.steps)
        for place, (_, step) in enumerate(self.steps):
            name = method if place == len(self.steps) - 1 else "transform"
            setattr(step, name, self._timed(place, getattr(step, name)))

    def _timed(self, place: int, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            begun = time.perf_counter()
            found = method(*args, **settings)
            self.spent[place] += time.perf_counter() - begun
            self.kinds[place] = str(getattr(found, "dtype", ""))
            return found

        return call

    def taken(self) -> list[float]:
        """Seconds of each since it was last asked."""
        found, self.spent[:] = list(self.spent), [0.0] * len(self.spent)
        return found

    def precision(self, place: int) -> str:
        """What a step computes in, by what it gives."""
        kind = self.kinds[place]
        if hasattr(self.steps[place][1], "support_vectors_"):
            return LOOPS
        return kind.replace("float", "f") if kind in ("float32", "float64") else ""


def profiled(
    plain: Sequence[Callable[[], object]], watch: Watch, calls: Sequence[Callable[[], object]], threads: int,
    seconds: float,
) -> Profiled:  # fmt: skip
    """Time steps; what the pipeline does between them counts as overhead.

    Args:
        plain: One call a batch, unwatched.
        watch: What is told of `calls`, likewise.
    """
    logs: list[list[float]] = []
    turns = take_turns(plain, calls, len(watch.steps), threads, seconds, lambda: logs.append(watch.taken()))
    each = per_layer(np.array(logs)[turns.kept] / EACH, turns, WITHIN, told=EXACT)
    layers = tuple(
        LayerTime(name, type(step).__name__, float(each[place]), (name,), watch.precision(place))
        for place, (name, step) in enumerate(watch.steps)
    )
    return Profiled(layers, turns.plain, turns.waited)
