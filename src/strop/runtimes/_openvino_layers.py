"""What OpenVINO's performance counters tell of each node, with the layers of the model's file that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..formats.openvino import layer_names
from ..model import Batch, Model
from ..runtime import Array, LayerTime, Profiled
from ._profiled import EACH, per_layer, take_turns

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

    told = {op.get_friendly_name(): _info(op) for op in counting.get_runtime_model().get_ops()}
    turns = take_turns(
        bound(plain), bound(counted), len(told), threads, seconds, lambda: logs.append(counted.get_profiling_info())
    )
    ran = [entry for entry in logs[-1] if entry.status == entry.Status.EXECUTED]
    each = per_layer(_means(logs, [entry.node_name for entry in ran], turns.kept)[None], turns, WITHIN)
    own = layer_names(model)
    layers = tuple(
        LayerTime(
            entry.node_name, entry.node_type, float(taken),
            _layers(told.get(entry.node_name, {}), own), _precision(told.get(entry.node_name, {}), entry.exec_type),
        )
        for entry, taken in zip(ran, each, strict=True)
    )  # fmt: skip
    return Profiled(layers, turns.plain, turns.waited)


def _means(logs: Sequence[Sequence[Any]], names: Sequence[str], kept: Array) -> Array:
    """Seconds of each node, the mean over the turns that count: the counters tell the mean of all calls so far."""
    told = [{entry.node_name: entry.real_time.total_seconds() for entry in log} for log in logs]
    sums = np.array([[EACH * (turn + 1) * log.get(name, 0.0) for name in names] for turn, log in enumerate(told)])
    means: Array = np.maximum(0.0, (sums[kept] - sums[kept - 1]).mean(axis=0) / EACH)
    return means


def _info(op: Any) -> dict[str, str]:
    return {name: value.astype(str) for name, value in op.get_rt_info().items()}


def _layers(told: dict[str, str], own: frozenset[str]) -> tuple[str, ...]:
    """Those that the file has: what OpenVINO makes on the way has names of its own."""
    return tuple(dict.fromkeys(name for name in told.get("originalLayersNames", "").split(",") if name in own))


def _precision(told: dict[str, str], kind: str) -> str:
    return PRECISIONS.get(told.get("runtimePrecision", kind.rpartition("_")[2]), "")
