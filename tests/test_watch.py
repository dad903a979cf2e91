"""`strop watch`: what a search told is read from its run directory, while it works and after it has ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import strop
from engine import COMPILED, ROUNDED, FakeRun, concluded, finding, outcome, report
from strop.cli import app
from strop.diary import Diary, Reader
from strop.errors import RunFailed
from strop.events import (
    Confirmed,
    Confirming,
    Event,
    Measured,
    Planned,
    Said,
    Stopped,
    Tried,
    Trying,
    Working,
)
from strop.rundir import DIARY, JOURNAL, MANIFEST, SAVED, RunDir, write_json
from strop.terminal import Reporter
from strop.testing import fake_data, fake_model
from strop.trial import Outcome

SAID: list[Event] = [
    Said("a note", True), Measured(report(1.0)), Planned(("a", "b"), {"c": "does not fit"}),
    Trying(1, str(ROUNDED), "its defaults", 50.0), Working(0.5, "training"), Tried(1, str(ROUNDED), outcome(0.5), None),
    Trying(2, str(COMPILED), "its defaults", None), Tried(2, str(COMPILED), outcome(0.25), str(COMPILED)),
    Tried(3, "x", Outcome("crashed", "signal 11", seconds=1.0), str(COMPILED)), Stopped("enough"),
    Confirming(str(COMPILED), 1, 1), Confirmed(str(COMPILED), "met", ""),
]  # fmt: skip


def nobody(event: Event) -> None:
    """Listens, and does nothing."""


def watch(*words: object) -> Result:
    return CliRunner().invoke(app, ["watch", *map(str, words)])


@pytest.fixture
def run(fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run directory of a search that has ended: what it told is made up, what it asked and came to is not. No
    bundle is waited for, since the process that told it is that of the tests, and writes none."""
    monkeypatch.setattr("strop.watcher.SAVING", 0.0)
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    write_json(fake_run.run / MANIFEST, concluded(fake_run, [finding(COMPILED, model, report(0.25))]).manifest)
    fake_run.run.close()
    with Diary(fake_run.run / DIARY, nobody) as diary:
        for event in SAID:
            diary(event)
    return fake_run.run.root


def test_a_search_that_has_ended_is_told_again_with_what_it_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fakes: None, quick_looks: None
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    model = fake_model(tmp_path / "model", seconds=0.001)
    run, heard = tmp_path / "run", []
    result = strop.optimize(
        model.path, fake_data(model, 600), "accuracy >= 95% of original", target=strop.Target(threads=1),
        budget=strop.Budget(600, 2), run=run, listener=heard.append,
    )  # fmt: skip
    bundle = result.save()
    assert [entry.event for entry in Reader(run / DIARY).new() if entry.event] == heard
    done = watch(run)
    manifest = json.loads((run / MANIFEST).read_text())
    assert done.exit_code == {"met": 0, "infeasible": 3, "inconclusive": 4}[manifest["verdict"]], done.output
    first, second = "  1 fake-", "  2 fake-"
    for words in ("original: ", "to try", first, second, "search ended: 2 candidates tried", manifest["reason"]):
        assert words in done.stderr, words
    assert done.stdout == "" and "\x1b" not in done.stderr
    assert f"bundle: {bundle.folder} (report.html, manifest.json, model)" in done.stderr
    assert json.loads(watch(run, "--json").stdout) == manifest
    strop.resume(run)
    assert not (run / SAVED).exists(), "what an earlier session wrote is another result's"


def test_one_that_is_killed_says_how_to_go_on(run: Path) -> None:
    """Of the process that wrote the diary nothing is left, and it wrote no end."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    whole = (run / DIARY).read_text().splitlines()
    begun = json.loads(whole[0]) | {"begun": {"pid": dead.pid, "since": 1.0}}
    (run / DIARY).write_text("\n".join([json.dumps(begun), *whole[1:-1]]) + '\n{"at": 1.0, "ev')
    done = watch(run)
    assert done.exit_code == 2 and f"--resume {run}" in done.stderr
    RunDir(run).close()
    assert (run / DIARY).read_text().splitlines() == [
        json.dumps(begun),
        *whole[1:-1],
    ]  # nothing is torn when it goes on
    with pytest.raises(RuntimeError), Diary(run / DIARY, nobody):
        raise RuntimeError("out of luck")
    assert "ended early. out of luck" in watch(run).stderr
    with Diary(run / DIARY, nobody):
        pass
    assert watch(run).exit_code == 0


def test_one_that_works_is_followed_until_it_ends(run: Path) -> None:
    (run / DIARY).unlink()
    diary = Diary(run / DIARY, nobody)
    diary.__enter__()

    def tell() -> None:
        for event in SAID:
            diary(event)
            time.sleep(0.05)
        diary.__exit__(None, None, None)

    thread = threading.Thread(target=tell)
    thread.start()
    done = watch(run)
    thread.join()
    assert f"  2 {COMPILED}: " in done.stderr and "best so far" in done.stderr
    assert "x: crashed: signal 11" in done.stderr and f"{COMPILED} is met" in done.stderr


def test_a_bundle_is_waited_for_while_the_process_that_searched_may_write_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strop.watcher.SAVING", 600.0)
    (tmp_path / "bundle").mkdir()
    writes = threading.Timer(1.0, write_json, (run / SAVED, {"bundle": str(tmp_path / "bundle")}))
    writes.start()
    done = watch(run)
    writes.join()
    assert done.stderr.splitlines()[-1] == f"bundle: {tmp_path / 'bundle'} (report.html, manifest.json, model)"
    (tmp_path / "bundle").rmdir()
    assert "bundle: " not in watch(run).stderr, "it was moved or removed since"
    (run / SAVED).unlink()
    monkeypatch.setattr("strop.watcher.SAVING", 0.1)
    assert "bundle: " not in watch(run).stderr, "a notebook that does not save is not waited for without end"


def test_what_is_told_is_read_as_it_was_told(tmp_path: Path) -> None:
    heard: list[Event] = []
    with Diary(tmp_path / DIARY, heard.append) as diary:
        for event in SAID:
            diary(event)
        for share in (0.1, 0.2, 0.3):
            diary(Working(share, "training"))  # told so often only to who listens here
    reader = Reader(tmp_path / DIARY)
    entries = reader.new()
    assert heard[: len(SAID)] == SAID and len(heard) == len(SAID) + 3
    assert [entry.event for entry in entries if entry.event] == SAID
    assert entries[0].begun == (os.getpid(), psutil.Process().create_time()) and entries[0].alive
    assert entries[-1].ended == "" and not entries[-1].alive
    assert reader.new() == []
    with (tmp_path / DIARY).open("a") as stream:
        stream.write('{"at": 1, "ended"')
        stream.flush()
        assert reader.new() == []
        stream.write(': ""}\n')
    assert [entry.ended for entry in reader.new()] == [""]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"at": 1, "event": "Nothing", "told": {}}',
        '{"at": 1, "event": "Tried"}',
        '{"at": 1, "event": "Stopped", "told": {"reason": 5}}',
        "\xff",
    ],
)
def test_a_diary_that_was_altered_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / DIARY).write_text(line + "\n", encoding="latin-1")
    with pytest.raises(RunFailed, match=r"events\.jsonl is not what strop wrote"):
        Reader(tmp_path / DIARY).new()


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        done = watch(place)
        assert done.exit_code == 2 and "can be followed" in done.stderr
    os.mkfifo(tmp_path / DIARY)
    assert watch(tmp_path).exit_code == 2


def test_without_a_run_the_newest_here_is_followed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for words in ([], ["--web"]):
        none = watch(*words)
        assert none.exit_code == 2 and "newest in ./strop-runs" in none.stderr and "none" in none.stderr
    for name in ("z-older", "a-newer"):
        shutil.copytree(run, here / "strop-runs" / name)
    with Diary(here / "strop-runs" / "a-newer" / DIARY, nobody) as diary:
        diary(Stopped("enough of the newer"))
    os.utime(here / "strop-runs" / "z-older" / DIARY, (1, 1))
    done = watch()
    assert done.exit_code == 0 and "enough of the newer" in done.stderr


def test_what_is_left_out_takes_one_line_and_the_report_of_the_run_says_why(run: Path) -> None:
    said = watch(run).stderr
    assert "2 routes to try; 1 of the techniques and runtimes are left out: the report says why" in said
    assert "does not fit" not in said
    (run / MANIFEST).unlink()  # as a kill leaves it
    page = CliRunner().invoke(app, ["report", str(run), "--json"])
    assert "c does not fit" in Path(json.loads(page.stdout)["file"]).read_text()


def test_a_terminal_shows_the_best_what_is_tried_why_and_the_time_left() -> None:
    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=200, color_system=None, _environ={})
    with Reporter(screen, 100) as reporter:
        for event in SAID[:8]:
            reporter(event)
        reporter(Trying(3, "the next", "settings of a route that leads", 33.0))
        reporter.progress.refresh()
    shown = out.getvalue()
    assert "3: the next (settings of a route that leads)" in shown and "33 s left" in shown
    assert f"best so far: {COMPILED}" in shown
    assert f"or 0.5x latency.p50, accuracy 0.9: {ROUNDED}" not in shown, "the best is better in both"


def test_a_terminal_shows_what_is_better_in_quality_beside_the_best() -> None:
    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=200, color_system=None, _environ={})
    with Reporter(screen, 100) as reporter:
        reporter(Tried(1, str(ROUNDED), outcome(0.5), str(ROUNDED)))
        reporter(Tried(2, str(COMPILED), outcome(0.25, accuracy=0.995), str(COMPILED)))
        reporter(Trying(3, "the next", "", 33.0))
        reporter.progress.refresh()
    shown = out.getvalue()
    assert f"best so far: {COMPILED}" in shown and f"or 0.5x latency.p50, accuracy 0.9: {ROUNDED}" in shown


@pytest.mark.parametrize("color", [False, True])
def test_no_color_gives_plain_lines_on_a_terminal_too(tmp_path: Path, color: bool) -> None:
    """Nothing that moves the cursor either: what NO_COLOR is set for can't tell the two apart."""
    code = (
        "from strop.terminal import Reporter, console\nfrom strop.events import Said, Trying\n"
        "with Reporter(console(), 10) as reporter:\n"
        "    reporter(Said('beware', True)); reporter(Trying(1, 'a', 'b', 3.0)); reporter.progress.refresh()\n"
    )
    screen, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    environment = {**kept, "TERM": "xterm-256color", **({} if color else {"NO_COLOR": "1"})}
    done = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a pseudo terminal
        while part := os.read(screen, 4096):
            seen += part
    assert done.wait() == 0 and b"beware" in seen
    assert (b"\x1b" in seen) == color


def test_the_web_needs_its_package_and_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.watcher.installed", lambda name: name != "optuna_dashboard")
    missing = watch(tmp_path, "--web")
    assert missing.exit_code == 2 and "pip install 'strop[report]'" in missing.stderr
    monkeypatch.setattr("strop.watcher.installed", lambda name: True)
    empty = watch(tmp_path, "--web")
    assert empty.exit_code == 2 and JOURNAL in empty.stderr
