"""A machine on which a call takes a known time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.insight import split
from strop.jobs import Ended
from strop.metric import Timing
from strop.model import Model
from strop.server import Hosted
from strop.timing import Effort


class Clock:
    """In the place of `Turns`: calls take 20 s, and 2 s for each leaf of the model."""

    def __init__(self, first: Hosted, second: Hosted, data: Path, batches: tuple[int, int], effort: Effort):
        self.models, self.batches = (first.model, second.model), batches

    def take(self, enough: object) -> Timing:
        sides = [[[np.full(5, seconds(model))] * 2] * 2 for model in self.models]
        return Timing(*sides, self.batches, disturbed=1, why="the machine slept")


def seconds(model: Model) -> float:
    return 20.0 + 2 * model.counts["leaves"]


class Memory:
    """In the place of `Server`."""

    def __init__(self, *given: object):
        pass

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def memory(self, data: Path) -> int:
        return 12345


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Model], float]:
    """What a call of a model takes, in seconds."""
    monkeypatch.setattr(split, "Turns", Clock)
    monkeypatch.setattr(split, "Server", Memory)
    monkeypatch.setattr(split, "one_at_a_time", lambda: nullcontext(0.0))
    return seconds


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a profile are run in this process."""

    def run(function: Callable[..., Any], *args: Any, limits: object) -> Ended[Any]:
        from strop.errors import NotApplicable

        try:
            return Ended("done", function(*args))
        except NotApplicable as error:
            return Ended("refused", reason=str(error), error=error)

    monkeypatch.setattr("strop.profiling.jobs.run", run)
