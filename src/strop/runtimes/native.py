"""Compiled forests: a C library, called."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .._pickles import check_own
from ..errors import RunFailed, UnsupportedModel, UntrustedModel
from ..formats.forest import source_of
from ..model import NATIVE, Batch, Format, Model, Signature, Tensor
from ..native.library import Library, build, write_source
from ..runtime import Code, Runtime
from ..target import Target


@dataclass(frozen=True)
class Native(Runtime):
    """The library that a forest became, called through ctypes without a copy; one thread.

    A library that strop did not build for this very user is not run: it is built again from the forest beside it.
    """

    loads: ClassVar[frozenset[Format]] = frozenset({NATIVE})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "ctypes"

    def code(self, model: Model, target: Target) -> Code:
        rows, result, width = _sides(model)
        shape = "len(x)" if width is None else f"(len(x), {width})"
        load = """\
import ctypes
import os

predict = ctypes.CDLL(os.path.abspath(file)).strop_predict  # forest.h says how to call it from C
predict.argtypes, predict.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p], None"""
        call = f"""\
x = np.ascontiguousarray(inputs[{rows.name!r}], {rows.dtype!r})
out = np.empty({shape}, {result.dtype!r})
predict(x.ctypes.data, len(x), out.ctypes.data)
outputs = {{{result.name!r}: out}}"""
        return Code(load, call)

    def load(self, model: Model, target: Target) -> _Runner:
        rows, result, width = _sides(model)
        try:
            check_own(model.path)
            library = Library(model.path, rows.dtype, result.dtype, width)
        except UntrustedModel:
            library = _built_again(model, rows.dtype, result.dtype, width)
        return _Runner(library, rows.name, result.name)


def _sides(model: Model) -> tuple[Tensor, Tensor, int | None]:
    """Its input and its output, and the columns of that; of a bundle, a signature may say anything."""
    match model.signature:
        case Signature((rows,), (Tensor(shape=(_,)) as result,)):
            return rows, result, None
        case Signature((rows,), (Tensor(shape=(_, int() as width)) as result,)):
            return rows, result, width
    raise RunFailed("a forest has one input and one output, and its signature says otherwise. Build it again.")


def _built_again(model: Model, dtype: str, result: str, width: int | None) -> Library:
    try:
        forest = source_of(model)
    except UnsupportedModel as error:
        raise RunFailed(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        write_source(forest, folder)
        build(folder, folder / "model.so")
        return Library(folder / "model.so", dtype, result, width)  # what is loaded outlives its file


class _Runner:
    def __init__(self, library: Library, rows: str, result: str):
        self.library, self.rows, self.result = library, rows, result

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        return {self.result: self.library(batch[self.rows])}

    def bind(self, batch: Batch) -> Callable[[], object]:
        return self.library.bind(batch[self.rows])[0]

    def close(self) -> None:
        del self.library
