"""Verify: changed numerics are found, told apart from noise, and explained; limits are judged as far as they can be."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

import strop
from engine import bundle_of
from models import build
from strop import formats, jobs
from strop.cli import app
from strop.comparison import host
from strop.data import Data, split
from strop.drift import causes, differences
from strop.errors import InvalidData, InvalidGoal
from strop.formats.torch import load
from strop.model import Model
from strop.opened import Environment
from strop.prepare import environment, unseen_digest
from strop.target import Target
from strop.testing import fake_model, registered
from strop.verification import enough_for_a_call, explain

SAMPLES = 24
VNNI = ["avx2", "avx512_vnni", "avx512f", "f16c", "fma"]
AVX2 = ["avx2", "f16c", "fma"]


# Int8 whose sums saturate


def int8_classifier(folder: Path) -> tuple[Model, np.ndarray, np.ndarray, np.ndarray]:
    """A quantized classifier of large weights and activations, as dynamic quantization makes it: uint8 times int8.

    Returns:
        The model, samples, and what a CPU answers that sums products in 32 bits, and one that sums pairs of them in 16.
    """
    rng = np.random.default_rng(0)
    weights = rng.integers(60, 128, (64, 8)).astype(np.int8)
    weights[1::2, ::2] *= -1  # half of the classes: there no pair saturates
    proto = build(
        """g (float[N, 64] x) => (float[N, 8] y) {
            q = QuantizeLinear(x, scale, zero)
            s = MatMulInteger(q, w, zero, wzero)
            f = Cast <to = 1> (s)
            y = Mul(f, back)
        }""",
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.float32(1), "scale"),
            numpy_helper.from_array(np.uint8(0), "zero"),
            numpy_helper.from_array(np.int8(0), "wzero"),
            numpy_helper.from_array(np.float32(1e-4), "back"),
        ],
    )
    onnx.save(proto, folder / "model.onnx")
    x = rng.integers(100, 256, (SAMPLES, 64)).astype(np.float32)
    products = x.astype(np.int32)[:, :, None] * weights.astype(np.int32)
    exact = products.sum(axis=1)
    pairs = np.clip(products[:, ::2] + products[:, 1::2], -(1 << 15), (1 << 15) - 1)  # vpmaddubsw
    saturated = pairs.sum(axis=1)
    scaled = [(sums * np.float32(1e-4)).astype(np.float32) for sums in (exact, saturated)]
    return formats.open(folder / "model.onnx"), x, scaled[0], scaled[1]


def test_int8_sums_that_saturate_elsewhere_are_found_and_explained(tmp_path: Path) -> None:
    """A bundle made on a CPU of the other kind; the outputs that such a CPU gives are computed, not measured."""
    model, x, exact, saturated = int8_classifier(tmp_path)
    saturates = Target().int8_saturates
    theirs, sets = (exact, VNNI) if saturates else (saturated, AVX2)
    bundle = bundle_of(
        tmp_path / "b", model, {"x": x}, {"y": theirs}, "accuracy >= 0.5", cpu="Another CPU", instruction_sets=sets
    )
    found = strop.verify(bundle)
    outputs = found["outputs"]
    assert found["verdict"] == "broken" and outputs["verdict"] == "different"
    here = bundle.predict({"x": x})["y"]
    np.testing.assert_allclose(here, saturated if saturates else exact, rtol=1e-5)
    off = np.abs(here - theirs).max(axis=1) / np.abs(theirs).max()
    assert outputs["difference"]["y"] == pytest.approx(off.max(), rel=1e-4) and off.max() > 0.1
    assert (outputs["samples"], outputs["off"]) == (SAMPLES, (off > 1e-3).sum())
    assert outputs["changed"] == pytest.approx((here.argmax(1) != theirs.argmax(1)).mean()) and outputs["changed"] > 0
    cause = outputs["causes"][0]
    assert "products of uint8 and int8 in 16 bits" in cause and "avx512_vnni" in cause and "Search again here" in cause
    assert ("reduce_range" in cause) == saturates
    told = {row["what"]: (row["bundle"], row["here"]) for row in found["environment"]["differences"]}
    assert told["cpu"] == ("Another CPU", environment()["cpu"])
    assert told["avx512_vnni"] == (("yes", None) if saturates else (None, "yes"))

    said = verified("b", tmp_path)
    assert said.exit_code == 3
    for words in ("24 of 24 samples are not as stored", "predictions changed", "likely cause", "cpu was Another CPU"):
        assert words in said.stderr, said.stderr


def test_a_bundle_is_the_same_where_it_was_made(tmp_path: Path) -> None:
    model, x, exact, saturated = int8_classifier(tmp_path)
    ours = saturated if Target().int8_saturates else exact
    found = strop.verify(bundle_of(tmp_path / "b", model, {"x": x}, {"y": ours}, "size < 1 MB"))
    assert found["verdict"] == "met" and found["outputs"]["verdict"] == "same"
    assert found["outputs"]["causes"] == [] and found["environment"]["differences"] == []
    assert found["outputs"]["changed"] is None, "nothing says that these are classes"


def test_waiting_for_others_who_measure_is_no_time_of_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, exact, saturated = int8_classifier(tmp_path)
    ours, run = saturated if Target().int8_saturates else exact, jobs.run
    monkeypatch.setattr(jobs, "run", lambda *job, **how: replace(run(*job, **how), waited=1e6))
    found = strop.verify(bundle_of(tmp_path / "b", model, {"x": x}, {"y": ours}, "size < 1 MB"))
    assert found["seconds"]["limits"] < -9e5 and found["seconds"]["outputs"] > 0


@pytest.fixture
def verified_fake(tmp_path: Path, quick_looks: None) -> Iterator[tuple[Model, np.ndarray, np.ndarray]]:
    """A linear model, samples, and its own answers."""
    with registered(tmp_path / "plugins"):
        model = fake_model(tmp_path / "given", shape=(6, 4), seconds=0.001)  # long, beside what halts it
        weights = np.asarray(json.loads(model.path.read_text())["weights"], np.float32)
        x = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
        yield model, x, x @ weights


def verified(*words: object) -> Result:
    *given, folder = words
    return CliRunner().invoke(app, ["verify", str(Path(str(folder)) / str(given[0])), *map(str, given[1:])])


def altered(y: np.ndarray, kind: str) -> np.ndarray:
    y, largest = y.copy(), np.abs(y).max()
    first = y[0].argmax()
    if kind == "summed in another order":
        return y * np.float32(1 + 3e-6)
    if kind == "rounded otherwise in two samples":
        y[:2] += 0.01 * largest * np.eye(4, dtype=np.float32)[y[:2].argmax(1)]  # for the winner: nothing flips
    elif kind == "a prediction changed":
        y[0, (first + 1) % 4] = y[0, first] + 0.01 * largest
    elif kind == "far off":
        y[3, y[3].argmax()] += 0.2 * largest
    elif kind == "NaN":
        y[5, 0] = np.nan
    elif kind == "infinity":
        y[5, 0] = np.inf
    elif kind == "shape":
        return y[:, :3]
    return y


@pytest.mark.parametrize(
    ("kind", "verdict", "off", "changed", "whole"),
    [
        ("nothing", "same", 0, 0, "met"),
        ("summed in another order", "same", 0, 0, "met"),
        ("rounded otherwise in two samples", "close", 2, 0, "inconclusive"),
        ("a prediction changed", "different", 1, 1, "broken"),
        ("far off", "different", 1, 0, "broken"),
        ("NaN", "different", 1, None, "broken"),
        ("infinity", "different", 1, None, "broken"),
        ("shape", "different", 40, None, "broken"),
    ],
)
def test_noise_is_told_from_other_numerics(
    verified_fake: Any, tmp_path: Path, kind: str, verdict: str, off: int, changed: int | None, whole: str
) -> None:
    model, x, y = verified_fake
    found = strop.verify(bundle_of(tmp_path / "b", model, {"x": x}, {"y": altered(y, kind)}, "agreement >= 0.9"))
    outputs = found["outputs"]
    assert (outputs["verdict"], outputs["off"], outputs["samples"]) == (verdict, off, 40), outputs
    if changed is not None:
        assert outputs["changed"] == pytest.approx(changed / 40)
    assert found["verdict"] == ("inconclusive" if whole == "met" else whole), "the limit needs data"
    if verdict != "same":
        assert "nothing that strop records of CPU and versions differs" in outputs["causes"][0]
    if kind in ("NaN", "infinity", "shape"):
        assert "in shape, or in NaN and infinity" in outputs["said"]
        told = json.loads(verified("b", "--json", tmp_path).stdout)
        assert told["verified"]["outputs"]["difference"]["y"] is None
        assert told["verdict"] == "broken", "of this verification: the manifest says met"


def test_nan_is_as_stored_where_it_was_stored(tmp_path: Path) -> None:
    with registered(tmp_path / "plugins"):
        model = fake_model(tmp_path / "given", shape=(2, 2))
        plain = json.loads(model.path.read_text())
        model.path.write_text(json.dumps({**plain, "weights": [[1e30, 1.0], [1e30, float("nan")]]}))
        x = np.array([[1e30, 1], [1, 1]], np.float32)
        with np.errstate(all="ignore"):
            y = x @ np.array([[1e30, 1.0], [1e30, np.nan]], np.float32)
        assert np.isinf(y).any() and np.isnan(y).any()
        found = strop.verify(bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}))
        assert found["verdict"] == "met" and found["outputs"]["difference"] == {"y": 0.0}


def test_close_outputs_are_met_once_quality_is_judged_anew(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    stored = altered(y, "rounded otherwise in two samples")
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": stored}, "accuracy >= 0.5")
    assert strop.verify(bundle)["verdict"] == "inconclusive"
    found = strop.verify(bundle, data={"x": x, "labels": y.argmax(1)})
    assert found["outputs"]["verdict"] == "close" and found["verdict"] == "met"


# Limits


def test_limits_say_what_they_need(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    limits = (
        "size < 1 MB", "size <= 200% of original", "accuracy >= 0.5", "accuracy >= 90% of original",
        "drop(accuracy) <= 0.1", "agreement >= 0.5", "worst_slice(accuracy) >= 0.1", "nowhere:code >= 0.1",
    )  # fmt: skip
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, *limits)
    data = {"x": x, "labels": y.argmax(1), "sex": np.arange(40) // 39}

    def needs(**given: Any) -> list[list[str]]:
        return [limit.get("needs", []) for limit in strop.verify(bundle, **given)["limits"]]

    original, samples, own, column = "original=MODEL", "data=DATA", "metric='nowhere:code'", "slices=[NAME]"
    assert needs() == [
        [], [original], [samples], [original, samples], [original, samples], [original, samples], [samples, column],
        [samples, own],
    ]  # fmt: skip
    assert needs(data=data) == [[], [original], [], [original], [original], [original], [column], [own]]
    assert needs(original=model.path) == [
        [], [], [samples], [samples], [samples], [samples], [samples, column], [samples, own]
    ]  # fmt: skip
    assert needs(original=model.path, data=data, slices=["sex"]) == [[], [], [], [], [], [], [], [own]]
    with pytest.raises(InvalidGoal, match="nowhere"):
        strop.verify(bundle, data=data, metric=["nowhere:code"])


def test_calls_carry_the_batch_of_the_bundle_though_it_stores_fewer_samples() -> None:
    stored = Data({"x": np.arange(3)})
    assert enough_for_a_call(stored, Target(threads=1, batch=8)).batch(0, 9)["x"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len(enough_for_a_call(stored, Target(threads=1, batch=2))) == 3


def test_an_open_limit_says_why_or_what_would_decide() -> None:
    told = {
        "limit": "worst_slice(accuracy) >= 0.9", "verdict": "inconclusive", "value": np.nan, "low": -np.inf,
        "high": np.inf, "unit": "", "ratio": None, "slice": "sex=f", "needed": None,
        "why": "5 samples, and a slice needs 30",
    }  # fmt: skip
    assert explain(told).endswith("in sex=f; 5 samples, and a slice needs 30")
    assert explain({**told, "why": "", "needed": 1200}).endswith("about 1,200 samples would decide")


def test_limits_are_judged_on_this_machine(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    wrong = (y.argmax(1) + (np.arange(40) % 2)) % 4
    limits = ("latency.p50 < 1 ns", "size < 1 B", "accuracy >= 0.9", "latency.p50 <= 1000x of original")
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, *limits)
    found = strop.verify(bundle, model.path, {"x": x, "labels": wrong})
    assert [limit["verdict"] for limit in found["limits"]] == ["broken", "broken", "broken", "met"]
    assert found["verdict"] == "broken" and found["outputs"]["verdict"] == "same"
    size, accuracy, latency = found["limits"][1:]
    assert (size["value"], size["unit"]) == (model.size, "bytes") and accuracy["value"] == 0.5
    assert 0.3 < latency["ratio"]["value"] < 3
    np.savez(tmp_path / "d.npz", x=x, labels=wrong)
    bundle_of(tmp_path / "c", model, {"x": x}, {"y": y}, *limits[1:3])
    said = verified("c", "--data", tmp_path / "d.npz", tmp_path)
    assert said.exit_code == 3 and "broken       accuracy >= 0.9: 0.5000 (" in said.stderr
    assert "Search again on this machine, or loosen the limit" in said.stderr


def test_the_objective_is_compared_again_or_it_is_said_why_not(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, "size < 1 MB")
    alone = strop.verify(bundle)["objective"]
    assert (alone["metric"], alone["ratio"], alone["why"]) == ("latency.p50", None, "give original=MODEL")
    found = strop.verify(bundle, model.path)
    assert 0.3 < found["objective"]["ratio"]["value"] < 3 and found["verdict"] == "met"
    said = verified("b", tmp_path)
    assert "latency.p50 was not compared with the original's: give --original MODEL" in said.stderr
    told = json.loads(verified("b", "--json", tmp_path).stdout)
    assert told["verdict"] == told["verified"]["verdict"] and told["winner"] == bundle.manifest["winner"]


def test_of_the_data_of_the_search_only_the_confirm_split_judges(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    labels = y.argmax(1)
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, "accuracy >= 0.5")
    confirm = split(Data({"x": x}, labels=labels), 0).confirm
    hashes = {**bundle.manifest["hashes"], "confirm": unseen_digest(confirm)}
    bundle = dataclasses.replace(bundle, manifest={**bundle.manifest, "hashes": hashes})
    same = strop.verify(bundle, data={"x": x, "labels": labels, "sex": np.arange(40) % 2}, slices=["sex"])
    assert same["judged_on"] == "the 20 confirm samples of the search, of the 40 given"
    taken = {"x": confirm.batch(0, 20)["x"], "labels": confirm.label_array()}
    assert "which are the confirm data of the search" in strop.verify(bundle, data=taken)["judged_on"]
    other = strop.verify(bundle, data={"x": x + 1, "labels": labels})
    assert other["judged_on"].startswith("all 40 samples given, which are not recognized as the data of the search")


def test_a_bundle_for_more_threads_than_there_are_runs(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, "size < 1 MB", "size <= 1x of original")
    manifest = {**bundle.manifest, "target": vars(Target(threads=999))}
    found = strop.verify(dataclasses.replace(bundle, manifest=manifest), model.path)
    assert found["verdict"] == "met"


def test_the_weights_of_an_original_are_filled_in(
    verified_fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unfilled.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(6, 4)\n")
    torch.save(torch.nn.Linear(6, 4).state_dict(), tmp_path / "w.pth")
    hosted = host("unfilled:make", tmp_path / "given", Target(threads=1), weights=tmp_path / "w.pth")
    assert torch.equal(load(hosted.model).weight, torch.load(tmp_path / "w.pth", weights_only=True)["weight"])
    model, x, y = verified_fake
    bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, "size < 1 MB")
    for words, said in (
        (["verify", "b"], "weights are those of the original"), (["benchmark", "b"], "b is a bundle"),
        (["compare", "b", "b", "--data", "d.npz"], "b is a bundle"),
        (["verify", "b", "--original", "b"], "b is a bundle"),
    ):  # fmt: skip
        with contextlib.chdir(tmp_path):
            refused = CliRunner().invoke(app, [*words, "--weights", "w.pth"])
        assert refused.exit_code == 2 and said in refused.stderr, refused.stderr


# What can't be verified


def test_an_original_or_data_of_another_kind_are_named(verified_fake: Any, tmp_path: Path) -> None:
    model, x, y = verified_fake
    bundle = bundle_of(tmp_path / "b", model, {"x": x}, {"y": y}, "accuracy >= 90% of original")
    narrow = fake_model(tmp_path / "narrow", shape=(5, 4))
    with pytest.raises(InvalidData, match=r"x: float32\[N, 5\].*'x' in the data has the shape \[40, 6\]"):
        strop.verify(bundle, narrow.path, {"x": x, "labels": y.argmax(1)})
    with pytest.raises(InvalidData, match=r"x: float32\[N, 6\].*\[40, 5\]"):
        strop.verify(bundle, model.path, {"x": x[:, :5], "labels": y.argmax(1)})
    with pytest.raises(InvalidData, match="accuracy needs labels"):
        strop.verify(bundle, model.path, {"x": x})
    onnx_model, *_ = int8_classifier(tmp_path)
    with pytest.raises(InvalidData, match="both models must have the same inputs and outputs"):
        strop.verify(bundle_of(tmp_path / "c", onnx_model, {"x": np.ones((9, 64), np.float32)},
                               {"y": np.ones((9, 8), np.float32)}, "size < 2x of original"),
                     _with_other_names(tmp_path))  # fmt: skip


def _with_other_names(folder: Path) -> Path:
    onnx.save(build("g (float[N, 64] z) => (float[N, 64] y) { y = Relu(z) }", []), folder / "other.onnx")
    return folder / "other.onnx"


# Causes


HERE = Environment("CPU", 2, tuple(AVX2), "Linux", "3.11.7", {"onnxruntime": "1.32.0", "optuna": "5.0.0"})


def made(**changes: Any) -> Environment:
    return dataclasses.replace(HERE, **changes)


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (made(instruction_sets=(*VNNI,)), HERE, ["avx512_vnni, which sums them in 32.*reduce_range"]),
        (HERE, made(instruction_sets=(*AVX2, "amx_int8")), ["made on a CPU that sums.*amx_int8.*all 8 bits"]),
        (made(instruction_sets=(*AVX2, "avx512_bf16")), HERE, ["bfloat16 only where the bundle was made"]),
        (made(packages={"onnxruntime": "1.20.0"}), HERE, [r"onnxruntime 1\.20\.0, and here is 1\.32\.0"]),
        (made(packages={"onnxruntime": "1.32.0"}), HERE, ["CPU or the system differs"]),
        (made(instruction_sets=("asimd", "i8mm")), made(instruction_sets=("asimd",)), ["CPU or the system differs"]),
        (made(instruction_sets=(*VNNI,)), made(instruction_sets=(*AVX2, "avx_vnni")), ["CPU or the system differs"]),
        (HERE, HERE, ["nothing that strop records"]),
        (made(instruction_sets=(*VNNI,), packages={}), HERE, ["16 bits", "onnxruntime None"]),
    ],
)
def test_causes(then: Environment, now: Environment, said: list[str]) -> None:
    import re

    found = causes(then, now, "onnxruntime")
    assert len(found) == len(said), found
    for words, sentence in zip(said, found, strict=True):
        assert re.search(words, sentence), sentence


def test_differences_are_rows() -> None:
    then = made(cpu="Other", instruction_sets=(*AVX2, "avx512f"), packages={"onnxruntime": "1.32.0", "nncf": "3.4.0"})
    assert differences(then, HERE) == [
        {"what": "cpu", "bundle": "Other", "here": "CPU"},
        {"what": "avx512f", "bundle": "yes", "here": None},
        {"what": "nncf", "bundle": "3.4.0", "here": None},
        {"what": "optuna", "bundle": None, "here": "5.0.0"},
    ]
    assert differences(HERE, HERE) == []
