"""Tracking: a search lies in MLflow as its users expect it, and its model answers; no server can cost anything."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from engine import ACCURACY, ROUNDED, STRIPPED, FakeRun, concluded, finding, outcome, report
from strop import cli, tracking
from strop.bundle import Bundle
from strop.errors import MissingDependency, RunFailed
from strop.result import Result
from strop.rundir import MANIFEST, PLAN, finite, write_json
from strop.terminal import console
from strop.trial import Outcome

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # of what MLflow is made of


@pytest.fixture
def result(fake_run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """One candidate won, and one failed."""
    monkeypatch.chdir(tmp_path)  # where MLflow puts what is no number
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    tried = [(ROUNDED, outcome(0.25, model=model)), (STRIPPED, Outcome("failed", "out of luck", seconds=2.0))]
    return concluded(fake_run, [finding(ROUNDED, model, report(0.25))], tried=tried)


def test_a_search_its_candidates_and_its_model_are_logged(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = result.save(tmp_path / "bundle")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with mlflow.start_run() as outer:
        run_id = bundle.to_mlflow(result.setting.root / PLAN)
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "mine"
    assert (run.info.status, run.data.tags["mlflow.parentRunId"]) == ("FINISHED", outer.info.run_id)
    assert (run.data.tags["strop.verdict"], run.data.tags["mlflow.note.content"]) == ("met", result.reason)
    assert run.data.params["goal"] == str(bundle.goal) and run.data.params["target.threads"] == "1"
    assert run.data.params["handed_over.route"] == "fake-round"
    assert run.data.metrics["latency.p50"] == pytest.approx(2.5e-3)
    assert run.data.metrics["original.latency.p50"] == pytest.approx(1e-2)
    files = {file.path for file in client.list_artifacts(run_id)}
    assert files >= {"manifest.json", "report.html", "candidates.json", PLAN}

    nested = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    told = {child.data.params["route"]: child for child in nested}
    won, failed = told["fake-round"], told["fake-strip"]
    assert won.data.params["fake-round.decimals"] == "2" and won.data.params["runtime"] == "fake-runtime"
    assert won.data.tags["strop.verdict"] == "met" and won.info.status == "FINISHED"
    for name, value in (("latency.p50", 2.5e-3), ("latency.p50.ratio", 0.25), ("latency.p50.ratio.low", 0.2475)):
        assert won.data.metrics[name] == pytest.approx(value)
    assert failed.info.status == "FAILED" and failed.data.tags["mlflow.note.content"] == "out of luck"

    (logged,) = client.search_logged_models([run.info.experiment_id])
    served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    x = bundle.samples()[0].inputs["x"][:5].astype(np.float32)
    for batch in (x, {"x": x}):
        np.testing.assert_array_equal(served.predict(batch)["y"], bundle.predict({"x": x})["y"])


def test_a_search_that_hands_nothing_over_is_logged_with_the_reason(
    fake_run: FakeRun, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The original breaks a limit, and the only candidate failed: there is no bundle."""
    nothing = concluded(
        fake_run, [], report(1.0, {ACCURACY: "broken"}), [(STRIPPED, Outcome("failed", "out of luck", seconds=2.0))]
    )
    assert nothing.verdict == "infeasible" and nothing.handed_over is None
    root = nothing.setting.root
    write_json(root / MANIFEST, finite(nothing.manifest))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert cli._hand_over(nothing, None, console(), False, True) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "note: MLflow did not take the search" in said and f"strop optimize --mlflow --resume {root}" in said

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert cli._hand_over(nothing, None, console(), False, True) == 3
    said = " ".join(capsys.readouterr().err.split())
    (run_id,) = re.findall(r"logged to MLflow as run (\w+)", said)
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    assert (run.data.tags["strop.verdict"], run.data.tags["mlflow.note.content"]) == ("infeasible", nothing.reason)
    assert run.data.params["handed_over.route"] == "nothing"
    assert run.data.metrics["original.latency.p50"] == pytest.approx(1e-2) and "latency.p50" not in run.data.metrics
    assert {file.path for file in client.list_artifacts(run_id)} >= {MANIFEST, PLAN}
    (failed,) = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    assert failed.data.tags["mlflow.note.content"] == "out of luck"
    assert not client.search_logged_models([run.info.experiment_id])


def test_a_server_that_fails_is_told_of_and_costs_nothing(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert cli._hand_over(result, tmp_path / "bundle", console(), False, True) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "note: MLflow did not take the search" in said and "to_mlflow()" in said
    assert (tmp_path / "bundle" / "manifest.json").is_file()
    with pytest.raises(RunFailed, match=r"bundle is whole: look at MLFLOW_TRACKING_URI"):
        Bundle.load(tmp_path / "bundle").to_mlflow()


def test_what_is_missing_is_said_before_anything_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "installed", lambda name: False)
    tracking.check(False)
    with pytest.raises(MissingDependency, match=r"pip install 'strop\[mlflow\]'"):
        tracking.check(True)
