"""Keras models made smaller by training: pruned, taught as students, trained under int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

import kerases
import tflites
from kerases import QUIET, accuracy, bars, context, keras, layers, stored, trained
from strop.data import Data
from strop.errors import NotApplicable, TechniqueError
from strop.formats.keras import load
from strop.formats.tflite import read
from strop.model import Model
from strop.plan import routes
from strop.technique import Needs, Technique, apply
from strop.techniques import (
    DistillKeras,
    Factorize,
    KerasToTflite,
    PruneChannels,
    PruneKerasWeights,
    QuantizeAwareKeras,
    TfliteInt8,
    prune_channels,
)
from strop.techniques.quantize_aware_keras import _on_grid, _rounder

pytestmark = QUIET
DATA, UNSEEN = bars(), bars(seed=5)


def applied(step: Technique, model: Model, folder: Path, **training: Any) -> Model:
    return apply(step, model, context(model, DATA, folder, **training))


def test_weights_become_zero_and_stay_so_down_to_int8(tmp_path: Path) -> None:
    model = stored(trained(), tmp_path)
    made = applied(PruneKerasWeights(amount=0.8), model, tmp_path / "made", epochs=6)
    live = load(made)
    kernels = [
        np.asarray(live.get_layer("body").get_layer("second").kernel),
        np.asarray(live.get_layer("hidden").kernel),
    ]
    zeros = np.concatenate([(kernel == 0).ravel() for kernel in kernels])
    assert 0.75 < zeros.mean() < 0.85
    assert (np.asarray(live.get_layer("first").kernel) != 0).all(), "small ones are left alone"
    assert accuracy(live, UNSEEN) > 0.85
    sizes = {}
    for name, source in (("whole", model), ("pruned", made)):
        lite = applied(KerasToTflite(), source, tmp_path / f"{name}-lite")
        small = apply(TfliteInt8(), lite, context(lite, DATA, tmp_path / f"{name}-int8"))
        sizes[name] = small.compressed
    assert sizes["pruned"] < sizes["whole"]


def test_layers_that_are_named_keep_their_weights(tmp_path: Path) -> None:
    model = stored(trained(), tmp_path)
    live = load(applied(PruneKerasWeights(amount=0.5), model, tmp_path / "made", keep=["body"]))
    assert (np.asarray(live.get_layer("body").get_layer("second").kernel) != 0).all()
    assert np.mean(np.asarray(live.get_layer("hidden").kernel) == 0) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(NotApplicable, match="no weight of 1024 numbers"):
        applied(PruneKerasWeights(), model, tmp_path / "none", keep=["body/*", "hidden"])


def test_a_student_takes_the_originals_place_and_names(tmp_path: Path) -> None:
    model = stored(trained(), tmp_path)
    student = keras.Sequential([
        keras.Input((10, 10, 1), name="other"), layers.Conv2D(8, 3, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax"),
    ])  # fmt: skip
    given = context(model, DATA, tmp_path / "made", epochs=25, learning_rate=0.02)
    made = apply(DistillKeras(), model, replace(given, student=stored(student, tmp_path / "student")))
    assert made.signature.names() == model.signature.names()
    assert made.counts["parameters"] == student.count_params()
    assert accuracy(load(made), UNSEEN) > 0.8
    with pytest.raises(NotApplicable, match="takes the place of the original"):
        DistillKeras().requires(made, kerases.ONE)
    with pytest.raises(TechniqueError, match="no student"):
        applied(DistillKeras(), model, tmp_path / "none")


def test_a_student_of_several_inputs_and_outputs(tmp_path: Path) -> None:
    original, student = kerases.two_ends(), kerases.two_ends()
    model = stored(original, tmp_path)
    data = kerases.data_of(model)
    given = replace(context(model, data, tmp_path / "made"), student=stored(student, tmp_path / "student"))
    made = apply(DistillKeras(), model, given)
    assert made.signature == model.signature
    assert len(load(made)({name: array for name, array in data.inputs.items()})) == 2


def half_empty(layer: str) -> Any:
    """One in which every other channel of a layer is zero, and so is what reads it; places are flattened after both."""
    keras.utils.set_random_seed(4)
    image = keras.Input((6, 5, 3), name="image")
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="first")(image)
    x = layers.SeparableConv2D(32, 3, strides=2, padding="same", activation="relu", name="second")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(layers.Dropout(0.2)(layers.Flatten()(x)))
    live = keras.Model(image, layers.Dense(3, name="scores")(x))
    first, second, hidden = (live.get_layer(name) for name in ("first", "second", "hidden"))
    if layer == "first":
        parts = [(first.kernel, 3), (second.depthwise_kernel, 2), (second.pointwise_kernel, 2)]
    else:
        parts = [(second.pointwise_kernel, 3), (hidden.kernel, 0)]  # of its rows, too: there are 32 to each place
    for weight, axis in parts:
        value = np.array(weight)
        np.moveaxis(value, axis, 0)[::2] = 0
        weight.assign(value)
    return live


@pytest.mark.parametrize(("layer", "amount"), [("first", 0.2), ("second", 0.12)])
def test_channels_go_with_all_that_reads_them_through_flattened_places_too(
    layer: str, amount: float, tmp_path: Path
) -> None:
    model = stored(half_empty(layer), tmp_path)
    images = kerases.RNG(0).normal(size=(40, 6, 5, 3)).astype(np.float32)
    data = Data({"image": images}, kerases.RNG(1).integers(0, 3, 40))
    step = PruneChannels(amount=amount, importance="magnitude")
    made = apply(step, model, context(model, data, tmp_path / "made", epochs=0.1, learning_rate=1e-12))
    live = load(made)
    assert live.get_layer(layer).filters <= 24
    np.testing.assert_allclose(live(images), load(model)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [PruneChannels(amount=0.5), Factorize(amount=0.2)])
def test_pytorchs_own_techniques_make_smaller_keras_models(
    step: Technique, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune_channels, "vector_width", lambda: 8)  # half of the channels that there are
    model = stored(trained(), tmp_path)
    made = applied(step, model, tmp_path / "made", epochs=6)
    assert made.signature == model.signature
    assert made.counts["parameters"] < 0.85 * model.counts["parameters"]
    assert accuracy(load(made), UNSEEN) > 0.85
    lite = applied(KerasToTflite(), made, tmp_path / "lite")
    small = apply(TfliteInt8(), lite, context(lite, DATA, tmp_path / "int8"))
    assert {v.dtype for v in read(small.path).all_values if v.stored and len(v.shape) > 1} == {"int8"}
    found = tflites.answers(small, UNSEEN, 16)["scores"].argmax(1)
    assert float((found == UNSEEN.labels).mean()) > 0.8


def test_what_is_joined_with_an_input_keeps_its_channels(tmp_path: Path) -> None:
    """Torch-Pruning knows nothing of the input's columns, and would take out those of others."""
    keras.utils.set_random_seed(1)
    table = keras.Input((8,), name="table")
    first = layers.Dense(64, activation="relu", name="first")(table)
    joined = layers.Concatenate()([table, first])
    last = layers.Dense(32, activation="relu", name="second")(joined)
    model = stored(keras.Model(table, layers.Dense(2, name="scores")(last)), tmp_path)
    data = Data({"table": kerases.RNG(0).normal(size=(60, 8)).astype(np.float32)}, kerases.RNG(1).integers(0, 2, 60))
    made = apply(PruneChannels(amount=0.3), model, context(model, data, tmp_path / "made", epochs=1))
    live = load(made)
    assert live.get_layer("first").units == 64 and live.get_layer("second").units < 32


def test_layers_that_pytorch_has_not_are_named(tmp_path: Path) -> None:
    model = stored(kerases.recurrent("GRU"), tmp_path)
    with pytest.raises(NotApplicable, match=r"gru.* \(GRU\) has no counterpart"):
        apply(Factorize(), model, context(model, kerases.data_of(model), tmp_path / "made"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("strop.techniques._modules.installed", lambda name: False)
        with pytest.raises(NotApplicable, match="pip install"):
            PruneChannels().requires(model, kerases.ONE)


def lopsided() -> Any:
    """Knows bars by a hidden layer one of whose numbers is 300 times as large as the others: int8 loses these."""
    live = trained()
    hidden, last = live.get_layer("hidden"), live.get_layer("scores")
    kernel, bias, out = (np.array(v) for v in (hidden.kernel, hidden.bias, last.kernel))
    unit = np.maximum(np.asarray(keras.Model(live.input, hidden.output)(DATA.inputs["image"])), 0).mean(0).argmax()
    kernel[:, unit] *= 300
    bias[unit] *= 300
    out[unit] /= 300
    hidden.kernel.assign(kernel)
    hidden.bias.assign(bias)
    last.kernel.assign(out)
    return live


def test_training_under_int8_makes_better_integers_than_rounding_afterwards(tmp_path: Path) -> None:
    model = stored(lopsided(), tmp_path)
    assert accuracy(load(model), UNSEEN) > 0.9
    aware = applied(QuantizeAwareKeras(), model, tmp_path / "aware", epochs=12, learning_rate=1e-2)
    found = {}
    for name, source in (("plain", model), ("aware", aware)):
        lite = applied(KerasToTflite(), source, tmp_path / f"{name}-lite")
        made = apply(TfliteInt8(), lite, context(lite, DATA, tmp_path / f"{name}-int8"))
        assert {v.dtype for v in read(made.path).all_values if v.stored and len(v.shape) > 1} == {"int8"}
        answers = tflites.answers(made, UNSEEN, 16)["scores"].argmax(1)
        found[name] = float((answers == UNSEEN.labels).mean())
    assert found["plain"] < 0.75
    assert found["aware"] > found["plain"] + 0.1  # how much, the order decides in which threads sum
    norms = [load(m).get_layer("norm") for m in (model, aware)]
    np.testing.assert_array_equal(*(np.asarray(norm.moving_mean) for norm in norms))


@pytest.mark.parametrize(("shape", "axes"), [((3, 3, 4, 6), (-1,)), ((3, 3, 4, 2), (-2, -1)), ((5, 7), (-1,))])
def test_weights_are_rounded_by_channel_as_the_quantizer_rounds(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    weight = kerases.RNG(0).normal(size=shape).astype(np.float32)
    others = tuple(axis for axis in range(len(shape)) if axis - len(shape) not in axes)
    scale = np.abs(weight).max(others, keepdims=True) / 127
    np.testing.assert_allclose(_on_grid(weight, axes, 127), np.round(weight / scale) * scale, atol=1e-6)
    if axes == (-1,):  # a batch norm that is folded in later leaves each weight on its grid
        factor = kerases.RNG(1).uniform(0.1, 3, shape[-1]).astype(np.float32)
        np.testing.assert_allclose(
            _on_grid(weight * factor, axes, 127), _on_grid(weight, axes, 127) * factor, rtol=1e-4
        )


def test_activations_are_rounded_within_the_range_that_was_seen() -> None:
    rounder, x = _rounder(), np.linspace(-0.5, 1.5, 50, dtype=np.float32)
    rounder(x, training=True)
    rounder(4 * x, training=False)
    np.testing.assert_allclose(rounder.range, [-0.5, 1.5], rtol=1e-6)
    np.testing.assert_allclose(rounder(x), x, atol=0.5 * 2 / 255 + 1e-6)
    assert float(rounder(np.zeros(1, np.float32))[0]) == 0.0
    assert float(rounder(np.full(1, 9, np.float32))[0]) == pytest.approx(1.5, abs=0.01)
    rounder(2 * x, training=True)
    np.testing.assert_allclose(rounder.range, [-0.505, 1.515], rtol=1e-5)


def test_what_has_nothing_to_round_is_refused(tmp_path: Path) -> None:
    image = keras.Input((10, 10, 1), name="image")
    bare = keras.Model(image, layers.GlobalAveragePooling2D()(layers.BatchNormalization()(image)))
    with pytest.raises(NotApplicable, match="no dense layers or convolutions"):
        applied(QuantizeAwareKeras(), stored(bare, tmp_path), tmp_path / "made")


def test_routes_that_train_lead_on_to_tflite_and_onnx(tmp_path: Path) -> None:
    model = stored(trained(), tmp_path)
    have = Needs.SAMPLES | Needs.LABELS | Needs.TRAINING | Needs.STUDENT
    found, refused = routes(model, kerases.ONE, have, asked=("size.compressed",))
    labels = {route.label for route in found}
    assert {
        "quantize-aware-keras + keras-to-tflite + tflite-int8 + litert",
        "prune-keras-weights + keras-to-tflite + tflite-int8 + litert",
        "distill-keras + keras-to-tflite + litert",
        "quantize-aware-keras + keras-to-onnx + static-int8 + onnxruntime",
    } <= labels
    assert not any(label.startswith("quantize-aware-keras + keras-to-tflite + litert") for label in labels)
    _, refused = routes(model, kerases.ONE, Needs.SAMPLES)
    assert "train data" in refused["quantize-aware-keras"] and "a student" in refused["distill-keras"]
