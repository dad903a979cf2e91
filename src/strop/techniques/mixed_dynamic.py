"""ONNX Runtime: matrix products in int8 that round their inputs while they run, but for those that int8 harms most."""

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
from ..technique import Context, Needs, Parts, Technique, Work
from ._calibration import Step
from ._dynamic_mix import Exchanged
from ._groups import InGroups
from ._mixing import gained, measured_folder, mixed
from ._onnxruntime import runner
from .quantize_onnx import DynamicInt8, both


@dataclass(frozen=True)
class MixedDynamic(DynamicInt8):
    """Compute each matrix product in int8 or float32: the fastest mix within a share of dynamic int8's error.

    Found as `mixed-onnx` finds it, by samples. No ranges are learned by them, so that products of large and rare
    activations, as transformers have, are quantized, too.

    Attributes:
        error: The share of the error of int8 throughout (its mean square) that the mix may have.
    """

    error: float = span(0.3, 3e-3, 1.0, log=True, strength=True)

    needs: ClassVar[Needs] = Needs.SAMPLES
    whole: ClassVar[type[Technique] | None] = DynamicInt8

    def expects(self, target: Target) -> float:
        return gained(1.0, super().expects(target), self.error)

    def apart(self, target: Target) -> Mapping[Work, float]:
        return {work: gained(1.0, lowest, self.error) for work, lowest in super().apart(target).items()}

    def apply(self, model: Model, context: Context) -> Model:
        return mixed(self, self.error, model, context)

    def parts(self, model: Model, context: Context) -> Parts:
        import onnx

        kept = measured_folder(self, model, context)
        if not (kept / "rounded.onnx").exists():
            with silenced():
                exact, rounded = both(model, context, self._quantize(context))
            onnx.save(onnx.shape_inference.infer_shapes(exact), kept / "exact.onnx")
            onnx.save(rounded, kept / "rounded.onnx")
        stored = onnx.load(kept / "exact.onnx"), onnx.load(kept / "rounded.onnx")
        return _Parts(Exchanged(*stored), model, context.target)


class _Parts(InGroups[Exchanged]):
    """The products of a graph, as they are mixed."""

    precisions = ("int8", "f32")

    def __init__(self, grouped: Exchanged, model: Model, target: Target):
        super().__init__(grouped, model, target)
        known = {node.name: node for node in grouped.exact.graph.node}
        first = [(name, known[name].op_type, place_of(known[name])) for name in grouped.members]
        self.labels = dict(zip(grouped.members, labels(first), strict=True))

    def step(self, precisions: Mapping[str, str]) -> Step:
        return runner(self.grouped.mixed(precisions).SerializeToString(), self.target.threads)

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        return save(self.grouped.mixed(precisions), folder, self.model)
