"""Race: candidates go from fold to fold, and those that lag behind by more than noise go no further."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..events import Listener, Said, Trying
from ..units import quantity
from .asking import Asking
from .folds import Case, Fit, Stage, fit
from .history import Scales
from .measures import Judge
from .racing import Noise, standard_error
from .space import label
from .store import Store
from .trials import INTERRUPTED, NO_TIME, NO_TRIALS, Trial
from .workers import Workers, died

Array = np.ndarray[Any, Any]
Rows = tuple[Array, Array]

LEAST = 100  # trials before it is asked whether more would gain anything: a model of the space needs some to learn by
LATELY = 10  # fits
CONCLUDING = 0.2  # seconds that telling what was found takes, besides a last fit
BROKEN = 0.1  # a violation of a limit that more folds won't mend


@dataclass
class Race:
    """A search over a space by folds.

    The estimator as given goes first, over all folds: it is the original, and the one to beat.

    Attributes:
        splits: By stage, rows to train with and to judge by; in the order in which a candidate goes through them.
        ratio: Test samples over training samples of a fold.
        patient: Whether to go on although the last half of the trials gained less than noise.
        stop_at: Of the host's clock.
        held: Whether samples are held out, by which the original is judged as well once it is fitted on all others.
        trials: All that were begun, in order; the first is the original.
    """

    case: Case
    splits: Mapping[Stage, Rows]
    ratio: float
    asking: Asking
    judge: Judge
    most: int
    stop_at: float
    held: bool
    patient: bool
    workers: Workers
    store: Store | None
    listener: Listener
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.noise = Noise()
        self.best: Trial | None = None
        self.why = ""
        self._queue: deque[tuple[Trial, Stage]] = deque()
        self._flying: dict[Future[Fit], tuple[Trial, Stage]] = {}
        self._seconds: list[float] = []  # of fits, as they ended
        self._known = self.store.fits() if self.store else {}
        self._journal = self.store.study(self.judge.goal.direction) if self.store else None
        self._written = {t.user_attrs.get("candidate") for t in self._journal.trials} if self._journal else set()
        self._scales = Scales.of(self.asking.space)
        self._leaders: list[Trial | None] = []  # after each trial that ended

    def run(self, first: Trial) -> None:
        """Search until there is nothing left to try, or nothing left to try it with; an interrupt ends it too."""
        try:
            self._begin(first, [stage for stage in self.splits if stage.share == 1])
            self._drain()
            self._drain(self._next)
        except KeyboardInterrupt:
            self.why = INTERRUPTED
        finally:
            self.workers.stop()
        for trial in self.trials:
            if trial.state == "running":
                trial.state, trial.why = "dropped", self.why

    @property
    def original(self) -> Trial:
        return self.trials[0]

    @property
    def folds(self) -> list[int]:
        """Those by which candidates are judged: on others the original has no score either, for want of a class."""
        whole = [stage.fold for stage in self.splits if stage.share == 1]
        if self.original.state == "failed":
            return whole
        told = ~np.isnan(self.original.folds(self.judge.goal.objective))
        return [fold for fold, known in zip(self.original.full, told, strict=True) if known]

    def ahead(self, one: Trial, other: Trial, of: Sequence[int] | None = None) -> Array:
        """How much better one is than another, fold by fold."""
        chosen = self.folds if of is None else of
        objective = self.judge.goal.objective
        return self.judge.sign * (one.folds(objective, chosen) - other.folds(objective, chosen))

    def means(self, trial: Trial, of: Sequence[int] | None = None) -> dict[str, float]:
        chosen = self.folds if of is None else of
        return {name: float(np.mean(trial.folds(name, chosen))) for name in self.judge.measures}

    def violations(self, trial: Trial, of: Sequence[int] | None = None) -> dict[str, float]:
        original = {} if self.original.state == "failed" else self.means(self.original, of)
        return self.judge.violations(self.means(trial, of), original)

    def rank(self, trial: Trial) -> tuple[float, float]:
        """Sorts candidates of which all folds are known, best first: limits, then the objective."""
        value = self.judge.sign * self.means(trial)[self.judge.goal.objective]
        return max(self.violations(trial).values(), default=0.0), -value

    def _next(self) -> bool:
        """Begin another candidate."""
        left = self._end_at - time.monotonic()
        if not self.why and self._too_late():
            self.why = NO_TIME
        if not self.why and len(self.trials) > self.most:
            self.why = NO_TRIALS
        if not self.why and not self.patient and self._stalls():
            self.why = "the last half of the trials gained less than the noise of the folds"
        if self.why:
            return False
        asked = self.asking.ask()
        if asked is None:
            self.why = "every point of the space was tried"
            return False
        trial = Trial(asked.params, asked)
        self.listener(
            Trying(len(self.trials), spelled(trial.params), self._standing, left if math.isfinite(left) else None)
        )
        self._begin(trial, [next(iter(self.splits))])
        return True

    def _begin(self, trial: Trial, stages: Sequence[Stage]) -> None:
        self.trials.append(trial)
        self._queue.extend((trial, stage) for stage in stages)

    def _drain(self, more: Callable[[], bool] = lambda: False) -> None:
        """Keep the workers busy until nothing is left to do."""
        while True:
            while self.workers.free > 0 and (self._queue or more()):
                self._submit(*self._queue.popleft())
            if not self._flying:
                return
            ended = self.workers.done(None if self.best is None else self._end_at - time.monotonic())
            if not ended:  # what still runs is cut
                self.why = NO_TIME
                return
            for future in ended:
                self._take(future)

    def _submit(self, trial: Trial, stage: Stage) -> None:
        if trial.state != "running":
            return
        known = self._known.get(_key(trial), {}).get(str(stage))
        if known is not None:
            self._end_stage(trial, stage, known)
            return
        if self._too_late():
            self.why = self.why or NO_TIME
            return
        train, test = self.splits[stage]
        share = stage.share if self.case.iterations else 1.0
        future = self.workers.submit(fit, self.case, dict(trial.params), train, test, share, self.stop_at)
        self._flying[future] = trial, stage

    def _take(self, future: Future[Fit]) -> None:
        trial, stage = self._flying.pop(future)
        try:
            found = future.result()
        except BrokenExecutor as error:
            found = Fit(error=died(error))
        if found.error != "there was no time left":
            self._seconds.append(found.seconds)
            if self.store:
                self.store.add(_key(trial), stage, found)
            self._end_stage(trial, stage, found)

    def _end_stage(self, trial: Trial, stage: Stage, found: Fit) -> None:
        trial.fits[stage] = found
        if trial.state != "running":
            return
        if found.error:
            self._end(trial, "failed", found.error)
        elif trial is self.original:
            if len(trial.fits) == sum(stage.share == 1 for stage in self.splits):
                self._end_original(trial)
        elif stage.share < 1:
            self._end_rung(trial, stage, found)
        else:
            self._end_fold(trial)

    def _end_original(self, trial: Trial) -> None:
        if not self.folds:
            self._end(trial, "failed", self._no_number(trial, " on any fold"))
            return
        self.best = trial
        self._end(trial, "done")

    def _end_rung(self, trial: Trial, stage: Stage, found: Fit) -> None:
        """With few samples or iterations: Optuna's pruner says whether it goes on."""
        assert trial.asked is not None
        value = found.values[self.judge.goal.objective]
        if math.isnan(value):
            self._end(trial, "failed", self._no_number(trial))
            return
        smallest = min(stage.share for stage in self.splits)
        trial.asked.trial.report(value, round(stage.share / smallest))
        if trial.asked.trial.should_prune():
            self._end(trial, "dropped", f"behind others at {stage.share:.0%}")
        else:
            self._go_on(trial)

    def _end_fold(self, trial: Trial) -> None:
        seen = [fold for fold in trial.full if fold in self.folds]
        objective = self.judge.goal.objective
        if seen and np.isnan(trial.folds(objective, seen)).any():
            self._end(trial, "failed", self._no_number(trial))
            return
        whole = len(seen) == len(self.folds)
        if whole:
            self._end_whole(trial)
        elif seen and self.best is not None and self._kept(self.best):
            far = [limit for limit, by in self.violations(trial, seen).items() if by > BROKEN]
            if far:
                self._end(trial, "dropped", f"breaks {far[0]}")
            elif self.noise.hopeless(self.ahead(self.best, trial, seen), self.ratio):
                self._end(trial, "dropped", f"worse on {len(seen)} of {len(self.folds)} folds")
            else:
                self._go_on(trial)
        else:
            self._go_on(trial)

    def _end_whole(self, trial: Trial) -> None:
        if self.best is None:
            self.best = trial
        else:
            self.noise.learn(self.ahead(self.best, trial))
            if self.rank(trial) < self.rank(self.best):
                self.best = trial
        self._end(trial, "done")

    def _no_number(self, trial: Trial, where: str = "") -> str:
        cause = next((f" ({fit.unscored})" for fit in trial.fits.values() if fit.unscored), "")
        return f"its {self.judge.goal.objective} is not a number{where}{cause}"

    def _kept(self, trial: Trial) -> bool:
        return self.rank(trial)[0] == 0

    def _go_on(self, trial: Trial) -> None:
        following = next(stage for stage in self.splits if stage not in trial.fits)
        self._queue.appendleft((trial, following))

    def _end(self, trial: Trial, state: str, why: str = "") -> None:
        trial.state, trial.why = state, why
        value, violations = self._worth(trial)
        if state == "done":
            trial.breaks = tuple(limit for limit, by in violations.items() if by > 0)
        if trial.asked is not None:
            self.asking.tell(trial.asked, value, violations)
        self._leaders.append(self.best)
        self._write(trial)
        best = "  best so far" if trial is self.best else ""
        shown = f"{state}: {why}" if why else quantity(value if value is not None else math.nan, self._unit)
        self.listener(Said(f"{len(self._leaders) - 1:>3} {spelled(trial.params)}: {shown}{best}"))

    @property
    def _end_at(self) -> float:
        """When folds must be done, by the host's clock: what is told in the end is yet to be fitted on all samples."""
        if self.best is None:
            return self.stop_at
        told = [self.best, *([self.original] if self.held and self.best is not self.original else [])]
        fits = sum((1 + self.ratio) * trial.seconds / max(1, len(trial.full)) for trial in told)
        return self.stop_at - CONCLUDING - fits

    def _too_late(self) -> bool:
        """Whether another fit would have to be cut, by how long the last ones took: the better may be the dearer."""
        usual = float(np.median(self._seconds[-LATELY:])) if self._seconds and self.best is not None else 0.0
        return time.monotonic() + usual >= self._end_at

    @property
    def _standing(self) -> str:
        if self.best is None:
            return ""
        return f"best so far {quantity(self.means(self.best)[self.judge.goal.objective], self._unit)}"

    @property
    def _unit(self) -> str:
        return self.judge.measures[self.judge.goal.objective].unit

    def _worth(self, trial: Trial) -> tuple[float | None, dict[str, float]]:
        """What the sampler is told: of a candidate that was dropped, what it would come to, were it to go on as it
        began beside the best on the same folds."""
        objective = self.judge.goal.objective
        if trial.state == "done":
            found = {limit: by if math.isfinite(by) else 1.0 for limit, by in self.violations(trial).items()}
            return self.means(trial)[objective], found
        seen = [fold for fold in trial.full if fold in self.folds] if trial.state == "dropped" else []
        if not seen or self.best is None:
            return None, {}
        lag = float(np.mean(self.ahead(self.best, trial, seen)))
        return self.means(self.best)[objective] - self.judge.sign * lag, self.violations(trial, seen)

    def _stalls(self) -> bool:
        """Whether the last half of the trials gained no more than noise: as many again would gain less still, since
        what the best of n gains by doubling n falls with n."""
        ended = len(self._leaders)
        if ended < LEAST:
            return False
        now, before = self.best, self._leaders[ended // 2 - 1]
        if now is None or before is None:
            return False
        if now is before:
            return True
        gained = self.ahead(now, before)
        return self.rank(before)[0] == 0 and float(np.mean(gained)) <= standard_error(gained, self.ratio)

    def _write(self, trial: Trial) -> None:
        if self._journal is None or _key(trial) in self._written:
            return
        told = {"candidate": _key(trial), "params": spelled(trial.params), "why": trial.why}
        objective = self.judge.goal.objective
        self._journal.add_trial(self._scales.frozen(trial, objective, {**told, **trial.means()}))


def spelled(params: Mapping[str, Any]) -> str:
    """Parameters as people read them, on one line."""
    row = {name.removeprefix("param_"): value for name, value in Trial(params).row(0).items() if name[:6] == "param_"}
    shown = (f"{value:.4g}" if isinstance(value, float) else label(value) for value in row.values())
    return ", ".join(f"{label(name)}={value}" for name, value in zip(row, shown, strict=True)) or "as given"


def _key(trial: Trial) -> str:
    return trial.asked.key if trial.asked else "original"
