"""Folds: one fit of one candidate on one fold, wherever it runs, and what is measured of it."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._plain import told

Array = np.ndarray[Any, Any]

CALLS, LONGEST = 200, 0.1  # of predict, to time it: at the most, and seconds
LATENCIES = {"latency.p50": 50.0, "latency.p95": 95.0, "latency.p99": 99.0, "latency.mean": None}
COSTS: Mapping[str, str] = {**dict.fromkeys(LATENCIES, "s"), "fit_time": "s", "size": "bytes"}
"""What is measured of a fitted estimator besides quality, and in which unit."""


@dataclass(frozen=True)
class Stage:
    """A part of judging a candidate.

    Attributes:
        fold: Its number.
        share: Of the samples, or of the iterations, that are trained with.
    """

    fold: int
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.fold}" if self.share == 1 else f"{self.fold}@{self.share:g}"


@dataclass(frozen=True)
class Fit:
    """What came of a stage.

    Attributes:
        values: By metric; NaN where it could not be told.
        seconds: All of it.
        error: Why there are none.
        unscored: Why one of them is NaN, as its scorer says.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    unscored: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Case:
    """What all fits have in common.

    Attributes:
        data: A file that joblib wrote: samples, labels and the arguments of fit.
        scorers: By metric, scikit-learn's; with the sign that makes of a score what the metric is.
        costs: Metrics of cost that are asked for.
        batch: Samples in one call that is timed.
        iterations: The parameter that a share below 1 cuts; None where samples are cut.
    """

    data: Path
    estimator: Any
    scorers: Mapping[str, tuple[Any, float]]
    costs: tuple[str, ...]
    batch: int
    iterations: str | None = None


@functools.lru_cache(maxsize=2)
def _read(path: Path) -> tuple[Any, Any, dict[str, Any]]:
    import joblib

    return joblib.load(path, mmap_mode="r")  # type: ignore[no-any-return]  # shared between the processes


def fit(case: Case, params: Mapping[str, Any], train: Array, test: Array, share: float, stop_at: float) -> Fit:
    """Fit a candidate on a fold and measure it.

    Args:
        train: Rows to train with.
        test: Rows to judge by.
        share: Of the iterations, where these are cut.
        stop_at: The time of the host's clock after which nothing is begun.
    """
    from sklearn.base import clone
    from sklearn.model_selection import cross_validate

    if time.monotonic() > stop_at:
        return Fit(error="there was no time left")
    X, y, arguments = _read(case.data)
    begun = time.perf_counter()
    try:
        estimator = clone(case.estimator).set_params(**clone(dict(params), safe=False))
        if case.iterations and share < 1:
            whole = estimator.get_params()[case.iterations]
            part = share * whole if isinstance(whole, float) else max(1, round(share * whole))
            estimator.set_params(**{case.iterations: part})
        with warnings.catch_warnings(record=True) as said:  # that a fit did not converge, too: its score says it
            warnings.simplefilter("always")
            found = cross_validate(
                estimator, X, y, scoring={name: scorer for name, (scorer, _) in case.scorers.items()},
                cv=[(train, test)], params=arguments or None, return_estimator=True,
            )  # fmt: skip
            values = {name: sign * float(found[f"test_{name}"][0]) for name, (_, sign) in case.scorers.items()}
            values |= costs(case, found["estimator"][0], X, test, float(found["fit_time"][0]))
    except Exception as error:  # of whatever the estimator is made of: it costs this candidate, and is told
        return Fit(seconds=time.perf_counter() - begun, error=_cause(error))
    unscored = next((_last(one.message) for one in said if "Scoring failed" in str(one.message)), "")
    return Fit(values, time.perf_counter() - begun, unscored=unscored)


def costs(case: Case, fitted: Any, X: Any, rows: Array, fit_time: float) -> dict[str, float]:
    """The costs that are asked for, in seconds and bytes."""
    found: dict[str, float] = {}
    if "fit_time" in case.costs:
        found["fit_time"] = fit_time
    if "size" in case.costs:
        found["size"] = float(size(fitted))
    if any(name in LATENCIES for name in case.costs):
        call = prepared(fitted, X, rows[: case.batch])
        taken = np.array(timed(call, CALLS, LONGEST))
        for name, percentile in LATENCIES.items():
            if name in case.costs:
                found[name] = float(taken.mean() if percentile is None else np.percentile(taken, percentile))
    return found


def size(fitted: Any) -> int:
    """Bytes of an estimator as it says itself that it is saved (`saved_size`); else as pickled, which is how
    scikit-learn's are mostly kept, classes of `__main__` included."""
    import cloudpickle

    if hasattr(fitted, "saved_size"):
        return int(fitted.saved_size())
    return len(cloudpickle.dumps(fitted))


def prepared(fitted: Any, X: Any, rows: Array) -> Any:
    """The call that is timed: `predict` on the rows."""
    from sklearn.utils import _safe_indexing

    batch = _safe_indexing(X, rows)
    return lambda: fitted.predict(batch)


def timed(call: Any, calls: int, longest: float) -> list[float]:
    """Seconds of calls, after two that warm up."""
    call()
    call()
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or (len(taken) < calls and time.perf_counter() - begun < longest):
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return taken


def _cause(error: Exception) -> str:
    """What was raised inside: scikit-learn quotes the traceback of a fit that failed."""
    return _last(error) if "fits failed" in str(error) else f"{type(error).__name__}: {told(error)}"


def _last(quoted: object) -> str:
    """The error that a quoted traceback tells, after its last frame; further lines of it are advice."""
    lines = str(quoted).strip().splitlines()
    frame = max((place for place, line in enumerate(lines) if line.startswith('  File "')), default=0)
    name, _, what = next((line for line in lines[frame:] if line[:1].strip()), lines[-1]).partition(":")
    return f"{name.rpartition('.')[2]}: {told(what.strip())}"
