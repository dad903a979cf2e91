"""What the tests of jobs run in other processes; importable there, as jobs must be."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from strop import timing
from strop.errors import NotApplicable, RunFailed
from strop.jobs import die_with_parent, spawn_context
from strop.runtime import Runtime
from strop.testing.fakes import commit

inherited: list[str] = []
eaten: list[np.ndarray[Any, Any]] = []
kept: list[object] = []


def count_inherited() -> int:
    return len(inherited)


def surroundings(name: str) -> tuple[str | None, set[int], Path, bool]:
    """An environment variable, the cores, the working directory, and whether a runtime is loaded."""
    os.write(2, b"told on standard error")
    return os.environ.get(name), os.sched_getaffinity(0), Path.cwd(), "onnxruntime" in sys.modules


def add(a: int, b: int) -> int:
    print("libraries talk", flush=True)
    return a + b


def wait_for_lock(path: Path) -> None:
    """As what is to be measured waits for the host's lock, which is this file here."""
    timing.LOCK = path
    with timing.one_at_a_time():
        pass


def hold_lock(path: Path, until: Path) -> None:
    """Measure until a file is there."""
    timing.LOCK = path
    with timing.one_at_a_time():
        path.with_suffix(".held").touch()
        while not until.exists():
            time.sleep(0.02)


def hungry(batch: dict[str, np.ndarray[Any, Any]], random: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Augments a batch, and keeps 200 MB each time."""
    eaten.append(np.ones(25_000_000))
    return batch


def train_hungrily(folder: Path) -> None:
    from shrinking import Net, bars, context, stored
    from strop.training import retrain

    data, module = bars(240), Net(8)
    retrain(module, context(stored(module, data, folder / "job"), data, folder / "job" / "out", augment=hungry))


def refuse() -> NoReturn:
    raise NotApplicable("does not fit")


def fail() -> NoReturn:
    raise RunFailed("can't be run")


def stumble() -> NoReturn:
    raise KeyError("a bug")


class Worst(BaseException):
    """What no handler of errors catches, and no pickle carries home."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}\n{second}")


def overturn() -> NoReturn:
    raise Worst("first line", "second line")


def fault(kind: str) -> None:
    commit(kind, Path.cwd())


def pid_of_a_quiet_end() -> NoReturn:
    os._exit(3)


def owe(folder: Path, code: int = 0) -> None:
    """Leave to the end of the process what many leave to it, and end it by an exit code."""
    kept.append(tempfile.TemporaryDirectory(dir=folder))
    atexit.register((folder / "told").touch)
    kept.append(file := (folder / "written").open("w"))
    file.write("all of it")
    if code:
        sys.exit(code)


def bring_what_can_not_leave() -> Callable[[], None]:
    return lambda: None


class Stays:
    """What can be sent, and not be read."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("no number",)


def bring_what_can_not_arrive() -> Stays:
    return Stays()


def loaded_by(runtime: Runtime) -> set[str]:
    """The modules that are there once a runtime is started."""
    runtime.start()
    return {name for name, module in sys.modules.items() if module is not None}


def with_child(pids: Path, kind: str) -> None:
    """Start a process that hangs as a server might, tell both ids, and then go wrong, or end."""
    child = spawn_context().Process(target=linger, daemon=True)
    child.start()
    part = pids.with_suffix(".part")
    part.write_text(f"{os.getpid()} {child.pid}")
    part.replace(pids)
    if kind:
        commit(kind, Path.cwd())


def parent_of_hog() -> None:
    """Wait for a child that eats memory, as a job waits for its server."""
    child = spawn_context().Process(target=commit, args=("memory", Path.cwd()), daemon=True)
    child.start()
    child.join()
    raise RunFailed("its server has died")


def linger() -> None:
    die_with_parent()
    time.sleep(600)
