"""Profile: what a model is made of, where the time of a call goes, and what would help."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import formats, jobs, metrics
from ._plain import given as checked
from .caution import NONE, caution
from .comparison import fit, host, random_inputs
from .data import Data
from .errors import InvalidData
from .explanation import within
from .insight import (
    PROFILING,
    UNTOLD,
    Found,
    Peaks,
    Sensitivity,
    advise,
    bound_by,
    examine,
    guide,
    layers,
    mixers,
    observe,
    peaks,
    shares_of,
    unfit,
)
from .insight import sensitivity as bear
from .insight.peaks import DISTURBED
from .insight.sensitivity import SECONDS
from .model import Model
from .prepare import check_target
from .progress import Tell, passed_on
from .reading import read_for
from .server import Hosted
from .showing import Profile
from .spelling import option
from .target import Target
from .units import counted


def profile(
    model: object,
    data: object = None,
    *,
    label: str | None = None,
    target: Target | None = None,
    seed: int = 0,
    trust_pickle: bool = False,
    weights: str | Path | None = None,
    sensitivity: bool = False,
    metric: str = "",
    tell: Tell = lambda share, words: None,
) -> Profile:
    """Take a model apart and time it on the reference runtime of its kind, in a process of its own.

    Args:
        model: A file, a folder, a live model or a bundle. PyTorch's and Keras's are taken apart as they are converted
            to run.
        data: As for `optimize`; labels are not needed. Random inputs where it is None.
        label: Of data: the array or column that is no input.
        target: Threads and batch of a call.
        seed: Of random inputs, and of the resamples.
        trust_pickle: Whether pickles may be read, which runs the code in them.
        weights: A file of weights, where the model is a module, as for `optimize`.
        sensitivity: Whether to measure, too, how each layer bears int8, which takes two minutes at the most and needs
            data; where that can't be told, a note says why.
        metric: Of quality, that this is told in besides; its name, or `module:function`.
        tell: Called with the share done (0 to 1) and a few words, while that is measured; first with what it may take.

    Returns:
        Plain data, which a notebook shows.
        `seconds` of one call; `layers`, overhead first, then the others in the order in which they run (what is not
        known is None), each with its `name`, where it came from if the model tells, and in `layers` all that run with
        it, by their names in the file; `bound_by`: `compute`, `memory`, `latency` (reads that wait for each other),
        `conversion` or `overhead`, and `shares`, the share of a call that each binds; where that is not known,
        `overhead` or `model`, and none; `memory` in bytes, and `held`, how much of it are weights and values between
        layers, and where they are most; `peaks` of this machine; `energy`; `advice`, the most expected gain first, and
        last what such models are known to lose much by; `unfit`, the techniques that do not fit, and why;
        `guide`, what fits each use and the data; `sensitivity`, the most harmful layers first, or None;
        `structure`, what the format tells of the model; `told`, the same in words; and `model`, `calls` and `notes`.
        Times and shares have `value`, `low` and `high` (layers that a profiler tells of have no bounds); operations are
        those of one call.

    Raises:
        UnsupportedModel: Its format can't be taken apart.
        StropError: The model or the data can't be used; the message says why.
    """
    target = checked(Target, target, "target")
    if sensitivity and data is None:
        raise InvalidData(
            f"How layers bear int8 is told by samples, and none are given. Give some: {option('data', 'DATA')}."
        )
    if metric:
        metrics.find(metric)  # refused before anything is measured
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        hosted = host(model, folder / "original", target, trust_pickle, weights)
        check_target(target, hosted.model)
        signature = hosted.model.signature
        made_up = random_inputs(signature, target.batch, seed) if data is None else None
        samples = made_up or read_for(signature, data, label=label, storage=folder)
        ready, _ = fit(samples, hosted, hosted, folder / "data")
        known = peaks(ready.runtime.label(), target)
        found = measured(ready, samples, folder / "data", known, folder / "beside", made_up is None, seed)
        bears = _borne(ready, found, folder, metric, seed, tell) if sensitivity else None
        notes = []
        if bears and bears.value is None:  # the profile is worth having all the same
            notes.append(f"how layers bear int8 is not told: {bears.reason.removesuffix('.')}")
        if made_up:
            notes.append(f"the inputs were random numbers; {option('data', 'DATA')} tells how it is on your own")
        borne = bears.value if bears else None
        plain = _plain(hosted, ready, found, known, None if made_up else samples, borne, notes)
        return Profile(plain, sensitivity=borne and asdict(borne))


def _borne(ready: Hosted, found: Found, folder: Path, metric: str, seed: int, tell: Tell) -> jobs.Ended[Sensitivity]:
    """How the layers bear int8, or why that can't be told; what it may take is told before it is begun."""
    if mixers(ready.model.format):
        count = len([layer for layer in found.structure.layers if layer.weights and layer.operations])
        tell(0.0, f"how some {counted(count, 'layer')} bear int8: {SECONDS:.0f} s at the most, calibrating included")
    progress = folder / "progress.json"
    with passed_on(progress, tell):
        asked = ready.model, folder / "data", metric, ready.target, seed, progress
        return jobs.run(bear, *asked, limits=within(math.inf))


def measured(
    ready: Hosted,
    samples: Data,
    data: Path,
    known: Peaks | None,
    folder: Path,
    given: bool = True,
    seed: int = 0,
    until: float = math.inf,
) -> Found:
    """What the runtime's own profiler tells of a model; where it has none, what is told without.

    Args:
        ready: A model, and what runs it.
        samples: That fit it.
        data: The folder that they are stored in.
        known: What this machine does at the most; None where that is not known.
        folder: One that does not exist yet, to write into.
        given: Whether the samples are somebody's own; else they are random.
        seed: Of the resamples.
        until: `time.monotonic()` at which it is to end.

    Raises:
        StropError: The model can't be taken apart, or run, or not in time.
    """
    watched = jobs.run(observe, ready, data, known, limits=within(until))
    if watched.cause not in ("refused", "crashed"):
        watched.raise_unless_done("the model could not be profiled")
        assert watched.value is not None
        return watched.value
    found = _timed(ready, samples, given, folder, seed, until, known)
    if len(found.structure.layers) > 1:
        why = watched.reason if watched.cause == "refused" else f"layers were not timed: {watched.reason}"
        found = replace(found, notes=(*found.notes, why))
    return found


def _timed(
    hosted: Hosted, samples: Data, given: bool, folder: Path, seed: int, until: float, known: Peaks | None
) -> Found:
    """What can be told without a profiler: the model is timed beside its first part."""
    folder.mkdir()
    short, why = _shortened(hosted.model, folder / "shorter", until)
    other = hosted if short is None else replace(hosted, model=short)
    ready = fit(samples, hosted, other, folder / "data")
    asked = (hosted.model, short), ready, folder / "data", PROFILING, given, seed, known
    ended = jobs.run(examine, *asked, limits=within(until))
    ended.raise_unless_done()
    assert ended.value is not None
    return replace(ended.value, notes=(*why, *ended.value.notes))


def _shortened(model: Model, folder: Path, until: float) -> tuple[Model | None, list[str]]:
    """The model cut down to its first part, made in a job; or why there is none, as a note."""
    folder.mkdir()
    ended = jobs.run(formats.format_of(model.format).shortened, model, folder, limits=within(until))
    if ended.cause == "refused":
        return None, [f"{UNTOLD}: {ended.reason}"]
    ended.raise_unless_done("the model could not be cut down")
    return ended.value, []


def _plain(
    given: Hosted,
    ready: Hosted,
    found: Found,
    known: Peaks | None,
    data: Data | None,
    bears: Sensitivity | None,
    notes: list[str],
) -> dict[str, Any]:
    model, target, structure = given.model, given.target, found.structure
    advice = advise(model, ready, target, found, caution(data, model) if data else NONE)
    told = timed(ready, found, known)
    return {
        **told,
        "advice": [asdict(one) for one in advice],
        "guide": [asdict(one) for one in guide(model, target, found, advice, data, bears)],
        "unfit": unfit(model, target),
        "structure": dict(structure.facts),
        "told": dict(structure.told),
        "model": {"format": model.format, "size": model.size, "runtime": str(ready.runtime), "as": ready.model.format,
                  "threads": target.threads, "batch": target.batch},
        "notes": [*told["notes"], *notes],
    }  # fmt: skip


def timed(hosted: Hosted, found: Found, known: Peaks | None) -> dict[str, Any]:
    """What was measured of a model, as `profile` tells it."""
    bound = None if found.share is None else "overhead" if found.share.value >= 0.5 else "model"
    if found.rows and found.overhead:
        bound = bound_by(found.rows, found.overhead.value) or bound
    return {
        "seconds": asdict(found.seconds),
        "bound_by": bound,
        "shares": shares_of(found.rows, found.overhead.value if found.overhead else 0.0),
        "layers": layers(found, hosted.target.batch),
        "memory": found.memory,
        "held": found.held and asdict(found.held),
        "energy": asdict(found.spent) if found.spent else {"why": found.unmetered} if found.unmetered else None,
        "peaks": known and asdict(known),
        "calls": found.calls,
        "notes": [*found.notes, *([DISTURBED] if known and not known.calm else [])],
    }
