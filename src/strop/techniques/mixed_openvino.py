"""OpenVINO: int8 where it pays, and bf16, float32 or rounded weights where int8 harms most, layer by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..formats.openvino import save
from ..model import Model
from ..target import Target, computes
from ..technique import Context, Parts, Technique
from ._calibration import Step
from ._groups import InGroups
from ._mixing import Mixed
from ._openvino_graph import runner
from ._openvino_mix import Grouped
from .quantize_openvino import OpenvinoInt8


@dataclass(frozen=True)
class MixedOpenvino(Mixed, OpenvinoInt8):
    """Compute layers in int8, bf16 or float32, or round weights alone: the fastest mix within a share of int8's error.

    Which mix that is, an integer program says: by what each layer takes in each precision and by how far it alone
    moves the outputs in int8, both measured, and by what it takes to convert values on the way. Where few rows read the
    weights of a product, these may be rounded alone, to 8 or to 4 bits, if that is faster than all of more bits. The
    mix is then held to what its own outputs are.
    """

    version: ClassVar[int] = 13
    whole: ClassVar[type[Technique] | None] = OpenvinoInt8

    def exact(self) -> float:
        return 0.6 if computes("bf16") else 1.0  # bf16, where the CPU computes in it

    def parts(self, model: Model, context: Context) -> Parts:
        return _Parts(self.grouped(model, context), model, context.target)


class _Parts(InGroups[Grouped]):
    """The groups of a graph, as they are mixed."""

    def __init__(self, grouped: Grouped, model: Model, target: Target):
        super().__init__(grouped, model, target)
        self.labels = {group: _label(names) for group, names in grouped.members.items()}
        self.precisions = ("int8", "bf16", "f32") if computes("bf16") else ("int8", "f32")

    def step(self, precisions: Mapping[str, str]) -> Step:
        return runner(self.grouped.mixed(precisions), self.target.threads)

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        made = save(self.grouped.mixed(precisions, compressed=True), folder)
        return replace(made, signature=self.model.signature)


def _label(names: Sequence[str]) -> str:
    """The first name in a group that is the model's own: OpenVINO calls what it has fused `Multiply_123`."""
    own = (name for name in names if not re.fullmatch(r"[A-Z][A-Za-z]+_\d+", name))
    return next(own, names[0]).removesuffix("/WithoutBiases")
