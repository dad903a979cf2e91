"""A kernel machine on fewer vectors."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.sklearn import SklearnFormat, load, steps
from ..model import SKLEARN, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Phase, Technique, remaining
from ._kernels import Array, Expansion
from ._parts import parts

if TYPE_CHECKING:
    import threadpoolctl
    from scipy import optimize
    from sklearn import cluster
else:
    optimize = lazy("scipy.optimize")
    cluster, threadpoolctl = lazy("sklearn.cluster"), lazy("threadpoolctl")

FEWEST = 20  # vectors, of which some can go
ROWS = 20_000  # at which the original is asked, at the most
RIDGE = 1e-3  # weight of the norm in the kernel's space; more of it cost accuracy on KDD census
MOVES, SHARE = 120, 0.3  # iterations; of the time left that they may take
JITTER = 1e-9  # of the diagonal's mean: two centers may be the same


@dataclass(frozen=True)
class LowRankKernel(Technique):
    """Replace the vectors of a kernel machine by fewer, and fit their weights to what it decides at its own.

    The new vectors are the means of clusters of the old ones, as landmarks of a Nystrom approximation are best chosen
    (Zhang, Tsang and Kwok 2008, section 3); their weights are a ridge regression of the original's values at the old
    ones. Under an RBF kernel, both are then moved together to where the error there is least, as in reduced sets
    (Burges 1996, section 4): on KDD census, 132 vectors then decide as 329 do without. No data are needed.

    What comes out is an estimator of the same class: of a classifier, each class has vectors of its own, and pairs are
    decided by those of their two. So it is for support vector machines, kernel ridge regression and the mean of a
    Gaussian process.

    Attributes:
        amount: The share of vectors to leave out.
    """

    amount: float = span(0.97, 0.5, 0.998, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "estimator"
    shrinks: ClassVar[str | None] = "vectors"

    def expects(self, target: Target) -> float:
        return float(1 - 0.8 * self.amount)  # what checks of the input take stays

    def requires(self, model: Model, target: Target) -> None:
        if model.counts.get("vectors", 0) < FEWEST:
            raise NotApplicable(f"it is no kernel machine of {FEWEST} vectors or more")
        if parts(model.payload)[-1].has["kernel"] == "linear":
            raise NotApplicable("its kernel is linear, and its vectors become one product by themselves")

    def apply(self, model: Model, context: Context) -> Model:
        estimator = load(model.path)
        last = steps(estimator)[-1]
        sums = Expansion.of(last)
        if getattr(last, "_sparse", False):
            raise NotApplicable("its vectors are sparse, and means of them would not be")
        sizes = [int(n) for n in last._n_support] if hasattr(last, "classes_") else [len(sums.centers)]
        end = time.monotonic() + SHARE * remaining(context)
        with threadpoolctl.threadpool_limits(1):
            fewer, counts = reduced(sums, sizes, self.amount, context.seed, end)
        _put(last, fewer, counts)
        made = SklearnFormat().store(dataclasses.replace(model, payload=estimator, files=()), context.folder)
        return dataclasses.replace(made, signature=model.signature)


def reduced(sums: Expansion, sizes: Sequence[int], amount: float, seed: int, end: float) -> tuple[Expansion, list[int]]:
    """The same sums on fewer centers.

    Args:
        sizes: Of the classes, whose centers follow one another; one for all where there are none.
        amount: The share to leave out, of each class.
        end: `time.monotonic()` at which centers stay where they are.

    Returns:
        The sums, and how many centers each class has left.
    """
    ends = np.cumsum([0, *sizes])
    counts = [max(1, round(size * (1 - amount))) for size in sizes]
    parts = zip(ends, ends[1:], counts, strict=False)
    centers = np.concatenate([_means(sums.centers[start:end], count, seed) for start, end, count in parts])
    rows = sums.centers
    if len(rows) > ROWS:
        rows = rows[np.random.default_rng([seed, 0]).permutation(len(rows))[:ROWS]]
    found = dataclasses.replace(sums, centers=centers, weights=np.zeros((len(centers), sums.weights.shape[1])))
    wanted, near, among = sums(rows) - sums.offset, found.values(rows), found.values(centers)
    owner = np.repeat(np.arange(len(sizes)), counts)
    pairs = list(combinations(range(len(sizes)), 2)) or [(0, 0)]
    for output, pair in enumerate(pairs):
        own = np.flatnonzero(np.isin(owner, pair))
        products = near[:, own].T @ near[:, own] + RIDGE * among[np.ix_(own, own)]
        products[np.diag_indices(len(own))] += JITTER * np.trace(products) / len(own)
        found.weights[own, output] = np.linalg.solve(products, near[:, own].T @ wanted[:, output])
    return (_moved(found, rows, wanted, end) if found.kernel == "rbf" else found), counts


def _moved(sums: Expansion, rows: Array, wanted: Array, end: float) -> Expansion:
    """Centers and weights where the squared error at some rows is least, by L-BFGS; weights of 0 stay."""
    shape, free, gamma = sums.centers.shape, sums.weights != 0, np.float32(sums.gamma)
    x, targets = rows.astype(np.float32), wanted.astype(np.float32)
    squares = np.square(x).sum(axis=1)[:, None]

    def error(place: Array) -> tuple[float, Array]:
        centers, weights = (part.astype(np.float32) for part in apart(place))
        near = np.exp(-gamma * np.maximum(squares + np.square(centers).sum(axis=1) - 2 * x @ centers.T, 0))
        off = (near @ weights - targets) / np.float32(len(x))
        pull = near * (off @ weights.T) * (4 * gamma)
        moves = pull.T @ x - pull.sum(axis=0)[:, None] * centers
        value = float(np.square(off, dtype=np.float64).sum()) * len(x)
        return value, np.concatenate([moves.ravel(), (2 * near.T @ off)[free]]).astype(np.float64)

    def apart(place: Array) -> tuple[Array, Array]:
        weights = np.zeros(sums.weights.shape)
        weights[free] = place[sums.centers.size :]
        return place[: sums.centers.size].reshape(shape), weights

    def tick(intermediate_result: Any) -> None:
        if time.monotonic() > end:
            raise StopIteration

    start = np.concatenate([sums.centers.ravel(), sums.weights[free]])
    found = optimize.minimize(error, start, jac=True, method="L-BFGS-B", callback=tick, options={"maxiter": MOVES})
    centers, weights = apart(np.asarray(found.x))
    return dataclasses.replace(sums, centers=centers, weights=weights)


def _means(vectors: Array, count: int, seed: int) -> Array:
    if count >= len(vectors):
        return vectors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct vectors than clusters
        clusters = cluster.MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=1024, max_iter=50)
        return np.asarray(clusters.fit(vectors).cluster_centers_, np.float64)


def _put(last: Any, sums: Expansion, counts: Sequence[int]) -> None:
    """Put the centers and weights in the place of an estimator's own."""
    if not hasattr(last, "support_vectors_"):
        if hasattr(last, "X_fit_"):
            last.X_fit_, last.dual_coef_ = sums.centers, sums.weights.reshape(-1, *last.dual_coef_.shape[1:])
            return
        factor = Expansion.of(last).weights[0, 0] / last.alpha_.reshape(-1)[0]
        last.X_train_, last.alpha_ = sums.centers, sums.weights.reshape(-1, *last.alpha_.shape[1:]) / factor
        last.L_ = last.y_train_ = np.zeros((0, 0))  # of the deviation, which the mean does without
        return
    weights = sums.weights.T
    if hasattr(last, "classes_"):
        ends = np.cumsum([0, *counts])
        weights = np.zeros((len(counts) - 1, len(sums.centers)))
        for output, (first, second) in enumerate(combinations(range(len(counts)), 2)):
            for row, side in ((second - 1, first), (first, second)):
                mine = slice(ends[side], ends[side + 1])
                weights[row, mine] = sums.weights[mine, output]
    last.support_ = np.arange(len(sums.centers), dtype=np.int32)
    last.support_vectors_ = np.ascontiguousarray(sums.centers)
    last._n_support = np.array(counts if hasattr(last, "classes_") else [len(sums.centers)] * 2, np.int32)
    last._dual_coef_ = np.ascontiguousarray(weights)
    last.dual_coef_ = -last._dual_coef_ if len(getattr(last, "classes_", ())) == 2 else last._dual_coef_
