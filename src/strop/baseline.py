"""Baseline: the original, run and measured like any candidate, before anything is searched."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from . import details, jobs, metrics
from .build import Lessons, Workshop, within
from .confirm import Finding
from .data import Data
from .errors import InvalidGoal, RunFailed, TechniqueError, UnsupportedModel
from .events import Listener, Measured, Said
from .goal import Goal, Limit
from .judge import Report
from .model import Model, digest_files
from .outputs import load_outputs
from .plan import Candidate
from .prepare import Request, called, reference
from .rundir import ARTIFACTS, DATA, OUTPUTS, PLAN, TRAINING, RunDir, as_written, read_json, write_json
from .server import Hosted
from .spelling import option
from .stats import detectable_drop
from .timing import WAITING
from .training import rehearse
from .trial import Setting, measure, run_original
from .units import counted

SPLITS = ("search", "confirm")
BASELINE, CALLED = "baseline.json", "called.json"
ALWAYS = ("latency.p50", "latency.p95", "size")  # reported of every candidate, whatever the goal
SHARE = 0.1  # of what is left, after which timing the original comes to its end, also on a busy machine
ASIDE = 0.03  # likewise, of timing what users call without strop
LONG = 0.15  # of what is left, that timing the original took, from which on that is left out
STRICT = "99%"  # of the original, where a goal says nothing of quality
LIKE = 0.99  # agreement or fidelity, likewise
DISAGREEMENT = 0.02  # share of predictions that int8 typically changes, to say what the data can prove


def lay_out(run: RunDir, request: Request, limits: jobs.Limits) -> Setting:
    """What all trials of a run share; an original that no runtime loads is converted.

    Raises:
        UnsupportedModel: It can't be, or a student does not fit it.
        InvalidPlan, InvalidData: What the user says of training does not work.
    """
    original = Model.of(request.original, run.root)
    calibration = run / DATA / "calibration"
    workshop = Workshop(
        run.folder(ARTIFACTS), original, request.original_digest, calibration,
        request.digests["calibration"], request.target, request.seed, _lessons(run, request),
    )  # fmt: skip
    run.folder(OUTPUTS)
    _try_training(run, workshop, limits)
    return Setting(
        run.root, workshop, loadable(workshop, limits),
        run / DATA / "search", run / DATA / "confirm", Goal.parse(request.goal),
        (*request.metrics, *ALWAYS, *metrics.called_for(request.target)), request.settings,
    )  # fmt: skip


def _try_training(run: RunDir, workshop: Workshop, limits: jobs.Limits) -> None:
    """Hold what the user says of training to model and data, once a run, before anything is spent."""
    if workshop.lessons is None or (run / BASELINE).exists():
        return
    ended = jobs.run(_rehearse, workshop.original, workshop.lessons, limits=limits)
    _hold(ended, "the training could not be tried on a few samples")


def _hold(ended: jobs.Ended[Any], what: str) -> None:
    """Raise where a job that the run can't do without has not ended well; where time was short, with what to do.

    Raises:
        StropError: What ended it.
    """
    if ended.cause == "timeout":
        raise RunFailed(f"{what}: {ended.reason}. Give a longer {option('budget')}.")
    ended.raise_unless_done(what)


def _rehearse(original: Model, lessons: Lessons) -> None:
    rehearse(original, lessons.training(), lessons.data, lessons.student)


def _lessons(run: RunDir, request: Request) -> Lessons | None:
    if request.training is None:
        return None
    with as_written(run / PLAN):
        student = within(run.root, Model.of(request.student, run.root)) if request.student else None
        folder, data = run / TRAINING, request.digests["train"]
        live = digest_files(sorted(folder.glob("*.pkl")))
        known = [data, json.dumps(dict(request.training), sort_keys=True), live, student.digest() if student else ""]
        digest = hashlib.sha256("\0".join(known).encode()).hexdigest()
        return Lessons(run / DATA / "train", request.training, folder, student, digest)


def loadable(workshop: Workshop, limits: jobs.Limits) -> Hosted:
    """The original with what runs it; what no runtime loads is converted, in a job.

    Raises:
        UnsupportedModel: It can't be.
    """
    model = workshop.original
    steps, runtime = reference(model.format, workshop.target)
    if steps:
        ended = jobs.run(workshop.build, steps, limits=limits)
        if isinstance(ended.error, TechniqueError):
            raise UnsupportedModel(str(ended.error)) from ended.error
        ended.raise_unless_done("the model could not be converted")
        model, _ = ended.value or (model, {})
    return Hosted(model, runtime, workshop.target)


def run_baseline(run: RunDir, setting: Setting, limits: jobs.Limits) -> None:
    """Run the original over the search and the confirm split, and keep what it answers.

    Raises:
        RunFailed: It can't be loaded or run: the message is the runtime's.
    """
    wanted = [(run / DATA / split, run / OUTPUTS / f"{split}.npz") for split in SPLITS]
    ended = jobs.run(run_original, setting.original, wanted, limits=limits)
    if ended.cause == "timeout":
        raise RunFailed(
            f"the budget must let the original run over all samples, which took longer than {limits.seconds:.0f} s. "
            f"Give a longer {option('budget')}, or fewer samples; what was done is kept for {option('resume')}."
        )
    ended.raise_unless_done()


def choose_goal(
    run: RunDir, request: Request, setting: Setting, limits: jobs.Limits, tell: Listener
) -> tuple[Request, Setting]:
    """Fill in what the goal leaves open, and refuse what the model or the data can't be judged by.

    Returns:
        The request with the whole goal, and a note where labels look wrong; and the setting with that goal.

    Raises:
        InvalidData: Outputs or labels that a metric can't judge.
        UnsupportedModel: The original answers NaN only.
        RunFailed: A metric of the user's own took its process down, or too long.
    """
    goal = setting.goal
    judge = jobs.run(_check_metrics, goal, request.metrics, run / OUTPUTS / "search.npz", setting.search, limits=limits)
    _hold(judge, "the metrics could not be tried on the original's outputs")
    missing, doubt = judge.value or (None, "")
    if missing:
        limit = Goal.parse(_default_limit(missing)).limits[0]
        goal = dataclasses.replace(goal, limits=(*goal.limits, limit))
        gloss = f" ({missing}: {meaning})" if (meaning := metrics.find(missing).meaning) else ""
        tell(Said(
            f"no limit on quality was given, so {limit} is required{gloss}; another one is set with {option('limit')}"
        ))  # fmt: skip
        request = dataclasses.replace(request, goal=str(goal))
    if doubt and doubt not in request.notes:
        tell(Said(doubt, warning=True))
        request = dataclasses.replace(request, notes=(*request.notes, doubt))
    write_json(run / PLAN, request.to_json())
    return request, dataclasses.replace(setting, goal=goal)


def _check_metrics(goal: Goal, asked: Sequence[str], outputs_file: Path, search: Path) -> tuple[str | None, str]:
    """Try every quality metric on the original's outputs, in a job: a user's own function may do anything.

    Returns:
        The metric to require, where the goal has no limit on quality; and what is doubtful about the labels.
    """
    outputs, labels = load_outputs(outputs_file), Data.load(search).label_array()
    for name, array in outputs.items():
        if array.size and array.dtype.kind == "f" and np.isnan(array).all():
            raise UnsupportedModel(f"the original must answer numbers, and its output {name!r} is NaN for all samples.")
    missing = None
    if not any(metrics.find(limit.metric).quality for limit in goal.limits):
        quality = (name for name in asked if metrics.find(name).quality)
        missing = next(quality, None) or metrics.default_quality(outputs, labels)
    names = dict.fromkeys([*goal.metrics, *asked, *([missing] if missing else [])])
    for metric in map(metrics.find, names):
        if metric.quality:
            metric.check(outputs, labels)
    return missing, metrics.misnumbered(metrics.find("accuracy"), outputs, labels)


def measure_original(run: RunDir, setting: Setting, limits: jobs.Limits, tell: Listener) -> tuple[Finding, float]:
    """Measure the original against itself on the search split: its figures, and the noise floor.

    Returns:
        What was found, and the seconds that it took.

    Raises:
        RunFailed: It can't be measured.
    """
    path = run / BASELINE
    if not path.exists():
        start = time.monotonic()
        ended = jobs.run(
            measure, setting, setting.original, "search", setting.searching, 0.95, SHARE * limits.seconds,
            limits=limits, waits=lambda: tell(Said(WAITING)),
        )  # fmt: skip
        _hold(ended, "the original could not be measured")
        taken = time.monotonic() - start - ended.waited
        write_json(path, {"report": (ended.value or Report()).to_json(), "seconds": taken})
    report, seconds = read_json(path, lambda plain: (Report.of(plain["report"]), float(plain["seconds"])))
    with as_written(path):
        report.figures["latency.p50"], report.figures[metrics.find(setting.goal.objective).name]
    tell(Measured(report))
    steps, _ = reference(setting.workshop.original.format, setting.workshop.target)
    candidate = Candidate(steps, setting.original.runtime)
    return Finding(candidate, setting.original.model.to_json(run.root), report, 0.95, False), seconds


def check_reachable(goal: Goal, original: Finding) -> None:
    """Refuse a limit that nothing could keep.

    Raises:
        InvalidGoal: A share of right decisions would have to be above 1.
    """
    for limit in goal.limits:
        metric = metrics.find(limit.metric)
        side, factor, constant = limit.bound(metric.better)
        figure = original.report.figures.get(metric.name)
        if figure is None or not metric.share or side != "at_least":
            continue
        asked = factor * figure.original.value + constant
        if asked > 1:
            raise InvalidGoal(
                f"`{limit}` asks for {asked:.4g}: {metric.name} is 1 at the most, and the original's is "
                f"{figure.original.value:.4g}. Ask for less."
            )


def measure_called(
    run: RunDir, setting: Setting, limits: jobs.Limits, look: float, tell: Listener
) -> dict[str, Any] | None:
    """Time what users call without strop beside the original, where that is not what runs the original here.

    Args:
        look: Seconds that measuring the original took: where little more is left, candidates need it.

    Returns:
        As the manifest has it; None where there is no such thing.
    """
    path, runtime = run / CALLED, called(setting.workshop.original.format)
    if runtime is None:
        return None
    if not path.exists():
        given = Hosted(setting.workshop.original, runtime, setting.workshop.target)
        alone = dataclasses.replace(setting, goal=Goal(), also=())
        ended: jobs.Ended[Report] = jobs.Ended("refused", reason="the budget is too short for it")
        if look < LONG * limits.seconds:
            ended = jobs.run(
                measure, alone, given, "search", setting.searching, 0.95, ASIDE * limits.seconds, limits=limits,
                waits=lambda: tell(Said(WAITING)),
            )  # fmt: skip
        figures = (ended.value or Report()).figures.items()
        write_json(path, {
            "runtime": runtime.label(), "why": ended.reason,
            "metrics": {name: figure.side("candidate") for name, figure in figures},
            "ratios": {name: asdict(figure.ratio) for name, figure in figures},
        })  # fmt: skip
    found: dict[str, Any] = read_json(path, dict)
    for line in details.called({"runtime": {"name": setting.original.runtime.label()}, "called": found}):
        tell(Said(line))
    return found


def power(setting: Setting, request: Request) -> str:
    """What the data can prove, as a sentence; a warning where a limit is tighter than that."""
    samples = request.splits["confirm"]
    shares = [limit for limit in setting.goal.limits if metrics.find(limit.metric).share]
    if not shares:
        return f"{counted(samples, 'sample')} to confirm on"
    drop = detectable_drop(samples, DISAGREEMENT, 0.95)
    said = (
        f"{counted(samples, 'sample')} to confirm on: they can prove a drop in {shares[0].metric} of {drop:.2%} or "
        "less, where a "
        f"candidate changes {DISAGREEMENT:.0%} of the predictions"
    )
    tight = [limit for limit in shares if _asks_for_less_than(drop, limit)]
    if tight:
        said += f"; {' and '.join(map(str, tight))} asks for less, and may stay inconclusive"
    return said


def _asks_for_less_than(drop: float, limit: Limit) -> bool:
    return (limit.relative and 0 <= 1 - limit.value < drop) or (limit.scope == "drop" and limit.value < drop)


def _default_limit(name: str) -> str:
    metric = metrics.find(name)
    if name in ("agreement", "fidelity"):
        return f"{name} >= {LIKE}"
    if metric.better == "higher":
        return f"{name} >= {STRICT} of original"
    return f"{name} <= 101% of original"


def seconds_a_call(original: Finding) -> float:
    """What one call of the original takes."""
    return original.report.figures["latency.p50"].original.value


def noise(original: Finding, metric: str) -> float:
    """By how much the ratio of the original to itself was off 1: differences under it are none.

    Quality has no such floor: the same outputs score the same.
    """
    known = metrics.find(metric)
    if known.quality:
        return 0.0
    ratio = original.report.figures[known.name].ratio
    return abs(ratio.value - 1)  # not its bounds: a candidate's ratio has bounds of its own
