"""ONNX Runtime: matrix products in int8 that round their inputs while they run, but for those that int8 harms most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._quiet import silenced
from ..formats.onnx_graph import infer_shapes
from ..model import Model
from ..technique import Context, Needs, Parts, Technique
from ._dynamic_mix import Exchanged
from ._mixing import Mixed, measured_folder
from ._onnx_parts import OnnxParts, kept_pair
from .quantize_onnx import DynamicInt8, both

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class MixedDynamic(Mixed, DynamicInt8):
    """Compute products in int8 or float32, or round weights alone: the fastest mix in a share of dynamic int8's error.

    Found as `mixed-onnx` finds it, by samples. No ranges are learned by them, so that products of large and rare
    activations, as transformers have, are quantized, too.
    """

    version: ClassVar[int] = 5
    needs: ClassVar[Needs] = Needs.SAMPLES
    whole: ClassVar[type[Technique] | None] = DynamicInt8

    def parts(self, model: Model, context: Context) -> Parts:
        def made() -> tuple[onnx.ModelProto, onnx.ModelProto]:
            with silenced():
                exact, rounded = both(model, context, self._quantize(context))
            infer_shapes(exact)  # for cuts, where what passes needs a type
            return exact, rounded

        return OnnxParts(Exchanged(*kept_pair(measured_folder(self, model, context), made)), model, context.target)
