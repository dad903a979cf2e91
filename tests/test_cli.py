"""The shell: bad input gets one paragraph and exit code 2, and the demo's model goes through end to end."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from browser import CHROMIUM, browser
from engine import FakeRun
from looks import looked_at
from models import cnn
from strop import energy
from strop.cli import app
from strop.data import Data
from strop.errors import RunFailed
from strop.prepare import Budget
from strop.testing import fake_data, fake_model, registered

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "fashion_mnist"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_looks: None) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with registered(tmp_path / "plugins"):
        yield folder


def strop(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def samples(folder: Path, **changes: Any) -> Path:
    """Samples for the CNN of the tests, with some arrays changed; None leaves one out."""
    random = np.random.default_rng(0)
    arrays = {"x": random.normal(size=(80, 3, 16, 16)).astype(np.float32), "labels": random.integers(0, 10, 80)}
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def refused(result: Result, *words: str) -> None:
    """Exit code 2, one paragraph that says these words, nothing on standard output, no traceback."""
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("strop: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0], (word, lines[0])


def saved(folder: Path) -> Path:
    import onnx

    onnx.save(cnn(), folder / "model.onnx")
    return folder / "model.onnx"


def test_models_that_are_none(here: Path) -> None:
    refused(strop("optimize", "nothing.onnx"), "nothing.onnx does not. Check the path.")  # before data are asked for
    data = samples(here)
    refused(strop("optimize", "missing.onnx", "--data", data), "missing.onnx", "Check the path")
    (here / "text.onnx").write_text("not a model at all\n")
    refused(strop("optimize", "text.onnx", "--data", data), "text.onnx")
    whole = saved(here).read_bytes()
    (here / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    refused(strop("optimize", "cut.onnx", "--data", data), "cut.onnx")
    (here / "model.pth").write_bytes(b"weights")
    refused(strop("optimize", "model.pth", "--data", data), "onnx")
    assert not (here / "strop-runs").exists() or not list((here / "strop-runs").iterdir())


def test_pickles_are_read_where_they_are_trusted(here: Path) -> None:
    """A trusted one is opened, and only then do the data, made for another model, turn out not to fit."""
    from sklearn.tree import DecisionTreeClassifier

    (here / "model.pkl").write_bytes(pickle.dumps(DecisionTreeClassifier().fit(np.eye(4), np.arange(4))))
    data = ("--data", samples(here))
    for words in (
        ("techniques", "model.pkl"), ("optimize", "model.pkl", *data), ("compare", "model.pkl", "model.pkl", *data),
        ("benchmark", "model.pkl", *data),
    ):  # fmt: skip
        refused(strop(*words), "model.pkl is a pickle", "--trust-pickle")
        trusted = strop(*words, "--trust-pickle")
        if words[0] == "techniques":
            assert trusted.exit_code == 0 and "to this model as it is:" in trusted.stdout
        else:
            refused(trusted, "The model takes x: float32[?, 4]")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": None, "a": np.zeros((80, 3, 16, 16)), "b": np.zeros((80, 3, 16, 16))}, ["image", "a, b"]),
        ({"x": np.zeros((80, 3, 15, 16), np.float32)}, ["[80, 3, 15, 16]"]),
        ({"x": np.zeros((80, 3), np.float32)}, ["[samples, 3, 16, 16]", "[80, 3]"]),
        ({"x": np.zeros((80, 3, 16, 16), np.complex64)}, ["complex64"]),
        ({"x": np.full((80, 3, 16, 16), np.nan, np.float32)}, ["NaN"]),
        ({"x": np.zeros((0, 3, 16, 16), np.float32), "labels": np.zeros(0, np.int64)}, ["0"]),
        ({"labels": np.zeros(79, np.int64)}, ["79"]),
        ({"labels": np.full(80, 99)}, ["99"]),
    ],
)
def test_data_that_do_not_fit(here: Path, changes: dict[str, Any], words: list[str]) -> None:
    refused(strop("optimize", saved(here), "--data", samples(here, **changes), "--budget", "60s"), *words)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("acuracy >= 0.9", ["acuracy", "accuracy"]),
        ("accuracy >= 99%", ["99% of original", "0.99"]),
        ("accuracy <= 0.9", ["accuracy"]),
        ("latency.p95 >= 5 ms", ["latency.p95"]),
        ("size < 20", ["MB"]),
        ("size", ["size"]),
        ("worst_slice(accuracy) >= 0.9", ["--slice"]),
        ("nowhere:nothing >= 0.9", ["nowhere"]),
    ],
)
def test_goals_that_can_not_be_kept(here: Path, limit: str, words: list[str]) -> None:
    result = strop("optimize", saved(here), "--data", samples(here), "--limit", limit, "--budget", "60s")
    refused(result, *words)


def test_goals_that_contradict_each_other(here: Path) -> None:
    limits = ["--limit", "size < 10 MB", "--limit", "size > 20 MB"]
    refused(strop("optimize", saved(here), "--data", samples(here), *limits), "size")
    both = ["--minimize", "size", "--maximize", "accuracy"]
    refused(strop("optimize", saved(here), "--data", samples(here), *both), "one")


def test_the_label_column_of_a_table_is_no_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fake_model(here / "m")
    (here / "table.csv").write_text("a,b,c,d,outcome\n" + "1,2,3,4,0\n" * 12)
    taken: list[dict[str, Any]] = []

    def measured(first: Any, second: Any, folder: Path, *rest: Any) -> dict[str, Any]:
        taken.append(Data.load(folder / "data").batch(0, 12))
        names = ("limits", "notes", "slices", "worst_drops", "fairness")
        empty: dict[str, Any] = {name: {} for name in ("metrics", "ratios", "not_measurable", "churn")}
        return {**empty, **{name: [] for name in names}, "original": {"metrics": {}}, "candidate": {"metrics": {}}}

    monkeypatch.setattr("strop.comparison._measured", measured)
    refused(strop("benchmark", model.path, "--data", "table.csv"), "one more", "--label NAME")
    refused(strop("benchmark", model.path, "--data", "table.csv", "--label", "outcom"), "Did you mean 'outcome'")
    found = strop("benchmark", model.path, "--data", "table.csv", "--label", "outcome", "--json")
    assert found.exit_code == 0, found.output
    assert [batch["x"].shape for batch in taken] == [(12, 4)]


def test_places_that_can_not_be_written(here: Path) -> None:
    model, data = saved(here), samples(here)
    (here / "there").mkdir()
    (here / "there" / "file").touch()
    refused(strop("optimize", model, "--data", data, "--out", "there"), "exists already", "there")
    refused(strop("optimize", model, "--data", data, "--run", "model.onnx"), "run directory", "--run")
    refused(strop("optimize", model, "--data", data, "--out", "/proc/bundle"), "/proc/bundle")
    refused(strop("optimize", "--resume", "nothing"), "nothing", "no run")
    refused(strop("verify", "nothing"), "nothing", "manifest.json")


def test_options_that_make_no_sense(here: Path) -> None:
    model, data = saved(here), samples(here)
    refused(strop("optimize", model), "--data")
    refused(strop("optimize", model, "--data", data, "--threads", "99"), "threads", "99")
    refused(strop("optimize", model, "--data", data, "--batch", "0"), "batch")
    refused(strop("optimize", model, "--data", data, "--batch", "81"), "batch", "80 samples", "81")
    refused(strop("compare", model, model, "--data", data, "--batch", "81"), "batch", "80 samples", "81")
    refused(strop("benchmark", model, "--data", data, "--batch", "81"), "batch", "80 samples", "81")
    refused(strop("optimize", model, "--data", data, "--budget", "soon"), "soon", "10m")
    refused(strop("optimize", model, "--data", data, "--formats", "onyx"), "onyx", "onnx")
    refused(strop("optimize", model, "--data", data, "--formats", "onnx,onn"), "not onn.")
    refused(strop("optimize", "--resume", here, "--limit", "size < 1 MB"), "--resume", "limit")
    refused(strop("optimize"), "strop.toml", "strop init MODEL --data DATA")


def test_a_resume_changes_no_more_of_the_budget_than_is_given(
    fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = fake_run.run.root, []

    def resumed(run: Path, budget: Budget, listener: Any) -> None:
        seen.append(budget)
        raise RunFailed("that is enough.")

    fake_run.run.close()
    monkeypatch.setattr("strop.pipeline.resume", resumed)
    refused(strop("optimize", "--resume", run), "enough")
    refused(strop("optimize", "--resume", run, "--trials", "7"), "enough")
    refused(strop("optimize", "--resume", run, "--budget", "5m"), "enough")
    assert seen == [Budget(60), Budget(60, 7), Budget(300)]


def test_goals_that_can_not_be_measured_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", here / "powercap")
    monkeypatch.setattr(energy, "installed", lambda name: False)
    model, data = saved(here), samples(here)
    said = ["which is not measurable here", "no energy counter", "pip install 'strop[report]'"]
    refused(strop("optimize", model, "--data", data, "--limit", "energy < 1 J"), "asks for energy", *said)
    refused(strop("optimize", model, "--data", data, "--minimize", "power"), "asks for power", *said)
    refused(strop("compare", model, model, "--data", data, "--limit", "energy < 1 J"), "asks for energy", *said)
    assert not (here / "strop-runs").exists()


def test_cost_without_a_price(here: Path) -> None:
    model, data = saved(here), samples(here)
    said = ["no price was given", "--price 0.34"]
    refused(strop("optimize", model, "--data", data, "--minimize", "cost"), *said)
    refused(strop("optimize", model, "--data", data, "--metric", "cost"), *said)
    refused(strop("compare", model, model, "--data", data, "--metric", "cost"), *said)
    refused(strop("optimize", model, "--data", data, "--price", "-1"), "price must be above zero")
    refused(strop("benchmark", model, "--data", data, "--rate", "0.2"), "at least 1 a second", "latency.p99 instead")
    (here / "strop.toml").write_text(f'model = "{model}"\ndata = "{data}"\nprice = 0\n')
    refused(strop("optimize"), "strop.toml:3", "price must be a number above zero")


def test_plan_file_errors_name_the_line(here: Path) -> None:
    (here / "strop.toml").write_text('model = "m.onnx"\ndata = "d.npz"\n\nbudjet = "10m"\n')
    refused(strop("optimize"), "strop.toml:4", "budget")


def test_techniques_say_why_they_do_not_fit(here: Path) -> None:
    result = strop("techniques", saved(here), "--json")
    rows = {row["technique"]: row for row in json.loads(result.stdout)}
    assert {"simplify", "dynamic-int8", "static-int8", "to-openvino", "openvino-int8"} <= set(rows)
    assert rows["static-int8"]["refused"] == "" and rows["static-int8"]["after"] == []
    assert rows["openvino-int8"]["fits"] is None and rows["openvino-int8"]["after"] == ["to-openvino"]
    assert rows["to-forest"]["after"] is None
    assert rows["static-int8"]["fits"] is True and rows["to-onnx"]["fits"] is None
    assert rows["distill"]["needs"] == "train data and a student" and rows["simplify"]["needs"] == ""
    assert rows["static-int8"]["settings"]["per_channel"] is True
    assert strop("techniques").stdout.count("\n") > 10


def test_techniques_tell_what_comes_after_a_conversion(here: Path) -> None:
    from sklearn.ensemble import GradientBoostingClassifier

    estimator = GradientBoostingClassifier(n_estimators=4).fit(np.arange(20)[:, None], np.arange(20) % 2)
    (here / "model.pkl").write_bytes(pickle.dumps(estimator))
    said = strop("techniques", "model.pkl", "--trust-pickle").stdout
    fit, _, after = said.partition("after to-forest:")
    assert fit.startswith("to this model as it is:") and "to-forest: " in fit and "retune: " not in fit
    for name in ("truncate-rounds", "prune-leaves", "quantize-forest", "retune", "to-native", "forest-to-onnx"):
        assert f"\n    {name}: " in after, name
    assert "static-int8" not in said, "no route from here has it"
    rows = json.loads(strop("techniques", "model.pkl", "--trust-pickle", "--json").stdout)
    assert {"technique": "retune", "fits": None, "after": ["to-forest"]}.items() <= {
        row["technique"]: row for row in rows
    }["retune"].items()


def test_doctor_prints_what_is_there(here: Path) -> None:
    found = json.loads(strop("doctor", "--json").stdout)
    measured = found["measured"]
    assert measured["missing"] == {}
    ran = {(p["operator"], p["precision"]) for p in measured["products"] if p["runtime"] == "onnxruntime" and p["rate"]}
    assert ran == {("dense", "f32"), ("dense", "int8"), ("convolution", "f32"), ("convolution", "int8")}
    assert all(entry["low"] > 1e8 for entry in measured["bandwidth"]), "bytes a second"
    assert set(measured["noise"]) == {"latency.p50", "latency.p95"}


@pytest.mark.long
def test_json_is_all_there_is_on_standard_output(here: Path, quick_looks: None) -> None:
    model = fake_model(here / "m", seconds=0.002)
    data = fake_data(model, 400)
    np.savez(here / "data.npz", x=data.inputs["x"], labels=data.labels, a=np.arange(400) % 2, b=np.arange(400) % 3)
    flags = ["--limit", "accuracy >= 90% of original", "--threads", "1", "--trials", "1", "--out", "bundle", "--json"]
    result = strop("optimize", model.path, "--data", "data.npz", *flags)
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)
    assert manifest["verdict"] == "met" and manifest["hashes"]["files"]
    assert json.loads((here / "bundle" / "manifest.json").read_text()) == manifest
    (here / "own_metric.py").write_text("def half(outputs, labels):\n    return (labels == labels) / 2\n")
    divided = ["--data", "data.npz", "--slice", "a*b", "--protected", "a"]
    divided += ["--metric", "own_metric:half", "--limit", "half >= 0.4", "--metric", "accuracy"]
    compared = json.loads(strop("compare", model.path, "bundle", *divided, "--price", "0.36", "--json").stdout)
    told = {"original", "candidate", "ratios", "slices", "worst_drops", "churn", "fairness", "limits"}
    assert set(compared) == told | {"not_measurable", "notes"}
    assert compared["limits"][0]["limit"] == "own_metric:half >= 0.4" and compared["limits"][0]["verdict"] == "met"
    figures = compared["candidate"]["metrics"]
    assert figures["cost"]["value"] == pytest.approx(100 / figures["throughput"]["value"])
    assert ("energy" in figures) != ("energy" in compared["not_measurable"])
    assert figures.get("energy", {"source": "RAPL"})["source"] in ("RAPL", "CodeCarbon's estimate")
    assert 0 <= compared["churn"]["changed"]["value"] < 0.2
    ratio = compared["ratios"]["latency.p50"]
    assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
    assert len(compared["slices"]) == 2 + 3 + 6 and compared["slices"]["a=1*b=2"]["metrics"]["accuracy"]["n"] == 66
    assert set(compared["fairness"]) == {"a"}
    verified = strop("verify", "bundle", "--original", model.path, "--data", "data.npz", "--json")
    again = json.loads(verified.stdout)
    assert again["verdict"] == again["verified"]["verdict"] == "met" and again["winner"] == manifest["winner"]
    assert verified.exit_code == 0
    (here / "bundle" / "model.fake").write_text("{}")
    refused(strop("verify", "bundle"), "hash differs")


@pytest.mark.long
def test_the_demo_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "strop", "demo", "--out", tmp_path / "bundle", "--budget", "150s", "--json"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads(ended.stdout)
    assert manifest["verdict"] == "met"
    assert manifest["original"]["metrics"]["accuracy"]["value"] > 0.92
    assert manifest["winner"]["route"], manifest["reason"]
    assert manifest["winner"]["ratios"]["size"]["value"] < 0.35
    assert {limit["verdict"] for limit in manifest["limits"]} == {"met"}
    assert {"manifest.json", "report.html", "samples.npz"} < {path.name for path in (tmp_path / "bundle").iterdir()}
    assert "Traceback" not in ended.stderr and "winner / original" in ended.stderr
    page = tmp_path / "bundle" / "report.html"
    assert "<h3>Layer by layer</h3>" in page.read_text(), "why, in every report"
    if CHROMIUM is not None:
        with browser() as tab:
            looked_at(tab, page, figures=2)  # the choices, and the layers; a roofline if there was time


def test_a_metric_that_kills_its_process_is_named(here: Path) -> None:
    (here / "own.py").write_text(
        "import os, signal\ndef score(outputs, labels):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = strop("optimize", saved(here), "--data", samples(here), "--metric", "own:score", "--budget", "60s")
    refused(result, "metrics could not be tried", "SIGKILL")


def test_a_model_that_answers_nothing_but_nan_is_refused(here: Path) -> None:
    import onnx
    from onnx import helper

    model = cnn()
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["finite" if name == output else name for name in node.output]
    nan = helper.make_tensor("nan", onnx.TensorProto.FLOAT, [1], [float("nan")])
    model.graph.initializer.append(nan)
    model.graph.node.append(helper.make_node("Add", ["finite", "nan"], [output]))
    onnx.save(model, here / "nan.onnx")
    refused(strop("optimize", "nan.onnx", "--data", samples(here), "--budget", "60s"), "NaN for all samples")
