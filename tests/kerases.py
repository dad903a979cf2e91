"""Small Keras models with random weights, on TensorFlow."""

from __future__ import annotations

import functools
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import _quiet, formats
from strop._lazy import installed
from strop.data import Data
from strop.learning import Training
from strop.model import Batch, Model, Tensor
from strop.target import Target
from strop.technique import Context
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


def recurrent(kind: str = "LSTM", steps: int | None = 5) -> Any:
    """A recurrent layer over some steps, and a dense one."""

    def make() -> Any:
        layer = layers.Bidirectional(layers.LSTM(4)) if kind == "both ways" else getattr(layers, kind)(4)
        return keras.Sequential([keras.Input((steps, 3), name="steps"), layer, layers.Dense(4, name="memory")])

    return seeded(make)


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


def classifier(width: int = 16, softmax: bool = True) -> Any:
    """Of bars, three classes: convolutions, batch norm, a residual connection, dropout; `body` is a model within it."""

    def make() -> Any:
        x = image = keras.Input((10, 10, 1), name="image")
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="first")(x)
        x = layers.ReLU()(layers.BatchNormalization(name="norm", momentum=0.9)(x))
        inner = keras.Input((10, 10, width))
        body = keras.Model(inner, layers.Conv2D(width, 3, padding="same", activation="relu", name="second")(inner))
        body.name = "body"
        x = layers.GlobalAveragePooling2D()(layers.Add()([x, body(x)]))
        x = layers.Dropout(0.2)(layers.Dense(64, activation="relu", name="hidden")(x))
        return keras.Model(image, layers.Dense(3, activation="softmax" if softmax else None, name="scores")(x))

    return seeded(make)


def bars(count: int = 240, seed: int = 0) -> Data:
    """Images with a horizontal bar, a vertical one, or none; noise over all."""
    random = RNG(seed)
    images = random.normal(0, 0.3, (count, 10, 10, 1)).astype(np.float32)
    labels = random.integers(0, 3, count)
    for image, label, place in zip(images, labels, random.integers(0, 10, count), strict=True):
        if label < 2:
            image[place if label else slice(None), slice(None) if label else place] += 1.5
    return Data({"image": images}, labels)


@functools.cache
def _taught(width: int, softmax: bool) -> list[np.ndarray[Any, Any]]:
    live, data = classifier(width, softmax), bars()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax)
    live.compile(keras.optimizers.Adam(5e-3), loss)
    live.fit(data.inputs["image"], data.labels, 32, 20, verbose=0)
    return list(live.get_weights())


def trained(width: int = 16, softmax: bool = True) -> Any:
    """One that knows bars."""
    live = classifier(width, softmax)
    live.set_weights(_taught(width, softmax))
    return live


def accuracy(live: Any, data: Data) -> float:
    found = np.asarray(live(data.inputs["image"], training=False)).argmax(1)
    return float((found == data.labels).mean())


def context(model: Model, data: Data, folder: Path, **training: Any) -> Context:
    """What a step that trains is given."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"epochs": 2, "batch": 16, **training}
    return Context(
        data, model, ONE, 0, folder, train=data, training=Training(**settings), shared=folder.parent / "shared",
        kept=folder.parent / f"kept-{folder.name}", deadline=time.monotonic() + 300,
    )  # fmt: skip
