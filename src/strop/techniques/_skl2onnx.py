"""skl2onnx: the steps of a pipeline that strop does not write itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._lazy import installed, lazy
from .._quiet import silenced
from ..errors import NotApplicable
from ..model import Signature
from ._estimator_graph import FLOAT
from ._graph import Graph

if TYPE_CHECKING:
    import onnx
    import skl2onnx
    from onnx import compose
    from skl2onnx.common import data_types
    from sklearn import pipeline
else:
    onnx, compose = lazy("onnx"), lazy("onnx.compose")
    skl2onnx, data_types = lazy("skl2onnx", "trees"), lazy("skl2onnx.common.data_types", "trees")
    pipeline = lazy("sklearn.pipeline")

OPSETS = {"": 18, "ai.onnx.ml": 3}
_PREFIX = "skl_"


def translated(graph: Graph, steps: Sequence[Any], signature: Signature, output: str | None) -> tuple[str, set[str]]:
    """Let skl2onnx write some steps into a graph, on the inputs of a signature.

    Args:
        steps: Of a pipeline, the first ones.
        output: The name of the signature's output, where the last of them gives it; None for what they transform.

    Returns:
        The name of what they give, float32; and the operators' domains.

    Raises:
        NotApplicable: It is not installed, or has no words for a step.
    """
    if not installed("skl2onnx"):
        raise NotApplicable("skl2onnx, which writes these steps in ONNX, is not installed; pip install 'strop[trees]'")
    whole = steps[0] if len(steps) == 1 else pipeline.Pipeline([(f"step{n}", step) for n, step in enumerate(steps)])
    kinds = []
    for tensor in signature.inputs:
        kind = data_types.StringTensorType if tensor.dtype == "str" else data_types.FloatTensorType
        kinds.append((tensor.name, kind([None, *(tensor.shape[1:] or (1,))])))
    wanted = {"probability": {"zipmap": False}, "decision": {"raw_scores": True}}.get(output or "", {})
    try:
        with silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = skl2onnx.convert_sklearn(
                whole, initial_types=kinds, target_opset=OPSETS, options={id(steps[-1]): wanted} if wanted else None
            )
    except Exception as error:  # of its converters, on whatever the estimators hold
        said = " ".join(str(error).split())[:200]
        raise NotApplicable(f"skl2onnx can't convert {_names(steps)}: {said}") from error
    proto = compose.add_prefix(proto, _PREFIX)
    for tensor in signature.inputs:
        name = tensor.name if tensor.dtype == "str" else graph.add("Cast", tensor.name, to=FLOAT)
        if len(tensor.shape) == 1:
            name = graph.add("Unsqueeze", name, graph.number([1]))
        graph.nodes.append(onnx.helper.make_node("Identity", [name], [_PREFIX + tensor.name]))
    graph.nodes += proto.graph.node
    graph.stored += proto.graph.initializer
    return proto.graph.output[-1].name, {opset.domain for opset in proto.opset_import}


def _names(steps: Sequence[Any]) -> str:
    return " and ".join(type(step).__name__ for step in steps)
