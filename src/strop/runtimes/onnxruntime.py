"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .._lazy import lazy
from .._plain import told
from .._quiet import no_telemetry
from ..errors import NotApplicable, RunFailed
from ..model import ONNX, ONNX_TREES, Batch, Format, Model, Signature, Tensor
from ..runtime import SECONDS, Code, Profiled, Runtime
from ..settings import choice
from ..target import Target
from ._onnxruntime_layers import profiled

ort = lazy("onnxruntime")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# `g (float[1] x) => (float[1] y) { y = Identity(x) }`, opset 17: as bytes, since importing onnx takes memory too.
EMPTY = bytes.fromhex(
    "08083a390a120a017812017922084964656e746974793a001201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a0808011204"
    "0a02080142040a001011"
)


@dataclass(frozen=True)
class Onnxruntime(Runtime):
    """ONNX Runtime, its graph optimizations all on.

    Attributes:
        provider: What executes the graph; nodes that it can't run go to the CPU.
        threads: Threads within an operator; 0 for as many as the target gives.
    """

    provider: str = choice("cpu", "cuda", "tensorrt")
    threads: int = choice(0, 1, 2, 4, 8)

    loads: ClassVar[frozenset[Format]] = frozenset({ONNX, ONNX_TREES})
    apart: ClassVar[frozenset[Format]] = frozenset({ONNX_TREES})
    module: ClassVar[str] = "onnxruntime"

    def requires(self, target: Target) -> None:
        if self.threads >= target.threads and self.threads:
            raise NotApplicable(f"{self.threads} threads are not fewer than the {target.threads} of the target")
        if self.provider != "cpu" and PROVIDERS[self.provider] not in ort.get_available_providers():
            raise NotApplicable(f"this build of ONNX Runtime has no {PROVIDERS[self.provider]}")

    def code(self, model: Model, target: Target) -> Code:
        names = [tensor.name for tensor in model.signature.outputs]
        providers = list(dict.fromkeys([PROVIDERS[self.provider], PROVIDERS["cpu"]]))
        load = f"""\
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = {self.threads or target.threads}
session = ort.InferenceSession(file, options, providers={providers})
names = {names}"""
        call = "outputs = dict(zip(names, session.run(names, inputs)))"
        if model.format == ONNX_TREES:  # a ZipMap gives maps
            call += "\nfor name, rows in outputs.items():\n    if isinstance(rows, list):\n"
            call += "        outputs[name] = np.array([[*row.values()] for row in rows], np.float32)"
        return Code(load, call, ("onnxruntime" if self.provider == "cpu" else "onnxruntime-gpu",))

    def start(self) -> None:
        self._session(EMPTY, 1)

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            session = self._session(str(model.path), self.threads or target.threads)
        except Exception as error:  # its exceptions share no base class
            raise RunFailed(f"ONNX Runtime can't load {model.path.name}: {told(error)}") from error
        return _Runner(session, model.signature)

    def profiled(self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS) -> Profiled:
        if model.format == ONNX_TREES:
            raise NotApplicable("to the profiler of ONNX Runtime all trees of a forest are one node")

        def session(file: str, written: Mapping[str, str]) -> Any:
            return self._session(file, self.threads or target.threads, written)

        try:
            return profiled(session, model, batches, self.threads or target.threads, seconds)
        except NotApplicable:
            raise
        except Exception as error:
            raise RunFailed(f"ONNX Runtime can't profile {model.path.name}: {told(error)}") from error

    def _session(self, model: str | bytes, threads: int, written: Mapping[str, str] | None = None) -> Any:
        no_telemetry()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads spin while a call runs, as they would for a user, and sleep between calls: an idle session is quiet.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if written:
            options.enable_profiling, options.profile_file_prefix = True, written["profile"]
            options.optimized_model_filepath = optimized = written["optimized"]
            # weights aside, since protobuf ends at 2 GB
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", f"{Path(optimized).name}.data"
            )
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        wanted = list(dict.fromkeys([PROVIDERS[self.provider], PROVIDERS["cpu"]]))
        return ort.InferenceSession(model, options, providers=wanted)


class _Runner:
    def __init__(self, session: Any, signature: Signature):
        self.session, self.signature = session, signature
        self.names = [tensor.name for tensor in signature.outputs]

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            values = self.session.run(self.names, dict(batch))
        except Exception as error:
            arrays = {name: np.asarray(array) for name, array in batch.items()}
            given = [Tensor(name, array.dtype.name, array.shape) for name, array in arrays.items()]
            have, take = (told(", ".join(map(str, some)) or "nothing") for some in (given, self.signature.inputs))
            raise RunFailed(
                f"ONNX Runtime can't run the model on {have}, where it takes {take}: {told(error)}"
            ) from error
        return {name: _array(value) for name, value in zip(self.names, values, strict=True)}

    def bind(self, batch: Batch) -> Callable[[], object]:
        run, names, feed = self.session.run, self.names, dict(batch)
        return lambda: run(names, feed)

    def close(self) -> None:
        del self.session


def _array(value: Any) -> np.ndarray[Any, Any]:
    """An output as an array; of a ZipMap, a map from class to score for each sample."""
    return np.array([[*scores.values()] for scores in value], np.float32) if isinstance(value, list) else value
