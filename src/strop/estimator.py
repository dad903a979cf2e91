"""Estimator: a bundle as scikit-learn has its models, so that its metrics, pipelines and calibration take it.

Loaded when first asked for, as all of scikit-learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from . import metrics
from .errors import BundleError
from .model import Value
from .opened import Opened

Array = np.ndarray[Any, Any]


class BundleEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What both kinds share. It is trained: `fit` changes nothing, and a clone answers as it does.

    The parameter is the bundle's folder, and a pickle holds no more than that.

    Args:
        folder: The bundle's.
    """

    def __init__(self, folder: str | Path):
        self.folder = folder

    def fit(self, X: Any, y: Any = None) -> Self:
        """Change nothing: the model in a bundle is trained."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_opened", "_runner")}

    @property
    def _bundle(self) -> Opened:
        if not hasattr(self, "_opened"):
            self._opened = Opened.load(self.folder)
        return self._opened

    def _scores(self, X: Any) -> Array:
        """The output that is judged [n] or [n, classes]; the model is loaded once."""
        if not hasattr(self, "_runner"):
            self._runner = self._bundle.runner()
        return _judged(self._bundle.predict(np.asarray(X) if isinstance(X, list) else X, self._runner))


class BundleClassifier(ClassifierMixin, BundleEstimator):  # type: ignore[misc]
    """A bundle that classifies: one label a sample, as the manifest calls the classes."""

    @property
    def classes_(self) -> Array:
        """[classes], in the order of the columns of `predict_proba`; their numbers where the model tells no names."""
        if told := _classes(self._bundle):
            return np.asarray(told)
        stored = _stored(self._bundle)
        if stored.dtype.kind != "f":
            raise AttributeError("the model gives only predicted classes, and does not tell which there are")
        return np.arange(2 if stored.ndim == 1 else stored.shape[1])

    def predict(self, X: Any) -> Array:
        """The labels of samples.

        Args:
            X: What `Bundle.predict` takes: an array [n, ...], a frame, or a mapping of arrays by input.

        Returns:
            [n], of the type of the labels.

        Raises:
            InvalidData: The samples do not fit the model.
        """
        found = self._scores(X)
        if found.dtype.kind == "f":
            likely = _likely(self._bundle)
            places = found > (0.5 if likely else 0.0) if found.ndim == 1 else found.argmax(axis=1)
        elif _classes(self._bundle) and found.dtype.kind in "iub":
            places = found
        else:
            return found
        return np.asarray(self.classes_[places.astype(np.int64)])

    def _soft(self) -> bool:
        return bool(_stored(self._bundle).dtype.kind == "f")

    @available_if(_soft)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Probabilities [n, classes], float64; scores that are none are put through softmax, or the logistic function.

        Raises:
            InvalidData: The samples do not fit the model.
        """
        found = self._scores(X).astype(np.float64)
        if found.ndim == 1:
            yes = found if _likely(self._bundle) else 0.5 * (1 + np.tanh(found / 2))
            return np.stack([1 - yes, yes], axis=1)
        if not _likely(self._bundle):
            found = np.exp(found - found.max(axis=1, keepdims=True))
        return np.asarray(found / found.sum(axis=1, keepdims=True))


class BundleRegressor(RegressorMixin, BundleEstimator):  # type: ignore[misc]
    """A bundle that tells numbers."""

    def predict(self, X: Any) -> Array:
        """The numbers of samples.

        Args:
            X: What `Bundle.predict` takes: an array [n, ...], a frame, or a mapping of arrays by input.

        Returns:
            [n], or [n, numbers] where there are several.

        Raises:
            InvalidData: The samples do not fit the model.
        """
        return self._scores(X)


def estimator(bundle: Opened) -> BundleEstimator:
    """The bundle as an estimator: a classifier where it was judged as one, or gives classes or their probabilities.

    Raises:
        BundleError: It gives more than one answer a sample, which scikit-learn has no word for.
    """
    outputs = bundle.samples()[1]
    stored, folder = _judged(outputs), bundle.folder.resolve()
    if stored.ndim > 2:
        raise BundleError(
            f"an estimator of scikit-learn's gives one answer a sample, and this model gives {list(stored.shape[1:])} "
            "numbers. Call the bundle itself: Bundle.predict(inputs)."
        )
    judged_by = [metric for metric in metrics.METRICS if metric.name in bundle.content["metrics"] and metric.quality]
    classifies = any(metric.of_classes for metric in judged_by)
    if not judged_by or not any(metric.needs_labels for metric in judged_by):
        classifies |= bool(_classes(bundle)) or metrics.predictions(outputs, outputs, None) is not None
    return (BundleClassifier if classifies else BundleRegressor)(str(folder))


def _judged(outputs: dict[str, Array]) -> Array:
    """The output that metrics judge, without axes of one number."""
    found = metrics.scores(outputs)
    return found.reshape(len(found), *(size for size in found.shape[1:] if size != 1))


def _stored(bundle: Opened) -> Array:
    return _judged(bundle.samples()[1])


def _classes(bundle: Opened) -> tuple[Value, ...]:
    """What the classes are called; empty where the model does not tell."""
    return next((tensor.classes for tensor in bundle.model.signature.visible_outputs if tensor.classes), ())


def _likely(bundle: Opened) -> bool:
    """Whether scores are probabilities: all that the bundle holds decide that, not the few of one call."""
    return metrics.are_probabilities(_stored(bundle))
