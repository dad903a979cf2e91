"""Kernel machines of scikit-learn as what they compute: sums of a kernel's values at some centers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np

from ..errors import NotApplicable

Array = np.ndarray[Any, Any]

_FORMS = ("rbf", "linear", "poly", "sigmoid")


@dataclass(frozen=True)
class Expansion:
    """`kernel(x, centers) @ weights + offset`.

    Attributes:
        centers: [centers, features], float64.
        weights: [centers, outputs]; an output may be a pair of classes.
        offset: [outputs].
        kernel: One of scikit-learn's: `rbf`, `linear`, `poly` or `sigmoid`.
        gamma, coef0, degree: Of the kernel.
    """

    centers: Array
    weights: Array
    offset: Array
    kernel: str
    gamma: float
    coef0: float = 0.0
    degree: float = 3.0

    def values(self, x: Array) -> Array:
        """The kernel at x [samples, features]: [samples, centers]."""
        products: Array = x @ self.centers.T
        if self.kernel == "linear":
            return products
        if self.kernel == "poly":
            return np.asarray((self.gamma * products + self.coef0) ** self.degree)
        if self.kernel == "sigmoid":
            return np.asarray(np.tanh(self.gamma * products + self.coef0))
        squares = np.square(x).sum(axis=1)[:, None] + np.square(self.centers).sum(axis=1)
        return np.asarray(np.exp(-self.gamma * np.maximum(squares - 2 * products, 0)))

    def __call__(self, x: Array) -> Array:
        """[samples, outputs]"""
        return np.asarray(self.values(x) @ self.weights + self.offset)

    @classmethod
    def of(cls, estimator: Any) -> Self:
        """What a support vector machine, kernel ridge regression or a Gaussian process computes.

        Of a classifier, there is one output for each pair of classes, positive for the first.

        Raises:
            NotApplicable: It is none of these, or has a kernel of another form.
        """
        if hasattr(estimator, "support_vectors_"):
            return cls(*_of_support_vectors(estimator), **_form(estimator, estimator._gamma))
        name = type(estimator).__name__
        if name == "KernelRidge":
            gamma = 1.0 / estimator.n_features_in_ if estimator.gamma is None else float(estimator.gamma)
            return cls(
                _dense(estimator.X_fit_), estimator.dual_coef_.reshape(-1, 1), np.zeros(1), **_form(estimator, gamma)
            )
        if name == "GaussianProcessRegressor":
            constant, gamma = _of_process(estimator.kernel_)
            spread, mean = float(estimator._y_train_std), float(estimator._y_train_mean)
            weights = estimator.alpha_.reshape(-1, 1) * constant * spread
            return cls(_dense(estimator.X_train_), weights, np.full(1, mean), "rbf", gamma)
        raise NotApplicable(f"a {name} is no sum of a kernel's values")

    @classmethod
    def of_process(cls, kernel: Any, centers: Any) -> tuple[float, Self]:
        """The factor of a Gaussian process's kernel, and the rest of it at some centers, without weights.

        Raises:
            NotApplicable: It is of another form.
        """
        constant, gamma = _of_process(kernel)
        return constant, cls(_dense(centers), np.zeros((len(centers), 0)), np.zeros(0), "rbf", gamma)


def _form(estimator: Any, gamma: float) -> dict[str, Any]:
    if estimator.kernel not in _FORMS:
        raise NotApplicable(
            f"its kernel must be {', '.join(_FORMS[:-1])} or {_FORMS[-1]}, and is {estimator.kernel!s:.60}"
        )
    return {
        "kernel": estimator.kernel, "gamma": float(gamma), "coef0": float(estimator.coef0),
        "degree": float(estimator.degree),
    }  # fmt: skip


def _of_support_vectors(estimator: Any) -> tuple[Array, Array, Array]:
    """libsvm's layout (Chang and Lin 2011, section 7): a vector has one weight for each of the other classes."""
    centers, weights = _dense(estimator.support_vectors_), np.asarray(_dense(estimator._dual_coef_), np.float64)
    offset = np.asarray(estimator._intercept_, np.float64)
    if not hasattr(estimator, "classes_"):
        return centers, weights.reshape(-1, 1), offset
    owner = np.repeat(np.arange(len(estimator._n_support)), estimator._n_support)
    pairs = np.zeros((len(centers), len(offset)))
    for place, (first, second) in enumerate(combinations(range(len(estimator._n_support)), 2)):
        pairs[owner == first, place] = weights[second - 1, owner == first]
        pairs[owner == second, place] = weights[first, owner == second]
    return centers, pairs, offset


def _of_process(kernel: Any) -> tuple[float, float]:
    """The factor and the gamma of a constant times an RBF; white noise is none between distinct samples."""
    name = type(kernel).__name__
    if name == "RBF" and np.ndim(kernel.length_scale) == 0:
        return 1.0, 0.5 / float(kernel.length_scale) ** 2
    parts = [getattr(kernel, side, None) for side in ("k1", "k2")]
    for one, other in (parts, parts[::-1]):
        if one is not None and name == "Product" and type(one).__name__ == "ConstantKernel":
            constant, gamma = _of_process(other)
            return constant * float(one.constant_value), gamma
        if name == "Sum" and type(one).__name__ == "WhiteKernel":
            return _of_process(other)
    raise NotApplicable(f"its kernel must be a constant times an RBF of one length, and is {kernel!s:.60}")


def _dense(array: Any) -> Array:
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array, np.float64)
