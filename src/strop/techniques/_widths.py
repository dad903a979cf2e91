"""Widths: ranges of single groups, narrower or wider than they were learned, where int8 then does less harm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..model import Batch
from ..technique import Context
from ._calibration import Step
from ._harm import distance, keep

Array: TypeAlias = np.ndarray[Any, Any]

NARROW, NARROWER, WIDE = 0.8, 0.65, 1.25
"""How many times as wide."""
LEAST = 0.02
"""Of all harm, what a group does for whose ranges it is worth trying others."""
BETTER, MOST = 0.95, 0.75
"""Of what the samples lose that did not choose, at which another range is taken; and the share of all samples that must
lose less, for one of them alone may make the sum, as where it is read as another letter.
"""


def widths(
    alone: Mapping[str, float],
    made: Callable[[str, float], Step],
    given: Sequence[Batch],
    expected: Sequence[Batch],
    context: Context,
    until: float,
    kept: Path,
    at_once: int = 1,
) -> dict[str, tuple[float, float]]:
    """By group whose ranges are better so many times as wide: that number, and what its harm is then, as a share.

    Ranges are learned so that values fit; what is best for the outputs lies between what is cut off and what is rounded
    (Nagel et al. 2021, A White Paper on Neural Network Quantization, section 3.1). Every second sample chooses, and the
    choice must hold for the others.

    Args:
        alone: By group whose ranges may be others, its harm where it alone is in int8.
        made: Makes what runs the model in which a group alone is in int8, its ranges so many times as wide.
        given: Samples.
        expected: What the float model answers to them.
        context: For the progress.
        until: `time.monotonic()` after which no further group is tried.
        kept: A file for what is known so far, from which it goes on after a kill.
        at_once: Threads that may make and run such models.
    """
    found: dict[str, tuple[float, float]] = json.loads(kept.read_text()) if kept.exists() else {}

    def tried(group: str) -> tuple[float, float] | None:
        if time.monotonic() > until:
            return None
        errors: dict[float, Array] = {}

        def error(width: float) -> Array:
            if width not in errors:
                step, pairs = made(group, width), zip(given, expected, strict=True)
                errors[width] = np.array([distance(step(feed), right) for feed, right in pairs])
            return errors[width]

        further = NARROWER if error(NARROW)[::2].sum() < error(1.0)[::2].sum() else WIDE
        width = min((1.0, NARROW, further), key=lambda one: error(one)[::2].sum())
        before, after = error(1.0), error(width)
        clearly = after[1::2].sum() < BETTER * before[1::2].sum() and np.mean(after < before) >= MOST
        return (width, float(after.sum() / before.sum())) if clearly else (1.0, 1.0)

    worth = [group for group, harm in alone.items() if harm > LEAST * sum(alone.values())]
    fresh = sorted((group for group in worth if group not in found), key=lambda group: -alone[group])
    with ThreadPoolExecutor(at_once) as pool:
        for number, (group, one) in enumerate(zip(fresh, pool.map(tried, fresh), strict=True)):
            context.progress(number / len(fresh), f"trying other ranges for {len(fresh)} layers")
            if one is not None:
                found[group] = one
                keep(kept, found)
    return {group: (width, share) for group, (width, share) in found.items() if width != 1.0}
