"""LiteRT: what it answers, and what goes along to a phone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

import tflites
from engine import bundle_of, check_manifest
from strop import metrics
from strop.bundle import Source, write
from strop.data import Data, match
from strop.errors import InvalidPlan, RunFailed, UnsupportedModel
from strop.model import FOREST, Model
from strop.prepare import Budget, check_target, prepare
from strop.rundir import RunDir
from strop.runtime import Runtime, predict
from strop.runtimes import Litert
from strop.target import Target
from strop.testing import Example, RuntimeCase


class TestLitert(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Litert

    def example(self, folder: Path) -> Example:
        return tflites.example(folder)

    def broken(self, folder: Path) -> Model:
        model = tflites.example(folder).model
        model.path.write_bytes(model.path.read_bytes()[:3000])
        return model


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
    example = tflites.example(tmp_path)
    expected = by_hand(example.data.inputs["picture"].astype(float))
    for batch in (1, 5, 24):  # the last call of 5 is smaller: the batch is free
        np.testing.assert_allclose(tflites.answers(example.model, example.data, batch)["scores"], expected, rtol=1e-5)


def test_quantized_ends_take_floats_or_their_own_integers(tmp_path: Path) -> None:
    model = tflites.opened(tflites.integers(), tmp_path)
    tensor = model.signature.inputs[0]
    assert (tensor.dtype, tensor.stored) == ("float32", "uint8")
    odd = np.array([[np.nan, np.inf, -np.inf, -0.0, 0.5 / 128, 1.0]], np.float32)  # between two steps, beyond the last
    runner = Litert().load(model, tflites.ONE)
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
    runner = Litert().load(model, tflites.ONE)
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


def test_operators_that_are_not_builtin_are_named_with_their_layers(tmp_path: Path) -> None:
    writer, last = tflites.integers(), "lit"
    for kind, layer in (("FlexErf", "odd"), ("FlexErf", "odder"), ("Mine", "own")):
        writer.tensor(layer, (1, 6), "uint8", free=(-1, 6), scale=1)
        writer.operator(kind, [last], [layer])
        last = layer
    writer.ends(["pixels"], [last])
    with pytest.raises(RunFailed, match=r"FlexErf \(odd, odder\); Mine \(own\)"):
        Litert().load(tflites.opened(writer, tmp_path), tflites.ONE)


def test_an_input_without_axes_is_handed_on(tmp_path: Path) -> None:
    writer = tflites.Writer()
    writer.tensor("x", (1, 3), free=(-1, 3))
    writer.tensor("factor", ())
    writer.tensor("y", (1, 3), free=(-1, 3))
    writer.operator("MUL", ["x", "factor"], ["y"], table="MulOptions")
    writer.ends(["x", "factor"], ["y"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    runner = Litert().load(tflites.opened(writer, tmp_path), tflites.ONE)
    np.testing.assert_array_equal(runner({"x": x, "factor": np.array(2, np.float32)})["y"], 2 * x)


def test_a_shape_that_does_not_fit_is_said_and_the_next_runs(tmp_path: Path) -> None:
    example = tflites.example(tmp_path)
    runner = Litert().load(example.model, tflites.ONE)
    picture = example.data.inputs["picture"]
    with pytest.raises(RunFailed, match="LiteRT can't run"):
        runner({"picture": picture[:1, :, :, :2]})
    np.testing.assert_allclose(
        runner({"picture": picture[:2]})["scores"], by_hand(picture[:2].astype(float)), rtol=1e-5
    )


def test_a_bundle_is_measured_on_a_phone_and_verified_with_litert_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, phone = tflites.example(tmp_path / "given"), Target(threads=1, kind="mobile")
    made = bundle_of(
        tmp_path / "made", example.model, example.data.inputs, tflites.answers(example.model, example.data)
    )
    example.data.save(tmp_path / "samples")
    source = Source(example.model, Litert(), phone, tmp_path / "samples")
    bundle = write(tmp_path / "bundle", source, {**made.manifest, "target": vars(phone)}, [], {})
    check_manifest(bundle.manifest)
    told = (bundle.folder / "device.md").read_text()
    assert "benchmark_model --graph=/data/local/tmp/model.tflite --num_threads=1" in told
    assert Litert().elsewhere(example.model, tflites.ONE) == ""
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


def test_a_phone_is_told_from_this_machine(tmp_path: Path) -> None:
    assert metrics.called_for(Target(threads=1, kind="mobile")) == ("size.compressed",)
    with contextlib.closing(RunDir(tmp_path / "run")) as run:
        request = prepare(
            run, tflites.example(tmp_path).model.path, tflites.images().inputs, "fidelity >= 0.9", metrics=(),
            label=None, slices=(), group=None, calibration=None, confirm=None, target=Target(threads=1, kind="mobile"),
            budget=Budget(60), seed=0, recipe=None, out=None,
        )  # fmt: skip
    assert request.target.formats == ("tflite",)
    with pytest.raises(InvalidPlan, match="nothing here makes that of a model in forest"):
        check_target(request.target, replace(tflites.example(tmp_path / "other").model, format=FOREST))
    assert any("not of a phone" in note for note in request.notes)
