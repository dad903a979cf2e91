"""LightGBM's text of a forest: what lleaves reads."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import NotApplicable
from ..forest import Array, Forest
from ._plain_trees import columns_of_categories, precision, tree_nodes

_CATEGORICAL, _DEFAULT_LEFT, _NAN_IS_MISSING = 1, 2, 8  # of decision_type
_OBJECTIVES = {
    "identity": "regression",
    "sigmoid": "binary sigmoid:{scale!r}",
    "softmax": "multiclass num_class:{outputs}",
    "exponential": "poisson",
    "signed square": "regression sqrt",
}
_LEAF = np.zeros(1)


def is_linked(forest: Forest) -> bool:
    """Whether the text says how results are made of sums; else it stands for the sums."""
    return forest.divisor == 1 and forest.link in _OBJECTIVES and (forest.outputs == 1) == (forest.link != "softmax")


def lightgbm_text(forest: Forest) -> str:
    """The same trees; those of several outputs take turns.

    Its thresholds are meant as they stand, but that lleaves takes no zero, and gets the next number. (LightGBM itself
    takes what is within 1e-35 of zero for one.)

    Args:
        forest: A plain one.

    Raises:
        NotApplicable: LightGBM has no such trees.
    """
    if forest.values.shape[1] > 1:
        raise NotApplicable("a leaf of LightGBM's belongs to one output, and these hold all outputs")
    categories = columns_of_categories(forest)
    if forest.nan_left[(forest.feature >= 0) & (forest.subset >= 0)].any():
        raise NotApplicable("NaN is in no subset of LightGBM's, and goes left in some of these")
    by_output = [np.flatnonzero(forest.output == output).tolist() for output in range(forest.outputs)]
    objective = _OBJECTIVES[forest.link] if is_linked(forest) else "custom"
    head = {
        "version": "v4",
        "num_class": str(forest.outputs),
        "num_tree_per_iteration": str(forest.outputs),
        "label_index": "0",
        "max_feature_idx": str(forest.features - 1),
        "objective": objective.format(scale=forest.scale, outputs=forest.outputs),
        "feature_names": " ".join(f"Column_{place}" for place in range(forest.features)),
        "feature_infos": " ".join("0:1" if listed else "[-inf:inf]" for listed in categories),
        "tree_sizes": " ".join(["0"] * forest.outputs * max(map(len, by_output))),
    }
    return "\n".join(
        ["tree", *_lines(head), "", *_trees(forest, by_output), "end of trees", "", "pandas_categorical:[]", ""]
    )


def _trees(forest: Forest, by_output: list[list[int]]) -> Iterable[str]:
    nodes = tree_nodes(forest)
    for turn in range(max(map(len, by_output))):
        for output, trees in enumerate(by_output):
            yield f"Tree={turn * forest.outputs + output}"
            yield from _lines(_tree(forest, nodes[trees[turn]]) if turn < len(trees) else _described(values=_LEAF))
            yield ""


def _tree(forest: Forest, nodes: slice) -> dict[str, str]:
    feature, subset = forest.feature[nodes], forest.subset[nodes]
    split = feature >= 0
    place = np.where(split, np.cumsum(split) - 1, 0 - np.cumsum(~split))  # leaves are numbered from -1 down
    listed = subset[split] >= 0
    words = [_words(forest.subset_of(nodes.start + int(node))) for node in np.flatnonzero(subset >= 0)]
    threshold = forest.threshold[nodes][split]
    threshold = np.where(threshold == 0, np.finfo(precision(forest)).smallest_subnormal, threshold)
    kind = np.where(listed, _CATEGORICAL, _NAN_IS_MISSING + _DEFAULT_LEFT * forest.nan_left[nodes][split])
    return _described(
        feature[split], np.where(listed, np.cumsum(listed) - 1, threshold), kind,
        place[forest.left[nodes][split] - nodes.start], place[forest.right[nodes][split] - nodes.start],
        forest.values[forest.leaf[nodes][~split], 0], words,
    )  # fmt: skip


def _described(
    feature: Array = _LEAF[:0], threshold: Array = _LEAF[:0], kind: Array = _LEAF[:0], left: Array = _LEAF[:0],
    right: Array = _LEAF[:0], values: Array = _LEAF, words: list[Array] | None = None,
) -> dict[str, str]:  # fmt: skip
    said = {
        "num_leaves": str(len(values)), "num_cat": str(len(words or ())), "split_feature": _listed(feature),
        "threshold": _listed(threshold), "decision_type": _listed(kind), "left_child": _listed(left),
        "right_child": _listed(right), "leaf_value": _listed(values),
    }  # fmt: skip
    if words:
        said["cat_boundaries"] = _listed(np.cumsum([0, *map(len, words)]))
        said["cat_threshold"] = _listed(np.concatenate(words))
    return {**said, "is_linear": "0", "shrinkage": "1"}


def _words(members: Array) -> Array:
    """A subset as bits, in words of 32; one at the least."""
    bits = np.zeros(32 * (int(members.max(initial=0)) // 32 + 1), bool)
    bits[members] = True
    return np.packbits(bits, bitorder="little").view("<u4")


def _listed(values: Array) -> str:
    return " ".join(map(repr, values.tolist()))


def _lines(said: dict[str, str]) -> Iterable[str]:
    return (f"{key}={value}" for key, value in said.items())
