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
MOST_WORDS = 4096  # of leaves' bits, which lie on the stack
MOST_LEAVES = 256  # of a tree that goes by slices: their numbers are bytes

# cycles on a Zen 3, only compared with each other
PER_STEP, PER_TREE_WALKED = 20.0, 15.0
PER_STRIKE, PER_THRESHOLD, PER_TREE = 2.6, 0.6, 5.0
PER_CONDITION, PER_SUBSET, PER_SPLIT, PER_TREE_OF_BLOCK = 0.4, 6.0, 0.05, 2.0


@dataclass(frozen=True)
class Tables:
    """What `forest.c` is built from.

    Attributes:
        constants: The macros of `tables.h`.
        content: The bytes of `tables.bin`, each table aligned to 64 bytes.
    """

    constants: Mapping[str, int | float]
    content: bytes


def tables(forest: Forest) -> Tables:
    """Lay a forest out for C.

    Args:
        forest: Checked; it may hold nodes that no root leads to.
    """
    forest = forest.without_unused_nodes()
    real = np.dtype(forest.dtype)
    conditions = _conditions(forest, real)
    order = _order(forest, conditions)
    words = int((-(-order.leaves // 64)).sum())
    strikes = _strikes(forest, conditions, order)
    shares = _visits(forest)
    splits = forest.feature >= 0
    walked = PER_STEP * shares[splits].sum() + PER_TREE_WALKED * forest.trees
    struck = PER_STRIKE * strikes.expected + PER_THRESHOLD * len(conditions.threshold) + PER_TREE * forest.trees
    subsets = int((conditions.flags & SUBSET > 0).sum())
    sliced = (
        PER_CONDITION * len(conditions.threshold) + PER_SUBSET * subsets + PER_SPLIT * splits.sum()
        + PER_TREE_OF_BLOCK * forest.trees
    )  # fmt: skip
    events = words <= MOST_WORDS and struck < walked
    one_row = min(walked, struck) if events else walked
    slices = int(order.leaves.max(initial=1)) <= MOST_LEAVES and sliced < one_row
    constants: dict[str, int | float] = {
        "FEATURES": forest.features, "OUTPUTS": forest.outputs, "RESULTS": forest.width or 1, "TREES": forest.trees,
        "WIDTH": forest.values.shape[1], "INPUT_BYTES": real.itemsize, "DIVISOR": forest.divisor,
        "SCALE": forest.scale, "LINK": list(LINKS).index(forest.link), "EVENTS": int(events), "SLICES": int(slices),
        "WALK": int(not events), "GROUPS": len(conditions.feature), "CONDITIONS": len(conditions.threshold),
        "WORDS": words, "ROWS": ROWS, "MOST_SLOTS": 2 * int(order.leaves.max(initial=1)) - 1,
        "ENOUGH": max(2, math.ceil(ROWS * sliced / one_row)) if slices else 0,
    }  # fmt: skip
    arrays = {
        "BASE": forest.base, "VALUES": forest.values[order.values].astype(forest.sums),
        "FIRST": _starts(order.leaves)[:-1].astype(np.uint32), "OUTPUT": forest.output.astype(np.uint16),
        "SUBSETS": conditions.bits,
    }  # fmt: skip
    if events or slices:
        arrays |= {
            "G_FEATURE": conditions.feature, "G_FLAGS": conditions.flags, "G_FIRST": conditions.first,
            "G_SUBSET": conditions.subset, "G_SIZE": conditions.size, "THRESHOLD": conditions.threshold,
        }  # fmt: skip
    if events:
        arrays |= strikes.arrays
    if slices:
        arrays |= _slices(forest, conditions, order)
    if not events:
        arrays |= _walk(forest, conditions, order, real)
    content = bytearray()
    for name, array in arrays.items():
        content += bytes(-len(content) % 64)
        constants[f"{name}_AT"] = len(content)
        content += np.ascontiguousarray(array).tobytes()
    return Tables(constants, bytes(content) + bytes(64))


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
    """The leaves of each tree, numbered so that a split's likely side comes first.

    Attributes:
        start: [nodes], the number of the first leaf under a node.
        under: [nodes], leaves under it.
        likely: [nodes], the child that most samples go to.
        leaves: [trees].
        values: [leaves], the rows of `Forest.values` in the order of trees and numbers.
        parent: [nodes], -1 for roots.
    """

    start: Array
    under: Array
    likely: Array
    leaves: Array
    values: Array
    parent: Array


def _order(forest: Forest, conditions: _Conditions) -> _Order:
    splits = np.flatnonzero(forest.feature >= 0)
    left, right = forest.left[splits], forest.right[splits]
    count = np.nan_to_num(forest.count)
    number = len(conditions.threshold)
    seen = [np.bincount(conditions.of[splits], count[side], number) for side in (left, right)]
    turned = (seen[0] < seen[1])[conditions.of[splits]]
    likely = np.full(len(forest.feature), -1)
    likely[splits] = np.where(turned, right, left)
    parent = np.full(len(forest.feature), -1)
    parent[left], parent[right] = splits, splits
    levels = list(_levels(forest))
    under = (forest.feature < 0).astype(np.int64)
    for nodes in reversed(levels):
        under[nodes] = under[forest.left[nodes]] + under[forest.right[nodes]]
    start = np.zeros(len(forest.feature), np.int64)
    for nodes in levels:
        first = likely[nodes]
        second = forest.left[nodes] + forest.right[nodes] - first
        start[first] = start[nodes]
        start[second] = start[nodes] + under[first]
    ends = np.flatnonzero(forest.feature < 0)
    ordered = ends[np.lexsort((start[ends], forest.tree[ends]))]
    return _Order(start, under, likely, under[forest.roots], forest.leaf[ordered], parent)


@dataclass(frozen=True)
class _Strikes:
    arrays: Mapping[str, Array]
    expected: float


def _strikes(forest: Forest, conditions: _Conditions, order: _Order) -> _Strikes:
    """Which leaves a split strikes out when it does not do what it usually does."""
    splits = np.flatnonzero(forest.feature >= 0)
    likely = order.likely[splits]
    start, stop = order.start[likely], order.start[likely] + order.under[likely]
    word = _starts(-(-order.leaves // 64))
    spans = (stop - 1) // 64 - start // 64 + 1
    which = np.repeat(np.arange(len(splits)), spans)
    at = start[which] // 64 + np.arange(len(which)) - np.repeat(_starts(spans)[:-1], spans)
    low, high = np.maximum(start[which] - 64 * at, 0), np.minimum(stop[which] - 64 * at, 64)
    struck = _ones(high) ^ _ones(low)
    condition = conditions.of[splits][which]
    over = likely[which] == forest.left[splits][which]
    arrays: dict[str, Array] = {"WORD": word[:-1].astype(np.uint16)}
    for name, chosen in (("OVER", over), ("UNDER", ~over)):
        sorting = np.flatnonzero(chosen)[np.argsort(condition[chosen], kind="stable")]
        counts = np.bincount(condition[sorting], minlength=len(conditions.threshold))
        arrays[f"{name}_FIRST"] = _starts(counts).astype(np.uint32)
        arrays[f"{name}_WORD"] = (word[forest.tree[splits]][which] + at)[sorting].astype(np.uint16)
        arrays[f"{name}_KEPT"] = ~struck[sorting]
    count = np.nan_to_num(forest.count, nan=1.0)
    sides = [np.bincount(conditions.of[splits], count[side[splits]], len(conditions.threshold)) for side in
             (forest.left, forest.right)]  # fmt: skip
    rare = np.minimum(*sides) / np.maximum(sides[0] + sides[1], 1e-300)
    return _Strikes(arrays, float(rare[condition].sum()))


def _slices(forest: Forest, conditions: _Conditions, order: _Order) -> dict[str, Array]:
    """Splits of each tree from the top down, where their rows are, and the slots that make up a leaf's number."""
    splits = np.flatnonzero(forest.feature >= 0)
    tree = forest.tree[splits]
    first = _starts(np.bincount(tree, minlength=forest.trees))
    place = np.zeros(len(forest.feature), np.int64)
    place[splits] = np.arange(len(splits)) - first[tree]
    parent = order.parent
    is_left = np.zeros(len(parent), bool)
    is_left[forest.left[splits]] = True
    slot = np.where(parent < 0, 0, 2 * place[parent] + np.where(is_left, 1, 2))
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
    planes = [int(leaves - 1).bit_length() for leaves in order.leaves]
    return {
        "S_FIRST": first.astype(np.uint32), "S_CONDITION": conditions.of[splits].astype(np.uint32),
        "S_SLOT": slot[splits].astype(np.uint16), "S_PLANES": np.array(planes, np.uint8),
        "S_PLANE": _starts(np.stack(counts, axis=1).ravel()).astype(np.uint32),
        "S_MEMBER": found[2].astype(np.uint16),
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
    return {"NODES": nodes, "ROOT": forest.roots.astype(np.uint32)}


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


def _levels(forest: Forest) -> Iterator[Array]:
    splits = np.flatnonzero(forest.feature >= 0)
    for level in range(int(forest.depth.max(initial=0))):
        yield splits[forest.depth[splits] == level]


def _starts(counts: Array) -> Array:
    return np.concatenate([[0], np.cumsum(counts)])


def _ones(count: Array) -> Array:
    """[..], uint64 with so many (0 to 64) low bits set."""
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    shift = (64 - np.maximum(count, 1)).astype(np.uint64)
    return np.asarray(np.where(count > 0, full >> shift, np.uint64(0)))
