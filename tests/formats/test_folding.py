"""Keras and TFLite models that take pixels, and do themselves what pre-processing does with numbers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

import tflites
from strop import formats
from strop._lazy import installed
from strop.data import Data
from strop.errors import UnsupportedModel
from strop.images import Preprocessing
from strop.model import Model
from strop.techniques import TfliteInt8
from strop.testing import Example

STEPS = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
FIRST = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), layout="nchw")
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 3), np.uint8)
IN_KERAS = pytest.mark.skipif(not installed("tensorflow"), reason="comes with the extra tensorflow")


def folded(model: Model, steps: Preprocessing, folder: Path) -> Model:
    folder.mkdir()
    return formats.format_of(model.format).folded(model, steps, folder)


def channels_first() -> tflites.Writer:
    """A mean over the image, and a dense layer."""
    w = tflites.Writer()
    w.tensor("image", (1, 3, 12, 12), free=(-1, 3, 12, 12))
    w.constant("axes", np.array([2, 3], np.int32))
    w.tensor("mean", (1, 3), free=(-1, 3))
    w.operator("MEAN", ["image", "axes"], ["mean"], table="ReducerOptions", keepDims=False)
    w.weights("kernel", 4, 3)
    w.tensor("y", (1, 4), free=(-1, 4))
    w.operator("FULLY_CONNECTED", ["mean", "kernel"], ["y"], table="FullyConnectedOptions")
    w.ends(["image"], ["y"])
    return w


@pytest.mark.parametrize(("writer", "steps"), [(tflites.cnn, STEPS), (channels_first, FIRST)])
def test_a_tflite_file_takes_pixels(tmp_path: Path, writer: Any, steps: Preprocessing) -> None:
    model = tflites.opened(writer(), tmp_path / "model")
    with zipfile.ZipFile(model.path, "a") as archive:
        archive.writestr("labels.txt", "cat\n")
    (given,) = model.signature.inputs
    made = folded(model, steps, tmp_path / "made")
    assert [str(tensor) for tensor in made.signature.inputs] == [f"{given.name}: uint8[?, 12, 12, 3]"]
    assert made.signature.outputs == model.signature.outputs
    assert made.counts["operations"] == model.counts["operations"]
    assert zipfile.ZipFile(made.path).read("labels.txt") == b"cat\n"
    settled = steps.settled(None, model.signature)
    wanted = tflites.answers(model, Data({given.name: settled.apply(PIXELS)}))
    for batch in (1, 4):
        for name, found in tflites.answers(made, Data({given.name: PIXELS}), batch).items():
            np.testing.assert_allclose(found, wanted[name], rtol=1e-5, atol=1e-6)


def test_what_takes_pixels_is_quantized_like_any_other(tmp_path: Path) -> None:
    made = folded(tflites.opened(tflites.cnn(), tmp_path / "model"), STEPS, tmp_path / "made")
    data = Data({"picture": np.random.default_rng(0).integers(0, 256, (24, 12, 12, 3), np.uint8)})
    small = tflites.quantize(TfliteInt8(), Example(made, data), tmp_path / "small")
    assert small.signature.names() == made.signature.names()
    right, found = (tflites.answers(model, data)["scores"] for model in (made, small))
    assert np.abs(found - right).max() < 0.05


def test_a_quantized_input_or_no_image_takes_nothing_over(tmp_path: Path) -> None:
    for number, (writer, said) in enumerate(
        ((tflites.integers, "as integers"), (tflites.rnn, r"x: float32\[1, 4, 3\]"))
    ):
        model = tflites.opened(writer(), tmp_path / f"{number}")
        with pytest.raises(UnsupportedModel, match=f"with 4 axes, and this one takes .*{said}"):
            folded(model, Preprocessing(layout="nhwc"), tmp_path / f"folded-{number}")


@IN_KERAS
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_keras_model_takes_pixels(tmp_path: Path) -> None:
    import kerases
    from strop.formats.keras import function_of, layers_of, load
    from strop.training.keras import kept

    model = kerases.stored(kerases.cnn(), tmp_path / "model")
    made = folded(model, STEPS, tmp_path / "made")
    assert [str(tensor) for tensor in made.signature.inputs] == ["image: uint8[?, 8, 8, 3]"]
    assert made.signature.outputs == model.signature.outputs
    pixels = PIXELS[:, :8, :8]
    settled = STEPS.settled(None, model.signature)
    wanted = function_of(model)({"image": settled.apply(pixels)})
    np.testing.assert_allclose(function_of(made)({"image": pixels})["scores"], wanted["scores"], rtol=1e-4, atol=1e-6)
    live = load(made)
    names = kept(live, ["depthwise*"])
    assert len(names) == 1 and names < set(layers_of(live)), "layers go by their names within their model, too"
    both = kerases.stored(kerases.two_ends(), tmp_path / "both")
    with pytest.raises(UnsupportedModel, match="with 4 axes"):
        folded(both, Preprocessing(layout="nhwc"), tmp_path / "none")


@IN_KERAS
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_keras_model_with_channels_first_takes_pixels(tmp_path: Path) -> None:
    import kerases
    from kerases import keras, layers
    from strop.formats.keras import function_of

    image = keras.Input((3, 8, 8), name="image")
    x = layers.Dense(2)(layers.Flatten()(image))
    live = kerases.seeded(lambda: keras.Model({"image": image}, {"first": x, "again": layers.ReLU()(x)}))
    model = kerases.stored(live, tmp_path / "model")
    made = folded(model, FIRST, tmp_path / "made")
    assert made.signature.names()[1] == model.signature.names()[1]
    pixels = PIXELS[:, :8, :8]
    wanted, found = function_of(model)({"image": FIRST.apply(pixels)}), function_of(made)({"image": pixels})
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)
