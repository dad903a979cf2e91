"""What calibration feeds a model: single samples as it wants them, states carried from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from ..data import Data
from ..errors import NotApplicable, TechniqueError
from ..model import Batch, Signature
from ..runtime import calls
from ..technique import Context, remaining

Step = Callable[[Batch], dict[str, np.ndarray[Any, Any]]]

STEPS = 16
"""Steps taken of one sequence, so that a few long ones don't use up all samples."""


def feeds(signature: Signature, context: Context, samples: int, load: Callable[[], Step]) -> Iterator[Batch]:
    """The inputs to calibrate with, spread evenly over the calibration samples.

    Args:
        signature: Of the model to calibrate.
        context: Holds the samples, and the deadline.
        samples: Feeds to give at the most.
        load: Makes what runs the float model; used only where a state must be fed back.

    Raises:
        NotApplicable: There are no samples.
        TechniqueError: The deadline has passed.
    """
    if context.calibration is None or not len(context.calibration):
        raise NotApplicable("needs samples to calibrate with, and none are given")
    step = load() if signature.states else None
    wanted = min(len(context.calibration), -(-samples // STEPS) if step else samples)
    rows = np.linspace(0, len(context.calibration) - 1, wanted).astype(np.int64)
    given = _steps(signature, context.calibration.take(rows), step)
    for number, feed in enumerate(islice(given, samples)):
        if remaining(context) < 0:
            raise TechniqueError(f"out of time after {number} of {samples} calibration samples")
        yield feed
        context.progress((number + 1) / samples, "calibrating")


def _steps(signature: Signature, data: Data, step: Step | None) -> Iterator[Batch]:
    for _, sequence in calls(signature, data, 1):
        state: dict[str, np.ndarray[Any, Any]] = {}
        for feed in islice(sequence, STEPS):
            full = {**feed, **state}
            yield full
            if step is not None:
                outputs = step(full)
                state = {t.name: outputs[t.feedback] for t in signature.states if t.feedback}
