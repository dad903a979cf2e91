"""The steps of a pipeline before its last, in ONNX: one after the other, and beside one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import NotApplicable
from ..formats.sklearn import steps
from ._estimator_graph import Columns
from ._estimator_transforms import transformed
from ._graph import Graph
from ._kernels import Array
from ._skl2onnx import translated

_BY_COLUMN = ("OneHotEncoder", "OrdinalEncoder")


def through(graph: Graph, given: Sequence[Columns], chain: Sequence[Any], features: int) -> Sequence[Columns]:
    """What steps make of a matrix, or of the columns of a frame.

    Args:
        features: How many columns the last of them gives; 0 where nothing asks.

    Raises:
        NotApplicable: skl2onnx, which writes what is not written here, can't either.
    """
    for place, step in enumerate(chain):
        width = int(chain[place + 1].n_features_in_) if place + 1 < len(chain) else features
        given = [_step(graph, given, step, width)]
    return given


def beside(graph: Graph, given: Sequence[Columns]) -> Sequence[Columns]:
    """The columns of a frame as one matrix, where all are text or all are numbers; each by itself elsewhere."""
    if not given[0].flat:
        return given
    if len(given) == 1 or len({x.dtype for x in given}) > 1:
        return apart(graph, given)
    whole = graph.add("Concat", *(x.name for x in given), axis=0)
    at = graph.add("Transpose", graph.add("Reshape", whole, graph.number([len(given), -1])))
    return [Columns.plain(at, given[0].dtype, len(given))]


def apart(graph: Graph, given: Sequence[Columns]) -> Sequence[Columns]:
    """The columns of a frame as matrices of one each."""
    one = graph.number([1])
    return [Columns.plain(graph.add("Unsqueeze", x.name, one), x.dtype, 1) if x.flat else x for x in given]


def _step(graph: Graph, given: Sequence[Columns], step: Any, features: int) -> Columns:
    if type(step).__name__ in ("ColumnTransformer", "FeatureUnion"):
        return _union(graph, given, step, features)
    given = (apart if type(step).__name__ in _BY_COLUMN else beside)(graph, given)
    if len(given) == 1 and given[0].dtype != "str":
        after = transformed(graph, given[0], step)
        if after is not None:
            return after
    at, dtype = translated(graph, step, given)
    if dtype == "str":
        return Columns.plain(at, dtype, features)
    return Columns.plain(graph.cast(at, dtype, graph.dtype), graph.dtype, features)


def _union(graph: Graph, given: Sequence[Columns], union: Any, features: int) -> Columns:
    """What its parts make of it, beside one another."""
    parts = [part for part in _parts(union) if part[1] != "drop" and (part[2] is None or len(part[2]))]
    made = []
    for name, part, places in parts:
        chosen = given if places is None else _chosen(graph, given, places)
        chain = [] if part == "passthrough" else steps(part)
        x, *others = beside(graph, through(graph, chosen, chain, features if len(parts) == 1 else 0))
        if others or (x.dtype == "str" and len(parts) > 1):
            raise NotApplicable(f"the part {name!r} of a {type(union).__name__} lets text through to others' numbers")
        if (weight := (union.transformer_weights or {}).get(name)) is not None:
            x = Columns.plain(graph.add("Mul", x.whole(graph), graph.number(weight)), graph.dtype, len(x.scale))
        made.append(x)
    if len(made) == 1:
        return made[0]
    at = graph.add("Concat", *(x.whole(graph) for x in made), axis=1)
    return Columns.plain(at, graph.dtype, features)


def _parts(union: Any) -> Iterator[tuple[str, Any, Array | None]]:
    """Their names; what they are; and the places of the columns that they take, None for all."""
    if type(union).__name__ == "FeatureUnion":
        yield from ((name, part, None) for name, part in union.transformer_list)
        return
    for name, part, _ in union.transformers_:
        yield name, part, np.asarray(union._transformer_to_input_indices[name], np.int64)


def _chosen(graph: Graph, given: Sequence[Columns], places: Array) -> Sequence[Columns]:
    if len(given) > 1:
        return [given[place] for place in places]
    (x,) = given
    return given if np.array_equal(places, np.arange(len(x.scale))) else [x.selected(graph, places)]
