"""Forest: what every library's decision trees are read into; a struct of arrays, evaluated exactly by NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, ClassVar, TypeAlias

import numpy as np

from ._archives import check_expansion
from .errors import UnsupportedModel

Array: TypeAlias = np.ndarray[Any, Any]

ZERO = 1.0000000180025095e-35  # no farther from it is zero, where zero stands for missing (LightGBM's 1e-35f)
_ROWS = 4096  # evaluated at a time
_ARRAYS = {
    "feature": "int32", "threshold": "float64", "left": "int32", "right": "int32", "nan_left": "bool",
    "zero_missing": "bool", "subset": "int32", "leaf": "int32", "count": "float64", "gain": "float64",
    "members": "int64", "member_ends": "int64", "values": "float64", "roots": "int32", "output": "int32",
    "base": "float64",
}  # fmt: skip
_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "features": int, "names": list, "dtype": str, "sums": str, "divisor": (int, float), "link": str,
    "scale": (int, float), "rows": str, "result": str, "step": (int, float),
}  # fmt: skip
"""What a file's settings must be, some of which are written into C."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose leaves are added up.

    A sample goes left at a node where `x <= threshold`, or, at one with a subset of categories, where `trunc(x)` is a
    member; NaN goes left where `nan_left`, and so does zero where `zero_missing`.

    Attributes:
        feature: [nodes], the column that a node looks at; -1 for a leaf.
        threshold: [nodes], finite, or infinite where all (none) but NaN go left.
        left: [nodes], node to go to; -1 for a leaf.
        right: [nodes], the same.
        nan_left: [nodes].
        zero_missing: [nodes].
        subset: [nodes], which subset of categories goes left; -1 for a node with a threshold.
        leaf: [nodes], row of `values`; -1 for what is no leaf.
        count: [nodes], training samples (or their weight) that came by; NaN where the library does not tell.
        gain: [nodes], what the split gained in training; NaN likewise, and for leaves.
        members: The categories (0 and up) of all subsets, one subset after the other, ascending in each.
        member_ends: [subsets], where each ends in `members`.
        values: [leaves, 1], or [leaves, outputs].
        roots: [trees].
        output: [trees], the output that a tree's value is added to; 0 where leaves hold all outputs.
        base: [outputs], what the sums begin with.
        features: How many columns a sample has.
        names: [features], of the columns; empty where the model does not tell.
        dtype: What the input is cast to before it is compared: `float32` or `float64`.
        sums: What the leaves are added up in, tree by tree: `float32` or `float64`.
        divisor: Of the sums, before the link; 1 or the number of trees.
        link: What makes results of sums, see `LINKS`.
        scale: Of the sums before a sigmoid.
        rows: What its input is called.
        result: What its output is called; empty for `probability` or `prediction`, as the link says.
        step: All leaf values are whole multiples of this; 0: of nothing.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    nan_left: Array
    zero_missing: Array
    subset: Array
    leaf: Array
    count: Array
    gain: Array
    members: Array
    member_ends: Array
    values: Array
    roots: Array
    output: Array
    base: Array
    features: int
    names: tuple[str, ...] = ()
    dtype: str = "float64"
    sums: str = "float64"
    divisor: float = 1.0
    link: str = "identity"
    scale: float = 1.0
    rows: str = "x"
    result: str = ""
    step: float = 0.0

    ARRAYS: ClassVar[tuple[str, ...]] = tuple(_ARRAYS)

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))

    @property
    def trees(self) -> int:
        return len(self.roots)

    @property
    def outputs(self) -> int:
        return len(self.base)

    @cached_property
    def tree(self) -> Array:
        """[nodes], the tree that a node is in; -1 for nodes that no root leads to."""
        found = np.full(len(self.feature), -1, np.int32)
        for nodes, trees in self._levels():
            found[nodes] = trees
        return found

    @cached_property
    def depth(self) -> Array:
        """[nodes], the steps from the root; -1 for nodes that no root leads to."""
        found = np.full(len(self.feature), -1, np.int32)
        for level, (nodes, _) in enumerate(self._levels()):
            found[nodes] = level
        return found

    def subset_of(self, node: int) -> Array:
        """The categories that go left at a node that has a subset."""
        which = int(self.subset[node])
        start = self.member_ends[which - 1] if which else 0
        return self.members[start : self.member_ends[which]]

    def check(self) -> Forest:
        """This forest, if it is one: indexes within bounds, no cycle, no node with two parents.

        Raises:
            UnsupportedModel: It is not.
        """
        nodes, leaves = len(self.feature), len(self.values)
        splits = self.feature >= 0
        with np.errstate(invalid="ignore"):
            between = self.step > 0 and bool((self.values % self.step != 0).any())
        broken: list[tuple[bool, str]] = [
            (any(len(getattr(self, name)) != nodes for name in self.ARRAYS[:10]), "its arrays differ in length"),
            (self.features < 1, "it has no features"),
            (self.values.ndim != 2 or self.values.shape[1] not in (1, self.outputs), "its leaves have a wrong width"),
            (len(self.output) != self.trees, "its trees and their outputs differ in number"),
            (bool(self.names) and len(self.names) != self.features, "its features and their names differ in number"),
            (self.dtype not in ("float32", "float64") or self.sums not in ("float32", "float64"), "a dtype is unknown"),
            (self.link not in LINKS, f"its link {self.link!r} is unknown"),
            (not np.isfinite(self.values).all() or not np.isfinite(self.base).all(), "a leaf is not finite"),
            (not np.isfinite(self.divisor) or self.divisor == 0, "its divisor is not a number"),
            (not np.isfinite(self.scale), "its scale is not a number"),
            (not 0 <= self.step < np.inf, "its step is no number of 0 or more"),
            (between, "a leaf is no multiple of its step"),
        ]  # fmt: skip
        for wrong, why in broken:
            if wrong:
                raise _broken(why)
        ends = np.r_[0, self.member_ends]
        for array, most, of, why in (
            (self.feature, self.features, slice(None), "a node looks at feature {seen}, and there are {most}"),
            (self.left, nodes, splits, "a node leads to node {seen}, and there are {most}"),
            (self.right, nodes, splits, "a node leads to node {seen}, and there are {most}"),
            (self.leaf, leaves, ~splits, "a leaf has value {seen}, and there are {most}"),
            (self.roots, nodes, slice(None), "a tree begins at node {seen}, and there are {most}"),
            (self.output, self.outputs, slice(None), "a tree adds to output {seen}, and there are {most}"),
            (self.subset, len(self.member_ends), splits, "a node has subset {seen}, and there are {most}"),
            (np.diff(ends), len(self.members) + 1, slice(None), "a subset has {seen} members"),
        ):
            chosen = array[of]
            least = -1 if array is self.feature or array is self.subset else 0
            outside = chosen[(chosen < least) | (chosen >= most)]
            if len(outside):
                raise _broken(why.format(seen=outside[0], most=most))
        if len(self.member_ends) and self.member_ends[-1] != len(self.members):
            raise _broken("its subsets do not make up all categories")
        if np.isnan(self.threshold[splits & (self.subset < 0)]).any():
            raise _broken("a threshold is NaN")
        arrivals = np.bincount(np.r_[self.roots, self.left[splits], self.right[splits]], minlength=nodes)
        if (arrivals > 1).any():
            raise _broken(f"node {int((arrivals > 1).argmax())} can be reached in two ways, as in a cycle")
        return self

    def leaves(self, x: Array) -> Array:
        """The leaf (a node) that each sample ends at: [samples, trees] int32.

        Args:
            x: [samples, features].
        """
        with np.errstate(over="ignore"):  # too large for float32 is infinite
            x = np.asarray(x).astype(self.dtype, copy=False)
        at = np.tile(self.roots, (len(x), 1))
        active = np.argwhere(self.feature[at] >= 0)
        while len(active):
            rows, trees = active[:, 0], active[:, 1]
            nodes = at[rows, trees]
            at[rows, trees] = np.where(
                self.goes_left(nodes, x[rows, self.feature[nodes]]), self.left[nodes], self.right[nodes]
            )
            active = active[self.feature[at[rows, trees]] >= 0]
        return at

    def scores(self, x: Array) -> Array:
        """The sums over all trees, before divisor and link: [samples, outputs] in `sums`."""
        x = np.asarray(x)
        found = np.empty((len(x), self.outputs), self.sums)
        values = self.values.astype(self.sums)
        for start in range(0, len(x), _ROWS):
            rows = self.leaf[self.leaves(x[start : start + _ROWS])]
            total = found[start : start + _ROWS]
            total[:] = self.base.astype(self.sums)
            for tree, output in enumerate(self.output):  # in this order: floating-point sums depend on it
                if values.shape[1] == self.outputs:
                    total += values[rows[:, tree]]
                else:
                    total[:, output] += values[rows[:, tree], 0]
        return found

    def predict(self, x: Array) -> Array:
        """What the library's own prediction gives: [samples], or [samples, outputs] of several."""
        scores = self.scores(x)
        return LINKS[self.link](scores / scores.dtype.type(self.divisor) if self.divisor != 1 else scores, self.scale)

    @property
    def width(self) -> int | None:
        """Columns of what `predict` gives; None for one number a sample."""
        if self.link == "sigmoid of two":
            return 2
        return self.outputs if self.outputs > 1 or self.link in ("softmax", "shares", "probabilities") else None

    def save(self, path: Path) -> None:
        """Write all of it into one `.npz` file."""
        plain = {key: value for key, value in vars(self).items() if key not in (*self.ARRAYS, "tree", "depth")}
        arrays = {name: getattr(self, name) for name in self.ARRAYS}
        with path.open("wb") as stream:
            np.savez(stream, settings=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: Path) -> Forest:
        """Read what `save` wrote.

        Raises:
            UnsupportedModel: The file is something else, or broken.
        """
        with path.open("rb") as stream:
            return cls.read(stream, path)

    @classmethod
    def read(cls, stream: IO[bytes], path: Path) -> Forest:
        """The same from an open file; `path` is for messages."""
        try:
            check_expansion(path, stream)
            with np.load(stream, allow_pickle=False) as stored:
                settings = json.loads(stored["settings"].tobytes())
                for name, kind in _SETTINGS.items():
                    if not isinstance(settings[name], kind) or isinstance(settings[name], bool):
                        raise ValueError(f"{name} can't be {str(settings[name])[:40]!r}")
                settings["names"] = tuple(map(str, settings["names"]))
                return cls(**{name: stored[name] for name in cls.ARRAYS}, **settings).check()
        except UnsupportedModel:
            raise
        except Exception as error:  # of NumPy, zipfile and what it decompresses with, which damage may lead anywhere
            raise UnsupportedModel(f"{path} must be a forest that strop wrote, and is broken ({error}).") from error

    def without_unused_nodes(self) -> Forest:
        """The same trees, their nodes in order of trees and depth, without nodes, leaves and subsets that none uses."""
        order = np.lexsort((self.depth, self.tree))
        order = order[self.tree[order] >= 0]
        place = np.full(len(self.feature) + 1, -1, np.int32)  # the last for -1
        place[order] = np.arange(len(order), dtype=np.int32)
        ends = self.feature[order] < 0
        subsets = [self.subset_of(node) for node in order[self.subset[order] >= 0]]
        subset = np.full(len(order), -1, np.int32)
        subset[self.subset[order] >= 0] = np.arange(len(subsets))
        leaf = np.full(len(order), -1, np.int32)
        leaf[ends] = np.arange(ends.sum())
        nodes = {
            name: getattr(self, name)[order]
            for name in ("feature", "threshold", "nan_left", "zero_missing", "count", "gain")
        }  # fmt: skip
        return replace(
            self, **nodes, left=place[self.left[order]], right=place[self.right[order]], subset=subset, leaf=leaf,
            members=np.concatenate([np.zeros(0, np.int64), *subsets]),
            member_ends=np.cumsum([len(one) for one in subsets], dtype=np.int64),
            values=self.values[self.leaf[order[ends]]], roots=place[self.roots],
        )  # fmt: skip

    def goes_left(self, nodes: Array, x: Array) -> Array:
        """Whether values [n] go left at splits [n]."""
        subset = self.subset[nodes]
        left = x <= self.threshold[nodes]
        listed = np.flatnonzero(subset >= 0)
        if len(listed):
            left[listed] = self._is_member(subset[listed], x[listed])
        missing = np.isnan(x) | (self.zero_missing[nodes] & (np.abs(x) <= ZERO))
        return np.where(missing, self.nan_left[nodes], left)

    def _is_member(self, subset: Array, x: Array) -> Array:
        stop = self.member_ends[subset]
        start = np.where(subset > 0, self.member_ends[subset - 1], 0)
        with np.errstate(invalid="ignore"):
            category = np.where(np.abs(x) < 2**31, np.trunc(x), -1).astype(np.int64)
        keys = np.repeat(np.arange(len(self.member_ends)), np.diff(self.member_ends, prepend=0)) << 32 | self.members
        wanted = subset.astype(np.int64) << 32 | np.maximum(category, 0)
        place = np.searchsorted(keys, wanted)
        found = np.zeros(len(x), bool)
        inside = (place < stop) & (place >= start) & (category >= 0)
        found[inside] = keys[place[inside]] == wanted[inside]
        return found

    def _levels(self) -> Iterator[tuple[Array, Array]]:
        """The nodes of each depth, and their trees."""
        nodes, trees = self.roots, np.arange(self.trees, dtype=np.int32)
        while len(nodes):
            yield nodes, trees
            splits = self.feature[nodes] >= 0
            nodes, trees = nodes[splits], trees[splits]
            nodes, trees = np.r_[self.left[nodes], self.right[nodes]], np.r_[trees, trees]


def _broken(why: str) -> UnsupportedModel:
    return UnsupportedModel(f"A forest must hold whole trees, and this one is broken: {why}. Save the model again.")


def _flat(scores: Array) -> Array:
    return scores[:, 0] if scores.shape[1] == 1 else scores


def _sigmoid(scores: Array, scale: float) -> Array:
    with np.errstate(over="ignore"):
        one = scores.dtype.type(1)
        return np.asarray(one / (one + np.exp(-scores.dtype.type(scale) * scores)))


def _softmax(scores: Array, scale: float) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _two_classes(positive: Array) -> Array:
    return np.concatenate([1 - positive, positive], axis=1)


LINKS: Mapping[str, Callable[[Array, float], Array]] = {
    "identity": lambda scores, scale: _flat(scores),
    "sigmoid": lambda scores, scale: _flat(_sigmoid(scores, scale)),
    "sigmoid of two": lambda scores, scale: _two_classes(_sigmoid(scores, scale)),
    "softmax": _softmax,
    "exponential": lambda scores, scale: _flat(np.exp(scores)),
    "signed square": lambda scores, scale: _flat(np.sign(scores) * scores * scores),
    "log of one and exponential": lambda scores, scale: _flat(np.log1p(np.exp(scores))),
    "shares": lambda scores, scale: np.asarray(scores / scores.sum(axis=1, keepdims=True)),
    "probabilities": lambda scores, scale: scores,
}
"""Results [samples] or [samples, outputs] of sums [samples, outputs]."""
