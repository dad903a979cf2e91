"""scikit-learn to ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..data import Data
from ..errors import NotApplicable, TechniqueError
from ..formats.onnx import save
from ..formats.sklearn import Called, load, steps
from ..model import ONNX, SKLEARN, Format, Model, Signature
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ._estimator_answers import answered, check, compares
from ._estimator_graph import Columns
from ._estimator_steps import beside, through
from ._graph import DOUBLE, Graph
from ._onnxruntime import runner
from ._skl2onnx import OPSETS, translated

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

_IR = 8
SAMPLES = 300
CLOSE = 1e-3  # of the largest output: float32 arithmetic comes to less
NAMED = 6  # steps, that a note lists
_UNSEEN = replace(Columns.plain("", "str", 1), flat=True)  # a column that nothing looks at keeps its place
APART = 0.01  # the share of samples that may lie on an edge, where rounding takes another neighbour or vote


@dataclass(frozen=True)
class SklearnToOnnx(Technique):
    """Write an estimator, or a pipeline with its pre-processing, as ONNX, and hold it to what scikit-learn answers.

    Numbers are taken as float64 and computed with as float32; before trees, which compare them, as scikit-learn does:
    in float64, and rounded at the end. Scaling, filling in, PCA, products and selection of columns, linear models,
    kernel machines, multi-layer perceptrons and nearest neighbours are written in ONNX's own operators, one folded into
    the other where that is the same, and ensembles of trees as forests; what else there is, by skl2onnx. How far the
    result is off is told with it.
    """

    version: ClassVar[int] = 2
    accepts: ClassVar[frozenset[Format]] = frozenset({SKLEARN})
    returns: ClassVar[Format | None] = ONNX
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    simplified: ClassVar[bool] = True  # what skl2onnx adds for nothing, a runtime drops when it loads the graph

    def expects(self, target: Target) -> float:
        return 0.2  # of one row; most of what scikit-learn takes for that is checks of the input

    def requires(self, model: Model, target: Target) -> None:
        if "trees" in model.counts:
            raise NotApplicable("an ensemble of trees goes to ONNX as a forest (to-forest, forest-to-onnx)")

    def apply(self, model: Model, context: Context) -> Model:
        if context.calibration is None:
            raise TechniqueError("converting needs a few samples to hold the graph to, and there are none")
        estimator = load(model.path)
        made = save(_proto(steps(estimator), model.signature), context.folder, model)
        samples = context.calibration.take(np.arange(min(SAMPLES, len(context.calibration))))
        return replace(made, signature=model.signature, notes=(_held_to(estimator, made, model.signature, samples),))


def _proto(chain: Sequence[Any], signature: Signature) -> onnx.ModelProto:
    """The steps in one graph; before one that compares numbers, they compute as scikit-learn does."""
    check(chain[-1])
    graph, (result,) = Graph("float64" if compares(chain[-1]) else "float32"), signature.outputs
    nodes, stored = _needed(graph, _shaped(graph, _written(graph, chain, signature), result.shape, result.name))
    inputs = [_info(tensor.name, tensor.dtype, tensor.shape) for tensor in signature.inputs]
    outputs = [_info(result.name, result.dtype, result.shape)]
    made = onnx.helper.make_graph(nodes, "estimator", inputs, outputs, stored)
    opsets = [onnx.helper.make_opsetid(domain, OPSETS.get(domain, 1)) for domain in sorted(graph.domains)]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=_IR, producer_name="strop")


def _written(graph: Graph, chain: Sequence[Any], signature: Signature) -> str:
    """What the last step gives."""
    *before, last = chain
    features = getattr(last, "n_features_in_", 0)
    given = beside(graph, through(graph, _given(chain[0], signature), before, features))
    (result,) = signature.outputs
    found = answered(graph, given[0], last, result.name) if len(given) == 1 and given[0].dtype != "str" else None
    return found or translated(graph, last, given, result.name)[0]


def _given(first: Any, signature: Signature) -> list[Columns]:
    """A matrix, or the columns of the frame that the first step was trained on, of which some may not be looked at."""
    matrix = signature.inputs[0]
    if len(matrix.shape) == 2:
        return [Columns.plain(matrix.name, matrix.dtype, int(matrix.shape[1] or 0))]
    found = {tensor.name: replace(_UNSEEN, name=tensor.name, dtype=tensor.dtype) for tensor in signature.inputs}
    return [found.get(str(name), _UNSEEN) for name in getattr(first, "feature_names_in_", found)]


def _shaped(graph: Graph, at: str, shape: tuple[Any, ...], name: str) -> str:
    """As the signature has it: float64, and [samples] of one number; of two classes' decision values the second."""
    if len(shape) == 1:
        last = graph.array(np.array([-1]), "int64")
        at = graph.add("Squeeze", graph.add("Gather", at, last, axis=1), graph.number([1]))
    graph.nodes.append(onnx.helper.make_node("Cast", [at], [name], to=DOUBLE))
    return name


def _needed(graph: Graph, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """What the output is made of: skl2onnx writes the predicted class too."""
    wanted, nodes = {output}, []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    return nodes[::-1], [tensor for tensor in graph.stored if tensor.name in wanted]


def _info(name: str, dtype: str, shape: tuple[Any, ...]) -> onnx.ValueInfoProto:
    kind = onnx.TensorProto.STRING if dtype == "str" else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, ["N", *shape[1:]])


def _held_to(estimator: Any, made: Model, signature: Signature, samples: Data) -> str:
    """How far the graph is off, as a sentence.

    Raises:
        NotApplicable: Too far.
    """
    batch, (result,) = samples.batch(0, len(samples)), signature.outputs
    wanted = Called(estimator, signature)(batch).astype(np.float64)
    try:
        step = runner(made.path)
        found = step(batch)[result.name]
        single = np.concatenate([step(samples.batch(row, row + 1))[result.name] for row in range(min(3, len(samples)))])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise NotApplicable(f"ONNX Runtime can't run it: {str(error).strip().splitlines()[0][:200]}") from error
    if found.shape != wanted.shape:
        raise NotApplicable(f"the graph gives {result.name!r} in the shape {found.shape}, not {wanted.shape}")
    off = np.abs(found - wanted).reshape(len(wanted), -1).max(axis=1)
    off[: len(single)] = np.maximum(
        off[: len(single)], np.abs(single - wanted[: len(single)]).reshape(len(single), -1).max(axis=1)
    )
    off = off / max(float(np.abs(wanted).max(initial=0)), 1e-30)
    apart = ~(off <= CLOSE)
    if apart.mean() > APART:
        raise NotApplicable(
            f"the graph answers otherwise than scikit-learn: on {apart.sum()} of {len(off)} samples it is off by up to "
            f"{np.nanmax(off):.2g} of the largest output"
        )
    most = off[~apart].max(initial=0)
    said = f"{_named(steps(estimator))}: off by {most:.1g} of the largest output, on {len(off)} samples"
    return said + (f"; {apart.sum()} more lie on an edge, and fall on its other side" if apart.any() else "")


def _named(chain: Sequence[Any]) -> str:
    """What became ONNX: pre-processing is in what is measured, and in what is handed over."""
    names = [type(step).__name__ for step in chain]
    if len(names) == 1:
        return f"{names[0]} as ONNX"
    before = ", ".join(names[:-1]) if len(names) <= NAMED else f"{len(names) - 1} steps"
    return f"{before} and {names[-1]} as one graph of ONNX"
