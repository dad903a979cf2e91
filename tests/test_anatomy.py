"""Anatomy: what is handed over is taken apart in the time that is left, and drawn; a search never fails for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from engine import mutations
from forests import grown
from models import RNG, cnn
from strop import explain, formats
from strop.anatomy import take_apart
from strop.data import Data
from strop.dataflow import Group
from strop.explanation import explained
from strop.formats._onnx_unfused import unfused
from strop.formats.forest import save
from strop.insight import Peaks
from strop.insight.opened import Faithful
from strop.pipeline import _anatomy
from strop.plan import Candidate
from strop.reading import read_for
from strop.report.why import why
from strop.runtimes import find
from strop.server import Hosted
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import OptimizeOnnx, StaticInt8, ToOpenvino

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.usefixtures("quick_looks")
MANIFEST = {"without": [], "goal": {"objective": "latency.p50"}}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hosted, Hosted, Candidate, Path]:
    return quantized(tmp_path_factory.mktemp("sides"))


def quantized(folder: Path) -> tuple[Hosted, Hosted, Candidate, Path]:
    """A network and its int8, with what made that, and samples."""
    target, runtime = Target(threads=1), find("onnxruntime")()
    onnx.save(cnn(), folder / "model.onnx")
    model = formats.open(folder / "model.onnx")
    data = read_for(model.signature, {"image": RNG(1).normal(size=(32, 3, 16, 16)).astype(np.float32)})
    data.save(folder / "data")
    (folder / "made").mkdir()
    made = apply(StaticInt8(), model, Context(data, model, target, 0, folder / "made"))
    candidate = Candidate((StaticInt8(),), runtime)
    return Hosted(model, runtime, target), Hosted(made, runtime, target), candidate, folder / "data"


def test_each_layer_is_told_of_and_drawn(
    sides: tuple[Hosted, Hosted, Candidate, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Peaks("onnxruntime", 1, {"f32": 1e11, "int8": 4e11}, 1e10, 1e11, 1 << 20, 1 << 25, 1e-6)
    monkeypatch.setattr("strop.anatomy.peaks", lambda runtime, target, anew: known)
    found = take_apart(*sides, seconds=600)
    assert found["why_not"] == []
    assert [one["value"] for one in found["explained"]["layers"]] == ["r", "p", "s", "f", "scores"]
    assert found["profile"]["layers"][0]["operator"] == "overhead" and len(found["profile"]["layers"]) > 3
    html = why(MANIFEST, json.loads(json.dumps(found)))
    for said in (
        "Where the error comes from", "Where the time of a call goes", "bound by", "share of a call",
        "operations a second", "the most in int8",
    ):  # fmt: skip
        assert said in html
    assert "What was not told" not in html
    first = found["explained"]["layers"][0]
    heads = "<th>off by itself</th><th>dB</th><th>cosine</th><th>off so far</th><th>dB</th><th>cosine</th>"
    assert heads in html.replace(' scope="col"', "")
    for side in ("introduced", "accumulated"):
        for cell in (f"{first[side]['sqnr']:.1f}", f"{first[side]['cosine']:.4f}"):
            assert f">{cell}</td>" in html
    assert "mix" not in found


def test_layers_whose_values_are_integers_only_are_told_of_too(
    sides: tuple[Hosted, Hosted, Candidate, Path], tmp_path: Path
) -> None:
    """ONNX Runtime's own optimizer leaves no floats between them: they are restored under the names that they had."""
    original, made, _, data = sides
    fused = apply(OptimizeOnnx(), made.model, Context(Data.load(data), made.model, made.target, 0, tmp_path))
    kinds = [node.op_type for node in onnx.load(fused.path).graph.node]
    assert "QLinearConv" in kinds and "Conv" not in kinds
    opened = unfused(onnx.load(fused.path))
    onnx.save(opened, tmp_path / "opened.onnx")
    feed = Data.load(data).batch(0, 8)
    answers = [onnxruntime.InferenceSession(str(file)).run(None, feed)
               for file in (fused.path, tmp_path / "opened.onnx")]  # fmt: skip
    np.testing.assert_array_equal(*answers)
    names = [{value for node in one.graph.node for value in node.output} for one in (onnx.load(fused.path), opened)]
    assert {"r", "s", "f"} <= names[1] - names[0]
    found = explain(original.model.path, fused.path, dict(Data.load(data).inputs), target=made.target)
    assert len(found["layers"]) >= 4 and {one["precision"] for one in found["layers"]} >= {"int8"}


def test_what_an_older_strop_did_not_tell_is_left_out_and_nothing_else(
    sides: tuple[Hosted, Hosted, Candidate, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strop.anatomy.peaks", lambda runtime, target, anew: None)
    found = json.loads(json.dumps(take_apart(*sides, seconds=600)))
    found["explained"]["floats"] = [{"layer": "s", "operator": "Softmax", "why": "it is one", "alone": None}]
    whole = why(MANIFEST, found)
    assert "Left out" not in whole
    for what, older in mutations(found):
        if isinstance(older, dict) and older.keys() <= found.keys() and len(older) > 2:
            assert "How each layer bears int8" in why(MANIFEST, older) or what.startswith("sensitivity"), what
    for one in found["explained"]["floats"] + found["sensitivity"]["groups"]:
        del one["alone"]
    html = why(MANIFEST, found)
    left_out = '<p class="note">Left out: the strop that wrote this told it otherwise (KeyError'
    for head in ("What stayed in floats", "How each layer bears int8"):
        assert f"<h3>{head}</h3>{left_out}" in html
    assert html.count("<h3>") == whole.count("<h3>") and html.count("<figure") == whole.count("<figure") - 1


def test_a_mix_says_why_each_layer_has_its_precision(
    sides: tuple[Hosted, Hosted, Candidate, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strop.anatomy.peaks", lambda runtime, target, anew: None)
    original, made, candidate, data = sides
    names = [node.name for node in onnx.load(made.model.path).graph.node if node.op_type == "Conv"]
    kept = Group("c", tuple(names), "f32", 0.41, {"int8": 1e-5, "f32": 2e-5})
    mixed = replace(made, model=replace(made.model, groups=(kept,)))
    found = take_apart(original, mixed, candidate, data, seconds=600)
    assert found["mix"] == [asdict(kept)]


def test_what_time_does_not_suffice_for_or_fails_is_left_out_with_the_reason(
    sides: tuple[Hosted, Hosted, Candidate, Path], tmp_path: Path
) -> None:
    found = take_apart(*sides, seconds=0.5)
    assert (found["explained"], found["profile"]) == (None, None)
    assert found["why_not"][0].startswith("where the time of a call goes: the budget left too little time")
    assert found["why_not"][1].startswith("where the error comes from: the budget left too little time")
    assert "What was not told" in why(MANIFEST, found)
    broken = take_apart(*sides[:3], tmp_path / "nowhere", seconds=600)
    assert "could not be told" in broken["why_not"][0]


class Copy:
    """A model laid open: what it answers where these values are asked for."""

    answers: Callable[[Sequence[str], float], Array]

    def __init__(self, hosted: Hosted, values: Sequence[str], folder: Path) -> None:
        folder.mkdir(parents=True)
        self.values, self.runner = values, self

    def __call__(self, feed: Mapping[str, Array]) -> tuple[dict[str, Array], list[Array]]:
        return {"y": type(self).answers(self.values, float(feed["x"]))}, [np.zeros(1) for _ in self.values]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("answers", "until", "copies", "lost", "left", "errs"),
    [
        (lambda values, x: noisy(0.1, x), inf, [4], 0, 0, 0),  # what the model answers, to the bit
        (lambda values, x: noisy(0.1, x + 50), inf, [4], 0, 0, 1),  # another draw of the same noise
        (lambda values, x: noisy(0.02, x + 50), inf, [], 4, 0, 0),  # it errs less than what is to be explained
        (lambda values, x: noisy(0.2, x), inf, [], 4, 0, 0),  # more
        (lambda values, x: -noisy(0.1, x), inf, [], 4, 0, 0),
        (lambda values, x: noisy(0.2 if len(values) > 2 else 0.1, x), inf, [2, 2], 0, 0, 0),
        (lambda values, x: noisy(0.2 if "b" in values else 0.1, x), inf, [2, 1], 1, 0, 0),
        (lambda values, x: noisy(0.2 if len(values) > 2 else 0.1, x), 0.0, [], 0, 4, 0),
    ],
)
def test_values_are_read_where_the_model_errs_as_it_does(
    answers: Callable[[Sequence[str], float], Array], until: float, copies: list[int], lost: int, left: int, errs: int,
    sides: tuple[Hosted, Hosted, Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One value may be the reason, several together, or there is no time to find out."""
    monkeypatch.setattr(Copy, "answers", staticmethod(answers), raising=False)
    monkeypatch.setattr("strop.insight.opened.Opened", Copy)
    feeds = [{"x": np.array(x)} for x in range(8)]
    right, others = ([{"y": noisy(size, x)} for x in range(8)] for size in (0.1, 0.0))
    made = Faithful(sides[0], list("abcd"), tmp_path, feeds, right, others, until)
    found = [len(places) for places, _ in made.copies], len(made.lost), len(made.left), len(made.errs)
    assert found == (copies, lost, left, errs)
    assert len(made(feeds[0])[1]) == sum(copies)


def noisy(size: float, x: float) -> Array:
    return np.asarray(np.arange(1, 33) / 16 + size * RNG(int(x)).normal(size=32))


def test_samples_are_told_by_their_rows_in_the_data(
    sides: tuple[Hosted, Hosted, Candidate, Path], tmp_path: Path
) -> None:
    """A search is on a split of what was given."""
    original, made, _, folder = sides
    rows = np.array([20, 3, 11, 30, 7])
    Data.load(folder).take(rows).save(tmp_path / "split")
    (tmp_path / "scratch").mkdir()
    found = explained(original, made, tmp_path / "split", tmp_path / "scratch")["samples"]["worst"]
    assert sorted(one["row"] for one in found) == sorted(rows)
    (tmp_path / "whole").mkdir()
    whole = explained(original, made, folder, tmp_path / "whole")["samples"]["worst"]
    errors = {one["row"]: one["error"] for one in whole}
    assert {one["row"]: one["error"] for one in found if one["row"] in errors}.items() <= errors.items()


def test_how_layers_bear_int8_is_told_and_drawn(
    sides: tuple[Hosted, Hosted, Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("strop.anatomy.peaks", lambda runtime, target, anew: None)
    found = take_apart(*sides, seconds=600)["sensitivity"]
    errors = [one["alone"]["error"] for one in found["groups"]]
    assert len(errors) >= 3 and errors == sorted(errors, reverse=True) and errors[0] > 0
    html = why(MANIFEST, {"sensitivity": json.loads(json.dumps(found))})
    assert "How each layer bears int8" in html and html.count("<figure") == 1
    assert all(f"{error:.2e}" in html for error in errors)
    assert not list(tmp_path.rglob("*.onnx")), "a search leaves nothing outside of its run"
    found["groups"][0]["alone"]["error"] = None  # as a file has what is not finite
    assert "not finite" in why(MANIFEST, {"sensitivity": found})


def test_what_was_profiled_has_the_names_of_the_original(
    sides: tuple[Hosted, Hosted, Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO's own are `r/WithoutBiases` and the like."""
    monkeypatch.setattr("strop.anatomy.peaks", lambda runtime, target, anew: None)
    original, _, _, data = sides
    made = apply(ToOpenvino(), original.model, Context(Data.load(data), original.model, original.target, 0, tmp_path))
    hosted = Hosted(made, find("openvino")(), original.target)
    found = take_apart(original, hosted, Candidate((ToOpenvino(),), hosted.runtime), data, seconds=600)
    told = {one["counterpart"]: one["name"] for one in found["explained"]["layers"]}
    named = {name: one["name"] for one in found["profile"]["layers"] for name in one["layers"] if name in told}
    assert len(named) >= 3 and set(named.values()) <= set(told.values())
    assert any(name not in told.values() for name in named), "or nothing was to be named anew"


def test_what_has_no_profiler_is_timed_without(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    model = save(grown(RNG(0), trees=6), tmp_path / "given")
    data = read_for(model.signature, {"x": RNG(1).normal(size=(32, 4))})
    data.save(tmp_path / "data")
    hosted = Hosted(model, find("gtil")(), Target(threads=1))
    found = take_apart(hosted, hosted, Candidate((), hosted.runtime), tmp_path / "data", seconds=600)
    assert found["why_not"] == []
    assert found["profile"]["seconds"]["value"] > 0 and found["profile"]["bound_by"] in ("overhead", "model")
    assert "A call takes" in why(MANIFEST, json.loads(json.dumps(found)))


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_options_of_a_runtime_change_numbers_too(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route without steps is looked into, unless it is the original's own."""
    kind = find("openvino")
    original, made = (
        SimpleNamespace(candidate=Candidate((), kind(precision=one)), model={}) for one in ("f32", precision)
    )
    setting = SimpleNamespace(original="original", search="search", model=lambda told: told,
                              workshop=SimpleNamespace(target=Target()))  # fmt: skip
    clock = SimpleNamespace(elapsed=100.0, to_tell=20.0, budget=SimpleNamespace(seconds=600.0))
    monkeypatch.setattr("strop.anatomy.take_apart", lambda original, made, *rest: {"runtime": str(made.runtime)})
    result = SimpleNamespace(handed_over=made, original=original)
    found = _anatomy(result, setting, clock, lambda event: None)  # type: ignore[arg-type]
    assert found == ({} if precision == "f32" else {"runtime": "openvino(precision=bf16)"})
    told = [{"route": [], "runtime": one.candidate.to_json()["runtime"]} for one in (original, made)]
    html = why({**MANIFEST, "original": told[0], "winner": told[1]}, {})
    assert ("nothing was changed" in html) == (precision == "f32")
