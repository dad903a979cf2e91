"""Smaller types in .tflite, through LiteRT's own quantizer: float16, int8 and int4 weights, or int8 throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..dataflow import Dataflow
from ..errors import NotApplicable
from ..formats.tflite import WEIGHTED
from ..model import TFLITE, Format, Model
from ..settings import choice
from ..target import Target
from ..technique import Context, Needs, Phase, Technique, Work
from . import _tflite as tool
from ._calibration import feeds
from ._tflite_layers import kept_in_float
from ._tflite_recipe import check_rules, in_float, rules

PRODUCTS = ("CONV_2D", "CONV_2D_TRANSPOSE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
"""Operators with weights that compute in integers, in the quantizer's spelling."""
ENDS = "(?#ends).*"
"""As `tool.ALL`, but a pattern of its own: the quantizer heeds patterns in the order in which they first came."""
LOOPS = frozenset({"IF", "WHILE"})
"""Operators that run graphs of their own."""
_BITS = {"int4": 4, "int8": 8, "int16": 16}


@dataclass(frozen=True)
class TfliteFloat16(Technique):
    """Store weights as float16 and compute in float32: half of the size, at next to no loss."""

    accepts: ClassVar[frozenset[Format]] = frozenset({TFLITE})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True

    def requires(self, model: Model, target: Target) -> None:
        tool.check(model)

    def apply(self, model: Model, context: Context) -> Model:
        def add(recipe: Any) -> None:
            kind = tool.recipes.AlgorithmName.FLOAT_CASTING
            recipe.add_weight_only_config(tool.ALL, _all(), 16, algorithm_key=kind)

        with tool.quiet():
            source = tool.prepared(model)
            return tool.save(tool.quantized(source, add), source, context.folder, half=True)


@dataclass(frozen=True)
class TfliteWeights(Technique):
    """Store weights as small integers, one scale a channel.

    Attributes:
        weights: Their type.
        compute: `integer` quantizes activations while it runs (dynamic range), `float` restores the weights: slower,
            and more exact.
        clip: Ranges that cut off the ends where that leaves the least square error (OCTAV: Sakr et al. 2022,
            arXiv:2206.06501, equation 6), not the extremes.
        keep: The share of layers that stay in float: those that harm the outputs most, each tried alone on calibration
            samples.
        recipe: Types of single layers: `PATTERN=TYPE;PATTERN=TYPE`, where a pattern is a regular expression that is
            looked for in their names (those that a profile shows) and a type `float`, `int4` or `int8`, of weights; of
            two that fit, the later one counts. `dense_.*=float;conv.*=int4`
    """

    weights: str = choice("int8", "int4")
    compute: str = choice("integer", "float")
    clip: bool = choice(False, True)
    keep: float = choice(0.0, 0.1, 0.25, 0.5)
    recipe: str = ""

    accepts: ClassVar[frozenset[Format]] = frozenset({TFLITE})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.SAMPLES

    def __post_init__(self) -> None:
        rules(self.recipe)

    def expects(self, target: Target) -> float:
        return 0.9

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Over LiteRT in float32 with VNNI, 1 thread: 1.2 for MobileNet's operators, 0.2 for dense layers of 1024; on
        # Zen 3 1.8 for a MobileNet (`benchmarks/mobile.md`).
        return {Work.CONVOLUTIONS: 1.8} if target.int8_saturates else {Work.CONVOLUTIONS: 1.2, Work.PRODUCTS: 0.2}

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return _spared(made, self.keep, "has no weights, which alone are stored as integers")

    def requires(self, model: Model, target: Target) -> None:
        tool.check(model)
        _check_type(self.weights, target)
        _check_recipe(self.recipe, model, target)

    def apply(self, model: Model, context: Context) -> Model:
        def add(recipe: Any) -> None:
            into = recipe.add_dynamic_config if self.compute == "integer" else recipe.add_weight_only_config
            names = tool.recipes.AlgorithmName
            algorithm = names.OCTAV if self.clip else names.MIN_MAX_UNIFORM_QUANT
            into(tool.ALL, _all(), _BITS[self.weights], algorithm_key=algorithm)
            for rule in rules(self.recipe):
                if rule.type == "float":
                    tool.keep(recipe, rule.pattern, _all())
                else:
                    into(rule.pattern, _all(), _BITS[rule.type], algorithm_key=algorithm)

        with tool.quiet():
            source = tool.prepared(model)
            kept = kept_in_float(self.keep, source, add, None, model, context) + in_float(self.recipe, source)
            return tool.save(tool.quantized(source, add, None, kept), source, context.folder)


@dataclass(frozen=True)
class TfliteInt8(Technique):
    """Store weights as int8 and compute in integers, with ranges of activations learned from samples.

    Attributes:
        activations: Their type; int16 is more exact, and slow on most processors.
        operators: `all` that LiteRT has in integers, or those with `weights` only, with floats between them.
        ranges: Of an activation: the `widest` seen, or the moving `average` over samples of their extremes, which
            outliers matter less to and which cuts off half of the samples.
        keep: The share of layers that stay in float: those that harm the outputs most, each tried alone.
        samples: Calibration samples.
        per_channel: One scale a channel of weights and bias, not one a layer: more exact where channels differ, and
            larger by a twentieth where they are as many as in a MobileNet.
        integer_ends: Whether inputs and outputs are integers too, for devices that have no floats. Who runs the model
            through strop hands in and gets floats all the same.
        recipe: Types of single layers: `PATTERN=TYPE;PATTERN=TYPE`, where a pattern is a regular expression that is
            looked for in their names (those that a profile shows) and a type `float`, `int4` or `int8`, of weights; of
            two that fit, the later one counts. `dense_.*=float;conv.*=int4`
    """

    activations: str = choice("int8", "int16")
    operators: str = choice("all", "weights")
    ranges: str = choice("widest", "average")
    keep: float = choice(0.0, 0.1, 0.25, 0.5)
    samples: int = choice(100, 50, 300)
    per_channel: bool = choice(True, False)
    integer_ends: bool = False
    recipe: str = ""

    accepts: ClassVar[frozenset[Format]] = frozenset({TFLITE})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.SAMPLES

    def __post_init__(self) -> None:
        rules(self.recipe)

    def expects(self, target: Target) -> float:
        return 0.4  # the same two with VNNI: 0.40 and 0.18; on Zen 3 0.38 for a MobileNet (`benchmarks/mobile.md`)

    def apart(self, target: Target) -> Mapping[Work, float]:
        return {} if target.int8_saturates else {Work.PRODUCTS: 0.18}

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        return _spared(made, self.keep, "has no weights (operators=weights)" if self.operators == "weights" else "")

    def requires(self, model: Model, target: Target) -> None:
        if loops := sorted({operator.kind for operator in tool.check(model).operators} & LOOPS):
            raise NotApplicable(
                f"has {' and '.join(loops)}, as recurrent layers are converted to, and what is in there is not looked "
                "into for ranges; tflite-weights takes it"
            )
        _check_type(self.activations, target)
        _check_recipe(self.recipe, model, target)

    def apply(self, model: Model, context: Context) -> Model:
        def add(recipe: Any) -> None:
            sizes = tool.kinds.QuantGranularity
            scales = sizes.CHANNELWISE if self.per_channel else sizes.TENSORWISE
            every = (_all(),) if self.operators == "all" else tuple(map(tool.kinds.TFLOperationName, PRODUCTS))
            for pattern, bits in (
                (tool.ALL, 8),
                *((rule.pattern, _BITS.get(rule.type)) for rule in rules(self.recipe)),
            ):
                if bits is None:
                    tool.keep(recipe, pattern, _all())
                    continue
                for kind in every:
                    recipe.add_static_config(pattern, kind, _BITS[self.activations], bits, scales)
            if not self.integer_ends:
                for end in (tool.kinds.TFLOperationName.INPUT, tool.kinds.TFLOperationName.OUTPUT):
                    tool.keep(recipe, ENDS, end)

        with tool.quiet():
            source = tool.prepared(model)
            given = feeds(model.signature, context, self.samples, lambda: tool.runner(source.content, context))
            found = tool.ranges(source, add, given, context, self.ranges == "widest")
            kept = kept_in_float(self.keep, source, add, found, model, context) + in_float(self.recipe, source)
            return tool.save(tool.quantized(source, add, found, kept), source, context.folder)


def _spared(made: Dataflow, keep: float, others: str) -> dict[str, str]:
    """Why operators with weights, and others, are in floats."""
    kept = f"the setting keep={keep:g} leaves that share of the layers in floats, those that harm the outputs most"
    reasons = ((one, kept if keep else "") if one.kind in WEIGHTED else (one, others) for one in made.operators)
    return {one.name: why if why == kept else f"{one.kind} {why}" for one, why in reasons if why}


def _check_type(name: str, target: Target) -> None:
    if target.mobile and name != "int8":
        raise NotApplicable(f"phones compute fast in int8 and float16, and not in {name}")


def _check_recipe(recipe: str, model: Model, target: Target) -> None:
    if recipe:
        with tool.quiet():
            check_rules(recipe, tool.prepared(model), target)


def _all() -> Any:
    return tool.kinds.TFLOperationName.ALL_SUPPORTED
