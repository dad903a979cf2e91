"""ONNX Runtime: int8 where it pays, and float32 where int8 harms most, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._quiet import silenced
from ..model import Model
from ..technique import Context, Parts, Technique
from ._mixing import Mixed, measured_folder
from ._onnx_mix import Grouped
from ._onnx_parts import OnnxParts, kept_pair
from .quantize_onnx import StaticInt8

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class MixedOnnx(Mixed, StaticInt8):
    """Compute layers in int8 or float32, or round weights alone: the fastest mix within a share of int8's error.

    Found as `mixed-openvino` finds it: by what each layer takes in each precision and by how far it alone moves the
    outputs in int8.
    """

    version: ClassVar[int] = 8
    whole: ClassVar[type[Technique] | None] = StaticInt8

    def parts(self, model: Model, context: Context) -> Parts:
        def made() -> tuple[onnx.ModelProto, onnx.ModelProto]:
            with silenced():
                return self.both(model, context, whole=True)

        original, quantized = kept_pair(measured_folder(self, model, context), made)
        return OnnxParts(Grouped.of(quantized, original), model, context.target)
