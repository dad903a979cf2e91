"""search over a function of one's own: drawing, pruning, limits, and going on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from typer.testing import CliRunner

from strop import Budget
from strop.cli import app
from strop.errors import InvalidGoal, InvalidPlan, RunFailed
from strop.tune import search


def parabola(trial: Any) -> float:
    return float((trial.suggest_float("x", -10, 10) - 3) ** 2)


def trained(trial: Any) -> dict[str, float]:
    """A loop that learns the better the nearer its rate is to 0.1."""
    loss = 1.0
    for epoch in range(9):
        loss *= 0.9 if abs(np.log10(trial.params["rate"]) + 1) < 0.5 else 0.99
        trial.report(-loss, epoch + 1)
        if trial.should_prune():
            raise optuna.TrialPruned
    return {"score": -loss, "size": trial.params["width"] * 1000.0}


def test_a_function_draws_as_an_optuna_objective_does() -> None:
    found = search(parabola, goal="minimize loss", budget=Budget(600, 30), threads=1)
    assert abs(found.params["x"] - 3) < 2
    assert found.estimate.value == (found.params["x"] - 3) ** 2
    assert found.estimator is None
    assert found.ended == "the trials were used up"
    assert len(found.trials) == 30


def test_a_space_a_limit_and_pruning() -> None:
    space = {"rate": [1e-4, 1e-3, 1e-2, 0.1, 1.0], "width": [8, 16, 32, 64]}
    found = search(trained, space, goal="maximize score; size <= 20 kB", budget=Budget(600, 20), threads=1)
    assert found.params["rate"] == 0.1
    assert found.params["width"] <= 16
    assert found.limits[0].verdict == "met"
    assert found.ended == "the trials were used up" or "every point" in found.ended
    assert "dropped" in {trial.state for trial in found.trials}
    infeasible = search(trained, space, goal="maximize score; size <= 1 kB", budget=Budget(600, 5), threads=1)
    assert infeasible.verdict == "infeasible"


def far(trial: Any) -> float:
    """From the middle of a cube, with something drawn besides that does not matter."""
    trial.suggest_float("besides", 0, 1)
    return float(sum(np.log10(trial.params[name]) ** 2 for name in "abc"))


def test_a_gaussian_process_learns_from_functions_and_goes_on_with_what_an_earlier_process_told(tmp_path: Path) -> None:
    space = {name: list(np.logspace(-4, 4, 9)) for name in "abc"}  # 729 points
    how: dict[str, Any] = {"goal": "minimize loss", "sampler": "gp", "threads": 1, "run": tmp_path / "run"}
    first = search(far, space, budget=Budget(600, 12), **how)
    found = search(far, space, budget=Budget(600, 30), **how)
    assert len(found.trials) == 30 and len(first.trials) == 12
    assert found.estimate.value == 0, "the best of all points"


def test_functions_run_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside.py").write_text("def train(trial):\n    return trial.suggest_int('n', 1, 4) % 3\n")
    monkeypatch.chdir(tmp_path)
    found = search("beside:train", budget=Budget(600, 8), threads=2)
    assert found.params == {"n": 2}
    assert len(found.trials) == 8


def test_a_run_directory_that_was_made_anew_is_a_new_run(tmp_path: Path) -> None:
    for _ in range(2):
        search(parabola, budget=Budget(600, 3), threads=1, run=tmp_path / "run")
        kept = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "run" / "journal.log"))
        )
        assert len(optuna.load_study(study_name=None, storage=kept).trials) == 3
        shutil.rmtree(tmp_path / "run")


def test_what_is_no_number_is_told_and_nothing_is_beside_an_original_that_there_is_not() -> None:
    with pytest.raises(RunFailed, match="it returned None, not a number, or one for each metric"):
        search(lambda trial: None, {"n": [1]}, threads=1)
    assert "original" not in str(search(lambda trial: trial.params["n"], {"n": [1, 2]}, threads=1))


def test_what_fails_costs_that_trial_only_and_where_all_do_the_cause_is_told() -> None:
    def moody(trial: Any) -> float:
        if trial.params["n"] % 2:
            raise ValueError("odd")
        return float(trial.params["n"])

    found = search(moody, {"n": [1, 2, 3, 4]}, threads=1)
    assert found.params == {"n": 4}
    assert [trial.why for trial in found.trials if trial.state == "failed"] == ["ValueError: odd"] * 2
    with pytest.raises(RunFailed, match="ValueError: odd"):
        search(moody, {"n": [1, 3]}, threads=1)
    with pytest.raises(RunFailed, match="it returned no size"):
        search(moody, {"n": [2]}, goal="size < 1 kB", threads=1)
    with pytest.raises(RunFailed, match="not a number"):
        search(lambda trial: float("nan"), {"n": [2]}, threads=1)


SCRIPT = """
import os, signal, sys
from strop import Budget
from strop.tune import search

def train(trial):
    n = trial.params["n"]
    with open("calls.txt", "a") as file:
        file.write(f"{n} ")
    if sys.argv[1] == str(n):
        os.kill(os.getpid(), signal.SIGKILL)
    return n

found = search("__main__:train", {"n": [4, 2, 7, 5]}, threads=1, run="run")
print(len(found.trials), found.params["n"])
"""


def test_after_a_kill_it_goes_on_with_the_trial_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run([*command, "7"], cwd=tmp_path, capture_output=True)
    went_on = subprocess.run([*command, "0"], cwd=tmp_path, capture_output=True, text=True)
    assert went_on.stdout.split() == ["4", "7"], went_on.stderr
    assert (tmp_path / "calls.txt").read_text().split() == ["4", "2", "7", "7", "5"]


def test_what_can_not_be_used_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="names no function"):
        search("mine", threads=1)
    with pytest.raises(InvalidPlan, match="importable from the working directory"):
        search("no_such:thing", threads=1)
    with pytest.raises(InvalidGoal, match="a function has none"):
        search(parabola, goal="score >= 99% of original", threads=1)
    with pytest.raises(InvalidPlan, match="A grid needs a space"):
        search(parabola, sampler="grid", threads=1)


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "told.py").write_text(
        "def train(trial):\n    print('noise')\n    return trial.suggest_int('n', 1, 4)\n"
    )
    monkeypatch.chdir(tmp_path)
    shell = ["tune", "told:train", "--trials", "6", "--threads", "1", "--json"]
    said = CliRunner().invoke(app, [*shell, "--limit", "score <= 3", "--run", "run"])
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout)["params"] == {"n": 3}
    again = CliRunner().invoke(app, ["tune", "--resume", "run", "--json"])
    assert len(json.loads(again.stdout)["trials"]) == 6
    assert CliRunner().invoke(app, [*shell, "--limit", "score >= 9", "--budget", "60s"]).exit_code == 3
    missing = CliRunner().invoke(app, ["tune", "--resume", "nowhere"])
    assert missing.exit_code == 2
    assert "holds no run to go on with" in missing.stderr
