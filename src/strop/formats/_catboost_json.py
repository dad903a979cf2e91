"""CatBoost's export in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import UnsupportedModel
from ..forest import Array
from . import _catboost
from ._catboost import Parts, Split, Splits, Statistics

_NAN_ABOVE = {"AsIs": False, "AsFalse": False, "AsTrue": True}
_EMPTY = (1 << 64) - 1  # the key of a place in a hash map that holds nothing
_MEANS = ("BinarizedTargetMeanValue", "FloatTargetMeanValue")


def read(given: Any) -> Parts:
    """All that a file holds, parsed.

    Trees refer to splits by `split_index`, as CatBoost itself reads them; what else is written of a split is not read.

    Raises:
        LookupError, TypeError, ValueError, ArithmeticError: It lacks something, or holds what can't be.
        UnsupportedModel: As in `_cbm.read`.
    """
    features = given["features_info"]
    if features.get("text_features") or features.get("embedding_features"):
        raise UnsupportedModel(_catboost.NO_TEXTS)
    known = [*features.get("float_features", ()), *features.get("categorical_features", ())]
    scale, bias = given["scale_and_bias"]
    found = _numbers(bias, "the bias")
    splits = Splits(list(_splits(features, given.get("ctr_data", {}))))
    if "trees" in given:
        trees = [_any_shape(splits, tree, len(found)) for tree in given["trees"] or ()]
    else:
        trees = [_symmetric(splits, tree, len(found)) for tree in given["oblivious_trees"] or ()]
    names = {_catboost.column_of(one["flat_feature_index"]): str(one.get("feature_id", "")) for one in known}
    info = given["model_info"]
    return Parts(names, trees, float(scale), found, _catboost.loss_of(info), _catboost.classes_of(info))


def _splits(features: Mapping[str, Any], tables: Mapping[str, Any]) -> Iterator[Split]:
    """In the order of their numbers."""
    for one in features.get("float_features", ()):
        nan_above = _NAN_ABOVE[one["nan_value_treatment"]] and bool(one["has_nans"])
        borders = _numbers(one["borders"], "the borders").astype(np.float32)
        yield from _catboost.by_borders(_catboost.column_of(one["flat_feature_index"]), borders, nan_above)
    columns = {}
    for one in features.get("categorical_features", ()):
        columns[one["feature_index"]] = _catboost.column_of(one["flat_feature_index"])
        values = _whole(one.get("values", ()), "a category").astype(np.int32)
        yield from _catboost.by_categories(columns[one["feature_index"]], values)
    known: dict[str, Statistics] = {}
    for one in features.get("ctrs", ()):
        if [part["combination_element"] for part in one["elements"]] != ["cat_feature_value"]:
            raise UnsupportedModel(_catboost.NO_COMBINATIONS)
        column, base = columns[one["elements"][0]["cat_feature_index"]], one["identifier"]
        if base not in known:
            known[base] = _statistics(column, one["ctr_type"], tables[base])
        yield from _catboost.by_statistics(
            column, known[base], _numbers(one["borders"], "the borders").astype(np.float32), one["target_border_idx"],
            (one["prior_numerator"], one["prior_denomerator"]), one["shift"], one["scale"],
        )  # fmt: skip


def _statistics(column: int, kind: str, table: Mapping[str, Any]) -> Statistics:
    stride = int(table["hash_stride"])
    if stride < 2 or len(table["hash_map"]) % stride:
        raise ValueError(f"a statistic has {len(table['hash_map'])} entries in steps of {stride}")
    keys = [int(key) for key in table["hash_map"][::stride]]
    rows = [at for at, key in enumerate(keys) if key != _EMPTY]
    counts = np.column_stack([_numbers(table["hash_map"][at::stride], "a count") for at in range(1, stride)])
    if kind in _MEANS and stride != 3:
        raise ValueError(f"a statistic of means has entries in steps of {stride}")
    return _catboost.statistics(
        column, np.array([keys[at] for at in rows], np.uint64), counts[rows], kind, int(table["counter_denominator"])
    )


def _symmetric(splits: Splits, tree: Mapping[str, Any], outputs: int) -> dict[str, Array]:
    of = _whole([one["split_index"] for one in tree["splits"] or ()], "a split")
    values = _numbers(tree["leaf_values"], "the values of leaves").reshape(-1, outputs)
    counts = _numbers(tree.get("leaf_weights", ()), "the counts of leaves")
    _catboost.check_depths(np.array([len(of)]), len(values))
    if len(counts) not in (0, len(values)):
        raise ValueError(f"a tree has {len(values)} leaves, and counts of {len(counts)}")
    return _catboost.symmetric(splits, of, values, counts)


def _any_shape(splits: Splits, tree: Mapping[str, Any], outputs: int) -> dict[str, Array]:
    """Trees within trees."""
    inner: list[Any] = []
    leaves: list[Any] = []
    children: dict[tuple[int, str], int] = {}
    waiting: list[tuple[Any, tuple[int, str]]] = [(tree, (-1, ""))]
    for node, place in waiting:  # grows meanwhile
        if "split" in node:
            children[place] = len(inner)
            waiting += [(node[side], (len(inner), side)) for side in ("left", "right")]
            inner.append(node["split"]["split_index"])
        else:
            children[place] = -1 - len(leaves)
            leaves.append(node)
    ends = {side: np.array([children[at, side] for at in range(len(inner))], np.int64) for side in ("left", "right")}
    low, high = (np.where(end < 0, len(inner) - 1 - end, end) for end in ends.values())
    values = [value for leaf in leaves for value in (leaf["value"] if outputs > 1 else [leaf["value"]])]
    counts = [leaf["weight"] for leaf in leaves if "weight" in leaf]
    return _catboost.nodes(
        splits, _whole(inner, "a split"), low, high, _numbers(values, "the values of leaves").reshape(-1, outputs),
        _numbers(counts if len(counts) == len(leaves) else (), "the counts of leaves"),
    )  # fmt: skip


def _numbers(given: Any, name: str) -> Array:
    return _listed(given, name, "iuf").astype(np.float64)


def _whole(given: Any, name: str) -> Array:
    return _listed(given, name, "iu").astype(np.int64)


def _listed(given: Any, name: str, kinds: str) -> Array:
    found = np.asarray(given)
    if found.ndim != 1 or (found.size and found.dtype.kind not in kinds):
        raise ValueError(f"{name} must be a list of numbers, and is {found.dtype} {found.shape}")
    return found
