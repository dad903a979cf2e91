"""Forests drawn at random, with everything that a forest may hold, and rows that hit their edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.forest import Forest

Array = np.ndarray[Any, Any]


def grown(
    rng: np.random.Generator,
    *,
    trees: int = 5,
    leaves: int = 12,
    features: int = 4,
    outputs: int = 1,
    vectors: bool = False,
    subsets: float = 0.0,
    zero_missing: float = 0.0,
    deep: bool = False,
    counted: bool = True,
    **settings: Any,
) -> Forest:
    """Trees that split random leaves (or, `deep`, always the last one) until they have so many."""
    nodes: dict[str, list[Any]] = {name: [] for name in Forest.ARRAYS[:10]}
    members: list[Array] = []
    roots, values = [], 0

    def add(**given: Any) -> int:
        default = {"feature": -1, "threshold": 0.0, "left": -1, "right": -1, "nan_left": False, "zero_missing": False,
                   "subset": -1, "leaf": -1, "count": np.nan, "gain": np.nan}  # fmt: skip
        for name, column in nodes.items():
            column.append({**default, **given}[name])
        return len(nodes["feature"]) - 1

    for _ in range(trees):
        roots.append(add(count=1000.0 if counted else np.nan))
        ends = [roots[-1]]
        for _ in range(int(rng.integers(max(1, leaves // 2), leaves + 1)) - 1):
            node = ends.pop(-1 if deep else int(rng.integers(len(ends))))
            share = rng.random()
            count = nodes["count"][node]
            sides = [add(count=count * part) for part in (share, 1 - share)]
            nodes["left"][node], nodes["right"][node] = sides if rng.random() < 0.5 else sides[::-1]
            nodes["feature"][node] = int(rng.integers(features))
            nodes["threshold"][node] = float(rng.choice([rng.normal(), np.round(rng.normal()), 0.0, -0.0]))
            nodes["nan_left"][node] = bool(rng.random() < 0.5)
            nodes["zero_missing"][node] = bool(rng.random() < zero_missing)
            if rng.random() < subsets:
                nodes["subset"][node] = len(members)
                members.append(np.flatnonzero(rng.random(int(rng.choice([1, 5, 70]))) < 0.5))
            ends += sides
    for node, feature in enumerate(nodes["feature"]):
        if feature < 0:
            nodes["leaf"][node], values = values, values + 1
    return Forest(
        **nodes,
        members=np.concatenate([np.zeros(0, np.int64), *members]), member_ends=np.cumsum([len(one) for one in members]),
        values=rng.normal(size=(values, outputs if vectors else 1)),
        roots=roots, output=np.zeros(trees) if vectors else np.arange(trees) % outputs, base=rng.normal(size=outputs),
        features=features, **settings,
    ).check()  # fmt: skip


def edges(rng: np.random.Generator, forest: Forest, rows: int) -> Array:
    """Rows [rows, features] of the type it takes: thresholds and their neighbours, categories, and all that is odd."""
    thresholds = np.append(forest.threshold, 0.0)
    near = [thresholds, np.nextafter(thresholds, np.inf), np.nextafter(thresholds, -np.inf)]
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -1e-36, 1e-34, 1e300, -1.0, -0.5, 0.5, 4.0, 69.0, 70.0, 2.0**33]
    pool = np.concatenate([*near, odd, np.arange(80.0), rng.normal(size=200)])
    with np.errstate(over="ignore"):
        return rng.choice(pool, (rows, forest.features)).astype(forest.dtype)
