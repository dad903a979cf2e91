"""`strop watch --web`: optuna-dashboard, on the journal of a search, has its studies and trials."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from engine import FakeRun, outcome
from strop.cli import app
from strop.plan import Candidate, Route
from strop.rundir import JOURNAL
from strop.search import RouteSearch
from strop.testing import FakeRound, FakeRuntime, FakeStrip


@pytest.fixture
def searched(fake_run: FakeRun) -> tuple[Path, list[str]]:
    """The run directory of a search whose outcomes are made up, and the candidates that it tried."""
    given = [Route((FakeRound,), FakeRuntime), Route((FakeStrip,), FakeRuntime)]
    searcher = RouteSearch(given, fake_run.setting.goal, fake_run.request.target, 0, fake_run.run / JOURNAL)
    tried = []
    for latency in (0.3, 0.5):
        proposal = searcher.ask()
        assert proposal
        searcher.tell(proposal, outcome(latency))
        tried.append(str(proposal.candidate))
    fake_run.run.close()
    return fake_run.run.root, tried


def test_the_dashboard_is_given_the_studies_of_the_run(
    searched: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tried = searched
    served: list[Any] = []
    dashboard = SimpleNamespace(run_server=lambda storage, host, port: served.append((storage, host, port)))
    monkeypatch.setitem(sys.modules, "optuna_dashboard", dashboard)
    monkeypatch.setattr("strop.watcher.installed", lambda name: True)
    done = CliRunner().invoke(app, ["watch", str(run), "--web", "--port", "8123"])
    assert done.exit_code == 0 and "http://127.0.0.1:8123" in done.output, done.output
    ((storage, host, port),) = served
    assert (host, port) == ("127.0.0.1", 8123), "nobody else on the network is shown it"
    trials = [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]
    assert _candidates(trial.user_attrs for trial in trials) == tried


def test_a_port_that_is_taken_is_refused(searched: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def run_server(storage: Any, host: str, port: int) -> None:
        socket.create_server((host, port)).close()

    monkeypatch.setitem(sys.modules, "optuna_dashboard", SimpleNamespace(run_server=run_server))
    monkeypatch.setattr("strop.watcher.installed", lambda name: True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = CliRunner().invoke(app, ["watch", str(searched[0]), "--web", "--port", str(port)])
    assert refused.exit_code == 2 and f"{port} can't be had" in refused.stderr and "--port" in refused.stderr


@pytest.mark.skipif(not find_spec("optuna_dashboard"), reason="needs optuna-dashboard")
def test_a_browser_finds_the_trials(searched: tuple[Path, list[str]]) -> None:
    run, tried = searched
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "strop", "watch", str(run), "--web", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as server:
        try:
            studies = _get(server, port, "api/studies")["study_summaries"]
            details = [_get(server, port, f"api/studies/{study['study_id']}") for study in studies]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/dashboard/") as page:
                assert page.status == 200 and b"<html" in page.read()
        finally:
            said = _interrupted(server)
    assert server.returncode == 0 and "Traceback" not in said, said
    trials = [trial for study in details for trial in study["trials"]]
    assert {trial["state"] for trial in trials} == {"Complete"}
    attributes = [{one["key"]: one["value"] for one in trial["user_attrs"]} for trial in trials]
    assert _candidates(attributes) == tried


def _interrupted(server: subprocess.Popen[str]) -> str:
    """What it said, ended by Ctrl-C; one that goes on is killed, for nobody would wait for it."""
    server.send_signal(signal.SIGINT)
    try:
        return server.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        server.kill()
        raise


def _candidates(attributes: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(Candidate.of(json.loads(told["candidate"]))) for told in attributes]


def _get(server: subprocess.Popen[str], port: int, path: str) -> Any:
    """What its API answers, as soon as it does."""
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                assert answer.status == 200
                return json.load(answer)
        except urllib.error.URLError as error:
            assert server.poll() is None and time.monotonic() < end, error
            time.sleep(0.2)
