"""Int4 for OpenVINO, through NNCF: weights alone, the sensitive ones in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .._quiet import nncf, openvino
from ..dataflow import Dataflow
from ..errors import NotApplicable
from ..formats.openvino import OpenvinoFormat, is_quantized, save
from ..model import OPENVINO, Format, Model
from ..settings import choice, span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique, Work
from ._openvino_feeds import Feeds

PRODUCTS = "MatMul"
LEAST = 0.25  # of a model's parameters, that must be in matrix products: all others stay in int8


@dataclass(frozen=True)
class OpenvinoInt4Weights(Technique):
    """Store weights of products as int4, and compute in float: an eighth of the size, for what mostly reads them.

    A group of weights shares a scale. Which layers are the sensitive ones, NNCF tells by how rounding moves their
    weights and how much what they read varies. Measured in `benchmarks/int4.md`: products that use each weight once
    gain a little over int8 weights, others nothing but size.

    Attributes:
        share: Of the weights of matrix products, that are in int4; the rest, and all others, are in int8.
        group: Weights that share a scale; fewer where that does not divide a row, and int8 where nothing does.
        samples: That tell how much layers' inputs vary.
    """

    share: float = span(0.6, 0.1, 1.0, strength=True)
    group: int = choice(32, 64, 128)
    samples: int = choice(32)

    accepts: ClassVar[frozenset[Format]] = frozenset({OPENVINO})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.SAMPLES

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Zen 5: eight products for one row 0.24, MiniLM 0.50; with int8 weights 0.28, 0.51 (`benchmarks/int4.md`). On
        # Zen 3 these took 0.36 and 1.0, of which int4 is taken to save as much.
        read, products = (0.36, 1.0) if target.int8_saturates else (0.28, 0.51)
        return {Work.WEIGHTS: read * (1 - 0.14 * self.share), Work.PRODUCTS: products}

    def requires(self, model: Model, target: Target) -> None:
        if is_quantized(model):
            raise NotApplicable("is already quantized")
        layers = OpenvinoFormat().structure(model).layers
        whole = sum(layer.parameters for layer in layers)
        products = sum(layer.parameters for layer in layers if layer.operator == PRODUCTS)
        if products < LEAST * whole or not products:
            share = products / whole if whole else 0.0
            raise NotApplicable(f"has {share:.0%} of its parameters in matrix products, and int4 is for these alone")

    def apply(self, model: Model, context: Context) -> Model:
        with nncf() as library:
            from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

            smaller = AdvancedCompressionParameters(group_size_fallback_mode=GroupSizeFallbackMode.ADJUST)
            result = library.compress_weights(
                openvino().Core().read_model(str(model.path)),
                mode=library.CompressWeightsMode.INT4_SYM,
                ratio=self.share,
                group_size=self.group,
                dataset=library.Dataset(Feeds(model, context, self.samples)),
                subset_size=self.samples,
                advanced_parameters=smaller,
            )
        constants = (node for node in result.get_ops() if node.get_type_name() == "Constant")
        if not any(node.get_element_type().get_bitwidth() == 4 for node in constants):
            raise NotApplicable(
                f"has no weights for int4 at a share of {self.share:.2g}: NNCF leaves those of the last layer and of "
                "sensitive ones in int8"
            )
        return save(result, context.folder)

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return {
            one.name: f"int4 is for weights of matrix products, and {one.kind} is none"
            for one in made.operators
            if one.kind != PRODUCTS
        }
