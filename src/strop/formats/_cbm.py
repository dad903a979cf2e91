"""CatBoost's own files: a FlatBuffer, and one for each table of statistics after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

from ..errors import UnsupportedModel
from ..forest import Array
from . import _catboost
from ._catboost import Parts, Split, Splits, Statistics
from ._flatbuffers import Table, root
from .trees import MOST_OUTPUTS, inside

MAGIC = b"CBM1"
_KINDS = dict(
    enumerate(("Borders", "Buckets", "BinarizedTargetMeanValue", "FloatTargetMeanValue", "Counter", "FeatureFreq"))
)
_NAN_ABOVE = 2
_STATISTICS = "static_provider_v1"
_EMPTY = np.uint64((1 << 64) - 1)  # the key of a place in a hash map that holds nothing
_PLACES = np.dtype([("key", "<u8"), ("index", "<u4")])
_SUMS = np.dtype([("sum", "<f4"), ("count", "<i4")])
_Base: TypeAlias = tuple[tuple[int, ...], bytes, int, int]
"""What statistics are of: features, splits that are combined with them, the kind, and which of several targets."""


def read(content: bytes) -> Parts:
    """All that a file holds.

    The numbers of fields are of CatBoost's `libs/model/flatbuffers/*.fbs`.

    Raises:
        ValueError: It is cut off, or holds what can't be.
        UnsupportedModel: It takes texts or embeddings, words for categories, or has statistics of several columns.
    """
    piece, place = _piece(content, len(MAGIC))
    core = root(piece)
    if core.text(0) != "FlabuffersModel_v1":
        raise ValueError(f"its version is {core.text(0)[:40]!r}")
    model = core.table(1)
    if any(len(model.numbers(field, "<u4")) for field in (12, 13, 18)):
        raise UnsupportedModel(_catboost.NO_TEXTS)
    tables: dict[_Base, Table] = {}
    for part in core.texts(3):
        if part != _STATISTICS:
            raise ValueError(f"it has a part {part[:40]!r}")
        count, place = _number(content, place), place + 4
        for _ in range(count):
            piece, place = _piece(content, place)
            table = root(piece)
            tables[_base(table.table(0))] = table
    if place != len(content):
        raise ValueError(f"{len(content) - place} bytes follow its end")
    outputs = int(model.number(0, "i"))
    if not 1 <= outputs <= MOST_OUTPUTS:
        raise ValueError(f"it has {outputs} outputs")
    bias = model.numbers(16, "<f8")
    info = {entry.text(0): entry.text(1) for entry in core.tables(2)}
    return Parts(
        {_catboost.column_of(one.number(2, "i", -1)): one.text(4) for one in model.tables(5)}
        | {_catboost.column_of(one.number(1, "i", -1)): one.text(2) for one in model.tables(4)},
        list(_trees(model, Splits(list(_splits(model, tables))), outputs)),
        model.number(14, "d", 1),
        bias if len(bias) else np.full(outputs, model.number(15, "d")),
        _catboost.loss_of(info),
        _catboost.classes_of(info),
    )  # fmt: skip


def _number(content: bytes, place: int) -> int:
    if place + 4 > len(content):
        raise ValueError(f"it is cut off: it has {len(content)} bytes, and must have more than {place + 4}")
    return int.from_bytes(content[place : place + 4], "little")


def _piece(content: bytes, place: int) -> tuple[bytes, int]:
    """A FlatBuffer that its size precedes, and where it ends."""
    start, size = place + 4, _number(content, place)
    if start + size > len(content):
        raise ValueError(f"it is cut off: it has {len(content)} bytes, and must have {start + size}")
    return content[start : start + size], start + size


def _base(given: Table) -> _Base:
    combination = given.table(0)
    splits = b"".join(combination.numbers(field, "<u8").tobytes() for field in (1, 2))
    return (*map(int, combination.numbers(0, "<i4")),), splits, int(given.number(1, "b")), int(given.number(2, "i"))


def _splits(model: Table, tables: Mapping[_Base, Table]) -> Iterator[Split]:
    """In the order in which trees count them."""
    for feature in model.tables(5):
        nan_above = feature.number(0, "?", False) and feature.number(5, "b") == _NAN_ABOVE
        yield from _catboost.by_borders(
            _catboost.column_of(feature.number(2, "i", -1)), feature.numbers(3, "<f4"), nan_above
        )
    columns = {int(one.number(0, "i", -1)): _catboost.column_of(one.number(1, "i", -1)) for one in model.tables(4)}
    for feature in model.tables(6):
        yield from _catboost.by_categories(columns[feature.number(0, "i", -1)], feature.numbers(1, "<i4"))
    known: dict[_Base, Statistics] = {}
    for feature in model.tables(7):
        given = feature.table(0)
        base = _base(given.table(0))
        of, combined, kind, _ = base
        if len(of) != 1 or combined:
            raise UnsupportedModel(_catboost.NO_COMBINATIONS)
        column = columns[of[0]]
        if base not in known:
            known[base] = _statistics(column, _KINDS[kind], tables[base])
        prior = given.number(2, "f"), given.number(3, "f", 1)
        yield from _catboost.by_statistics(
            column, known[base], feature.numbers(1, "<f4"), given.number(1, "i"), prior, given.number(4, "f"),
            given.number(5, "f", 1),
        )  # fmt: skip


def _statistics(column: int, kind: str, table: Table) -> Statistics:
    places = table.numbers(1, "u1").view(_PLACES)
    places = places[places["key"] != _EMPTY]
    raw, classes = table.numbers(2, "u1"), 1
    if kind in ("BinarizedTargetMeanValue", "FloatTargetMeanValue"):
        sums = raw.view(_SUMS)
        counts = np.column_stack([sums["sum"].astype(np.float64), sums["count"]])
    else:
        if kind in ("Borders", "Buckets"):
            classes = int(table.number(4, "i"))
        if not 1 <= classes <= MOST_OUTPUTS:
            raise ValueError(f"a statistic is of {classes} classes")
        counts = raw.view("<i4").reshape(-1, classes)
    rows = inside(places["index"].astype(np.int64), len(counts), "the place of a count")
    return _catboost.statistics(column, places["key"].astype(np.uint64), counts[rows], kind, table.number(3, "i"))


def _trees(model: Table, splits: Splits, outputs: int) -> Iterator[dict[str, Array]]:
    of, sizes, starts = (model.numbers(field, "<i4").astype(np.int64) for field in (1, 2, 3))
    values, counts = model.numbers(8, "<f8").reshape(-1, outputs), model.numbers(9, "<f8")
    if (sizes < 0).any() or not np.array_equal(starts, np.cumsum(sizes) - sizes) or sizes.sum() != len(of):
        raise ValueError("its splits are not divided among its trees")
    if len(counts) not in (0, len(values)):
        raise ValueError(f"it has {len(values)} leaves, and counts of {len(counts)}")
    steps, leaves = model.numbers(10, "<u4").view("<u2").reshape(-1, 2), model.numbers(11, "<u4")
    if len(steps) or len(leaves):
        if not len(steps) == len(leaves) == len(of):
            raise ValueError(f"it has {len(of)} nodes, {len(steps)} steps and {len(leaves)} leaves")
        for start, stop in zip(starts, starts + sizes, strict=True):
            tree = slice(start, stop)
            yield _any_shape(splits, of[tree], steps[tree].astype(np.int64), leaves[tree], values, counts)
        return
    _catboost.check_depths(sizes, len(values))
    ends = np.cumsum(1 << sizes)
    for start, depth, end in zip(starts, sizes, ends, strict=True):
        tree = slice(end - (1 << depth), end)
        yield _catboost.symmetric(splits, of[start : start + depth], values[tree], counts[tree])


def _any_shape(
    splits: Splits, of: Array, steps: Array, places: Array, values: Array, counts: Array
) -> dict[str, Array]:
    """A tree whose nodes tell how far it is to their children; one that is no step away is a leaf at the node."""
    here = np.arange(len(of))
    inner = (steps > 0).any(axis=1)
    alone = inner & (steps == 0).any(axis=1)  # with a child and a leaf
    ending = np.r_[here[~inner], here[alone]]
    renamed = np.empty(len(of), np.int64)
    renamed[inner] = np.arange(inner.sum())
    renamed[ending[: (~inner).sum()]] = inner.sum() + np.arange((~inner).sum())
    beside = np.full(len(of), -1)
    beside[alone] = len(of) + np.arange(alone.sum())
    low, high = (
        np.where(step > 0, renamed[inside(here + step, len(of), "a child")], beside)[inner] for step in steps.T
    )
    at = inside(places[ending].astype(np.int64), values.size, "the value of a leaf")
    if (at % values.shape[1]).any():
        raise ValueError("the values of a leaf begin between those of two")
    rows = at // values.shape[1]
    return _catboost.nodes(splits, of[inner], low, high, values[rows], counts[rows] if len(counts) else counts)
