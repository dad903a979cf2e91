"""Functions: a search over what a user's own function trains, such as a loop of PyTorch's.

The function takes a trial and returns a number, or a mapping with a number for each metric of the goal. It draws its
parameters as an Optuna objective does (`trial.suggest_float("rate", 1e-4, 1e-1, log=True)`), or finds them in
`trial.params` where a space was given. With `trial.report(value, step)` after each epoch, and `trial.should_prune()`,
it lets a training that is behind others be ended: it then raises `optuna.TrialPruned`, or returns.
"""

from __future__ import annotations

import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._calls import function as named
from .._calls import is_call
from .._lazy import lazy
from .._plain import told
from ..errors import InvalidGoal, InvalidPlan, RunFailed
from ..events import Listener, Said, Trying
from ..goal import Goal
from ..judge import Judged
from ..rundir import JOURNAL
from ..stats import Exact, verdict
from ..units import quantity
from .asking import Asking, Sampler, sampler_of
from .conclusion import CONFIDENCE, importance
from .folds import Fit, Stage
from .history import Scales, study_of
from .measures import Judge, of_function
from .race import spelled
from .result import Figure, Tuned
from .space import Space
from .store import STUDY, Store, readable, telling
from .trials import INTERRUPTED, NO_TIME, NO_TRIALS, Trial
from .workers import Workers, died

if TYPE_CHECKING:
    import optuna
    import optuna.storages.journal as optuna_journal
else:
    optuna = lazy("optuna")
    optuna_journal = lazy("optuna.storages.journal")

NUMBERS = "a number, or one for each metric of the goal"
WHAT = f"a function of a trial that returns {NUMBERS}"


@dataclass(frozen=True)
class Training:
    """What a function is called with: an Optuna trial, and the parameters where a space was given."""

    trial: optuna.trial.Trial
    params: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trial, name)


@dataclass(frozen=True)
class Task:
    """What a process needs to go on with a trial of a journal.

    Attributes:
        begun: Of the host's clock: a later search may have another journal in the same place.
    """

    function: str | Callable[..., Any]
    journal: Path
    begun: float
    objective: str
    direction: str
    sampler: Sampler
    pruner: str
    seed: int


def is_module(model: object, X: object) -> bool:
    """Whether a model is PyTorch's: a module or a class of such; or, with samples to train on, a factory."""
    torch = sys.modules.get("torch")
    kind = model if isinstance(model, type) else type(model)
    if torch is not None and issubclass(kind, torch.nn.Module):
        return True
    return X is not None and (is_call(model) or callable(model)) and not hasattr(model, "fit")


def read_function(model: object) -> str | Callable[..., Any] | None:
    """The function, or the `module:function` that names one, if the model is one."""
    if isinstance(model, str):
        if not is_call(model):
            raise InvalidPlan(f"{model!r} names no function. Write it as module:function.")
        named(model, WHAT, InvalidPlan)  # before anything is begun
        return model
    return model if callable(model) and not hasattr(model, "fit") else None


def search_function(
    function: str | Callable[..., Any],
    space: Space | None,
    goal: Goal,
    *,
    sampler: Sampler | None,
    pruner: str,
    most: int,
    seconds: float,
    workers: Workers,
    seed: int,
    run: str | Path | None,
    listener: Listener,
    reported: Callable[[Tuned], Tuned],
) -> Tuned:
    """Search over what a function trains; arguments are those of `search`, and `reported`, which keeps what was found.

    All trials lie in Optuna's journal, as they go: processes take turns in it, and a search that was killed goes on.

    Raises:
        InvalidGoal: A limit is against an original, and there is none.
        RunFailed: No trial came to its end.
        KeyboardInterrupt: It came before there was anything to tell.
    """
    if against := [limit for limit in goal.limits if limit.relative or limit.scope == "drop"]:
        raise InvalidGoal(f"`{against[0]}` is against an original, and a function has none. Write the number itself.")
    begun = time.monotonic()
    size = math.inf if space is None else space.size
    chosen: Sampler = sampler or ("grid" if size <= most else "tpe")
    if space is None and chosen == "grid":
        raise InvalidPlan(
            "A grid needs a space with the values of each parameter. Give one, or choose another sampler."
        )
    asked = {
        "estimator": told(function), "space": "" if space is None else space.spelled(), "goal": str(goal),
        "seed": str(seed), "sampler": chosen, "fidelity": pruner,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="strop-tune-") as folder:
        store = Store.open(run if run is not None else Path(folder) / "run", asked)
        try:
            journal = store.run / JOURNAL
            task = Task(function, journal, begun, goal.objective, goal.direction, chosen, pruner, seed)
            with readable(journal, "Start a new run"):
                loop = _Loop(task, space, Judge(goal, of_function(goal)), most, begun + seconds, workers, listener)
            with telling(run, listener) as loop.listener:
                loop.run()
                return reported(loop.conclude(begun))
        finally:
            store.close()


class _Loop:
    """Asks, has it trained, and tells."""

    def __init__(
        self, task: Task, space: Space | None, judge: Judge, most: int, stop_at: float, workers: Workers,
        listener: Listener,
    ):  # fmt: skip
        self.task, self.space, self.judge, self.most, self.stop_at = task, space, judge, most, stop_at
        self.workers, self.listener = workers, listener
        self.study = _study(task, task.seed)
        self.trials: dict[int, Trial] = {}
        self._best: Trial | None = None
        self.why = ""
        self._flying: dict[Future[Any], optuna.trial.Trial] = {}
        killed = []
        for old in self.study.trials:
            if old.state == optuna.trial.TrialState.RUNNING:  # of a process that was killed
                self.study.tell(old.number, state=optuna.trial.TrialState.FAIL)
                killed.append(old.params)
            elif old.state.is_finished() and "state" in old.user_attrs:
                self._keep(old)
        self.asking = None
        if space is not None:
            self.asking = Asking(space, task.sampler, seed=task.seed, first=killed, study=self.study)
        else:
            for params in killed:
                self.study.enqueue_trial(params)

    def run(self) -> None:
        try:
            while True:
                while self.workers.free > 0 and self._begin():
                    pass
                if not self._flying:
                    break
                some = any(trial.state == "done" for trial in self.trials.values())
                ended = self.workers.done(self.stop_at - time.monotonic() if some else None)
                if not ended:  # what still runs is cut
                    self.why = NO_TIME
                    break
                for future in ended:
                    self._end(future)
        except KeyboardInterrupt:
            self.why = INTERRUPTED
        finally:
            self.workers.stop()

    def _begin(self) -> bool:
        left = self.stop_at - time.monotonic()
        if not self.why and left <= 0:
            self.why = NO_TIME
        if not self.why and len(self.trials) + len(self._flying) >= self.most:
            self.why = NO_TRIALS
        if self.why:
            return False
        params = None
        if self.asking is None:
            trial = self.study.ask()
        else:
            asked = self.asking.ask()
            if asked is None:
                self.why = "every point of the space was tried"
                return False
            trial, params = asked.trial, dict(asked.params)
        shown = spelled(params) if params else "a trial"
        self.listener(Trying(trial.number, shown, self._standing, left if math.isfinite(left) else None))
        self._flying[self.workers.submit(_train, self.task, trial._trial_id, trial.number, params)] = trial
        return True

    def _end(self, future: Future[Any]) -> None:
        trial = self._flying.pop(future)
        try:
            state, values, why, seconds = future.result()
        except BrokenExecutor as error:
            state, values, why, seconds = "failed", {}, died(error), 0.0
        self._tell(trial, state, values, why, seconds)

    def _tell(self, trial: optuna.trial.Trial, state: str, values: dict[str, float], why: str, seconds: float) -> None:
        missing = [name for name in self.judge.measures if name not in values]
        if state == "done" and missing:
            state, why = "failed", f"it returned no {missing[0]}: it must return {NUMBERS}"
        if state == "done" and any(math.isnan(values[name]) for name in self.judge.measures):
            state, why = "failed", "what it returned is not a number"
        told: dict[str, Any] = {"state": state, "why": why, "values": values, "seconds": seconds}
        if self.space is not None:
            told["params"] = spelled(self.space.params(trial.params))
        for name, value in told.items():
            trial.set_user_attr(name, value)
        objective = self.judge.goal.objective
        if state == "done":
            for limit, violation in self.judge.violations(values, {}).items():
                trial.set_constraint(limit, violation)
            self.study.tell(trial, values[objective])
        else:
            pruned = optuna.trial.TrialState.PRUNED
            self.study.tell(trial, state=pruned if state == "dropped" else optuna.trial.TrialState.FAIL)
        kept = self._keep(self.study.get_trials(deepcopy=False)[trial.number])
        shown = f"{state}: {why}" if why else f"{values[objective]:.6g}"
        self.listener(Said(f"{trial.number:>3} {spelled(kept.params)}: {shown}"))

    @property
    def _scales(self) -> Scales:
        if self.space is not None:
            return Scales.of(self.space)
        return Scales(
            {
                name: kind
                for trial in self.study.get_trials(deepcopy=False)
                for name, kind in trial.distributions.items()
            }
        )

    @property
    def _standing(self) -> str:
        if self._best is None:
            return ""
        return f"best so far {quantity(self._best.means()[self.judge.goal.objective], '')}"

    def _rank(self, trial: Trial) -> tuple[float, float]:
        values = trial.means()
        broken = max(self.judge.violations(values, {}).values(), default=0.0)
        return broken, -self.judge.sign * values[self.judge.goal.objective]

    def _keep(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        attrs = frozen.user_attrs
        params = frozen.params if self.space is None else self.space.params(frozen.params)
        fit = Fit(attrs["values"], attrs["seconds"], "" if attrs["state"] == "done" else attrs["why"])
        kept = Trial(params, None, {Stage(0): fit}, attrs["state"], attrs["why"])
        self.trials[frozen.number] = kept
        if kept.state == "done" and (self._best is None or self._rank(kept) < self._rank(self._best)):
            self._best = kept
        return kept

    def conclude(self, begun: float) -> Tuned:
        done = [trial for _, trial in sorted(self.trials.items()) if trial.state == "done"]
        if not done:
            if self.why == INTERRUPTED:
                raise KeyboardInterrupt
            causes = [trial.why for trial in self.trials.values() if trial.why]
            raise RunFailed(f"no trial came to its end: {causes[0] if causes else self.why}. Look at the function.")
        goal = self.judge.goal
        trials = tuple(trial for _, trial in sorted(self.trials.items()))
        for trial in done:
            broken = self.judge.violations(trial.means(), {})
            trial.breaks = tuple(limit for limit, by in broken.items() if by > 0)
        best = min(done, key=self._rank)
        values = best.means()
        exact = {name: Exact(values[name], values[name]) for name in self.judge.measures}
        limits = []
        for limit in goal.limits:
            side, factor, constant = self.judge.bound(limit)
            found, margin = verdict(exact[limit.metric], side, factor, constant, CONFIDENCE)
            value, gap = values[limit.metric], margin.value if side == "at_most" else -margin.value
            limits.append(Judged(str(limit), found, value, value, value, max(0.0, gap)))
        return Tuned(
            verdict="infeasible" if any(judged.verdict == "broken" for judged in limits) else "met",
            params=best.params, estimator=None, goal=goal,
            figures={
                name: Figure(c.original(), c.candidate(), c.ratio(), self.judge.measures[name].unit)
                for name, c in exact.items()
            },
            judged_on="what the function returned", limits=tuple(limits), ties=(),
            trials=trials, importance=importance(self.study), ended=self.why, seconds=time.monotonic() - begun,
            study=study_of(trials, self._scales, goal.objective, goal.direction),
        )  # fmt: skip


def _train(task: Task, trial_id: int, number: int, params: dict[str, Any] | None) -> tuple[Any, ...]:
    """Call the function for a trial, in whatever process this is; state, values, why and seconds."""
    begun = time.perf_counter()
    study = _study(task, task.seed + number)
    trial = Training(optuna.trial.Trial(study, trial_id), params or {})
    if params is None:
        object.__setattr__(trial, "params", trial.trial.params)
    try:
        function = named(task.function, WHAT, InvalidPlan) if isinstance(task.function, str) else task.function
        returned = function(trial)
    except optuna.TrialPruned:
        return "dropped", {}, "behind others", time.perf_counter() - begun
    except Exception as error:  # of the user's own: it costs this trial, and is told
        return "failed", {}, f"{type(error).__name__}: {told(error)[:300]}", time.perf_counter() - begun
    try:
        values = dict(returned) if isinstance(returned, Mapping) else {task.objective: returned}
        found = {str(name): float(value) for name, value in values.items()}
    except (TypeError, ValueError):
        return "failed", {}, f"it returned {told(returned, repr)}, not {NUMBERS}", time.perf_counter() - begun
    return "done", found, "", time.perf_counter() - begun


@functools.lru_cache(maxsize=2)
def _storage(journal: Path, begun: float) -> optuna.storages.BaseStorage:
    return optuna.storages.JournalStorage(optuna_journal.JournalFileBackend(str(journal)))


def _study(task: Task, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    halving = task.pruner == "halving"
    pruner = optuna.pruners.SuccessiveHalvingPruner() if halving else optuna.pruners.HyperbandPruner()
    direction: Any = task.direction
    return optuna.create_study(
        study_name=STUDY, storage=_storage(task.journal, task.begun), direction=direction, load_if_exists=True,
        pruner=pruner, sampler=sampler_of(task.sampler, seed, conditional=True),
    )  # fmt: skip
