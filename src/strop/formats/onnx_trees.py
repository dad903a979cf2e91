"""ONNX graphs that hold a tree ensemble, and nothing that changes what it gives."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import Forest
from ..model import ONNX_TREES, Model, Signature
from ._onnx_ensembles import DOMAIN, OPERATORS, ensemble, keep_first_tree
from ._onnx_tensors import tensors
from .onnx import OnnxFormat, file_of, graph_of, is_proto, read
from .trees import TreeFormat, counts, reading, signature

if TYPE_CHECKING:
    import onnx
    from onnx import numpy_helper
else:
    onnx = lazy("onnx")
    numpy_helper = lazy("onnx.numpy_helper")

_DTYPES = {1: "float32", 11: "float64"}  # of onnx.TensorProto
_HEAD = 1 << 16  # bytes of a file within which its tree ensemble begins
_LINKS = {
    "x": "", "Exp(x)": "exponential", "Sigmoid(x)": "sigmoid", "Softmax(x)": "softmax",
    "Concat(Sub(1.0,Sigmoid(x)),Sigmoid(x))": "sigmoid of two", "Mul(Abs(x),x)": "signed square",
    "Log(Add(1.0,Exp(x)))": "log of one and exponential", "Div(x,ReduceSum(x,1))": "shares",
}  # fmt: skip
"""What a forest calls that which a graph does to scores x; empty where it does nothing."""
_NUMBER = r"([\d.e+-]+)"
_UNKNOWN = "?"
_LONGEST = 200  # characters of what is told of a graph


class OnnxTreesFormat(TreeFormat):
    """ONNX files and live protos with one tree ensemble of ai.onnx.ml, such as skl2onnx and onnxmltools write.

    A forest gives what ONNX Runtime gives. Trees and sums are the operator's; ONNX Runtime adds base values last and a
    forest first, so that the last digits of a sum may differ.

    Categories are their codes: where a node asks whether a value is a whole number, one that has a fraction as well is
    taken for it, and ONNX Runtime would not.

    The output is the scores: labels follow from them and are left out, and of a ZipMap the numbers are taken. A graph
    that does more, or what no forest can, is a plain ONNX model.
    """

    name = ONNX_TREES

    def detects(self, source: object) -> bool:
        if is_proto(source):
            return any(node.op_type in OPERATORS for node in source.graph.node)  # type: ignore[attr-defined]
        path = file_of(source)
        if path is None:
            return False
        with path.open("rb") as stream:
            return b"TreeEnsemble" in stream.read(_HEAD)

    def open(self, source: Any) -> Model:
        """Read the trees.

        Raises:
            UnsupportedModel: The file is broken, or its trees are.
        """
        proto, path = read(source)
        try:
            forest = _forest(proto, source if path is None else path)
        except NotApplicable:
            return OnnxFormat().open(source)
        payload, files = (proto, ()) if path is None else (path, (path,))
        return Model(ONNX_TREES, payload, _signature(proto, forest), files, counts=counts(forest))

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live proto as model.onnx."""
        return model if model.files else save(graph_of(model), folder)

    def forest(self, model: Model) -> Forest:
        return _forest(graph_of(model), model.payload)

    def shortened(self, model: Model, folder: Path) -> Model:
        proto = onnx.ModelProto.FromString(graph_of(model).SerializeToString())
        keep_first_tree(_pattern(proto.graph).node)
        short = save(proto, folder)
        if short.format != ONNX_TREES:
            raise NotApplicable("its first tree alone is no forest")
        return short


def save(proto: onnx.ModelProto, folder: Path) -> Model:
    """Write a graph of trees as model.onnx."""
    onnx.save_model(proto, folder / "model.onnx")
    return OnnxTreesFormat().open(folder / "model.onnx")


def _signature(proto: onnx.ModelProto, forest: Forest) -> Signature:
    """As of any forest; but results mostly have two axes, and the number of samples may be fixed."""
    (rows,), (result,) = signature(forest).inputs, signature(forest).outputs
    given = next(value for value in proto.graph.input if value.name == rows.name).type.tensor_type.shape.dim[0]
    samples = given.dim_value if given.dim_value > 0 else given.dim_param or None
    shape = (samples,) if _pattern(proto.graph).flat else (samples, forest.width or 1)
    return Signature((replace(rows, shape=(samples, forest.features)),), (replace(result, shape=shape),))


def _forest(proto: onnx.ModelProto, source: object) -> Forest:
    """The forest that a graph is.

    Raises:
        NotApplicable: The graph is more than that.
        UnsupportedModel: Its trees are broken.
    """
    with reading("ONNX", source), np.errstate(over="ignore"):
        found = _pattern(proto.graph)
        return _finished(ensemble(found.node, found.features, found.compared), found).check()


@dataclass(frozen=True)
class _Pattern:
    """What a graph is made of.

    Attributes:
        node: The ensemble.
        rows: The input.
        features: How many columns that has.
        dtype: Of the input, and `compared`, that it has where it reaches the ensemble.
        result: The output, and `sums`, its dtype; empty where that is not told.
        told: What the output is, as an expression of the scores, `x`.
        flat: Whether the output has one axis.
    """

    node: onnx.NodeProto
    rows: str
    features: int
    dtype: str
    compared: str
    result: str
    sums: str
    told: str
    flat: bool


def _finished(forest: Forest, found: _Pattern) -> Forest:
    """The forest, with what the graph does to the scores."""
    told, divisor = _without(found.told, rf"Div\(x,{_NUMBER}\)", "x")
    told, scale = _without(told, rf"Sigmoid\(Mul\(x,{_NUMBER}\)\)", "Sigmoid(x)")
    told, factor = _without(told, rf"Mul\(Exp\(x\),{_NUMBER}\)", "Exp(x)")
    if told not in _LINKS or (told != "x" and forest.link != "identity"):
        raise NotApplicable(f"the graph does more than a forest: of the trees' scores x it makes {found.told}")
    divisor *= forest.divisor
    return replace(
        forest, link=_LINKS[told] or forest.link, divisor=divisor, scale=scale, dtype=found.dtype,
        base=forest.base + divisor * np.log(factor), sums=found.sums or forest.sums, rows=found.rows,
        result=found.result,
    )  # fmt: skip


def _without(told: str, pattern: str, left: str) -> tuple[str, float]:
    """An expression without a positive number in it, and that number; 1 where there is none."""
    found = re.search(pattern, told)
    if found is None or not 0 < float(found[1]) < np.inf:
        return told, 1.0
    return told.replace(found[0], left), float(found[1])


def _told(graph: onnx.GraphProto, scores: str) -> dict[str, str]:
    """What is made of the scores, by name, as expressions of them; what only holds numbers otherwise is left out."""
    stored = {tensor.name: tensor for tensor in graph.initializer}

    def number(name: str) -> str:
        one = name in stored and math.prod(stored[name].dims) == 1
        return repr(numpy_helper.to_array(stored[name]).item()) if one else _UNKNOWN

    found = {scores: "x"}
    for node in graph.node:  # in the order in which they run
        if not any(name in found for name in node.input):
            continue
        given = [found[name] if name in found else number(name) for name in node.input]
        if node.op_type == "Mul" and node.input[0] not in found:
            given.reverse()
        told = f"{node.op_type}({','.join(given)})"
        held = node.op_type in ("Identity", "ZipMap") or (node.op_type == "Cast" and _kind(node) in _DTYPES)
        if held or (node.op_type == "Mul" and given[1:] == ["1.0"]):
            told = given[0]
        elif not _by_rows(node) or len(told) > _LONGEST:
            told = _UNKNOWN
        found |= dict.fromkeys(node.output, told)
    return found


def _kind(cast: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in cast.attribute if attribute.name == "to"), 0)


def _by_rows(node: onnx.NodeProto) -> bool:
    return all(attribute.i in (1, -1) for attribute in node.attribute if attribute.name in ("axis", "keepdims"))


def _pattern(graph: onnx.GraphProto) -> _Pattern:
    """Find the ensemble, and the ways that lead to it and away.

    Raises:
        NotApplicable: There are others.
    """
    nodes = [node for node in graph.node if node.domain == DOMAIN and node.op_type in OPERATORS]
    if len(nodes) != 1:
        raise NotApplicable(f"the graph has {len(nodes)} tree ensembles, and a forest is one")
    node = nodes[0]
    if any(tensor.data_location == tensor.EXTERNAL for tensor in tensors(graph)):
        raise NotApplicable("the graph keeps numbers in files of their own")
    stored = {tensor.name for tensor in graph.initializer}
    makers = {name: maker for maker in graph.node for name in maker.output}
    given = {value.name: value for value in graph.input if value.name not in stored}
    rows, wide = node.input[0], False
    while rows in makers and (makers[rows].op_type == "Identity" or _kind(makers[rows]) == onnx.TensorProto.DOUBLE):
        wide |= makers[rows].op_type == "Cast"
        rows = makers[rows].input[0]
    if rows not in given or len(given) != 1:
        raise NotApplicable("something comes before the trees, and it would be lost")
    kind = given[rows].type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type not in _DTYPES or len(sizes) != 2 or sizes[1] < 1:
        raise NotApplicable("the input is no matrix of floats with a known number of columns")
    results = [value for value in graph.output if not _is_label(value)]
    if len(results) != 1:
        raise NotApplicable(f"the graph has {len(results)} outputs besides labels, and a forest has one")
    if any(step.op_type == "ZipMap" and not _ascending(step) for step in graph.node):
        raise NotApplicable("the classes of a ZipMap do not ascend, and its maps do")
    told = _told(graph, node.output[-1]).get(results[0].name, _UNKNOWN)
    flat = re.fullmatch(r"Squeeze\((.*),1\)", told)
    return _Pattern(
        node, rows, sizes[1], dtype := _DTYPES[kind.elem_type], "float64" if wide else dtype, results[0].name,
        _DTYPES.get(results[0].type.tensor_type.elem_type, ""), flat[1] if flat else told, flat is not None,
    )  # fmt: skip


def _is_label(value: onnx.ValueInfoProto) -> bool:
    types = (onnx.TensorProto.INT64, onnx.TensorProto.STRING)
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in types


def _ascending(zipmap: onnx.NodeProto) -> bool:
    kinds = [[*labels] for attribute in zipmap.attribute for labels in (attribute.ints, attribute.strings)]
    return all(labels == sorted(set(labels)) for labels in kinds)
