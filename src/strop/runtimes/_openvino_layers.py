"""What OpenVINO's performance counters tell of each node, with the layers of the model's file that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .._quiet import openvino
from ..model import Batch, Model
from ..runtime import Array, LayerTime, Profiled
from ._openvino_fusion import Node, origins
from ._profiled import EACH, TOLD, behind, per_layer, take_turns

WITHIN = 5e-7
"""Seconds that reading the clock takes within a node, at the most."""
PRECISIONS = {"i8": "int8", "u8": "int8", "f64": "f64", "f32": "f32", "f16": "f16", "bf16": "bf16"}


def profiled(
    compiled: Callable[[bool], Any], model: Model, batches: Sequence[Batch], threads: int, seconds: float
) -> Profiled:
    """Run a model with performance counters and without.

    Args:
        compiled: Compiles it, with them or without.
    """
    counting = compiled(True)
    plain, counted = compiled(False).create_infer_request(), counting.create_infer_request()
    logs: list[list[Any]] = []

    def bound(request: Any) -> list[Callable[[], object]]:
        return [lambda feed=dict(batch): request.infer(feed, share_inputs=True) for batch in batches]  # type: ignore[misc]

    nodes = sorted(
        ((op, _info(op)) for op in counting.get_runtime_model().get_ops()), key=lambda pair: int(pair[1]["execOrder"])
    )
    turns = take_turns(
        bound(plain), bound(counted), len(nodes), threads, seconds, lambda: logs.append(counted.get_profiling_info())
    )
    ran = [place for place, entry in enumerate(logs[-1]) if entry.status == entry.Status.EXECUTED]
    each = per_layer(_means(logs, turns.kept)[None, ran], turns, WITHIN)
    given = [Node.of(op) for op in openvino().Core().read_model(str(model.path)).get_ordered_ops()]
    run = [Node.of(*pair) for pair in nodes]
    stands_for = dict(zip([node.key for node in run], origins(run, given), strict=True))
    reads = {node.key: node.reads[0] for node in run if node.reads}
    known: dict[str, list[tuple[tuple[str, ...], str, dict[str, str]]]] = {}
    for node, (_, info) in zip(run, nodes, strict=True):
        names = stands_for[node.key]
        known.setdefault(node.name, []).append((names, "" if names else behind(node.key, stands_for, reads), info))
    # several may have one name: what was made of a node for each that reads it
    told = [known[entry.node_name].pop(0) if known.get(entry.node_name) else ((), "", {}) for entry in logs[-1]]
    layers = []
    for place, taken in zip(ran, each, strict=True):
        entry, (names, after, info) = logs[-1][place], told[place]
        precision = _precision(info, entry.exec_type)
        layers.append(LayerTime(entry.node_name, entry.node_type, float(taken), names, precision, after))
    return Profiled(_together(layers), turns.plain, turns.waited, TOLD)


def _together(layers: Sequence[LayerTime]) -> tuple[LayerTime, ...]:
    """Those that stand for the same layers as one, which goes by the last."""
    found: dict[tuple[str, ...], LayerTime] = {}
    for place, layer in enumerate(layers):
        key = layer.layers or (str(place), "")
        before = found.pop(key, None)
        found[key] = replace(layer, seconds=layer.seconds + (before.seconds if before else 0.0))
    return tuple(found.values())


def _means(logs: Sequence[Sequence[Any]], kept: Array) -> Array:
    """Seconds of each node, the mean over the turns that count: the counters tell the mean of all calls so far."""
    told = np.array([[entry.real_time.total_seconds() for entry in log] for log in logs])
    sums = told * (EACH * np.arange(1, len(logs) + 1))[:, None]
    means: Array = np.maximum(0.0, (sums[kept] - sums[kept - 1]).mean(axis=0) / EACH)
    return means


def _info(op: Any) -> dict[str, str]:
    return {name: value.astype(str) for name, value in op.get_rt_info().items()}


def _precision(told: dict[str, str], kind: str) -> str:
    return PRECISIONS.get(told.get("runtimePrecision", kind.rpartition("_")[2]), "")
