"""Reporting: the page of a bundle or a run is written anew, whatever became of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import ROUNDED, FakeRun, concluded, finding, outcome
from engine import report as measured
from strop.baseline import BASELINE
from strop.cli import app
from strop.errors import BundleError, InvalidPlan, RunFailed
from strop.opened import MANIFEST
from strop.plan import Route
from strop.reporting import report
from strop.rundir import JOURNAL, RunDir, finite, write_json
from strop.search import RouteSearch
from strop.testing import FakeRound, FakeRuntime, FakeStrip
from strop.trial import Outcome
from strop.tune import search


@pytest.fixture
def home(fake_run: FakeRun, tmp_path: Path) -> Path:
    """A folder with a run that tried two candidates, and the bundle that it came to."""
    run, goal = fake_run.run, fake_run.setting.goal
    made, _ = fake_run.setting.workshop.build(ROUNDED.steps)
    stored = made.to_json(run.root)
    given = [Route((FakeRound,), FakeRuntime), Route((FakeStrip,), FakeRuntime)]
    searcher = RouteSearch(given, goal, fake_run.request.target, 0, run / JOURNAL)
    for one in (outcome(0.3, model=stored), Outcome("crashed", "SIGSEGV", seconds=1.0)):
        proposal = searcher.ask()
        assert proposal
        searcher.tell(proposal, one)
    write_json(run / BASELINE, {"report": measured(1.0).to_json(), "seconds": 1.0})
    result = concluded(fake_run, [finding(ROUNDED, stored, measured(0.25))], tried=searcher.tried)
    write_json(run / MANIFEST, finite(result.manifest))
    result.save(tmp_path / "bundle")
    run.close()
    return tmp_path


def test_a_bundle_and_its_run_are_told_of_anew_also_where_it_was_interrupted(home: Path) -> None:
    first = (home / "bundle" / "report.html").read_text()
    (home / "bundle" / "report.html").unlink()
    assert report(home / "bundle") == home / "bundle" / "report.html"
    assert (home / "bundle" / "report.html").read_text() == first
    assert "2 candidates" in first and "strop.Bundle.load" in first

    told = CliRunner().invoke(app, ["report", str(home / "run"), "--out", str(home / "page.html"), "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == {"file": str(home / "page.html")}
    page = (home / "page.html").read_text()
    assert page.count('scope="row"') == first.count('scope="row"') - 2, "but for the hashes of the bundle's files"

    (home / "run" / "manifest.json").unlink()  # as a kill leaves it
    page = report(home / "run").read_text()
    for said in (
        "What was tried so far: 2 candidates",
        "optimize --resume",
        "nothing is confirmed",
        "10 (9.9 to 10.1) ms",
    ):
        assert said in page, said


def test_what_is_none_or_was_altered_is_a_named_error(home: Path) -> None:
    with pytest.raises(BundleError, match="has neither"):
        report(home / "given")
    with pytest.raises(InvalidPlan, match="Give both"):
        report(home / "bundle", original=home / "given" / "model.fake")
    with pytest.raises(InvalidPlan, match="is a run"):
        report(home / "run", original="a", data="b")
    run = RunDir(home / "run")
    with pytest.raises(RunFailed, match="another search works in"):
        report(home / "run")
    run.close()
    tried = home / "bundle" / "candidates.json"
    candidates = json.loads(tried.read_text())
    for spoiled in ("{", "[1]", json.dumps([{**candidates[0], "report": 3}]), json.dumps([{"cause": "done"}])):
        tried.write_text(spoiled)
        with pytest.raises(BundleError, match="not what strop wrote"):
            report(home / "bundle")
    tried.unlink()
    assert "No candidate was" not in report(home / "bundle").read_text(), "a bundle of an earlier strop has finalists"
    (home / "run" / "manifest.json").write_text('{"verdict": 1}')
    with pytest.raises(RunFailed, match="not what strop wrote"):
        report(home / "run")


def test_a_bundle_and_a_run_of_an_older_strop_are_told_of_without_what_it_did_not_tell(home: Path) -> None:
    older = {"explained": {"said": ["It is off."], "notes": [], "floats": [{"layer": "a", "why": "b"}]}, "profile": {}}
    for place in (home / "bundle", home / "run"):
        (place / "anatomy.json").write_text(json.dumps(older))
        told = CliRunner().invoke(app, ["report", str(place)])
        assert told.exit_code == 0, told.output
        page = (place / "report.html").read_text()
        assert "It is off." in page and "(KeyError: &#x27;alone&#x27;)" in page
        assert page.count("Left out: ") == 4, "layers, trees, floats and worst samples"


KILLED = """
import os, signal
from strop.tune import search

def train(trial):
    if trial.params["n"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(trial.params["n"])

search("__main__:train", {"n": [4, 2, 7, 5]}, threads=1, run="run")
"""


def test_a_search_over_parameters_is_told_of_anew_also_where_it_was_killed(tmp_path: Path) -> None:
    found = search(lambda trial: float(trial.params["n"]), {"n": [1, 2, 3]}, threads=1, run=tmp_path / "whole")
    first = (tmp_path / "whole" / "report.html").read_text()
    assert report(tmp_path / "whole").read_text() == first
    assert f"{len(found.trials)} candidates" in first
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    page = report(tmp_path / "run").read_text()
    assert "strop tune --resume" in page and "What was tried so far: 2 candidates" in page
