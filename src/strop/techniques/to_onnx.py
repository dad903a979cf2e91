"""PyTorch to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from ..errors import TechniqueError
from ..formats.onnx import save
from ..model import ONNX, TORCH, Format, Model
from ..technique import Context, Needs, Phase, Technique
from ._export import Tensors, export, exporting
from ._parity import Arrays

if TYPE_CHECKING:
    import onnxruntime
    import torch
else:
    onnxruntime = lazy("onnxruntime")
    torch = lazy("torch", "torch")


@dataclass(frozen=True)
class ToOnnx(Technique):
    """Export to ONNX, and hold the graph to what the module answers."""

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    returns: ClassVar[Format | None] = ONNX
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        exported = export(model, context)
        inputs, outputs = ([t.name for t in side] for side in (model.signature.inputs, model.signature.outputs))
        with exporting():
            translated = torch.onnx.export(
                exported.program, dynamo=True, verbose=False, optimize=True, input_names=inputs, output_names=outputs
            )
        if translated is None:
            raise TechniqueError("the exporter returned nothing")
        made = save(translated.model_proto, context.folder, model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(made.path, options, providers=["CPUExecutionProvider"])

        def answer(samples: Tensors) -> Arrays:
            feed = {t.name: samples[t.name].numpy().astype(t.dtype) for t in made.signature.inputs}
            return dict(zip(outputs, session.run(outputs, feed), strict=True))

        exported.check(answer)
        return made
