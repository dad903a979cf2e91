"""What ONNX Runtime's profiler tells of each node, with the layers of the model's file that it stands for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from ._profiled import EACH, TOLD, behind, per_layer, take_turns

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

SUFFIX = "_kernel_time"
WITHIN = 1e-5
"""Seconds that the profiler takes for a node, at the most: 5 us were seen, and 8 on a busy machine, on nodes of
0.2 us. What it takes for those in the body of a loop is part of the loop's time."""
WEIGHED = ("MatMul", "Gemm", "Conv", "Attention", "LSTM", "GRU")
"""Operators that multiply; of the types that go in, the least tells what they do it in."""
PRECISIONS = {
    "int8": "int8", "uint8": "int8", "int4": "int8", "uint4": "int8", "float16": "f16", "bfloat16": "bf16",
    "float": "f32", "double": "f64",
}  # fmt: skip

Session = Callable[[str, Mapping[str, str]], Any]
"""A file, and entries of a session's configuration: `profile` and `optimized` are a prefix and a path to write to."""


@dataclass(frozen=True)
class _Logged:
    """What the log has of a node: by call the microseconds, and for how many nodes it was written to, those in the body
    of a loop or branch counted; and what it tells besides."""

    taken: list[int]
    written: list[int]
    told: Mapping[str, Any]


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
    logged = _logged(log, {node.name for node in optimized.node})
    stands_for = {node.name: found for node, found in zip(optimized.node, origins(graph, optimized), strict=True)}
    calls = sum(event["name"] == "model_run" for event in log)
    if not logged or any(len(node.taken) != calls for node in logged.values()):
        raise NotApplicable("the log of ONNX Runtime's profiler does not hold every node of every call")
    counted = EACH * turns.kept + EACH - 1
    taken = np.array([node.taken for node in logged.values()]).T[counted]
    times = np.array([node.written for node in logged.values()]).T[counted]
    each = per_layer(taken * 1e-6, turns, WITHIN, np.median(times, axis=0))
    makers = {value: node.name for node in optimized.node for value in node.output if value}
    reads = {node.name: makers.get(node.input[0], node.input[0]) for node in optimized.node if node.input}
    layers = tuple(
        LayerTime(
            name, node.told["op_name"], float(seconds), stands_for[name], _precision(node.told),
            "" if stands_for[name] else behind(name, stands_for, reads),
        )
        for (name, node), seconds in zip(logged.items(), each, strict=True)
    )  # fmt: skip
    return Profiled(layers, turns.plain, turns.waited, TOLD)


def _logged(log: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, _Logged]:
    """What is told of each node. Nodes in the bodies of loops and branches are part of these, which the log has after
    them."""
    found: dict[str, _Logged] = {}
    inner = 0
    for event in log:
        name = event["name"].removesuffix(SUFFIX)
        if event["cat"] != "Node" or name == event["name"]:
            continue
        inner += 1
        if name in names:
            node = found.setdefault(name, _Logged([], [], event["args"]))
            node.taken.append(event["dur"])
            node.written.append(inner)
            inner = 0
    return found


def _precision(told: Mapping[str, Any]) -> str:
    types = [kind for value in told.get("input_type_shape", ()) for kind in value]
    results = [kind for value in told.get("output_type_shape", ()) for kind in value]
    if any(kind in told["op_name"] for kind in WEIGHED):
        known = [PRECISIONS[kind] for kind in types if kind in PRECISIONS]
        return min(known, key=["int8", "f16", "bf16", "f32", "f64"].index, default="")
    return next((PRECISIONS[kind] for kind in (*results, *types) if kind in PRECISIONS), "")
