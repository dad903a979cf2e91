"""Jobs: whatever happens in the other process costs that job only, is named, and leaves no process behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import job_functions as work
from strop import jobs
from strop.errors import NotApplicable, RunFailed
from strop.target import pin, usable_cores

AMPLE = jobs.Limits(60, 1 << 40)


def gone(pid: int) -> bool:
    """Whether a process ends, soon."""
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_a_value_comes_back_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    ended = jobs.run(work.add, 2, 3, limits=AMPLE)
    ended.raise_unless_done()
    assert (ended.cause, ended.value, ended.reason) == ("done", 5, "")
    assert capfd.readouterr().out == "", "standard output is for one JSON document"


def test_a_job_inherits_nothing() -> None:
    work.inherited.append("from the caller")
    try:
        assert jobs.run(work.count_inherited, limits=AMPLE).value == 0
    finally:
        work.inherited.clear()


def test_a_job_runs_where_its_caller_does_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not where the caller was when the process began that jobs are forked from."""
    jobs.run(work.add, 1, 1, limits=AMPLE)
    capfd.readouterr()
    monkeypatch.setenv("STROP_NEW", "yes")
    monkeypatch.chdir(tmp_path)
    cores = usable_cores()[-1:]
    pin(cores)
    ended = jobs.run(work.surroundings, "STROP_NEW", limits=AMPLE)
    assert ended.value == ("yes", set(cores), tmp_path, False), ended.reason
    assert capfd.readouterr().err == "told on standard error"
    monkeypatch.delenv("STROP_NEW")
    assert jobs.run(work.surroundings, "STROP_NEW", limits=AMPLE).value[0] is None


def test_a_refusal_and_an_error_say_so_themselves() -> None:
    refused, failed = (jobs.run(function, limits=AMPLE) for function in (work.refuse, work.fail))
    assert (refused.cause, refused.reason, refused.value) == ("refused", "does not fit", None)
    assert (failed.cause, failed.reason) == ("failed", "can't be run")
    with pytest.raises(NotApplicable, match="does not fit"):
        refused.raise_unless_done()
    with pytest.raises(RunFailed, match=r"^can't be run"):
        failed.raise_unless_done()


@contextlib.contextmanager
def measuring(lock: Path) -> Iterator[Path]:
    """Another process holds the lock, until the file that is given here is made, or at the end."""
    until = lock.with_suffix(".until")
    holder = jobs.spawn_context().Process(target=work.hold_lock, args=(lock, until))
    holder.start()
    try:
        while not lock.with_suffix(".held").exists():
            time.sleep(0.02)
        yield until
    finally:
        until.touch()
        holder.join(60)


@pytest.fixture
def own() -> float:
    """Seconds that are ample for a job that has nothing to do, however busy this machine is."""
    start = time.monotonic()
    jobs.run(work.add, 1, 1, limits=AMPLE)
    return 1 + 3 * (time.monotonic() - start)


def test_waiting_for_another_process_to_end_measuring_is_no_time_of_a_job(tmp_path: Path, own: float) -> None:
    lock = tmp_path / "lock"
    with measuring(lock) as until:

        def said() -> None:
            """The other one ends when this one has waited for longer than it may take."""
            threading.Timer(own, until.touch).start()

        start = time.monotonic()
        ended = jobs.run(work.wait_for_lock, lock, limits=jobs.Limits(own, 1 << 40), waits=said)
        assert (ended.cause, ended.reason) == ("done", "")
        assert own < ended.waited < time.monotonic() - start


def test_one_may_wait_so_long_and_no_longer(tmp_path: Path, own: float) -> None:
    lock = tmp_path / "lock"
    with measuring(lock):
        ended = jobs.run(work.wait_for_lock, lock, limits=jobs.Limits(own, 1 << 40, waiting=1))
    assert ended.cause == "timeout"
    assert ended.reason == f"took longer than {own:.0f} s, besides 1 s of waiting for another strop to end measuring"


def test_a_bug_is_named() -> None:
    ended = jobs.run(work.stumble, limits=AMPLE)
    assert (ended.cause, ended.reason) == ("failed", "KeyError: 'a bug'")
    with pytest.raises(RunFailed, match="the model could not be run: KeyError"):
        ended.raise_unless_done()


def test_what_means_to_end_its_process_ends_the_job_and_not_the_driver() -> None:
    ended = jobs.run(work.overturn, limits=AMPLE)
    assert (ended.cause, ended.reason) == ("failed", "Worst: first line second line")
    with pytest.raises(RunFailed, match="the model could not be run: Worst") as told:
        ended.raise_unless_done()
    assert "in overturn" in "".join(told.value.__cause__.__notes__), "--debug shows where"  # type: ignore[union-attr]


@pytest.mark.parametrize("function", [work.bring_what_can_not_leave, work.bring_what_can_not_arrive])
def test_a_value_that_can_not_be_brought_home_is_named(function: Callable[[], object]) -> None:
    ended = jobs.run(function, limits=AMPLE)
    assert ended.cause == "failed"
    assert "lambda" in ended.reason or "no number" in ended.reason


def test_a_job_does_what_it_owes_at_its_end(tmp_path: Path) -> None:
    assert jobs.run(work.owe, tmp_path, limits=AMPLE).cause == "done"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["told", "written"], "its folder is removed"
    assert (tmp_path / "written").read_text() == "all of it"


@pytest.mark.parametrize("code", [0, 3])
def test_so_does_a_process_that_holds_a_model_and_its_exit_code_is_its_own(tmp_path: Path, code: int) -> None:
    process = jobs.spawn_context().Process(target=work.owe, args=(tmp_path, code), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["told", "written"], "its folder is removed"
    assert (tmp_path / "written").read_text() == "all of it"


def test_a_process_that_stumbles_says_so_and_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    process = jobs.spawn_context().Process(target=work.stumble)
    process.start()
    process.join(60)
    assert process.exitcode == 1
    assert "KeyError: 'a bug'" in capfd.readouterr().err


def test_a_full_disk_is_named() -> None:
    ended = jobs.run(work.fault, "disk", limits=AMPLE)
    assert ended.cause == "failed"
    assert "No space left on device" in ended.reason


def test_a_crash_is_named_by_its_signal_and_leaves_no_process(tmp_path: Path) -> None:
    ended = jobs.run(work.with_child, tmp_path / "pids", "crash", limits=AMPLE)
    assert (ended.cause, ended.reason) == ("crashed", "its process was killed by SIGSEGV")
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_process_that_ends_without_a_word_has_crashed() -> None:
    ended = jobs.run(work.pid_of_a_quiet_end, limits=AMPLE)
    assert (ended.cause, ended.reason) == ("crashed", "its process ended with exit code 3")


def test_a_hang_ends_at_the_time_limit_and_leaves_no_process(tmp_path: Path) -> None:
    ended = jobs.run(work.with_child, tmp_path / "pids", "hang", limits=jobs.Limits(8, 1 << 40))
    assert (ended.cause, ended.reason) == ("timeout", "took longer than 8 s")
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_job_that_ends_takes_its_processes_along(tmp_path: Path) -> None:
    assert jobs.run(work.with_child, tmp_path / "pids", "", limits=AMPLE).cause == "done"
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


@pytest.mark.parametrize("function", [work.fault, work.parent_of_hog])
def test_memory_over_the_limit_ends_a_job_and_all_its_processes(function: object) -> None:
    arguments = ["memory"] if function is work.fault else []
    ended = jobs.run(function, *arguments, limits=jobs.Limits(60, 400_000_000))  # type: ignore[arg-type]
    assert ended.cause == "memory"
    assert ended.reason.endswith("MB, more than the limit of 400 MB")
    assert ended.peak > 400_000_000


def test_processes_of_the_caller_are_left_alone() -> None:
    own = multiprocessing.get_context("spawn").Process(target=work.linger, daemon=True)
    own.start()
    try:
        assert jobs.run(work.add, 1, 1, limits=jobs.Limits(60, 1 << 40)).value == 2
        assert own.is_alive()
    finally:
        own.kill()
        own.join()


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import job_functions
from strop import jobs
print("once", flush=True)
print(jobs.run(job_functions.{call}, limits=jobs.Limits(60, 1 << 40)).value, flush=True)
"""


def test_a_script_without_a_main_guard_is_run_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), call="add, 2, 3"))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "once\n5\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_killing_the_caller_leaves_no_process(tmp_path: Path) -> None:
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), call=f"with_child, Path({str(pids)!r}), 'hang'"))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL) as caller:
        while not pids.exists() and caller.poll() is None:
            time.sleep(0.1)
        os.kill(caller.pid, signal.SIGKILL)
    assert all(gone(int(pid)) for pid in pids.read_text().split())
