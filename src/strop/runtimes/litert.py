"""LiteRT, as TensorFlow Lite is called today."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .._lazy import lazy
from .._quiet import hushed
from ..errors import NotApplicable, RunFailed, UnsupportedModel
from ..formats.tflite import Graph, quantization, read
from ..model import TFLITE, Batch, Format, Model
from ..runtime import SECONDS, Array, Code, Profiled, Runtime
from ..settings import choice
from ..target import Target
from ._litert_layers import profiled

litert = lazy("ai_edge_litert.interpreter", "litert")

COMES_ALONG = frozenset({"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess"})
"""Custom operators that LiteRT registers with its builtin ones."""
SHOWN = 5  # layers that a message names

# `float[1] y = relu(float[1] x)`, without names or a signature.
EMPTY = bytes.fromhex(
    "1800000054464c3300000e00140010000c000800000004000e000000100000001c000000d000000003000000010000000800000004000400"
    "0400000001000000100000000c00140010000c00080004000c000000100000003c0000004000000044000000010000001000000000000a00"
    "0c000000080004000a000000080000000c000000010000000100000001000000000000000100000001000000010000000000000002000000"
    "3000000004000000e4ffffff080000000c000000010000007900000001000000010000000c000c0008000000000004000c00000008000000"
    "0c0000000100000078000000010000000100000001000000100000000c000c000b000000000004000c0000001300000000000013"
)


DEVICE = """\
# Measuring on the device

What `manifest.json` says of latency and memory was measured on the machine that it names. On a phone with Android:

1. Get LiteRT's own `benchmark_model` for its processor (`android_aarch64_benchmark_model`):
   <https://ai.google.dev/edge/litert/models/measurement>
2. Connect the phone by USB, and run

   ```sh
   adb push android_aarch64_benchmark_model /data/local/tmp/benchmark_model
   adb shell chmod +x /data/local/tmp/benchmark_model
   adb push {file} /data/local/tmp/
   adb shell taskset f0 /data/local/tmp/benchmark_model --graph=/data/local/tmp/{file} --num_threads={threads} \\
       --use_xnnpack=true --warmup_runs=20 --num_runs=200
   ```

   It tells the mean of a call in microseconds, as `Inference (avg)`. `taskset f0` keeps to the large cores that most
   phones have.

`samples.npz` holds inputs (`input.NAME`, one sample a row) and what the model answered to them where it was measured
(`output.NAME`). On any machine with Python, `pip install 'strop[litert]'` and `strop verify` on this folder run them
again, compare, and judge the limits there; TensorFlow is not needed.
"""


@dataclass(frozen=True)
class Litert(Runtime):
    """LiteRT on the CPU, through XNNPACK where that has the operator.

    Attributes:
        threads: Threads of one inference; 0 for as many as the target gives.
    """

    threads: int = choice(0, 1, 2, 4, 8)

    loads: ClassVar[frozenset[Format]] = frozenset({TFLITE})
    module: ClassVar[str] = "ai_edge_litert"
    extra: ClassVar[str | None] = "litert"

    def requires(self, target: Target) -> None:
        if self.threads >= target.threads and self.threads:
            raise NotApplicable(f"{self.threads} threads are not fewer than the {target.threads} of the target")

    def elsewhere(self, model: Model, target: Target) -> str:
        return DEVICE.format(file=model.path.name, threads=self.threads or target.threads) if target.mobile else ""

    def code(self, model: Model, target: Target) -> Code:
        graph = read(model.path)
        load = f"""\
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(file, num_threads={self.threads or target.threads})
places, results = {graph.inputs}, {graph.outputs}"""
        call = """\
for name, place in places.items():
    interpreter.resize_tensor_input(place, inputs[name].shape)
interpreter.allocate_tensors()
held = {one["index"]: (one["dtype"], *one["quantization"]) for one in interpreter.get_tensor_details()}
for name, place in places.items():
    value, (dtype, scale, zero) = inputs[name], held[place]
    if scale and value.dtype != dtype:  # the model takes integers
        bounds = np.iinfo(dtype)
        value = np.clip(np.rint(value / np.float32(scale)) + zero, bounds.min, bounds.max).astype(dtype)
    interpreter.set_tensor(place, value)
interpreter.invoke()
outputs = {}
for name, place in results.items():
    value, (_, scale, zero) = interpreter.get_tensor(place), held[place]
    outputs[name] = (value.astype(np.float32) - zero) * np.float32(scale) if scale else value"""
        return Code(load, call, ("ai-edge-litert",))

    def start(self) -> None:
        with hushed():
            interpreter = litert.Interpreter(model_content=EMPTY, num_threads=1)
            interpreter.allocate_tensors()
            interpreter.invoke()

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            graph = read(model.path)  # it believes what a file says, and dies of what does not hold
            _check_builtin(graph, model.path)
            scales = {place: quantization(graph.values[place], model.path.name) for place in _ends(graph)}
            with hushed():
                interpreter = litert.Interpreter(str(model.path), num_threads=self.threads or target.threads)
                interpreter.allocate_tensors()
        except UnsupportedModel as error:
            raise RunFailed(str(error)) from error
        except (RuntimeError, ValueError, OSError) as error:
            raise RunFailed(f"LiteRT can't load {model.path.name}: {_line(error)}") from error
        return _Runner(interpreter, graph, scales)

    def profiled(self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS) -> Profiled:
        with closing(self.load(model, target)) as runner:
            calls, feeds = [runner.bind(batch) for batch in batches], [runner.held(batch) for batch in batches]
            return profiled(model, calls, feeds, self.threads or target.threads, seconds)


class _Runner:
    def __init__(self, interpreter: Any, graph: Graph, scales: Mapping[int, tuple[float, int] | None]):
        self.interpreter, self.inputs, self.outputs, self.scales = interpreter, graph.inputs, graph.outputs, scales
        self.dtypes = {place: np.dtype(graph.values[place].dtype) for place in graph.inputs.values()}
        self.shapes = {place: graph.values[place].shape for place in graph.inputs.values()}
        self.remembers = any(value.variable for value in graph.values)

    def __call__(self, batch: Batch) -> dict[str, Array]:
        try:
            self._run(self._placed(batch))
            return {name: self._output(place) for name, place in self.outputs.items()}
        except (RuntimeError, ValueError) as error:
            raise RunFailed(f"LiteRT can't run the model: {_line(error)}") from error

    def bind(self, batch: Batch) -> Callable[[], object]:
        feed = self._placed(batch)
        held = [place for place in self.outputs.values() if self.scales[place]]

        def call() -> object:
            self._run(feed)
            return [self._output(place) for place in held]  # the others lie where they can be read

        return call

    def close(self) -> None:
        del self.interpreter

    def _placed(self, batch: Batch) -> dict[int, Array]:
        return {place: np.asarray(batch[name], order="C") for name, place in self.inputs.items()}

    def held(self, batch: Batch) -> dict[int, Array]:
        """What goes in, as the model takes it."""
        return {place: self._held(place, array) for place, array in self._placed(batch).items()}

    def _run(self, feed: Mapping[int, Array]) -> None:
        if any(self.shapes.get(place) != array.shape for place, array in feed.items()):
            self._resize(feed)
        if self.remembers:
            self.interpreter.reset_all_variables()
        for place, array in feed.items():
            self.interpreter.set_tensor(place, self._held(place, array))
        self.interpreter.invoke()

    def _resize(self, feed: Mapping[int, Array]) -> None:
        self.shapes = {}  # whatever they are, should this fail
        for place, array in feed.items():
            self.interpreter.resize_tensor_input(place, array.shape, strict=True)
        with hushed():
            self.interpreter.allocate_tensors()
        self.shapes = {place: array.shape for place, array in feed.items()}

    def _held(self, place: int, array: Array) -> Array:
        """An input as the model takes it: floats are quantized, what is no number to zero."""
        known, dtype = self.scales[place], self.dtypes[place]
        if known is None or array.dtype == dtype:
            return array
        scale, zero = known
        bounds = np.iinfo(dtype)
        real = np.rint(array / np.float32(scale)) + np.float32(zero)
        np.clip(real, bounds.min, bounds.max, out=real)
        if np.isnan(real).any():
            real[np.isnan(real)] = zero
        return real.astype(dtype)

    def _output(self, place: int) -> Array:
        array: Array = self.interpreter.get_tensor(place)
        if (known := self.scales[place]) is None:
            return array
        scale, zero = known
        return (array.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _check_builtin(graph: Graph, path: Path) -> None:
    """Refuse what only a build of LiteRT with further operators would run.

    Raises:
        RunFailed: Such operators, and their layers.
    """
    foreign: dict[str, list[str]] = {}
    for operator, layer in graph.named_operators():
        kind = operator.kind.removeprefix("CUSTOM:")
        if not operator.builtin and kind not in COMES_ALONG:
            foreign.setdefault(kind, []).append(layer)
    if foreign:
        listed = "; ".join(f"{kind} ({_some(layers)})" for kind, layers in foreign.items())
        raise RunFailed(
            f"LiteRT must have every operator of a model, and lacks some of {path.name}: {listed}. Convert it to "
            "LiteRT's builtin operators only, or change these layers."
        )


def _some(layers: Sequence[str]) -> str:
    more = len(layers) - SHOWN
    return ", ".join(layers[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _ends(graph: Graph) -> list[int]:
    return [*graph.inputs.values(), *graph.outputs.values()]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
