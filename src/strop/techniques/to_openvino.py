"""ONNX to OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .._quiet import openvino, silenced
from ..errors import NotApplicable
from ..formats.onnx import graph_of, load, save
from ..formats.openvino import save as save_openvino
from ..model import ONNX, OPENVINO, Format, Model
from ..settings import choice
from ..target import Target
from ..technique import Context, Phase, Technique, Work

SLOW = frozenset({"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM"})


@dataclass(frozen=True)
class ToOpenvino(Technique):
    """Convert to OpenVINO's own format.

    Attributes:
        half: Store weights as float16: half the size, and computed as the runtime's precision says.
    """

    half: bool = choice(False, True)

    accepts: ClassVar[frozenset[Format]] = frozenset({ONNX})
    returns: ClassVar[Format | None] = OPENVINO
    phase: ClassVar[Phase] = Phase.CONVERT

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Overhead: two products of 16 x 16 at batch 1 take 24 us, and through ONNX Runtime 5.8. The others come on top
        # of what the runtime expects. Zen 3, 1 thread, over ONNX Runtime: PP-OCRv4's detector 0.79 to 0.86,
        # EfficientNet-Lite0 0.97, bare convolutions 1.09; products that only read their weights 1.14 to 1.16
        # (`benchmarks/bound.md`).
        return {Work.OVERHEAD: 4.0, Work.CONVOLUTIONS: 0.95, Work.WEIGHTS: 1.18}

    def requires(self, model: Model, target: Target) -> None:
        operators = {(node.domain, node.op_type) for node in graph_of(model).graph.node}
        foreign = sorted(f"{domain}.{op}" for domain, op in operators if domain not in ("", "ai.onnx"))
        if foreign:
            raise NotApplicable(f"OpenVINO does not know {foreign[0]}, an operator outside ONNX's own")
        if slow := sorted(op for _, op in operators if op in SLOW):
            raise NotApplicable(f"OpenVINO runs {slow[0]}, of dynamic int8, slower than float32")

    def apply(self, model: Model, context: Context) -> Model:
        if not model.files:
            model = save(load(model), context.folder / "onnx", model)
        with silenced():
            converted = _converted(model)
            _name(converted, model)
            return save_openvino(converted, context.folder, half=self.half)


def _converted(model: Model) -> Any:
    library = openvino()
    from openvino import frontend

    failures = (
        RuntimeError, frontend.GeneralFailure, frontend.OpConversionFailure, frontend.OpValidationFailure,
        frontend.NotImplementedFailure, frontend.InitializationFailure,
    )  # fmt: skip
    try:
        return library.convert_model(str(model.path))
    except failures as error:
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        causes = [line for line in lines if line.startswith("Conversion is failed for")] or lines[-1:]
        raise NotApplicable(f"OpenVINO can't convert it: {causes[0][:200] if causes else error}") from error


def _name(converted: Any, model: Model) -> None:
    """Give inputs and outputs the names they had in ONNX, and no other.

    Raises:
        NotApplicable: Some are gone, or two became one, so that they can't have a name each.
    """
    named: list[tuple[Any, str]] = []
    ends = (
        ("inputs", converted.inputs, model.signature.inputs), ("outputs", converted.outputs, model.signature.outputs),
    )  # fmt: skip
    for end, ports, tensors in ends:
        if len(ports) != len(tensors):
            raise NotApplicable(f"has {len(tensors)} {end}, and {len(ports)} once OpenVINO has converted it")
        for port, tensor in zip(ports, tensors, strict=True):
            port.get_tensor().set_names({tensor.name})
            named.append((port, tensor.name))
    for port, name in named:
        if (other := port.get_any_name()) != name:
            raise NotApplicable(f"{name!r} and {other!r} are one value to OpenVINO, which can't bear both names")
