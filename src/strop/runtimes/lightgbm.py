"""LightGBM itself, by the fastest call that it has."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy, require
from .._quiet import without
from ..errors import RunFailed
from ..model import LIGHTGBM, Batch, Format, Model
from ..runtime import Code, Runtime
from ..target import Target

if TYPE_CHECKING:
    import lightgbm
else:
    lightgbm = lazy("lightgbm", "trees")

_NORMAL, _FLOAT64, _ROW_MAJOR, _ALL = 0, 1, 1, -1


@dataclass(frozen=True)
class Lightgbm(Runtime):
    """LightGBM through its C interface: for one row the single-row fast call, set up once; else the call on a matrix.

    `Booster.predict` makes the same calls, and takes some ten times as long for one row. Rows hold the codes of
    categories; to look these up in a frame is not timed.
    """

    loads: ClassVar[frozenset[Format]] = frozenset({LIGHTGBM})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "lightgbm"
    extra: ClassVar[str | None] = "trees"

    def code(self, model: Model, target: Target) -> Code:
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        load = "import lightgbm\n\nbooster = lightgbm.Booster(model_file=file)"
        call = f"outputs = {{{result.name!r}: booster.predict(inputs[{rows.name!r}], num_threads={target.threads})}}"
        return Code(load, call, ("lightgbm",), ("libgomp1",))

    def start(self) -> None:
        with without("matplotlib", "pandas", "sklearn"):  # it is given arrays
            require(self.module, self.extra)

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            booster = lightgbm.Booster(model_file=str(model.path))
        except lightgbm.basic.LightGBMError as error:
            raise RunFailed(f"LightGBM can't load {model.path.name}: {error}") from error
        return _Runner(booster, model, target.threads)


class _Runner:
    def __init__(self, booster: Any, model: Model, threads: int):
        self.booster, self.library = booster, lightgbm.basic._LIB  # type: ignore[attr-defined]  # its C interface is public, the handle of it is not
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        self.rows, self.result = rows.name, result.name
        self.width = tuple(size for size in result.shape[1:] if isinstance(size, int))
        self.settings = f"num_threads={threads}".encode()
        self.single: ctypes.c_void_p | None = None

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        call, out = self._call(batch)
        if call():
            raise RunFailed(f"LightGBM: {self.library.LGBM_GetLastError().decode()}")
        return {self.result: out}

    def bind(self, batch: Batch) -> Callable[[], object]:
        return self._call(batch)[0]

    def close(self) -> None:
        if self.single is not None:
            self.library.LGBM_FastConfigFree(self.single)
        del self.booster

    def _call(self, batch: Batch) -> tuple[Callable[[], int], np.ndarray[Any, Any]]:
        x = np.ascontiguousarray(batch[self.rows], np.float64)
        out = np.empty((len(x), *self.width), np.float64)
        library, handle, length = self.library, self.booster._handle, ctypes.c_int64()
        source, goal, told = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.byref(length)
        if len(x) == 1:
            one, fast = library.LGBM_BoosterPredictForMatSingleRowFast, self._fast(x.shape[1])
            return (lambda kept=(x, out, length): one(fast, source, told, goal)), out
        columns, settings = ctypes.c_int32(x.shape[1]), ctypes.c_char_p(self.settings)
        rows, all_of_it = ctypes.c_int32(len(x)), library.LGBM_BoosterPredictForMat

        def call(kept: object = (x, out, length)) -> int:
            return int(
                all_of_it(handle, source, _FLOAT64, rows, columns, _ROW_MAJOR, _NORMAL, 0, _ALL, settings, told, goal)
            )

        return call, out

    def _fast(self, columns: int) -> ctypes.c_void_p:
        """What LightGBM sets up once for all single rows."""
        if self.single is None:
            fast, settings = ctypes.c_void_p(), ctypes.c_char_p(self.settings)
            failed = self.library.LGBM_BoosterPredictForMatSingleRowFastInit(
                self.booster._handle, _NORMAL, 0, _ALL, _FLOAT64, ctypes.c_int32(columns), settings, ctypes.byref(fast)
            )
            if failed:
                raise RunFailed(f"LightGBM: {self.library.LGBM_GetLastError().decode()}")
            self.single = fast
        return self.single
