"""Keras models as PyTorch modules, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="comes with the extra torch")

import torch

import kerases
from kerases import QUIET, RNG, keras, layers
from strop import formats
from strop.errors import NotApplicable
from strop.formats._keras_ends import flat
from strop.formats.keras_module import live_of, module_of
from strop.techniques._modules import kept

pytestmark = QUIET

IMAGE, STEPS, ROW = (9, 7, 4), (11, 4), (6,)
KINDS: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "dense": (ROW, lambda: layers.Dense(5, activation="gelu")),
    "dense of steps": (STEPS, lambda: layers.Dense(5, activation="softmax")),
    "dense of an image": (IMAGE, lambda: layers.Dense(5, use_bias=False)),
    "convolution of steps": (STEPS, lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2)),
    "convolution": (IMAGE, lambda: layers.Conv2D(5, 3, activation="relu6")),
    "convolution, same": (IMAGE, lambda: layers.Conv2D(5, (3, 5), padding="same", activation="silu")),
    "convolution, same and even": (IMAGE, lambda: layers.Conv2D(5, 4, padding="same", activation="hard_silu")),
    "convolution, same with strides": (IMAGE, lambda: layers.Conv2D(5, 3, strides=2, padding="same")),
    "convolution in groups": (IMAGE, lambda: layers.Conv2D(6, 3, groups=2, dilation_rate=2, padding="same")),
    "convolution of a volume": ((5, 4, 6, 3), lambda: layers.Conv3D(4, 2, padding="same", strides=2)),
    "depthwise": (IMAGE, lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)),
    "depthwise of steps": (STEPS, lambda: layers.DepthwiseConv1D(3, use_bias=False)),
    "separable": (IMAGE, lambda: layers.SeparableConv2D(5, 3, padding="same", activation="elu")),
    "separable of steps": (STEPS, lambda: layers.SeparableConv1D(5, 3, strides=2, padding="same")),
    "transposed": (IMAGE, lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu")),
    "transposed, whole": (IMAGE, lambda: layers.Conv2DTranspose(5, 4, strides=2)),
    "batch norm": (IMAGE, lambda: layers.BatchNormalization(epsilon=1e-2)),
    "batch norm of a row": (ROW, lambda: layers.BatchNormalization(scale=False)),
    "layer norm": (STEPS, lambda: layers.LayerNormalization()),
    "max pool": (IMAGE, lambda: layers.MaxPooling2D(2, padding="same")),
    "max pool with strides": (IMAGE, lambda: layers.MaxPooling2D(3, strides=2)),
    "mean pool": (IMAGE, lambda: layers.AveragePooling2D(3, strides=2, padding="same")),
    "pool of steps": (STEPS, lambda: layers.AveragePooling1D(2)),
    "the mean of all": (IMAGE, lambda: layers.GlobalAveragePooling2D()),
    "the greatest of all": (STEPS, lambda: layers.GlobalMaxPooling1D(keepdims=True)),
    "zeros around": (IMAGE, lambda: layers.ZeroPadding2D(((1, 2), (0, 3)))),
    "cropped": (IMAGE, lambda: layers.Cropping2D(((1, 2), (0, 3)))),
    "steps cropped": (STEPS, lambda: layers.Cropping1D((1, 2))),
    "nearest": (IMAGE, lambda: layers.UpSampling2D((2, 3))),
    "bilinear": (IMAGE, lambda: layers.UpSampling2D(2, interpolation="bilinear")),
    "steps repeated": (STEPS, lambda: layers.UpSampling1D(2)),
    "rescaled": (IMAGE, lambda: layers.Rescaling([0.5, 1.0, 2.0, 3.0], -1.0)),
    "rectified": (IMAGE, lambda: layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2)),
    "leaky": (ROW, lambda: layers.LeakyReLU(0.2)),
    "elu": (ROW, lambda: layers.ELU(0.7)),
    "softmax": (IMAGE, lambda: layers.Softmax()),
    "dropout of samples": (IMAGE, lambda: layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))),
    "dropout": (IMAGE, lambda: layers.SpatialDropout2D(0.5)),
    **{
        name: (ROW, lambda name=name: layers.Activation(name))
        for name in (
            "linear", "leaky_relu", "selu", "celu", "mish", "sigmoid", "hard_sigmoid", "log_sigmoid", "tanh",
            "softplus", "softsign", "exponential", "log_softmax",
        )
    },
}  # fmt: skip


def randomized(live: Any) -> Any:
    """With weights none of which is what a layer begins with."""
    for place, variable in enumerate(live.variables):
        if variable.name in ("mean", "variance", "count"):
            continue  # of what was adapted
        value = RNG(place).normal(0, 0.3, variable.shape).astype("float32")
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.name else value)
    return live


def batch_of(live: Any, count: int = 3) -> list[np.ndarray[Any, Any]]:
    return [
        RNG(5).integers(0, 5, (count, *x.shape[1:])) if "int" in str(x.dtype)
        else RNG(5).normal(size=(count, *x.shape[1:])).astype("float32")
        for x in keras.tree.flatten(live.inputs)
    ]  # fmt: skip


def both(live: Any) -> tuple[Any, list[np.ndarray[Any, Any]]]:
    """A model's module, both having answered alike; and the answers."""
    signature, given = formats.open(live).signature, batch_of(live)
    said = [np.asarray(value) for value in flat(live)(given, False)]
    module = module_of(live, signature)
    with torch.no_grad():
        found = module(**{t.name: torch.from_numpy(x) for t, x in zip(signature.inputs, given, strict=True)})
    for tensor, wanted in zip(signature.outputs, said, strict=True):
        np.testing.assert_allclose(found[tensor.name], wanted, rtol=1e-4, atol=1e-5)
    return module, said


def check_round_trip(live: Any) -> Any:
    """The model made anew of its module, which answers as it did, to the same names."""
    before = formats.open(live).signature
    module, said = both(live)
    again = live_of(module, live)
    assert formats.open(again).signature == before
    for found, wanted in zip(flat(again)(batch_of(live), False), said, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    return again


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_computes_what_it_does_in_keras(name: str) -> None:
    shape, make = KINDS[name]
    check_round_trip(randomized(keras.Sequential([keras.Input(shape, name="given"), make()])))


def squeezed() -> Any:
    """As EfficientNets are built: blocks whose channels are weighed by what their means say."""
    x = image = keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="places")(x)
    weight = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(y))
    weight = layers.Conv2D(8, 1, activation="relu", name="less")(weight)
    weight = layers.Conv2D(16, 1, activation="sigmoid", name="more")(weight)
    x = layers.Add()([layers.Multiply()([y, weight]), x])
    x = layers.MaxPooling2D()(layers.Conv2D(24, 3, padding="same", activation="relu", name="wide")(x))
    x = layers.Dropout(0.1)(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(x))


def adapted() -> Any:
    """What a table goes through: numbers brought to one scale, some joined with what was made of them."""
    scaled = layers.Normalization(name="scaled")
    scaled.adapt(RNG(0).normal(3, 2, (100, 6)).astype("float32"))
    table = keras.Input((6,), name="table")
    x = scaled(table)
    joined = layers.Concatenate()([x, layers.Dense(16, activation="relu", name="hidden")(x)])
    joined = keras.ops.maximum(layers.BatchNormalization(center=False)(joined), 0.0)
    return keras.Model(table, layers.Dense(2, name="scores")(joined))


def pyramid() -> Any:
    """A model within that is called on two sizes of an image; and one on flattened places, normed."""
    image = keras.Input((8, 8, 3), name="image")
    given = keras.Input((None, None, 5))
    head = keras.Model(given, layers.Conv2D(4, 3, padding="same", activation="relu", name="seen")(given), name="head")
    near = layers.Conv2D(5, 3, padding="same", name="near")(image)
    far = layers.MaxPooling2D()(near)
    flat = layers.BatchNormalization(name="flat")(layers.Flatten()(head(far)))
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(head(inputs=near)), layers.Dense(6)(flat)])
    return keras.Model(image, layers.Dense(3, name="scores")(both))


def two_ends() -> Any:
    """Two inputs, one of integers, two outputs by name; arithmetic, and a model within that is called twice."""
    number, token = keras.Input((4,), name="number"), keras.Input((3,), dtype="int32", name="token")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="tanh", name="twice")], name="inner")
    hidden = layers.Dense(6, name="hidden")(number)
    found = layers.GlobalAveragePooling1D()(layers.Embedding(5, 6)(token)) * 2 + 1
    both = layers.Concatenate()([inner(hidden), 1 - inner(found)])
    return keras.Model({"number": number, "token": token}, {"score": layers.Dense(2)(both), "hidden": hidden})


@pytest.mark.parametrize("make", [squeezed, adapted, pyramid, two_ends, kerases.dense, kerases.cnn, kerases.classifier])
def test_whole_models_come_back_as_they_were(make: Callable[[], Any]) -> None:
    live = randomized(make())
    again = check_round_trip(live)
    assert again.count_params() == live.count_params()
    assert [layer.name for layer in again.layers if layer.weights] == [x.name for x in live.layers if x.weights]


def test_layers_have_their_names_and_stay_as_they_are_where_keras_leaves_them() -> None:
    image = keras.Input((8, 8, 3))
    norm, frozen = layers.BatchNormalization(name="norm"), layers.Dense(4, name="a.frozen")
    frozen.trainable = norm.trainable = False
    made = frozen(layers.GlobalAveragePooling2D()(norm(image)))
    live = keras.Model(image, layers.BatchNormalization(name="train")(made))
    module, _ = both(live)
    module.train()
    assert not module.held("norm").training
    assert module.held("train").training
    assert not module.held("a.frozen").weight.requires_grad
    assert {name for name, _ in module.named_modules()} == {"", "norm", "a_frozen", "train_"}
    assert kept(module, ["a.frozen", "train"]) == {module.held("a.frozen"), module.held("train")}
    outer = kerases.classifier()
    module, _ = both(outer)
    assert kept(module, ["body"]) == kept(module, ["second"]) == {module.held("body/second")}


def test_what_a_norm_has_not_is_not_learned_and_whole_numbers_become_floats() -> None:
    token = keras.Input((4,), dtype="int32", name="token")
    norm = layers.BatchNormalization(scale=False, name="norm")
    module, _ = both(keras.Model(token, norm(layers.Dense(3, name="dense")(token))))
    held = module.held("norm")
    assert not held.weight.requires_grad and held.bias.requires_grad


def test_dropout_of_whole_samples_leaves_or_takes_each() -> None:
    live = keras.Sequential([keras.Input((4, 4, 3), name="x"), layers.Dropout(0.5, (None, 1, 1, 1), name="out")])
    found = module_of(live, formats.open(live).signature).train()(x=torch.ones(200, 4, 4, 3))["out"].flatten(1)
    assert (found == found[:, :1]).all()
    assert set(found[:, 0].tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("shape", "make", "reason"),
    [
        (STEPS, lambda: layers.LSTM(3, name="memory"), r"memory \(LSTM\) has no counterpart"),
        (STEPS, lambda: layers.Flatten(), r"what was flattened"),
        ((None, 4), lambda: layers.Flatten(), r"no fixed number"),
        (IMAGE, lambda: layers.Reshape((7, 9, 4)), r"moves channels"),
        (IMAGE, lambda: layers.BatchNormalization(axis=1), r"over axis 1"),
        (ROW, lambda: layers.Dense(3, dtype="mixed_float16"), r"computes in float16"),
        (ROW, lambda: layers.Dense(3, activation="sparsemax"), r"sparsemax"),
        (ROW, lambda: layers.Dense(3, kernel_constraint="non_neg"), r"under a constraint"),
        ((None, None, 4), lambda: layers.Reshape((-1, 4)), r"moves channels"),
        (IMAGE, lambda: layers.Conv2DTranspose(3, 2, strides=3), r"of its own kind"),
    ],
)
def test_what_has_no_counterpart_is_named(shape: tuple[int, ...], make: Callable[[], Any], reason: str) -> None:
    live = keras.Sequential([keras.Input(shape), make()])
    with pytest.raises(NotApplicable, match=reason):
        module_of(live, formats.open(live).signature)
