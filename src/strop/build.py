"""Build: apply a chain of techniques. Every step is stored under the hash of all that made it, and made once."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import runtimes
from ._lazy import installed
from ._pickles import read_object
from .data import Data
from .errors import NotApplicable, RunFailed, TechniqueError
from .learning import Training
from .model import Model
from .rundir import read_json, write_json
from .runtime import LayerTime, calls
from .settings import Choice
from .target import Target
from .technique import Context, Needs, Technique, apply

MODEL, FAILED, SHARED = "model.json", "failed.json", ".shared"
TIMED = 8  # calls' inputs, that layers are timed on
QUICK = 0.5  # seconds of calls, by which a step compares layers
TO_MEASURE = 0.2  # of the time of a candidate, that training leaves for what follows


class Failure(NamedTuple):
    """Why a chain can't be built: the cause of an `Outcome`, and the reason."""

    cause: str
    reason: str


@dataclass(frozen=True)
class Lessons:
    """What techniques that train are given; plain data and paths, so that jobs can be told of it.

    Attributes:
        data: Folder of the train data.
        settings: Of a `Training`, as JSON; a live object is a file in `folder`, `{"pickled": NAME}`.
        folder: Where those lie.
        student: A model of the user's own to teach, or None.
        digest: Of all of it.
    """

    data: Path
    settings: Mapping[str, Any]
    folder: Path
    student: Model | None
    digest: str

    def training(self) -> Training:
        """The settings.

        Raises:
            UntrustedModel: Somebody else may have written them.
        """
        live = {
            name: read_object(self.folder / Path(value["pickled"]).name)
            for name, value in self.settings.items()
            if isinstance(value, Mapping)
        }
        return Training(**{**self.settings, **live})


@dataclass(frozen=True)
class Workshop:
    """Where artifacts are built, and with what.

    Attributes:
        folder: The run's artifacts, one folder each.
        original: The model that every chain starts from.
        digest: Of the original's files.
        calibration: Folder of the samples to calibrate with (a job is told paths, not arrays), or None.
        calibration_digest: Of those.
        lessons: For techniques that train; None where there is nothing to train with.
    """

    folder: Path
    original: Model
    digest: str
    calibration: Path | None
    calibration_digest: str
    target: Target
    seed: int
    lessons: Lessons | None = None

    def key(self, steps: Sequence[Technique]) -> str:
        """The name of what a chain makes: the same wherever all that it depends on is the same."""
        depends = {
            "original": self.digest,
            "steps": [[step.label(), step.version, step.settings()] for step in steps],
            "seed": self.seed,
            "threads": self.target.threads,
            "batch": self.target.batch,
            "data": self.calibration_digest if any(step.needs & Needs.SAMPLES for step in steps) else "",
            "lessons": self.lessons.digest if self.lessons and any(_trains(step) for step in steps) else "",
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:24]

    def build(
        self,
        steps: Sequence[Technique],
        deadline: float = float("inf"),
        progress: Callable[[float, str], None] = lambda share, words: None,
    ) -> tuple[Model, dict[str, float]]:
        """Make what a chain describes, from the longest part of it that is there already.

        Returns:
            The model, and the seconds that each new step took.

        Raises:
            NotApplicable: A step refuses the model, now or when it was tried before.
            TechniqueError: A step failed, now or when it was tried before.
            TimeoutError: The deadline has passed.
        """
        seconds: dict[str, float] = {}
        model = self.original
        for count in range(1, len(steps) + 1):
            step, home = steps[count - 1], self.folder / self.key(steps[:count])
            if (home / MODEL).exists():
                model = _made(home)
                continue
            if known := self.failure(steps[:count]):
                raise (NotApplicable if known.cause == "refused" else TechniqueError)(known.reason)
            if time.monotonic() > deadline:
                raise TimeoutError(f"no time was left for {step}")
            start = time.monotonic()
            rest = sum(map(_trains, steps[count:]))
            share = (1 - TO_MEASURE) / (1 + rest) if _trains(step) else 1.0  # of the time: all that train get the same
            model = self._make(step, model, home, start + (deadline - start) * share, progress)
            seconds[str(step)] = time.monotonic() - start
        return model, seconds

    def fitting(self, steps: Sequence[Technique]) -> dict[str, list[Any]]:
        """Of a built chain: by `technique.setting`, the values that no step refuses, the others at their defaults."""
        fits: dict[str, list[Any]] = {}
        for count, step in enumerate(steps):
            given, _ = self.build(steps[:count])
            for name, domain in step.space().items():
                if isinstance(domain, Choice):
                    fits[f"{step.label()}.{name}"] = [v for v in domain.values if self._serves(step, name, v, given)]
        return fits

    def _serves(self, step: Technique, name: str, value: object, given: Model) -> bool:
        try:
            replace(step, **{name: value}).requires(given, self.target)
        except NotApplicable:
            return False
        return True

    def failure(self, steps: Sequence[Technique]) -> Failure | None:
        """Why a chain could not be built when it, or the beginning of it, was tried before; None where it was not."""
        for count in range(1, len(steps) + 1):
            failed = self.folder / self.key(steps[:count]) / FAILED
            if failed.exists():
                return read_json(failed, lambda plain: Failure(*plain))
        return None

    def remember(self, steps: Sequence[Technique], failure: Failure) -> Technique | None:
        """Blame a failure on the first step that is not built, so that no other route runs into it again.

        Returns:
            That step; None where all steps are built: then it came later, in running the model.
        """
        for count in range(1, len(steps) + 1):
            home = self.folder / self.key(steps[:count])
            if not (home / MODEL).exists():
                if not (home / FAILED).exists():
                    self._note(home, failure)
                return steps[count - 1]
        return None

    def sweep(self) -> None:
        """Remove what a killed job has left half made; it may be what fills the disk."""
        for folder in (self.folder, self.folder / SHARED):
            for part in folder.glob(".part-*"):
                shutil.rmtree(part, ignore_errors=True)

    def _note(self, home: Path, failure: Failure) -> None:
        home.mkdir(exist_ok=True)
        write_json(home / FAILED, list(failure))

    def _make(
        self,
        step: Technique,
        model: Model,
        home: Path,
        deadline: float,
        progress: Callable[[float, str], None],
    ) -> Model:
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
        needed = self.calibration if step.needs & Needs.SAMPLES else None  # as `key` has it
        samples = Data.load(needed) if needed else None
        lessons = self.lessons if _trains(step) else None
        kept = self.folder / f".kept-{home.name}"
        context = Context(
            samples, self.original, self.target, self.seed, part,
            train=Data.load(lessons.data) if lessons else None, training=lessons.training() if lessons else None,
            student=lessons.student if lessons else None, shared=self.folder / SHARED, kept=kept,
            deadline=deadline, progress=progress, layer_times=partial(time_layers, self.target, samples),
        )  # fmt: skip
        try:
            made = apply(step, model, context)
            write_json(part / MODEL, made.to_json(part))
            part.replace(home)
            shutil.rmtree(kept, ignore_errors=True)
        except NotApplicable as error:
            self._note(home, Failure("refused", str(error)))
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return _made(home)


def time_layers(target: Target, samples: Data | None, model: Model) -> tuple[LayerTime, ...]:
    """What each layer takes, on the first runtime here that loads the model.

    Raises:
        NotApplicable: That one has no profiler, or there are no samples to run.
    """
    usable = (r for r in runtimes.all_runtimes() if model.format in r.loads and not r.as_given and installed(r.module))
    runtime = next(usable, None)
    if runtime is None or samples is None:
        raise NotApplicable("layers are timed where samples are given, and a runtime is installed")
    rows = samples.take(np.arange(min(len(samples), TIMED * target.batch)))
    feeds = [feed for _, steps in calls(model.signature, rows, target.batch) for feed in islice(steps, 1)]
    return runtime().layer_times(model, target, feeds, QUICK)


def _trains(step: Technique) -> bool:
    return bool(step.needs & Needs.TRAINING)


def _made(home: Path) -> Model:
    return read_json(home / MODEL, lambda plain: within(home, Model.of(plain, home)))


def within(folder: Path, model: Model) -> Model:
    """The model, where it lies in a folder.

    Raises:
        RunFailed: It does not: somebody has altered the run.
    """
    for file in (model.path, *model.files):
        if not file.is_relative_to(folder):
            raise RunFailed(f"what a run made must lie in {folder}, and {file} does not. Start a new run.")
    return model
