"""`strop profile`: a model of trees is taken apart, timed and told of; what can't be is refused in one paragraph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import linear_model, preprocessing, svm
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner, Result

from estimators import digits, stored
from forests import grown
from strop.cli import app
from strop.errors import InvalidPlan
from strop.formats.forest import save
from strop.insight import Peaks, summarize
from strop.profiling import profile
from strop.target import Target

RNG = np.random.default_rng


def strop(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peaks of a machine, not those that this one has just now."""
    rates = {"sklearn": {"f32": 8e10, "f64": 4e10, "f64 loops": 1e9}}

    def peaks(runtime: str, target: Target) -> Peaks:
        rated = rates.get(runtime, {})
        return Peaks(runtime, target.threads, rated, 2e10, 2e11, 1 << 20, 1 << 25, 5e-5 if rated else 0.0)

    monkeypatch.setattr("strop.profiling.peaks", peaks)


def adds_up(found: dict[str, Any], within: float = 1e-6) -> bool:
    parts = [layer["seconds"]["value"] for layer in found["layers"]]
    return bool(sum(parts) == pytest.approx(found["seconds"]["value"], rel=within))


def boosted(folder: Path, rounds: int = 30) -> Path:
    lgb = pytest.importorskip("lightgbm")
    x = RNG(0).normal(size=(300, 4))
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 20, "min_data_in_leaf": 5}
    data = lgb.Dataset(x, x[:, 0] + x[:, 1] > 0, feature_name=["age", "income", "city", "sex"])
    lgb.train(settings, data, rounds).save_model(folder / "model.txt")
    np.savez(folder / "data.npz", x=x[:60])
    return folder / "model.txt"


def test_a_forest_is_taken_apart(quick_looks: None, tmp_path: Path) -> None:
    model = boosted(tmp_path)
    result = strop("profile", model, "--data", tmp_path / "data.npz", "--threads", 1, "--batch", 8, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [layer["name"] for layer in found["layers"]] == ["call", "trees"]
    assert set(found["layers"][0]) == {
        "name", "operator", "seconds", "share", "operations", "bytes", "parameters", "attainable",
        "bound_by", "layers",
    }  # fmt: skip
    assert adds_up(found)
    assert found["bound_by"] in ("overhead", "latency", "memory")
    assert found["structure"]["trees"] == 30
    trees, nodes = found["layers"][1], found["structure"]["nodes"]
    splits, leaves = sum(found["structure"]["splits"].values()), found["structure"]["leaves"]
    assert trees["parameters"] == splits + leaves
    assert trees["bytes"] == nodes["bytes"] == splits * (8 + 3 * 4) + leaves * 8 == found["held"]["weights"]
    assert trees["precision"] == "f64" and trees["intensity"] is None, "a split is no arithmetic"
    assert trees["attainable"] > 0 and not found["peaks"]["rates"], "reads alone"
    assert trees["seconds"]["low"] < trees["seconds"]["value"] < trees["seconds"]["high"], "told by two models"
    assert found["structure"]["visits"]["samples"] == 60
    assert found["layers"][1]["operations"] == pytest.approx(8 * found["structure"]["visits"]["mean"])
    assert found["memory"] >= 0
    assert found["energy"].keys() in ({"why"}, {"joules", "watts", "source"}), "told, or why it can't be"
    assert {"technique", "gain", "why", "rest"} == set(found["advice"][0])
    assert found["model"]["batch"] == 8 and found["model"]["format"] == "lightgbm"
    assert not any("random numbers" in note for note in found["notes"])
    said = summarize(found)
    for words in ("30, with", "a call of 8 samples takes", "Where the time goes", "What would help", "age"):
        assert words in said, said
    assert all(len(line) <= 110 for line in said.splitlines())


def test_without_data_random_numbers_are_run(at_once: None, clock: object, tmp_path: Path) -> None:
    found = profile(boosted(tmp_path), target=Target(threads=1))
    assert adds_up(found)
    assert found["notes"][-1] == "the inputs were random numbers; data=DATA tells how it is on your own"
    assert found["structure"]["visits"]["by"] == "training"


def test_what_can_not_be_cut_is_timed_as_a_whole(at_once: None, clock: object, tmp_path: Path) -> None:
    found = profile(boosted(tmp_path, 1), tmp_path / "data.npz", target=Target(threads=1))
    assert found["bound_by"] is None
    assert [layer["name"] for layer in found["layers"]] == ["trees"]
    assert found["layers"][0]["seconds"] is None
    assert found["notes"][0] == (
        "what a call takes besides the model can't be told: it has one round of boosting at the most"
    )
    assert "Where the time goes" not in summarize(found)


def measured(estimator: Any, x: Any, folder: Path) -> dict[str, Any]:
    """A profile whose parts add up: they and whole calls are timed in turn, and neighbours may come in between."""
    model = stored(estimator, folder)
    for _ in range(5):
        found = profile(model.path, {"x": x}, target=Target(threads=1))
        if adds_up(found, 0.1):
            break
    assert adds_up(found, 0.1), found["layers"]
    return dict(found)


def test_each_step_of_a_pipeline_is_timed(quick_looks: None, tmp_path: Path) -> None:
    x, y = digits()
    made = make_pipeline(preprocessing.StandardScaler(), svm.SVC()).fit(x, y)
    found = measured(made, x, tmp_path)
    call, scale, decide = found["layers"]
    assert [one["name"] for one in found["layers"]] == ["call", "standardscaler", "svc"]
    assert call["operator"] == "overhead"
    assert scale["operations"] == 64 and scale["precision"] == "f64" and scale["parameters"] == 3 * 64
    vectors = len(made[-1].support_vectors_)
    assert decide["operations"] == vectors * (64 + 9) and decide["precision"] == "f64 loops"
    assert decide["bytes"] > vectors * 64 * 8 and found["held"]["weights"] == scale["bytes"] + decide["bytes"]
    assert all(one["seconds"]["value"] > 0 and one["bound_by"] and one["reached"] for one in (scale, decide))
    assert found["bound_by"] and sum(found["shares"].values()) == pytest.approx(1, abs=1e-6)
    assert "StandardScaler, then SVC" in summarize(found)


def test_an_estimator_by_itself_is_one_step(quick_looks: None, tmp_path: Path) -> None:
    x, y = digits()
    found = measured(linear_model.RidgeClassifier().fit(x, y), x, tmp_path)
    assert [one["name"] for one in found["layers"]] == ["call", "RidgeClassifier"]
    assert found["layers"][1]["operations"] == 640


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == "" and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("strop: ")]
    for word in words:
        assert word in line, line


def test_what_can_not_be_profiled_is_refused(tmp_path: Path) -> None:
    refused(strop("profile", tmp_path / "missing.txt"), "missing.txt", "Check the path")
    save(grown(RNG(0), features=4), tmp_path)
    np.savez(tmp_path / "narrow.npz", x=np.zeros((60, 3)))
    refused(strop("profile", tmp_path / "forest.npz", "--data", tmp_path / "narrow.npz"), "[60, 3]")
    refused(strop("profile", tmp_path / "forest.npz", "--batch", "0"), "batch must be 1 or more")
    (tmp_path / "forest.npz").write_bytes(b"PK broken")
    refused(strop("profile", tmp_path / "forest.npz"), "forest.npz", "broken")
    with pytest.raises(InvalidPlan, match="target"):
        profile(tmp_path / "forest.npz", target="fast")  # type: ignore[arg-type]


def profiled(**changes: Any) -> dict[str, Any]:
    known = {"value": 2e-3, "low": 1.9e-3, "high": 2.2e-3}
    found: dict[str, Any] = {
        "seconds": known, "bound_by": None, "memory": 5_000_000, "calls": 100, "notes": [], "layers": [], "advice": [],
        "structure": {}, "told": {}, "unfit": {},
        "model": {"format": "forest", "size": 1000, "runtime": "gtil", "threads": 1, "batch": 1},
    }  # fmt: skip
    return {**found, **changes}


def test_text_of_little_and_of_much() -> None:
    plain = summarize(profiled())
    assert "a call of 1 sample takes 2 (1.9 to 2.2) ms through gtil on 1 thread, the median of 100 calls" in " ".join(
        plain.split()
    )
    assert "nothing: see below what fits the case" in plain
    columns = [{"name": f"c{place}", "splits": 12 - place, "gain": None} for place in range(12)]
    much = profiled(
        structure={"columns": columns, "unused": [f"u{place}" for place in range(15)]}, bound_by="overhead",
        advice=[
            {"technique": "melt", "gain": 0.5, "why": "It is hot", "rest": ""},
            {"technique": "cool", "gain": 0.0, "why": "", "rest": "overhead, 90% of a call, 1x"},
        ],
        unfit={"bend": "it is stiff"}, notes=["it rained"],
        layers=[
            {
                "name": "call", "operator": "overhead", "layers": [], "bound_by": "overhead", "operations": 0,
                "bytes": 0, "seconds": {"value": 2e-7, "low": 0.0, "high": 2e-7},
                "share": {"value": 0.1, "low": 0.1, "high": 0.1},
            },
        ],
    )  # fmt: skip
    said = summarize(much)
    assert said.index("it rained") < said.index("What would help"), "advice is no better than what was measured"
    for words in (
        "and 2 columns more", "u11 and 3 more", " 50%  melt", "It is hot.",
        "no faster by these; what most of the time would go to with each: cool: overhead,",
        "90% of a call, 1x",
        "it rained.",
        "not bend: it is stiff", "the call itself", "most of it is spent around the model",
    ):  # fmt: skip
        assert words in " ".join(said.split()) or words in said, said
    assert "most of it is spent in the model itself" in " ".join(summarize(profiled(bound_by="model")).split())
