"""Memory: what a call holds at each moment, as the file orders its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..naming import labels
from ..structure import Structure


@dataclass(frozen=True)
class Held:
    """Bytes that a call holds.

    Attributes:
        weights: Of all layers, all the time.
        most: Of values between layers, where these are most.
        at: The layer that then runs.
        largest: The value that is the largest then, by the layer that computes it; empty for an input.
        over_time: Of values, while each layer runs, in order.
    """

    weights: int
    most: float
    at: str
    largest: str
    over_time: tuple[float, ...]


def held(structure: Structure, samples: int) -> Held | None:
    """What a call would hold that runs layer by layer, gives back each value after its last reader, and fuses nothing.

    None where no layer computes a value of known size.

    Args:
        structure: Layers in an order in which they may run.
        samples: That a call carries.
    """
    sizes = {value: size * samples for value, size in structure.values.items()}
    named = labels([(layer.name, layer.operator, layer.place) for layer in structure.layers])
    source = {value: name for name, layer in zip(named, structure.layers, strict=True) for value in layer.writes}
    if not any(value in sizes for value in source):
        return None
    last = _last_use(structure)
    live = {value for layer in structure.layers for value in layer.reads if value not in source}
    now = sum(sizes.get(value, 0.0) for value in live)
    over_time, most, at, largest = [], -1.0, "", ""
    for place, layer in enumerate(structure.layers):
        now += sum(sizes.get(value, 0.0) for value in layer.writes)
        live |= set(layer.writes)
        over_time.append(now)
        if now > most:
            most, at = now, named[place]
            largest = source.get(max(live, key=lambda value: sizes.get(value, 0.0), default=""), "")
        over = {value for value in (*layer.reads, *layer.writes) if last.get(value, -1) <= place} & live
        now -= sum(sizes.get(value, 0.0) for value in over)
        live -= over
    return Held(structure.bytes, most, at, largest, tuple(over_time))


def _last_use(structure: Structure) -> Mapping[str, int]:
    """The place of the last layer that reads each value; of results, beyond all."""
    found = {value: place for place, layer in enumerate(structure.layers) for value in layer.reads}
    return {**found, **dict.fromkeys(structure.results, len(structure.layers))}
