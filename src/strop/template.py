"""Template: a plan file in words, commented, of what was found of a model and its data."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ._calls import is_call
from .baseline import DISAGREEMENT
from .errors import InvalidPlan, TechniqueError
from .images import Preprocessing
from .model import KERAS, TFLITE, TORCH, Model
from .plan import reached
from .samples import Samples
from .starting import Seen
from .stats import MOST_UNITS, detectable_drop
from .target import Target
from .technique import Needs, Technique, check
from .techniques import TECHNIQUES
from .units import counted, quantity

SCHEMA = "strop.schema.json"  # beside the plan, so that it is found wherever both are committed to
WIDTH = 110  # of a line of comment
LOSSES = (1, 2, 3, 5, 7, 10)  # %: the least of them that the samples can prove is the limit
ALIKE = 0.99  # the least fidelity that is proposed
LIMITS = {
    "average_precision": ("drop(average_precision) <= 0.01", "drop(auroc) <= 0.005"),
    "mse": ("mse <= 102% of original", "r2 >= 99% of original", "mae <= 102% of original"),
    "fidelity": (f"fidelity >= {ALIKE}",),
}
WHY = {
    "accuracy": "Labels are classes ({classes}).",
    "average_precision": "One of the two classes is rare: accuracy would hardly notice if it were lost.",
    "mse": "Labels are numbers.",
    "agreement": "There are no labels: a candidate is held to the classes that the original tells.",
    "fidelity": "There are no labels: a candidate is held to the outputs of the original.",
}


def template(seen: Seen, out: Path) -> str:
    """The text of a plan file; what is commented out is valid too, once the `# ` is taken off.

    Args:
        seen: Of model and data.
        out: Where the file will lie: paths in it are relative to it.

    Raises:
        InvalidPlan: A path is no UTF-8.
    """
    parts = [
        [
            f"#:schema ./{SCHEMA}",
            "# `strop optimize` runs this file. Its keys are the flags of that command, and a flag wins over a key;",
            "# `strop optimize --help` tells of them all. Paths are relative to this file.",
        ],
        list(_model(seen, out.parent)),
        list(_data(seen, out.parent)),
        list(_goal(seen)),
        list(_rest(seen, out.parent)),
        list(_preprocessing(seen.preprocessing)),
        list(_training(seen)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _model(seen: Seen, folder: Path) -> Iterator[str]:
    signature = seen.opened.signature
    sides = (", ".join(map(str, side)) or "not told" for side in (signature.inputs, signature.outputs))
    size = f", {quantity(seen.size, 'bytes')}" if seen.size else ""
    yield f"# A model in {seen.opened.format}{size}."
    yield from (f"# {end}: {_shown(said)}" for end, said in zip(("Inputs", "Outputs"), sides, strict=True))
    yield f"model = {_path(seen.model, folder)}"
    if seen.weights:
        yield f"weights = {_path(seen.weights, folder)}"
    if seen.trust_pickle:
        yield "trust_pickle = true"


def _data(seen: Seen, folder: Path) -> Iterator[str]:
    yield from _said(
        f"{counted(seen.samples, 'sample')}: some calibrate, some search, and half confirm, unseen till then."
    )
    yield f"data = {_path(seen.data, folder)}"
    if seen.label:
        yield f"label = {_string(seen.label)}"
    elif seen.unsaid:
        yield "# No column was taken for the labels. If there is one, name it, and begin anew with --label."
        yield f"# label = {_string(seen.unsaid[-1])}"
    if seen.slices:
        yield f"# Quality is reported for each value of these; `worst_slice({seen.metric}) >= ...` limits it."
        yield f"# slice = {_strings(seen.slices)}"
    if seen.protected:
        yield "# Fairness is reported between the values of these."
        yield f"# protected = {_strings(seen.protected)}"
    for name in seen.groups[:1]:
        yield "# Samples with the same value of this belong together: they are split, and resampled, as one."
        yield f"# group = {_string(name)}"


def _goal(seen: Seen) -> Iterator[str]:
    yield "# What to make small (or, with `maximize`, large): latency.p50, latency.p95, size, memory, throughput, ..."
    yield 'minimize = "latency.p50"'
    yield ""
    why = f"{WHY[seen.metric].format(classes=seen.classes)} Limits are what a result provably keeps."
    told, (first, *others) = _provable(seen) if seen.metric in ("accuracy", "agreement") else ("", LIMITS[seen.metric])
    told = _alike(seen) if seen.metric == "fidelity" else told
    yield from _said(why + told)
    yield "limit = ["
    yield f"    {_string(first)},"
    yield from (f"    # {_string(other)}," for other in others)
    if seen.size:
        half = quantity(seen.size / 2, "bytes")
        yield f"    # {_string(f'size < {half}')},"
    yield '    # "latency.p95 < 10 ms",'
    yield "]"


def _provable(seen: Seen) -> tuple[str, tuple[str, ...]]:
    """Of a share of predictions: what the samples can prove, and the limits for it."""
    confirming = -(-seen.samples // 2)
    said = f" {counted(confirming, 'sample')} to confirm on can prove"
    changes = DISAGREEMENT if seen.metric == "accuracy" else 0
    drop = detectable_drop(confirming, changes)
    lost = next((loss for loss in LOSSES if loss >= 100 * drop), LOSSES[-1])
    if seen.metric == "accuracy":
        said += f" a drop of {drop:.2%} or less, where a candidate changes {changes:.0%} of the predictions"
        limits = f"accuracy >= {100 - lost}% of original", f"drop(accuracy) <= {lost / 100:g}"
    else:
        said += f" an agreement of {1 - drop:.2%} at the most, where a candidate changes no prediction"
        limits = f"agreement >= {1 - lost / 100:g}", f"fidelity >= {ALIKE}"
    if lost < 100 * drop:
        return f"{said}: too few for the limit below, which will stay inconclusive. Add samples.", limits
    return f"{said}; a tighter limit may stay inconclusive.", limits


def _alike(seen: Seen) -> str:
    """Of likeness: how much better than the limit a candidate must be for the samples to prove it."""
    confirming = -(-seen.samples // 2)
    count = min(confirming, MOST_UNITS)
    losses = -np.log((np.arange(count) + 0.5) / count)  # as samples differ where most lose little
    bound = Samples(np.ones(count), 1 - losses / losses.mean()).candidate().low  # of a mean loss of 1
    said = f" {counted(confirming, 'sample')} to confirm on can prove it"
    if not np.isfinite(bound):
        return f"{said} of none: too few. Add samples."
    return f"{said} of a candidate at {1 - (1 - ALIKE) / (1 - bound):.4f} or better, where most of them lose little."


def _rest(seen: Seen, folder: Path) -> Iterator[str]:
    yield "# Where it will run, how long to search, and where the bundle goes."
    yield "# threads = 1"
    yield "# batch = 1"
    if seen.opened.format in (TFLITE, KERAS):
        yield '# target = "mobile"'
    yield 'budget = "10m"'
    yield "# seed = 0"
    yield from _settings(seen.opened)
    yield 'out = "bundle"'
    if seen.trains:
        yield ""
        yield "# Samples to train with, which are in none of the other data: more techniques are tried then."
        yield f"# train = {_path(seen.train or _beside(seen.data), folder)}"


def _settings(model: Model) -> Iterator[str]:
    """The first setting of the first technique that a route may come to without train data."""
    formats = reached(model.format, TECHNIQUES)
    for step in TECHNIQUES:
        if step.accepts & formats and step.space() and Needs.TRAINING not in step.needs and _may_fit(step, model):
            name, value = next(iter(step().settings().items()))
            yield "# A setting that is given is not searched; `strop techniques MODEL` lists them."
            yield f"# set.{step.label()}.{name} = {json.dumps(value)}"
            return


def _may_fit(step: type[Technique], model: Model) -> bool:
    """Whether it fits a model of its format, as far as can be told."""
    try:
        if model.format in step.accepts:
            check(step(), model, Target())
    except TechniqueError:
        return False
    return True


def _preprocessing(found: Preprocessing | None) -> Iterator[str]:
    if found is None:
        return
    size = {name: getattr(found, name) for name in ("resize", "crop") if getattr(found, name) is not None}
    yield "[preprocessing]"
    yield "# What is done to an image before the model sees it: set it as it was in training. Sizes are guessed from"
    yield "# the model's input. Pixels are multiplied by scale, mean is taken off, and std divides."
    yield from (f"{name} = {list(value) if isinstance(value, tuple) else value}" for name, value in size.items())
    if not size:
        yield "# resize = 256"
        yield "# crop = 224"
    yield f"colors = {_string(found.colors)}"
    yield "# scale = 0.00392156862745098"
    if found.channels == 3:
        yield "# mean = [0.485, 0.456, 0.406]"
        yield "# std = [0.229, 0.224, 0.225]"
    else:
        yield "# mean = 0.5"
        yield "# std = 0.5"


def _training(seen: Seen) -> Iterator[str]:
    """Commented out as a whole: without `train` it would be refused."""
    if not seen.trains:
        return
    yield "# How to train; needs `train` above."
    yield "# [training]"
    if seen.opened.format in (TORCH, KERAS):
        yield '# loss = "auto"'
        yield "# epochs = 5"
        yield "# learning_rate = 1e-3"
        yield "# batch = 128"
    yield '# seconds = "5m"'
    yield "# keep = []"


def _beside(data: str) -> str:
    """What train data could be called."""
    path = Path(os.path.abspath(data))  # `.` has no name
    return "train.npz" if is_call(data) else str(path.with_name(f"train{path.suffix}"))


def _said(text: str) -> Iterator[str]:
    """Sentences as lines of a comment."""
    yield from (f"# {line}" for line in textwrap.wrap(text, WIDTH - 2))


def _path(source: str, folder: Path) -> str:
    if is_call(source):
        return _string(source)
    where = os.path.realpath(os.path.expanduser(source))
    beside = os.path.relpath(where, os.path.realpath(folder))
    return _string(where if beside.startswith("..") and os.path.isabs(source) else beside)


def _strings(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_string, texts))}]"


def _string(text: str) -> str:
    """A string of TOML: JSON's escapes are some of its own."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidPlan(f"a plan file is UTF-8, and {text!r} can't be written in it. Rename it.") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(text: str) -> str:
    """Of a comment, which ends with its line and holds no control characters."""
    safe = _string(text.encode(errors="replace").decode())[1:-1].replace('\\"', '"')
    return safe if len(safe) <= 300 else f"{safe[:297]}..."
