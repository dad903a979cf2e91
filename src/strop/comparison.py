"""Compare: two given models, or a bundle, measured as a search measures its candidates."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import formats, jobs, metrics
from ._lazy import lazy
from ._plain import given as checked
from ._plain import texts
from ._shapes import cast
from .baseline import loadable
from .bench import Bench
from .build import Workshop
from .bundle import Bundle, run_samples
from .data import Data, match
from .decision import Decision
from .errors import InvalidData, InvalidPlan
from .goal import Goal
from .images import Preprocessing
from .judge import Report, judge
from .model import FLOATS, Model, Signature
from .opened import MANIFEST
from .prepare import (
    check_batch,
    check_measurable,
    check_seed,
    check_target,
    complete,
    open_model,
    reference,
    spelled_out,
)
from .reading import read_for
from .server import Hosted
from .showing import Comparison
from .spelling import option
from .target import Target
from .timing import CONFIRMING, Effort

psutil = lazy("psutil")

COSTS = ("latency.p50", "latency.p95", "latency.p99", "latency.mean", "throughput", "size", "memory", "energy")
TIME = 3600.0  # seconds that comparing two models may take

Array = np.ndarray[Any, Any]


def compare(
    original: object,
    candidate: object,
    data: object,
    goal: Goal | str | None = None,
    *,
    metric: str | Sequence[str] = (),
    label: str | None = None,
    slices: Sequence[str] = (),
    group: str | None = None,
    protected: Sequence[str] = (),
    target: Target | None = None,
    seed: int = 0,
    trust_pickle: bool = False,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
) -> Comparison:
    """Measure a candidate against an original on the same samples.

    Args:
        original: A file, a folder or a live model; likewise `candidate`, which may also be a bundle's folder.
        data: As for `optimize`.
        goal: Limits to judge, if any.
        metric: Metrics to report besides those of cost; the one of quality that fits the data where none is named.
        trust_pickle: Whether pickles may be read, which runs the code in them.
        weights: A file of weights for the original, where that is a PyTorch module, as for `optimize`.
        preprocessing: Of images, where data are a folder of them; by default as the bundle has it, where one is given.

    Returns:
        Plain data, which a notebook shows: `original`, `candidate` (metrics each), `ratios`, `slices`, `worst_drops`,
        `churn`, `fairness`, `limits`, and `not_measurable`: the metrics that can't be told here, and why.

    Raises:
        StropError: A model or the data can't be used; the message says why.
    """
    target, own = checked(Target, target, "target"), texts(metric, "metric")
    preprocessing = preprocessing_of(preprocessing, candidate, original)
    check_seed(seed)
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        first, second = (
            host(source, folder / name, target, trust_pickle, file, preprocessing)
            for name, source, file in (("original", original, weights), ("candidate", candidate, None))
        )
        check_target(target, first.model)
        given = read_for(
            first.model.signature, data, preprocessing=preprocessing, label=label, slices=slices, group=group,
            protected=protected, storage=folder,
        )  # fmt: skip
        first, second = fit(given, first, second, folder / "data")
        outputs = run_samples(first, folder / "data", folder / "outputs.npz")
        parsed = spelled_out(Goal.given(goal), own)
        parsed.check(metrics.better(), metrics.units())
        check_measurable(parsed, own, target)
        labels = Data.load(folder / "data").label_array()
        asked = list(own)
        if not any(metrics.find(name).quality for name in asked):
            asked.append(metrics.default_quality(outputs, labels))
        for name in asked:
            metrics.find(name).check(outputs, labels)
        also = (*asked, *COSTS, *metrics.called_for(target))
        return _measured(first, second, folder, parsed, also, seed)


def benchmark(
    model: object,
    other: object = None,
    data: object = None,
    *,
    label: str | None = None,
    target: Target | None = None,
    seed: int = 0,
    trust_pickle: bool = False,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
) -> Comparison:
    """Measure what one model costs, or two side by side; without data, on random inputs.

    Args:
        label: Of data: the array or column that is no input.
        weights: A file of weights for the first, where that is a PyTorch module, as for `optimize`.
        preprocessing: As for `compare`.

    Returns:
        As `compare`; for one model, it is measured against itself, so the ratios are the noise floor.
    """
    target = checked(Target, target, "target")
    preprocessing = preprocessing_of(preprocessing, other, model)
    check_seed(seed)
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        first = host(model, folder / "original", target, trust_pickle, weights, preprocessing)
        second = first
        if other is not None:
            second = host(other, folder / "candidate", target, trust_pickle, preprocessing=preprocessing)
        check_target(target, first.model)
        signature = first.model.signature
        if data is None:
            given = random_inputs(signature, target.batch, seed)
        else:
            given = read_for(signature, data, preprocessing=preprocessing, label=label, storage=folder)
        first, second = fit(given, first, second, folder / "data")
        run_samples(first, folder / "data", folder / "outputs.npz")
        return _measured(first, second, folder, Goal(()), (*COSTS, *metrics.called_for(target)), seed)


def _measured(first: Hosted, second: Hosted, folder: Path, goal: Goal, also: Sequence[str], seed: int) -> Comparison:
    ended = jobs.run(
        _judge_whole, first, second, folder, goal, tuple(also), CONFIRMING, seed, limits=jobs.Limits(TIME, 1 << 62)
    )
    ended.raise_unless_done()
    report = ended.value or Report()
    return Comparison({
        "original": {"metrics": {n: f.side("original") for n, f in report.figures.items()}},
        "candidate": {"metrics": {n: f.side("candidate") for n, f in report.figures.items()}},
        "ratios": {n: asdict(f.ratio) for n, f in report.figures.items()},
        **report.details(),
        "limits": [judged.to_json() for judged in report.judged],
        "not_measurable": report.not_measurable,
        "notes": list(report.notes),
    })  # fmt: skip


def _judge_whole(
    first: Hosted, second: Hosted, folder: Path, goal: Goal, also: tuple[str, ...], effort: Effort, seed: int
) -> Report:
    decision = Decision(goal, width=effort.width)
    with Bench(first, second, folder / "data", folder / "outputs.npz", folder, effort, seed, decision) as bench:
        return judge(bench, goal, also, confidence=0.95, whole=True)


def is_bundle(source: object) -> bool:
    return isinstance(source, (str, Path)) and (Path(source) / MANIFEST).exists()


def preprocessing_of(given: Preprocessing | None, *sources: object) -> Preprocessing | None:
    """As given, or as the first bundle has it."""
    if given is not None:
        return checked(Preprocessing, given, "preprocessing")
    return next((Bundle.load(str(source)).preprocessing for source in sources if is_bundle(source)), None)


def host(
    source: object,
    folder: Path,
    target: Target,
    trust_pickle: bool = False,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
) -> Hosted:
    """Open a model or a bundle, with what runs it; a live model, its weights filled in, is written into `folder`.

    Args:
        preprocessing: That a model takes over, where that is to be; a bundle has done so.

    Raises:
        InvalidPlan: Weights for a bundle, which has its own.
    """
    if is_bundle(source):
        if weights is not None:
            raise InvalidPlan(f"weights are for a module, and {source} is a bundle, which has its own. Leave them out.")
        return Bundle.load(str(source)).hosted(target)
    model = open_model(source, folder, weights, trust_pickle)
    if preprocessing and preprocessing.fold:
        model = formats.format_of(model.format).folded(model, preprocessing, folder / "folded")
    return Hosted(model, reference(model.format)[1], target)


def fit(given: Data, original: Hosted, candidate: Hosted, folder: Path) -> tuple[Hosted, Hosted]:
    """Fit samples and two models to each other, and save the samples into `folder`.

    Raises:
        InvalidData: The samples don't fit, or the models have other inputs or outputs than each other. Floats of
            another width are no others: each model gets, and gives, its own.
        InvalidPlan: A call is to carry more samples than there are.
    """
    check_batch(candidate.target, len(given))
    same = candidate is original
    original = _ready(given, original, folder.parent / "original")
    candidate = original if same else _ready(given, candidate, folder.parent / "candidate")
    if _floating(original.model.signature.names()) != _floating(candidate.model.signature.names()):
        raise InvalidData(
            f"both models must have the same inputs and outputs. The original has {_spelled(original)}; the other has "
            f"{_spelled(candidate)}. Compare it with the model that it was made of."
        )
    for one, other in zip(original.model.signature.inputs, candidate.model.signature.inputs, strict=True):
        alike = (one.columns, one.categories) == (other.columns, other.categories)
        if given.columns and other.columns and not alike:
            what = "columns" if one.columns != other.columns else "categories"
            raise InvalidData(
                f"both models are given the same rows, made of a table as the original knows it, and the other knows "
                f"other {what}, or in another order. Compare it with the model that it was made of."
            )
    fitted, signature = match(given, original.model.signature)
    for tensor in candidate.model.signature.inputs:
        if tensor.name in fitted.inputs:
            cast(tensor, fitted.inputs[tensor.name].dtype)
    fitted.save(folder)
    return _with(original, signature), _with(candidate, signature)


def _floating(names: Any) -> list[list[tuple[str, str]]]:
    """Names and dtypes, all floats alike."""
    return [[(name, "float" if dtype in FLOATS else dtype) for name, dtype in side] for side in names]


def _ready(given: Data, hosted: Hosted, folder: Path) -> Hosted:
    """The model as its runtime loads it; samples tell what it does not, and are what its conversion is checked on."""
    model = complete(hosted.model, given)
    if not reference(model.format)[0]:
        return hosted
    fitted, signature = match(given, model.signature)
    fitted.save(folder / "samples")
    model = replace(model, signature=signature)
    workshop = Workshop(folder, model, model.digest(), folder / "samples", "", hosted.target, seed=0)
    return loadable(workshop, jobs.Limits(TIME, 1 << 62))


def _with(hosted: Hosted, signature: Signature) -> Hosted:
    """A model with what the samples tell of inputs and outputs; the dtypes are its own."""
    own = {tensor.name: tensor.dtype for tensor in (*hosted.model.signature.inputs, *hosted.model.signature.outputs)}
    inputs, outputs = (
        tuple(replace(tensor, dtype=own[tensor.name]) for tensor in side)
        for side in (signature.inputs, signature.outputs)
    )
    model: Model = replace(hosted.model, signature=Signature(inputs, outputs))
    return replace(hosted, model=model)


def _spelled(hosted: Hosted) -> str:
    signature = hosted.model.signature
    return f"{', '.join(map(str, signature.inputs))} -> {', '.join(map(str, signature.outputs))}"


def random_inputs(signature: Signature, batch: int, seed: int) -> Data:
    """Samples made up of random numbers.

    Raises:
        InvalidData: They can't be: an input has a free size, or they would not fit into memory.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    samples = max(64, 4 * batch)
    cells = sum(math.prod(d for d in t.shape[1:] if isinstance(d, int)) for t in signature.inputs)
    needed = samples * cells * 16  # drawn in 8 bytes, then cast to 8 at the most
    if needed > (there := psutil.virtual_memory().available):
        raise InvalidData(
            f"Random inputs must fit into memory, and {samples} samples of {', '.join(map(str, signature.inputs))} "
            f"take {needed} bytes to make, where {there} are free. Give a few samples: {option('data', 'DATA')}."
        )
    for tensor in signature.inputs:
        free = [d for d in tensor.shape[1:] if not isinstance(d, int)]
        if free:
            raise InvalidData(
                f"input {tensor} has free sizes, so strop can't make up inputs. Give some: {option('data', 'DATA')}."
            )
        shape = (samples, *(int(d or 1) for d in tensor.shape[1:]))
        if np.issubdtype(np.dtype(tensor.dtype), np.floating):
            arrays[tensor.name] = random.standard_normal(shape).astype(tensor.dtype)
        else:
            arrays[tensor.name] = random.integers(0, 2, shape).astype(tensor.dtype)
    return Data(arrays)
