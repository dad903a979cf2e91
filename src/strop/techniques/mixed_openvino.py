"""OpenVINO: int8 where it pays, and bf16 or float32 where int8 harms most, layer by layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._quiet import openvino
from ..errors import NotApplicable
from ..formats.openvino import save
from ..model import Batch, Model
from ..settings import span
from ..target import Target, computes
from ..technique import Context
from ._calibration import Step, feeds
from ._mixing import TRIED, chosen
from ._openvino_mix import Grouped
from .quantize_openvino import OpenvinoInt8


@dataclass(frozen=True)
class MixedOpenvino(OpenvinoInt8):
    """Compute each layer in int8, bf16 or float32: the fastest mix within a share of int8's error.

    Which mix that is, an integer program says: by what each layer takes in each precision and by how far it alone
    moves the outputs in int8, both measured, and by what it takes to convert values on the way. The mix is then held to
    what its own outputs are.

    Attributes:
        error: The share of the error of int8 throughout (its mean square) that the mix may have.
    """

    error: float = span(0.3, 0.02, 1.0, strength=True)

    def expects(self, target: Target) -> float:
        whole = super().expects(target)
        return whole + (1 - self.error) * (0.5 if computes("bf16") else 0.9 - whole) * 0.5

    def apply(self, model: Model, context: Context) -> Model:
        parts = self._parts(model, context)
        given = list(feeds(model.signature, context, TRIED, lambda: parts.step(dict.fromkeys(parts.members, "f32"))))
        mix = chosen(parts, self.error, given, context, parts.kept)
        if set(mix.values()) == {"int8"}:
            raise NotApplicable("int8 throughout is the fastest mix; openvino-int8 is that")
        return replace(parts.save(mix, context.folder), notes=(*model.notes, told(mix)))

    def _parts(self, model: Model, context: Context) -> _Parts:
        settings = {**self.settings(), "error": None}
        key = hashlib.sha256(json.dumps([model.digest(), settings], sort_keys=True).encode()).hexdigest()[:24]
        kept = (context.shared or context.folder) / f"{self.label()}-{key}"
        kept.mkdir(parents=True, exist_ok=True)
        core = openvino().Core()
        if not (kept / "model.xml").exists():
            save(self._quantized(model, context, compressed=False), kept)
        quantized, original = core.read_model(str(kept / "model.xml")), core.read_model(str(model.path))
        return _Parts(Grouped.of(quantized, original), model, context.target, kept)


class _Parts:
    """The groups of a graph, as they are mixed."""

    def __init__(self, grouped: Grouped, model: Model, target: Target, kept: Path):
        self.grouped, self.model, self.target, self.kept = grouped, model, target, kept
        self.members = grouped.members
        self.borders = grouped.borders()
        self.precisions = ("int8", "bf16", "f32") if computes("bf16") else ("int8", "f32")

    def step(self, precisions: Mapping[str, str]) -> Step:
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": self.target.threads}
        compiled = openvino().Core().compile_model(self.grouped.mixed(precisions), "CPU", options)
        request, names = compiled.create_infer_request(), [tensor.name for tensor in self.model.signature.outputs]

        def step(batch: Batch) -> dict[str, Any]:
            request.infer(dict(batch))
            return {name: request.get_tensor(name).data.copy() for name in names}

        return step

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        return save(self.grouped.mixed(precisions, compressed=True), folder)


def told(mix: Mapping[str, str]) -> str:
    """Which groups have which precision, as a sentence."""
    counts = {precision: sum(found == precision for found in mix.values()) for precision in ("int8", "bf16", "f32")}
    exact = [group for group, precision in mix.items() if precision != "int8"]
    said = ", ".join(f"{count} in {precision}" for precision, count in counts.items() if count)
    more = f" and {len(exact) - 8} more" if len(exact) > 8 else ""
    return f"Of {len(mix)} groups of layers {said}; not in int8: {', '.join(exact[:8])}{more}."
