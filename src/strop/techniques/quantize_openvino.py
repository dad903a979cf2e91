"""Int8 for OpenVINO, through NNCF: weights and activations, or weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from .._quiet import nncf, openvino
from ..dataflow import Dataflow
from ..errors import NotApplicable
from ..formats.openvino import OpenvinoFormat, has_attention, is_quantized, operators, save
from ..model import OPENVINO, Format, Model, Signature
from ..settings import choice
from ..target import Target
from ..technique import Context, Needs, Phase, Technique, Work
from ._kept import kept_folder
from ._openvino_feeds import Feeds
from ._openvino_fit import fits
from ._openvino_mix import Grouped
from ._openvino_ranges import widen

WEIGHTED = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
ALPHA = 0.8
"""By NNCF's own 0.95, MiniLM-L6 loses 1.3 times as much at 128 tokens, and 1.9 times at 16, on samples not seen."""
WRONG = ("LSTMSequence", "LSTMCell")
"""What OpenVINO answers wrongly in int8: of one LSTM of 64, half the power of the outputs is lost (2026.4)."""


@dataclass(frozen=True)
class OpenvinoInt8(Technique):
    """Compute in int8, with ranges of activations learned from samples (NNCF post-training quantization).

    The integers of a layer are those by which samples lose least, not each weight's nearest (GPTQ, Frantar et al. 2022,
    section 3), and its bias takes what its outputs lose on the mean (Nagel et al. 2019, section 4.2). Channels that
    have ranges of their own have them as wide as samples need that they were not learned from.

    Attributes:
        preset: `mixed` has asymmetric activations, `performance` symmetric ones: a little faster, and less exact.
        smooth_quant_alpha: How much of the activations' range moves into the weights of matrix products; -1 for none
            (SmoothQuant, Xiao et al. 2022, section 4).
        scheme: `auto` spares what attention can't bear in int8; `generic` treats a transformer like any other graph.
        range_estimator: How the range of an activation is found: `minmax` over all samples, the mean over samples of
            their extremes (`mean-minmax`, which NNCF takes, and which cuts off what is rare), or of their `quantile`s.
        half_range: Whose weights keep to half of the int8 range, so that products can't saturate: of all layers or the
            `first` or `none`. `auto` is all where the CPU sums products in 16 bits, else none.
        samples: Calibration samples.
    """

    preset: str = choice("mixed", "performance", faster="performance")
    smooth_quant_alpha: float = choice(ALPHA, 0.5, 0.95, -1.0)
    scheme: str = choice("auto", "generic")
    range_estimator: str = choice("minmax", "mean-minmax", "quantile")
    half_range: str = choice("auto", "first", "none")
    samples: int = choice(300, 100)

    version: ClassVar[int] = 8
    accepts: ClassVar[frozenset[Format]] = frozenset({OPENVINO})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.SAMPLES

    def expects(self, target: Target) -> float:
        # Over OpenVINO in float32. Zen 3 (AVX2), 1 thread: 0.56 for a net of 7 convolutions, 0.98 for 4 layers of BERT
        # at 128, which gains nothing there. With VNNI and AMX, ResNet-18 and 6 layers of BERT: 0.1 and 0.2.
        # With VNNI and no AMX (Zen 5), EfficientNet-Lite0, MiniLM and PP-OCRv4's two: 0.41, 0.36, 0.47 and 0.47.
        return 0.75 if target.int8_saturates else 0.15 if target.tiles else 0.42

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Zen 3: EfficientNet-Lite0 and PP-OCRv4's two 0.66, 0.69 and 0.74, torchcrepe 0.35; MiniLM 1.20
        # (runs of `benchmarks/mixed.py`), bare products 1.05, and where they only read their weights 0.73
        # (`benchmarks/bound.md`).
        convolutions, products = (0.66, 1.15) if target.int8_saturates else (0.1, 0.2) if target.tiles else (0.44, 0.36)
        read = 0.7 if target.int8_saturates else 0.28
        # Overhead: 27 us for 24, of two products of 16 x 16 at batch 1.
        return {Work.OVERHEAD: 1.1, Work.CONVOLUTIONS: convolutions, Work.PRODUCTS: products, Work.WEIGHTS: read}

    def takes(self, signature: Signature) -> None:
        if any(tensor.dtype == "float64" for tensor in signature.inputs):
            raise NotApplicable("its input is float64, in which OpenVINO runs no int8")

    def requires(self, model: Model, target: Target) -> None:
        _check(model)
        default = self.smooth_quant_alpha == ALPHA and self.scheme == "auto"
        if not default and not has_attention(model):
            raise NotApplicable("has no attention, so that SmoothQuant and another scheme change nothing")
        if self.scheme == "generic" and self.smooth_quant_alpha != ALPHA:
            raise NotApplicable("SmoothQuant belongs to the scheme of transformers, not to the generic one")
        if self.half_range != "auto" and not target.int8_saturates:
            raise NotApplicable("this CPU never saturates, so that `auto` takes all 8 bits, and fewer gain nothing")

    def apply(self, model: Model, context: Context) -> Model:
        return save(self.grouped(model, context).throughout(), context.folder)

    def grouped(self, model: Model, context: Context) -> Grouped:
        """The graph with FakeQuantize before each input that is quantized, and what it has in int8 for weights.

        Both are made once for all steps that begin with them.

        Raises:
            NotApplicable: None of its operators can be quantized.
        """
        settings = {field.name: getattr(self, field.name) for field in fields(OpenvinoInt8)}
        folder = kept_folder("quantized", model, {**settings, "version": OpenvinoInt8.version}, context)
        graph = openvino().Core().read_model(str(self._quantized(model, context, folder).path))
        return Grouped.of(graph, fits(graph, model, context, folder))

    def _quantized(self, model: Model, context: Context, folder: Path) -> Model:
        if (folder / "model.xml").exists():
            return OpenvinoFormat().open(folder / "model.xml")
        with nncf() as library:
            graph = openvino().Core().read_model(str(model.path))
            transformer = self.scheme == "auto" and has_attention(model)
            result = library.quantize(
                graph,
                library.Dataset(Feeds(model, context, self.samples)),
                preset=library.QuantizationPreset(self.preset),
                subset_size=self.samples,
                model_type=library.ModelType.TRANSFORMER if transformer else None,
                ignored_scope=library.IgnoredScope(types=list(WRONG), validate=False),
                advanced_parameters=self._advanced(context.target),
            )
            if not any(op.get_type_name() == "FakeQuantize" for op in result.get_ops()):
                raise NotApplicable("none of its operators can be computed in int8")
            widen(result, model, context)
            return save(result, folder)

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return {
            one.name: "OpenVINO answers wrongly with it in int8"
            if one.kind in WRONG
            else f"NNCF quantizes products and what hands their integers on, and {one.kind} is neither"
            for one in made.operators
            if one.kind not in WEIGHTED
        }

    def _advanced(self, target: Target) -> Any:
        from nncf.quantization import advanced_parameters as advanced
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

        half = self.half_range
        if half == "auto":
            half = "all" if target.int8_saturates else "none"
        fixes = advanced.OverflowFix
        ranges = {"minmax": Ranges.MINMAX, "mean-minmax": Ranges.MEAN_MINMAX, "quantile": Ranges.MEAN_QUANTILE}
        return advanced.AdvancedQuantizationParameters(
            overflow_fix={"first": fixes.FIRST_LAYER, "all": fixes.ENABLE, "none": fixes.DISABLE}[half],
            smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(matmul=self.smooth_quant_alpha),
            disable_bias_correction=True,  # biases are fitted with the weights
            activations_range_estimator_params=ranges[self.range_estimator],
            backend_params={"compress_weights": False},
        )


@dataclass(frozen=True)
class OpenvinoInt8Weights(Technique):
    """Store weights as int8 and compute in float: a quarter of the size, for what reads more than it computes.

    Attributes:
        mode: `asymmetric` has a zero point for each channel, `symmetric` none: faster to unpack, and less exact.
    """

    mode: str = choice("asymmetric", "symmetric", faster="symmetric")

    accepts: ClassVar[frozenset[Format]] = frozenset({OPENVINO})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Zen 5, which multiplies in int8 then: eight products for one row 0.28, MiniLM 0.51 (`benchmarks/int4.md`).
        # Zen 3: 0.39 and, of bare products, 1.0 (`benchmarks/bound.md`).
        read, products = (0.38, 1.0) if target.int8_saturates else (0.28, 0.51)
        return {Work.WEIGHTS: read, Work.PRODUCTS: products}

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return {one.name: f"{one.kind} has no weights" for one in made.operators if one.kind not in WEIGHTED}

    def requires(self, model: Model, target: Target) -> None:
        _check(model)

    def apply(self, model: Model, context: Context) -> Model:
        with nncf() as library:
            graph = openvino().Core().read_model(str(model.path))
            kind = library.CompressWeightsMode
            result = library.compress_weights(
                graph, mode=kind.INT8_ASYM if self.mode == "asymmetric" else kind.INT8_SYM
            )
            return save(result, context.folder)


def _check(model: Model) -> None:
    kinds = operators(model)
    if is_quantized(model):
        raise NotApplicable("is already quantized")
    if not kinds & WEIGHTED:
        raise NotApplicable("has no convolution or matrix product to quantize")
