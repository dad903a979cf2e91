"""ONNX graphs that hold a tree ensemble, and nothing that changes what it gives."""

from __future__ import annotations

from collections.abc import Mapping
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

_HEAD = 1 << 16  # bytes of a file within which its tree ensemble begins
_LINKS = {"Exp": "exponential", "Sigmoid": "sigmoid", "Softmax": "softmax"}
_TRANSPARENT = ("Identity", "Mul", "ZipMap")


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
    """As of any forest; but results always have two axes, and the number of samples may be fixed."""
    (rows,), (result,) = signature(forest).inputs, signature(forest).outputs
    given = next(value for value in proto.graph.input if value.name == rows.name).type.tensor_type.shape.dim[0]
    samples = given.dim_value if given.dim_value > 0 else given.dim_param or None
    return Signature(
        (replace(rows, shape=(samples, forest.features)),),
        (replace(result, shape=(samples, forest.width or 1)),),
    )


def _forest(proto: onnx.ModelProto, source: object) -> Forest:
    """The forest that a graph is.

    Raises:
        NotApplicable: The graph is more than that.
        UnsupportedModel: Its trees are broken.
    """
    with reading("ONNX", source), np.errstate(over="ignore"):
        found = _pattern(proto.graph)
        return _finished(ensemble(found.node, found.features, found.dtype), found).check()


@dataclass(frozen=True)
class _Pattern:
    """What a graph is made of: the ensemble, its input, and the steps from its scores to the output."""

    node: onnx.NodeProto
    rows: str
    features: int
    dtype: str
    steps: tuple[onnx.NodeProto, ...]
    result: str
    stored: Mapping[str, onnx.TensorProto]


def _finished(forest: Forest, found: _Pattern) -> Forest:
    """The forest, with what the graph does to the scores."""
    link, base = forest.link, forest.base
    for step in found.steps:
        if step.op_type in _LINKS and link == "identity" and _by_rows(step):
            link = _LINKS[step.op_type]
        elif step.op_type == "Mul" and link == "exponential":
            base = base + np.log(_factor(step, found.stored))
        elif (step.op_type == "Mul" and _factor(step, found.stored) != 1) or step.op_type not in _TRANSPARENT:
            raise NotApplicable(f"the graph does more than a forest: {step.op_type} follows the trees")
    return replace(forest, link=link, base=base, rows=found.rows, result=found.result)


def _by_rows(step: onnx.NodeProto) -> bool:
    return all(attribute.i in (1, -1) for attribute in step.attribute if attribute.name == "axis")


def _factor(step: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> float:
    """The one positive number that a Mul multiplies by."""
    factor = [stored[name] for name in step.input if name in stored]
    if len(factor) == 1 and set(factor[0].dims) <= {1}:
        number = float(numpy_helper.to_array(factor[0]).item())
        if 0 < number < np.inf:
            return number
    raise NotApplicable("the graph does more than a forest: Mul follows the trees")


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
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: maker for maker in graph.node for name in maker.output}
    given = {value.name: value for value in graph.input if value.name not in stored}
    rows = node.input[0]
    while rows in makers and makers[rows].op_type == "Identity":
        rows = makers[rows].input[0]
    if rows not in given or len(given) != 1:
        raise NotApplicable("something comes before the trees, and it would be lost")
    kind = given[rows].type.tensor_type
    dtypes: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type not in dtypes or len(sizes) != 2 or sizes[1] < 1:
        raise NotApplicable("the input is no matrix of floats with a known number of columns")
    results = [value for value in graph.output if not _is_label(value)]
    if len(results) != 1:
        raise NotApplicable(f"the graph has {len(results)} outputs besides labels, and a forest has one")
    steps, at, scores = [], results[0].name, node.output[-1]
    while at != scores:
        step = makers.get(at)
        names = [name for name in step.input if name not in stored] if step else []
        if step is None or step is node or len(names) != 1:
            raise NotApplicable("an output is not made of the trees' scores alone")
        steps.append(step)
        at = names[0]
    if any(step.op_type == "ZipMap" and not _ascending(step) for step in steps):
        raise NotApplicable("the classes of a ZipMap do not ascend, and its maps do")
    dtype = dtypes[kind.elem_type]
    return _Pattern(node, rows, sizes[1], dtype, tuple(reversed(steps)), results[0].name, stored)


def _is_label(value: onnx.ValueInfoProto) -> bool:
    types = (onnx.TensorProto.INT64, onnx.TensorProto.STRING)
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in types


def _ascending(zipmap: onnx.NodeProto) -> bool:
    kinds = [[*labels] for attribute in zipmap.attribute for labels in (attribute.ints, attribute.strings)]
    return all(labels == sorted(set(labels)) for labels in kinds)
