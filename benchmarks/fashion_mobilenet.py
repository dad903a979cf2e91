"""A MobileNet for Fashion-MNIST in Keras, trained and kept in the cache: the original of `mobile.py`.

    apt-get install dataset-fashion-mnist
    pip install -e '.[tensorflow]'
    python benchmarks/fashion_mobilenet.py

Depthwise and pointwise convolutions (Howard et al. 2017, table 1, cut down to 28 x 28): half a million parameters. It
takes raw pixels (0 to 255) as float32 [N, 28, 28, 1] and gives probabilities.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from models._fashion import pixels_and_labels

FOLDER = Path(__file__).parent / ".cache" / "fashion-mobilenet"
MODEL = FOLDER / "model.keras"
EPOCHS, BATCH, PEAK_RATE, SEED = 6, 128, 4e-3, 0
WIDTHS = ((64, 2), (128, 1), (256, 2), (256, 1), (512, 1), (512, 1))  # and strides


def network() -> keras.Model:
    pixels = keras.Input((28, 28, 1), name="pixels")
    x = layers.Rescaling(1 / 90.0, -72.9 / 90.0)(pixels)
    x = normed(layers.Conv2D(32, 3, padding="same", use_bias=False)(x))
    for width, stride in WIDTHS:
        x = normed(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x))
        x = normed(layers.Conv2D(width, 1, use_bias=False)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(pixels, layers.Dense(10, "softmax", name="probabilities")(x))


def normed(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))


def images(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """`train` or `t10k`: float32[n, 28, 28, 1] and int64[n]."""
    pixels, labels = pixels_and_labels(kind)
    return pixels.astype(np.float32)[..., None], labels


def main() -> None:
    keras.utils.set_random_seed(SEED)
    (x, y), (unseen, answers) = images("train"), images("t10k")
    model, start = network(), time.monotonic()
    steps = EPOCHS * -(-len(x) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=PEAK_RATE, warmup_steps=steps // 10)
    model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for epoch in range(EPOCHS):
        mirrored = np.where(np.random.default_rng(epoch).random((len(x), 1, 1, 1)) < 0.5, x[:, :, ::-1], x)
        model.fit(mirrored, y, BATCH, verbose=2)
    _, accuracy = model.evaluate(unseen, answers, 500, verbose=0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(MODEL)
    told = {"accuracy": accuracy, "seconds": time.monotonic() - start, "parameters": model.count_params()}
    (FOLDER / "trained.json").write_text(json.dumps(told))
    print(told)


if __name__ == "__main__":
    main()
