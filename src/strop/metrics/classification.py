"""Metrics of classifiers: accuracy, top_k, f1, auroc, average_precision, log_loss, perplexity.

They are computed in NumPy, since a bootstrap calls some of them a thousand times, and tested against scikit-learn.
Where the candidate's output is NaN, its score is the worst possible: a wrong class, the last rank. `log_loss` and
`perplexity` have no worst score, and refuse it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np

from .._delong import Area, DeLong
from ..errors import InvalidData
from ..metric import Metric, Outputs, Probe, Scores
from ..samples import Samples
from ..stats import Comparison, Statistic
from .decisions import Decisions, check_decisions, class_scores, decisions, predicted
from .quality import compare, require_finite

Array = np.ndarray[Any, Any]


class _Classification(Metric):
    better: Literal["lower", "higher"] = "higher"
    rank = 10
    needs_labels = True
    of_classes = True
    soft = True
    """Whether it needs scores of the classes, not only the predicted class."""
    both = False
    """Whether it needs labels of at least two classes."""

    def check(self, outputs: Outputs, labels: Array | None) -> None:
        case = check_decisions(self, outputs, labels)
        if self.soft and case.original.dtype.kind != "f":
            raise InvalidData(
                f"{self.name} needs a score for each class, and the model gives only the predicted class "
                f"({case.original.dtype}). Export it with probabilities, or judge it by `accuracy` or `f1`."
            )
        if self.both and len(found := np.unique(case.labels)) < 2:
            raise InvalidData(
                f"{self.name} needs labels of at least two classes, and all are {found[0]}. "
                "Add samples of the other classes, or choose `accuracy`."
            )


class _Right(_Classification):
    """A share of decisions that are right in some sense."""

    share = True

    def by_sample(self, probe: Probe) -> Scores | None:
        case = decisions(self, probe, None)
        return Scores(*self._both(case), case.groups)

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = decisions(self, probe, rows)
        return compare(*self._both(case), case.groups, case.seed)

    def _both(self, case: Decisions) -> tuple[Array, Array]:
        return self._right(case, case.original), self._right(case, case.candidate)

    @abstractmethod
    def _right(self, case: Decisions, values: Array) -> Array:
        """Which decisions are right, [m] of bool."""


class Accuracy(_Right):
    """Share of decisions whose class is right."""

    name = "accuracy"
    soft = False

    def _right(self, case: Decisions, values: Array) -> Array:
        right: Array = predicted(values, case.probabilities) == case.labels
        return right


class TopK(_Right):
    """Share of decisions whose right class is among the k best scores; of equal scores the first class is better."""

    def __init__(self, k: int):
        self.k = k
        self.name = f"top_{k}"

    def check(self, outputs: Outputs, labels: Array | None) -> None:
        super().check(outputs, labels)
        if (classes := check_decisions(self, outputs, labels).classes) <= self.k:
            raise InvalidData(
                f"{self.name} needs more than {self.k} classes, and the model tells {classes} apart, so that it would "
                "always be 1. Choose `accuracy`, or a smaller number."
            )

    def _right(self, case: Decisions, values: Array) -> Array:
        own = np.take_along_axis(values, case.labels[:, None], axis=1)
        ahead = (values > own) | ((values == own) & (np.arange(values.shape[1]) < case.labels[:, None]))
        right: Array = (ahead.sum(axis=1) < self.k) & ~np.isnan(values).any(axis=1)
        return right


class F1(_Classification):
    """Harmonic mean of precision and recall: of class 1 where there are two, else the mean over classes (macro)."""

    name = "f1"
    soft = False

    def by_sample(self, probe: Probe) -> Scores | None:
        """Hits, over the mean of what is said to be of class 1 and what is."""
        case = decisions(self, probe, None)
        sides = self._chosen(case)
        if max(case.classes - 1, *(side.max() for side in sides)) > 1:
            return None
        (hits, said), (hits_candidate, said_candidate) = (
            (side * case.labels, (side + case.labels) / 2) for side in sides
        )
        return Scores(hits, hits_candidate, case.groups, weights=said, weights_candidate=said_candidate)

    def _chosen(self, case: Decisions) -> list[Array]:
        sides = [predicted(values, case.probabilities) for values in (case.original, case.candidate)]
        # NaN is any wrong class
        return [np.where(side < 0, (case.labels + 1) % case.classes, side) for side in sides]

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = decisions(self, probe, rows)
        sides = self._chosen(case)
        classes = max(case.classes, *(int(side.max()) + 1 for side in sides))

        def f1(chosen: Array, labels: Array) -> float:
            pairs = np.bincount(labels * classes + chosen, minlength=classes**2).reshape(classes, classes)
            involved = pairs.sum(axis=0) + pairs.sum(axis=1)
            each = 2 * np.diag(pairs) / np.maximum(involved, 1)
            return float(each[1] if classes == 2 else each[involved > 0].mean())

        return Statistic(f1, sides[0], sides[1], case.labels, case.groups, (0, 1), case.support, case.seed)


class Auroc(_Classification):
    """Area under the ROC curve; with more than two classes the mean of each against the rest.

    Its spread is that of DeLong's structural components (DeLong et al. 1988), one a decision, of which the area is the
    mean. With groups these are resampled together (Obuchowski 1997).
    """

    name = "auroc"
    both = True

    def by_sample(self, probe: Probe) -> Scores | None:
        """Whether a positive is ranked above a negative, of disjoint pairs in the order in which they come."""
        case = decisions(self, probe, None)
        if case.groups is not None:
            return None
        sides = []
        for values in (case.original, case.candidate):
            (truth, score), *others = class_scores(values, case.labels, case.probabilities)
            pairs = min(int(truth.sum()), int((~truth).sum()))
            if others or pairs == 0:
                return None
            above, below = score[truth][:pairs], score[~truth][:pairs]
            sides.append((above > below) + 0.5 * (above == below))
        return Scores(sides[0], sides[1])

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = decisions(self, probe, rows)
        original, candidate = (
            Area.of(class_scores(values, case.labels, case.probabilities)) for values in (case.original, case.candidate)
        )
        if case.groups is None:
            return DeLong(original, candidate, case.labels)
        return Samples(
            original.influence, candidate.influence, case.groups, bounds=(0, 1), support=case.support, seed=case.seed
        )


class AveragePrecision(_Classification):
    """Precision averaged over the steps of recall; with more than two classes the mean of each against the rest."""

    name = "average_precision"
    both = True

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = decisions(self, probe, rows)

        def precision(values: Array, labels: Array) -> float:
            each = [_average_precision(*pair) for pair in class_scores(values, labels, case.probabilities)]
            known = [value for value in each if not np.isnan(value)]
            return float(np.mean(known)) if known else np.nan

        return Statistic(
            precision, case.original, case.candidate, case.labels, case.groups, (0, 1), case.support, case.seed
        )


class LogLoss(_Classification):
    """Mean of -log of the probability given to the right class, clipped at the precision of the output's dtype."""

    name = "log_loss"
    better = "lower"

    def by_sample(self, probe: Probe) -> Scores | None:
        case = decisions(self, probe, None)
        return Scores(*_losses(self, case), case.groups, 0.0, np.inf)

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = decisions(self, probe, rows)
        return Samples(*_losses(self, case), case.groups, seed=case.seed)


class Perplexity(_Classification):
    """The exponential of the mean log loss."""

    name = "perplexity"
    better = "lower"

    def by_sample(self, probe: Probe) -> Scores | None:
        case = decisions(self, probe, None)
        return Scores(*_losses(self, case), case.groups, 0.0, np.inf, exponential=True)

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = decisions(self, probe, rows)
        return Samples(*_losses(self, case), case.groups, transform=np.exp, seed=case.seed)


def _average_precision(truth: Array, score: Array) -> float:
    positives = truth.sum()
    if positives == 0:
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are one threshold
    found = np.cumsum(truth[order])[last]
    precision = found / (np.flatnonzero(last) + 1)
    return float(np.diff(found, prepend=0) @ precision / positives)


def _losses(metric: Metric, case: Decisions) -> tuple[Array, Array]:
    sides = []
    for values, whose in ((case.original, "the original"), (case.candidate, "the candidate")):
        if values.ndim == 1:  # of one logit z the probabilities are those of the pair (0, z)
            first = 1 - values if case.probabilities else np.zeros_like(values)
            values = np.stack([first, values], axis=1)
        own = np.take_along_axis(values, case.labels[:, None], axis=1)[:, 0]
        if case.probabilities:
            step = float(np.finfo(values.dtype).eps)
            losses = -np.log(np.clip(own.astype(np.float64), step, 1 - step))
        else:
            highest = values.max(axis=1)
            with np.errstate(invalid="ignore"):
                total = np.exp(values - highest[:, None]).sum(axis=1, dtype=np.float64)
                losses = np.log(total) + (highest.astype(np.float64) - own)
        sides.append(require_finite(metric, losses, whose))
    return sides[0], sides[1]
