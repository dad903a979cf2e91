"""Optimize an ONNX graph for ONNX Runtime, ahead of time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from ..formats.onnx import load, reopened, save
from ..model import ONNX, Format, Model
from ..settings import choice
from ..target import Target
from ..technique import Context, Phase, Technique
from ._onnxruntime import optimize


@dataclass(frozen=True)
class OptimizeOnnx(Technique):
    """Let ONNX Runtime fuse operators once, and keep the graph: it then loads faster, and runs nowhere else.

    Attributes:
        level: `extended` fuses into ONNX Runtime's own operators; `all` also lays tensors out for this very CPU;
            `basic` keeps to ONNX's operators.
    """

    level: str = choice("extended", "all", "basic")

    accepts: ClassVar[frozenset[Format]] = frozenset({ONNX})
    phase: ClassVar[Phase] = Phase.COMPILE
    lossless: ClassVar[bool] = True

    def expects(self, target: Target) -> float:
        return 0.99  # the runtime does the same when it loads a model

    def apply(self, model: Model, context: Context) -> Model:
        if not model.files:
            model = save(load(model), context.folder / "input", model)
        scratch = context.folder / ".optimized"
        scratch.mkdir()
        optimize(model.path, scratch / "model.onnx", self.level, apart=len(model.files) > 1)
        for file in sorted(scratch.iterdir(), reverse=True):
            os.replace(file, context.folder / file.name)
        scratch.rmdir()
        return reopened(context.folder / "model.onnx", model)
