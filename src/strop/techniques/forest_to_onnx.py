"""A forest to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from ..forest import Forest
from ..formats.forest import ForestFormat
from ..model import FOREST, ONNX_TREES, Format, Model
from ..target import Target
from ..technique import Context, Phase, Technique
from ._forest_graph import grown
from ._graph import KINDS, Graph

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

_OPSETS = {"": 18, "ai.onnx.ml": 3}
_IR = 8
_FILE = "model.onnx"


@dataclass(frozen=True)
class ForestToOnnx(Technique):
    """Write the forest as a tree ensemble of ONNX, for ONNX Runtime.

    Every split becomes `x <= threshold`, which ONNX Runtime runs fastest where there is no other. A split that is more
    than that (a subset of categories, zero that is missing) becomes several, one for each end of a range of values that
    goes to one side; they share what they lead to.

    The sums are float64 where the forest's are, and ONNX Runtime gives them as float32.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    returns: ClassVar[Format | None] = ONNX_TREES
    phase: ClassVar[Phase] = Phase.COMPILE
    lossless: ClassVar[bool] = True

    def expects(self, target: Target) -> float:
        return 0.7  # of LightGBM's fastest call, 300 trees of 63 leaves: 0.8 for a row, 0.5 for many

    def apply(self, model: Model, context: Context) -> Model:
        forest = ForestFormat().forest(model)
        (result,) = model.signature.outputs
        path = context.folder / _FILE
        onnx.save_model(_proto(forest, model.signature.inputs[0].name, result.name, len(result.shape) < 2), path)
        return Model(ONNX_TREES, path, model.signature, (path,), counts=model.counts)


def _proto(forest: Forest, rows: str, result: str, flat: bool) -> onnx.ModelProto:
    """The whole model; `flat` where results are [samples]."""
    graph = Graph(forest.sums)
    at = grown(graph, rows, forest)
    if flat:
        graph.add("Squeeze", at, graph.number([1]))
    graph.nodes[-1].output[0] = result
    info = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        graph.nodes, "forest", [info(rows, KINDS[forest.dtype], ["N", forest.features])],
        [info(result, KINDS[forest.sums], ["N"] if flat else ["N", forest.width or 1])], graph.stored,
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=_IR, producer_name="strop")
