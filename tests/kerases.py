"""Small Keras models with random weights, on TensorFlow."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import _quiet, formats
from strop._lazy import installed
from strop.data import Data
from strop.model import Batch, Model, Tensor
from strop.target import Target
from strop.testing import Example

if not installed("tensorflow"):
    pytest.skip("comes with the extra tensorflow", allow_module_level=True)

keras, tensorflow = _quiet.keras(), _quiet.tensorflow()
layers = keras.layers
RNG = np.random.default_rng
QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation")
"""TensorFlow's arrays are of NumPy 1."""
SAMPLES = 7
ONE = Target(threads=1)


def seeded(make: Callable[[], Any]) -> Any:
    """A model, whose weights are the same whenever it is made."""
    keras.utils.set_random_seed(3)
    return make()


def dense() -> Any:
    """The network of TensorFlow Lite's guide."""
    return seeded(lambda: keras.Sequential([
        keras.Input((1,)), layers.Dense(1), layers.Dense(16, activation="relu"), layers.Dense(1),
    ]))  # fmt: skip


def two_ends() -> Any:
    """Two inputs, one of integers, and two outputs, both by name; arithmetic between layers."""

    def make() -> Any:
        number, token = keras.Input((4,), name="number"), keras.Input((3,), dtype="int32", name="token")
        hidden = layers.Dense(6, activation="tanh", name="hidden")(number)
        found = layers.Flatten()(layers.Embedding(5, 2)(token)) * 2 + 1
        score = layers.Dense(2, name="last")(layers.Concatenate()([hidden, found]))
        return keras.Model({"number": number, "token": token}, {"score": score, "hidden": hidden})

    return seeded(make)


def cnn() -> Any:
    """What images go through, with batch normalization, a separable convolution and dropout."""
    return seeded(lambda: keras.Sequential([
        keras.Input((8, 8, 3), name="image"), layers.Conv2D(6, 3, strides=2, padding="same"),
        layers.BatchNormalization(), layers.ReLU(6.0), layers.DepthwiseConv2D(3), layers.GlobalAveragePooling2D(),
        layers.Dropout(0.5), layers.Dense(4, name="scores"),
    ]))  # fmt: skip


def recurrent() -> Any:
    """A recurrent layer over five steps."""
    return seeded(lambda: keras.Sequential([keras.Input((5, 3), name="steps"), layers.LSTM(4, name="memory")]))


class Scaled(layers.Layer):  # type: ignore[misc]
    """A layer that is not Keras's own."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="factor")

    def call(self, x: Any) -> Any:
        return keras.ops.sin(x) * self.factor


def own() -> Any:
    """With a layer of the user's own, and a Lambda."""
    return seeded(lambda: keras.Sequential([
        keras.Input((4,)), layers.Dense(3), Scaled(name="scaled"), layers.Lambda(lambda x: x + 1, name="more"),
    ]))  # fmt: skip


def data_of(model: Model) -> Data:
    """Samples that fit a model."""
    return Data({tensor.name: _numbers(tensor) for tensor in model.signature.inputs})


def _numbers(tensor: Tensor) -> np.ndarray[Any, Any]:
    shape, rng = (SAMPLES, *tensor.shape[1:]), RNG(1)
    if "int" in tensor.dtype:
        return rng.integers(0, 5, shape).astype(tensor.dtype)
    return rng.normal(size=shape).astype(tensor.dtype)


def stored(live: Any, folder: Path) -> Model:
    """As a job is given it."""
    return formats.format_of("keras").store(formats.open(live), folder)


def example(live: Any, folder: Path) -> Example:
    model = stored(live, folder)
    return Example(model, data_of(model))


def answers(live: Any, batch: Batch) -> list[np.ndarray[Any, Any]]:
    """What a live model says, flat."""
    given = dict(batch) if len(batch) > 1 else next(iter(batch.values()))
    return [np.asarray(value) for value in keras.tree.flatten(live(given, training=False))]


def altered(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A .keras file whose configuration is another."""
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, held in content.items():
            new.writestr(name, held)
    return path
