"""PyTorch to TFLite, by a converter that lives in an environment of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from .._tools import LITERT_TORCH
from ..errors import NotApplicable
from ..formats.tflite import TfliteFormat
from ..model import TFLITE, TORCH, Format, Model
from ..target import Target
from ..technique import Context, Needs, Phase, Technique, remaining
from . import _litert_torch
from . import _tflite as tool
from ._export import Tensors, export
from ._parity import SAMPLES, Arrays

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


@dataclass(frozen=True)
class ToTflite(Technique):
    """Convert to TFLite by litert-torch, and hold the file to what the module answers.

    The module goes over as a graph of PyTorch's, so that none of the user's code runs in the other environment.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    returns: ClassVar[Format | None] = TFLITE
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    lossless: ClassVar[bool] = True

    @classmethod
    def lacks(cls) -> str:
        return "" if LITERT_TORCH.ready else f"litert-torch in an environment of its own: {LITERT_TORCH.command}"

    def requires(self, model: Model, target: Target) -> None:
        if lacks := self.lacks():
            raise NotApplicable(f"needs {lacks}")

    def apply(self, model: Model, context: Context) -> Model:
        exported = export(model, context)
        program, path = context.folder / "program.pt2", context.folder / "model.tflite"
        torch.export.save(exported.program, program)
        count = str(min(SAMPLES, context.target.batch))
        sizes = [count if tensor.name in exported.batched else "fixed" for tensor in model.signature.inputs]
        LITERT_TORCH.run(Path(_litert_torch.__file__), [program, path, *sizes], remaining(context))
        program.unlink()
        sides = (model.signature.inputs, model.signature.outputs)
        inputs, outputs = ([tensor.name for tensor in side] for side in sides)
        tool.rename(path, inputs, outputs)
        made = TfliteFormat().open(path)
        fixed = next((tensor.fixed_batch for tensor in made.signature.inputs if tensor.fixed_batch), None)
        with tool.quiet():
            step = tool.runner(path.read_bytes(), context)

            def answer(samples: Tensors) -> Arrays:
                return step({name: tensor.numpy() for name, tensor in samples.items()})

            exported.check(answer, fixed)
        return made
