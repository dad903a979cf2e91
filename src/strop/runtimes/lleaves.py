"""lleaves: LightGBM's trees compiled by LLVM."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._cache import PART, own_folder, used
from .._lazy import lazy
from ..errors import RunFailed
from ..formats._lightgbm_text import is_linked, lightgbm_text
from ..formats._plain_trees import precision
from ..model import FOREST, Format, Model
from ..runtime import Runtime
from ..target import Target
from ._forests import Array, Call, ForestRunner, Threads, read

if TYPE_CHECKING:
    import lleaves
else:
    lleaves = lazy("lleaves", "trees")

# 500 trees of 63 leaves compile in a tenth of the time of the defaults, and are as fast
OPTIONS: dict[str, Any] = {"fblocksize": 34, "finline": False, "fcodemodel": "small", "froot_func_name": "forest_root"}
_ROOT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)


@dataclass(frozen=True)
class Lleaves(Runtime):
    """lleaves, for any library's trees, by way of LightGBM's text: compiled as the model is loaded, which takes
    seconds, and kept for the next time."""

    loads: ClassVar[frozenset[Format]] = frozenset({FOREST})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "lleaves"
    extra: ClassVar[str | None] = "trees"
    partial: ClassVar[bool] = True

    @classmethod
    def expects(cls, target: Target) -> float:
        return 0.45 if target.batch == 1 else 0.2  # of LightGBM's fastest call, 500 trees of 63 leaves

    def load(self, model: Model, target: Target) -> ForestRunner:
        forest = read(model)
        linked, text = is_linked(forest), lightgbm_text(forest)
        try:
            compiled = _compiled(text, linked, precision(forest) == "float64")
        except (RuntimeError, ValueError, AssertionError) as error:  # lleaves checks by `assert`
            raise RunFailed(f"lleaves can't compile {model.path.name}: {str(error)[:300]}") from error
        root = _ROOT(compiled._execution_engine.get_function_address(OPTIONS["froot_func_name"]))
        threads, outputs = Threads(target.threads), forest.outputs

        def prepare(x: Array) -> Call:
            out = np.empty((len(x), outputs), x.dtype)
            given, goal = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data)
            over = threads.over(len(x), lambda start, stop: root(given, goal, start, stop))

            def call(kept: object = (x, compiled)) -> Array:
                over()
                return out

            return call

        return ForestRunner(model, forest, prepare, linked, threads.close)


def _compiled(text: str, linked: bool, double: bool) -> Any:
    versions = [importlib.metadata.version(package) for package in ("lleaves", "llvmlite")]
    key = hashlib.sha256(f"{versions} {OPTIONS} {linked} {double} {text}".encode()).hexdigest()[:32]
    with own_folder("lleaves") as folder, tempfile.TemporaryDirectory(dir=folder, prefix=PART) as scratch:
        kept, source, fresh = folder / f"{key}.o", Path(scratch, "model.txt"), Path(scratch, "model.o")
        source.write_text(text)
        model = lleaves.Model(model_file=str(source))
        known = used(kept)
        model.compile(cache=str(kept if known else fresh), raw_score=not linked, use_fp64=double, **OPTIONS)
        if not known:
            os.replace(fresh, kept)
    return model
