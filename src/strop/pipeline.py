"""The main job: a model, data and limits in; the smallest or fastest model that provably keeps them out."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import anatomy, jobs
from ._plain import given, texts
from .baseline import (
    check_reachable,
    choose_goal,
    lay_out,
    measure_called,
    measure_original,
    noise,
    power,
    run_baseline,
    seconds_a_call,
)  # fmt: skip
from .build import Failure
from .bundle import Bundle, check_free, next_free
from .caution import Caution
from .clock import LEAST_TO_TELL, LOOKS, Clock, End
from .confirm import Finding, confirm, looks_to_keep
from .diary import Diary
from .errors import (
    InvalidData,
    InvalidGoal,
    InvalidPlan,
    NotMeasurable,
    RunFailed,
    UnsupportedModel,
    UntrustedModel,
)  # fmt: skip
from .events import Listener, Planned, Said, Stopped, Tried, Trying, Working
from .fixed import Fixed, fixed
from .fixed import texts as texts_of
from .forecast import rank
from .goal import Goal
from .images import Preprocessing
from .judge import Report
from .learning import Training
from .live import following
from .opened import ANATOMY
from .plan import Candidate, routes, served
from .prepare import Budget, Request, check_seed, prepare, reference, resumed
from .result import Result, Search, conclude
from .rundir import DIARY, JOURNAL, MANIFEST, OWN, PLAN, SAVED, SPENT, RunDir, as_written, finite, read_json, write_json
from .search import Replay, RouteSearch, Searcher
from .server import Hosted
from .spelling import option
from .target import Target
from .technique import Needs
from .trial import Outcome, Setting, measure, try_candidate

LEAST_DISK = 200e6  # bytes free, below which no candidate is started
CONFIRMING_LONGER = 1.5  # timing on the confirm split, over that on the search split
CONFIRMED = 0.5  # of what is left for a search, at the most: to confirm what there was no time to find helps nobody
UNCONFIRMED = "the original was not measured on unseen samples, for lack of time: its figures are of the search split"
RUNS = "strop-runs"


def optimize(
    model: object,
    data: object,
    goal: Goal | str | None = None,
    *,
    weights: str | Path | None = None,
    trust_pickle: bool = False,
    metric: str | Sequence[str] = (),
    label: str | None = None,
    slices: Sequence[str] = (),
    group: str | None = None,
    protected: Sequence[str] = (),
    calibration: object = None,
    confirm_data: object = None,
    train: object = None,
    training: Training | None = None,
    preprocessing: Preprocessing | None = None,
    settings: Fixed | None = None,
    target: Target | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    listener: Listener | None = None,
) -> Result:
    """Find the model that is best by the goal's objective and provably keeps its limits.

    Args:
        model: A file, a folder, a live model object, or `module:function` that returns one.
        weights: A file of weights for a live model: safetensors, or a state dict that holds tensors only, for a PyTorch
            module; `.weights.h5` or `.keras` for a Keras model.
        trust_pickle: Whether a pickle may be read, which runs the code in it: only from whom you trust.
        data: Samples to judge by: a path (`.npz`, `.npy`, folder of `.npy`, `.parquet`, `.csv`), `module:function`, a
            mapping of arrays, or a pair `(x, labels)`. Axis 0 is samples; names are those of the model's inputs.
        goal: For instance `"minimize latency.p50; accuracy >= 99% of original; size < 20 MB"`. Without a limit on
            quality, 99 % of the original is required of the metric that fits the data.
        metric: Metrics to report besides those of the goal, by name or `module:function`; the first one of quality is
            what is required where the goal has no limit on quality.
        label: Name of the labels' array or column.
        slices: Names of arrays or columns; every quality metric is reported for each of their values. `sex*race` adds
            the intersections of two.
        group: Name of the array or column that says which samples belong together.
        protected: Further slices, between which a binary classifier's fairness is reported too.
        calibration: Samples to calibrate with, where they are not to be taken from `data`.
        confirm_data: Samples to confirm on, where they are not to be taken from `data`.
        train: Samples to train with, for the techniques that do: like `data`, or a `Dataset` or `DataLoader` of
            PyTorch. Without them nothing is trained.
        training: How to train.
        preprocessing: Of images, where data are folders of them.
        settings: Of techniques, that are not to be searched: `{"tflite-int8": {"integer_ends": True}}`.
        target: Threads, batch size, formats, and the price of an hour.
        budget: Time, trials and memory.
        seed: Of every random choice.
        run: The run directory; by default a new one under `strop-runs/`.
        recipe: A bundle whose route is replayed on this model and proven anew, in place of a search.
        out: Where `result.save()` is to write, checked before anything is spent and remembered by the run.
        listener: Called with every event; by default a notebook or a terminal shows how far the search is.

    Returns:
        The result; `result.save("bundle/")` writes what is handed over.

    Raises:
        UnsupportedModel, UntrustedModel, InvalidData, InvalidGoal, NotMeasurable, RunFailed: Before the search, with
            the next step.
    """
    start = time.monotonic()
    target, budget, metric = given(Target, target, "target"), given(Budget, budget, "budget"), texts(metric, "metric")
    training = given(Training, training, "training") if training is not None else None
    if preprocessing is not None:
        given(Preprocessing, preprocessing, "preprocessing")
    chosen = fixed(settings or {})
    if out is not None:
        check_free(Path(out))
    replayed = Bundle.load(recipe) if recipe is not None else None
    if replayed:
        if chosen:
            raise InvalidPlan(f"a recipe has all settings, and those of {', '.join(chosen)} are given. Leave them out.")
        goal = _goal_of(replayed, goal, metric)
        _check_trainable(replayed.candidate, train, training)
        preprocessing = preprocessing or replayed.preprocessing
    check_seed(seed)
    directory = RunDir(Path(run) if run else _new_run(model))
    try:
        if out is not None and any((directory / name).is_relative_to(Path(out).resolve()) for name in OWN):
            raise InvalidPlan(
                f"a bundle can't go where its run keeps its files, in {directory.root}, and {option('out', str(out))} "
                "is there. Name another folder."
            )
        if (directory / PLAN).exists():
            raise RunFailed(
                f"{directory.root} holds a run already. Name a new folder, or go on: {option('resume', str(run))}."
            )
        request = prepare(
            directory, model, data, goal, metrics=metric, label=label,
            slices=slices, group=group, protected=protected, calibration=calibration, confirm=confirm_data,
            target=target, budget=budget, seed=seed, out=out,
            recipe=replayed.candidate.to_json() if replayed else None,
            weights=weights, trust_pickle=trust_pickle, train=train, training=training, preprocessing=preprocessing,
            settings=chosen,
        )  # fmt: skip
        with Diary(directory / DIARY, following(listener)) as tell:
            return _carry_out(directory, request, start, tell)
    except (InvalidGoal, InvalidData, InvalidPlan, NotMeasurable, UnsupportedModel, UntrustedModel):
        if directory.created:  # refused before anything was tried: nothing in there is worth keeping
            shutil.rmtree(directory.root, ignore_errors=True)
            with contextlib.suppress(OSError):
                directory.root.parent.rmdir() if run is None else None
        raise
    finally:
        directory.close()


def resume(run: str | Path, *, budget: Budget | None = None, listener: Listener | None = None) -> Result:
    """Go on with a search that was killed or ran out of budget; no finished candidate is repeated.

    Args:
        run: Its run directory.
        budget: A new budget in all; by default what is left of the old one.

    Raises:
        RunFailed: The folder holds no run, others may have written it, or its model has changed.
    """
    start, directory = time.monotonic(), RunDir.existing(Path(run))
    try:
        request = resumed(directory)
        if budget is not None:
            request = dataclasses.replace(request, budget=given(Budget, budget, "budget"))
        with Diary(directory / DIARY, following(listener)) as tell:
            return _carry_out(directory, request, start, tell)
    finally:
        directory.close()


def _carry_out(run: RunDir, request: Request, start: float, tell: Listener) -> Result:
    clock = Clock(request.budget, run / SPENT, start)
    tell(Said(f"run directory {run.root}: {option('resume')} goes on with it"))
    if request.settings:
        tell(Said(f"given, and not searched: {', '.join(texts_of(request.settings))}"))
    for note in request.notes:
        tell(Said(note, warning=True))
    setting = lay_out(run, request, clock.whole())
    run_baseline(run, setting, clock.whole())
    request, setting = choose_goal(run, request, setting, clock.whole(), tell)
    original, look = measure_original(run, setting, clock.whole(), tell)
    check_reachable(setting.goal, original)
    clock.look = look
    called = measure_called(run, setting, clock.whole(), look, tell)
    clock.keep()
    tell(Said(power(setting, request)))

    searcher, planned, refused = _searcher(run, request, setting, tell)
    clock.confirming = max(0.0, min(_to_confirm(request, original, look), CONFIRMED * clock.to_confirm / LOOKS))
    floor = noise(original, setting.goal.objective)
    ended = _explore(searcher, setting, clock, floor, tell)

    findings = confirm(run, setting, searcher.tried, request.digests["confirm"], clock, floor, tell)
    if not any(finding.proven for finding in findings):
        original = _original_on_confirm(setting, original, clock)
        findings = findings or _nearest(setting, searcher, clock)
    clock.keep()
    result = conclude(
        request,
        setting,
        searcher.tried,
        findings,
        original,
        called,
        refused,
        Search.of(planned, searcher.tried, ended),
        clock.elapsed,
    )
    write_json(run / MANIFEST, finite(result.manifest))
    (run / SAVED).unlink(missing_ok=True)  # what an earlier session wrote is another result's
    result = dataclasses.replace(result, anatomy=_anatomy(result, setting, clock, tell))
    write_json(run / ANATOMY, finite(result.anatomy))
    return result


def _anatomy(result: Result, setting: Setting, clock: Clock, tell: Listener) -> dict[str, Any]:
    """What is handed over, layer by layer; with the reason where it is the original, or no time is left."""
    shown = result.handed_over
    if shown is None or shown.candidate == result.original.candidate:
        return {}
    seconds = min(anatomy.SHARE * clock.elapsed, clock.to_tell)
    if seconds >= LEAST_TO_TELL:
        past = ", past the end of the budget" if seconds > clock.budget.seconds - clock.elapsed else ""
        tell(Said(f"looking into what is handed over, layer by layer, for {seconds:.0f} s at the most{past}"))
    made = Hosted(setting.model(shown.model), shown.candidate.runtime, setting.workshop.target)
    return anatomy.take_apart(setting.original, made, shown.candidate, setting.search, seconds)


def _searcher(
    run: RunDir, request: Request, setting: Setting, tell: Listener
) -> tuple[Searcher, list[Candidate], dict[str, str]]:
    """What says which candidate is next, the routes at their defaults, and what is left out, with the reason."""
    if request.recipe:
        recipe = Candidate.of(request.recipe)
        candidate, why = served(recipe, request.target)
        if why:
            tell(Said(f"the recipe's {recipe.runtime} is replayed as {candidate.runtime}: {why}", warning=True))
        tell(Planned((str(candidate),), {}, setting.goal.objective))
        return Replay(candidate), [candidate], {}
    have = Needs.SAMPLES
    if lessons := setting.workshop.lessons:
        have |= Needs.TRAINING | (Needs.STUDENT if lessons.student else Needs.NOTHING)
    found, refused = routes(
        setting.workshop.original, request.target, have, asked=setting.goal.metrics,
        held=Caution(request.most, request.doubts), fixed=request.settings,
    )  # fmt: skip
    as_given = Candidate(*reference(setting.workshop.original.format, request.target))
    found = [route for route in found if route.candidate() != as_given]
    tell(Planned(tuple(route.label for route in found), refused, setting.goal.objective))
    for name in request.settings.keys() & refused.keys():
        tell(Said(f"{name}, whose settings are given, is not tried: {refused[name]}", warning=True))
    with as_written(run / JOURNAL):
        searcher = RouteSearch(found, setting.goal, request.target, request.seed, run / JOURNAL)
    return searcher, [route.candidate() for route in found], refused


def _explore(searcher: Searcher, setting: Setting, clock: Clock, floor: float, tell: Listener) -> End:
    """Try candidates until the searcher has no more, the budget is spent, or somebody stops it; says which."""
    _keep_for_looks(clock, searcher.tried, setting.goal, floor, setting.narrower)
    try:
        while not (end := clock.end(sum(outcome.counts for _, outcome in searcher.tried))):
            proposal = searcher.ask()
            if proposal is None:
                end = End(searcher.exhausted)
                break
            if shutil.disk_usage(setting.root).free < LEAST_DISK:
                end = End(f"less than {LEAST_DISK / 1e6:.0f} MB are free on the disk of {setting.root}")
                break
            number, name = 1 + sum(outcome.seconds > 0 for _, outcome in searcher.tried), str(proposal.candidate)
            news = not setting.workshop.failure(proposal.candidate.steps)  # else it fails as a shorter chain has
            if news:
                tell(Trying(number, name, proposal.why, clock.left))
            limits = clock.limits()
            outcome = try_candidate(setting, proposal.candidate, limits, lambda *where: tell(Working(*where)))
            if outcome.waited > jobs.PATIENCE:
                tell(Said(
                    f"{name} waited {outcome.waited:.0f} s for another strop to end measuring on this machine; that "
                    "counts for the time budget, not for the candidate"
                ))  # fmt: skip
            if outcome.cause == "timeout" and (limits.seconds < clock.most or clock.left <= 0):
                end = End(f"the time that {option('budget')} allows in all ended while {name} was tried", "budget")
                break
            if outcome.cause != "done":
                failure = Failure(outcome.cause, outcome.reason)
                blamed = setting.workshop.remember(proposal.candidate.steps, failure)
                outcome = dataclasses.replace(outcome, blamed=blamed.label() if blamed else "")
            searcher.tell(proposal, outcome)
            _keep_for_looks(clock, searcher.tried, setting.goal, floor, setting.narrower)
            clock.keep()
            if news:
                tell(Tried(number, name, outcome, _best(searcher, setting.goal)))
    except KeyboardInterrupt:
        clock.stopped = not clock.finalists
        end = End(f"interrupted, before anything was found that keeps the limits; {option('resume')} goes on")
        if not clock.stopped:
            end = End("interrupted; what was found so far is confirmed (Ctrl-C again ends that too)")
    tell(Stopped(str(end)))
    return end


def _keep_for_looks(
    clock: Clock, tried: Sequence[tuple[Candidate, Outcome]], goal: Goal, floor: float, narrower: float
) -> None:
    clock.finalists, clock.looks = (
        sum(outcome.usable for _, outcome in tried),
        looks_to_keep(tried, goal, floor, narrower),
    )


def _best(searcher: Searcher, goal: Goal) -> str | None:
    usable = [(rank(outcome, goal), str(candidate)) for candidate, outcome in searcher.tried if outcome.usable]
    return min(usable)[1] if usable else None


def _nearest(setting: Setting, searcher: Searcher, clock: Clock) -> list[Finding]:
    """The candidate that breaks the limits least, measured whole, for a search in which each of them breaks one."""
    measured = [(rank(o, setting.goal), c.key, c, o) for c, o in searcher.tried if o.cause == "done"]
    if not measured:
        return []
    _, _, candidate, outcome = min(measured, key=lambda entry: entry[:2])
    found = _on_confirm(setting, candidate, outcome.model or {}, clock)
    return [found] if found else []


def _original_on_confirm(setting: Setting, original: Finding, clock: Clock) -> Finding:
    """The original, measured on the confirm split; where there is no time, as on the search split, which is said."""
    found = _on_confirm(setting, original.candidate, original.model, clock)
    if found and not found.problem:
        return found
    report = dataclasses.replace(original.report, notes=(*original.report.notes, UNCONFIRMED))
    return dataclasses.replace(original, report=report)


def _on_confirm(setting: Setting, candidate: Candidate, model: Mapping[str, Any], clock: Clock) -> Finding | None:
    """Measure what is no finalist on the confirm split: the original, or the closest candidate. What an earlier session
    found is kept; None where there is no time."""
    path = setting.root / f"unseen-{candidate.key}.json"
    if path.exists():
        return read_json(path, Finding.of)
    if not clock.room_for(1):
        return None
    hosted = Hosted(setting.model(model), candidate.runtime, setting.workshop.target)
    ended = jobs.run(
        measure, setting, hosted, "confirm", setting.confirming, 0.95, clock.to_confirm, limits=clock.whole()
    )
    found = Finding(candidate, model, ended.value or Report(), 0.95, False, problem=ended.reason)
    if not found.problem:
        write_json(path, found.to_json())
    return found


def _to_confirm(request: Request, original: Finding, look: float) -> float:
    """Seconds of a look on the confirm split: timing takes longer than the original's did, and samples are run."""
    samples = request.splits["confirm"] / request.target.batch
    return look * CONFIRMING_LONGER + samples * seconds_a_call(original)


def _goal_of(recipe: Bundle, goal: Goal | str | None, metric: str | Sequence[str]) -> Goal | str:
    """The goal of a recipe is its bundle's, where no limit is given."""
    asked = Goal.given(goal)
    if asked.limits:
        return asked
    kept = recipe.goal
    own = [x.metric for x in kept.limits if ":" in x.metric and x.metric not in metric]
    if own:
        raise InvalidGoal(
            f"the recipe's goal asks for {own[0]}, code of your own. Name it to run it: {option('metric', own[0])}."
        )
    return kept


def _check_trainable(recipe: Candidate, train: object, training: Training | None) -> None:
    needs = Needs.NOTHING
    for step in recipe.steps:
        needs |= step.needs
    if needs & Needs.TRAINING and train is None:
        raise InvalidPlan(
            f"the recipe's route trains, and there are no train data. Give them: {option('train', 'DATA')}."
        )
    if needs & Needs.STUDENT and (training is None or training.student is None):
        raise InvalidPlan("the recipe's route teaches a student, and none is given. Give it in the training settings.")


def _new_run(model: object) -> Path:
    name = Path(model).stem if isinstance(model, (str, Path)) else type(model).__name__
    name = re.sub(r"[^\w.-]", "-", name)
    return next_free(Path(RUNS) / time.strftime(f"{name}-%Y%m%d-%H%M%S"))
