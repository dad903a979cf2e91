"""Prefix: what a mix of precisions computes before the first group in which another differs: kept, for it is the same.

To try one group, no more of the model is made ready and run than what follows it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .model import Batch
from .nmse import nmse
from .technique import Parts

Step = Callable[[Batch], dict[str, np.ndarray[Any, Any]]]

ROOM = 5e8  # bytes of values to keep; where all cuts have more, every second is left out until they do not
NOISE = 1e-9


class Prefix:
    """What one mix passes on at cuts between its groups, for some samples.

    Values that a runtime would not have told may be others than those that it computes where it need not tell them:
    there is no cut where the outputs are others, too.

    Args:
        parts: The model.
        mix: The precision of each group.
        given: Samples; others are run from the beginning.
        answers: What the model answers to them in that mix.
        apart: How far the outputs may be from these (NMSE) where values are told.
    """

    def __init__(
        self, parts: Parts, mix: Mapping[str, str], given: Sequence[Batch], answers: Sequence[Batch], apart: float = 0.0
    ):
        self.parts, self.mix = parts, mix
        self.passing = {group: values for group in list(mix)[1:] if (values := parts.passing(group))}
        self.kept: dict[str, Batch] = {}
        told = parts.telling(self._values()).step(mix) if given and self.passing else parts.step(mix)
        for feed, right in zip(given, answers, strict=True):
            known = {**feed, **told(feed)}
            if nmse(known, right) > max(apart, NOISE):
                self.kept = {}
                break
            if not self.kept:
                self._make_room(known, len(given))
            self.kept[_digest(feed)] = {name: known[name] for name in (*self._values(), *right)}
        self.passing = self.passing if self.kept else {}

    def over(self, parts: Parts) -> Prefix:
        """The same for parts that differ in no group's precision of the mix."""
        made = copy.copy(self)
        made.parts = parts
        return made

    def step(self, precisions: Mapping[str, str]) -> Step:
        """What runs the model with these precisions, as `Parts.step` does, from where they begin to differ."""
        cut = self._before(precisions)
        if cut is None:
            return self.parts.step(precisions)
        rest = self.parts.since(cut)
        run, whole = rest.step({group: precisions[group] for group in rest.members}), list[Step]()

        def step(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
            known = self.kept.get(_digest(batch))
            if known is not None:
                return {**known, **run(known)}
            if not whole:
                whole.append(self.parts.step(precisions))
            return whole[0](batch)

        return step

    def _before(self, precisions: Mapping[str, str]) -> str | None:
        """The last cut before the first group that differs."""
        cut = None
        for group, precision in self.mix.items():
            cut = group if group in self.passing else cut
            if precisions[group] != precision:
                break
        return cut

    def _values(self) -> dict[str, None]:
        return dict.fromkeys(value for values in self.passing.values() for value in values)

    def _make_room(self, known: Batch, samples: int) -> None:
        while samples * sum(known[value].nbytes for value in self._values()) > ROOM:
            self.passing = dict(list(self.passing.items())[1::2])


def _digest(batch: Batch) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(batch.items()):
        digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
