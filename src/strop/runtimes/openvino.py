"""OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .._quiet import openvino
from ..errors import NotApplicable, RunFailed
from ..model import OPENVINO, Batch, Format, Model
from ..runtime import SECONDS, Code, Profiled, Runtime
from ..settings import choice
from ..target import Target, computes
from ._openvino_layers import profiled
from ._openvino_sizes import SIZES, Sized

SIZED = """\
known = {{}}


def compiled(inputs):
    # OpenVINO is faster where it knows the sizes of inputs: the first {most} have a model each, all others share one.
    sizes = {{name: inputs[name].shape for name in {free}}}
    key = str(sizes) if str(sizes) in known or len(known) < {most} else ""
    if key not in known:
        graph = core.read_model(file)
        try:
            graph.reshape(sizes if key else {{}})
        except RuntimeError:
            graph = core.read_model(file)
        known[key] = core.compile_model(graph, "CPU", options)
    return known[key]"""


@dataclass(frozen=True)
class Openvino(Runtime):
    """OpenVINO on the CPU; a model whose inputs have free sizes is compiled for those that come.

    Attributes:
        precision: What float operations are computed in.
        threads: Threads of one inference; 0 for as many as the target gives.
    """

    precision: str = choice("f32", "bf16", "f16")
    threads: int = choice(0, 1, 2, 4, 8)

    loads: ClassVar[frozenset[Format]] = frozenset({OPENVINO})
    module: ClassVar[str] = "openvino"
    extra: ClassVar[str | None] = "openvino"

    @classmethod
    def expects(cls, target: Target) -> float:
        # Over ONNX Runtime in float32. Zen 3 (AVX2), 1 thread: bare products 0.98 (`benchmarks/bound.md`), MiniLM 0.96
        # and EfficientNet-Lite0 0.97. Where a kind of work does better or worse, `to-openvino` tells.
        return 0.97

    @classmethod
    def lower(cls, target: Target) -> tuple[Mapping[str, Any], float] | None:
        # Zen 5, 1 thread, EfficientNet-Lite0, MiniLM and PP-OCRv4's two: 0.56, 0.55, 0.55 and 0.67 of float32
        return ({"precision": "bf16"}, 0.6) if computes("bf16") else None

    def requires(self, target: Target) -> None:
        if self.threads >= target.threads and self.threads:
            raise NotApplicable(f"{self.threads} threads are not fewer than the {target.threads} of the target")
        # without it, OpenVINO accepts the hint and computes in float32 all the same
        if self.precision != "f32" and not computes(self.precision):
            raise NotApplicable(f"this CPU has no {self.precision} arithmetic")

    def code(self, model: Model, target: Target) -> Code:
        load = f"""\
import openvino as ov

core = ov.Core()
options = {{
    "INFERENCE_PRECISION_HINT": {self.precision!r},
    "INFERENCE_NUM_THREADS": {self.threads or target.threads},
    "PERFORMANCE_HINT": "LATENCY",
}}
names = {[tensor.name for tensor in model.signature.outputs]}
"""
        free = [tensor.name for tensor in model.signature.inputs if any(not isinstance(d, int) for d in tensor.shape)]
        load += SIZED.format(free=free, most=SIZES) if free else 'model = core.compile_model(file, "CPU", options)'
        one = "compiled(inputs)" if free else "model"
        return Code(load, f"found = {one}(inputs)\noutputs = {{name: found[name] for name in names}}", ("openvino",))

    def start(self) -> None:
        parameter = openvino().op.Parameter(openvino().Type.f32, openvino().Shape([1]))
        self._compiled(openvino().Model([parameter], [parameter], "empty"), Target(threads=1))

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            return _Runner(Sized(str(model.path), partial(self._compiled, target=target)), model)
        except RuntimeError as error:
            raise RunFailed(f"OpenVINO can't load {model.path.name}: {_last_line(error)}") from error

    def profiled(self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS) -> Profiled:
        def compiled(counting: bool) -> Any:
            return Sized(str(model.path), partial(self._compiled, target=target, counting=counting)).of(batches[0])

        try:
            return profiled(compiled, model, batches, self.threads or target.threads, seconds)
        except RuntimeError as error:
            raise RunFailed(f"OpenVINO can't profile {model.path.name}: {_last_line(error)}") from error

    def _compiled(self, graph: Any, target: Target, counting: bool = False) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": self.threads or target.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "PERF_COUNT": counting,
        }
        return openvino().Core().compile_model(graph, "CPU", options)


class _Runner:
    def __init__(self, sized: Sized, model: Model):
        self.sized, self.names = sized, [tensor.name for tensor in model.signature.outputs]
        self.requests: dict[int, Any] = {}  # by what was compiled

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            # unless it shares this input too, it writes it into the one that was shared last
            results = self._request(batch).infer(dict(batch), share_inputs=True)
        except RuntimeError as error:
            raise RunFailed(f"OpenVINO can't run the model: {_last_line(error)}") from error
        return {name: results[name] for name in self.names}

    def bind(self, batch: Batch) -> Callable[[], object]:
        infer, feed = self._request(batch).infer, dict(batch)
        return lambda: infer(feed, share_inputs=True)

    def close(self) -> None:
        del self.requests, self.sized

    def _request(self, batch: Batch) -> Any:
        compiled = self.sized.of(batch)
        if id(compiled) not in self.requests:
            self.requests[id(compiled)] = compiled.create_infer_request()
        return self.requests[id(compiled)]


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:400] if lines else type(error).__name__
