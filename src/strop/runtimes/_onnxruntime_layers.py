"""What ONNX Runtime's profiler tells of each node, with the layers of the model's file that it stands for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.onnx import load, save
from ..formats.onnx_graph import named
from ..model import Batch, Model
from ..runtime import LayerTime, Profiled
from ._fusion import origins
from ._profiled import EACH, per_layer, take_turns

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

SUFFIX = "_kernel_time"
WITHIN = 1e-5
"""Seconds that the profiler takes within a node, at the most: 5 us were seen, and 8 on a busy machine, on nodes of
0.2 us."""
WEIGHED = ("MatMul", "Gemm", "Conv", "Attention", "LSTM", "GRU")
"""Operators that multiply; of the types that go in, the least tells what they do it in."""
PRECISIONS = {
    "int8": "int8", "uint8": "int8", "int4": "int8", "uint4": "int8", "float16": "f16", "bfloat16": "bf16",
    "float": "f32", "double": "f64",
}  # fmt: skip

Session = Callable[[str, Mapping[str, str]], Any]
"""A file, and entries of a session's configuration: `profile` and `optimized` are a prefix and a path to write to."""


def profiled(session: Session, model: Model, batches: Sequence[Batch], threads: int, seconds: float) -> Profiled:
    """Run a copy of a graph whose nodes all have names, with the profiler and without.

    Raises:
        NotApplicable: The log is not as it should be.
    """
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        proto = named(load(model))
        graph = onnx.GraphProto()
        graph.node.extend(proto.graph.node)
        file = str(save(proto, folder, model).path)
        names = [tensor.name for tensor in model.signature.outputs]
        written = folder / "optimized.onnx"
        observed = session(file, {"profile": str(folder / "profile"), "optimized": str(written)})
        plain = session(file, {})
        optimized = onnx.load(written, load_external_data=False).graph

        def bound(session: Any) -> list[Callable[[], object]]:
            return [lambda feed=dict(batch): session.run(names, feed) for batch in batches]  # type: ignore[misc]

        turns = take_turns(bound(plain), bound(observed), len(optimized.node), threads, seconds)
        log = json.loads(Path(observed.end_profiling()).read_bytes())
    logged = _durations(log, {node.name for node in optimized.node})
    stands_for = {node.name: found for node, found in zip(optimized.node, origins(graph, optimized), strict=True)}
    calls = sum(event["name"] == "model_run" for event in log)
    if not logged or any(len(taken) != calls for taken, _ in logged.values()):
        raise NotApplicable("the log of ONNX Runtime's profiler does not hold every node of every call")
    counted = EACH * turns.kept + EACH - 1
    each = per_layer(np.array([taken for taken, _ in logged.values()]).T[counted] * 1e-6, turns, WITHIN)
    layers = tuple(
        LayerTime(name, told["op_name"], float(taken), stands_for[name], _precision(told))
        for (name, (_, told)), taken in zip(logged.items(), each, strict=True)
    )
    return Profiled(layers, turns.plain, turns.waited)


def _durations(log: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, tuple[list[int], Mapping[str, Any]]]:
    """Microseconds of each call, and what is told besides, by node. Nodes in the bodies of loops and branches are part
    of these."""
    found: dict[str, tuple[list[int], Mapping[str, Any]]] = {}
    for event in log:
        name = event["name"].removesuffix(SUFFIX)
        if event["cat"] == "Node" and name != event["name"] and name in names:
            found.setdefault(name, ([], event["args"]))[0].append(event["dur"])
    return found


def _precision(told: Mapping[str, Any]) -> str:
    types = [kind for value in told.get("input_type_shape", ()) for kind in value]
    results = [kind for value in told.get("output_type_shape", ()) for kind in value]
    if any(kind in told["op_name"] for kind in WEIGHED):
        known = [PRECISIONS[kind] for kind in types if kind in PRECISIONS]
        return min(known, key=["int8", "f16", "bf16", "f32", "f64"].index, default="")
    return next((PRECISIONS[kind] for kind in (*results, *types) if kind in PRECISIONS), "")
