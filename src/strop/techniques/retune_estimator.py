"""An estimator or a pipeline trained anew, smaller, with its own parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.sklearn import SklearnFormat, load, steps
from ..model import SKLEARN, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ._anew import Array, fitted, given
from ._parts import Part, parts

if TYPE_CHECKING:
    from sklearn import base
else:
    base = lazy("sklearn.base")

LEAST = 5  # samples of a class that are kept
CURVED = ("rbf", "poly", "polynomial", "sigmoid", "laplacian")  # kernels with a gamma
SAME = "same"


@dataclass(frozen=True)
class RetuneEstimator(Technique):
    """Train the original anew, pre-processing and all, with its own parameters but for those that make it smaller.

    Attributes:
        amount: The share to leave out of what the last step is made of: neurons of hidden layers, estimators of an
            ensemble (boosting then learns faster), or samples to train on where they are kept, as kernel machines,
            Gaussian processes and nearest neighbours do. Where it is made of nothing of the kind, as a linear model,
            of the numbers that the projection or selection before it gives.
        width: Of a projection or selection before such a last step, the share that stays.
        penalty: How much more the regularization weighs: C is divided by it, alpha multiplied.
        gamma: Of the kernel, as a ratio.
        kernel: `linear` makes one product of a support vector machine, once it is ONNX.
        neighbors: To look at, as a ratio.
        algorithm: By which they are found; the answers are the same.
    """

    amount: float = span(0.5, 0.0, 0.95, strength=True)
    width: float = choice(1.0, 0.5, 0.25)
    penalty: float = choice(1.0, 0.1, 10.0)
    gamma: float = choice(1.0, 0.3, 3.0)
    kernel: str = choice(SAME, "linear")
    neighbors: float = choice(1.0, 0.6, 0.3)
    algorithm: str = choice(SAME, "brute", "kd_tree")

    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "estimator"
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return float(1 - 0.6 * self.amount)  # what checks of the input take stays

    def requires(self, model: Model, target: Target) -> None:
        if "trees" in model.counts:
            raise NotApplicable("an ensemble of trees is trained anew as a forest (retune)")
        self._changes(parts(model.payload))

    def apply(self, model: Model, context: Context) -> Model:
        estimator, chain = load(model.path), parts(model.path)
        last = steps(estimator)[-1]
        made = base.clone(estimator)
        for step, changed in zip(steps(made), self._changes(chain), strict=True):
            step.set_params(**changed)
        x, labels = given(context, last)
        if chain[-1].stores:
            classes = labels if hasattr(last, "classes_") else None
            kept = _drawn(len(context.train or ()), classes, 1 - self.amount, context.seed)
            x, labels = _rows(x, kept), None if labels is None else labels[kept]
        made = fitted(made, x, labels, context)
        stored = SklearnFormat().store(dataclasses.replace(model, payload=made, files=()), context.folder)
        return dataclasses.replace(stored, signature=model.signature)

    def _changes(self, chain: Sequence[Part]) -> list[dict[str, Any]]:
        """Of each step, the parameters that change.

        Raises:
            NotApplicable: None of them makes it smaller, or a setting has nothing to work on.
        """
        *front, last = chain
        smaller, narrows = last.smaller(1 - self.amount), any(part.width for part in front)
        alone = smaller is None and not last.stores
        if alone and not narrows:
            raise NotApplicable(f"no parameter of a {last.name} makes it smaller, and no projection comes before it")
        if self.width != 1 and (alone or not narrows):
            why = "what comes before the last step is what amount makes smaller" if alone else (
                "no projection comes before the last step")  # fmt: skip
            raise NotApplicable(why)
        share = 1 - self.amount if alone else self.width
        return [*(part.narrower(share) if part.width else {} for part in front), {**(smaller or {}), **self._of(last)}]

    def _of(self, last: Part) -> dict[str, Any]:
        """What the settings besides the sizes change of the last step."""
        has, found = last.has, dict[str, Any]()
        if self.penalty != 1:
            name = next((name for name in ("C", "alpha") if isinstance(has.get(name), (int, float))), None)
            if name is None or last.name.startswith("GaussianProcess"):
                raise NotApplicable(f"a {last.name} has no C and no alpha")
            found[name] = has[name] * self.penalty if name == "alpha" else has[name] / self.penalty
        if self.kernel != SAME:
            if not last.machine or has["kernel"] == self.kernel:
                raise NotApplicable(f"this {last.name} is no support vector machine of another kernel")
            found["kernel"] = self.kernel
        if self.gamma != 1:
            if last.gamma is None or found.get("kernel", has.get("kernel")) not in CURVED:
                raise NotApplicable(f"the kernel of a {last.name} is none with a gamma here")
            found["gamma"] = last.gamma * self.gamma
        if self.neighbors != 1:
            before = has.get("n_neighbors", 1)
            found["n_neighbors"] = max(1, round(before * self.neighbors))
            if found["n_neighbors"] >= before:
                raise NotApplicable("it looks for one neighbour at the most, or for none by number")
        if self.algorithm != SAME:
            if not last.neighbours or has["algorithm"] == self.algorithm:
                raise NotApplicable("it looks for no neighbours, or by this algorithm already")
            found["algorithm"] = self.algorithm
        return found


def _drawn(count: int, classes: Array | None, share: float, seed: int) -> Array:
    """So large a share of the rows, of each class alike."""
    random = np.random.default_rng([seed, 0])
    groups = [np.arange(count)] if classes is None else [np.flatnonzero(classes == one) for one in np.unique(classes)]
    kept = [random.permutation(group)[: max(LEAST, round(len(group) * share))] for group in groups]
    return np.sort(np.concatenate(kept))


def _rows(x: Any, kept: Array) -> Any:
    if hasattr(x, "iloc"):
        return x.iloc[kept]
    return [x[row] for row in kept] if isinstance(x, list) else x[kept]
