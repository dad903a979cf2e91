"""Int4 for ONNX Runtime: weights of matrix products alone, those that it moves most in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..dataflow import Dataflow
from ..errors import NotApplicable
from ..formats.onnx import OnnxFormat, graph_of, save
from ..formats.onnx_graph import is_quantized
from ..model import ONNX, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Phase, Technique, Work
from ._onnx_blocks import PRODUCTS, exchange, stored_weights
from .quantize_onnx import both

Array: TypeAlias = np.ndarray[Any, Any]

LEAST = 0.25  # of a model's parameters, that must be in matrix products: all others stay as they are


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
            exchange(proto, self._bits(stored_weights(proto.graph)), self.block)
            onnx.save(proto, result, save_as_external_data=large)

        return save(both(model, context, quantize)[1], context.folder, model)

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return {
            one.name: f"int4 is for stored weights of matrix products, and {one.kind} has none"
            for one in made.operators
            if one.kind != "MatMulNBits"
        }

    def _bits(self, weights: Mapping[str, Array]) -> dict[str, int]:
        """Of each product's weights: 4 for those that it moves least, up to the share of all.

        Raises:
            NotApplicable: There are none.
        """
        moved = {name: _moved(values, self.block) for name, values in weights.items()}
        left, found = self.share * sum(values.size for values in weights.values()), {}
        for name in sorted(moved, key=moved.__getitem__):
            found[name] = 4 if weights[name].size <= left * (1 + 1e-9) else 8
            left -= weights[name].size if found[name] == 4 else 0
        if 4 not in found.values():
            raise NotApplicable(
                f"has no matrix of stored float32 weights that is at most {self.share:.0%} of all such weights"
            )
        return found


def _moved(weights: Array, block: int) -> float:
    """The power of what int4 moves weights by, over theirs: told by a uniform error within each block's steps."""
    depth, width = weights.shape
    padded = np.zeros((-(-depth // block) * block, width), np.float32)
    padded[:depth] = weights
    apart = padded.reshape(-1, block, width)
    steps = (np.maximum(apart.max(axis=1), 0) - np.minimum(apart.min(axis=1), 0)) / 15
    power = float(np.square(weights, dtype=np.float64).sum())
    return block * float(np.square(steps, dtype=np.float64).sum()) / 12 / power if power else 0.0
