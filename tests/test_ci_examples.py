"""The examples for CI: they call strop as it is, and the history that they keep grows whatever the gate says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from engine import COMPILED, FakeRun, concluded, finding, report
from strop.cli import app
from strop.rundir import write_json

CI = Path(__file__).parents[1] / "examples" / "ci"
FLOW = yaml.safe_load((CI / "github.yml").read_text())
STEPS = FLOW["jobs"]["gate"]["steps"]
GATE = yaml.safe_load((CI / "gitlab-ci.yml").read_text())["gate"]


def script(steps: list[dict[str, Any]], name: str) -> str:
    (found,) = (step["run"] for step in steps if step.get("name", "").startswith(name))
    return str(found)


def shell(text: str, folder: Path, **variables: str) -> None:
    """As a server runs it: it ends at the first command that fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", text], cwd=folder, env={**os.environ, "PATH": path, **variables}, check=True)


def lines(history: str) -> list[str]:
    return [json.loads(line)["commit"] for line in history.splitlines()]


@pytest.fixture
def manifest(fake_run: FakeRun) -> dict[str, Any]:
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    return dict(concluded(fake_run, [finding(COMPILED, model, report(0.25))]).manifest)


@pytest.mark.parametrize("scripts", [[step.get("run", "") for step in STEPS], GATE["script"]], ids=["github", "gitlab"])
def test_they_call_strop_as_it_is(scripts: list[str]) -> None:
    found = [shlex.split(line) for text in scripts for line in text.splitlines() if line.startswith("strop ")]
    assert [words[1] for words in found] == ["optimize", "verify"]
    verbs: Any = typer.main.get_command(app)
    for _, verb, *words in found:
        verbs.commands[verb].make_context(verb, words)  # which refuses a flag that there is not
    assert 'pip install "$STROP"' in scripts


def test_they_are_what_their_servers_read() -> None:
    assert set(FLOW[True]) == {"push", "pull_request"}  # `on`, as YAML 1.1 reads it
    for job in FLOW["jobs"].values():
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    (told,) = (step for step in STEPS if step.get("id") == "history")
    assert told["if"].startswith("${{ !cancelled()"), "a gate that stops a model would leave no line"
    assert FLOW["permissions"] == {"contents": "read"} and FLOW["jobs"]["history"]["permissions"] == {
        "contents": "write"
    }
    assert GATE["artifacts"]["reports"]["junit"] == "verify.xml" and GATE["artifacts"]["when"] == "always"


def test_a_line_of_history_is_what_a_manifest_tells(manifest: dict[str, Any], tmp_path: Path) -> None:
    said = []
    for commit, changed in (("a1", 1.0), ("b2", 3.0), ("c3", None)):
        size = manifest["winner"]["metrics"]["size"]
        size |= {key: changed and size[key] * changed for key in ("value", "low", "high")}
        write_json(tmp_path / "manifest.json", manifest)
        words = [sys.executable, CI / "history.py", tmp_path / "manifest.json", tmp_path / "history.jsonl", commit]
        said.append(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        manifest["environment"] |= {"cpu": "Old CPU"} if commit == "b2" else {}
    first, second, _ = map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())
    assert (first["commit"], second["commit"]) == ("a1", "b2") and first["verdict"] == manifest["verdict"] == "met"
    assert first["metrics"]["size"]["unit"] == "bytes" and first["ratios"]["latency.p50"]["value"] == 0.25
    assert first["date"] <= second["date"] and first["date"].endswith("+00:00")
    assert "### met" in said[0] and "first line" in said[0]
    assert f"of {first['date']}, a1: met" in said[1] and "another CPU" not in said[1]
    rows = {row.split(" | ")[0].strip("| "): row for row in said[1].splitlines() if row.startswith("| ")}
    assert "differs" in rows["size"] and "bytes" in rows["size"]
    assert "within the spread" in rows["latency.p50"] and "0.25 (0.2475 to 0.2525)" in rows["latency.p50"]
    assert "another CPU" in said[2] and "? (? to ?) bytes" in said[2]


def test_on_github_the_history_grows_on_a_branch_of_its_own(manifest: dict[str, Any], tmp_path: Path) -> None:
    """From no branch at all, from a checkout as shallow as the server's; a gate that said no adds its line too."""
    origin, summary = tmp_path / "origin.git", tmp_path / "summary.md"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    work = tmp_path / "work"
    subprocess.run([*git, "init", "--quiet", "--bare", origin], check=True)
    subprocess.run([*git, "init", "--quiet", work], check=True)
    (work / "ci").mkdir()
    shutil.copy(CI / "history.py", work / "ci")
    for words in (["add", "."], ["commit", "--quiet", "-m", "x"], ["push", "--quiet", origin.as_uri(), "HEAD:main"]):
        subprocess.run([*git, *words], cwd=work, check=True)
    for commit, verdict in (("a1", "met"), ("b2", "infeasible")):
        gate, keep = tmp_path / f"gate-{commit}", tmp_path / f"keep-{commit}"
        for place in (gate, keep):
            subprocess.run([*git, "clone", "--quiet", "--depth", "1", origin.as_uri(), place], check=True)
        (gate / "candidate").mkdir()
        write_json(gate / "candidate" / "manifest.json", {**manifest, "verdict": verdict})
        known = {"GITHUB_SHA": commit, "GITHUB_STEP_SUMMARY": str(summary)}
        shell(script(STEPS, "Add a line"), gate, **known)
        (keep / "found").mkdir()
        shutil.copy(gate / "history.jsonl", keep / "found")
        shell(script(FLOW["jobs"]["history"]["steps"], "Keep the history"), keep, **known)
    shown = subprocess.run(
        ["git", "--git-dir", origin, "show", "model-history:history.jsonl"], capture_output=True, text=True, check=True
    )
    assert lines(shown.stdout) == ["a1", "b2"]
    files = subprocess.run(
        ["git", "--git-dir", origin, "ls-tree", "--name-only", "-r", "model-history"], capture_output=True, text=True
    )
    assert files.stdout.split() == ["history.jsonl"]
    assert "### infeasible" in summary.read_text() and "a1: met" in summary.read_text()


class Registry(BaseHTTPRequestHandler):
    """A registry of packages that holds one file; `broken`, it answers nothing of use."""

    kept: bytes | None = None
    broken = False

    def do_GET(self) -> None:
        self.send_response(500 if self.broken else 404 if self.kept is None else 200)
        self.end_headers()
        self.wfile.write(b"no such file" if self.broken or self.kept is None else self.kept)

    def do_PUT(self) -> None:
        assert self.headers["JOB-TOKEN"] == "secret"
        type(self).kept = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[tuple[type[Registry], str]]:
    kind = type("Fresh", (Registry,), {})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield kind, f"http://127.0.0.1:{server.server_port}/history.jsonl"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_on_gitlab_the_history_grows_in_the_registry(
    manifest: dict[str, Any], tmp_path: Path, registry: tuple[type[Registry], str]
) -> None:
    kind, address = registry
    (tmp_path / "ci").mkdir()
    shutil.copy(CI / "history.py", tmp_path / "ci")
    after = "\n".join(GATE["after_script"])

    def run(commit: str, branch: str = "main") -> None:
        shell(
            after, tmp_path, HISTORY=address, CI_JOB_TOKEN="secret", CI_COMMIT_SHA=commit, CI_COMMIT_BRANCH=branch,
            CI_DEFAULT_BRANCH="main",
        )  # fmt: skip

    run("none")  # the search ended before there was a candidate
    assert kind.kept is None
    (tmp_path / "candidate").mkdir()
    write_json(tmp_path / "candidate" / "manifest.json", manifest)
    run("a1"), run("b2"), run("mine", "feature"), run("c3")
    assert kind.kept is not None and lines(kind.kept.decode()) == ["a1", "b2", "c3"]
    kind.broken = True
    with pytest.raises(subprocess.CalledProcessError):
        run("d4")
    assert lines(kind.kept.decode()) == ["a1", "b2", "c3"], "a history that can't be read was written over"
