"""LiteRT's C library: it has the profiler that the Python package has no name for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ctypes import byref, c_char_p, c_int, c_int32, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._quiet import hushed
from ..errors import NotApplicable
from ..runtime import Array

FILE = "libLiteRt.so"
ALIGNED = 64  # bytes, that LiteRT wants of an input's address
CPU = 1
STRIDED = 1 << 7
STATUS = {1: "an argument that it does not take", 3: "a failure as it ran", 5: "something that it does not support"}
_Release = ctypes.CFUNCTYPE(None, c_void_p)


class _Layout(ctypes.Structure):
    """`LiteRtLayout`: `rank` has a flag for strides above its seven bits."""

    _fields_ = (("rank", c_uint), ("sizes", c_int32 * 8), ("strides", c_uint32 * 8))


class _Type(ctypes.Structure):
    """`LiteRtRankedTensorType`."""

    _fields_ = (("element", c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    """`ProfiledEventData`."""

    _fields_ = (
        ("tag", c_char_p), ("kind", c_int), ("begun", c_uint64), ("taken", c_uint64), ("before", c_size_t * 3),
        ("after", c_size_t * 3), ("number", c_uint64), ("graph", c_uint64), ("source", c_int),
    )  # fmt: skip


class Event(NamedTuple):
    """What the profiler wrote down at once.

    Attributes:
        name: What it is of, in words.
        kind: And as a number.
        taken: Microseconds.
        number: Place of an operator in its graph, or of a part in what a delegate runs.
        graph: Place of that graph in the file.
    """

    name: str
    kind: int
    taken: int
    number: int
    graph: int


class Watched:
    """A model that is loaded with the profiler, on the CPU.

    Args:
        path: A .tflite file. Its first subgraph is what is run.
        threads: Of a call.

    Raises:
        NotApplicable: The library refuses it, or has no profiler.
    """

    def __init__(self, path: Path, threads: int):
        self._kept: list[object] = []
        self._profiler = c_void_p()
        with hushed(), ExitStack() as self._ends:
            self._environment = self._made("Environment", 0, None)
            self._model = self._made("Model", self._environment, str(path).encode(), by="LiteRtCreateModelFromFile")
            options = self._made("Options")
            _call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
            # the delegate and the operators outside of it are told of threads by two names
            for name, said in (
                (b"runtime_options_string", b"enable_profiling = true\n"),
                (b"xnnpack", b"num_threads = %d\n" % threads),
                (b"cpu_delegate", b"num_threads = %d\n" % threads),
            ):
                _call("LiteRtAddOpaqueOptions", options, self._said(name, said))
            self._compiled = self._made("CompiledModel", self._environment, self._model, options)
            self._signature, signature = self._first()
            self._places, self._inputs = _ends(signature, "Input")
            _, self._results = _ends(signature, "Output")
            self._shapes = tuple(tuple(kind.layout.sizes[: kind.layout.rank & ~STRIDED]) for kind in self._inputs)
            _call("LiteRtCompiledModelGetProfiler", self._compiled, byref(self._profiler))
            _call("LiteRtStartProfiler", self._profiler)
            self._ends = self._ends.pop_all()

    def bind(self, feed: Mapping[int, Array]) -> Callable[[], object]:
        """A call with these inputs, by the numbers of their tensors."""
        arrays = [_aligned(feed[place]) for place in self._places]
        shapes = tuple(array.shape for array in arrays)
        with hushed():
            self._resize(shapes)
            layouts = (_Layout * len(self._results))()
            _call("LiteRtGetCompiledModelOutputTensorLayouts", self._compiled, self._signature, c_size_t(len(layouts)),
                  layouts, ctypes.c_bool(True))  # fmt: skip
        given = (c_void_p * len(arrays))()
        for at, array in enumerate(arrays):
            kind = _Type(self._inputs[at].element, _Layout(array.ndim, (c_int32 * 8)(*array.shape)))
            given[at] = self._made(
                "TensorBuffer", byref(kind), array.ctypes.data_as(c_void_p), c_size_t(array.nbytes), None,
                by="LiteRtCreateTensorBufferFromHostMemory",
            )  # fmt: skip
        made = (c_void_p * len(layouts))()
        for at, layout in enumerate(layouts):
            kind, needs = _Type(self._results[at].element, layout), c_void_p()
            _call("LiteRtGetCompiledModelOutputBufferRequirements", self._compiled, self._signature, c_size_t(at),
                  byref(needs))  # fmt: skip
            made[at] = self._made("TensorBuffer", self._environment, byref(kind), needs,
                                  by="LiteRtCreateManagedTensorBufferFromRequirements")  # fmt: skip
        self._kept.append(arrays)

        def call() -> None:
            self._resize(shapes)
            _call("LiteRtRunCompiledModel", self._compiled, self._signature, c_size_t(len(given)), given,
                  c_size_t(len(made)), made)  # fmt: skip

        return call

    def events(self) -> list[Event]:
        """What the profiler wrote down since it was last asked."""
        count = c_int()
        _call("LiteRtStopProfiler", self._profiler)
        _call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        found = (_Event * count.value)()
        if count.value:
            _call("LiteRtGetProfilerEvents", self._profiler, count, found)
        events = [Event(e.tag.decode(errors="replace"), e.kind, e.taken, e.number, e.graph) for e in found]
        _call("LiteRtStartProfiler", self._profiler)  # which forgets these
        return events

    def close(self) -> None:
        with hushed():
            self._ends.close()

    def _made(self, kind: str, *arguments: object, by: str = "") -> c_void_p:
        """A new object, which ends with this one."""
        made = c_void_p()
        _call(by or f"LiteRtCreate{kind}", *arguments, byref(made))
        self._ends.callback(getattr(_library(), f"LiteRtDestroy{kind}"), made)
        return made

    def _said(self, name: bytes, said: bytes) -> c_void_p:
        text, release, made = ctypes.create_string_buffer(said), _Release(lambda _: None), c_void_p()
        self._kept += [text, release]
        _call("LiteRtCreateOpaqueOptions", name, text, release, byref(made))
        return made

    def _first(self) -> tuple[c_size_t, c_void_p]:
        """The signature of the first subgraph, and its number."""
        first, own, signature = c_void_p(), c_void_p(), c_void_p()
        _call("LiteRtGetModelSubgraph", self._model, c_size_t(0), byref(first))
        for number in range(_count("ModelSignature", self._model)):
            _call("LiteRtGetModelSignature", self._model, c_size_t(number), byref(signature))
            _call("LiteRtGetSignatureSubgraph", signature, byref(own))
            if own.value == first.value:
                return c_size_t(number), signature
        raise NotApplicable("LiteRT's profiler runs signatures, and the model's first graph is of none")

    def _resize(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        if shapes == self._shapes:
            return
        for at, shape in enumerate(shapes):
            _call("LiteRtCompiledModelResizeInputTensorNonStrict", self._compiled, self._signature, c_size_t(at),
                  (c_int * len(shape))(*shape), c_size_t(len(shape)))  # fmt: skip
        self._shapes = shapes


def _ends(signature: c_void_p, side: str) -> tuple[list[int], list[_Type]]:
    """The numbers of the tensors that go in or come out, and their types."""
    places, types = [], []
    for at in range(_count(f"Signature{side}", signature)):
        tensor, place, kind = c_void_p(), c_uint32(), _Type()
        _call(f"LiteRtGetSignature{side}TensorByIndex", signature, c_size_t(at), byref(tensor))
        _call("LiteRtGetTensorIndex", tensor, byref(place))
        _call("LiteRtGetRankedTensorType", tensor, byref(kind))
        places.append(place.value)
        types.append(kind)
    return places, types


def _count(what: str, owner: c_void_p) -> int:
    count = c_size_t()
    _call(f"LiteRtGetNum{what}s", owner, byref(count))
    return count.value


def _aligned(array: Array) -> Array:
    room = np.empty(array.nbytes + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _call(name: str, *arguments: object) -> None:
    try:
        function = getattr(_library(), name)
    except AttributeError:
        raise NotApplicable(
            f"the {FILE} that is installed has no profiler that strop knows: {name} is missing"
        ) from None
    if status := function(*arguments):
        raise NotApplicable(
            f"LiteRT's profiler can't run this model: {name} ended with {STATUS.get(status, f'status {status}')}"
        )


@cache
def _library() -> ctypes.CDLL:
    package = find_spec("ai_edge_litert")
    folders = package.submodule_search_locations if package else None
    path = Path(next(iter(folders or ["."]))) / FILE
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NotApplicable(f"LiteRT's profiler is in {FILE}, which can't be loaded: {error}") from None
