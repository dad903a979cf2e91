"""The lock for measuring: one for all users of a host, whatever their environment, and nothing in its place harms."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from strop import timing
from strop.errors import RunFailed


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A lock of its own: nobody else is waited for."""
    path = tmp_path / "measuring.lock"
    monkeypatch.setattr(timing, "LOCK", path)
    return path


def test_one_measures_at_a_time(lock: Path) -> None:
    for _ in range(2):  # the file is made, and then found
        with timing.one_at_a_time(), lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with lock.open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_who_is_given_a_lock_of_its_own_waits_for_nobody_else(lock: Path, tmp_path: Path) -> None:
    with timing.one_at_a_time(), timing.one_at_a_time(tmp_path / "own.lock"), lock.open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (tmp_path / "own.lock").open() as own, pytest.raises(BlockingIOError):
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_is_one_for_the_host_whatever_tmpdir_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert timing.LOCK.parent == Path("/tmp"), "all users find it there"
    monkeypatch.setattr(timing, "LOCK", tmp_path / "lock")  # the host's may be held for long
    with timing.one_at_a_time():
        assert not list((tmp_path / "temporary").iterdir())


def test_everybody_may_read_the_lock_whatever_the_umask(lock: Path) -> None:
    before = os.umask(0o077)
    try:
        with timing.one_at_a_time():
            assert lock.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_a_link_in_place_of_the_lock_is_not_followed(lock: Path, tmp_path: Path) -> None:
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFailed, match=r"measuring\.lock, .* can't be opened .*remove it"), timing.one_at_a_time():
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_in_place_of_the_lock_hangs_nobody(lock: Path) -> None:
    os.mkfifo(lock)
    with timing.one_at_a_time():
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")
@pytest.mark.parametrize("first", [0, 65534])
def test_users_wait_for_each_other(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Whoever made the lock's file, the other can hold it, and is waited for."""
    shared = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    shared.chmod(0o1777)
    monkeypatch.setattr(timing, "LOCK", shared / "measuring.lock")
    held, release = os.pipe(), os.pipe()
    second = 65534 - first
    child = os.fork()
    if child == 0:
        try:
            os.setuid(first)
            with timing.one_at_a_time():
                os.write(held[1], b"1")
                os.read(release[0], 1)
        finally:
            os._exit(0)
    assert os.read(held[0], 1) == b"1"
    other = os.fork()
    if other == 0:
        try:
            os.setuid(second)
            with timing.one_at_a_time():
                os.write(held[1], b"2")
        finally:
            os._exit(0)
    os.set_blocking(held[0], False)
    time.sleep(0.5)  # in which the other would have got there
    with pytest.raises(BlockingIOError):
        os.read(held[0], 1)
    os.write(release[1], b"1")
    os.waitpid(child, 0)
    os.waitpid(other, 0)
    assert os.read(held[0], 1) == b"2"
    for descriptor in (*held, *release):
        os.close(descriptor)
    shutil.rmtree(shared)
