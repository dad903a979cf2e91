"""Trial: build one candidate and measure it, in a job; and what came of it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from . import jobs
from ._plain import restore
from .bench import Bench
from .build import Workshop, within
from .crew import run_here
from .data import Data
from .decision import Decision
from .fixed import Fixed, begun
from .goal import Goal
from .judge import Report, judge
from .model import Model
from .plan import Candidate
from .progress import Tell, Teller, passed_on
from .rundir import as_written
from .server import Hosted
from .technique import Needs
from .timing import CONFIRMING, SEARCHING, WAITING, Effort
from .units import named, share

PROGRESS = ".part-progress.json"
RUNS_FOR_P99 = 300  # three beyond it: fewer say nothing of a bound


@dataclass(frozen=True)
class Outcome:
    """What came of one candidate.

    Attributes:
        cause: `done` where it was measured; `refused` (not applicable), `failed`, `crashed`, `timeout`, `memory`.
        reason: Why, where it was not measured whole.
        blamed: The technique that failed, where it was one.
        report: What was measured.
        model: The artifact, its paths relative to the run directory.
        steps: Seconds of each step that had to be built.
        fits: Of a route at its defaults: by `technique.setting`, the values that the model at hand allows.
        seconds: Of wall time in all, without what it waited.
        waited: Seconds for which another strop on this host had to end measuring.
        peak: Most resident bytes seen of its processes together.
    """

    cause: str
    reason: str = ""
    blamed: str = ""
    report: Report = field(default_factory=Report)
    model: Mapping[str, Any] | None = None
    steps: Mapping[str, float] = field(default_factory=dict)
    fits: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seconds: float = 0.0
    peak: int = 0
    waited: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "report": self.report.to_json(), "steps": dict(self.steps), "fits": dict(self.fits)}

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Self:
        return restore(cls, json)

    def __str__(self) -> str:
        """What was measured, as ratios, and what it breaks; or the cause, where it was not. A report has the notes."""
        if self.cause != "done":
            return f"{self.cause}: {self.reason}"
        shown = [f"{named(name, found.source)} {share(found.ratio)}" for name, found in self.report.figures.items()]
        broken = [f"breaks {judged}" for judged in self.report.broken]
        return ", ".join([*broken, *shown])

    @property
    def counts(self) -> bool:
        """Whether it cost a trial: not where it was refused, or known to fail from a shorter chain."""
        return self.cause != "refused" and self.seconds > 0

    @property
    def usable(self) -> bool:
        """Whether it was measured and no limit is proven broken."""
        return self.cause == "done" and not self.report.broken


def plain(candidate: Candidate, outcome: Outcome) -> dict[str, Any]:
    """What came of a candidate, as a report and a bundle have it: without what only its run has a use for."""
    found = outcome.to_json()
    kept = ("cause", "reason", "blamed", "report", "seconds", "peak")
    return {"candidate": str(candidate), **candidate.to_json(), **{name: found[name] for name in kept}}


@dataclass(frozen=True)
class Setting:
    """All that trials share: the same for every candidate of a run.

    Attributes:
        root: The run directory.
        workshop: Builds artifacts.
        original: The model as given, on its reference runtime.
        search: Folder of the samples to judge by while searching.
        confirm: Folder of the samples that nothing sees before the end.
        goal: The limits and the objective.
        also: Further metrics to report.
        fixed: Settings that the user has chosen.
        searching: What measuring may take on the search split.
        confirming: The same on the confirm split.
    """

    root: Path
    workshop: Workshop
    original: Hosted
    search: Path
    confirm: Path
    goal: Goal
    also: tuple[str, ...]
    fixed: Fixed = field(default_factory=dict)
    searching: Effort = field(default_factory=lambda: SEARCHING)
    confirming: Effort = field(default_factory=lambda: CONFIRMING)

    @cached_property
    def narrower(self) -> float:
        """Bounds on the confirm split over those on the search split, by their numbers of samples."""
        searched, confirmed = (len(Data.load(folder)) for folder in (self.search, self.confirm))
        return math.sqrt(searched / confirmed)

    def model(self, plain: Mapping[str, Any] | None) -> Model:
        """The model that the run's files speak of: the original, or one that the run made.

        Raises:
            RunFailed: It is none of these: somebody has altered the run.
        """
        with as_written(self.root):
            if plain is None:
                raise ValueError("a candidate that was measured has no model")
            known, original = Model.of(plain, self.root), self.workshop.original
            same = (known.path, known.files) == (original.path, original.files)
            return known if same else within(self.root, known)

    def bench(self, candidate: Hosted, split: str, effort: Effort, decision: Decision, seconds: float) -> Bench:
        """A bench for a candidate on a split, `search` or `confirm`; timing ends after so many seconds."""
        data = self.search if split == "search" else self.confirm
        if any("p99" in metric for metric in (*self.also, *self.goal.metrics)):
            effort = dataclasses.replace(effort, runs=max(effort.runs, RUNS_FOR_P99))
        outputs = self.root / "outputs"
        return Bench(
            self.original, candidate, data, outputs / f"{split}.npz", outputs, effort, self.workshop.seed, decision,
            time.monotonic() + seconds, candidate == self.original,
        )  # fmt: skip


def try_candidate(
    setting: Setting, candidate: Candidate, limits: jobs.Limits, tell: Tell = lambda share, words: None
) -> Outcome:
    """Build and measure a candidate on the search split, in a process of its own; a crash is tried once more.

    A chain that is known to fail costs no process.
    """
    if known := setting.workshop.failure(candidate.steps):
        return Outcome(*known)
    outcome = _once(setting, candidate, limits, tell)
    if outcome.cause == "crashed" and outcome.seconds < limits.seconds / 2:
        left = dataclasses.replace(
            limits, seconds=limits.seconds - outcome.seconds, waiting=max(0.0, limits.waiting - outcome.waited)
        )
        again = _once(setting, candidate, left, tell)
        outcome = dataclasses.replace(
            again, seconds=outcome.seconds + again.seconds, waited=outcome.waited + again.waited
        )
    return outcome


def _once(setting: Setting, candidate: Candidate, limits: jobs.Limits, tell: Tell) -> Outcome:
    start = time.monotonic()
    with passed_on(setting.root / PROGRESS, tell):
        ended = jobs.run(
            _build_and_judge, setting, candidate, limits.seconds, limits=limits, waits=lambda: tell(0.0, WAITING)
        )
    setting.workshop.sweep()
    outcome = ended.value or Outcome(ended.cause, ended.reason)
    seconds = max(0.0, time.monotonic() - start - ended.waited)
    return dataclasses.replace(outcome, seconds=seconds, peak=ended.peak, waited=ended.waited)


def _build_and_judge(setting: Setting, candidate: Candidate, seconds: float) -> Outcome:
    start = time.monotonic()
    candidate.runtime.requires(setting.workshop.target)
    progress = Teller(setting.root / PROGRESS)
    model, steps = setting.workshop.build(candidate.steps, deadline=start + seconds, progress=progress)
    hosted = Hosted(model, candidate.runtime, setting.workshop.target)
    decision = Decision(setting.goal, width=setting.searching.width, race=True)
    with setting.bench(hosted, "search", setting.searching, decision, seconds - (time.monotonic() - start)) as bench:
        report = judge(bench, setting.goal, setting.also, confidence=0.95, whole=False)
    first = all(begun(step, setting.fixed) for step in candidate.steps if not step.needs & Needs.TRAINING)
    fits = setting.workshop.fitting(candidate.steps) if first else {}
    return Outcome("done", report=report, model=model.to_json(setting.root), steps=steps, fits=fits)


def run_original(hosted: Hosted, splits: Sequence[tuple[Path, Path]]) -> None:
    """Run the original over stored samples, split by split, and keep its outputs. Runs in a job.

    Raises:
        RunFailed: It can't be loaded or run.
    """
    run_here(hosted, [(data, destination) for data, destination in splits if not destination.exists()])


def measure(setting: Setting, hosted: Hosted, split: str, effort: Effort, confidence: float, seconds: float) -> Report:
    """Measure a stored model against the original, whole. Runs in a job.

    Args:
        seconds: After which timing comes to its end, however wide the intervals are.
    """
    decision = Decision(setting.goal, confidence, effort.width, finalist=True)
    with setting.bench(hosted, split, effort, decision, seconds) as bench:
        return judge(bench, setting.goal, setting.also, confidence=confidence, whole=True)
