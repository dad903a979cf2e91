"""Roofline: what each part of a call could take at the least on this machine, and what it is bound by.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
CACM 52(4), 2009: nothing computes faster than the arithmetic units do, and none faster than its data arrive. To these
two roofs comes a third, which decides where there is little to do: what it takes to begin at all. Where each read
tells what is read next, as in trees, nothing is fetched ahead, and its bytes take far longer to arrive than they would
in a row (Drepper, "What every programmer should know about memory", 2007, section 3.3.2): that has no roof, and is told
by the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..runtime import LayerTime
from ..stats import Interval
from ..structure import Layer, Structure
from .peaks import Peaks

CONVERTING = (
    "reorder",
    "cast",
    "convert",
    "quantizelinear",
    "dequantizelinear",
    "fakequantize",
    "transpose",
    "permute",
)
"""How operators begin that change types and layouts and compute nothing, in small letters."""
KINDS = ("compute", "memory", "latency", "overhead", "conversion")
LATE = 1e-7  # seconds that a read from memory takes, or so: reads that wait for each other take no longer together
STREAMED = 0.5  # of the time, that the bytes of reads that wait for each other would take, for memory to bind them
KNOWN = 0.5  # of the time of all layers, that those take of which it must be known what binds them


@dataclass(frozen=True)
class Row:
    """A part of a call.

    Attributes:
        name: Of the layer that does most in it.
        operator: Of that layer; where the runtime put it in, the runtime's.
        layers: All the layers of the file that it stands for.
        seconds: That it takes.
        operations: Multiply-adds of a call, or splits of trees that it passes; None where that is not known.
        bytes: Of the weights that its layers are the first to read.
        moved: Bytes that go in and out in a call: values between it and others, and weights.
        precision: What it is computed in; empty where that is not known.
        attainable: Seconds at this machine's peaks; None where these are not known, or the sizes of what it computes.
        bound_by: One of `KINDS`; None where that can't be told either.
        place: Where in the source that layer came from; empty where that is not known.
        after: Of what stands for no layer, the layer or input whose value it takes; empty where that is not known.
        spread: Of these seconds, where bounds are known.
        waits: Whether its reads wait for each other; then its operations are no arithmetic.
    """

    name: str
    operator: str
    layers: tuple[str, ...]
    seconds: float
    operations: float | None
    bytes: int
    moved: float
    precision: str
    attainable: float | None
    bound_by: str | None
    place: str = ""
    after: str = ""
    spread: Interval | None = None
    waits: bool = False


def rows(times: Sequence[LayerTime], structure: Structure, peaks: Peaks | None, samples: int) -> tuple[Row, ...]:
    """What ran, held against the peaks, in the order in which it did.

    Args:
        times: As the runtime told.
        structure: Of the model's file.
        samples: That a call carries.
    """
    known = {layer.name: layer for layer in structure.layers}
    readers = _readers(structure)
    return tuple(_row(time, [known[n] for n in time.layers if n in known], structure, readers, peaks, samples)
                 for time in times)  # fmt: skip


def _row(
    time: LayerTime, group: Sequence[Layer], structure: Structure, readers: Mapping[str, set[str]],
    peaks: Peaks | None, samples: int,
) -> Row:  # fmt: skip
    main = max(group, key=lambda layer: (layer.operations or 0.0, layer.weights), default=None)
    known = [layer.operations for layer in group if layer.operations is not None]
    operations = sum(known) * samples if len(known) == len(group) else None
    weights, values = sum(layer.weights for layer in group), _passing(group, structure, readers) * samples
    attainable, bound_by = None, None
    told = all(value in structure.values for layer in group for value in layer.writes)  # else its work is not, either
    waits = any(layer.waits for layer in group)
    if peaks is not None and told and operations is not None and (waits or peaks.rate(time.precision)):
        limits = _limits(0.0 if waits else operations, weights, values, time.precision, structure, peaks)
        bound_by = max(limits, key=lambda kind: limits[kind])
        attainable = limits[bound_by]
        if all(_converts(kind) for kind in [layer.operator for layer in group] or [time.operator]):
            bound_by = "conversion"
        elif waits and attainable < STREAMED * time.seconds:
            bound_by = "latency" if LATE * operations >= STREAMED * time.seconds else "overhead"
    return Row(
        main.name if main else time.name, main.operator if main else time.operator,
        tuple(layer.name for layer in group), time.seconds, operations, sum(layer.bytes for layer in group),
        weights + values, time.precision, attainable, bound_by, main.place if main else "", time.after, waits=waits,
    )  # fmt: skip


def _limits(
    operations: float, weights: float, values: float, precision: str, structure: Structure, peaks: Peaks
) -> dict[str, float]:
    """Seconds, at the least, of computing, of moving, and of beginning.

    Weights come from memory where the last cache can't hold all of the model's until the next call; values that were
    just computed are near by where the nearest caches hold them.
    """
    rate = peaks.rate(precision)
    far = peaks.memory if structure.bytes > peaks.last else peaks.cache
    return {
        "compute": 2 * operations / rate if rate else 0.0,
        "memory": weights / far + values / (peaks.memory if values > peaks.last else peaks.cache),
        "overhead": peaks.start,
    }


def _passing(group: Sequence[Layer], structure: Structure, readers: Mapping[str, set[str]]) -> float:
    """Bytes for one sample that go into a group of layers from others and out of it to others, or to the caller."""
    own = {layer.name for layer in group}
    written = {value for layer in group for value in layer.writes}
    into = {value for layer in group for value in layer.reads} - written
    out = {value for value in written if value in structure.results or readers.get(value, set()) - own}
    return sum(structure.values.get(value, 0.0) for value in into | out)


def _readers(structure: Structure) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for layer in structure.layers:
        for value in layer.reads:
            found.setdefault(value, set()).add(layer.name)
    return found


def _converts(kind: str) -> bool:
    return kind.lower().startswith(CONVERTING)


def bound_by(rows: Sequence[Row], overhead: float) -> str | None:
    """What binds the most of a call's time: one of `KINDS`; None where the peaks are not known.

    Args:
        overhead: Seconds of a call that no row takes.
    """
    shares = shares_of(rows, overhead)
    return max(shares, key=lambda kind: shares[kind]) if shares else None


def shares_of(rows: Sequence[Row], overhead: float) -> dict[str, float]:
    """The share of a call's time that each of `KINDS` binds; empty where it is not known of most of it, as where the
    peaks are not known."""
    whole = sum(row.seconds for row in rows) + overhead
    if sum(row.seconds for row in rows if row.bound_by) <= KNOWN * (whole - overhead):
        return {}
    found = {kind: sum(row.seconds for row in rows if row.bound_by == kind) / whole for kind in KINDS}
    found["overhead"] += overhead / whole
    return found
