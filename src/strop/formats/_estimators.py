"""scikit-learn's ensembles of trees, read into forests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable, UnsupportedModel
from ..forest import Array, Forest
from .trees import MOST_OUTPUTS, inside, joined

if TYPE_CHECKING:
    from scipy import special
else:
    special = lazy("scipy.special")

_AVERAGED = ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")  # of one tree, some
_BOOSTED, _BINNED = "GradientBoosting", "HistGradientBoosting"
_KINDS = {f"{name}{task}": name for task in ("Classifier", "Regressor") for name in (*_AVERAGED, _BOOSTED, _BINNED)}
_MOST_CATEGORIES = 1 << 31


def is_ensemble(estimator: Any) -> bool:
    """Whether it is one of scikit-learn's own ensembles of trees; looks at its class only."""
    return type(estimator).__name__ in _KINDS and type(estimator).__module__.split(".")[0] == "sklearn"


def check(estimator: Any) -> str:
    """Which ensemble it is: `RandomForest`, `HistGradientBoosting`, ...

    Raises:
        UnsupportedModel: It is none of scikit-learn's own, not fitted, or has several targets.
    """
    name = type(estimator).__name__
    if not is_ensemble(estimator):
        raise UnsupportedModel(
            f"A forest is read from scikit-learn's own ensembles of trees ({', '.join(_KINDS)}), and this is "
            f"{type(estimator).__module__}.{name}. Take it as it is."
        )
    if not hasattr(estimator, "n_features_in_"):
        raise UnsupportedModel(f"A model must be trained, and this {name} is not. Call fit first.")
    if (targets := getattr(estimator, "n_outputs_", 1)) != 1:
        raise UnsupportedModel(f"A model must have one target, and this {name} has {targets}. Train one for each.")
    return _KINDS[name]


def forest_of(estimator: Any) -> Forest:
    """A forest that gives what `predict_proba` of a classifier, or `predict` of a regressor gives.

    Raises:
        UnsupportedModel: `check` refuses it, or it begins with a model of its own.
        ValueError, AttributeError, ...: It is broken.
    """
    kind = check(estimator)
    classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
    found = list(trees(estimator))
    settings: dict[str, Any] = {"dtype": "float64" if kind == _BINNED else "float32"}
    if kind in _AVERAGED:
        base = np.zeros(max(classes, 1))
        settings |= {"link": "probabilities" if classes else "identity", "divisor": float(len(found))}
    else:
        base = _prior(estimator) if kind == _BOOSTED else np.asarray(estimator._baseline_prediction).reshape(-1)
        if not 1 <= len(base) <= MOST_OUTPUTS or len(base) != (classes if classes > 2 else 1):
            raise ValueError(f"it begins with {len(base)} numbers for {classes} classes")
        link = "sigmoid of two" if classes else "exponential" if estimator.loss in ("poisson", "gamma") else "identity"
        settings |= {"link": "softmax" if classes > 2 else link, "scale": 2.0 if estimator.loss == "exponential" else 1}
    output = np.zeros(len(found), np.int64) if kind in _AVERAGED else np.arange(len(found)) % len(base)
    names = tuple(map(str, getattr(estimator, "feature_names_in_", ())))
    return joined(found, output, base, int(estimator.n_features_in_), names=names, **settings)


def first_of(estimator: Any) -> Any:
    """The ensemble with its first round, or first tree, only; changed in place.

    Raises:
        NotApplicable: It has no more.
    """
    parts = "_predictors" if check(estimator) == _BINNED else "estimators_"
    if len(getattr(estimator, parts, ())) < 2:
        raise NotApplicable("it has one tree, or one round of boosting, at the most")
    setattr(estimator, parts, getattr(estimator, parts)[:1])
    if "n_estimators" in estimator.get_params(deep=False):
        estimator.n_estimators = 1
    return estimator


def trees(estimator: Any) -> Iterator[dict[str, Array]]:
    """The arrays of one tree after the other, as `joined` takes them.

    scikit-learn follows their indexes unseen: what this has gone through to its end is safe to run.

    Raises:
        ValueError: An index is out of bounds, or leads back.
    """
    kind, features = check(estimator), int(estimator.n_features_in_)
    if kind == _BINNED:
        columns = _Columns(estimator)
        for predictors in estimator._predictors:
            if len(predictors) != estimator.n_trees_per_iteration_:
                raise ValueError(f"a round has {len(predictors)} trees, not {estimator.n_trees_per_iteration_}")
            yield from (_binned(predictor, columns) for predictor in predictors)
        return
    single = hasattr(estimator, "tree_")
    parts = [estimator] if single else np.asarray(estimator.estimators_).reshape(-1)
    width = len(estimator.classes_) if kind in _AVERAGED and hasattr(estimator, "classes_") else 1
    for part in parts:
        if part.n_features_in_ != features or part.tree_.n_features != features:
            raise ValueError(f"a tree has {part.tree_.n_features} features, and all together {features}")
        yield _plain(part.tree_, width, estimator.learning_rate if kind == _BOOSTED else 1.0)


def _plain(tree: Any, width: int, rate: float) -> dict[str, Array]:
    """A `sklearn.tree._tree.Tree`; at a split NaN goes where training sent most, or what was missing."""
    if not 1 <= tree.node_count <= tree.capacity or (tree.n_outputs, tree.max_n_classes) != (1, width):
        raise ValueError(f"a tree has {tree.node_count} nodes, and room for {tree.capacity} of another shape")
    state = tree.__getstate__()
    nodes, values = state["nodes"], state["values"][:, 0]
    split = nodes["left_child"] != -1
    left, right = _children(nodes["left_child"], nodes["right_child"], split)
    weight, gain = nodes["weighted_n_node_samples"], np.full(len(nodes), np.nan)
    lost = weight * nodes["impurity"]
    gain[split] = lost[split] - lost[left[split]] - lost[right[split]]
    return {
        "feature": np.where(split, _inside(nodes["feature"], split, tree.n_features, "a feature"), -1),
        "threshold": np.where(split, nodes["threshold"], 0),
        "left": left,
        "right": right,
        "nan_left": split & (nodes["missing_go_to_left"] > 0),
        "gain": gain,
        "count": weight,
        "subset": np.full(len(nodes), -1),
        "members": np.zeros(0, np.int64),
        "member_ends": np.zeros(0, np.int64),
        **_leaves(split, values[~split] * rate),
    }


class _Columns:
    """What the trees of HistGradientBoosting know of columns: they see categorical ones first, as codes.

    Attributes:
        order: [features], the column of the input that each one of theirs is.
        categories: By their columns: the values [codes] that are categories.
    """

    def __init__(self, estimator: Any):
        self.features = int(estimator.n_features_in_)
        self.order, self.categories = np.arange(self.features), dict[int, Array]()
        flags = estimator.is_categorical_
        if flags is None:
            return
        flags = np.asarray(flags, bool)
        own = np.asarray(estimator._bin_mapper.is_categorical_, bool)
        count = int(flags.sum())
        if flags.shape != (self.features,) or not np.array_equal(own, np.arange(self.features) < count):
            raise ValueError("is_categorical_ does not fit the columns")
        self.order = np.argsort(~flags, kind="stable")
        found = estimator._preprocessor.named_transformers_["encoder"].categories_
        if len(found) != count:
            raise ValueError(f"there are categories of {len(found)} columns, not {count}")
        self.categories = {place: _whole(values, int(self.order[place])) for place, values in enumerate(found)}


def _whole(values: Any, column: int) -> Array:
    """Categories as whole numbers; NaN, which may come last, is what is missing."""
    values = np.asarray(values)
    if values.dtype.kind in "fiub":
        numbers = values.astype(np.float64)
        numbers = numbers[~np.isnan(numbers)]
        if ((numbers == np.trunc(numbers)) & (numbers >= 0) & (numbers < _MOST_CATEGORIES)).all():
            whole: Array = numbers.astype(np.int64)
            return whole
    raise UnsupportedModel(
        f"Categories must be whole numbers from 0, and column {column} has {values[:3].tolist()}. Train it on codes, "
        "as OrdinalEncoder gives them."
    )


def _binned(predictor: Any, columns: _Columns) -> dict[str, Array]:
    """A `TreePredictor`. A category that was not trained with goes where what is missing goes."""
    nodes = predictor.nodes
    split = nodes["is_leaf"] == 0
    left, right = _children(nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), split)
    feature = _inside(nodes["feature_idx"], split, columns.features, "a feature")
    nan_left, listed = split & (nodes["missing_go_to_left"] > 0), np.flatnonzero(split & (nodes["is_categorical"] > 0))
    bits = np.asarray(predictor.raw_left_cat_bitsets, np.uint32)
    which = inside(nodes["bitset_idx"][listed].astype(np.int64), len(bits), "a bitset")
    subset, members = np.full(len(nodes), -1), [np.zeros(0, np.int64)]
    for place, (node, row) in enumerate(zip(listed, which, strict=True)):
        values = columns.categories[int(feature[node])]
        goes_left = np.unpackbits(bits[row].astype("<u4").view(np.uint8), bitorder="little")[: len(values)] > 0
        subset[node] = place
        members.append(values[goes_left != nan_left[node]])  # all others, known or not, take the other side
    swapped = np.isin(np.arange(len(nodes)), listed) & nan_left
    return {
        "feature": np.where(split, columns.order[feature], -1),
        "threshold": np.where(split & (subset < 0), nodes["num_threshold"], 0),
        "left": np.where(swapped, right, left),
        "right": np.where(swapped, left, right),
        "nan_left": nan_left & ~swapped,
        "gain": np.where(split, nodes["gain"], np.nan),
        "count": nodes["count"],
        "subset": subset,
        "members": np.concatenate(members),
        "member_ends": np.cumsum([len(one) for one in members[1:]], dtype=np.int64),
        **_leaves(split, nodes["value"][~split, None]),
    }


def _leaves(split: Array, values: Array) -> dict[str, Array]:
    leaf = np.where(split, -1, np.cumsum(~split) - 1)
    return {"leaf": leaf, "values": values, "zero_missing": np.zeros(len(split), bool)}


def _children(left: Array, right: Array, split: Array) -> tuple[Array, Array]:
    """Both children of each split, which come after it; -1 for leaves."""
    for side in (left, right):
        if (side[split] <= np.flatnonzero(split)).any():
            raise ValueError("a node leads back")
        _inside(side, split, len(split), "a child")
    return np.where(split, left, -1), np.where(split, right, -1)


def _inside(values: Array, split: Array, most: int, what: str) -> Array:
    """The same indexes, those of splits within [0, most), and 0 for leaves."""
    inside(values[split], most, what)
    return np.where(split, values, 0)


def _prior(estimator: Any) -> Array:
    """What the sums of GradientBoosting begin with."""
    outputs, start = estimator.estimators_.shape[1], estimator.init_
    if start == "zero":
        return np.zeros(outputs)
    if not type(start).__name__.startswith("Dummy") or type(start).__module__ != "sklearn.dummy":
        raise UnsupportedModel(
            f"A GradientBoosting model must begin with a constant, and this begins with what {type(start).__name__} "
            "predicts (init). Train it without init."
        )
    row = np.zeros((1, int(estimator.n_features_in_)))
    if not hasattr(estimator, "classes_"):
        return np.asarray(start.predict(row), np.float64).reshape(-1)
    least = np.finfo(np.float64).eps
    shares = np.clip(start.predict_proba(row)[0].astype(np.float64), least, 1 - least)
    if outputs > 1:
        return np.asarray(np.log(shares) - np.log(shares).mean())
    return np.asarray(special.logit(shares[1:]) / (2 if estimator.loss == "exponential" else 1))
