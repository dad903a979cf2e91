"""Run directory: whole files or none, one process at a time, and what a kill leaves is cleared away."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from strop.errors import RunFailed
from strop.rundir import JOURNAL, PLAN, RunDir, atomic, finite, write_json


def test_what_is_written_replaces_what_was(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    write_json(tmp_path / "a.json", {"new": [1, 2]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"new": [1, 2]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_text("x")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "deep" / "file").read_text() == "x"
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_json_knows_no_nan() -> None:
    given = {"a": [1.5, math.nan, (math.inf, "x")], "b": {"c": -math.inf, "d": None, "e": True}}
    assert finite(given) == {"a": [1.5, None, [None, "x"]], "b": {"c": None, "d": None, "e": True}}


def test_a_new_run_is_the_owners_alone_and_has_no_plan(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "deep" / "run")
    assert not (run / PLAN).exists()
    assert (tmp_path / "deep" / "run").stat().st_mode & 0o777 == 0o700
    assert run.folder("data/search").is_dir()
    run.close()


def test_the_torn_last_line_of_a_journal_is_cut(tmp_path: Path) -> None:
    whole = b'{"op": 1}\n{"op": 2}\n'
    (tmp_path / JOURNAL).write_bytes(whole + b'{"op": 3, "torn')
    RunDir(tmp_path).close()
    assert (tmp_path / JOURNAL).read_bytes() == whole
    RunDir(tmp_path).close()
    assert (tmp_path / JOURNAL).read_bytes() == whole


def test_a_journal_of_one_torn_line_is_emptied(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"op"')
    RunDir(tmp_path).close()
    assert (tmp_path / JOURNAL).read_bytes() == b""


def test_what_a_kill_left_half_done_is_removed(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "artifacts", tmp_path / "artifacts" / "kept"):
        (folder / ".part-x" / "deep").mkdir(parents=True)
        (folder / ".part-x" / "deep" / "model").write_text("half")
    (tmp_path / "artifacts" / "kept" / "model").write_text("whole")
    (tmp_path / (JOURNAL + ".lock")).symlink_to(tmp_path / JOURNAL)
    RunDir(tmp_path).close()
    assert not list(tmp_path.rglob(".part-*"))
    assert not list(tmp_path.glob(JOURNAL + "*"))
    assert (tmp_path / "artifacts" / "kept" / "model").read_text() == "whole"


def test_what_a_crashed_candidate_left_goes_with_the_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    (run.folder("artifacts") / ".part-x").mkdir()
    run.close()
    assert not list(tmp_path.rglob(".part-*"))


def test_a_second_search_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    (tmp_path / ".part-x").mkdir()
    first = RunDir(tmp_path)
    (tmp_path / ".part-y").mkdir()
    with pytest.raises(RunFailed, match=r"another search works in .*run=DIR"):
        RunDir(tmp_path)
    assert (tmp_path / ".part-y").exists(), "who is refused clears nothing away"
    first.close()
    RunDir(tmp_path).close()


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    hold = "import sys, time; from pathlib import Path; from strop.rundir import RunDir\n"
    hold += "run = RunDir(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunFailed, match="another search"):
            RunDir(tmp_path)
        os.kill(other.pid, signal.SIGKILL)
    assert (tmp_path / ".lock").exists()
    RunDir(tmp_path).close()


def test_a_folder_that_cannot_be_used_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFailed, match=r"can't be used .*run=DIR"):
            RunDir(place)


def test_a_folder_of_somebody_elses_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work" / ".part-mine").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunFailed, match="is none"):
        RunDir(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "work"]
    assert (tmp_path / "work" / ".part-mine").exists()


def test_a_run_folder_that_others_may_have_written_is_refused(tmp_path: Path) -> None:
    RunDir(tmp_path / "run").close()
    (tmp_path / "run").chmod(0o750)
    with pytest.raises(RunFailed, match=r"with mode 700.*with mode 750.*chmod 700.*a search of your own"):
        RunDir(tmp_path / "run")
    (tmp_path / "empty").mkdir(mode=0o755)
    RunDir(tmp_path / "empty").close()
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [".lock", JOURNAL, PLAN, "artifacts", "data", "outputs", "artifacts/deep/file"])
def test_links_in_a_run_folder_reach_nothing_outside(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (outside / ".part-mine").mkdir(parents=True)
    (outside / "file").write_text("no line ends here")
    (tmp_path / "run").mkdir(mode=0o700)
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if name in ("artifacts", "data", "outputs") else outside / "file")
    with pytest.raises(RunFailed, match=r"regular files and folders only|can't be used"):
        RunDir(tmp_path / "run")
    assert (outside / "file").read_text() == "no line ends here"
    assert (outside / ".part-mine").exists()


@pytest.mark.parametrize("name", [".lock", JOURNAL, PLAN])
def test_pipes_in_a_run_folder_hold_nobody_up(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(RunFailed, match=rf"regular files and folders only, and .*{name} is neither"):
        RunDir(tmp_path)


def test_going_on_makes_nothing_in_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "typo").mkdir()
    for name in ("typo", "nothing"):
        with pytest.raises(RunFailed, match="holds no run to go on with"):
            RunDir.existing(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["typo"]


def test_a_folder_knows_whether_it_was_made(tmp_path: Path) -> None:
    for created in (True, False):
        run = RunDir(tmp_path / "new")
        assert run.created == created
        run.close()
    inner = tmp_path / "empty" / "fresh" / ".."
    inner.parent.parent.mkdir()
    run = RunDir(inner)
    assert (run.root, run.created) == (tmp_path / "empty", False)
    run.close()
