"""Which layers of a .tflite file stay in float: those that harm the outputs most where they are quantized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import NotApplicable, TechniqueError
from ..model import Batch, Model
from ..technique import Context, remaining
from . import _tflite as tool
from ._calibration import feeds

TRIED = 8
"""Samples by which the harm of single layers is compared."""


def kept_in_float(
    share: float, source: tool.Source, add: tool.Recipe, found: Mapping[str, Any] | None, model: Model, context: Context
) -> list[str]:
    """The layers to keep in float: the given share of them, of those that do most harm."""
    if not share:
        return []
    given = list(feeds(model.signature, context, TRIED, lambda: tool.runner(source.content, context)))
    harm = _harm(source, add, found, given, context)
    kept = sorted(harm, key=lambda name: -harm[name])[: math.ceil(share * len(harm))]
    if len(kept) == len(harm):
        raise NotApplicable(f"has {len(harm)} layers with weights, of which {share:.0%} are all")
    return kept


def _harm(
    source: tool.Source, add: tool.Recipe, found: Mapping[str, Any] | None, given: Sequence[Batch], context: Context
) -> dict[str, float]:
    """How far the outputs are from the float model's, root mean square over its own, where one layer is quantized.

    Raises:
        TechniqueError: The deadline has passed.
    """
    original = tool.runner(source.content, context)
    expected, errors = [original(feed) for feed in given], {}
    names = list(dict.fromkeys(source.layers.values()))
    for count, name in enumerate(names):
        if remaining(context) < 0:
            raise TechniqueError(f"out of time after {count} of {len(names)} layers")
        others = [other for other in names if other != name]
        step = tool.runner(tool.quantized(source, add, found, others), context)
        error = sum(_apart(step(feed), right) for feed, right in zip(given, expected, strict=True))
        errors[name] = math.inf if math.isnan(error) else error
        context.progress((count + 1) / len(names), "comparing layers")
    return errors


def _apart(found: Batch, right: Batch) -> float:
    errors = []
    for name, expected in right.items():
        scale = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))) or 1.0
        errors.append(float(np.sqrt(np.mean((found[name].astype(np.float64) - expected) ** 2))) / scale)
    return max(errors)
