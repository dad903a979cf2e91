"""Profile: what a model is made of, where the time of a call goes, and what would help."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import formats, jobs
from ._plain import given as checked
from .comparison import TIME, fit, host, random_inputs
from .insight import PROFILING, UNTOLD, Found, advise, examine, unfit
from .model import Model
from .prepare import check_target
from .reading import read_for
from .server import Hosted
from .stats import Interval
from .structure import Layer
from .target import Target

LIMITS = jobs.Limits(TIME, 1 << 62)


def profile(
    model: object,
    data: object = None,
    *,
    label: str | None = None,
    target: Target | None = None,
    seed: int = 0,
    trust_pickle: bool = False,
) -> dict[str, Any]:
    """Take a model apart and time it on its own library's fastest call, in a process of its own.

    Args:
        model: A file, a folder, a live model or a bundle; of decision trees, pipelines of scikit-learn's or TFLite, so
            far.
        data: As for `optimize`; labels are not needed. Random inputs where it is None.
        label: Of data: the array or column that is no input.
        target: Threads and batch of a call.
        seed: Of random inputs, and of the resamples.
        trust_pickle: Whether pickles may be read, which runs the code in them.

    Returns:
        Plain data. `seconds` of one call, `layers` (overhead first; what is not known is None), `memory` in bytes,
        `advice`, the most expected gain first; `unfit`, the techniques that do not fit, and why; `bound_by`, `overhead`
        or `model`; `structure`, what the format tells of the model; `told`, the same in words; and `model`, `calls` and
        `notes`. Times and shares have `value`, `low` and `high`; operations are those of one call.

    Raises:
        UnsupportedModel: Its format can't be taken apart.
        StropError: The model or the data can't be used; the message says why.
    """
    target = checked(Target, target, "target")
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        hosted = host(model, folder / "original", target, trust_pickle)
        check_target(target, hosted.model)
        formats.format_of(hosted.model.format).structure(hosted.model)
        signature = hosted.model.signature
        made_up = random_inputs(signature, target.batch, seed) if data is None else None
        samples = made_up or read_for(signature, data, label=label, storage=folder)
        short, why = _shortened(hosted.model, folder / "shorter")
        other = hosted if short is None else replace(hosted, model=short)
        ready = fit(samples, hosted, other, folder / "data")
        ended = jobs.run(
            examine, (hosted.model, short), ready, folder / "data", PROFILING, made_up is None, seed, limits=LIMITS,
        )  # fmt: skip
        ended.raise_unless_done()
        assert ended.value is not None
        notes = [*why, *ended.value.notes]
        if made_up:
            notes.append("the inputs were random numbers; --data FILE tells how it is on your own")
        return _plain(hosted, ready[0], ended.value, notes)


def _shortened(model: Model, folder: Path) -> tuple[Model | None, list[str]]:
    """The model cut down to its first part, made in a job; or why there is none, as a note."""
    folder.mkdir()
    ended = jobs.run(formats.format_of(model.format).shortened, model, folder, limits=LIMITS)
    if ended.cause == "refused":
        return None, [f"{UNTOLD}: {ended.reason}"]
    ended.raise_unless_done("the model could not be cut down")
    return ended.value, []


def _plain(given: Hosted, ready: Hosted, found: Found, notes: list[str]) -> dict[str, Any]:
    model, target, structure = given.model, given.target, found.structure
    layers = []
    if found.overhead is not None:
        layers.append(_layer(Layer("call", "overhead", 0, 0), found.overhead, found.share, "overhead", target.batch))
    for layer in structure.layers:
        alone = len(structure.layers) == 1  # what each of several takes, its runtime has to tell
        times = (found.inside, found.rest) if alone else (None, None)
        layers.append(_layer(layer, *times, None, target.batch))
    bound = None if found.share is None else "overhead" if found.share.value >= 0.5 else "model"
    return {
        "seconds": asdict(found.seconds),
        "bound_by": bound,
        "layers": layers,
        "memory": found.memory,
        "advice": [asdict(advice) for advice in advise(model, ready.runtime, target, found)],
        "unfit": unfit(model, target),
        "structure": dict(structure.facts),
        "told": dict(structure.told),
        "model": {"format": model.format, "size": model.size, "runtime": str(ready.runtime),
                  "threads": target.threads, "batch": target.batch},
        "calls": found.calls,
        "notes": notes,
    }  # fmt: skip


def _layer(
    layer: Layer, seconds: Interval | None, share: Interval | None, bound_by: str | None, batch: int
) -> dict[str, Any]:
    return {
        "name": layer.name,
        "operator": layer.operator,
        "seconds": seconds and asdict(seconds),
        "share": share and asdict(share),
        "operations": layer.operations * batch,
        "bytes": layer.bytes,
        "attainable": None,
        "bound_by": bound_by,
    }
