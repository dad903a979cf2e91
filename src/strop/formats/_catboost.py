"""What CatBoost's files hold, whichever way they are written, as trees."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedModel
from ..forest import Array
from ..model import Value
from . import _cityhash
from .trees import inside

NO_TEXTS = (
    "A CatBoost model must take numbers and categories, and this one takes texts or embeddings. Train it without them."
)
NO_COMBINATIONS = (
    "The target statistics of a CatBoost model must be of one column of categories each, and this one combines "
    "columns: that is more than trees. Train it with max_ctr_complexity=1, or with a one_hot_max_size as large as the "
    "number of categories."
)
_DEEPEST = 24
_MOST_COLUMNS = 1 << 20
_MAGIC = 0x4906BA494954CB65  # CatBoost's, of what combines hashes
_UNDONE = np.uint64(pow(_MAGIC, -2, 1 << 64))


@dataclass(frozen=True)
class Split:
    """A question that trees ask; the answer is 1 where x is above the threshold, or is (`swapped`) a member."""

    feature: int
    threshold: float = 0.0
    nan_left: bool = False
    members: Array | None = None
    swapped: bool = False


class Splits:
    """All of them, by their number, in arrays; and the subsets of categories of those that have one."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.feature = np.array([one.feature for one in splits], np.int64)
        self.threshold = np.array([one.threshold for one in splits], np.float64)
        self.nan_left = np.array([one.nan_left for one in splits], bool)
        self.swapped = np.array([one.swapped for one in splits], bool)
        self.members = [one.members for one in splits if one.members is not None]
        listed = np.array([one.members is not None for one in splits], bool)
        self.subset = np.where(listed, np.cumsum(listed) - 1, -1)


@dataclass(frozen=True)
class Statistics:
    """What CatBoost counted of each category of a column.

    Attributes:
        codes: [n], the categories, ascending.
        counts: [n, classes], how often it came with each class; or [n, 1], how often at all; or [n, 2], the sum of the
            target and how often.
        kind: CatBoost's name of what is made of them.
        total: The denominator of a share of all.
    """

    codes: Array
    counts: Array
    kind: str
    total: int


@dataclass(frozen=True)
class Parts:
    """All of a model.

    Attributes:
        names: Of each column of the data that it knows; empty for one without a name.
        trees: As `formats.trees.joined` takes them.
        scale: Of the sums of leaves, before the bias.
        bias: [outputs].
        loss: What it was trained on; empty where the file does not tell.
        classes: The labels of a classifier, as far as the file tells, in the order of its columns.
    """

    names: Mapping[int, str]
    trees: Sequence[Mapping[str, Array]]
    scale: float
    bias: Array
    loss: str
    classes: Sequence[Value]


def loss_of(info: Mapping[str, Any]) -> str:
    """The name of the loss in what a model tells of itself, if it does: where models were added up, it is elsewhere."""
    params = _parsed(info.get("params") or {})
    loss = _parsed(params.get("loss_function") or info.get("loss_function"))
    return str(loss["type"]) if loss else ""


def classes_of(info: Mapping[str, Any]) -> Sequence[Value]:
    """The labels that a model tells of itself, in the order of its columns."""
    found: Sequence[Value] = _parsed(info.get("class_params") or {}).get("class_names", ())
    return found


def column_of(index: float) -> int:
    """The column of a feature.

    Raises:
        ValueError: There can be no such.
    """
    return int(inside(np.array([index]), _MOST_COLUMNS, "the column of a feature")[0])


def by_borders(column: int, borders: Array, nan_above: bool) -> list[Split]:
    """NaN is above all borders (but one that is infinite), or not above any."""
    return [Split(column, float(border), not (nan_above and border < np.inf)) for border in _ascending(column, borders)]


def by_categories(column: int, values: Array) -> list[Split]:
    """One split for each category."""
    codes, places = _codes(column, values)
    return [Split(column, members=codes[places == at], swapped=True) for at in range(len(values))]


def statistics(column: int, keys: Array, counts: Array, kind: str, total: int) -> Statistics:
    """
    Args:
        keys: [n] uint64, by which CatBoost looks up a category.
        counts: [n, ...], as in `Statistics`.
    """
    with np.errstate(over="ignore"):
        values = (keys * _UNDONE).view(np.int64)  # a key is the hash of a category, times the square of _MAGIC
    if len(values) and (values != values.astype(np.int32)).any():
        raise ValueError(f"the statistics of column {column} are of no categories")
    codes, places = _codes(column, values.astype(np.int32))
    return Statistics(codes, np.asarray(counts, np.float64)[places], kind, total)


def by_statistics(
    column: int, found: Statistics, borders: Array, target: int, prior: tuple[float, float], shift: float, scale: float
) -> list[Split]:
    """A split of a statistic is one of categories: those above the border, and those that are not.

    A category that was not counted has the statistic of no counts.
    """
    counts = np.concatenate([found.counts, np.zeros_like(found.counts, shape=(1, found.counts.shape[1]))])
    classes = counts.shape[1]
    if found.kind in ("Counter", "FeatureFreq"):
        good, total = counts[:, 0], np.full(len(counts), found.total)
    elif found.kind in ("BinarizedTargetMeanValue", "FloatTargetMeanValue"):
        good, total = counts[:, 0], counts[:, 1]
    elif found.kind == "Buckets":
        good, total = counts[:, inside(np.array([target]), classes, "the class of a statistic")[0]], counts.sum(axis=1)
    elif found.kind == "Borders":
        above = inside(np.array([target]), classes - 1, "the class of a statistic")[0] + 1 if classes > 2 else 1
        good, total = counts[:, above:].sum(axis=1), counts.sum(axis=1)
    else:
        raise ValueError(f"the statistic {found.kind!r} is unknown")
    one = np.float32
    with np.errstate(all="ignore"):
        share = (good.astype(one) + one(prior[0])) / (total.astype(one) + one(prior[1]))
        value = (share + one(shift)) * one(scale)
    above = value[:, None] > _ascending(column, borders)
    swapped = ~above[-1]
    return [
        Split(column, members=found.codes[above[:-1, at] == swapped[at]], swapped=bool(swapped[at]))
        for at in range(len(borders))
    ]


def symmetric(splits: Splits, of: Array, values: Array, counts: Array) -> dict[str, Array]:
    """A tree that asks the same at all nodes of a level.

    Args:
        of: [depth], the numbers of its splits.
        values: [2**depth, outputs]; the answers are the bits of a leaf's number, the first one the lowest.
        counts: [2**depth], or empty.
    """
    depth = len(of)
    level = np.repeat(np.arange(depth), 1 << np.arange(depth))
    place = np.arange(len(level)) + 1 - (1 << level)  # in its level: the answers so far
    low = (2 << level) - 1 + place
    sums = [counts.reshape(-1, 1 << at).sum(axis=0) for at in range(depth)] if len(counts) else []
    count = np.concatenate([*sums, counts]) if len(counts) else np.full(len(level) + len(values), np.nan)
    return _tree(splits, of[level], low, low + (1 << level), values, count)


def nodes(splits: Splits, of: Array, low: Array, high: Array, values: Array, counts: Array) -> dict[str, Array]:
    """A tree of any shape: its splits first, root and parents before children, then its leaves.

    Args:
        of: [inner nodes], the number of its split.
        low: [inner nodes], the node to go to where the answer is 0; `high` where it is 1.
        values: [leaves, outputs].
        counts: [leaves], or empty.
    """
    size = len(of) + len(values)
    for children in (low, high):
        inside(children, size, "a child")
        if (children <= np.arange(len(of))).any():
            raise ValueError("a child must follow its parent")
    count = np.r_[np.zeros(len(of)), counts] if len(counts) else np.full(size, np.nan)
    if len(counts):
        for node in range(len(of) - 1, -1, -1):
            count[node] = count[low[node]] + count[high[node]]
    return _tree(splits, of, low, high, values, count)


def check_depths(depths: Array, leaves: int) -> None:
    """
    Raises:
        ValueError: Symmetric trees of such depths do not have so many leaves.
    """
    if int((1 << inside(depths, _DEEPEST, "the depth of a tree")).sum()) != leaves:
        raise ValueError(f"its trees do not have {leaves} leaves")


def _parsed(given: Any) -> Any:
    return json.loads(given) if isinstance(given, str) else given


def _ascending(column: int, borders: Array) -> Array:
    """CatBoost counts the borders that are below."""
    if (np.diff(borders) < 0).any():
        raise ValueError(f"the borders of column {column} must ascend")
    return borders


def _codes(column: int, values: Array) -> tuple[Array, Array]:
    if len(np.unique(values)) < len(values):
        raise ValueError(f"column {column} has a category twice")
    try:
        return _cityhash.codes(values)
    except ValueError as error:
        raise UnsupportedModel(
            f"The categories of a CatBoost model must be whole numbers from 0 to {_cityhash.MOST - 1:,}, and of column "
            f"{column}, {error}: the file only holds their hashes. Train it on codes in the place of words."
        ) from error


def _tree(splits: Splits, of: Array, low: Array, high: Array, values: Array, count: Array) -> dict[str, Array]:
    leaves, inner = len(values), len(of)
    of = inside(of, len(splits.feature), "a split")
    swapped = splits.swapped[of]
    used, subset = np.unique(splits.subset[of], return_inverse=True)
    listed = [splits.members[one] for one in used if one >= 0]

    def ended(inner: Array, leaf: float) -> Array:
        return np.concatenate([inner, np.full(leaves, leaf, inner.dtype)])

    return {
        "feature": ended(splits.feature[of], -1),
        "threshold": ended(splits.threshold[of], 0),
        "left": ended(np.where(swapped, high, low), -1),
        "right": ended(np.where(swapped, low, high), -1),
        "nan_left": ended(splits.nan_left[of], False),
        "zero_missing": np.zeros(inner + leaves, bool),
        "subset": ended(subset - (len(used) - len(listed)), -1),
        "leaf": np.concatenate([np.full(inner, -1), np.arange(leaves)]),
        "count": count,
        "gain": np.full(inner + leaves, np.nan),
        "members": np.concatenate([np.zeros(0, np.int64), *listed]),
        "member_ends": np.cumsum([len(one) for one in listed], dtype=np.int64),
        "values": values,
    }
