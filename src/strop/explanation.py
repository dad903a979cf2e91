"""Explain: what of a model a candidate changed, where its error comes from, and whom it meets."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from . import formats, jobs, metrics
from ._plain import given as checked
from .bundle import Bundle, run_samples
from .comparison import TIME, fit, host, is_bundle, preprocessing_of
from .data import Data
from .errors import NotApplicable, UnsupportedModel
from .images import Preprocessing
from .insight import forest_story, spare, story
from .insight.forests import SAMPLES, compare
from .insight.harm import TRIED
from .insight.inside import PROGRESS, look
from .insight.samples import samples
from .insight.seen import Inside
from .insight.spare import Reason, kept
from .model import Model
from .outputs import load_outputs
from .prepare import check_target
from .progress import Tell, passed_on
from .reading import read_for
from .server import Hosted
from .showing import Explanation
from .target import Target
from .technique import Technique
from .timing import Effort
from .units import counted

EXPLAINING = Effort()
TO_LOOK = 0.7  # of the time of a job: the rest is for its start, and for the last turn of what it does

T = TypeVar("T")


def explain(
    original: object,
    candidate: object,
    data: object,
    *,
    metric: str | None = None,
    label: str | None = None,
    target: Target | None = None,
    trust_pickle: bool = False,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    tell: Tell = lambda share, words: None,
) -> Explanation:
    """Say where the error of a candidate comes from: layer by layer, and sample by sample.

    Args:
        original: A file, a folder or a live model; what no runtime loads is converted, as for `optimize`.
        candidate: What was made of it: a file, a folder, or a bundle, whose runtime's options are its own.
        data: As for `optimize`. All of it goes through both models; up to 64 samples are looked into.
        metric: `agreement`, to take the greatest of the outputs' last axis for a prediction where labels don't say so.
        label: Of data: the array or column that holds the labels.
        target: Threads and batch of a call.
        trust_pickle: Whether pickles may be read, which runs the code in them.
        weights: A file of weights for the original, where that is a PyTorch module.
        preprocessing: Of images; by default as the bundle has it.
        tell: Called with the share done (0 to 1) and a few words, while both are looked into.

    Returns:
        Plain data, which a notebook shows.
        `said`, what it comes to in sentences; `layers`, in the original's order, each with its `name`, `operator`,
        `node` and `value` as the original's file has them, the `counterpart` of that node in the candidate's (or None),
        how many `others` it is told of as one with, `precision` in
        the candidate, `bytes` and `seconds` (None where not known, or where another layer, with which it was computed,
        has both times) of `original` and `candidate`, errors `introduced` there (the candidate's layer is given what
        the original's is given) and `accumulated` up to there, each with `sqnr` in dB (None where nothing differs),
        `cosine`, `error` (root mean square over that of the original's values) and `lost` (numbers not finite any
        more), and `share` of what all layers, one by one, do to the outputs; `outputs`, the same of each output;
        `rest`, bytes that belong to no layer; `floats`, the layers that stayed in floats, and `why` (of a mix of
        precisions, also the share of the error that they do `alone` in int8); `samples`, what changed there: of a
        classifier `decisions`, how many are `changed`, `to_wrong`, `to_right`, the `rows` where, and the `worst`
        (`row`, `label`, prediction of `original` and `candidate`, `margin`); of others the farthest; `forest`, of
        trees, in place of layers; `original` and `candidate`: `format`, `runtime` and `size`; `looked_at` and `tried`,
        counts of samples; and `notes`.

    Raises:
        StropError: A model or the data can't be used; the message says why. Of models that can't be looked into, or
            share no value, the samples are told, and why no more in `notes`.
    """
    target = checked(Target, target, "target")
    preprocessing = preprocessing_of(preprocessing, candidate, original)
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        second = host(candidate, folder / "candidate", target, trust_pickle, preprocessing=preprocessing)
        alike = replace(target, formats=(str(second.model.format),))  # of two conversions, the one to that format
        first = host(original, folder / "original", alike, trust_pickle, weights, preprocessing)
        check_target(target, first.model)
        given = read_for(first.model.signature, data, preprocessing=preprocessing, label=label, storage=folder)
        models = first.model, second.model
        first, second = fit(given, first, second, folder / "data")
        reasons = _reasons(Bundle.load(str(candidate)), second.model) if is_bundle(candidate) else None
        return Explanation(explained(first, second, folder / "data", folder, metric, reasons, models, tell=tell))


def explained(
    first: Hosted,
    second: Hosted,
    data: Path,
    scratch: Path,
    metric: str | None = None,
    reasons: Mapping[str, Reason] | None = None,
    models: tuple[Model, Model] | None = None,
    until: float = math.inf,
    tell: Tell = lambda share, words: None,
) -> dict[str, Any]:
    """The same of two models that are ready to run.

    Args:
        first: The original.
        second: What was made of it.
        data: Folder of stored samples that fit both.
        scratch: A folder to write into.
        metric: As of `explain`.
        reasons: Why operators of the candidate were left in floats; None where it is not known what made it.
        models: Both as they were given, where samples had to be fitted to them.
        until: `time.monotonic()` at which it is to end.
        tell: As of `explain`.

    Raises:
        StropError: As of `explain`; also where time was over.
    """
    models = models or (first.model, second.model)
    trees = "trees" in models[0].counts
    for name, side in (("original", first), ("candidate", second)):
        tell(0.0, f"running the {name} on all samples")
        run_samples(side, data, scratch / f"{name}.npz", within(until).seconds)
    changed = _samples(first, data, scratch, metric)
    whole = _plain((first, second), changed)
    try:
        if trees:
            forest = _done(jobs.run(_trees, *models, data, limits=within(until)))
            return {**whole, **forest, "said": [*forest["said"], *story.changed(changed)]}
        inside = _inside(first, second, data, scratch / "opened", until, tell)
    except (NotApplicable, UnsupportedModel) as error:
        return {**whole, "said": story.changed(changed), "notes": [f"only samples are compared: {error}"]}
    return {**whole, **_layers(inside, changed, reasons)}


def _inside(first: Hosted, second: Hosted, data: Path, scratch: Path, until: float, tell: Tell) -> Inside:
    """Both layer by layer.

    Raises:
        UnsupportedModel: One can't be looked into, or they share no value.
    """
    for side in (first, second):
        formats.format_of(side.model.format).dataflow(side.model)  # refuses before a job is begun
    scratch.mkdir()
    limits = within(until)
    seconds = limits.seconds * TO_LOOK if until < math.inf else math.inf
    with passed_on(scratch / PROGRESS, tell):
        return _done(jobs.run(look, first, second, data, scratch, EXPLAINING, seconds, limits=limits))


def within(until: float) -> jobs.Limits:
    """What a job may use that is to end by `time.monotonic()`."""
    return jobs.Limits(
        min(TIME, max(0.1, until - time.monotonic())), 1 << 62, waiting=0.0 if until < math.inf else TIME
    )


def _done(ended: jobs.Ended[T]) -> T:
    ended.raise_unless_done("the models could not be looked into")
    assert ended.value is not None
    return ended.value


def _trees(first: Model, second: Model, data: Path) -> dict[str, Any]:
    """What changed from an ensemble of trees to another; runs in a job."""
    forests = [formats.format_of(model.format).forest(model) for model in (first, second)]
    (rows,) = first.signature.inputs
    samples = Data.load(data)
    found = compare(forests[0], forests[1], samples.batch(0, min(len(samples), SAMPLES))[rows.name])
    found["scores"] = story.likeness(found["scores"])
    return {"forest": found, "said": forest_story.tell(found), "looked_at": found["samples"]}


def _samples(first: Hosted, data: Path, folder: Path, metric: str | None) -> dict[str, Any]:
    outputs = [load_outputs(folder / f"{name}.npz") for name in ("original", "candidate")]
    given = Data.load(data)
    labels = given.label_array()
    classes = next((tensor.classes for tensor in first.model.signature.outputs if tensor.classes), ())
    forced = metric is not None and metrics.find(metric).of_classes
    found = samples(outputs[0], outputs[1], labels, classes, forced)
    if given.rows is None:
        return found
    place = given.rows.tolist()  # a split holds some rows of the data, in an order of its own
    rows = None if found["rows"] is None else sorted(place[row] for row in found["rows"])
    return {**found, "rows": rows, "worst": [{**one, "row": place[one["row"]]} for one in found["worst"]]}


def _reasons(bundle: Bundle, made: Model) -> Mapping[str, Reason]:
    return spared(bundle.candidate.steps, replace(made, groups=bundle.groups))


def spared(steps: Sequence[Technique], made: Model) -> Mapping[str, Reason]:
    """Why operators of a model were left in floats, by the settings of what made it, and of a mix by what was measured;
    of one that can't be looked into, nothing."""
    found: dict[str, Reason] = {name: kept(group) for group in made.groups if "int" not in group.precision
                                for name in group.operators}  # fmt: skip
    with contextlib.suppress(UnsupportedModel):
        flow = formats.format_of(made.format).dataflow(made)
        for step in steps:
            found |= {name: Reason(why) for name, why in step.spared(flow).items()}
    return found


def _plain(sides: tuple[Hosted, Hosted], changed: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of any two models."""
    before, after = (
        {"format": side.model.format, "runtime": str(side.runtime), "size": side.model.size} for side in sides
    )
    return {
        "said": [], "layers": [], "outputs": {}, "rest": {"original": 0, "candidate": 0}, "floats": [],
        "samples": dict(changed), "forest": None, "original": before, "candidate": after, "looked_at": 0, "tried": 0,
        "notes": [],
    }  # fmt: skip


def _layers(found: Inside, changed: Mapping[str, Any], reasons: Mapping[str, Reason] | None) -> dict[str, Any]:
    """What is told of two models whose layers were held to each other."""
    layers, floats, notes = story.layers(found), spare.floats(found, reasons or {}), list(found.notes)
    if reasons is None and not all(one["known"] for one in floats):
        notes.append("why layers stayed in floats is told where the candidate is a bundle, as strop optimize writes it")
    notes += story.untold(found)
    if 0 < found.tried < min(TRIED, found.samples):
        notes.append(f"shares were told by {counted(found.tried, 'sample')}, since each takes a call for every layer")
    return {
        "said": [*story.tell(found, layers), *story.changed(changed)],
        "layers": layers,
        "outputs": {name: story.likeness(one) for name, one in found.outputs.items()},
        "rest": dict(zip(("original", "candidate"), found.rest, strict=True)),
        "floats": floats,
        "looked_at": found.samples,
        "tried": found.tried,
        "notes": notes,
    }
