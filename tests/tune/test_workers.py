"""Workers: a process that dies takes nothing with it but what killed it."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from strop.tune.workers import Workers, died


def work(kind: str, once: Path | None = None) -> str:
    if kind == "slow":
        time.sleep(0.3)
    if kind == "fatal" and (once is None or not once.exists()):
        if once is not None:
            once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return kind


def results(workers: Workers, futures: list[Any]) -> list[Any]:
    left = set(futures)
    while left:
        left -= workers.done(60)
    errors = [future.exception() for future in futures]
    return [
        died(error) if isinstance(error, BrokenExecutor) else future.result()
        for future, error in zip(futures, errors, strict=True)
    ]


def test_what_kills_its_process_is_told_from_what_ran_beside_it() -> None:
    workers = Workers(2)
    beside, fatal = workers.submit(work, "slow"), workers.submit(work, "fatal")
    assert results(workers, [beside, fatal]) == [
        "slow", "its process died with SIGKILL(-9), also when it ran alone: a crash, or too little memory"
    ]  # fmt: skip
    assert workers.free == 2
    assert results(workers, [workers.submit(work, "fine")]) == ["fine"]


def test_what_died_once_is_run_again(tmp_path: Path) -> None:
    workers = Workers(2)
    futures = [workers.submit(work, "fatal", tmp_path / "once"), workers.submit(work, "slow")]
    assert results(workers, futures) == ["fatal", "slow"]


def test_a_process_that_dies_idle_is_replaced() -> None:
    workers = Workers(2)
    (first,) = results(workers, [workers.submit(os.getpid)])
    os.kill(first, signal.SIGKILL)
    time.sleep(1)
    assert results(workers, [workers.submit(work, "fine")]) == ["fine"]
