"""A metric of the user's own: `module:function`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .._plain import told
from ..errors import InvalidData, InvalidGoal
from ..metric import Metric, Outputs, Probe, Scores
from ..samples import Samples, bounds_of_counts
from ..stats import Comparison, Statistic, taken
from .quality import compare

Array = np.ndarray[Any, Any]

_FORMS = "n scores (an array, one a sample), a pair (numerators, denominators) of such arrays, or one number"


class Custom(Metric):
    """A function of outputs (arrays by name) and labels (or None).

    It returns one score a sample, a pair (numerators, denominators) with one of each a sample, or one number for the
    whole, which is recomputed on resamples. An attribute `better = "lower"` of the function turns it round.

    Attributes:
        spelling: `module:function`, as in the goal. `name` is the function's own.

    Raises:
        InvalidGoal: There is no such module or function, or its `better` is neither `lower` nor `higher`.
    """

    rank = 12

    def __init__(self, spelling: str):
        self.spelling = spelling
        self.name = spelling.rpartition(":")[2]
        self._function = _load(spelling)
        self.better = getattr(self._function, "better", "higher")
        if self.better not in ("lower", "higher"):
            raise InvalidGoal(
                f'`better` of a custom metric must be "lower" or "higher"; {spelling} has {told(self.better, repr)}.'
            )

    def check(self, outputs: Outputs, labels: Array | None) -> None:
        self._call(outputs, labels)

    def by_sample(self, probe: Probe) -> Scores | None:
        first, second = (
            self._call(dict(outputs), probe.labels) for outputs in (probe.original_outputs, probe.candidate_outputs)
        )
        if isinstance(first, tuple) and isinstance(second, tuple) and np.array_equal(first[1], second[1]):
            return Scores(first[0], second[0], probe.groups, -np.inf, np.inf, first[1])
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            return Scores(first, second, probe.groups, -np.inf, np.inf)
        return None

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        original, candidate = dict(probe.original_outputs), dict(probe.candidate_outputs)
        labels, groups = probe.labels, probe.groups
        if rows is not None:
            original, candidate = taken(original, rows), taken(candidate, rows)
            labels, groups = (None if part is None else part[rows] for part in (labels, groups))
        first, second = self._call(original, labels), self._call(candidate, labels)
        if type(first) is not type(second):
            raise InvalidData(f"{self.spelling} must return one kind of result, and gave {first!r} and {second!r}.")
        if isinstance(first, float):
            return Statistic(self._number, original, candidate, labels, groups, seed=probe.seed)
        if isinstance(first, tuple):
            bounds = bounds_of_counts(first, second)
            return Samples(first[0], second[0], groups, first[1], second[1], bounds=bounds, seed=probe.seed)
        return compare(first, second, groups, probe.seed)

    def _number(self, outputs: Outputs, labels: Array | None) -> float:
        found = self._run(outputs, labels)
        try:
            return float(found)
        except Exception as error:
            raise InvalidData(
                f"{self.spelling} must return one number for any samples, not {told(found, repr)[:60]}."
            ) from error

    def _run(self, outputs: Outputs, labels: Array | None) -> Any:
        try:
            return self._function(outputs, labels)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            text = told(error).strip().split("\n")[0][:300]
            raise InvalidData(f"The metric {self.spelling} raised {type(error).__name__}: {text}") from error

    def _call(self, outputs: Outputs, labels: Array | None) -> Any:
        """What the function returns: an array [n], a tuple of two, or a float; checked.

        Raises:
            InvalidData: It raised, returned something else, or NaN.
        """
        n = len(next(iter(outputs.values())))
        found = self._run(outputs, labels)
        parts = found if isinstance(found, tuple) else (found,)
        try:
            arrays = [np.asarray(part, np.float64) for part in parts]
        except Exception:  # also of an `__array__` of its own, or a number beyond floats
            arrays = []
        shape = arrays[0].shape if arrays else None
        whole = len(parts) == 1 and shape == ()
        if not (whole or (len(parts) <= 2 and arrays and all(array.shape == (n,) for array in arrays))):
            seen = (
                " and ".join(f"{type(part).__name__} of shape {np.shape(part)}" for part in parts)
                if arrays
                else told(found, repr)[:60]
            )
            raise InvalidData(f"A metric must return {_FORMS}; for {n} samples {self.spelling} returned {seen}.")
        if any(np.isnan(array).any() for array in arrays):
            raise InvalidData(
                f"{self.spelling} returned NaN. Let it return the worst score where an output can't be judged."
            )
        if whole:
            return float(arrays[0])
        return (arrays[0], arrays[1]) if isinstance(found, tuple) else arrays[0]


def _load(spelling: str) -> Callable[[Outputs, Array | None], Any]:
    module_name, _, function_name = spelling.rpartition(":")
    if not module_name or not function_name.isidentifier():
        raise InvalidGoal(f"A custom metric is written module:function, not {spelling!r}.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = told(error).strip().split("\n")[0][:300]
        raise InvalidGoal(
            f"The metric {spelling} needs the module {module_name!r}, which can't be imported "
            f"({type(error).__name__}: {text}). It is looked for in {here} and among installed packages."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InvalidGoal(
            f"The module {module_name!r} has no function {function_name!r} to use as a metric. Look at its spelling."
        )
    return function  # type: ignore[no-any-return]
