"""Smaller types in .tflite: what each technique owes, and what each setting does."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

from sklearn.cluster import KMeans

import tflites
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable, TechniqueError
from strop.formats.tflite import is_half, is_quantized, read
from strop.model import Model
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import ClusterWeights, TfliteFloat16, TfliteInt8, TfliteWeights
from strop.techniques import _tflite as tool
from strop.techniques.cluster_tflite import clustered
from strop.testing import Example, TechniqueCase

RNG = np.random.default_rng


class OfTflite(TechniqueCase):
    def example(self, folder: Path) -> Example:
        return tflites.example(folder)

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


class TestClusters(OfTflite):
    technique = ClusterWeights
    tolerance = 0.05


def test_weights_share_values_and_pack_better(tmp_path: Path) -> None:
    example = tflites.example(tmp_path / "model")
    for clusters in (16, 64):
        made = tflites.quantize(ClusterWeights(clusters=clusters), example, tmp_path / f"{clusters}")
        assert made.size == pytest.approx(example.model.size, abs=256)
        assert made.compressed < 0.65 * example.model.compressed
        bytes_ = tflites.quantize(TfliteWeights(), replace(example, model=made), tmp_path / f"bytes-{clusters}")
        plain = tflites.quantize(TfliteWeights(), example, tmp_path / f"plain-{clusters}")
        assert bytes_.compressed < plain.compressed


def test_clusters_are_those_of_k_means() -> None:
    weights = RNG(0).standard_t(4, 5000).astype(np.float32)
    made = clustered(weights, 16)
    assert len(np.unique(made)) <= 16
    known = KMeans(16, n_init=3, random_state=0).fit(weights[:, None].astype(np.float64))
    assert np.mean((made - weights) ** 2) <= 1.05 * known.inertia_ / len(weights)
    weights[:500] = 0
    made = clustered(weights, 16)
    assert (made[:500] == 0).all()
    assert len(np.unique(made)) <= 16
    np.testing.assert_array_equal(clustered(np.full(2000, 3, np.float32), 16), np.full(2000, 3))
    odd = np.array([np.nan, np.inf, 1.0], np.float32)
    np.testing.assert_array_equal(clustered(odd, 16), odd)


def test_vectors_that_are_alike_are_written_once(tmp_path: Path) -> None:
    """The two convolutions and the dense layer have zero points of their own lengths, their biases the same again."""
    example = tflites.example(tmp_path / "model")
    made = tflites.quantize(TfliteInt8(), example, tmp_path / "made")
    live = tool.flatbuffers.read_model_from_bytearray(bytearray(made.path.read_bytes()))
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(tool.flatbuffers.convert_object_to_bytearray(live))
    assert plain.stat().st_size - made.size > 8 * (8 + 18 + 10)
    before, after = (tflites.answers(model, example.data) for model in (formats.open(plain), made))
    assert {name: array.tobytes() for name, array in before.items()} == {n: a.tobytes() for n, a in after.items()}


def test_smaller_types_make_smaller_files(tmp_path: Path) -> None:
    example = tflites.example(tmp_path / "model")
    half = tflites.quantize(TfliteFloat16(), example, tmp_path / "half")
    byte = tflites.quantize(TfliteWeights(), example, tmp_path / "byte")
    nibble = tflites.quantize(TfliteWeights(weights="int4"), example, tmp_path / "nibble")
    assert example.model.size > half.size > byte.size > nibble.size
    assert is_half(read(half.path)) and not is_quantized(read(half.path))
    assert {v.dtype for v in read(nibble.path).all_values if len(v.scales)} == {"int4"}
    for technique, made in ((TfliteInt8, half), (TfliteFloat16, half), (TfliteWeights, byte)):
        with pytest.raises(NotApplicable, match="float16" if made is half else "already quantized"):
            technique().requires(made, tflites.ONE)


def test_files_behind_the_model_are_kept(tmp_path: Path) -> None:
    example = tflites.example(tmp_path / "model")
    with zipfile.ZipFile(example.model.path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    made = tflites.quantize(TfliteWeights(), Example(formats.open(example.model.path), example.data), tmp_path / "made")
    with zipfile.ZipFile(made.path) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    assert tflites.answers(made, example.data)["scores"].shape == (24, 10)


def test_integer_ends_are_integers_in_the_file_only(tmp_path: Path) -> None:
    example = tflites.example(tmp_path / "model")
    made = tflites.quantize(TfliteInt8(integer_ends=True), example, tmp_path / "made")
    graph = read(made.path)
    assert {graph.values[at].dtype for at in (*graph.inputs.values(), *graph.outputs.values())} == {"int8"}
    expected, found = (tflites.answers(model, example.data)["scores"] for model in (example.model, made))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.02
    floats = read(tflites.quantize(TfliteInt8(), example, tmp_path / "floats").path)
    assert {floats.values[at].dtype for at in (*floats.inputs.values(), *floats.outputs.values())} == {"float32"}


def test_a_layer_may_have_one_scale_and_every_channel_of_its_bias_the_same(tmp_path: Path) -> None:
    example = tflites.example(tmp_path / "model")
    whole = tflites.quantize(TfliteInt8(), example, tmp_path / "whole")
    made = tflites.quantize(TfliteInt8(per_channel=False), example, tmp_path / "made")
    scales = {v.name: len(v.scales) for v in read(made.path).all_values if v.stored and len(v.scales)}
    assert len(scales) == 6 and set(scales.values()) == {1}
    assert whole.size - made.size > 8 * (8 + 18 + 10)


@pytest.mark.parametrize("kind", [TfliteInt8, TfliteWeights])
def test_layers_that_stay_in_float_are_those_that_harm_most(tmp_path: Path, kind: type[Technique]) -> None:
    example = tflites.logits(tmp_path / "model")
    right = tflites.answers(example.model, example.data)["scores"]
    errors, kept = {}, {}
    for share in (0.0, 0.25):
        made = tflites.quantize(replace(kind(), keep=share), example, tmp_path / str(share))
        errors[share] = np.square(tflites.answers(made, example.data)["scores"] - right).mean()
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
    made = tflites.quantize(technique, Example(model, data), tmp_path / "made")
    kinds = [v.dtype for v in read(made.path).all_values if v.stored and len(v.shape) == 2]
    assert sorted(kinds) == ["float32", "int8"]
    right = tflites.answers(model, data)["four"]
    assert np.abs(tflites.answers(made, data)["four"] - right).max() < 0.03 * np.abs(right).max()


@pytest.mark.parametrize(
    "technique",
    [TfliteInt8(activations="int16"), TfliteInt8(operators="weights"), TfliteInt8(ranges="average"),
     TfliteInt8(per_channel=False), TfliteInt8(per_channel=False, activations="int16"),
     TfliteWeights(clip=True), TfliteWeights(compute="float"), TfliteWeights(weights="int4", compute="float")],
    ids=str,
)  # fmt: skip
def test_settings_change_the_file_and_keep_the_answers(tmp_path: Path, technique: Technique) -> None:
    example = tflites.logits(tmp_path / "model")
    made = tflites.quantize(technique, example, tmp_path / "made")
    plain = tflites.quantize(type(technique)(), example, tmp_path / "plain")
    assert made.digest() != plain.digest()
    right = tflites.answers(example.model, example.data)["scores"]
    error = np.abs(tflites.answers(made, example.data)["scores"] - right).max() / np.abs(right).max()
    assert error < (0.25 if {"int4", "average"} & set(technique.settings().values()) else 0.03)


def test_a_model_without_weights_and_a_passed_deadline_are_said(tmp_path: Path) -> None:
    writer = tflites.Writer()
    writer.tensor("x", (1, 4), free=(-1, 4))
    writer.tensor("y", (1, 4), free=(-1, 4))
    writer.operator("RELU", ["x"], ["y"])
    writer.ends(["x"], ["y"])
    with pytest.raises(NotApplicable, match="no convolution or matrix product"):
        TfliteFloat16().requires(tflites.opened(writer, tmp_path / "relu"), tflites.ONE)
    example = tflites.example(tmp_path / "cnn")
    for technique in (TfliteInt8(), TfliteWeights(keep=0.5)):
        late = Context(example.data, example.model, tflites.ONE, 0, tmp_path, deadline=0.0)
        with pytest.raises(TechniqueError, match="out of time"):
            apply(technique, example.model, late)


def test_phones_get_int8_and_float16_only(tmp_path: Path) -> None:
    model, phone = tflites.example(tmp_path).model, Target(threads=1, kind="mobile")
    for technique in (TfliteWeights(weights="int4"), TfliteInt8(activations="int16")):
        technique.requires(model, tflites.ONE)
        with pytest.raises(NotApplicable, match="phones compute fast in int8 and float16"):
            technique.requires(model, phone)
    for technique in (TfliteWeights(), TfliteInt8(), TfliteFloat16()):
        technique.requires(model, phone)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    example = tflites.example(tmp_path / "model")
    tflites.quantize(TfliteInt8(keep=0.25), example, tmp_path / "made")
    tflites.answers(example.model, example.data)
    assert capfd.readouterr() == ("", "")
