"""Clock: what is left of a budget, and what one job may take of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from . import jobs
from ._lazy import lazy
from .prepare import Budget
from .rundir import read_json, write_json
from .spelling import option
from .units import counted, duration

psutil = lazy("psutil")

SHARE_OF_ONE = 0.25  # of the budget, that a single candidate may take
LEAST_SECONDS = 30.0  # that it gets all the same
TO_WRITE = 0.03  # of the budget, for writing the bundle
TO_TELL = 0.05  # of the budget, for what is handed over, layer by layer ...
LEAST_TO_TELL = 5.0  # ... where that is so many seconds: less is of no use
TO_TELL_AFTER = 20.0  # seconds that it may take all the same, once the budget is spent
LOOKS = 2  # on the confirm split, that there is time for at the most: what is looked at first may not be proven
OVERRUN = 1.05  # of the budget, at which confirming ends
FREE_MEMORY = 0.8  # share of what is free at the start, that one candidate may use


@dataclass(frozen=True)
class End:
    """Why no further candidate is tried.

    Attributes:
        why: For a person.
        bound: The option of which more would have gone on, `budget` or `trials`; empty where neither would.
    """

    why: str
    bound: str = ""

    def __str__(self) -> str:
        """With the next step, where there is one."""
        return f"{self.why}; {option('resume')} with more goes on" if self.bound else self.why


class Clock:
    """Keeps a search within its budget.

    Args:
        spent: The file that tells a later session of the same run what this one has taken.
        start: When this session began, on the clock of `time.monotonic`; now, if None.

    Attributes:
        look: Seconds that measuring one model whole takes, as far as is known.
        confirming: The same of a finalist, on the confirm split, as far as there is time for it.
        finalists: Candidates so far that may be one.
        looks: On the confirm split, to keep time for.
        stopped: Whether somebody wants it to end, and there is nothing to confirm.

    Raises:
        RunFailed: The file is not what strop wrote.
    """

    def __init__(self, budget: Budget, spent: Path, start: float | None = None):
        self.budget = budget
        self._spent = spent
        before = read_json(spent, float) if spent.exists() else 0.0
        self._start = (time.monotonic() if start is None else start) - before
        self.look = self.confirming = 0.0
        self.finalists, self.looks = 0, 1
        self.stopped = False
        self.memory = budget.memory or int(psutil.virtual_memory().available * FREE_MEMORY)

    @property
    def elapsed(self) -> float:
        """Seconds that this session and those before it have taken."""
        return time.monotonic() - self._start

    def keep(self) -> None:
        """Write down what was taken so far."""
        write_json(self._spent, self.elapsed)

    @property
    def reserve(self) -> float:
        """Seconds to keep for confirming."""
        return self.confirming * self.looks

    @property
    def left(self) -> float:
        """Seconds left for trying candidates."""
        return self.to_confirm - self.reserve

    @property
    def most(self) -> float:
        """Seconds that one candidate may take, however much is left."""
        return max(LEAST_SECONDS, self.budget.seconds * SHARE_OF_ONE)

    @property
    def to_confirm(self) -> float:
        """Seconds left for measuring finalists; what comes after is kept."""
        telling = self.budget.seconds * TO_TELL
        return self._to_write - (telling if telling >= LEAST_TO_TELL else 0.0)

    @property
    def to_tell(self) -> float:
        """Seconds for looking into what is handed over: those that are left, and a few where none are, for a report
        without it does not say why."""
        return max(self._to_write, TO_TELL_AFTER)

    @property
    def _to_write(self) -> float:
        """Seconds left until a bundle is written."""
        return self.budget.seconds * (1 - TO_WRITE) - self.elapsed

    def room_for(self, models: int) -> bool:
        """Whether so many more models can be measured whole before the budget ends."""
        return not self.stopped and self.to_confirm >= models * max(self.look, 1e-9)

    def limits(self) -> jobs.Limits:
        """What the next candidate may use: all that is left, where that is little and there is a finalist already."""
        last = self.finalists > 0 and self.left < self.most + LEAST_SECONDS
        seconds = max(1.0, self.left if last else min(self.left, self.most))
        return jobs.Limits(seconds, self.memory, waiting=max(0.0, self.left - seconds))

    def whole(self) -> jobs.Limits:
        """What a job may use that the run can't do without: all that is left."""
        left = self.budget.seconds * OVERRUN - self.elapsed
        return jobs.Limits(max(LEAST_SECONDS, left), self.memory)

    def end(self, tried: int) -> End | None:
        """Why no further candidate is tried; None where one may be."""
        if self.budget.trials is not None and tried >= self.budget.trials:
            return End(f"{counted(tried, 'candidate')} tried, as many as {option('trials')} allows", "trials")
        if self.left <= 0:
            kept = ", or kept to confirm" if self.to_confirm > 0 else ""
            allowed = f"the {duration(self.budget.seconds)} that {option('budget')} allows in all"
            return End(f"{allowed} are spent{kept}", "budget")
        return None
