"""Nearest neighbours among fewer stored samples."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.sklearn import SklearnFormat, load, steps
from ..model import SKLEARN, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Phase, Technique
from ._parts import parts

if TYPE_CHECKING:
    import threadpoolctl
    from sklearn import base, cluster
else:
    base, cluster, threadpoolctl = lazy("sklearn.base"), lazy("sklearn.cluster"), lazy("threadpoolctl")

Array = np.ndarray[Any, Any]

FEWEST = 50  # samples, of which some can go
METRICS = ("euclidean", "minkowski", "manhattan", "l1", "l2")  # in which means of samples say something
KINDS = ("KNeighborsClassifier", "KNeighborsRegressor")


@dataclass(frozen=True)
class CondenseNeighbors(Technique):
    """Keep fewer of the samples that neighbours are looked for among, and as many neighbours.

    Stored are the means of clusters, of each class as many as its share (Hastie, Tibshirani and Friedman 2009, section
    13.2.1); of a regression the mean of their targets too. (Hart's condensing, 1968, was tried: at a tenth of the
    samples it took digits from 0.96 to 0.85 where clusters took them to 0.95, and to 0.64 of five neighbours.) No data
    are needed: the samples and what they are stand in the model.

    Attributes:
        amount: The share of samples to leave out.
    """

    amount: float = span(0.9, 0.5, 0.998, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "estimator"
    shrinks: ClassVar[str | None] = "neighbours"

    def expects(self, target: Target) -> float:
        return float(1 - 0.6 * self.amount)  # what checks of the input take stays

    def requires(self, model: Model, target: Target) -> None:
        if model.counts.get("neighbours", 0) < FEWEST:
            raise NotApplicable(f"it looks for no neighbours among {FEWEST} samples or more")
        if (name := parts(model.payload)[-1].name) not in KINDS:
            raise NotApplicable(f"a {name} does not go by a number of neighbours")

    def apply(self, model: Model, context: Context) -> Model:
        estimator = load(model.path)
        last = steps(estimator)[-1]
        if not isinstance(last._fit_X, np.ndarray):
            raise NotApplicable("its samples are sparse, and means of them would not be")
        count = round(len(last._fit_X) * (1 - self.amount))
        with threadpoolctl.threadpool_limits(1):
            x, y = fewer(last, count, context.seed)
        if len(x) < last.n_neighbors:
            raise NotApplicable(f"{len(x)} samples would be left, and it looks for {last.n_neighbors} neighbours")
        fitted = base.clone(last).fit(x, last.classes_[y] if hasattr(last, "classes_") else y)
        vars(last).clear()
        vars(last).update(vars(fitted))
        made = SklearnFormat().store(dataclasses.replace(model, payload=estimator, files=()), context.folder)
        return dataclasses.replace(made, signature=model.signature)


def fewer(last: Any, count: int, seed: int) -> tuple[Array, Array]:
    """The means of clusters, and what they are: classes by number, or targets.

    Raises:
        NotApplicable: Means say nothing in its metric.
    """
    if last.effective_metric_ not in METRICS:
        raise NotApplicable(f"means of samples say nothing in the metric {last.effective_metric_}")
    x, y = last._fit_X, np.asarray(last._y).reshape(-1)
    if not hasattr(last, "classes_"):
        found, of = _clusters(x, count, seed)
        return found, np.bincount(of, y, len(found)) / np.bincount(of, minlength=len(found))
    parts = []
    for number in range(len(last.classes_)):
        mine = x[y == number]
        means, _ = _clusters(mine, max(1, round(count * len(mine) / len(x))), seed)
        parts.append((means, np.full(len(means), number)))
    return np.concatenate([means for means, _ in parts]), np.concatenate([of for _, of in parts])


def _clusters(x: Array, count: int, seed: int) -> tuple[Array, Array]:
    """The means of clusters that are not empty, and the one that each sample is in."""
    if count >= len(x):
        return x, np.arange(len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct samples than clusters
        made = cluster.MiniBatchKMeans(max(1, count), random_state=seed, n_init=1, batch_size=1024, max_iter=50).fit(x)
    used, of = np.unique(made.labels_, return_inverse=True)
    return np.asarray(made.cluster_centers_[used], np.float64), of
