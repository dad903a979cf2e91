"""Plain: the parts of a call as plain data, one entry each; times are those of the call, bytes those of the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..naming import labels
from ..stats import Interval
from .roofline import Row
from .split import Found


def layers(found: Found, batch: int) -> list[dict[str, Any]]:
    """Overhead first, where it is known; then what ran, in order; then layers that are done with before a call."""
    overhead = []
    if found.overhead is not None and found.share is not None:
        overhead.append(
            _entry(
                "call",
                "overhead",
                found.overhead,
                found.share,
                bound_by="overhead",
                operations=0.0,
                bytes=0,
                parameters=0,
            )
        )
    return [*overhead, *(_rows(found) if found.rows else _untimed(found, batch))]


def _rows(found: Found) -> Iterator[dict[str, Any]]:
    done = {name for row in found.rows for name in row.layers}
    before = [layer for layer in found.structure.layers if layer.name not in done]
    learned = {layer.name: layer.parameters for layer in found.structure.layers}
    told = [(row.name, row.operator, row.place) for row in found.rows]
    named = _placed(found.rows, labels([*told, *((layer.name, layer.operator, layer.place) for layer in before)]))
    for label, row in zip(named, found.rows, strict=False):
        yield _row(label, row, found.seconds.value, sum(learned.get(name, 0) for name in row.layers))
    for label, layer in zip(named[len(found.rows) :], before, strict=True):
        yield _entry(
            label, layer.operator, None, None, operations=0.0, bytes=layer.bytes, parameters=layer.parameters,
            layers=[layer.name],
        )  # fmt: skip


def _placed(rows: Sequence[Row], named: list[str]) -> list[str]:
    """What the runtime put in is called by the row that it comes after."""
    home = {layer: label for label, row in zip(named, rows, strict=False) for layer in row.layers}
    own = [(row.name, row.operator, f"after {home.get(row.after, row.after)}") for row in rows if row.after]
    called = iter(labels(own))
    return [next(called) if row.after else label for label, row in zip(named, rows, strict=False)] + named[len(rows) :]


def _row(label: str, row: Row, whole: float, parameters: int) -> dict[str, Any]:
    seconds = row.spread or Interval(row.seconds, row.seconds, row.seconds)
    return {
        **_entry(
            label, row.operator, seconds, Interval(seconds.value / whole, seconds.low / whole, seconds.high / whole),
            operations=row.operations, bytes=row.bytes, parameters=parameters, attainable=row.attainable,
            bound_by=row.bound_by, layers=list(row.layers),
        ),
        "precision": row.precision,
        "moved": row.moved,
        "reached": min(1.0, row.attainable / row.seconds) if row.attainable and row.seconds else None,
        "intensity": 2 * row.operations / row.moved if row.moved and row.operations and not row.waits else None,
    }  # fmt: skip


def _untimed(found: Found, batch: int) -> Iterator[dict[str, Any]]:
    """Layers without times of their own."""
    parts = found.structure.layers
    named = labels([(layer.name, layer.operator, layer.place) for layer in parts])
    for label, layer in zip(named, parts, strict=True):
        yield _entry(
            label, layer.operator, None, None,
            operations=None if layer.operations is None else layer.operations * batch, bytes=layer.bytes,
            parameters=layer.parameters,
        )  # fmt: skip


def _entry(
    name: str,
    operator: str,
    seconds: Interval | None,
    share: Interval | None,
    *,
    operations: float | None,
    bytes: int,
    parameters: int,
    attainable: float | None = None,
    bound_by: str | None = None,
    layers: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "operator": operator,
        "seconds": seconds and asdict(seconds),
        "share": share and asdict(share),
        "operations": operations,
        "bytes": bytes,
        "parameters": parameters,
        "attainable": attainable,
        "bound_by": bound_by,
        "layers": [] if layers is None else layers,
    }
