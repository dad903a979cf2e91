"""Which layers of a .tflite file stay in float: those that harm the outputs most where they are quantized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import NotApplicable
from ..model import Model
from ..technique import Context
from . import _tflite as tool
from ._calibration import Step, feeds
from ._harm import harm

TRIED = 8
"""Samples by which the harm of single layers is compared."""


def kept_in_float(
    share: float, source: tool.Source, add: tool.Recipe, found: Mapping[str, Any] | None, model: Model, context: Context
) -> list[str]:
    """The layers to keep in float: the given share of them, of those that do most harm."""
    if not share:
        return []
    given = list(feeds(model.signature, context, TRIED, lambda: tool.runner(source.content, context)))
    original = tool.runner(source.content, context)
    names = list(dict.fromkeys(source.layers.values()))

    def only(chosen: Sequence[str]) -> Step:
        return tool.runner(tool.quantized(source, add, found, [name for name in names if name not in chosen]), context)

    errors = harm(names, only, given, [original(feed) for feed in given], context)
    kept = sorted(errors, key=lambda name: -errors[name])[: math.ceil(share * len(errors))]
    if len(kept) == len(errors):
        raise NotApplicable(f"has {len(errors)} layers with weights, of which {share:.0%} are all")
    return kept
