"""A linear model or a small network, taught by an estimator's scores."""

from __future__ import annotations

import dataclasses
import time
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
from ._asked import Array, asked
from ._parts import parts

if TYPE_CHECKING:
    from scipy import sparse
    from sklearn import linear_model, neural_network, pipeline, preprocessing, svm
else:
    sparse, linear_model, svm = lazy("scipy.sparse"), lazy("sklearn.linear_model"), lazy("sklearn.svm")
    neural_network, pipeline = lazy("sklearn.neural_network"), lazy("sklearn.pipeline")
    preprocessing = lazy("sklearn.preprocessing")

WIDEST, NARROWEST = 256, 4  # neurons
EPOCHS, STEPS, BATCH, HOLDOUT = 20, 3000, 200, 0.1
PATIENCE = 0.1  # of the epochs


@dataclass(frozen=True)
class DistillEstimator(Technique):
    """Train a smaller estimator on the scores that the original gives, with rows added that are made up.

    What comes before the last step of a pipeline stays as it is; in the last step's place come scaling and the student.
    No labels are needed (Bucila et al. 2006; Hinton et al. 2015, of logits as in section 2.1).

    Attributes:
        student: `network` has one hidden layer; `linear` is one product.
        amount: How little of a network: 256 neurons at 0, 32 at 0.5, 4 at 1.
        rows: Made-up rows for each row of the train data.
        swapped: The share of columns that hold values of other rows.
    """

    student: str = choice("network", "linear")
    amount: float = span(0.5, 0.0, 1.0, strength=True)
    rows: int = choice(1, 0, 3)
    swapped: float = span(0.1, 0.02, 0.5, log=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    phase: ClassVar[Phase] = Phase.SHRINK
    chooses: ClassVar[str | None] = "estimator"
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return 0.5  # what checks of the input take stays

    def requires(self, model: Model, target: Target) -> None:
        if "trees" in model.counts:
            raise NotApplicable("an ensemble of trees is taught to a smaller one (distill-forest)")
        if parts(model.payload)[-1].linear:
            raise NotApplicable("it is linear already")

    def apply(self, model: Model, context: Context) -> Model:
        estimator, (result,) = load(model.path), model.signature.outputs
        *front, last = steps(estimator)
        classes = getattr(last, "classes_", None)
        found = asked(context, self.rows, self.swapped)
        x = pipeline.make_pipeline(*front).transform(found.input) if front else found.input
        scaler = preprocessing.MaxAbsScaler() if sparse.issparse(x) else preprocessing.StandardScaler()
        x = scaler.fit_transform(x)
        learn = _network if self.student == "network" else _linear
        student = learn(x, found.scores, result.name, classes, self.width, context)
        made = pipeline.make_pipeline(*front, scaler, *student)
        stored = SklearnFormat().store(dataclasses.replace(model, payload=made, files=()), context.folder)
        return dataclasses.replace(stored, signature=model.signature)

    @property
    def width(self) -> int:
        """Neurons of the hidden layer."""
        return round(float(WIDEST * (NARROWEST / WIDEST) ** self.amount))


def _linear(x: Any, scores: Array, output: str, classes: Any, width: int, context: Context) -> list[Any]:
    fitted = linear_model.Ridge().fit(x, scores)
    if output == "prediction":
        fitted.coef_, fitted.intercept_ = fitted.coef_.reshape(-1), float(np.ravel(fitted.intercept_)[0])
        return [fitted]
    return [_product(np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_), output, classes)]


def _product(coefficients: Array, offset: Array, output: str, classes: Any) -> Any:
    """A linear estimator [outputs, features] that classifies, or detects outliers."""
    known = {"coef_": coefficients, "n_features_in_": coefficients.shape[1], "n_iter_": 1}
    if classes is None:
        return _as_fitted(linear_model.SGDOneClassSVM(), offset_=-offset, **known)
    made = linear_model.LogisticRegression() if output == "probability" else svm.LinearSVC()
    return _as_fitted(made, intercept_=offset, classes_=classes, **known)


def _network(x: Any, scores: Array, output: str, classes: Any, width: int, context: Context) -> list[Any]:
    """One hidden layer. No network of scikit-learn's gives decision values: its neurons are then a step of their own,
    as a Boltzmann machine has them, and a linear estimator follows.
    """
    mean, spread = scores.mean(axis=0), np.maximum(scores.std(axis=0), 1e-12)
    wanted = ((scores - mean) / spread).astype(np.float32)
    fitted = neural_network.MLPRegressor(
        hidden_layer_sizes=(width,), batch_size=min(BATCH, len(wanted)), random_state=context.seed,
        activation="logistic" if output == "decision" else "relu",
    )  # fmt: skip
    (first, last), (bias, offset) = _fit(fitted, x.astype(np.float32), wanted, context)
    last, offset = last * spread, offset * spread + mean
    if output == "decision":
        hidden = {"components_": np.ascontiguousarray(first.T), "intercept_hidden_": bias}
        neurons = _as_fitted(neural_network.BernoulliRBM(width), n_features_in_=x.shape[1], **hidden)
        return [neurons, _product(np.ascontiguousarray(last.T), offset, output, classes)]
    layers = {"coefs_": [first, last], "intercepts_": [bias, offset]}
    known = {"n_layers_": 3, "n_outputs_": scores.shape[1], "n_features_in_": x.shape[1], "n_iter_": 1, **layers}
    if output == "prediction":
        made = neural_network.MLPRegressor(hidden_layer_sizes=(width,))
        return [_as_fitted(made, out_activation_="identity", **known)]
    known |= {"classes_": classes, "_label_binarizer": preprocessing.LabelBinarizer().fit(classes)}
    link = "softmax" if scores.shape[1] > 1 else "logistic"
    return [_as_fitted(neural_network.MLPClassifier(hidden_layer_sizes=(width,)), out_activation_=link, **known)]


def _fit(fitted: Any, x: Any, wanted: Array, context: Context) -> tuple[list[Array], list[Array]]:
    """Epoch by epoch, as long as the rows that are held out gain by it: the weights and offsets that did best."""
    seconds = context.training.seconds if context.training else None
    start = time.monotonic()
    end = min(start + 0.8 * (context.deadline - start), start + seconds if seconds else np.inf)
    order = np.random.default_rng([context.seed, 1]).permutation(len(wanted))
    held, used = np.split(order, [max(1, int(HOLDOUT * len(order)))])
    wanted = wanted if wanted.shape[1] > 1 else wanted[:, 0]
    epochs = max(EPOCHS, -(-STEPS * BATCH // len(used)))
    best: tuple[list[Array], list[Array]] = ([], [])
    least, since = np.inf, 0
    for epoch in range(epochs):
        fitted.partial_fit(x[used], wanted[used])
        off = float(np.square(fitted.predict(x[held]) - wanted[held]).mean())
        since += 1
        if off < least or not epoch:
            least, since = off, 0
            best = [one.copy() for one in fitted.coefs_], [one.copy() for one in fitted.intercepts_]
        if since > PATIENCE * epochs or time.monotonic() > end:
            break
        context.progress(epoch / epochs, f"epoch {epoch + 1}, {least:.3g} of the variance left")
    return best


def _as_fitted(made: Any, **attributes: Any) -> Any:
    """An estimator with the attributes of a fitted one."""
    for name, value in attributes.items():
        setattr(made, name, value)
    return made
