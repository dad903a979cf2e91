"""From Keras and SavedModel on: to ONNX and to TFLite, held to what the original answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

from ai_edge_litert import interpreter as litert

import kerases
import strop
import tflites
from kerases import keras, layers
from strop import formats
from strop.data import Data
from strop.errors import InvalidData, NotApplicable, TechniqueError
from strop.model import KERAS, ONNX, TFLITE, Model
from strop.plan import routes
from strop.prepare import Budget, reference
from strop.runtime import predict
from strop.runtimes import Litert, Onnxruntime
from strop.target import Target
from strop.technique import Context, Needs, Technique, apply
from strop.techniques import KerasToOnnx, KerasToTflite, TfliteInt8, TfliteWeights
from strop.techniques._parity import hold
from strop.testing import Example, TechniqueCase

pytestmark = kerases.QUIET


class TestKerasToOnnx(TechniqueCase):
    technique: ClassVar[type[Technique]] = KerasToOnnx

    def example(self, folder: Path) -> Example:
        return kerases.example(kerases.two_ends(), folder)


class TestKerasToTflite(TechniqueCase):
    technique: ClassVar[type[Technique]] = KerasToTflite

    def example(self, folder: Path) -> Example:
        return kerases.example(kerases.two_ends(), folder)


def converted(technique: Technique, example: Example, folder: Path, target: Target = kerases.ONE) -> Model:
    folder.mkdir(parents=True)
    return apply(technique, example.model, Context(example.data, example.model, target, 0, folder))


def test_images_pass_through_both_converters_at_any_batch(tmp_path: Path) -> None:
    live = kerases.cnn()
    example = kerases.example(live, tmp_path / "given")
    wanted = kerases.answers(live, example.data.inputs)[0]
    lite = converted(KerasToTflite(), example, tmp_path / "lite")
    graph = converted(KerasToOnnx(), example, tmp_path / "graph")
    for batch in (1, 3, kerases.SAMPLES):
        np.testing.assert_allclose(tflites.answers(lite, example.data, batch)["scores"], wanted, rtol=1e-4, atol=1e-6)
        runner = Onnxruntime().load(graph, kerases.ONE)
        found = predict(runner, graph.signature, example.data, batch)
        np.testing.assert_allclose(found["scores"], wanted, rtol=1e-4, atol=1e-6)
        runner.close()


def test_a_saved_model_passes_too_and_odd_names_are_kept(tmp_path: Path) -> None:
    live = kerases.own()
    example = kerases.example(live, tmp_path / "given")
    wanted = kerases.answers(live, example.data.inputs)[0]
    (name,) = (tensor.name for tensor in example.model.signature.outputs)
    lite = converted(KerasToTflite(), example, tmp_path / "lite")
    np.testing.assert_allclose(tflites.answers(lite, example.data)[name], wanted, rtol=1e-4, atol=1e-6)
    odd = kerases.seeded(
        lambda: keras.Sequential([keras.Input((2,), name="input_0.x-1"), layers.Dense(2, name="a.b-c")])
    )
    for technique in (KerasToTflite(), KerasToOnnx()):
        made = converted(
            technique, kerases.example(odd, tmp_path / technique.label()), tmp_path / "odd" / str(technique)
        )
        made = formats.format_of(made.format).open(made.path)
        assert made.signature.names() == formats.open(odd).signature.names()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "both ways"])
def test_a_recurrent_layer_takes_the_batch_of_the_target_in_tflite(tmp_path: Path, kind: str) -> None:
    live = kerases.recurrent(kind)
    example = kerases.example(live, tmp_path / "given")
    lite = converted(KerasToTflite(), example, tmp_path / "lite", Target(threads=1, batch=2))
    assert [tensor.fixed_batch for tensor in lite.signature.inputs] == [2]
    wanted = kerases.answers(live, example.data.inputs)[0]
    found = tflites.answers(lite, example.data, 3)["memory"]  # calls of the size that it takes, the last one filled up
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_loops_are_quantized_in_their_weights_only(tmp_path: Path) -> None:
    example = kerases.example(kerases.recurrent("GRU"), tmp_path / "given")
    lite = Example(converted(KerasToTflite(), example, tmp_path / "lite"), example.data)
    with pytest.raises(NotApplicable, match=r"has WHILE, as recurrent layers .*tflite-weights takes it"):
        converted(TfliteInt8(), lite, tmp_path / "int8")
    right = tflites.answers(lite.model, example.data)["memory"]
    found = tflites.answers(converted(TfliteWeights(), lite, tmp_path / "weights"), example.data)["memory"]
    assert np.abs(found - right).max() < 0.05


@pytest.mark.parametrize("image", [True, False], ids=["image", "steps"])
def test_sizes_that_are_free_stay_free_in_tflite(tmp_path: Path, image: bool) -> None:
    def make() -> Any:
        ends = keras.Input((None, None, 3), name="x"), layers.GlobalAveragePooling2D(), layers.Dense(2, name="y")
        return keras.Sequential([ends[0], layers.Conv2D(4, 3, padding="same"), *ends[1:]])

    live = kerases.seeded(make) if image else kerases.recurrent(steps=None)
    (name,) = (tensor.name for tensor in formats.open(live).signature.inputs)
    made: dict[str, Model] = {}
    for size in (6, 9):
        shape = (kerases.SAMPLES, size, size + 1, 3) if image else (kerases.SAMPLES, size, 3)
        data = Data({name: kerases.RNG(size).normal(size=shape).astype(np.float32)})
        if not made:
            example = Example(kerases.stored(live, tmp_path / "given"), data)
            made["lite"] = converted(KerasToTflite(), example, tmp_path / "lite")
            assert made["lite"].signature.inputs[0].shape[1] is None
        (found,) = tflites.answers(made["lite"], data, 1).values()
        np.testing.assert_allclose(found, kerases.answers(live, data.inputs)[0], rtol=1e-4, atol=1e-6)


def test_samples_to_calibrate_with_must_have_the_models_shape(tmp_path: Path) -> None:
    x = kerases.RNG(0).normal(size=(60, 1)).astype(np.float32)
    with pytest.raises(InvalidData, match=r"Of the calibration data: .*a sample is \[2\], and must be \[1\]"):
        strop.optimize(
            kerases.dense(), x, "minimize size", target=Target(threads=1, kind="mobile"), run=tmp_path / "run",
            calibration=np.ones((9, 2), np.float32),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_network_of_three_layers_becomes_a_file_in_a_line(tmp_path: Path, quick_looks: None) -> None:
    """The example of TensorFlow Lite's guide."""
    live, x = kerases.dense(), kerases.RNG(0).normal(size=(60, 1)).astype(np.float32)
    bundle, budget = tmp_path / "bundle", Budget(60, trials=1)
    phone = Target(threads=1, kind="mobile")
    strop.optimize(live, x, "minimize size", target=phone, budget=budget, run=tmp_path / "run").save(bundle)
    file = Path(shutil.copy(bundle / "model.tflite", tmp_path / "quantized_model.tflite"))
    interpreter = litert.Interpreter(str(file))  # as an app has it, without strop
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], x[:1])
    interpreter.invoke()
    wanted = np.asarray(live(x[:1]))
    np.testing.assert_allclose(interpreter.get_tensor(result["index"]), wanted, rtol=0.05, atol=0.01)


def test_a_recurrent_layer_takes_any_batch_in_onnx(tmp_path: Path) -> None:
    made = converted(KerasToOnnx(), kerases.example(kerases.recurrent(), tmp_path / "given"), tmp_path / "graph")
    assert [tensor.fixed_batch for tensor in made.signature.inputs] == [None]


def strange() -> Any:
    """With operators that neither TFLite nor ONNX has."""
    x = keras.Input((4, 4), name="x")
    return keras.Model(x, keras.ops.cholesky(keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))))


@pytest.mark.parametrize("technique", [KerasToTflite(), KerasToOnnx()], ids=str)
def test_operators_that_are_missing_are_named_with_their_layers(technique: Technique, tmp_path: Path) -> None:
    example = kerases.example(strange(), tmp_path / "given")
    with pytest.raises(TechniqueError, match=r"no (builtin )?operator for some of this model: Cholesky \(.+Cholesky\)"):
        converted(technique, example, tmp_path / "made")


def twice() -> Any:
    """A layer that is called twice beside one whose name looks like that, and a model within the model."""
    x, first, second = keras.Input((8,), name="x"), layers.Dense(8, name="dense"), layers.Dense(8, name="dense_1")
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="relu", name="within")], name="inner")
    return keras.Model(x, layers.Softmax(name="shares")(inner(second(first(first(x))))), name="mine_1")


@pytest.mark.parametrize("technique", [KerasToOnnx(), KerasToTflite()])
def test_operators_are_called_by_the_layers_that_they_are_of(technique: Technique, tmp_path: Path) -> None:
    made = converted(technique, kerases.example(kerases.seeded(twice), tmp_path / "given"), tmp_path / "made")
    found = formats.format_of(made.format).structure(made, {"x": np.zeros((1, 8), np.float32)})
    names = [layer.name for layer in found.layers]
    assert [name.partition("/")[0] for name in names if "within" not in name] == ["dense", "dense", "dense_1", "shares"]
    assert all(name.startswith("inner/within/") for name in names if "within" in name)
    assert len(set(names)) == len(names)


def test_what_is_converted_is_held_to_its_original() -> None:
    x = {"x": np.arange(10, dtype=np.float32)}
    hold(x, {"x"}, lambda few: {"y": few["x"] * np.float32(1 + 1e-6)}, lambda few: {"y": few["x"]})
    odd = {"y": np.array([np.nan, np.inf, -np.inf, -0.0, 1.0])}
    hold(x, {"x"}, lambda few: odd, lambda few: odd)
    with pytest.raises(TechniqueError, match=r"'y' is off by 0\.09"):
        hold(x, {"x"}, lambda few: {"y": few["x"] * 1.01}, lambda few: {"y": few["x"]})
    with pytest.raises(TechniqueError, match="tied to the sizes"):
        hold(x, {"x"}, lambda few: {"y": x["x"]}, lambda few: {"y": few["x"]})
    hold(x, {"x"}, lambda few: {"y": few["x"][:4]}, lambda few: {"y": few["x"]}, 4)
    calls: list[int] = []
    hold(x, {"x"}, lambda few: {"y": few["x"]}, lambda few: calls.append(len(few["x"])) or {"y": few["x"]})
    assert calls == [10, 9, 1]


def test_dynamic_range_comes_after_the_conversion(tmp_path: Path) -> None:
    wide = kerases.seeded(lambda: keras.Sequential([keras.Input((64,), name="x"), layers.Dense(64, name="y")]))
    example = kerases.example(wide, tmp_path / "given")
    lite = converted(KerasToTflite(), example, tmp_path / "lite")
    small = converted(TfliteWeights(), Example(lite, example.data), tmp_path / "small")
    assert small.size < 0.5 * lite.size
    wanted = kerases.answers(wide, example.data.inputs)[0]
    assert np.abs(tflites.answers(small, example.data, 1)["y"] - wanted).max() < 0.05 * np.abs(wanted).max()


def test_routes_lead_to_all_runtimes_and_a_phone_gets_tflite(tmp_path: Path) -> None:
    model = kerases.stored(kerases.dense(), tmp_path)
    phone = Target(threads=1, kind="mobile")
    assert reference(KERAS, kerases.ONE) == ((KerasToOnnx(),), Onnxruntime())
    assert reference(KERAS, phone) == ((KerasToTflite(),), Litert()), "or what is handed over would be no .tflite"
    found, _ = routes(model, kerases.ONE, Needs.SAMPLES)
    labels = {route.label for route in found}
    assert {"keras-to-onnx + onnxruntime", "keras-to-tflite + tflite-weights + litert"} <= labels
    fitting, _ = routes(model, phone, Needs.SAMPLES)
    assert fitting and all(route.label.startswith("keras-to-tflite") for route in fitting)
    assert {route.steps[0].returns for route in found} == {ONNX, TFLITE}
