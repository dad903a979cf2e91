"""PyTorch to a program: a graph that needs no code of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from ..formats.torch_program import graph_of, load, save
from ..model import TORCH, TORCH_PROGRAM, Format, Model
from ..technique import Context, Needs, Phase, Technique
from ._export import Tensors, export
from ._parity import Arrays

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


@dataclass(frozen=True)
class ToProgram(Technique):
    """Export to a graph of PyTorch's own, handed over without a pickle, and hold it to what the module answers."""

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    returns: ClassVar[Format | None] = TORCH_PROGRAM
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        exported = export(model, context)
        made = save(exported.program, context.folder, model)
        graph = graph_of(load(made))

        def answer(samples: Tensors) -> Arrays:
            with torch.inference_mode():
                outputs = graph(*samples.values())
            return {t.name: value.numpy() for t, value in zip(made.signature.outputs, outputs, strict=True)}

        exported.check(answer)
        return made
