"""TFLite: what is read of a file, what LiteRT answers, and what each technique makes of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

import tflites
from engine import bundle_of, check_manifest
from strop import formats, metrics
from strop.bundle import Source, write
from strop.data import Data, match
from strop.errors import InvalidPlan, NotApplicable, RunFailed, TechniqueError, UnsupportedModel
from strop.formats.tflite import TfliteFormat, is_half, is_quantized, read
from strop.model import FOREST, Model
from strop.prepare import Budget, check_target, prepare
from strop.rundir import RunDir
from strop.runtime import Runtime, predict
from strop.runtimes import Litert
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import TfliteFloat16, TfliteInt8, TfliteWeights
from strop.testing import Example, FormatCase, RuntimeCase, TechniqueCase

ONE = Target(threads=1)


def cnn(folder: Path) -> Example:
    return Example(tflites.opened(tflites.cnn(), folder), tflites.images())


class TestTflite(FormatCase):
    format = TfliteFormat()

    def example(self, folder: Path) -> Path:
        return cnn(folder).model.path

    def broken(self, folder: Path) -> Path:
        path = folder / "model.tflite"
        path.write_bytes(tflites.cnn().bytes()[:3000])
        return path


class TestLitert(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Litert

    def example(self, folder: Path) -> Example:
        return cnn(folder)

    def broken(self, folder: Path) -> Model:
        model = cnn(folder).model
        model.path.write_bytes(model.path.read_bytes()[:3000])
        return model


class OfTflite(TechniqueCase):
    def example(self, folder: Path) -> Example:
        return cnn(folder)

    def misfit(self, folder: Path) -> Model | None:
        return tflites.opened(tflites.integers(), folder)


class TestFloat16(OfTflite):
    technique = TfliteFloat16
    tolerance = 1e-3


class TestWeights(OfTflite):
    technique = TfliteWeights
    tolerance = 0.02


class TestInt8(OfTflite):
    technique = TfliteInt8
    tolerance = 0.03


def quantize(technique: Technique, example: Example, folder: Path) -> Model:
    folder.mkdir()
    return apply(technique, example.model, Context(example.data, example.model, ONE, 0, folder))


def answers(model: Model, data: Data, batch: int = 4) -> dict[str, np.ndarray]:
    runner = Litert().load(model, ONE)
    try:
        return predict(runner, model.signature, data, batch)
    finally:
        runner.close()


def by_hand(x: np.ndarray) -> np.ndarray:
    """What `tflites.cnn` is, in NumPy and float64."""
    values = tflites.values(tflites.cnn())
    for name, stride in (("first", 1), ("second", 2)):
        kernel = values[f"{name}/kernel"]
        size = x.shape[1] // stride
        pad = max((size - 1) * stride + 3 - x.shape[1], 0)  # as TensorFlow's `same` has it: the odd one comes last
        padded = np.pad(x, ((0, 0), (pad // 2, pad - pad // 2), (pad // 2, pad - pad // 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::stride, ::stride]
        x = np.maximum(np.einsum("nhwcij,oijc->nhwo", windows, kernel) + values[f"{name}/bias"], 0)
    logits = x.mean((1, 2)) @ values["dense/kernel"].T + values["dense/bias"]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_litert_answers_what_the_arithmetic_does(tmp_path: Path) -> None:
    example = cnn(tmp_path)
    expected = by_hand(example.data.inputs["picture"].astype(float))
    for batch in (1, 5, 24):  # the last call of 5 is smaller: the batch is free
        np.testing.assert_allclose(answers(example.model, example.data, batch)["scores"], expected, rtol=1e-5)


def test_names_are_those_of_the_signature_else_of_the_tensors(tmp_path: Path) -> None:
    named = tflites.opened(tflites.cnn(), tmp_path / "named")
    assert [str(t) for t in (*named.signature.inputs, *named.signature.outputs)] == [
        "picture: float32[?, 12, 12, 3]", "scores: float32[?, 10]"
    ]  # fmt: skip
    assert named.counts == {"parameters": 1728, "operations": 144 * 27 * 8 + 36 * 72 * 18 + 180}
    bare = tflites.cnn()
    bare.model.signatureDefs = []
    model = tflites.opened(bare, tmp_path / "bare")
    assert [t.name for t in (*model.signature.inputs, *model.signature.outputs)] == ["image", "probabilities"]
    result = quantize(TfliteInt8(), Example(model, Data({"image": tflites.images().inputs["picture"]})), tmp_path / "q")
    assert result.signature.names() == model.signature.names()


def test_bytes_are_a_model_too(tmp_path: Path) -> None:
    content = tflites.cnn().bytes()
    model = formats.open(content)
    stored = formats.format_of(model.format).store(model, tmp_path)
    assert stored.path.read_bytes() == content
    assert stored.signature == model.signature
    with pytest.raises(UnsupportedModel, match="it is broken"):
        formats.open(content[:2000])


def test_one_signature_is_called_and_the_others_are_told(tmp_path: Path) -> None:
    writer = tflites.cnn()
    writer.ends(["image"], ["probabilities"], key="another", x="image", y="probabilities")
    model = tflites.opened(writer, tmp_path)
    assert [t.name for t in model.signature.inputs] == ["picture"]
    assert model.notes == ("of the signatures in the .tflite file, another are not looked at",)


def test_quantized_ends_take_floats_or_their_own_integers(tmp_path: Path) -> None:
    model = tflites.opened(tflites.integers(), tmp_path)
    tensor = model.signature.inputs[0]
    assert (tensor.dtype, tensor.stored) == ("float32", "uint8")
    odd = np.array([[np.nan, np.inf, -np.inf, -0.0, 0.5 / 128, 1.0]], np.float32)  # between two steps, beyond the last
    runner = Litert().load(model, ONE)
    np.testing.assert_array_equal(runner({"pixels": odd})["lit"], [[0, 127 / 128, 0, 0, 0, 127 / 128]])
    pixels = np.array([[0, 1, 128, 129, 200, 255]], np.uint8)
    expected = np.maximum(pixels.astype(np.float32) / 128 - 1, 0)
    np.testing.assert_array_equal(runner({"pixels": pixels})["lit"], expected)
    np.testing.assert_array_equal(runner({"pixels": expected})["lit"], expected)
    runner.bind({"pixels": pixels})()
    kept, signature = match(Data({"pixels": np.repeat(pixels, 3, 0)}), model.signature)
    np.testing.assert_array_equal(predict(runner, signature, kept, 2)["lit"], np.repeat(expected, 3, 0))


def test_what_remembers_forgets_from_call_to_call_or_is_refused(tmp_path: Path) -> None:
    model = tflites.opened(tflites.rnn(), tmp_path / "rnn")
    runner = Litert().load(model, ONE)
    x = np.random.default_rng(2).normal(size=(1, 4, 3)).astype(np.float32)
    runner.bind({"x": -x})()
    first, again = (runner({"x": x})["y"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    kernel, recurrent, bias = (tflites.values(tflites.rnn())[name] for name in ("kernel", "recurrent", "bias"))
    state = np.zeros(5)
    for step in range(4):
        state = np.tanh(x[0, step] @ kernel.T + state @ recurrent.T + bias)
        np.testing.assert_allclose(first[0, step], state, rtol=1e-5, atol=1e-6)
    writer = tflites.integers()
    writer.tensor("state", (1,), "float32")
    writer.operator("ASSIGN_VARIABLE", ["state", "state"], [])
    with pytest.raises(UnsupportedModel, match="ASSIGN_VARIABLE"):
        tflites.opened(writer, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: setattr(w.graph.operators[0], "opcodeIndex", 9), "code numbered 9"),
        (lambda w: setattr(w.graph.operators[0], "inputs", [0, 99, 2]), "tensor 99"),
        (lambda w: setattr(w.graph.operators[0], "outputs", [-1]), "tensor -1"),
        (lambda w: setattr(w.graph.tensors[1], "buffer", 77), "buffer 77"),
        (lambda w: setattr(w.graph.tensors[1], "shape", [8, 3, 3, 4]), "864 bytes"),
        (lambda w: setattr(w.graph.tensors[0], "shape", [1, -12, 12, 3]), "sizes"),
        (lambda w: setattr(w.graph.tensors[0], "type", 99), "type 99"),
        (lambda w: setattr(w.graph.tensors[0], "type", 5), "is string"),
        (lambda w: setattr(w.model.operatorCodes[0], "builtinCode", 4000), "code 4000"),
        (lambda w: setattr(w.graph, "outputs", []), "none of what it takes or gives"),
        (lambda w: setattr(w.model, "subgraphs", []), "no subgraph"),
        (lambda w: setattr(w.model.signatureDefs[0].inputs[0], "tensorIndex", 1), "'picture'"),
        (lambda w: w.model.signatureDefs.clear() or setattr(w.graph, "inputs", []), "inputs and outputs"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_before_it_is_run(tmp_path: Path, change, said: str) -> None:
    writer = tflites.cnn()
    change(writer)
    with pytest.raises(UnsupportedModel, match=said):
        tflites.opened(writer, tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.touch()
    with pytest.raises(UnsupportedModel, match="broken"):
        formats.open(path)


def test_damaged_bytes_are_read_or_refused(tmp_path: Path) -> None:
    whole, path, random = tflites.cnn().bytes(), tmp_path / "model.tflite", np.random.default_rng(0)
    opened = 0
    for trial in range(300):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=1 + trial % 3):
            damaged[place] = random.choice([0, 1, 127, 128, 255, random.integers(256)])
        path.write_bytes(damaged[: random.integers(len(whole))] if trial % 4 == 0 else damaged)
        try:
            model = formats.open(path)
        except UnsupportedModel as error:
            assert "\n" not in str(error)
            continue
        opened += 1
        assert formats.format_of("tflite").structure(model).layers
    assert 100 < opened < 300


def test_a_quantized_end_needs_one_scale(tmp_path: Path) -> None:
    for scales in ([float("nan")], [0.0], [-1.0]):
        writer = tflites.integers()
        writer.graph.tensors[0].quantization.scale = scales
        with pytest.raises(UnsupportedModel, match="one scale above zero"):
            tflites.opened(writer, tmp_path)


def test_operators_that_are_not_builtin_are_named_with_their_layers(tmp_path: Path) -> None:
    writer, last = tflites.integers(), "lit"
    for kind, layer in (("FlexErf", "odd"), ("FlexErf", "odder"), ("Mine", "own")):
        writer.tensor(layer, (1, 6), "uint8", free=(-1, 6), scale=1)
        writer.operator(kind, [last], [layer])
        last = layer
    writer.ends(["pixels"], [last])
    with pytest.raises(RunFailed, match=r"FlexErf \(odd, odder\); Mine \(own\)"):
        Litert().load(tflites.opened(writer, tmp_path), ONE)


def test_an_input_without_axes_is_handed_on(tmp_path: Path) -> None:
    writer = tflites.Writer()
    writer.tensor("x", (1, 3), free=(-1, 3))
    writer.tensor("factor", ())
    writer.tensor("y", (1, 3), free=(-1, 3))
    writer.operator("MUL", ["x", "factor"], ["y"], table="MulOptions")
    writer.ends(["x", "factor"], ["y"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    runner = Litert().load(tflites.opened(writer, tmp_path), ONE)
    np.testing.assert_array_equal(runner({"x": x, "factor": np.array(2, np.float32)})["y"], 2 * x)


def test_a_shape_that_does_not_fit_is_said_and_the_next_runs(tmp_path: Path) -> None:
    example = cnn(tmp_path)
    runner = Litert().load(example.model, ONE)
    picture = example.data.inputs["picture"]
    with pytest.raises(RunFailed, match="LiteRT can't run"):
        runner({"picture": picture[:1, :, :, :2]})
    np.testing.assert_allclose(
        runner({"picture": picture[:2]})["scores"], by_hand(picture[:2].astype(float)), rtol=1e-5
    )


def test_a_profile_tells_operators_and_weights(tmp_path: Path) -> None:
    model = cnn(tmp_path).model
    found = formats.format_of("tflite").structure(model)
    assert [layer.operator for layer in found.layers] == ["CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert found.operations == model.counts["operations"]
    assert found.facts["weights"] == {"float32": 4 * model.counts["parameters"]}
    assert [layer.bytes for layer in found.layers] == [4 * (216 + 8), 4 * (1296 + 18), 8, 4 * (180 + 10), 0]


def test_smaller_types_make_smaller_files(tmp_path: Path) -> None:
    example = cnn(tmp_path / "model")
    half = quantize(TfliteFloat16(), example, tmp_path / "half")
    byte = quantize(TfliteWeights(), example, tmp_path / "byte")
    nibble = quantize(TfliteWeights(weights="int4"), example, tmp_path / "nibble")
    assert example.model.size > half.size > byte.size > nibble.size
    assert is_half(read(half.path)) and not is_quantized(read(half.path))
    assert {v.dtype for v in read(nibble.path).all_values if len(v.scales)} == {"int4"}
    for technique, made in ((TfliteInt8, half), (TfliteFloat16, half), (TfliteWeights, byte)):
        with pytest.raises(NotApplicable, match="float16" if made is half else "already quantized"):
            technique().requires(made, ONE)


def test_files_behind_the_model_are_kept(tmp_path: Path) -> None:
    example = cnn(tmp_path / "model")
    with zipfile.ZipFile(example.model.path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    made = quantize(TfliteWeights(), Example(formats.open(example.model.path), example.data), tmp_path / "made")
    with zipfile.ZipFile(made.path) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    assert answers(made, example.data)["scores"].shape == (24, 10)


def test_integer_ends_are_integers_in_the_file_only(tmp_path: Path) -> None:
    example = cnn(tmp_path / "model")
    made = quantize(TfliteInt8(integer_ends=True), example, tmp_path / "made")
    graph = read(made.path)
    assert {graph.values[at].dtype for at in (*graph.inputs.values(), *graph.outputs.values())} == {"int8"}
    expected, found = (answers(model, example.data)["scores"] for model in (example.model, made))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.02
    floats = read(quantize(TfliteInt8(), example, tmp_path / "floats").path)
    assert {floats.values[at].dtype for at in (*floats.inputs.values(), *floats.outputs.values())} == {"float32"}


def logits(folder: Path) -> Example:
    """The network without its softmax, which would hide small errors."""
    writer = tflites.cnn()
    del writer.graph.operators[-1], writer.graph.tensors[-1]
    writer.model.signatureDefs = []
    writer.ends(["image"], ["logits"], picture="image", scores="logits")
    return Example(tflites.opened(writer, folder), tflites.images())


@pytest.mark.parametrize("kind", [TfliteInt8, TfliteWeights])
def test_layers_that_stay_in_float_are_those_that_harm_most(tmp_path: Path, kind: type[Technique]) -> None:
    example = logits(tmp_path / "model")
    right = answers(example.model, example.data)["scores"]
    errors, kept = {}, {}
    for share in (0.0, 0.25):
        made = quantize(replace(kind(), keep=share), example, tmp_path / str(share))
        errors[share] = np.square(answers(made, example.data)["scores"] - right).mean()
        values = read(made.path).all_values
        kept[share] = {v.name for v in values if v.name.endswith("kernel") and v.dtype == "float32" and v.stored}
    assert kept[0.0] == set()
    assert len(kept[0.25]) == 1
    assert errors[0.25] < errors[0.0]


@pytest.mark.parametrize(
    "technique", [TfliteInt8(keep=0.5), TfliteWeights(keep=0.5, compute="float"), TfliteWeights(keep=0.5)], ids=str
)
def test_layers_that_share_weights_may_differ(tmp_path: Path, technique: Technique) -> None:
    writer, last = tflites.Writer(), "x"
    writer.weights("kernel", 6, 6)
    for layer in ("x", "one", "two", "three", "four"):
        writer.tensor(layer, (1, 6), free=(-1, 6))
        if layer != "x":
            writer.operator("FULLY_CONNECTED", [last, "kernel"], [layer], table="FullyConnectedOptions")
        last = layer
    writer.ends(["x"], [last])
    model = tflites.opened(writer, tmp_path / "model")
    data = Data({"x": np.random.default_rng(3).normal(size=(24, 6)).astype(np.float32)})
    made = quantize(technique, Example(model, data), tmp_path / "made")
    kinds = [v.dtype for v in read(made.path).all_values if v.stored and len(v.shape) == 2]
    assert sorted(kinds) == ["float32", "int8"]
    right = answers(model, data)["four"]
    assert np.abs(answers(made, data)["four"] - right).max() < 0.03 * np.abs(right).max()


@pytest.mark.parametrize(
    "technique",
    [TfliteInt8(activations="int16"), TfliteInt8(operators="weights"), TfliteInt8(ranges="average"),
     TfliteWeights(clip=True), TfliteWeights(compute="float"), TfliteWeights(weights="int4", compute="float")],
    ids=str,
)  # fmt: skip
def test_settings_change_the_file_and_keep_the_answers(tmp_path: Path, technique: Technique) -> None:
    example = logits(tmp_path / "model")
    made, plain = quantize(technique, example, tmp_path / "made"), quantize(type(technique)(), example, tmp_path / "p")
    assert made.digest() != plain.digest()
    right = answers(example.model, example.data)["scores"]
    error = np.abs(answers(made, example.data)["scores"] - right).max() / np.abs(right).max()
    assert error < (0.25 if {"int4", "average"} & set(technique.settings().values()) else 0.03)


def test_a_model_without_weights_and_a_passed_deadline_are_said(tmp_path: Path) -> None:
    writer = tflites.Writer()
    writer.tensor("x", (1, 4), free=(-1, 4))
    writer.tensor("y", (1, 4), free=(-1, 4))
    writer.operator("RELU", ["x"], ["y"])
    writer.ends(["x"], ["y"])
    with pytest.raises(NotApplicable, match="no convolution or matrix product"):
        TfliteFloat16().requires(tflites.opened(writer, tmp_path / "relu"), ONE)
    example = cnn(tmp_path / "cnn")
    for technique in (TfliteInt8(), TfliteWeights(keep=0.5)):
        with pytest.raises(TechniqueError, match="out of time"):
            apply(technique, example.model, Context(example.data, example.model, ONE, 0, tmp_path, deadline=0.0))


def test_phones_get_int8_and_float16_only(tmp_path: Path) -> None:
    model, phone = cnn(tmp_path).model, Target(threads=1, kind="mobile")
    for technique in (TfliteWeights(weights="int4"), TfliteInt8(activations="int16")):
        technique.requires(model, ONE)
        with pytest.raises(NotApplicable, match="phones compute fast in int8 and float16"):
            technique.requires(model, phone)
    for technique in (TfliteWeights(), TfliteInt8(), TfliteFloat16()):
        technique.requires(model, phone)


def test_a_phone_is_told_from_this_machine(tmp_path: Path) -> None:
    assert metrics.called_for(Target(threads=1, kind="mobile")) == ("size.compressed",)
    with contextlib.closing(RunDir(tmp_path / "run")) as run:
        request = prepare(
            run, cnn(tmp_path).model.path, tflites.images().inputs, "fidelity >= 0.9", metrics=(), label=None,
            slices=(), group=None, calibration=None, confirm=None, target=Target(threads=1, kind="mobile"),
            budget=Budget(60), seed=0, recipe=None, out=None,
        )  # fmt: skip
    assert request.target.formats == ("tflite",)
    with pytest.raises(InvalidPlan, match="nothing here makes that of a model in forest"):
        check_target(request.target, replace(cnn(tmp_path / "other").model, format=FOREST))
    assert any("not of a phone" in note for note in request.notes)


def test_a_bundle_is_measured_on_a_phone_and_verified_with_litert_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, phone = cnn(tmp_path / "given"), Target(threads=1, kind="mobile")
    made = bundle_of(tmp_path / "made", example.model, example.data.inputs, answers(example.model, example.data))
    example.data.save(tmp_path / "samples")
    source = Source(example.model, Litert(), phone, tmp_path / "samples")
    bundle = write(tmp_path / "bundle", source, {**made.manifest, "target": vars(phone)}, [])
    check_manifest(bundle.manifest)
    told = (bundle.folder / "device.md").read_text()
    assert "benchmark_model --graph=/data/local/tmp/model.tflite --num_threads=1" in told
    assert Litert().elsewhere(example.model, ONE) == ""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('tensorflow', 'ai_edge_quantizer', 'onnxruntime', 'openvino', 'torch'):\n"
        "    sys.modules[name] = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}")
    command = [Path(sys.executable).with_name("strop"), "verify", bundle.folder, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["verified"]["outputs"]["verdict"] == "same"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    example = cnn(tmp_path / "model")
    quantize(TfliteInt8(keep=0.25), example, tmp_path / "made")
    answers(example.model, example.data)
    assert capfd.readouterr() == ("", "")
