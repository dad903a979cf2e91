"""Harm: how far the outputs move where single layers are quantized, each tried by itself."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..model import Batch
from ..technique import Context
from ._calibration import Step

LITTLE = 0.1
"""Of all harm: what the blocks do together that are not looked into."""


def harm(
    names: Sequence[str],
    made: Callable[[Sequence[str]], Step],
    given: Sequence[Batch],
    expected: Sequence[Batch],
    context: Context,
    until: float | None = None,
    kept: Path | None = None,
) -> dict[str, float]:
    """How far the outputs are from the float model's, by layer, where that one alone is quantized.

    Such errors of single layers add up to about the whole's, as they are small and not correlated. So blocks of
    neighbours come first, and only those that harm most are looked into; the layers of another, and of one that time
    did not suffice for, have even shares of what it does. What nothing is known of harms infinitely.

    Args:
        names: Of the layers, in the order in which they run.
        made: Makes what runs the model in which some layers are quantized.
        given: Samples.
        expected: What the float model answers to them.
        context: For the deadline and the progress.
        until: `time.monotonic()` at which no further layer is tried; the deadline, if None.
        kept: A file for what is known so far, from which it goes on after a kill.
    """
    found: dict[str, float] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    until = context.deadline if until is None else until

    def known(layers: Sequence[str]) -> float | None:
        key = "\0".join(layers)
        if key not in found and time.monotonic() < until:
            found[key] = error(made(layers), given, expected)
            if kept:
                keep(kept, found)
        return found.get(key)

    size = max(1, math.isqrt(len(names)))
    blocks = [names[start : start + size] for start in range(0, len(names), size)]
    alone = dict.fromkeys(names, math.inf)
    for block in blocks:
        if (together := known(block)) is not None:
            alone.update(dict.fromkeys(block, together / len(block)))
    blocks.sort(key=lambda block: -alone[block[0]])
    for place, block in enumerate(blocks):
        context.progress(place / len(blocks), f"comparing {len(names)} layers on {len(given)} samples")
        rest = sum(alone[name] for later in blocks[place:] for name in later)
        if rest <= LITTLE * sum(filter(math.isfinite, alone.values())):
            break
        alone.update({name: harmed for name in block if (harmed := known([name])) is not None})
    return alone


def keep(path: Path, value: object) -> None:
    """Write JSON, all of it or nothing."""
    part = path.with_name(f".part-{path.name}")
    part.write_text(json.dumps(value))
    part.replace(path)


def error(step: Step, given: Sequence[Batch], expected: Sequence[Batch]) -> float:
    """The mean over samples of the squared error of the outputs over their square; of several outputs, the greatest."""
    return float(np.mean([_apart(step(feed), right) for feed, right in zip(given, expected, strict=True)]))


def _apart(found: Batch, right: Batch) -> float:
    errors = [_relative(found[name], expected) for name, expected in right.items() if expected.dtype.kind == "f"]
    return max(errors, default=0.0)


def _relative(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    known = np.isfinite(expected)  # a score that is masked may be -inf
    right, got = (np.asarray(side, np.float64)[known] for side in (expected, found))
    if not np.isfinite(got).all():
        return math.inf
    return float(np.square(got - right).sum() / (np.square(right).sum() or 1.0))
