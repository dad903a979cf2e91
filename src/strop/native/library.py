"""Library: a forest is written as C, compiled by the system's compiler, and called through ctypes without a copy."""

from __future__ import annotations

import ctypes
import importlib.resources
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import RunFailed
from ..forest import Forest
from .tables import tables

Array: TypeAlias = np.ndarray[Any, Any]

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-fPIC", "-shared", "-fvisibility=hidden")
LONGEST = 600.0  # seconds that compiling may take; a forest of any size takes a few, for its trees are data
SOURCES = ("forest.c", "forest.h", "tables.h", "tables.bin")

_HEADER = """\
/* A decision forest: {trees} trees, compiled by strop. Link model.so, or load it at run time; it needs libm alone.

   Columns of a row, in this order:
{columns}
   strop_predict may be called by several threads at once. */
#ifndef STROP_FOREST_H
#define STROP_FOREST_H
#include <stdint.h>

#if defined(__GNUC__)
#define STROP_API __attribute__((visibility("default")))
#else
#define STROP_API
#endif

#ifdef __cplusplus
extern "C" {{
#endif

typedef {input} strop_input;
typedef {result} strop_result;
enum {{ STROP_FEATURES = {features}, STROP_RESULTS = {results} }};

/* x: [rows][{features}] without gaps, NaN for what is missing. out: [rows][{results}], {meaning}. */
STROP_API void strop_predict(const strop_input *x, int64_t rows, strop_result *out);

STROP_API int strop_features(void); /* {features} */
STROP_API int strop_results(void);  /* {results} */
STROP_API int strop_input_bytes(void);  /* sizeof(strop_input) */
STROP_API int strop_result_bytes(void); /* sizeof(strop_result) */

#ifdef __cplusplus
}}
#endif
#endif
"""
_TYPES = {"float32": "float", "float64": "double"}


def compiler() -> str | None:
    """The system's C compiler: `$CC`, or the first of those usual."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC") or "", *COMPILERS))), None)


def write_source(forest: Forest, folder: Path) -> None:
    """Write all that a library is built from: `forest.c` says how."""
    made = tables(forest)
    names = [*forest.names] or [f"column {place}" for place in range(forest.features)]
    for place in np.unique(forest.feature[forest.subset >= 0]):
        names[place] += ", the code of a category"
    header = _HEADER.format(
        trees=f"{forest.trees:,}", features=forest.features, results=forest.width or 1,
        input=_TYPES[forest.dtype], result=_TYPES[forest.sums], meaning=_meaning(forest),
        columns="\n".join(f"     {place}: {_plain(name)}" for place, name in enumerate(names)) + "\n",
    )  # fmt: skip
    single = forest.sums == "float32"
    macros = dict(made.constants) | {"EXP": "expf" if single else "exp", "LOG1P": "log1pf" if single else "log1p"}
    defined = [f"#define {name} {value!r}" if isinstance(value, (int, float)) else f"#define {name} {value}"
               for name, value in macros.items()]  # fmt: skip
    (folder / "forest.h").write_text(header)
    (folder / "tables.h").write_text("\n".join([*defined, '#ifndef TABLES\n#define TABLES "tables.bin"\n#endif\n']))
    (folder / "tables.bin").write_bytes(made.content)
    source = importlib.resources.files(__package__) / "forest.c"
    (folder / "forest.c").write_bytes(source.read_bytes())


def build(folder: Path, library: Path, sources: Sequence[str] = ("forest.c",), level: str = "-O3") -> None:
    """Compile what `write_source` wrote, or other sources that lie in a folder.

    Raises:
        RunFailed: There is no compiler, or it fails; the message holds its first words.
    """
    command = compiler()
    if command is None:
        raise RunFailed("a forest becomes a library by a C compiler, and there is none. Install gcc or clang.")
    part = library.with_name(f".part-{library.name}")
    try:
        subprocess.run(
            [command, level, *FLAGS, "-o", str(part.absolute()), *sources, "-lm"],
            cwd=folder, check=True, capture_output=True, text=True, timeout=LONGEST,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = next((line for line in error.stderr.splitlines() if "error" in line), error.stderr[:200])
        raise RunFailed(f"{command} can't compile the forest: {said.strip()}. Set CC to another compiler.") from error
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"{command} took over {LONGEST:.0f} s to compile the forest. Set CC to another one.") from error
    os.replace(part, library)


class Library:
    """A forest that was compiled, loaded into this process.

    Attributes:
        dtype: Of its input.
        results: Of its output: the type, and how many columns; None for one number a row.
    """

    def __init__(self, path: Path, forest_dtype: str, result_dtype: str, width: int | None):
        try:
            loaded = ctypes.CDLL(str(path.absolute()))
            self._predict = loaded.strop_predict
            # one row takes less time than letting other threads have the interpreter meanwhile
            self._predict_one = ctypes.PyDLL(str(path.absolute())).strop_predict
            made = [int(getattr(loaded, f"strop_{what}")()) for what in ("results", "input_bytes", "result_bytes")]
            self.features = int(loaded.strop_features())
        except (OSError, AttributeError) as error:
            raise RunFailed(f"{path.name} can't be loaded: {error}. Build it again on this machine.") from error
        self.dtype, self.results = np.dtype(forest_dtype), (np.dtype(result_dtype), width)
        for function in (self._predict, self._predict_one):
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p], None
        self._one_row = (1, self.features)
        self._ready: list[tuple[Array, Callable[[], object], Array]] = []  # to take one row each
        if made != [width or 1, self.dtype.itemsize, self.results[0].itemsize]:
            raise RunFailed(f"{path.name} does not give what its signature says. Build it again.")

    def __call__(self, x: Array) -> Array:
        """Results [rows] or [rows, width] of rows [rows, features].

        Many rows are read where they lie, if they are contiguous and of `dtype`; a single one is copied.
        """
        if x.shape != self._one_row:
            call, out = self.bind(x)
            call()
            return out
        try:
            ready = self._ready.pop()
        except IndexError:  # others have them all, or this is the first row
            ready = self._make_ready()
        row, call, out = ready
        row[:] = x  # sooner done than told to C where it lies
        call()
        found = out.copy()
        self._ready.append(ready)
        return found

    def bind(self, x: Array) -> tuple[Callable[[], object], Array]:
        """The call on these rows, prepared once, and the array that it fills."""
        x = np.ascontiguousarray(x, self.dtype)
        if x.ndim != 2 or x.shape[1] != self.features:
            raise RunFailed(f"rows must have {self.features} columns, and the input has the shape {list(x.shape)}.")
        dtype, width = self.results
        out = np.empty(len(x) if width is None else (len(x), width), dtype)
        predict = self._predict_one if len(x) == 1 else self._predict
        source, rows, goal = ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(len(x)), ctypes.c_void_p(out.ctypes.data)

        def call(kept: tuple[Array, Array] = (x, out)) -> object:
            return predict(source, rows, goal)

        return call, out

    def _make_ready(self) -> tuple[Array, Callable[[], object], Array]:
        row = np.empty(self._one_row, self.dtype)
        return (row, *self.bind(row))


def _meaning(forest: Forest) -> str:
    return {
        "sigmoid": "the probability of the second class", "sigmoid of two": "the probabilities of both classes",
        "softmax": "the probability of each class", "shares": "the probability of each class",
        "probabilities": "the probability of each class",
    }.get(forest.link, "the prediction")  # fmt: skip


def _plain(name: str) -> str:
    """A column's name within a comment of C."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name).replace("\\", "/")
    return shown.replace("*/", "* /").replace("/*", "/ *")
