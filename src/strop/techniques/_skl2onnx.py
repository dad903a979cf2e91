"""skl2onnx: the steps of a pipeline that strop does not write itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._lazy import installed, lazy
from .._quiet import silenced
from ..errors import NotApplicable
from ..formats.sklearn import walk
from ..model import Tensor
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
WORDS = r"[\p{L}\p{N}_]{2,}"  # what scikit-learn's own pattern for words finds, as RE2 has it
_DEFAULT = r"(?u)\b\w\w+\b"
_WANTED = {"probability": {"zipmap": False}, "decision": {"raw_scores": True}}


def translated(
    graph: Graph, steps: Sequence[Any], tensors: Sequence[Tensor], feeds: Sequence[str], output: str | None = None
) -> tuple[str, set[str]]:
    """Let skl2onnx write some steps of a pipeline into a graph.

    Args:
        tensors: What the first of them takes.
        feeds: The names of that in the graph, numbers float32.
        output: The name of the signature's output, where the last of them gives it; None for what they transform.

    Returns:
        The name of what they give, float32; and the domains of the operators.

    Raises:
        NotApplicable: It is not installed, or has no words for a step.
    """
    if not installed("skl2onnx"):
        raise NotApplicable("skl2onnx, which writes these steps in ONNX, is not installed; pip install 'strop[trees]'")
    whole = steps[0] if len(steps) == 1 else pipeline.Pipeline([(f"step{n}", step) for n, step in enumerate(steps)])
    kinds = []
    for tensor in tensors:
        kind = data_types.StringTensorType if tensor.dtype == "str" else data_types.FloatTensorType
        kinds.append((tensor.name, kind([None, *(tensor.shape[1:] or (1,))])))
    options: dict[int, dict[str, Any]] = {id(steps[-1]): wanted} if (wanted := _WANTED.get(output or "")) else {}
    options |= {id(part): {"tokenexp": WORDS} for part in walk(whole) if _by_words(part)}
    try:
        with silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = skl2onnx.convert_sklearn(whole, initial_types=kinds, target_opset=OPSETS, options=options or None)
    except Exception as error:  # of its converters, on whatever the estimators hold
        said = " ".join(str(error).split())[:200]
        raise NotApplicable(f"skl2onnx can't convert {_names(steps)}: {said}") from error
    for node in proto.graph.node:
        if node.op_type == "StringNormalizer":  # its own default is a locale that few servers have
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    prefix = f"skl{len(graph.nodes)}_"
    proto = compose.add_prefix(proto, prefix)
    for tensor, feed in zip(tensors, feeds, strict=True):
        name = graph.add("Unsqueeze", feed, graph.number([1])) if len(tensor.shape) == 1 else feed
        graph.nodes.append(onnx.helper.make_node("Identity", [name], [prefix + tensor.name]))
    graph.nodes += proto.graph.node
    graph.stored += proto.graph.initializer
    return proto.graph.output[-1].name, {opset.domain for opset in proto.opset_import}


def _by_words(part: Any) -> bool:
    return getattr(part, "analyzer", "") == "word" and getattr(part, "token_pattern", "") == _DEFAULT


def _names(steps: Sequence[Any]) -> str:
    return " and ".join(type(step).__name__ for step in steps)
