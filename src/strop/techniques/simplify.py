"""Simplify an ONNX graph: fold constants, fuse batch norms, drop what does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .._quiet import silenced
from ..errors import NotApplicable
from ..formats.onnx import load, save
from ..formats.onnx_graph import is_quantized
from ..model import ONNX, Format, Model
from ..target import Target
from ..technique import Context, Phase, Technique

LARGEST = 1 << 28


@dataclass(frozen=True)
class Simplify(Technique):
    """Fold constants, fuse batch norms into convolutions, and drop nodes that do nothing (onnxslim)."""

    accepts: ClassVar[frozenset[Format]] = frozenset({ONNX})
    phase: ClassVar[Phase] = Phase.SIMPLIFY
    lossless: ClassVar[bool] = True

    def expects(self, target: Target) -> float:
        return 0.97  # the runtimes fold most of it themselves when they load a model

    def requires(self, model: Model, target: Target) -> None:
        if model.size > LARGEST:
            raise NotApplicable("is larger than 256 MB, and onnxslim needs several times that in memory")

    def apply(self, model: Model, context: Context) -> Model:
        from onnxslim import slim

        proto = load(model)
        if is_quantized(proto):
            raise NotApplicable("the model is already quantized, and folding its scales away would undo that")
        before = len(proto.graph.node)
        with silenced():
            proto = slim(proto)
        if len(proto.graph.node) >= before:
            raise NotApplicable("nothing to simplify: no node can go")
        return save(proto, context.folder, model)
