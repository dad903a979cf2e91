"""What mixes precisions for ONNX Runtime: the groups of a graph, and the two graphs that are made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..formats._onnx_inside import place_of
from ..formats.onnx import save
from ..model import Model
from ..naming import labels
from ..target import Target
from ._calibration import Step
from ._groups import Grouped, InGroups
from ._onnxruntime import runner

if TYPE_CHECKING:
    import onnx


class GroupedOnnx(Grouped, Protocol):
    """A grouped graph of ONNX."""

    @property
    def operators(self) -> Sequence[onnx.NodeProto]: ...
    def mixed(self, precisions: Mapping[str, str]) -> onnx.ModelProto: ...


G = TypeVar("G", bound=GroupedOnnx)


class OnnxParts(InGroups[G]):
    """The groups of a graph, as they are mixed."""

    precisions = ("int8", "f32")

    def __init__(self, grouped: G, model: Model, target: Target):
        super().__init__(grouped, model, target)
        known = {node.name: node for node in grouped.operators}
        first = [(name, known[name].op_type, place_of(known[name])) for name in grouped.members]
        self.labels = dict(zip(grouped.members, labels(first), strict=True))

    def step(self, precisions: Mapping[str, str]) -> Step:
        return runner(self.grouped.mixed(precisions).SerializeToString(), self.target.threads)

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        return save(self.grouped.mixed(precisions), folder, self.model)


def kept_pair(
    kept: Path, made: Callable[[], tuple[onnx.ModelProto, onnx.ModelProto]]
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A graph and the quantized one, made once and kept in a folder."""
    import onnx

    files = kept / "original.onnx", kept / "quantized.onnx"
    if not files[1].exists():
        for proto, file in zip(made(), files, strict=True):
            onnx.save(proto, file)
    return onnx.load(files[0]), onnx.load(files[1])
