"""Training of Keras models under int8: weights learn to bear what a later step does to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .._quiet import keras as library
from ..errors import NotApplicable
from ..formats._keras_ends import flat
from ..formats.keras import layers_of, load
from ..model import KERAS, Format, Model
from ..technique import Context, Needs, Phase, Technique
from ..training import keras

SLOW = 0.01  # with which the range of an activation follows what is seen
FEW = 10  # batches that it is first taken from

_CHANNELS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "Dense": {"kernel": (-1,)},
    **{f"Conv{n}D": {"kernel": (-1,)} for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": {"kernel": (-2,)} for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": {"kernel": (-2, -1)} for n in (1, 2)},
    **{f"SeparableConv{n}D": {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)} for n in (1, 2)},
}
"""The layers that are rounded, by class: their weights, each with the axes that have a scale of their own."""


@dataclass(frozen=True)
class QuantizeAwareKeras(Technique):
    """Train on with weights and activations rounded as int8 rounds them, the float original as teacher.

    What comes out are float weights that lie well on the grid of int8: the step that quantizes, after conversion, finds
    its scales from them (Jacob et al. 2018, section 3). Batch norms keep their statistics; that they are folded into
    the weights later moves no weight on its grid, as each channel has a scale of its own.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({KERAS})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    needs: ClassVar[Needs] = Needs.TRAINING
    for_quantizing: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        live = keras.begin(model, context)
        layers = list(layers_of(live).values())
        rounded = [layer for layer in layers if type(layer).__name__ in _CHANNELS and layer.trainable_variables]
        if not rounded:
            raise NotApplicable("has no dense layers or convolutions to train")
        top = 63 if context.target.int8_saturates else 127  # as the step that follows keeps to half of the range
        for layer in rounded:
            _round(layer, top)
        for layer in layers:
            if type(layer).__name__ == "BatchNormalization":
                _freeze(layer)
        call, batches = flat(live), keras.keras_batches(context)
        for batch, _ in zip(batches.epoch(0), range(FEW), strict=False):
            call([batch.inputs[tensor.name] for tensor in model.signature.inputs], True)
        learned = keras.retrain(live, context).get_weights()
        plain = load(model)
        plain.set_weights(learned)
        return keras.saved(plain, context)


def _round(layer: Any, top: int) -> None:
    """Let a layer compute with a rounded input and with rounded weights."""
    call, follow = layer.call, _rounder()
    weights = [(getattr(layer, name), axes) for name, axes in _CHANNELS[type(layer).__name__].items()]

    def rounded(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        given = follow(inputs)
        with library().StatelessScope([(weight, _on_grid(weight, axes, top)) for weight, axes in weights]):
            return call(given, *args, **kwargs)

    layer.call = rounded


def _freeze(norm: Any) -> None:
    """Let a batch norm go on with the statistics that it has, also in training; it learns scale and shift."""
    call = norm.call
    norm.call = lambda inputs, training=None, **kwargs: call(inputs, training=False, **kwargs)


def _on_grid(weight: Any, axes: tuple[int, ...], top: int) -> Any:
    """A weight on the grid of its channel: symmetric, from -top to top."""
    ops = library().ops
    value = ops.convert_to_tensor(weight)
    others = [axis for axis in range(len(value.shape)) if axis - len(value.shape) not in axes]
    scale = ops.maximum(ops.max(ops.abs(value), others, keepdims=True), 1e-8) / top
    return _through(value, ops.clip(ops.round(value / scale), -top, top) * scale)


def _rounder() -> Any:
    """A layer that puts an activation on the grid of 8 bits that its range gives; zero lies on it."""
    layers, ops = library().layers, library().ops

    class Rounder(layers.Layer):  # type: ignore[misc, name-defined]  # of a package without types
        def build(self, shape: Any) -> None:
            self.range = self.add_weight(shape=(2,), initializer="zeros", trainable=False, dtype="float32")

        def call(self, x: Any, training: bool | None = None) -> Any:
            if training:
                seen = ops.stack([ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)])
                new = ops.all(ops.equal(self.range, 0.0))
                self.range.assign(self.range + ops.where(new, 1.0, SLOW) * (ops.cast(seen, "float32") - self.range))
            low, high = self.range[0], self.range[1]
            scale = ops.maximum(high - low, 1e-8) / 255
            zero = ops.round(-low / scale)
            return _through(x, (ops.clip(ops.round(x / scale + zero), 0, 255) - zero) * scale)

    made = Rounder()
    made.build(None)
    return made


def _through(value: Any, rounded: Any) -> Any:
    """The rounded value, its gradient that of the value (Bengio et al. 2013)."""
    return value + library().ops.stop_gradient(rounded - value)
