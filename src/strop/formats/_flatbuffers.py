"""FlatBuffers, read without a schema and never outside of their bytes."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..forest import Array

_SIZES = {"?": 1, "b": 1, "H": 2, "i": 4, "I": 4, "f": 4, "d": 8, "Q": 8}


class Table:
    """A table: its fields are numbered as its schema declares them, from 0.

    All methods raise ValueError where the bytes end before what they are to hold.
    """

    def __init__(self, buffer: _Buffer, place: int) -> None:
        self.buffer, self.place = buffer, place
        self.fields = place - buffer.number(place, "i")
        self.size = buffer.number(self.fields, "H")

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def number(self, field: int, kind: str, default: float = 0) -> Any:
        place = self._place(field)
        return default if place is None else self.buffer.number(place, kind)

    def numbers(self, field: int, dtype: str) -> Array:
        """A vector of numbers, or of structs; empty where the field is not there."""
        place = self._place(field)
        return np.zeros(0, dtype) if place is None else self.buffer.vector(self.buffer.follow(place), dtype)[1]

    def text(self, field: int) -> str:
        return self.numbers(field, "u1").tobytes().decode()

    def texts(self, field: int) -> list[str]:
        return [self.buffer.vector(place, "u1")[1].tobytes().decode() for place in self._places(field)]

    def table(self, field: int) -> Table:
        """
        Raises:
            ValueError: It is not there.
        """
        place = self._place(field)
        if place is None:
            raise ValueError(f"the table at byte {self.place} lacks its field {field}")
        return Table(self.buffer, self.buffer.follow(place))

    def tables(self, field: int) -> list[Table]:
        return [Table(self.buffer, place) for place in self._places(field)]

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = self.buffer.number(self.fields + slot, "H") if slot + 2 <= self.size else 0
        return self.place + int(offset) if offset else None

    def _places(self, field: int) -> Iterator[int]:
        """Where the elements of a vector of offsets lie."""
        place = self._place(field)
        if place is not None:
            start, offsets = self.buffer.vector(self.buffer.follow(place), "<u4")
            yield from (start + 4 * at + int(offset) for at, offset in enumerate(offsets))


def root(content: bytes | mmap.mmap) -> Table:
    """The table that a buffer begins with."""
    buffer = _Buffer(content)
    return Table(buffer, buffer.follow(0))


class _Buffer:
    def __init__(self, content: bytes | mmap.mmap) -> None:
        self.content = content
        self.left = 4 * len(content)  # bytes still to be given: offsets that meet must not multiply what is there

    def number(self, place: int, kind: str) -> Any:
        self._check(place, _SIZES[kind])
        return struct.unpack_from(f"<{kind}", self.content, place)[0]

    def follow(self, place: int) -> int:
        return place + int(self.number(place, "I"))

    def vector(self, place: int, dtype: str) -> tuple[int, Array]:
        """Where the elements of a vector begin, and they."""
        size, each = int(self.number(place, "I")), np.dtype(dtype).itemsize
        self._check(place + 4, size * each)
        self.left -= size * each
        if self.left < 0:
            raise ValueError("its parts overlap")
        return place + 4, np.frombuffer(self.content, dtype, size, place + 4)

    def _check(self, place: int, size: int) -> None:
        if not 0 <= place <= len(self.content) - size:
            raise ValueError(f"it is cut off: {size} bytes are to be at {place}, and it has {len(self.content)}")
