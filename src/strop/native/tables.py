"""Tables: a forest as the arrays that `forest.c` reads, and which of its ways through the trees are worth it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..forest import LINKS, Forest

Array: TypeAlias = np.ndarray[Any, Any]

ROWS = 512  # of a block
MISSING_LEFT, ZERO_MISSING, SUBSET = 1, 2, 4  # as in forest.c
MOST_CONDITIONS = 1 << 15  # and leaves of a tree, to go by steps: what they come to lies on the stack, 8 bytes each
MOST_STRIDE, AGAIN = 12, 3  # steps down a tree before it is looked at again; what that costs, in steps
MOST_SUM = 2.0**31  # of integers
MOST_LEAVES = 256  # of a tree that goes by slices: their numbers are bytes

# cycles, only compared with each other: walk and slices as on a Zen 3, steps in proportion as on a Sapphire Rapids
PER_STEP, PER_TREE_WALKED = 20.0, 15.0
PER_ABREAST, PER_THRESHOLD, PER_TREE = 1.8, 0.6, 6.0
PER_CONDITION, PER_SUBSET, PER_SPLIT, PER_TREE_OF_BLOCK = 0.4, 6.0, 0.05, 2.0


@dataclass(frozen=True)
class Tables:
    """What `forest.c` is built from.

    Attributes:
        constants: The macros of `tables.h`.
        content: The bytes of `tables.bin`, each table aligned to 64 bytes.
    """

    constants: Mapping[str, int | float | str]
    content: bytes


def tables(forest: Forest) -> Tables:
    """Lay a forest out for C.

    Args:
        forest: Checked; it may hold nodes that no root leads to.
    """
    forest = forest.without_unused_nodes()
    real = np.dtype(forest.dtype)
    conditions = _conditions(forest, real)
    order = _order(forest)
    most = int(order.leaves.max(initial=1))
    splits = forest.feature >= 0
    walked = PER_STEP * _visits(forest)[splits].sum() + PER_TREE_WALKED * forest.trees
    stride, expected = _stride(forest)
    abreast = (
        PER_ABREAST * expected * forest.trees + PER_THRESHOLD * len(conditions.threshold) + PER_TREE * forest.trees
    )
    subsets = int((conditions.flags & SUBSET > 0).sum())
    sliced = (
        PER_CONDITION * len(conditions.threshold) + PER_SUBSET * subsets + PER_SPLIT * splits.sum()
        + PER_TREE_OF_BLOCK * forest.trees
    )  # fmt: skip
    steps = len(conditions.threshold) + most <= MOST_CONDITIONS and abreast < walked
    one_row = abreast if steps else walked
    slices = most <= MOST_LEAVES and sliced < one_row
    constants: dict[str, int | float | str] = {
        "FEATURES": forest.features, "OUTPUTS": forest.outputs, "RESULTS": forest.width or 1, "TREES": forest.trees,
        "WIDTH": forest.values.shape[1], "INPUT_BYTES": real.itemsize, "DIVISOR": float(forest.divisor),
        "SCALE": float(forest.scale), "LINK": list(LINKS).index(forest.link),
        "STEPS": int(steps), "SLICES": int(slices),
        "WALK": int(not steps), "GROUPS": len(conditions.feature), "CONDITIONS": len(conditions.threshold),
        "STRIDE": stride, "MOST_LEAVES": most, "ROWS": ROWS, "MOST_SLOTS": 2 * most - 1,
        "ENOUGH": max(2, math.ceil(ROWS * sliced / one_row)) if slices else 0,
    }  # fmt: skip
    on_grid, integer = _on_grid(forest)
    constants |= {"GRID": int(integer is not None), "GRID_STEP": float(forest.step)}
    constants |= {"INTEGER": f"{integer}_t"} if integer else {}
    arrays = {
        "BASE": forest.base,
        "VALUES": on_grid[order.values] if integer else forest.values[order.values].astype(forest.sums),
        "FIRST": _starts(order.leaves)[:-1].astype(np.uint32), "OUTPUT": forest.output.astype(np.uint16),
        "SUBSETS": conditions.bits,
    }  # fmt: skip
    if steps or slices:
        arrays |= {
            "G_FEATURE": conditions.feature, "G_FLAGS": conditions.flags, "G_FIRST": conditions.first,
            "G_SUBSET": conditions.subset, "G_SIZE": conditions.size, "THRESHOLD": conditions.threshold,
        }  # fmt: skip
    if steps:
        arrays |= _steps(forest, conditions, order)
    if slices:
        arrays |= _slices(forest, conditions, order)
        constants |= {
            "CONDITION_NUMBER": f"{arrays['S_CONDITION'].dtype}_t",
            "SLOT_NUMBER": f"{arrays['S_SLOT'].dtype}_t",
        }
    if not steps:
        arrays |= _walk(forest, conditions, order, real)
    content = bytearray()
    for name, array in arrays.items():
        content += bytes(-len(content) % 64)
        constants[f"{name}_AT"] = len(content)
        content += np.ascontiguousarray(array).tobytes()
    return Tables(constants, bytes(content) + bytes(64))


def _on_grid(forest: Forest) -> tuple[Array, str | None]:
    """Leaf values as multiples of the forest's step, and the least type for them; None where a sum might not fit."""
    if not forest.step or not len(forest.values):
        return forest.values, None
    multiples = forest.values / forest.step
    most = np.abs(multiples).max()
    if most * forest.trees >= MOST_SUM:
        return forest.values, None
    integer = next(name for name in ("int8", "int16", "int32") if most <= np.iinfo(name).max)
    return multiples.astype(integer), integer


@dataclass(frozen=True)
class _Conditions:
    """All different conditions under which a split sends a sample left; the groups they come in.

    Attributes:
        of: [nodes], the condition of a split.
        threshold: [conditions], of the input's type.
        feature, flags, first, subset, size: [groups] ([groups + 1] for first), as in forest.c.
        bits: Of all subsets.
        group: [conditions].
    """

    of: Array
    threshold: Array
    feature: Array
    flags: Array
    first: Array
    subset: Array
    size: Array
    bits: Array
    group: Array


def _conditions(forest: Forest, real: np.dtype[Any]) -> _Conditions:
    flags = forest.nan_left * MISSING_LEFT + forest.zero_missing * ZERO_MISSING + (forest.subset >= 0) * SUBSET
    thresholds = _rounded_down(forest.threshold, real)
    splits = np.flatnonzero(forest.feature >= 0)
    bits, places, which = _subsets(forest)
    # a subset stands where a threshold would: equal subsets are equal numbers
    value = np.where(forest.subset >= 0, which[forest.subset] if len(which) else 0, thresholds)
    keys = [value[splits], flags[splits], forest.feature[splits]]
    order = np.lexsort(keys)
    changed = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0) if len(order) else np.zeros(0, bool)
    number = np.cumsum(np.r_[0, changed]) if len(order) else np.zeros(0, int)
    of = np.full(len(forest.feature), -1)
    of[splits[order]] = number
    first_of = splits[order][np.flatnonzero(np.r_[True, changed])] if len(order) else splits
    alone = forest.subset[first_of] >= 0
    begins = np.r_[True, (np.diff(forest.feature[first_of]) != 0) | (np.diff(flags[first_of]) != 0)] | alone
    begins = begins[: len(first_of)]
    heads = first_of[begins]
    subset = np.where(forest.subset[heads] >= 0, forest.subset[heads], 0)
    at, size = (column[subset] if len(column) else np.zeros(len(heads)) for column in places)
    return _Conditions(
        of, thresholds[first_of].astype(real), forest.feature[heads].astype(np.uint32), flags[heads].astype(np.uint8),
        np.r_[np.flatnonzero(begins), len(first_of)].astype(np.uint32), at.astype(np.uint32), size.astype(np.uint32),
        bits, np.cumsum(begins) - 1,
    )  # fmt: skip


def _rounded_down(thresholds: Array, real: np.dtype[Any]) -> Array:
    """The greatest value of the input's type that is no greater: of such an input, the same are at most that."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(real)
        return np.where(near > thresholds, np.nextafter(near, real.type(-np.inf)), near).astype(np.float64)


def _subsets(forest: Forest) -> tuple[Array, tuple[Array, Array], Array]:
    """Bits of all different subsets; of each subset, where they begin and how many they are; and a number for it."""
    bits: list[Array] = []
    at, size, which = (np.zeros(len(forest.member_ends), np.int64) for _ in range(3))
    known: dict[bytes, int] = {}
    end = 0
    for number, members in enumerate(np.split(forest.members, forest.member_ends[:-1]) if len(at) else ()):
        first = known.setdefault(members.tobytes(), number)
        which[number] = first
        if first < number:
            at[number], size[number] = at[first], size[first]
            continue
        size[number] = members.max(initial=-1) + 1
        row = np.zeros(-(-int(size[number]) // 32) * 32, np.uint8)
        row[members] = 1
        bits.append(np.packbits(row, bitorder="little").view(np.uint32))
        at[number], end = end, end + len(bits[-1])
    return np.concatenate([np.zeros(0, np.uint32), *bits]), (at, size), which


@dataclass(frozen=True)
class _Order:
    """The leaves of each tree, numbered from left to right.

    Attributes:
        start: [nodes], the number of the first leaf under a node.
        under: [nodes], leaves under it.
        leaves: [trees].
        values: [leaves], the rows of `Forest.values` in the order of trees and numbers.
        parent: [nodes], -1 for roots.
    """

    start: Array
    under: Array
    leaves: Array
    values: Array
    parent: Array


def _order(forest: Forest) -> _Order:
    splits = np.flatnonzero(forest.feature >= 0)
    parent = np.full(len(forest.feature), -1)
    parent[forest.left[splits]] = parent[forest.right[splits]] = splits
    levels = list(_levels(forest))
    under = (forest.feature < 0).astype(np.int64)
    for nodes in reversed(levels):
        under[nodes] = under[forest.left[nodes]] + under[forest.right[nodes]]
    start = np.zeros(len(forest.feature), np.int64)
    for nodes in levels:
        left, right = forest.left[nodes], forest.right[nodes]
        start[left] = start[nodes]
        start[right] = start[nodes] + under[left]
    ends = np.flatnonzero(forest.feature < 0)
    ordered = ends[np.lexsort((start[ends], forest.tree[ends]))]
    return _Order(start, under, under[forest.roots], forest.leaf[ordered], parent)


def _steps(forest: Forest, conditions: _Conditions, order: _Order) -> dict[str, Array]:
    """Nodes of each tree from the top down: its condition and how far off its children are."""
    slot, place = _places(forest, order)
    splits = forest.feature >= 0
    first = 2 * _starts(np.bincount(forest.tree[splits], minlength=forest.trees))[:-1] + np.arange(forest.trees)
    condition = np.where(splits, conditions.of, len(conditions.threshold) + order.start)
    distance = np.where(splits, 2 * place + 1 - slot, 0)
    nodes = np.zeros((len(forest.feature), 2), np.uint16)
    nodes[first[forest.tree] + slot] = np.stack([condition, distance], axis=1)
    return {"NODES": nodes, "ROOT": first.astype(np.uint32)}


def _places(forest: Forest, order: _Order) -> tuple[Array, Array]:
    """Of each node, its slot in its tree: 0, or 2 i + 1 and 2 i + 2 under split i; and of each split, its number i."""
    splits = np.flatnonzero(forest.feature >= 0)
    tree = forest.tree[splits]
    place = np.zeros(len(forest.feature), np.int64)
    place[splits] = np.arange(len(splits)) - _starts(np.bincount(tree, minlength=forest.trees))[tree]
    is_left = np.zeros(len(forest.feature), bool)
    is_left[forest.left[splits]] = True
    return np.where(order.parent < 0, 0, 2 * place[order.parent] + np.where(is_left, 1, 2)), place


def _slices(forest: Forest, conditions: _Conditions, order: _Order) -> dict[str, Array]:
    """Splits of each tree from the top down, where their rows are, and the slots that make up a leaf's number."""
    splits = np.flatnonzero(forest.feature >= 0)
    first = _starts(np.bincount(forest.tree[splits], minlength=forest.trees))
    slot, parent = _places(forest, order)[0], order.parent
    last = order.start + order.under - 1
    members, counts = [], []
    for plane in range(8):
        here, there = order.start >> plane, last >> plane
        within = (here & 1 == 1) & (here == there)
        outermost = np.flatnonzero(within & ~np.where(parent < 0, False, within[parent]))
        members.append(np.stack([forest.tree[outermost], np.full(len(outermost), plane), slot[outermost]]))
        counts.append(np.bincount(forest.tree[outermost], minlength=forest.trees))
    found = np.concatenate(members, axis=1)
    found = found[:, np.lexsort((found[1], found[0]))]
    slots = _least(2 * int(order.leaves.max()) - 1)
    planes = [int(leaves - 1).bit_length() for leaves in order.leaves]
    return {
        "S_FIRST": first.astype(np.uint32),
        "S_CONDITION": conditions.of[splits].astype(_least(len(conditions.threshold))),
        "S_SLOT": slot[splits].astype(slots), "S_PLANES": np.array(planes, np.uint8),
        "S_PLANE": _starts(np.stack(counts, axis=1).ravel()).astype(np.uint32),
        "S_MEMBER": found[2].astype(slots),
    }  # fmt: skip


def _walk(forest: Forest, conditions: _Conditions, order: _Order, real: np.dtype[Any]) -> dict[str, Array]:
    kind = np.dtype(
        [("threshold", real), *((name, np.uint32) for name in ("what", "left", "right", "subset", "size"))], align=True
    )
    nodes = np.zeros(len(forest.feature), kind)
    splits = forest.feature >= 0
    condition = conditions.of[splits]
    group = conditions.group[condition] if len(condition) else condition
    nodes["threshold"][splits] = conditions.threshold[condition]
    nodes["what"] = 0xFFFFFFFF
    nodes["what"][splits] = conditions.feature[group] << 3 | conditions.flags[group]
    nodes["left"] = np.where(splits, forest.left, order.start)
    nodes["right"][splits] = forest.right[splits]
    nodes["subset"][splits], nodes["size"][splits] = conditions.subset[group], conditions.size[group]
    return {"SPLITS": nodes, "ROOT": forest.roots.astype(np.uint32)}


def _visits(forest: Forest) -> Array:
    """[nodes], the share of samples that come by each, as in training; evenly divided where that is not told."""
    share = np.zeros(len(forest.feature))
    share[forest.roots] = 1.0
    count = np.nan_to_num(forest.count)
    for nodes in _levels(forest):
        left, right = forest.left[nodes], forest.right[nodes]
        both = count[left] + count[right]
        part = np.where(both > 0, count[left] / np.where(both > 0, both, 1), 0.5)
        share[left], share[right] = share[nodes] * part, share[nodes] * (1 - part)
    return share


def _stride(forest: Forest) -> tuple[int, float]:
    """How many steps to take in a tree before it is looked at again; and what to expect of a tree, in steps."""
    ends = np.flatnonzero(forest.feature < 0)
    arrived = np.bincount(forest.depth[ends], _visits(forest)[ends]) if len(ends) else np.ones(1)
    deeper = np.maximum(1 - np.cumsum(arrived) / arrived.sum(), 0)  # the share of trees, by depth
    expected = {steps: (1 + deeper[steps::steps].sum()) * (steps + AGAIN) for steps in range(1, MOST_STRIDE + 1)}
    best = min(expected, key=lambda steps: expected[steps])
    return best, float(expected[best])


def _levels(forest: Forest) -> Iterator[Array]:
    splits = np.flatnonzero(forest.feature >= 0)
    for level in range(int(forest.depth.max(initial=0))):
        yield splits[forest.depth[splits] == level]


def _starts(counts: Array) -> Array:
    return np.concatenate([[0], np.cumsum(counts)])


def _least(count: int) -> np.dtype[Any]:
    """The least type that numbers so many things."""
    return np.min_scalar_type(max(0, count - 1))
