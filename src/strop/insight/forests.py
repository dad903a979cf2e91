"""Forests: which trees, splits, leaves and columns of one a candidate has changed, and what that does to the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..forest import Array, Forest
from ..units import counted
from .likeness import Likeness

SAMPLES = 5000
"""At the most, by which the scores of single trees are compared."""
ALIKE = 0.5
"""Share of a tree's splits that must be another's for it to have been made of that."""
NEAR = 0.1
"""Share of the span of a column's thresholds, up to which one that moved is still the same."""
NAMED = 12
"""Splits that changed, up to which they are told one by one."""
AHEAD = 20
"""Trees in a row that may have been left out, where one is looked for."""
MOST = 1 << 24
"""Scores of single trees that are held at a time."""


@dataclass
class Walk:
    """What two trees have in common, from the root down.

    Attributes:
        kept: Splits of the same column and threshold (or categories).
        moved: By how much thresholds of others moved.
        pairs: Nodes of both forests that split by one column, in another way.
        near: How many of these moved by little, of all that is between the column's thresholds.
        gone: Splits that are there no more: nodes of the original.
        other: Splits of the candidate that come from none of the original's: its nodes.
        merged: Leaves that became part of another.
        values: By how much the values of leaves changed that are still there, those that did not included; beside what
            all of the tree's did, where the sums begin with something else.
    """

    kept: int = 0
    moved: list[float] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    near: int = 0
    gone: list[int] = field(default_factory=list)
    other: list[int] = field(default_factory=list)
    merged: int = 0
    values: list[float] = field(default_factory=list)

    @property
    def alike(self) -> float:
        """Share of the candidate's splits that come from the original's; 1 where it has none."""
        whole = self.kept + len(self.moved) + len(self.other)
        return (self.kept + self.near) / whole if whole else 1.0

    @property
    def same(self) -> bool:
        return not (self.moved or self.gone or self.other or self.merged or any(self.values))


def walk(first: Forest, second: Forest, trees: tuple[int, int]) -> Walk:
    """Go through a tree and what may have been made of it."""
    found, changes = Walk(), list[Array]()
    waiting = [(int(first.roots[trees[0]]), int(second.roots[trees[1]]))]
    while waiting:
        a, b = waiting.pop()
        if first.feature[a] < 0 and second.feature[b] < 0:
            changes.append(second.values[second.leaf[b]] - first.values[first.leaf[a]])
        elif first.feature[a] < 0:
            found.other += _splits(second, b)
        elif second.feature[b] < 0:
            found.gone += _splits(first, a)
            found.merged += len(_splits(first, a))  # a tree has one leaf more than splits
        elif (child := _child(first, second, a, b)) is not None:
            lost = int(first.left[a] + first.right[a]) - child
            found.gone += [a, *_splits(first, lost)]
            found.merged += 1 + len(_splits(first, lost))
            waiting.append((child, b))
        elif first.feature[a] == second.feature[b] and (first.subset[a] < 0) == (second.subset[b] < 0):
            _note(first, second, a, b, found)
            waiting += [(int(first.left[a]), int(second.left[b])), (int(first.right[a]), int(second.right[b]))]
        else:
            found.gone += _splits(first, a)
            found.other += _splits(second, b)
    if changes:
        moved = not np.array_equal(first.base, second.base)
        shift = np.median(changes, axis=0) if moved else 0.0  # which the base may make up for
        found.values = [float(abs(change - shift).max()) for change in changes]
    return found


def compare(first: Forest, second: Forest, x: Array) -> dict[str, Any]:
    """What changed from a forest to another.

    Args:
        first: The original.
        second: The candidate.
        x: Samples [samples, features].

    Returns:
        Plain data; see `strop.explanation.explain`.
    """
    x = x[:SAMPLES]
    pairs = match(first, second)
    anew = sum(a is not None and b is not None for a, b in pairs) < ALIKE * max(1, second.trees)
    if anew:
        pairs = [(None, tree) for tree in range(second.trees)] + [(tree, None) for tree in range(first.trees)]
    walks: dict[tuple[int, int], Walk] = {
        (a, b): walk(first, second, (a, b)) for a, b in pairs if a is not None and b is not None
    }
    moved = [change for one in walks.values() for change in one.moved]
    values = [change for one in walks.values() for change in one.values]
    steps = _effects(first, second, pairs, x)
    noise = sum(step["power"] for step in steps)
    trees = [
        {
            "original": a, "candidate": b, "what": _what(None if a is None or b is None else walks[a, b], b),
            "share": step["power"] / noise if noise else 0.0, "error": step["error"],
            "accumulated": step["accumulated"],
        }
        for (a, b), step in zip(pairs, steps, strict=True)
    ]  # fmt: skip
    scores = Likeness()
    scores.add(first.scores(x) / first.divisor, second.scores(x) / second.divisor)
    columns = [_used(one) for one in (first, second)]
    names = first.names or tuple(map(str, range(first.features)))
    return {
        "anew": anew,
        "trees": {
            "original": first.trees, "candidate": second.trees,
            "removed": sorted(a for a, b in pairs if a is not None and b is None),
            "added": sorted(b for a, b in pairs if a is None and b is not None),
            "changed": sum(not one.same for one in walks.values()),
        },
        "splits": {
            "original": _count(first, True), "candidate": _count(second, True),
            "moved": len(moved), "largest_move": max(moved, default=0.0),
            "removed": sum(len(one.gone) for one in walks.values()),
            "other": sum(len(one.other) for one in walks.values()), "named": _changed(first, second, walks, names),
        },
        "leaves": {
            "original": _count(first, False), "candidate": _count(second, False),
            "merged": sum(one.merged for one in walks.values()),
            "changed": sum(change > 0 for change in values), "largest_change": max(values, default=0.0),
            "step": second.step,
        },
        "columns": {
            "original": len(columns[0]), "candidate": len(columns[1]),
            "dropped": [names[at] for at in sorted(columns[0] - columns[1])],
            "added": [names[at] for at in sorted(columns[1] - columns[0]) if at < len(names)],
        },
        "scores": scores,
        "by_tree": trees,
        "by_column": _by_column(first, second, names),
        "samples": len(x),
    }  # fmt: skip


def match(first: Forest, second: Forest) -> list[tuple[int | None, int | None]]:
    """Which tree of the candidate was made of which of the original, in the original's order; None for none.

    Steps keep the order of trees, so each is looked for from where the one before it was found.
    """
    found: list[tuple[int | None, int | None]] = []
    at = 0
    for tree in range(second.trees):
        places = range(at, min(at + AHEAD, first.trees))
        place = next((a for a in places if _fits(first, second, a, tree)), None)
        if place is None:
            found.append((None, tree))
            continue
        found += [(skipped, None) for skipped in range(at, place)]
        found.append((place, tree))
        at = place + 1
    return found + [(rest, None) for rest in range(at, first.trees)]


def _fits(first: Forest, second: Forest, a: int, b: int) -> bool:
    if first.output[a] != second.output[b]:
        return False
    return walk(first, second, (a, b)).alike >= ALIKE


def _note(first: Forest, second: Forest, a: int, b: int, found: Walk) -> None:
    if first.subset[a] >= 0:
        same = np.array_equal(first.subset_of(a), second.subset_of(b))
        found.kept += same
        found.other += [] if same else [b]
        found.pairs += [] if same else [(a, b)]
    elif first.threshold[a] == second.threshold[b]:
        found.kept += 1
    else:
        change = abs(float(second.threshold[b]) - float(first.threshold[a]))
        found.moved.append(change if np.isfinite(change) else 0.0)
        found.pairs.append((a, b))
        found.near += change <= NEAR * _span(first, int(first.feature[a]))


def _span(forest: Forest, feature: int) -> float:
    """From the least threshold of a column to the greatest."""
    found = forest.threshold[(forest.feature == feature) & (forest.subset < 0)]
    found = found[np.isfinite(found)]
    return float(np.ptp(found)) if len(found) else 0.0


def _child(first: Forest, second: Forest, a: int, b: int) -> int | None:
    """The child of a split that took its place, since it is decided: the one that splits as what is there now, where
    the split itself does not."""
    if first.feature[a] == second.feature[b] and first.threshold[a] == second.threshold[b]:
        return None
    for child in (int(first.left[a]), int(first.right[a])):
        if first.feature[child] == second.feature[b] and first.threshold[child] == second.threshold[b]:
            return child
    return None


def _splits(forest: Forest, node: int) -> list[int]:
    found, waiting = list[int](), [node]
    while waiting:
        at = waiting.pop()
        if forest.feature[at] >= 0:
            found.append(at)
            waiting += [int(forest.left[at]), int(forest.right[at])]
    return found


def _changed(
    first: Forest, second: Forest, walks: Mapping[tuple[int, int], Walk], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The splits that changed, where they are few: each by the original's tree, before and after."""
    if sum(len(one.moved) + len(one.gone) + len(one.other) for one in walks.values()) > NAMED:
        return []
    found = []
    for (tree, _), one in sorted(walks.items()):
        added = set(one.other) - {b for _, b in one.pairs}
        for a, b in [*one.pairs, *((a, None) for a in one.gone), *((None, b) for b in sorted(added))]:
            sides = [None if node is None else _split(of, node, names) for of, node in ((first, a), (second, b))]
            found.append({"tree": tree, "original": sides[0], "candidate": sides[1]})
    return found


def _split(forest: Forest, node: int, names: Sequence[str]) -> str:
    """What a split asks, as text."""
    name = names[forest.feature[node]]
    if forest.subset[node] < 0:
        return f"{name} <= {forest.threshold[node]:.6g}"
    members = forest.subset_of(node)
    more = ", ..." if len(members) > NAMED else ""
    return f"{name} in {{{', '.join(map(str, members[:NAMED]))}{more}}}"


def _effects(
    first: Forest, second: Forest, pairs: Sequence[tuple[int | None, int | None]], x: Array
) -> list[dict[str, float]]:
    """What each tree's change does to the scores: alone, and with all before it, as root mean square over that of the
    original's scores.

    What a tree that was kept gives to all samples more than it did is told of the whole: a step may have moved it from
    there, from what the sums begin with.
    """
    whole = first.scores(x).astype(np.float64) / first.divisor
    size = float(np.sqrt(np.mean(whole**2))) or 1.0
    alike = second.base / second.divisor - first.base / first.divisor
    change, moments, found = np.zeros_like(whole), [], list[dict[str, float]]()
    for start in range(0, len(pairs), step := max(1, MOST // max(1, len(x)))):
        some = pairs[start : start + step]
        sides = [_reached(first, [a for a, _ in some], x), _reached(second, [b for _, b in some], x)]
        for place, (a, b) in enumerate(some):
            own = np.zeros_like(whole)
            for forest, tree, leaves, sign in ((first, a, sides[0], -1), (second, b, sides[1], 1)):
                if tree is not None:
                    values = forest.values[forest.leaf[leaves[place]]] * sign / forest.divisor
                    if values.shape[1] == own.shape[1]:
                        own += values
                    else:
                        own[:, forest.output[tree]] += values[:, 0]
            shift = 0.0 if a is None or b is None else own.mean(axis=0)
            alike, change = alike + shift, change + own - shift
            power = float(np.mean((own - shift) ** 2))
            found.append({"power": power, "error": power**0.5 / size})
            moments.append((change.mean(axis=0), float(np.mean(change**2))))
    for one, (mean, square) in zip(found, moments, strict=True):
        one["accumulated"] = max(0.0, square + float(np.mean((2 * mean + alike) * alike))) ** 0.5 / size
    return found


def _reached(forest: Forest, trees: Sequence[int | None], x: Array) -> dict[int, Array]:
    """By place, the leaves that samples end at."""
    known = [(place, tree) for place, tree in enumerate(trees) if tree is not None]
    if not known:
        return {}
    chosen = [tree for _, tree in known]
    leaves = replace(forest, roots=forest.roots[chosen], output=forest.output[chosen]).leaves(x)
    return {place: leaves[:, at] for at, (place, _) in enumerate(known)}


def _what(one: Walk | None, b: int | None) -> str:
    if one is None:
        return "removed" if b is None else "new"
    told = {
        "split": (len(one.gone), "removed"), "threshold": (len(one.moved), "moved"),
        "other split": (len(one.other), "new"),
        "leaf value": (sum(change > 0 for change in one.values), "changed"),
    }  # fmt: skip
    return ", ".join(f"{counted(count, what)} {how}" for what, (count, how) in told.items() if count) or "as it was"


def _by_column(first: Forest, second: Forest, names: Sequence[str]) -> list[dict[str, Any]]:
    """How many splits each forest has by each column that one of them splits by."""
    counts = []
    for one in (first, second):
        splits = one.feature[(one.tree >= 0) & (one.feature >= 0)]
        counts.append(np.bincount(splits, minlength=len(names))[: len(names)].tolist())
    return [
        {"name": name, "original": before, "candidate": after}
        for name, before, after in zip(names, *counts, strict=True)
        if before or after
    ]


def _used(forest: Forest) -> set[int]:
    return set(forest.feature[(forest.tree >= 0) & (forest.feature >= 0)].tolist())


def _count(forest: Forest, splits: bool) -> int:
    return int(((forest.tree >= 0) & ((forest.feature >= 0) == splits)).sum())
