"""Estimator peaks: how fast scikit-learn multiplies here at the most, and what a step of its own takes at the least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ._lazy import lazy
from ._products import Product
from ._rounds import in_turn, median
from .target import pin

if TYPE_CHECKING:
    import threadpoolctl
    from sklearn import preprocessing, svm
else:
    preprocessing, svm, threadpoolctl = lazy("sklearn.preprocessing"), lazy("sklearn.svm"), lazy("threadpoolctl")

SIDE = 512  # of matrices: big enough to be bound by computing, small enough for the caches
LOOPS = "f64 loops"
"""The precision of what goes through vectors one by one, in loops of libsvm's, and not by matrix products."""
VECTORS, COLUMNS, ROWS = 256, 64, 64  # of a kernel machine, of the samples that it decides


def products(runtime: str, cores: Sequence[int]) -> list[Product]:
    """Time NumPy's product of matrices, which linear models, networks and projections are made of, and what libsvm does
    vector by vector.

    To be called once a process.

    Args:
        runtime: Its name, to tell it by.
        cores: What this process is kept to, one thread a core.
    """
    pin(cores)
    random = np.random.default_rng(0)
    rows = random.standard_normal((ROWS, COLUMNS))
    machine = svm.SVR(C=1e-3, epsilon=0.0).fit(
        random.standard_normal((VECTORS, COLUMNS)), random.standard_normal(VECTORS)
    )
    square = {kind: random.standard_normal((SIDE, SIDE)).astype(f"float{kind[1:]}") for kind in ("f32", "f64")}
    calls: dict[str, Callable[[], object]] = {kind: partial(np.matmul, side, side) for kind, side in square.items()}
    calls[LOOPS] = partial(machine.predict, rows)
    with threadpoolctl.threadpool_limits(len(cores)):
        rates = in_turn(calls)
    work = dict.fromkeys(square, 2 * SIDE**3) | {LOOPS: 2 * ROWS * machine.support_vectors_.size}
    return [Product(runtime, "dense", kind, len(cores), kind, median(rates[kind] * work[kind])) for kind in work]


def start(runtime: str, cores: Sequence[int]) -> float:
    """Seconds that a step with next to nothing to do takes: one that scales 16 numbers.

    To be called once a process, as `products`.
    """
    pin(cores)
    row = np.zeros((1, 16))
    step = preprocessing.StandardScaler().fit(np.eye(16))
    return 1 / median(in_turn({"idle": lambda: step.transform(row)})["idle"]).high
