"""Techniques: steps that turn a model into another. A new one is its file, one line here, and one test."""

from __future__ import annotations

import difflib
import functools

from .._plugins import with_plugins
from ..errors import InvalidPlan
from ..technique import Technique
from .cluster_tflite import ClusterWeights
from .condense_neighbors import CondenseNeighbors
from .distill import Distill, DropBlocks
from .distill_estimator import DistillEstimator
from .distill_forest import DistillForest
from .distill_keras import DistillKeras
from .drop_features import DropFeatures
from .factorize import Factorize
from .forest_to_onnx import ForestToOnnx
from .keras_to_onnx import KerasToOnnx
from .keras_to_tflite import KerasToTflite
from .low_rank_kernel import LowRankKernel
from .mixed_onnx import MixedOnnx
from .mixed_openvino import MixedOpenvino
from .optimize_onnx import OptimizeOnnx
from .prune_channels import PruneChannels
from .prune_keras import PruneKerasWeights
from .prune_leaves import PruneLeaves
from .prune_weights import PruneWeights
from .quantize_aware import QuantizeAware
from .quantize_aware_keras import QuantizeAwareKeras
from .quantize_forest import QuantizeForest
from .quantize_onnx import DynamicInt8, StaticInt8
from .quantize_openvino import OpenvinoInt8, OpenvinoInt8Weights
from .quantize_tflite import TfliteFloat16, TfliteInt8, TfliteWeights
from .reduce_inputs import ReduceInputs
from .refit_leaves import RefitLeaves
from .retune import Retune
from .retune_estimator import RetuneEstimator
from .simplify import Simplify
from .simplify_forest import SimplifyForest
from .sklearn_to_onnx import SklearnToOnnx
from .teach_forest import TeachForest
from .to_forest import ToForest
from .to_native import ToNative
from .to_onnx import ToOnnx
from .to_openvino import ToOpenvino
from .to_program import ToProgram
from .to_tflite import ToTflite
from .truncate_rounds import TruncateRounds

TECHNIQUES: tuple[type[Technique], ...] = (
    Distill,
    DropBlocks,
    PruneChannels,
    Factorize,
    PruneWeights,
    QuantizeAware,
    DistillKeras,
    PruneKerasWeights,
    QuantizeAwareKeras,
    ToOnnx,
    KerasToOnnx,
    KerasToTflite,
    ToTflite,
    ReduceInputs,
    RetuneEstimator,
    LowRankKernel,
    CondenseNeighbors,
    DistillEstimator,
    TeachForest,
    SklearnToOnnx,
    Simplify,
    OptimizeOnnx,
    DynamicInt8,
    StaticInt8,
    MixedOnnx,
    ToOpenvino,
    OpenvinoInt8,
    OpenvinoInt8Weights,
    MixedOpenvino,
    ClusterWeights,
    TfliteInt8,
    TfliteWeights,
    TfliteFloat16,
    ToProgram,
    ToForest,
    DropFeatures,
    Retune,
    DistillForest,
    TruncateRounds,
    PruneLeaves,
    RefitLeaves,
    SimplifyForest,
    QuantizeForest,
    ToNative,
    ForestToOnnx,
)


@functools.cache
def all_techniques() -> tuple[type[Technique], ...]:
    """strop's own techniques, then those of installed packages (entry points `strop.techniques`)."""
    return with_plugins("strop.techniques", TECHNIQUES)


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
