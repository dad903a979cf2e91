"""What a `.skops` file may hold besides what skops trusts by itself: types that run no code, and are made safe."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._estimators import is_ensemble, trees
from ._pipelines import walk

_KERNELS = (
    "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern", "Product", "RBF",
    "RationalQuadratic", "Sum", "WhiteKernel",
)  # fmt: skip
_DISTANCES = (
    "BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard", "Mahalanobis",
    "Manhattan", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean", "SokalSneath",
)  # fmt: skip
_LOSSES = (
    "AbsoluteError", "ExponentialLoss", "HalfBinomialLoss", "HalfGammaLoss", "HalfMultinomialLoss", "HalfPoissonLoss",
    "HalfSquaredError", "HalfTweedieLoss", "HalfTweedieLossIdentity", "HuberLoss", "PinballLoss",
)  # fmt: skip
_FITTED = {"n_features_in_", "tree_", "estimators_", "_predictors"}  # one of these, and it is more than a template
_TESTS = ("chi2", "f_classif", "f_regression", "r_regression")

TRUSTED = (
    "functools.partial",
    "numpy.dtype",
    "numpy.mean",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    *(f"scipy.sparse._{kind}.{kind}_{of}" for kind in ("csr", "csc") for of in ("array", "matrix")),
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS),
    *(f"sklearn._loss.loss.{name}" for name in _LOSSES),
    *(f"sklearn.feature_selection._univariate_selection.{name}" for name in _TESTS),
    *(f"sklearn.feature_selection._mutual_info.mutual_info_{task}" for task in ("classif", "regression")),
    *(f"sklearn.metrics._dist_metrics.{name}Distance{bits}" for name in _DISTANCES for bits in (32, 64)),
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)
"""Types that skops does not trust by itself. The indexes of trees may lead anywhere: `make_safe` sees to them."""


def make_safe(estimator: Any) -> None:
    """Look at what scikit-learn follows unseen: trees and sparse matrices are gone through, neighbours' built anew.

    Raises:
        ValueError: An index leads out of bounds.
    """
    for one in list(walk(estimator)):
        if is_ensemble(one) and not vars(one).keys().isdisjoint(_FITTED):
            for _ in trees(one):
                pass
        elif hasattr(one, "support_vectors_") and hasattr(one, "_n_support"):
            _check_machine(one)
        elif hasattr(one, "check_format"):
            one.check_format(full_check=True)
        elif hasattr(one, "_fit_X") and getattr(one, "_tree", None) is not None:
            kind, samples = type(one._tree), np.ascontiguousarray(one._fit_X, np.float64)
            parameters = one.effective_metric_params_ or {}
            one._tree = kind(samples, one.leaf_size, metric=one.effective_metric_, **parameters)


def _check_machine(machine: Any) -> None:
    """libsvm takes all sizes from some of the arrays, and reads as far in the others."""
    count, classes = machine.support_vectors_.shape[0], len(getattr(machine, "classes_", ())) or 2
    pairs = classes * (classes - 1) // 2
    owned = np.asarray(machine._n_support)
    wanted = {
        "_dual_coef_": (machine._dual_coef_.shape, (classes - 1, count)),
        "_intercept_": (np.shape(machine._intercept_), (pairs,)),
        "support_": (np.shape(machine.support_), (count,)),
        "_n_support": (int(owned.sum() if hasattr(machine, "classes_") else owned[0]), count),
        "_probA": (np.size(machine._probA) in (0, pairs), True),
        "_probB": (np.size(machine._probB), np.size(machine._probA)),
    }
    for name, (found, due) in wanted.items():
        if found != due or (owned < 0).any():
            raise ValueError(f"{name} of a support vector machine does not fit its {count} vectors")
