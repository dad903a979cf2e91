"""Cache: bounded by what was longest not used, and nothing goes while anybody is there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from strop import _cache
from strop._cache import PART, own_folder, used


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_cache, "MOST", 1000)
    with own_folder("compiler") as folder:
        pass
    yield folder


def write(path: Path, size: int, last: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (last, last))
    return path


def visit() -> None:
    with own_folder("compiler"):
        pass


def left(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} - {".lock"}


def test_what_was_longest_not_used_goes_first(folder: Path) -> None:
    for place, name in enumerate(("a.so", "b.so", "c.so")):
        write(folder / name, 450, 100 + place)
    with own_folder("compiler"):
        assert used(folder / "a.so") and not used(folder / "d.so")
        assert left(folder) == {"a.so", "b.so", "c.so"}
    assert left(folder) == {"a.so", "c.so"}
    visit()
    assert left(folder) == {"a.so", "c.so"}, "within bounds, all is kept"


def test_what_lies_in_a_folder_goes_together_by_the_last_use_of_any_of_it(folder: Path) -> None:
    write(folder / "ab" / "old.so", 300, 1)
    write(folder / "ab" / "new.cpp", 300, 300)
    write(folder / "cd" / "middle.so", 600, 200)
    visit()
    assert left(folder) == {"ab"} and len(list((folder / "ab").iterdir())) == 2


def test_what_a_killed_process_left_behind_goes(folder: Path) -> None:
    write(folder / f"{PART}x" / "driver.c", 1, 1e12)
    visit()
    assert left(folder) == set()


def test_links_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "file", 5000, 1)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / f"{PART}link").symlink_to(tmp_path / "elsewhere")
    write(folder / "a.so", 990, 5)
    visit()
    assert (tmp_path / "elsewhere" / "file").exists() and not (folder / f"{PART}link").is_symlink()
    assert (folder / "a.so").exists()


def test_nothing_goes_while_another_process_is_there(folder: Path) -> None:
    """Which is killed in the middle, and so keeps nobody waiting either."""
    write(folder / "a.so", 2000, 1)
    stay = (
        "import time\nfrom strop._cache import own_folder\n"
        "with own_folder('compiler'):\n print(flush=True)\n time.sleep(60)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parents[2])}
    with subprocess.Popen([sys.executable, "-c", stay], stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None
        other.stdout.readline()
        visit()
        assert left(folder) == {"a.so"}
        other.kill()
        other.wait()
    visit()
    assert left(folder) == set()


def test_many_at_once_neither_wait_for_each_other_nor_lose_what_they_use(folder: Path) -> None:
    lost, meet = [], threading.Barrier(4, timeout=30)

    def work(name: str) -> None:
        for _ in range(50):
            with own_folder("compiler"):
                if not used(folder / name):
                    write(folder / name, 400, 0)
                    used(folder / name)
                if not (folder / name).exists():
                    lost.append(name)

    def together(name: str) -> None:
        with own_folder("compiler"):
            meet.wait()
        work(name)

    threads = [threading.Thread(target=together, args=(f"{number}.so",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    visit()
    assert sum((folder / name).stat().st_size for name in left(folder)) <= 1000
