"""Techniques: steps that turn a model into another. A new one is its file, one line here, and one test."""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Any

from .._plugins import Room, with_plugins
from ..errors import InvalidPlan
from ..technique import Technique

_ROOM: Room[type[Technique]] = Room(
    __name__,
    (
        "distill:Distill",
        "distill:DropBlocks",
        "prune_channels:PruneChannels",
        "factorize:Factorize",
        "prune_weights:PruneWeights",
        "quantize_aware:QuantizeAware",
        "distill_keras:DistillKeras",
        "prune_keras:PruneKerasWeights",
        "quantize_aware_keras:QuantizeAwareKeras",
        "to_onnx:ToOnnx",
        "keras_to_onnx:KerasToOnnx",
        "keras_to_tflite:KerasToTflite",
        "to_tflite:ToTflite",
        "reduce_inputs:ReduceInputs",
        "retune_estimator:RetuneEstimator",
        "low_rank_kernel:LowRankKernel",
        "condense_neighbors:CondenseNeighbors",
        "distill_estimator:DistillEstimator",
        "teach_forest:TeachForest",
        "sklearn_to_onnx:SklearnToOnnx",
        "simplify:Simplify",
        "optimize_onnx:OptimizeOnnx",
        "quantize_onnx:DynamicInt8",
        "quantize_onnx:StaticInt8",
        "int4_onnx:Int4Weights",
        "mixed_onnx:MixedOnnx",
        "mixed_dynamic:MixedDynamic",
        "to_openvino:ToOpenvino",
        "quantize_openvino:OpenvinoInt8",
        "quantize_openvino:OpenvinoInt8Weights",
        "int4_openvino:OpenvinoInt4Weights",
        "mixed_openvino:MixedOpenvino",
        "cluster_tflite:ClusterWeights",
        "quantize_tflite:TfliteInt8",
        "quantize_tflite:TfliteWeights",
        "quantize_tflite:TfliteFloat16",
        "to_program:ToProgram",
        "to_forest:ToForest",
        "drop_features:DropFeatures",
        "retune:Retune",
        "distill_forest:DistillForest",
        "truncate_rounds:TruncateRounds",
        "prune_leaves:PruneLeaves",
        "refit_leaves:RefitLeaves",
        "simplify_forest:SimplifyForest",
        "quantize_forest:QuantizeForest",
        "to_native:ToNative",
        "forest_to_onnx:ForestToOnnx",
    ),
)

if TYPE_CHECKING:
    TECHNIQUES: tuple[type[Technique], ...]


def __getattr__(name: str) -> Any:
    return _ROOM.own() if name == "TECHNIQUES" else _ROOM.member(name)


@functools.cache
def all_techniques() -> tuple[type[Technique], ...]:
    """strop's own techniques, then those of installed packages (entry points `strop.techniques`)."""
    return with_plugins(__name__, _ROOM.own())


def find(label: str) -> type[Technique]:
    """The technique of that label.

    Raises:
        InvalidPlan: There is none; the message names the nearest.
    """
    known = {technique.label(): technique for technique in all_techniques()}
    if label not in known:
        near = difflib.get_close_matches(label, known, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
        raise InvalidPlan(f"There is no technique {label!r}. {hint}")
    return known[label]


__all__ = ["TECHNIQUES", "all_techniques", "find"]
