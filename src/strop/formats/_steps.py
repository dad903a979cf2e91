"""What a fitted scikit-learn estimator, or each step of a pipeline, is made of: numbers, bytes, multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..model import Model
from ..structure import Layer, Structure
from ._estimators import forest_of, is_ensemble
from ._pipelines import named, walk
from ._structure import structure_of, tensor_bytes

NUMBER = 8  # bytes, of what passes between steps: float64
MULTIPLIED = (
    ("support_vectors_", "dual_coef_"), ("coefs_",), ("coef_",), ("theta_", "var_"), ("feature_log_prob_",),
    ("X_fit_", "dual_coef_"), ("X_train_", "alpha_"), ("random_weights_",),
)  # fmt: skip
"""Attributes of kinds of estimators: each number in them is multiplied with once for a sample. The first that fits
counts: vectors (a kernel machine computes with these though its kernel be linear), layers of a network, coefficients,
means and variances, log probabilities, samples that a kernel is computed with, random features."""
PROJECTING = frozenset({"PCA", "IncrementalPCA", "TruncatedSVD", "FastICA", "GaussianRandomProjection", "Nystroem"})
"""What multiplies with its components; others that have some (NMF, LDA) search for a sample's own."""
SCALING = frozenset({"MaxAbsScaler", "MinMaxScaler", "Normalizer", "RobustScaler", "StandardScaler"})
"""What multiplies each column once."""
DOING_NOTHING = frozenset({"DummyClassifier", "DummyRegressor"})
SPARSE = ("build_analyzer", "sparse_output", "sparse_output_", "idf_", "transformer_list")
"""Attributes of what may give sparse rows, whose size its columns do not tell."""


def made_of(estimator: Any, model: Model) -> Structure:
    """What a profile tells of an estimator that is no ensemble of trees by itself.

    Args:
        estimator: Fitted.
        model: What it is, on disk.
    """
    chain = named(estimator)
    (result,) = model.signature.outputs
    into = tuple(tensor.name for tensor in model.signature.inputs)
    values = {
        tensor.name: tensor_bytes(tensor) for tensor in (*model.signature.inputs, result) if tensor.dtype != "str"
    }
    layers = []
    for place, (name, step) in enumerate(chain):
        last = place == len(chain) - 1
        out = result.name if last else f"{name} gives"
        if not last and (width := _width(step, chain[place + 1][1])) is not None:
            values[out] = float(width * NUMBER)
        layers.append(_layer(name, step, model, into, out))
        into = (out,)
    kinds = [type(step).__name__ for _, step in chain]
    said = {"steps": ", then ".join(kinds)} if len(chain) > 1 else {}
    return Structure(tuple(layers), {"steps": kinds}, said, values, (result.name,))


def _layer(name: str, step: Any, model: Model, reads: tuple[str, ...], writes: str) -> Layer:
    if is_ensemble(step):
        (trees,) = structure_of(forest_of(step), model).layers
        return replace(trees, name=name, operator=type(step).__name__, reads=reads, writes=(writes,))
    arrays = [one for one in walk(step) if isinstance(one, np.ndarray) and one.dtype.kind in "fiub"]
    learned = [array for array in arrays if array.dtype.kind == "f"]
    held, read = sum(array.nbytes for array in arrays), sum(array.nbytes for array in learned)
    numbers = sum(array.size for array in learned)
    return Layer(name, type(step).__name__, operations(step), held, numbers, reads, (writes,), read)


def operations(step: Any) -> float | None:
    """Multiply-adds for one sample, where its kind tells.

    Args:
        step: Fitted.
    """
    kind, known = type(step).__name__, vars(step)
    if kind in DOING_NOTHING or hasattr(step, "get_support") or known.get("func", step) is None:  # columns as they are
        return 0.0
    if kind in SCALING:
        return float(step.n_features_in_)
    if kind == "ColumnTransformer":
        return _of_all(
            part for name, part, _ in step.transformers_
            if part not in ("drop", "passthrough") and len(step._transformer_to_input_indices[name])
        )  # fmt: skip
    if kind == "FeatureUnion":
        return _of_all(part for _, part in step.transformer_list if part not in ("drop", "passthrough"))
    if kind == "Pipeline":
        return _of_all(part for _, part in named(step))
    if kind in PROJECTING:
        return _numbers(known, ("components_", "normalization_"))
    if "_fit_X" in known:  # of neighbours: all are looked at, or those that a tree of theirs leads to
        return _numbers(known, ("_fit_X",)) if step._fit_method == "brute" else None
    return next((_numbers(known, names) for names in MULTIPLIED if names[0] in known), None)


def _of_all(parts: Any) -> float | None:
    known = [operations(part) for part in parts]
    return None if None in known else float(sum(one or 0.0 for one in known))


def _numbers(known: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """How many numbers some attributes hold; None where one is held otherwise than as arrays."""
    whole = 0
    for name in names:
        value = known.get(name, ())
        for array in value if isinstance(value, (list, tuple)) else [value]:
            if not hasattr(array, "size"):
                return None
            whole += int(array.size)
    return float(whole)


def _width(step: Any, following: Any) -> int | None:
    """Columns between two steps; None where rows may be sparse, or it is not told."""
    if any(hasattr(step, name) for name in SPARSE):
        return None
    return getattr(following, "n_features_in_", None)
