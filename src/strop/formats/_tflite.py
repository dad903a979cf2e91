"""The graph in a .tflite file, read without running it and checked so far that it can be handed to an interpreter."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UnsupportedModel
from ..forest import Array
from ._flatbuffers import Table, root
from ._tflite_schema import BITS, CUSTOM, DTYPES, HIGHER, OPERATORS

IDENTIFIER = b"TFL3"
ENTRY = "serving_default"
BODIES = {"CALL": 1, "CALL_ONCE": 1, "IF": 2, "WHILE": 2}
"""Operators that run subgraphs, and how many; their options begin with the numbers of these."""
MOST = 1 << 20
"""Tensors or operators of a graph: more are none that anybody made."""


@dataclass(frozen=True)
class Value:
    """A tensor of a graph.

    Attributes:
        shape: As allocated at first.
        free: The same, -1 where a size is free.
        stored: Bytes that the file holds of it; 0 for what is computed.
        scales: Real values are `scale * (number - zero_point)`; empty where it is not quantized.
        axis: The one along which there is a scale each.
        variable: Whether it keeps its value from call to call.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    free: tuple[int, ...]
    buffer: int
    stored: int
    scales: Array
    zero_points: Array
    axis: int
    variable: bool
    sparse: bool

    @property
    def cells(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        kind: In TFLite's spelling; `CUSTOM:name` for one that is no builtin.
        inputs: Numbers of tensors; -1 for an optional one that is left out.
        bodies: Numbers of the subgraphs that it runs.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bodies: tuple[int, ...] = ()

    @property
    def builtin(self) -> bool:
        return not self.kind.startswith("CUSTOM:")


@dataclass(frozen=True)
class Graph:
    """What is called of a .tflite file: its first subgraph.

    Attributes:
        inputs: Names as people call them, in order, each with the number of its tensor; likewise `outputs`.
        others: The tensors and operators of further subgraphs: bodies of loops and branches, and other signatures.
        unused: Names of signatures that are not called.
    """

    values: tuple[Value, ...]
    operators: tuple[Operator, ...]
    inputs: dict[str, int]
    outputs: dict[str, int]
    others: tuple[tuple[tuple[Value, ...], tuple[Operator, ...]], ...]
    unused: tuple[str, ...]

    @property
    def all_values(self) -> list[Value]:
        return [*self.values, *(value for values, _ in self.others for value in values)]

    def named_operators(self) -> Iterator[tuple[Operator, str]]:
        """All operators, those of further subgraphs too, each with its first output, which is what layers go by."""
        for values, operators in ((self.values, self.operators), *self.others):
            for operator in operators:
                yield operator, values[operator.outputs[0]].name if operator.outputs else operator.kind

    def bodies(self, operator: Operator) -> list[tuple[tuple[Value, ...], tuple[Operator, ...]]]:
        """The tensors and operators of the subgraphs that an operator runs, and of those within these."""
        waiting, found = list(operator.bodies), dict[int, tuple[tuple[Value, ...], tuple[Operator, ...]]]()
        while waiting:
            if (number := waiting.pop()) not in found:
                found[number] = self.others[number - 1]
                waiting += [inner for one in found[number][1] for inner in one.bodies]
        return list(found.values())

    def parents(self, operator: Operator) -> list[Value]:
        """The tensors that an operator reads."""
        return [self.values[place] for place in operator.inputs if place >= 0]


def read(source: Path | bytes) -> Graph:
    """Read a file, or what one would hold, and hold all places, sizes and numbers in it to what they point at.

    Weights are not looked at, and of a file they are not read.

    Raises:
        UnsupportedModel: It is cut off, contradicts itself, or has nothing to call.
    """
    try:
        if isinstance(source, bytes):
            return _graph(source)
        with source.open("rb") as stream:
            return _graph(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (ValueError, IndexError, OverflowError) as error:
        name = "it" if isinstance(source, bytes) else source
        raise UnsupportedModel(
            f"A TFLite model must be whole, and {name} is broken: {error}. Copy or convert it again."
        ) from error


def _graph(content: bytes | mmap.mmap) -> Graph:
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"the bytes 4 to 8 must be {IDENTIFIER.decode()}, not {content[4:8]!r}")
    model = root(content)
    kinds = [_kind(code) for code in model.tables(1)]
    buffers = [_stored(buffer, len(content)) for buffer in model.tables(4)]
    parts = model.tables(2)
    if not parts:
        raise ValueError("it has no subgraph")
    read = [(_values(part, buffers), _operators(part, kinds, len(parts))) for part in parts]
    values, operators = read[0]
    inputs, outputs, unused = _names(model.tables(7), parts[0], values)
    return Graph(values, operators, inputs, outputs, tuple(read[1:]), unused)


def _kind(code: Table) -> str:
    number = max(code.number(0, "b"), code.number(3, "i"))
    if not 0 <= number < len(OPERATORS) or number == HIGHER:
        raise ValueError(f"operator code {number} is none of the {len(OPERATORS)} that are known")
    return f"CUSTOM:{code.text(1)}" if number == CUSTOM else OPERATORS[number]


def _stored(buffer: Table, length: int) -> int:
    """Bytes of a buffer: in the flatbuffer, or behind it."""
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    if offset > 1:  # 1 marks one that is still to be filled
        if offset + size > length:
            raise ValueError(f"a buffer of {size} bytes at {offset} reaches over its end at {length}")
        return int(size)
    return len(buffer.numbers(0, "u1"))


def _values(part: Table, buffers: Sequence[int]) -> tuple[Value, ...]:
    tables = part.tables(0)
    if len(tables) > MOST:
        raise ValueError(f"it has {len(tables)} tensors, and at most {MOST} are read")
    return tuple(_value(table, buffers) for table in tables)


def _value(table: Table, buffers: Sequence[int]) -> Value:
    name, code, buffer = table.text(3), int(table.number(1, "b")), int(table.number(2, "I"))
    if not 0 <= code < len(DTYPES):
        raise ValueError(f"tensor {name!r} has type {code}, and there are {len(DTYPES)}")
    if buffer >= len(buffers):
        raise ValueError(f"tensor {name!r} lies in buffer {buffer}, and there are {len(buffers)}")
    shape = tuple(table.numbers(0, "<i4").tolist())
    free = tuple(table.numbers(7, "<i4").tolist()) or shape
    if min(shape, default=0) < 0 or len(free) != len(shape):
        raise ValueError(f"tensor {name!r} has the sizes {list(shape)} and {list(free)}")
    scales, zeros, axis = np.zeros(0, "<f4"), np.zeros(0, "<i8"), 0
    if table.has(4):
        given = table.table(4)
        scales, zeros = given.numbers(2, "<f4").copy(), given.numbers(3, "<i8").copy()
        axis = int(given.number(6, "i"))
    value = Value(
        name, DTYPES[code], shape, free, buffer, buffers[buffer], scales, zeros, axis, bool(table.number(5, "?")),
        table.has(6),
    )  # fmt: skip
    _check(value)
    return value


def _check(value: Value) -> None:
    """Hold the bytes of a constant to its shape, and its scales to its axis."""
    bits = BITS.get(value.dtype)
    if value.stored and bits and not value.sparse and value.stored != -(-value.cells * bits // 8):
        raise ValueError(
            f"tensor {value.name!r} of {value.dtype}{list(value.shape)} lies in a buffer of {value.stored} bytes"
        )
    if len(value.scales) > 1 and (not 0 <= value.axis < len(value.shape) or value.sparse):
        raise ValueError(f"tensor {value.name!r} has {len(value.scales)} scales along axis {value.axis}")
    if len(value.scales) > 1 and len(value.scales) != value.shape[value.axis]:
        raise ValueError(f"tensor {value.name!r} of {list(value.shape)} has {len(value.scales)} scales")
    if len(value.zero_points) not in (0, 1, len(value.scales)):
        raise ValueError(f"tensor {value.name!r} has {len(value.scales)} scales and {len(value.zero_points)} zeros")


def _operators(part: Table, kinds: Sequence[str], graphs: int) -> tuple[Operator, ...]:
    count, tables = len(part.tables(0)), part.tables(3)
    if len(tables) > MOST:
        raise ValueError(f"it has {len(tables)} operators, and at most {MOST} are read")
    found = []
    for table in tables:
        code = int(table.number(0, "I"))
        if code >= len(kinds):
            raise ValueError(f"an operator has the code numbered {code}, and there are {len(kinds)}")
        bodies = tuple(int(table.table(4).number(at, "i")) for at in range(BODIES.get(kinds[code], 0) * table.has(4)))
        if bodies and not 0 < min(bodies) <= max(bodies) < graphs:
            raise ValueError(f"{kinds[code]} runs the subgraphs {list(bodies)}, and there are {graphs}")
        found.append(Operator(kinds[code], _places(table, 1, count, -1), _places(table, 2, count, 0), bodies))
    return tuple(found)


def _places(table: Table, field: int, count: int, least: int) -> tuple[int, ...]:
    places = tuple(table.numbers(field, "<i4").tolist())
    if places and not least <= min(places) <= max(places) < count:
        raise ValueError(f"tensor {min(places) if min(places) < least else max(places)} is none of the {count}")
    return places


def _names(
    signatures: Sequence[Table], part: Table, values: Sequence[Value]
) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    """What inputs and outputs are called: by the signature, where there is one, else by their tensors."""
    sides = [_places(part, field, len(values), 0) for field in (1, 2)]
    known = {table.text(2): table for table in signatures}
    first = {name: table for name, table in known.items() if table.number(4, "I") == 0}
    chosen = first.get(ENTRY) or next(iter(first.values()), None)
    found = []
    for side, places in enumerate(sides):
        named: dict[str, int] = {}
        if chosen is not None:
            given = [(entry.text(0), int(entry.number(1, "I"))) for entry in chosen.tables(side)]
            if strange := [name for name, place in given if place not in places]:
                raise ValueError(f"its signature names {strange[0]!r}, which is none of what it takes or gives")
            named = dict(sorted(given, key=lambda entry: places.index(entry[1])))
        for place in places:
            if place not in named.values():
                named[values[place].name or f"{('input', 'output')[side]}_{place}"] = place
        found.append(named)
    unused = tuple(name for name, table in known.items() if table is not chosen)
    return found[0], found[1], unused
