"""GTIL, treelite's own interpreter of trees."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import RunFailed
from ..formats._treelite import is_linked, treelite_model
from ..model import FOREST, Format, Model
from ..runtime import Runtime
from ..target import Target
from ._forests import Array, Call, ForestRunner, read

if TYPE_CHECKING:
    import threadpoolctl
    import treelite
else:
    threadpoolctl = lazy("threadpoolctl")
    treelite = lazy("treelite", "trees")


@dataclass(frozen=True)
class Gtil(Runtime):
    """Treelite's interpreter, through its C interface: exact, and loaded at once, for nothing is compiled."""

    loads: ClassVar[frozenset[Format]] = frozenset({FOREST})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "treelite"
    extra: ClassVar[str | None] = "trees"
    partial: ClassVar[bool] = True

    @classmethod
    def expects(cls, target: Target) -> float:
        return 2.3  # of LightGBM's fastest call, 500 trees of 63 leaves

    def load(self, model: Model, target: Target) -> ForestRunner:
        forest = read(model)
        try:
            trees = treelite_model(forest)
        except treelite.TreeliteError as error:
            raise RunFailed(f"treelite can't load {model.path.name}: {str(error).splitlines()[-1]}") from error
        # it refuses more threads than other libraries of this process have left to OpenMP
        threadpoolctl.threadpool_limits(target.threads, user_api="openmp")
        options = treelite.gtil.gtil.GTILConfig(predict_type="default", nthread=target.threads)
        predict, outputs = treelite.core._LIB.TreeliteGTILPredict, forest.outputs  # public, but for the handle of it

        def prepare(x: Array) -> Call:
            out = np.empty((len(x), outputs), x.dtype)
            given, goal = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data)
            handle, config, rows = trees.handle, options.handle, ctypes.c_uint64(len(x))
            kind = ctypes.c_char_p(x.dtype.name.encode())

            def call(kept: object = (x, trees, options)) -> Array:
                if failed := predict(handle, given, kind, rows, goal, config):
                    raise _refused(failed)
                return out

            return call

        return ForestRunner(model, forest, prepare, is_linked(forest))


def _refused(code: int) -> RunFailed:
    try:
        treelite.core._check_call(code)
    except treelite.TreeliteError as error:
        return RunFailed(f"treelite can't run the model: {str(error).splitlines()[-1]}")
    return RunFailed("treelite can't run the model.")
