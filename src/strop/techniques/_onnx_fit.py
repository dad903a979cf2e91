"""Fit for ONNX: the integers of a quantized graph's weights, and its biases, by samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats._onnx_inside import reads
from ..model import Model
from ..technique import Context
from ._calibration import Step, feeds
from ._fit import SAMPLES, Fit, Layer, Window, fitted, kept_fits
from ._onnxruntime import runner

if TYPE_CHECKING:
    import onnx

LARGEST = 1 << 31  # bytes of a graph that can be told as one


def fit(original: onnx.ModelProto, quantized: onnx.ModelProto, model: Model, context: Context, kept: Path) -> None:
    """Give a quantized graph other integers for its weights and its biases, by which samples lose less.

    Args:
        original: What was quantized.
        quantized: By ONNX Runtime, its weights as they are nearest; changed.
        model: The file that both were made of.
        context: For the samples and the time.
        kept: A folder for what was found.
    """
    found = layers(original, quantized) if original.ByteSize() < LARGEST else []

    def made(layers: Sequence[Layer]) -> dict[str, Fit]:
        given = list(feeds(model.signature, context, SAMPLES, lambda: telling(original, (), context.target.threads)))
        return fitted(layers, lambda values: telling(original, values, context.target.threads), given, context)

    write(quantized, original, found, kept_fits(kept, found, made))


def telling(original: onnx.ModelProto, values: Iterable[str], threads: int) -> Step:
    """What runs a graph and tells these values, too."""
    made = type(original)()
    made.CopyFrom(original)
    known = {value.name for ends in (made.graph.input, made.graph.output) for value in ends}
    for name in values:
        if name not in known:
            made.graph.output.add().name = name
    return runner(made.SerializeToString(), threads)


def layers(original: onnx.ModelProto, quantized: onnx.ModelProto) -> list[Layer]:
    """Operators with weights of their own that have become int8 with no zero point."""
    from onnx import numpy_helper

    before = {tensor.name: tensor for tensor in original.graph.initializer}
    after = {tensor.name: tensor for tensor in quantized.graph.initializer}
    readers = Counter(value for node in original.graph.node for value in reads(node))
    made = {value for node in original.graph.node for value in node.output}
    made |= {value.name for value in original.graph.input} - before.keys()
    found = []
    for node in original.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        integers, scale = after.get(f"{name}_quantized"), after.get(f"{name}_scale")
        if name not in before or integers is None or scale is None or integers.data_type != integers.INT8:
            continue
        if readers[name] > 1 or node.input[0] not in made or not _laid_out(node, before[name]):
            continue
        zero = after.get(f"{name}_zero_point")
        if zero is not None and numpy_helper.to_array(zero).any():
            continue
        weights = _rows(node, numpy_helper.to_array(before[name]))
        scales = np.broadcast_to(numpy_helper.to_array(scale).astype(np.float64).ravel(), weights[..., 0].size)
        most = float(np.abs(numpy_helper.to_array(integers).astype(int)).max())
        bias = node.input[2] if len(node.input) > 2 else ""
        shifts = f"{bias}_quantized" in after and readers[bias] == 1
        window, scales = _window(node, before[name].dims), scales.reshape(weights.shape[:2])
        found.append(Layer(name, node.input[0], weights, scales, most, window, shifts))
    return found


def write(
    quantized: onnx.ModelProto, original: onnx.ModelProto, found: Sequence[Layer], fits: Mapping[str, Fit]
) -> None:
    """Put what was found into the graph."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    reader = {node.input[1]: node for node in original.graph.node if len(node.input) > 1}
    scale_of = {node.input[0]: node.input[1] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    for layer in found:
        if layer.name not in fits:
            continue
        fit, node, tensor = fits[layer.name], reader[layer.name], stored[f"{layer.name}_quantized"]
        rows = fit.integers.reshape(-1, fit.integers.shape[-1]).astype(np.int8)
        laid = rows.T if _across(node) else rows
        tensor.CopyFrom(numpy_helper.from_array(laid.reshape(tuple(tensor.dims)), tensor.name))
        if layer.shifts:
            bias = stored[f"{node.input[2]}_quantized"]
            scale = numpy_helper.to_array(stored[scale_of[bias.name]]).astype(np.float64)
            off = layer.weights - fit.integers * layer.scales[..., None]
            shift = np.einsum("goi,gi->go", off, fit.mean).ravel() / scale
            limits = np.iinfo(np.int32)
            moved = np.clip(np.rint(numpy_helper.to_array(bias) + shift), limits.min, limits.max)
            bias.CopyFrom(numpy_helper.from_array(moved.astype(np.int32), bias.name))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _laid_out(node: onnx.NodeProto, weights: onnx.TensorProto) -> bool:
    """Whether it is of those whose arithmetic is known here."""
    known = _attributes(node)
    if node.op_type == "Gemm":
        return not known.get("transA", 0) and known.get("alpha", 1.0) == known.get("beta", 1.0) == 1.0
    if node.op_type == "Conv":
        return known.get("auto_pad", b"NOTSET") in (b"NOTSET", b"SAME_UPPER", b"VALID")
    return node.op_type == "MatMul" and len(weights.dims) == 2


def _across(node: onnx.NodeProto) -> bool:
    """Whether the weights of one output are a column."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attributes(node).get("transB", 0))


def _rows(node: onnx.NodeProto, weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[groups, outputs, inputs]."""
    groups = _attributes(node).get("group", 1)
    rows = weights.T if _across(node) else weights.reshape(len(weights), -1)
    return rows.reshape(groups, len(rows) // groups, -1)


def _window(node: onnx.NodeProto, weights: Sequence[int]) -> Window | None:
    if node.op_type != "Conv":
        return None
    known = _attributes(node)
    kernel = list(weights[2:])
    ones, pads = [1] * len(kernel), known.get("pads", [0] * 2 * len(kernel))
    same = known.get("auto_pad", b"NOTSET") == b"SAME_UPPER"
    half = len(kernel)
    return Window(
        kernel, known.get("strides", ones), known.get("dilations", ones), None if same else (pads[:half], pads[half:])
    )
