"""Parity: what was converted is held to what its original answers, before anything else is made of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np

from ..errors import TechniqueError

SAMPLES = 16  # on which it must answer as the original does
CLOSE = 1e-3  # of the largest output: sums taken in another order come to less

Arrays = Mapping[str, np.ndarray[Any, Any]]
T = TypeVar("T")


def hold(
    samples: Mapping[str, T],
    batched: Collection[str],
    answer: Callable[[Mapping[str, T]], Arrays],
    original: Callable[[Mapping[str, T]], Arrays],
    fixed: int | None = None,
) -> None:
    """Compare two models for several numbers of samples: a graph may be tied to the one that it was made with.

    Args:
        samples: A few, by input.
        batched: The inputs of which axis 0 is samples.
        answer: Of what was converted.
        original: Of what it was made of.
        fixed: The only number of samples that it takes; None for any.

    Raises:
        TechniqueError: They answer differently.
    """
    most = min((len(samples[name]) for name in batched), default=1)  # type: ignore[arg-type]
    for count in {fixed} if fixed else sorted({most, max(1, most - 1), 1}, reverse=True):
        few = {name: array[:count] if name in batched else array for name, array in samples.items()}  # type: ignore[index]
        _compare(answer(few), original(few))


def _compare(answers: Arrays, expected: Arrays) -> None:
    for name, wanted in expected.items():
        answer = answers[name]
        if answer.shape != wanted.shape:
            raise TechniqueError(
                f"the converted model answers {list(answer.shape)} for {name!r} where the original answers "
                f"{list(wanted.shape)}: it is tied to the sizes it was converted with"
            )
        with np.errstate(invalid="ignore"):
            same = (answer == wanted) | ((answer != answer) & (wanted != wanted))  # infinities, and NaN
            off = float(np.where(same, 0.0, np.abs(answer.astype(np.float64) - wanted)).max(initial=0))
        most = float(np.nan_to_num(np.abs(wanted), nan=0, posinf=0).max(initial=0))
        if not off <= CLOSE * max(most, 1e-6):
            raise TechniqueError(
                f"a converted model must answer as its original, and answers otherwise: {name!r} is off by {off:.3g}. "
                "Convert the model yourself, and give the file"
            )
