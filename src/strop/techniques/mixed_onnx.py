"""ONNX Runtime: int8 where it pays, and float32 where int8 harms most, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .._quiet import silenced
from ..formats._onnx_inside import place_of
from ..formats.onnx import save
from ..model import Model
from ..naming import labels
from ..settings import span
from ..target import Target
from ..technique import Context, Parts, Technique, Work
from ._calibration import Step
from ._groups import InGroups
from ._mixing import gained, measured_folder, mixed
from ._onnx_mix import Grouped
from ._onnxruntime import runner
from .quantize_onnx import StaticInt8, both


@dataclass(frozen=True)
class MixedOnnx(StaticInt8):
    """Compute each layer in int8 or float32: the fastest mix within a share of int8's error.

    Found as `mixed-openvino` finds it: by what each layer takes in each precision and by how far it alone moves the
    outputs in int8.

    Attributes:
        error: The share of the error of int8 throughout (its mean square) that the mix may have.
    """

    error: float = span(0.3, 3e-3, 1.0, log=True, strength=True)

    version: ClassVar[int] = 3
    whole: ClassVar[type[Technique] | None] = StaticInt8

    def expects(self, target: Target) -> float:
        return gained(1.0, super().expects(target), self.error)

    def apart(self, target: Target) -> Mapping[Work, float]:
        return {work: gained(1.0, lowest, self.error) for work, lowest in super().apart(target).items()}

    def apply(self, model: Model, context: Context) -> Model:
        return mixed(self, self.error, model, context)

    def parts(self, model: Model, context: Context) -> Parts:
        import onnx

        kept = measured_folder(self, model, context)
        if not (kept / "quantized.onnx").exists():
            with silenced():
                original, quantized = both(model, context, self._quantize(model, context, whole=True))
            onnx.save(original, kept / "original.onnx")
            onnx.save(quantized, kept / "quantized.onnx")
        stored = onnx.load(kept / "quantized.onnx"), onnx.load(kept / "original.onnx")
        return _Parts(Grouped.of(*stored), model, context.target)


class _Parts(InGroups[Grouped]):
    """The groups of a graph, as they are mixed."""

    precisions = ("int8", "f32")

    def __init__(self, grouped: Grouped, model: Model, target: Target):
        super().__init__(grouped, model, target)
        known = {node.name: node for node in grouped.quantized.graph.node}
        first = [(name, known[name].op_type, place_of(known[name])) for name in grouped.members]
        self.labels = dict(zip(grouped.members, labels(first), strict=True))

    def step(self, precisions: Mapping[str, str]) -> Step:
        return runner(self.grouped.mixed(precisions).SerializeToString(), self.target.threads)

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        return save(self.grouped.mixed(precisions), folder, self.model)
