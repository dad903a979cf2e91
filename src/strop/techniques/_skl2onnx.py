"""skl2onnx: the steps of a pipeline that strop does not write itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._lazy import installed, lazy
from .._quiet import silenced
from ..errors import NotApplicable
from ..formats.sklearn import walk
from ._estimator_graph import Columns
from ._graph import Graph

if TYPE_CHECKING:
    import onnx
    import skl2onnx
    from onnx import compose
    from skl2onnx.common import data_types
else:
    onnx, compose = lazy("onnx"), lazy("onnx.compose")
    skl2onnx, data_types = lazy("skl2onnx", "trees"), lazy("skl2onnx.common.data_types", "trees")

OPSETS = {"": 18, "ai.onnx.ml": 3}
WORDS = r"[\p{L}\p{N}_]{2,}"  # what scikit-learn's own pattern for words finds, as RE2 has it
_DEFAULT = r"(?u)\b\w\w+\b"
_WANTED = {"probability": {"zipmap": False}, "decision": {"raw_scores": True}}


def translated(graph: Graph, step: Any, given: Sequence[Columns], output: str | None = None) -> tuple[str, str]:
    """Let skl2onnx write a step of a pipeline into a graph, its numbers float32.

    Args:
        given: What the step takes: a matrix, or several of their own types.
        output: The name of the signature's output, where the step gives it; None for what it transforms.

    Returns:
        The name of what it gives, and the dtype of that.

    Raises:
        NotApplicable: It is not installed, or has no words for the step.
    """
    if not installed("skl2onnx"):
        raise NotApplicable("skl2onnx, which writes these steps in ONNX, is not installed; pip install 'strop[trees]'")
    kinds = []
    for place, x in enumerate(given):
        kind = data_types.StringTensorType if x.dtype == "str" else data_types.FloatTensorType
        kinds.append((f"x{place}", kind([None, len(x.scale)])))
    options: dict[int, dict[str, Any]] = {id(step): wanted} if (wanted := _WANTED.get(output or "")) else {}
    options |= {id(part): {"tokenexp": WORDS} for part in walk(step) if _by_words(part)}
    try:
        with silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = skl2onnx.convert_sklearn(step, initial_types=kinds, target_opset=OPSETS, options=options or None)
    except Exception as error:  # of its converters, on whatever the estimator holds
        said = " ".join(str(error).split())[:200]
        raise NotApplicable(f"skl2onnx can't convert {type(step).__name__}: {said}") from error
    for node in proto.graph.node:
        if node.op_type == "StringNormalizer":  # its own default is a locale that few servers have
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    prefix = f"skl{len(graph.nodes)}_"
    proto = compose.add_prefix(proto, prefix)
    for (name, _), x in zip(kinds, given, strict=True):
        feed = x.exact(graph, "str" if x.dtype == "str" else "float32")
        graph.nodes.append(onnx.helper.make_node("Identity", [feed], [prefix + name]))
    graph.nodes += proto.graph.node
    graph.stored += proto.graph.initializer
    graph.domains |= {opset.domain for opset in proto.opset_import}
    result = proto.graph.output[-1]
    kind = result.type.tensor_type.elem_type
    return result.name, "str" if kind == onnx.TensorProto.STRING else str(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _by_words(part: Any) -> bool:
    return getattr(part, "analyzer", "") == "word" and getattr(part, "token_pattern", "") == _DEFAULT
