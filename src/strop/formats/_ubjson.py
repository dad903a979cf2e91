"""Universal Binary JSON, as far as XGBoost writes it."""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_CONSTANTS = {"Z": None, "T": True, "F": False}
_DEPTH = 64


def loads(content: bytes) -> Any:
    """The one value that bytes hold. Arrays of one type become NumPy arrays.

    Raises:
        ValueError: They are cut off, go on after it, or hold what is no UBJSON.
    """
    reader = _Reader(content)
    value = reader.value(reader.text(1), 0)
    if reader.place != len(content):
        raise ValueError(f"{len(content) - reader.place} bytes follow its end")
    return value


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.content) - self.place:
            raise ValueError(f"it is cut off: at byte {self.place}, {size} bytes are to follow")
        self.place += size
        return self.content[self.place - size : self.place]

    def text(self, size: int) -> str:
        return self.take(size).decode()

    def expect(self, mark: str) -> None:
        if (found := self.text(1)) != mark:
            raise ValueError(f"byte {self.place - 1} must be {mark!r}, and is {found!r}")

    def follows(self, mark: str) -> bool:
        """Whether a mark comes next; it is taken then."""
        found = self.content[self.place : self.place + 1] == mark.encode()
        self.place += found
        return found

    def numbers(self, kind: str, size: int) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(size * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))

    def size(self) -> int:
        self.expect("L")
        return int(self.numbers("L", 1)[0])

    def value(self, kind: str, depth: int) -> Any:
        if depth > _DEPTH:
            raise ValueError(f"it is nested more than {_DEPTH} deep")
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            return self.numbers(kind, 1)[0].item()
        if kind == "S":
            return self.text(self.size())
        if kind == "[":
            return self.array(depth + 1)
        if kind == "{":
            found = {}
            while not self.follows("}"):
                key = self.text(self.size())
                found[key] = self.value(self.text(1), depth + 1)
            return found
        raise ValueError(f"byte {self.place - 1} begins no value: {kind!r}")

    def array(self, depth: int) -> Any:
        if self.follows("$"):
            kind = self.text(1)
            self.expect("#")
            return self.numbers(kind, self.size())
        if self.follows("#"):
            return [self.value(self.text(1), depth) for _ in range(self.size())]
        found = []
        while not self.follows("]"):
            found.append(self.value(self.text(1), depth))
        return found
