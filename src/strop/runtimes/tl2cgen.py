"""TL2cgen: a forest as C code of nested ifs, compiled where it runs."""

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
from .._quiet import hushed, silenced
from ..errors import NotApplicable, RunFailed
from ..forest import Forest
from ..formats._plain_trees import precision
from ..formats._treelite import is_linked, treelite_model
from ..model import FOREST, Format, Model
from ..native.library import FLAGS, build, compiler
from ..runtime import Runtime
from ..settings import choice
from ..target import Target
from ._forests import Array, Call, ForestRunner, Threads, digest, read

if TYPE_CHECKING:
    import tl2cgen
    import treelite
else:
    tl2cgen = lazy("tl2cgen", "trees")
    treelite = lazy("treelite", "trees")

TREES_A_UNIT = 8
LEVEL = "-O1"  # nested ifs gain nothing by more, which takes gcc twice as long

# What is missing is told by an integer of -1 in the place of a number; the last 32 bits of a double may be that, too.
_MISSING = {"float32": ("int missing;", "int missing;"), "float64": ("int missing;", "int64_t missing;")}

# TL2cgen's own predictor copies rows into a matrix of its own first.
_DRIVER = """\
#include "header.h"
__attribute__((visibility("default")))
void strop_rows(const {type} *x, int64_t start, int64_t stop, {type} *out) {{
  union Entry row[{features}];
  for (int64_t r = start; r < stop; ++r) {{
    const {type} *given = x + r * {features};
    for (int i = 0; i < {features}; ++i) {{
      row[i].fvalue = given[i];
      if (isnan(given[i])) row[i].missing = -1;
    }}
    for (int k = 0; k < {outputs}; ++k) out[r * {outputs} + k] = 0;
    predict(row, 0, out + r * {outputs});
  }}
}}
"""


@dataclass(frozen=True)
class Tl2cgen(Runtime):
    """TL2cgen's C code of the trees, compiled as the model is loaded, which takes seconds, and kept for the next time.

    Attributes:
        quantize: Whether a row's numbers are replaced by their places among the thresholds first.
    """

    quantize: bool = choice(True, False)

    loads: ClassVar[frozenset[Format]] = frozenset({FOREST})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "tl2cgen"
    extra: ClassVar[str | None] = "trees"
    partial: ClassVar[bool] = True

    @classmethod
    def expects(cls, target: Target) -> float:
        return 0.4 if target.batch == 1 else 0.3  # of LightGBM's fastest call, 500 trees of 63 leaves

    def requires(self, target: Target) -> None:
        if compiler() is None:
            raise NotApplicable("a C compiler is needed, and there is none here (apt-get install gcc)")

    def start(self) -> None:
        """Nothing of TL2cgen's is needed where the compiled code is at hand."""

    def load(self, model: Model, target: Target) -> ForestRunner:
        self.requires(target)
        forest = read(model)
        if np.isneginf(forest.threshold[(forest.feature >= 0) & (forest.subset < 0)]).any():
            raise NotApplicable("TL2cgen's code lets not even minus infinity pass a threshold of it, and some have it")
        run, threads, outputs = self._compiled(forest), Threads(target.threads), forest.outputs

        def prepare(x: Array) -> Call:
            out = np.empty((len(x), outputs), x.dtype)
            given, goal = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data)
            over = threads.over(len(x), lambda start, stop: run(given, start, stop, goal))

            def call(kept: object = x) -> Array:
                over()
                return out

            return call

        return ForestRunner(model, forest, prepare, is_linked(forest), threads.close)

    def _compiled(self, forest: Forest) -> Any:
        kind = {"float32": "float", "float64": "double"}[precision(forest)]
        driver = _DRIVER.format(type=kind, features=forest.features, outputs=forest.outputs)
        with own_folder("tl2cgen") as kept:
            library = kept / f"{self._key(forest, driver)}.so"
            if not used(library):
                with tempfile.TemporaryDirectory(dir=kept, prefix=PART) as scratch:
                    folder = Path(scratch)
                    self._generate(forest, folder)
                    (folder / "driver.c").write_text(driver)
                    build(folder, folder / "model.so", sorted(file.name for file in folder.glob("*.c")), LEVEL)
                    os.replace(folder / "model.so", library)
            try:
                run: Any = ctypes.CDLL(str(library)).strop_rows
            except (OSError, AttributeError) as error:
                raise RunFailed(f"{library} can't be loaded: {error}. Remove it.") from error
        run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p], None
        return run

    def _generate(self, forest: Forest, folder: Path) -> None:
        settings = {"parallel_comp": 1 + forest.trees // TREES_A_UNIT, "quantize": int(self.quantize)}
        try:
            with silenced(), hushed():
                tl2cgen.generate_c_code(treelite_model(forest), folder, settings)
        except (treelite.TreeliteError, tl2cgen.exception.TL2cgenError) as error:
            raise RunFailed(f"TL2cgen can't write the forest as C: {str(error).splitlines()[-1]}") from error
        header, (given, wanted) = folder / "header.h", _MISSING[precision(forest)]
        if header.read_text().count(given) != 1:
            raise RunFailed("TL2cgen's header is not as strop knows it. Install tl2cgen 1.0.")
        header.write_text(header.read_text().replace(given, wanted))

    def _key(self, forest: Forest, driver: str) -> str:
        version = importlib.metadata.version("tl2cgen")
        made = f"{version} {compiler()} {LEVEL} {FLAGS} {TREES_A_UNIT} {self.quantize} {_MISSING} {driver}"
        return hashlib.sha256((made + digest(forest)).encode()).hexdigest()[:32]
