"""Prepare: from what a user hands over to a run directory that holds all a search needs."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from . import formats, jobs, runtimes, techniques
from . import metrics as room
from ._arrays import listed
from ._calls import function, is_call
from ._lazy import installed
from ._pickles import write_object
from ._plain import restore
from .caution import caution
from .data import Data, match, split
from .errors import InvalidData, InvalidGoal, InvalidPlan, NotMeasurable, RunFailed, UnsupportedModel
from .fixed import Fixed, check_reached, fixed
from .goal import Goal
from .images import Preprocessing
from .learning import Training
from .model import KERAS, TORCH, Format, Model
from .overlap import overlap
from .plan import reached
from .reading import read_for
from .rundir import DATA, PLAN, TRAINING, RunDir, as_written, read_json, write_json
from .runtime import Runtime
from .spelling import option
from .target import Target, covers, cpu_name, instruction_sets, usable_cores
from .technique import Technique
from .units import counted

NAMED = 5  # columns that a note names, at the most
FEW = 3  # samples that are enough to learn a signature
LONGEST = 600.0  # seconds that running them may take
RAREST = 1.0  # arrivals a second that a server is measured at: some 1,000 are waited for
ANY = 1 << 62  # bytes: as much memory as there is
SEEDS = 1 << 32  # that NumPy's older generators, and what samples with them, take
SPLITS = ("calibration", "search", "confirm")


@dataclass(frozen=True)
class Budget:
    """What a search may spend.

    Attributes:
        seconds: Of wall time in all, confirmation included.
        trials: Candidates, at the most; None for no bound.
        memory: Resident bytes of one candidate's processes together; None for 80 % of what is free at the start.
    """

    seconds: float = 600.0
    trials: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("seconds", self.seconds, Real),
            ("trials", self.trials, Integral),
            ("memory", self.memory, Real),
        ):
            if value is None and name != "seconds":
                continue
            if not isinstance(value, kind) or not 0 < value < math.inf:
                raise InvalidPlan(f"{name} of a budget must be a number above zero, not {value!r}. Write Budget(600).")


@dataclass(frozen=True)
class Request:
    """What a user asks for, as plain data: the content of `run.json`."""

    goal: str
    metrics: tuple[str, ...]
    target: Target
    budget: Budget
    seed: int
    original: Mapping[str, Any]
    original_digest: str
    source: str
    splits: Mapping[str, int]
    training: Mapping[str, Any] | None = None
    most: float = 1.0  # strength of what trains
    doubts: str = ""  # why what trains is tried last
    student: Mapping[str, Any] | None = None
    preprocessing: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None
    settings: Fixed = field(default_factory=dict)
    out: str | None = None
    label: str | None = None
    group: str | None = None
    beside: Sequence[str] = ()  # the samples that were given besides the data
    digests: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "target": vars(self.target), "budget": vars(self.budget)}

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Request:
        return restore(cls, json)


def prepare(
    run: RunDir,
    model: object,
    data: object,
    goal: Goal | str | None,
    *,
    metrics: Sequence[str],
    label: str | None,
    slices: Sequence[str],
    group: str | None,
    calibration: object,
    confirm: object,
    target: Target,
    budget: Budget,
    seed: int,
    recipe: Mapping[str, Any] | None,
    out: str | Path | None,
    protected: Sequence[str] = (),
    weights: str | Path | None = None,
    trust_pickle: bool = False,
    train: object = None,
    training: Training | None = None,
    preprocessing: Preprocessing | None = None,
    settings: Fixed | None = None,
) -> Request:
    """Read model and data, make them fit, split the data, and write all of it into the run directory.

    Raises:
        UnsupportedModel, UntrustedModel: The model can't be read.
        InvalidData: The data can't be read or don't fit the model.
        InvalidGoal: The goal can't be read.
        InvalidPlan: The seed, the target or the settings can't be used.
        NotMeasurable: The goal speaks of what can't be told here.
    """
    check_seed(seed)
    parsed = spelled_out(Goal.given(goal), metrics)
    for name in (*parsed.metrics, *metrics):
        if ":" not in name:
            room.find(name)
    parsed.check(room.better(), room.units())
    check_measurable(parsed, metrics, target)
    opened = open_model(model, run.folder("original"), weights, trust_pickle)
    check_target(target, opened)
    check_reached(settings or {}, opened.format)
    if preprocessing is not None:
        preprocessing = preprocessing.settled(data, opened.signature)
        if preprocessing.fold:
            opened = formats.format_of(opened.format).folded(opened, preprocessing, run.folder("original/folded"))

    def stored(source: object, name: str, **columns: Any) -> tuple[Data, Model]:
        folder = run.folder(f"{DATA}/{name}")
        given = read_for(
            opened.signature, source, preprocessing=preprocessing, label=label, storage=folder, seconds=budget.seconds,
            **columns,
        )  # fmt: skip
        known = complete(opened, given, jobs.Limits(min(budget.seconds, LONGEST), budget.memory or ANY))
        fitted, signature = match(given, known.signature)
        fitted.save(folder)
        return replace(Data.load(folder), unread=fitted.unread), replace(known, signature=signature)

    def further(source: object, name: str, **columns: Any) -> Data:
        try:
            return stored(source, name, **columns)[0]
        except InvalidData as error:
            raise InvalidData(f"Of the {name.removeprefix('given-')} data: {error}") from error

    judged = {"slices": slices, "group": group, "protected": protected}
    whole, opened = stored(data, "all", **judged)
    check_batch(target, len(whole))
    extra = {
        name: further(source, f"given-{name}", **judged)
        for name, source in (("calibration", calibration), ("confirm", confirm))
        if source is not None
    }
    parts = split(whole, seed, **extra)
    for name in SPLITS:
        getattr(parts, name).save(run.folder(f"{DATA}/{name}"))
    notes = []
    if target.mobile:
        notes.append(f"latency and memory are those of this machine ({cpu_name()}), not of a phone")
    if whole.labels is None and whole.unread:
        more = f" and {left} more" if (left := len(whole.unread) - NAMED) > 0 else ""
        names = listed(map(repr, whole.unread[:NAMED]))
        notes.append(
            f"The data have no labels, and nothing reads {names}{more}. If the labels are among them, say "
            f"which they are: {option('label', 'NAME')}."
        )
    lessons: dict[str, Any] = {}
    if train is not None:
        learned = further(train, "train")
        lessons = _lessons(run, training or Training(), opened)
        if opened.format in (TORCH, KERAS) or "trees" in opened.counts:  # what can be trained here
            held = caution(learned, opened)
            lessons |= {"most": held.most, "doubts": held.doubts}
            notes += held.why
        if learned.labels is None and whole.labels is not None and (training or Training()).loss != "none":
            notes.append(
                "The train data have no labels, and the data to judge by have: what is trained learns from the "
                "original's outputs alone. Give them by the same name where there are any."
            )
        if shared := sum(overlap(learned, judging) for judging in (whole, *filter(None, [extra.get("confirm")]))):
            notes.append(
                f"{counted(shared, 'sample')} of the train data can be found in the data to judge by too: what is "
                "trained on them looks better than it is. Give data that nothing was trained on."
            )
    elif training is not None:
        raise InvalidPlan(
            f"training settings need train data, and there are none. Give them: {option('train', 'DATA')}."
        )
    if "confirm" in extra and (shared := overlap(extra["confirm"], whole)):
        notes.append(
            f"{counted(shared, 'sample')} of the confirm data can be found in the search data too: not unseen."
        )
    if any(limit.scope == "worst_slice" for limit in parsed.limits) and not whole.slices:
        raise InvalidGoal(
            f"worst_slice(...) needs slices, and none are named. Name a column: {option('slice', 'NAME')}."
        )
    request = Request(
        goal=str(parsed),
        metrics=tuple(metrics),
        target=target,
        budget=budget,
        seed=seed,
        original=opened.to_json(run.root),
        original_digest=opened.digest(),
        source=str(model) if isinstance(model, (str, Path)) else type(model).__name__,
        splits={name: len(getattr(parts, name)) for name in SPLITS},
        preprocessing=preprocessing.to_json() if preprocessing else None,
        notes=tuple(notes),
        recipe=recipe,
        settings=settings or {},
        out=str(Path(out).absolute()) if out else None,
        label=label,
        group=group,
        beside=[
            name
            for name, one in (("calibration", calibration), ("confirm", confirm), ("train", train))
            if one is not None
        ],
        digests={
            "calibration": parts.calibration.digest(),
            "confirm": unseen_digest(parts.confirm),
            **({"train": learned.digest()} if lessons else {}),
        },
        **lessons,
    )
    write_json(run / PLAN, request.to_json())
    return request


def _lessons(run: RunDir, training: Training, original: Model) -> dict[str, Any]:
    """The training settings as plain data; what is live is written into the run directory.

    Raises:
        InvalidPlan: The original is no module, or a name can't be found.
        UnsupportedModel: The student can't be read.
    """
    folder, plain = run.folder(TRAINING), training.to_json()
    for name, value in plain.items():
        if name != "student" and callable(value):
            plain[name] = {"pickled": write_object(folder / f"{name}.pkl", value).name}
        elif name in ("loss", "augment") and is_call(value):
            function(value, "a function", InvalidPlan)
    student, plain["student"] = plain["student"], None
    if student is None:
        return {"training": plain}
    opened = open_model(student, run.folder(f"{TRAINING}/student"))
    if opened.format != original.format:
        raise UnsupportedModel(
            f"A student must come in the original's format, {original.format}, and this one is in {opened.format}. "
            "Give one of the same library; a Keras model with layers of your own is a saved-model, and is not trained."
        )
    if not all(file.is_relative_to(folder) for file in opened.files):  # a program's file stays where it is
        opened = opened.copy_to(run.folder(f"{TRAINING}/student"))
    opened = replace(opened, signature=original.signature)
    return {"training": plain, "student": opened.to_json(run.root)}


def unseen_digest(confirm: Data) -> str:
    """Of a confirm split: the same samples are the same, whatever slices are reported of them."""
    return replace(confirm, slices={}, crossings=(), protected=()).digest()


def resumed(run: RunDir) -> Request:
    """Read what a run was started with.

    Raises:
        RunFailed: The run was altered, or the model has changed since.
        NotMeasurable: The goal speaks of what can't be told on this machine.
    """
    path = run / PLAN
    request = read_json(path, Request.of)
    with as_written(path):
        Goal.parse(request.goal).check(room.better(), room.units())
        original = Model.of(request.original, run.root)
        reference(original.format)
        fixed(request.settings)
        check_seed(request.seed)
        [request.splits[name] for name in SPLITS], request.digests["calibration"], request.digests["confirm"]
    check_measurable(Goal.parse(request.goal), request.metrics, request.target)
    missing = [file for file in original.files if not file.exists()]
    if missing or original.digest() != request.original_digest:
        raise RunFailed(
            f"the model {request.source} has changed or gone since this run began. Start a new one for the new model; "
            f"{option('recipe', 'BUNDLE')} replays a winner's route on it."
        )
    return request


def open_model(source: object, folder: Path, weights: str | Path | None = None, trust_pickle: bool = False) -> Model:
    """Open a model; a live object, its weights filled in, or one that was pickled, is written into `folder` first."""
    opened = formats.open(source, Path(weights) if weights else None, trust_pickle)
    return formats.format_of(opened.format).store(opened, folder)


def complete(model: Model, data: Data, limits: jobs.Limits = jobs.Limits(LONGEST, ANY)) -> Model:  # noqa: B008 frozen
    """The model with its signature whole: where it does not tell it itself, a few samples are run, in a job.

    Raises:
        UnsupportedModel: It fails on them.
    """
    names = {tensor.name for tensor in model.signature.inputs}
    samples = {name: array for name, array in data.batch(0, FEW).items() if name in names}
    if model.signature.outputs or not samples:
        return model
    ended = jobs.run(formats.format_of(model.format).fit, model, samples, limits=limits)
    ended.raise_unless_done("the model could not be tried on a few samples")
    return ended.value or model


def reference(format: Format, target: Target | None = None) -> tuple[tuple[Technique, ...], Runtime]:
    """What the original is measured on: the first runtime that loads its format, or what a converter makes of it.

    Args:
        format: Of the original.
        target: Of converters, one to a format that it takes comes first: the original may be what is handed over.

    Raises:
        UnsupportedModel: None that is installed does.
    """
    there = (step for step in techniques.all_techniques() if not step.lacks())
    converters = [step for step in there if format in step.accepts and step.returns]
    if target is not None:
        converters.sort(key=lambda step: not target.allows(str(step.returns)))
    known = [runtime for runtime in runtimes.all_runtimes() if not runtime.as_given and not runtime.partial]
    for steps, loadable in (((), format), *(((step,), step.returns) for step in converters)):
        for runtime in known:
            if loadable in runtime.loads and installed(runtime.module):
                return tuple(step() for step in steps), runtime()
    fitting = [runtime for runtime in known if format in runtime.loads]
    extras = [f"pip install 'strop[{runtime.extra}]'" for runtime in fitting if runtime.extra]
    raise UnsupportedModel(
        f"no installed runtime loads {format} models." + (f" Install one with: {' or '.join(extras)}" if extras else "")
    )


def called(format: Format) -> Runtime | None:
    """What users call a model of this format with, where that is not what runs the original here."""
    given = (runtime for runtime in runtimes.all_runtimes() if runtime.as_given and format in runtime.loads)
    return next((runtime() for runtime in given if installed(runtime.module)), None)


def spelled_out(goal: Goal, metrics: Sequence[str]) -> Goal:
    """Let a goal name the user's own metrics by their functions: `text_f1` for `module:text_f1`."""
    own = {metric.rpartition(":")[2]: metric for metric in metrics if ":" in metric}
    limits = tuple(replace(limit, metric=own.get(limit.metric, limit.metric)) for limit in goal.limits)
    return replace(goal, limits=limits, objective=own.get(goal.objective, goal.objective))


def check_measurable(goal: Goal, also: Sequence[str], target: Target) -> None:
    """Refuse a goal that can't be judged here; what is only to be reported may be not measurable, and is told as such.

    Args:
        also: Metrics to report besides those of the goal; the user's own, `module:function`, are taken unseen.

    Raises:
        NotMeasurable: The goal speaks of a metric that this machine can't tell.
        InvalidPlan: The target lacks what a metric is computed from.
    """
    for name in (*goal.metrics, *also):
        why = "" if ":" in name else room.unmeasurable(name, target)
        if why and name in goal.metrics:
            raise NotMeasurable(f"the goal asks for {name}, which is not measurable here: {why}")


def check_seed(seed: int) -> None:
    """Refuse a seed that not every library takes.

    Raises:
        InvalidPlan: It is none of theirs.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < SEEDS:
        raise InvalidPlan(f"seed must be a whole number from 0 to {SEEDS - 1}, not {seed!r}.")


def check_target(target: Target, model: Model) -> None:
    """Refuse a target that can't be served here.

    Raises:
        InvalidPlan: A batch that the model does not take, more threads than there are cores, an unknown format, a price
            of nothing, arrivals too rare to be waited for, a phone that the model can't come to.
    """
    cores = len(usable_cores())
    if not 1 <= target.threads <= cores:
        raise InvalidPlan(f"threads must be between 1 and the {cores} cores usable here, not {target.threads}.")
    for name, given in (("rate", target.rate), ("p99", target.p99), ("price", target.price)):
        if given is not None and not 0 < given < math.inf:
            raise InvalidPlan(f"{name} must be above zero and finite, not {given}.")
    if target.rate is not None and target.rate < RAREST:
        raise InvalidPlan(
            f"rate must be at least {RAREST:g} a second, not {target.rate:g}: the arrivals that a p99 needs would take "
            "hours. Calls so rare hardly wait for each other: limit latency.p99 instead."
        )
    if target.batch < 1:
        raise InvalidPlan(f"batch must be 1 or more, not {target.batch}.")
    fixed = {tensor.fixed_batch for tensor in model.signature.inputs} - {None}
    if fixed and target.batch not in fixed | {1}:
        raise InvalidPlan(f"the model takes {fixed} samples a call, not {target.batch}. Leave out {option('batch')}.")
    known = {str(format) for runtime in runtimes.all_runtimes() if not runtime.as_given for format in runtime.loads}
    if unknown := [name for name in target.formats if not any(covers(name, format) for format in known)]:
        raise InvalidPlan(f"formats must be among {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}.")
    every = techniques.all_techniques()
    if target.mobile and not set(target.formats) & reached(model.format, [step for step in every if not step.lacks()]):
        would = [step for step in every if step.lacks() and set(target.formats) & reached(model.format, [step])]
        how = f"{would[0].label()} does, with {would[0].lacks()}" if would else "Convert it, and give the file"
        raise InvalidPlan(
            f"a target that is mobile takes {' or '.join(target.formats)}, and nothing here makes that of a model in "
            f"{model.format}. {how}."
        )


def check_batch(target: Target, samples: int) -> None:
    """Refuse a batch that no call could carry.

    Raises:
        InvalidPlan: There are fewer samples.
    """
    if target.batch > samples:
        raise InvalidPlan(f"batch must be at most the {samples} samples that there are, not {target.batch}.")


def environment() -> dict[str, Any]:
    """What the figures were measured with: CPU, instruction sets, versions."""
    versions = {}
    for package in (
        "strop",
        "numpy",
        "onnx",
        "onnxruntime",
        "onnxslim",
        "openvino",
        "nncf",
        "ai-edge-litert",
        "ai-edge-quantizer",
        "tensorflow-cpu",
        "keras",
        "tf2onnx",
        "optuna",
        "torch",
        "lightgbm",
        "xgboost",
        "xgboost-cpu",
        "treelite",
        "tl2cgen",
        "lleaves",
        "llvmlite",
        "scikit-learn",
        "scikit-learn-intelex",
        "skl2onnx",
    ):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu_name(),
        "cores": len(Target().cores()),
        "instruction_sets": sorted(instruction_sets()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
    }
