"""Harm: how far the outputs move where single layers are quantized, each tried by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TechniqueError
from ..model import Batch
from ..technique import Context, remaining
from ._calibration import Step


def harm(
    names: Sequence[str],
    made: Callable[[str], Step],
    given: Sequence[Batch],
    expected: Sequence[Batch],
    context: Context,
    kept: Path | None = None,
) -> dict[str, float]:
    """How far the outputs are from the float model's, by layer, where that one alone is quantized.

    Such errors of single layers add up to about the whole's, as they are small and not correlated.

    Args:
        names: Of the layers.
        made: Makes what runs the model in which one layer is quantized.
        given: Samples.
        expected: What the float model answers to them.
        context: For the deadline and the progress.
        kept: A file for what is known so far, from which it goes on after a kill.

    Raises:
        TechniqueError: The deadline has passed.
    """
    found: dict[str, float] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for count, name in enumerate(names):
        if name in found:
            continue
        if remaining(context) < 0:
            raise TechniqueError(f"out of time after {count} of {len(names)} layers")
        found[name] = error(made(name), given, expected)
        if kept:
            keep(kept, found)
        context.progress((count + 1) / len(names), f"comparing {len(names)} layers on {len(given)} samples")
    return found


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
    difference = np.asarray(found, np.float64) - expected
    if not np.isfinite(difference).all():
        return math.inf
    return float(np.square(difference).sum() / (np.square(expected, dtype=np.float64).sum() or 1.0))
