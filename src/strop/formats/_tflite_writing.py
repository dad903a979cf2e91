"""Writing .tflite, in the schema's own objects: vectors that are alike are written once."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._lazy import require

IDENTIFIER = b"TFL3"
KEY = "serving_default"


def content(live: Any) -> bytes:
    """The file of a model, in the schema's own objects.

    A quantized tensor has a zero point of eight bytes a channel, nearly always 0: half of what the scales of a network
    with many channels take. A flatbuffer may point at one vector from many places.
    The scales of a bias, which follow from those of input and weights, can't be left out: without them XNNPACK leaves
    the operator to slower kernels, and with one for all channels it does not load.
    """
    builder = require("flatbuffers").Builder

    class Sharing(builder):  # type: ignore[misc, valid-type]  # of a package without types
        def __init__(self) -> None:
            super().__init__(1024)
            self._known: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: np.ndarray[Any, Any]) -> int:
            key = x.dtype.str, x.tobytes()
            if key not in self._known:
                self._known[key] = super().CreateNumpyVector(x)
            return self._known[key]

    made = Sharing()
    made.Finish(live.Pack(made), IDENTIFIER)
    return bytes(made.Output())


def sign(live: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
    """Give a model one signature."""
    schema = require("ai_edge_litert.schema_py_generated", "litert")
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = KEY.encode(), 0
    made.inputs, made.outputs = [], []
    for side, names in ((made.inputs, inputs), (made.outputs, outputs)):
        for name, place in names.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), place
            side.append(entry)
    live.signatureDefs = [made]


def append(path: Path, source: Path) -> None:
    """Carry over the files that TFLite's metadata speak of, such as labels: a ZIP archive behind the model."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "a") as new:
            for entry in old.infolist():
                if entry.compress_type == zipfile.ZIP_STORED:  # they all are: apps map them into memory
                    new.writestr(entry, old.read(entry))
