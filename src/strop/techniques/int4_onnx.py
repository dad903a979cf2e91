"""Int4 for ONNX Runtime: weights of matrix products alone, those that it moves most in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from ..dataflow import Dataflow
from ..errors import NotApplicable
from ..formats.onnx import OnnxFormat, graph_of, save
from ..formats.onnx_graph import is_quantized
from ..model import ONNX, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Phase, Technique, Work
from .quantize_onnx import both

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = np.ndarray[Any, Any]

PRODUCTS = frozenset({"MatMul", "Gemm"})
LEAST = 0.25  # of a model's parameters, that must be in matrix products: all others stay as they are
IN_INT8 = 4  # MatMulNBits' `accuracy_level`: what is multiplied with the weights is rounded to int8, block by block
KINDS = {4: "quantize_matmul_4bits", 8: "quantize_matmul_8bits"}


@dataclass(frozen=True)
class Int4Weights(Technique):
    """Store weights of products as int4, and multiply in int8: an eighth of the size, for what mostly reads them.

    A block of a column's weights shares a scale and a zero point (ONNX Runtime's MatMulNBits). Measured in
    `benchmarks/int4.md`: products that use each weight once are faster by it than by int8, others gain nothing but
    size.

    Attributes:
        share: Of the weights of matrix products, that are in int4, those of layers that it moves least; the rest is in
            int8, in blocks, too.
        block: Weights that share a scale.
    """

    share: float = span(0.6, 0.1, 1.0, strength=True)
    block: int = choice(32, 64, 128)

    accepts: ClassVar[frozenset[Format]] = frozenset({ONNX})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Zen 5, over float32 in ONNX Runtime: eight products for one row 0.16, MiniLM 0.95; with all in int8 0.26 and
        # 0.87 (`benchmarks/int4.md`).
        return {Work.WEIGHTS: 0.26 - 0.1 * self.share, Work.PRODUCTS: 0.87 + 0.08 * self.share}

    def requires(self, model: Model, target: Target) -> None:
        if is_quantized(graph_of(model)):
            raise NotApplicable("is already quantized")
        layers = OnnxFormat().structure(model).layers
        whole = sum(layer.parameters for layer in layers)
        products = sum(layer.parameters for layer in layers if layer.operator in PRODUCTS)
        if products < LEAST * whole or not products:
            share = products / whole if whole else 0.0
            raise NotApplicable(f"has {share:.0%} of its parameters in matrix products, and int4 is for these alone")

    def apply(self, model: Model, context: Context) -> Model:
        def quantize(source: Path, result: Path, large: bool) -> None:
            import onnx

            proto = onnx.load(source)
            self._exchange(proto.graph)
            onnx.save(proto, result, save_as_external_data=large)

        made = both(model, context, quantize)[1]
        if not any(domain.domain == "com.microsoft" for domain in made.opset_import):
            made.opset_import.add(domain="com.microsoft", version=1)
        return save(made, context.folder, model)

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return {
            one.name: f"int4 is for stored weights of matrix products, and {one.kind} has none"
            for one in made.operators
            if one.kind != "MatMulNBits"
        }

    def _exchange(self, graph: onnx.GraphProto) -> None:
        """Put products of rounded weights in the place of those of stored ones."""
        from onnx import helper, numpy_helper

        stored = {tensor.name: tensor for tensor in graph.initializer}
        taken = {value for node in graph.node for value in (*node.input, *node.output)} | stored.keys()

        def free(name: str) -> str:
            while name in taken:
                name += "'"
            taken.add(name)
            return name

        straight = dict[str, Array]()
        for node in graph.node:
            if _fits(node, stored):
                values = numpy_helper.to_array(stored[node.input[1]])
                straight[node.name] = values.T if _flag(node, "transB") else values
        bits = self._bits(straight)
        if 4 not in bits.values():
            raise NotApplicable(
                f"has no matrix of stored float32 weights that is at most {self.share:.0%} of all such weights"
            )
        nodes = []
        for node in graph.node:
            if node.name not in straight:
                nodes.append(node)
                continue
            depth, width = straight[node.name].shape
            parts = _rounded(straight[node.name], bits[node.name], self.block)
            names = [free(f"{node.name}/{part}") for part in ("weights", "scales", "zeros")]
            graph.initializer.extend(map(numpy_helper.from_array, parts, names))
            bias = node.input[2] if len(node.input) > 2 else ""
            result = free(f"{node.name}/product") if bias else node.output[0]
            nodes.append(helper.make_node(
                "MatMulNBits", [node.input[0], *names], [result], node.name, domain="com.microsoft",
                K=depth, N=width, bits=bits[node.name], block_size=self.block, accuracy_level=IN_INT8,
            ))  # fmt: skip
            if bias:
                nodes.append(helper.make_node("Add", [result, bias], node.output, f"{node.name}/bias"))
        del graph.node[:]
        graph.node.extend(nodes)
        read = {value for node in graph.node for value in node.input} | {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _bits(self, weights: Mapping[str, Array]) -> dict[str, int]:
        """Of each product's weights: 4 for those that it moves least, up to the share of all."""
        moved = {name: _moved(values, self.block) for name, values in weights.items()}
        left, found = self.share * sum(values.size for values in weights.values()), {}
        for name in sorted(moved, key=moved.__getitem__):
            found[name] = 4 if weights[name].size <= left * (1 + 1e-9) else 8
            left -= weights[name].size if found[name] == 4 else 0
        return found


def _fits(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether it is a product of float32 weights that are stored."""
    if node.op_type not in PRODUCTS or node.input[1] not in stored or _flag(node, "transA"):
        return False
    if any(one.name in ("alpha", "beta") and one.f != 1 for one in node.attribute):
        return False
    return len(stored[node.input[1]].dims) == 2 and stored[node.input[1]].data_type == 1


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(one.name == name and one.i for one in node.attribute)


def _rounded(weights: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    """Integers, scales and zero points of weights [depth, width], block by block of a column, as MatMulNBits reads them
    (uint8 [width, blocks, bytes], float32 [width, blocks], uint8 [width, bytes])."""
    from onnxruntime.capi import _pybind_state

    depth, width = weights.shape
    blocks, packed = -(-depth // block), 8 // bits
    padded = np.zeros((blocks * block, width), np.float32)
    padded[:depth] = weights
    integers = np.zeros((width, blocks, block // packed), np.uint8)
    scales, zeros = np.zeros((width, blocks), np.float32), np.zeros((width, -(-blocks // packed)), np.uint8)
    getattr(_pybind_state, KINDS[bits])(integers, padded, scales, zeros, block, width, depth, False)
    return integers, scales, zeros


def _moved(weights: Array, block: int) -> float:
    """The power of what int4 moves weights by, over theirs: told by a uniform error within each block's steps."""
    depth, width = weights.shape
    padded = np.zeros((-(-depth // block) * block, width), np.float32)
    padded[:depth] = weights
    apart = padded.reshape(-1, block, width)
    steps = (np.maximum(apart.max(axis=1), 0) - np.minimum(apart.min(axis=1), 0)) / 15
    power = float(np.square(weights, dtype=np.float64).sum())
    return block * float(np.square(steps, dtype=np.float64).sum()) / 12 / power if power else 0.0
