"""The tree ensembles of ai.onnx.ml, read as ONNX Runtime reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import Array, Forest
from .trees import MOST_OUTPUTS, inside

if TYPE_CHECKING:
    import onnx
    from onnx import numpy_helper
else:
    onnx = lazy("onnx")
    numpy_helper = lazy("onnx.numpy_helper")

DOMAIN = "ai.onnx.ml"
OPERATORS = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"})
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_LT, _GTE, _GT, _EQ = 1, 2, 3, 4
_MOST_CATEGORIES = 1 << 24
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_LINKS = {"NONE": "identity", "SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
_MOST_VALUES = 1 << 28


class _Attributes:
    """Of one node, by name."""

    def __init__(self, node: onnx.NodeProto):
        self.by_name = {attribute.name: attribute for attribute in node.attribute}

    def listed(self, name: str) -> Sequence[Any]:
        """Whole numbers or words; none where the node does not say."""
        found = self.by_name.get(name)
        return [*found.ints, *found.strings] if found is not None else []

    def whole(self, name: str, default: int) -> int:
        return int(self.by_name[name].i) if name in self.by_name else default

    def ints(self, name: str, size: int | None = None) -> Array:
        return self._sized(np.array(self.listed(name), np.int64), name, size)

    def tracks(self, size: int) -> Array:
        """Whether NaN takes the true branch."""
        name = "nodes_missing_value_tracks_true"
        return self.ints(name, size) == 1 if self.listed(name) else np.zeros(size, bool)

    def floats(self, name: str, size: int | None = None) -> Array:
        """A list of float32, or the tensor that may be given in its place."""
        found = self.by_name.get(name)
        tensor = self.by_name.get(f"{name}_as_tensor", found)
        if tensor is not None and tensor.HasField("t"):
            return self._sized(numpy_helper.to_array(tensor.t).astype(np.float64), name, size)
        return self._sized(np.array(found.floats if found else [], np.float64), name, size)

    def word(self, name: str, default: str, known: tuple[str, ...]) -> str:
        """A word, which the newest operator gives by its number."""
        if name not in self.by_name:
            return default
        attribute = self.by_name[name]
        found = attribute.s.decode() if attribute.s else known[inside(np.array([attribute.i]), len(known), name)[0]]
        if found not in known:
            raise ValueError(f"{name} is {found[:20]!r}")
        return found

    def _sized(self, found: Array, name: str, size: int | None) -> Array:
        if size is not None and len(found) != size:
            raise ValueError(f"{name} holds {len(found)} numbers, and must hold {size}")
        return found


def ensemble(node: onnx.NodeProto, features: int, dtype: str) -> Forest:
    """The forest of one node, its sums in the type of the node's results.

    Raises:
        NotApplicable: No forest can do the same.
        LookupError, ValueError: The node is broken.
    """
    given = _Attributes(node)
    transform = given.word("post_transform", "NONE", _TRANSFORMS)
    aggregate = given.word("aggregate_function", "SUM", _AGGREGATES)
    if transform not in _LINKS or aggregate not in ("SUM", "AVERAGE"):
        raise NotApplicable(f"no forest has aggregate_function {aggregate} and post_transform {transform}")
    if node.op_type == "TreeEnsemble" and transform != "NONE":
        raise NotApplicable("ONNX and ONNX Runtime number the post_transforms of the newest operator differently")
    base, sums = given.floats("base_values"), "float32"
    if node.op_type == "TreeEnsemble":
        splits, leaves = _by_leaves(given)
        outputs, sums = given.whole("n_targets", 1), dtype
    elif node.op_type == "TreeEnsembleRegressor":
        splits, leaves = _by_nodes(given, "target")
        outputs = given.whole("n_targets", 1)
    else:
        splits, leaves = _by_nodes(given, "class")
        outputs = sum(len(given.listed(f"classlabels_{kind}")) for kind in ("int64s", "strings"))
    if not 0 < outputs <= MOST_OUTPUTS or leaves.rows * outputs > _MOST_VALUES:
        raise ValueError(f"its {outputs} outputs are none, or too many")
    inside(leaves.output, outputs, "the output of a leaf")
    inside(splits["feature"][splits["feature"] >= 0], features, "the feature that a node looks at")
    trees = len(splits["roots"])
    if not trees:
        raise NotApplicable("there are no trees")
    if node.op_type == "TreeEnsembleClassifier" and outputs < 3:
        sum_up = _of_two_classes(splits, leaves, outputs, base, transform)
    else:
        sum_up = _of_outputs(splits, leaves, outputs, base, transform)
    if aggregate == "AVERAGE" and trees > 1:
        sum_up |= {"divisor": float(trees), "base": sum_up["base"] * trees}
    return Forest(**_compared(splits, dtype), **sum_up, features=features, dtype=dtype, sums=sums)


def keep_first_tree(node: onnx.NodeProto) -> None:
    """Take out all trees of a node but the first; `ensemble` has read it before.

    Raises:
        NotApplicable: It has no more.
    """
    given = _Attributes(node)
    if node.op_type == "TreeEnsemble":
        if len(given.listed("tree_roots")) < 2:
            raise NotApplicable("it has one tree at the most")
        del given.by_name["tree_roots"].ints[1:]
        return
    if len(set(given.listed("nodes_treeids"))) < 2:
        raise NotApplicable("it has one tree at the most")
    prefix = "class" if node.op_type == "TreeEnsembleClassifier" else "target"
    first = given.listed("nodes_treeids")[0]
    kept = {
        kind: [place for place, tree in enumerate(given.listed(f"{kind}_treeids")) if tree == first]
        for kind in ("nodes", prefix)
    }
    for name, attribute in given.by_name.items():
        places = kept.get(name.partition("_")[0])
        if places is None:
            continue
        for values in (attribute.ints, attribute.floats, attribute.strings):
            if values:
                few: Any = [values[place] for place in places]
                del values[:]
                values.extend(few)
        if attribute.HasField("t"):
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t)[places]))


@dataclass(frozen=True)
class _Leaves:
    """What leaves add: `weight` of them to `output`, each [weights]; `of` is the row of the leaf, of `rows` in all."""

    of: Array
    output: Array
    weight: Array
    rows: int

    def values(self, outputs: int, splits: Mapping[str, Array]) -> dict[str, Array]:
        """What a `Forest` calls `values` and `output`: one number a leaf where that does."""
        times = np.bincount(self.of, minlength=self.rows)
        if outputs == 1 and (times != 1).any():
            raise NotApplicable("a leaf adds several numbers to one output, or none")
        trees = len(splits["roots"])
        of_leaf = np.full(self.rows, -1)
        of_leaf[self.of] = self.output
        ends = splits["leaf"] >= 0
        tree, output = splits["tree"][ends], of_leaf[splits["leaf"][ends]]
        of_tree = np.zeros(trees, np.int64)
        of_tree[tree] = output
        if (times == 1).all() and (of_tree[tree] == output).all():
            values = np.zeros((self.rows, 1))
            values[self.of, 0] = self.weight
            return {"values": values, "output": of_tree}
        values = np.zeros((self.rows, outputs))
        np.add.at(values, (self.of, self.output), self.weight)
        return {"values": values, "output": np.zeros(trees, np.int64)}


def _of_outputs(
    splits: Mapping[str, Array], leaves: _Leaves, outputs: int, base: Array, transform: str
) -> dict[str, Any]:
    if len(base) not in (0, outputs):
        raise ValueError(f"base_values holds {len(base)} numbers for {outputs} outputs")
    if outputs == 1 and transform != "NONE":
        raise NotApplicable(f"ONNX Runtime leaves out the post_transform {transform} of one output")
    base = base if len(base) else np.zeros(outputs)
    return leaves.values(outputs, splits) | {"base": base, "link": _LINKS[transform]}


def _of_two_classes(
    splits: Mapping[str, Array], leaves: _Leaves, outputs: int, base: Array, transform: str
) -> dict[str, Any]:
    """As ONNX Runtime takes two classes: leaves that only speak of the first are of a score for the second.

    Such a score s makes -s and s of it, or 1 - s and s where no weight is negative; LOGISTIC is done to -s and s
    always, SOFTMAX never.
    """
    if outputs < 2:
        raise NotApplicable("there is one class, and nothing to tell")
    if leaves.output.any():
        ends = splits["leaf"] >= 0
        second = np.isin(splits["leaf"][ends], leaves.of[leaves.output == 1])
        silent = np.bincount(splits["tree"][ends], ~second, len(splits["roots"]))
        if len(base) or (silent > 0).all():
            raise NotApplicable("what ONNX Runtime makes of these two classes depends on the leaves reached")
        return _of_outputs(splits, leaves, 2, base, transform)
    if len(base) > 1:
        raise NotApplicable("two base values for one score are taken apart by ONNX Runtime")
    score = _of_outputs(splits, leaves, 1, base, "NONE")
    if transform == "LOGISTIC":
        return score | {"link": "sigmoid of two"}
    whole = float((leaves.weight >= 0).all())
    return score | {"values": score["values"] * [-1, 1], "base": score["base"] * [-1, 1] + [whole, 0]}


def _compared(given: Mapping[str, Array], dtype: str) -> dict[str, Any]:
    """`x <= threshold`, or a subset of categories, in the place of every way of comparing."""
    splits = _with_subsets(given)
    mode, threshold, split = splits["mode"], splits["threshold"], splits["feature"] >= 0
    if (mode > _EQ).any():
        raise NotApplicable(f"no forest compares by {_MODES[mode.max()]}")
    strict, swapped = split & np.isin(mode, (_LT, _GTE)), split & np.isin(mode, (_GTE, _GT))
    if (strict & (threshold == -np.inf)).any():
        raise NotApplicable("a threshold is the least of all, and nothing lies under it")
    under = np.nextafter(threshold.astype(dtype), np.dtype(dtype).type(-np.inf))
    _check_unshared(splits)
    size = len(mode)
    return {
        **{name: splits[name] for name in ("feature", "leaf", "roots", "subset", "members", "member_ends")},
        "threshold": np.where(strict, under, np.where(split & (mode != _EQ), threshold, 0)),
        "left": np.where(swapped, splits["right"], splits["left"]), "zero_missing": np.zeros(size, bool),
        "right": np.where(swapped, splits["left"], splits["right"]), "nan_left": split & (splits["nan_left"] ^ swapped),
        "count": np.full(size, np.nan), "gain": np.full(size, np.nan),
    }  # fmt: skip


def _with_subsets(splits: Mapping[str, Array]) -> dict[str, Array]:
    """Equality with a category as a subset, and so a chain of such nodes, which all lead to one place."""
    equal, size = splits["mode"] == _EQ, len(splits["mode"])
    category = splits["threshold"][equal]
    if ((category < 0) | (category >= _MOST_CATEGORIES) | (category != np.trunc(category))).any():
        raise NotApplicable("no forest compares for equality with what is no category")
    found = {name: values.copy() for name, values in splits.items()}
    feature, left, right, nan_left = (found[name] for name in ("feature", "left", "right", "nan_left"))
    further = np.where(equal, right, 0)  # only one way leads to it, and its true branch is the same
    joins = equal & equal[further] & (_arrivals(splits)[further] == 1)
    joins &= (feature[further] == feature) & (left[further] == left)
    taken = further[joins]
    subset, members = np.full(size, -1), [np.zeros(0, np.int64)]
    for head in np.setdiff1d(np.flatnonzero(equal), taken):
        chain = [head]
        while joins[chain[-1]]:
            chain.append(further[chain[-1]])
        subset[head] = len(members) - 1
        members.append(np.unique(splits["threshold"][chain]).astype(np.int64))
        right[head], nan_left[head] = right[chain[-1]], nan_left[chain].any()
    for name, value in (("feature", -1), ("left", -1), ("right", -1), ("mode", 0), ("leaf", 0)):
        found[name][taken] = value  # leaves that nothing leads to
    ends = np.cumsum([len(one) for one in members[1:]], dtype=np.int64)
    return found | {"subset": subset, "members": np.concatenate(members), "member_ends": ends}


def _arrivals(splits: Mapping[str, Array]) -> Array:
    split = splits["feature"] >= 0
    ways = np.r_[splits["roots"], splits["left"][split], splits["right"][split]]
    return np.bincount(ways, minlength=len(split))


def _check_unshared(splits: Mapping[str, Array]) -> None:
    """Tell nodes that several branches share, which ONNX Runtime takes, from a cycle.

    Raises:
        NotApplicable: There are such.
        ValueError: There is a cycle.
    """
    if (_arrivals(splits) < 2).all():
        return
    nodes = splits["roots"]
    for _ in range(len(splits["feature"])):
        nodes = nodes[splits["feature"][nodes] >= 0]
        nodes = np.unique(np.r_[splits["left"][nodes], splits["right"][nodes]])
        if not len(nodes):
            raise NotApplicable("branches share nodes, and those of a forest do not")
    raise ValueError("its nodes lead in a cycle")


def _by_nodes(given: _Attributes, prefix: str) -> tuple[dict[str, Array], _Leaves]:
    """The older operators: nodes and weights go by the ids of tree and node."""
    modes = given.listed("nodes_modes")
    size = len(modes)
    numbers = {name.encode(): place for place, name in enumerate((*_MODES, "LEAF"))}
    mode = np.array([numbers[word] for word in modes], np.int64)
    split = mode < len(_MODES)
    tree, own = given.ints("nodes_treeids", size), given.ints("nodes_nodeids", size)
    first = np.flatnonzero(np.r_[True, tree[1:] != tree[:-1]][:size])
    if len(np.unique(tree)) != len(first):
        raise ValueError("the nodes of a tree are apart")
    inside(np.r_[tree, own], 1 << 31, "the id of a tree or node")
    keys = tree << 32 | own
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys[order]) == 0).any():
        raise ValueError("two nodes of a tree have one id")

    def place(trees: Array, nodes: Array) -> Array:
        inside(np.r_[trees, nodes], 1 << 31, "the id of a tree or node")
        found = order[np.minimum(np.searchsorted(keys[order], trees << 32 | nodes), size - 1)] if size else trees
        lost = keys[found] != (trees << 32 | nodes)
        if lost.any():
            raise ValueError(f"tree {trees[lost][0]} has no node {nodes[lost][0]}")
        return found

    sides = {}
    for side, name in (("left", "nodes_truenodeids"), ("right", "nodes_falsenodeids")):
        sides[side] = np.full(size, -1)
        sides[side][split] = place(tree[split], given.ints(name, size)[split])
    output = given.ints(f"{prefix}_ids")
    at = place(given.ints(f"{prefix}_treeids", len(output)), given.ints(f"{prefix}_nodeids", len(output)))
    weight = given.floats(f"{prefix}_weights", len(output))
    leaf = np.where(split, -1, np.cumsum(~split) - 1)
    ends = ~split[at]  # ONNX Runtime passes over the weights of what is no leaf, which old converters wrote
    splits = {
        **sides, "mode": np.where(split, mode, 0), "nan_left": given.tracks(size), "leaf": leaf, "roots": first,
        "feature": np.where(split, given.ints("nodes_featureids", size), -1),
        "threshold": given.floats("nodes_values", size), "tree": np.cumsum(np.isin(np.arange(size), first)) - 1,
    }  # fmt: skip
    return splits, _Leaves(leaf[at[ends]], output[ends], weight[ends], int((~split).sum()))


def _by_leaves(given: _Attributes) -> tuple[dict[str, Array], _Leaves]:
    """The newest operator: leaves stand apart, and nodes say by their places which they lead to."""
    mode = numpy_helper.to_array(given.by_name["nodes_modes"].t).astype(np.int64)
    size, weight = len(mode), given.floats("leaf_weights")
    inside(mode, len(_MODES), "nodes_modes")
    children: dict[str, Array] = {}
    ends: list[Array] = []
    for side, name in (("left", "true"), ("right", "false")):
        child, last = given.ints(f"nodes_{name}nodeids", size), given.ints(f"nodes_{name}leafs", size) != 0
        inside(child[~last], size, "a child")
        inside(child[last], len(weight), "a leaf")
        before = size + sum(len(rows) for rows in ends)
        children[side] = np.where(last, before + np.cumsum(last) - 1, child)
        ends.append(child[last])
    rows = np.concatenate(ends)  # a node for each time that a leaf is led to

    def extended(values: Array, leaf: object) -> Array:
        return np.concatenate([values, np.full(len(rows), leaf)])

    roots = inside(given.ints("tree_roots"), size, "the root of a tree")
    splits = {
        "left": extended(children["left"], -1), "right": extended(children["right"], -1), "mode": extended(mode, 0),
        "nan_left": extended(given.tracks(size), False), "leaf": np.r_[np.full(size, -1), rows], "roots": roots,
        "feature": extended(given.ints("nodes_featureids", size), -1),
        "threshold": extended(given.floats("nodes_splits", size), 0.0),
    }  # fmt: skip
    splits["tree"] = _trees(splits)
    return splits, _Leaves(np.arange(len(weight)), given.ints("leaf_targetids", len(weight)), weight, len(weight))


def _trees(splits: Mapping[str, Array]) -> Array:
    """[nodes], the tree that a node is in."""
    _check_unshared(splits)
    found = np.full(len(splits["left"]), -1)
    nodes, trees = splits["roots"], np.arange(len(splits["roots"]))
    while len(nodes):
        found[nodes] = trees
        going = splits["left"][nodes] >= 0
        nodes, trees = nodes[going], trees[going]
        nodes, trees = np.r_[splits["left"][nodes], splits["right"][nodes]], np.r_[trees, trees]
    return found
