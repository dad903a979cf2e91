"""Pair: two models laid open, and run on the same samples."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from .. import formats
from ..data import Data
from ..errors import UnsupportedModel
from ..model import Tensor
from ..runtime import calls
from ..server import Hosted
from .opened import Faithful, Opened, fed
from .parts import PRODUCTS, parts, plain, shared

Array = np.ndarray[Any, Any]

SAMPLES = 64
"""At the most, that are looked into: sums over more hardly change."""
LEAST = 8
NAMED = 5  # values in a note
MOVED = 1 << 34
"""Bytes of values in between, in all samples together, above which fewer samples are looked into."""
HELD = 1 << 30
"""Bytes of the values in between of one call above which only those behind matrix products are looked at."""
FEW = 16
"""Calls, at the most, by which is told whether a model that is laid open errs as it did."""
CALLING = 1.0
"""Seconds of them, in either model."""


class Pair:
    """Two models laid open at the values that both know.

    Args:
        original: A model whose format tells what it computes.
        candidate: Another one, of the same inputs and outputs.
        data: Samples that fit both.
        folder: An empty one, to write into.
        seconds: In which values are laid open; those that are left are not looked at.

    Attributes:
        parts: Their layers, in the original's order.
        values: What each ends in, as the original and as the candidate call it.
        count: How many samples are looked into.
        notes: What to know of it, in sentences.

    Raises:
        UnsupportedModel: A format can't be looked into, or no value is known to both models.
        RunFailed: A runtime refuses a model that is laid open.
    """

    def __init__(self, original: Hosted, candidate: Hosted, data: Data, folder: Path, seconds: float = inf):
        self.sides, self.data, self.folder, self.notes = (original, candidate), data, folder, list[str]()
        self.original, self.candidate = original, candidate
        self.flows = [formats.format_of(side.model.format).dataflow(side.model) for side in self.sides]
        self.values = shared(self.flows[0], self.flows[1])
        for flow, whose in zip(self.flows, ("original", "candidate"), strict=True):
            if flow.opaque:
                self.notes.append(
                    f"the {whose} has control flow ({', '.join([*flow.opaque][:3])}): what is within is not looked into"
                )
        until = monotonic() + seconds
        firsts = (next(steps) for _, steps in calls(original.model.signature, data, original.target.batch))
        self.feeds = [dict(feed) for feed in itertools.islice(firsts, FEW)]
        self._choose(self.feeds[0])
        self._open(until)
        self.parts = parts(self.flows[0], self.flows[1], self.values)
        self.alone = Opened(candidate, [found for _, found in self.values], folder / "alone", self.tensors)

    def _choose(self, feed: Mapping[str, Array]) -> None:
        """Keep the values that are floats of one shape, and no more of them than fit into memory."""
        found = []
        for place, side in enumerate(self.sides):
            tried = Opened(side, [pair[place] for pair in self.values], self.folder / f"tried{place}")
            found.append(tried(fed(side, feed))[1] if self.values else [])
            tried.runner.close()
            shutil.rmtree(self.folder / f"tried{place}")
        kept = [
            (pair, Tensor(pair[1], after.dtype.name, (None,) * after.ndim), before.nbytes)
            for pair, before, after in zip(self.values, *found, strict=True)
            if before.dtype.kind == after.dtype.kind == "f" and before.shape == after.shape and before.size
        ]
        if not kept:
            raise UnsupportedModel(
                "An explanation holds values in between to each other by their names, and this original "
                f"({self.original.model.format}) and candidate ({self.candidate.model.format}) share none of floats. "
                "Compare the candidate with the file that it was made of."
            )
        if sum(size for *_, size in kept) > HELD:
            makers = {value: one for one in self.flows[0].operators for value in one.outputs}
            kept = [one for one in kept if plain(makers[one[0][0]].kind) in PRODUCTS or one is kept[-1]]
            self.notes.append("all values at once are too large: only those behind matrix products are looked at")
        carried, held = self.original.target.batch, sum(size for *_, size in kept)
        self.count = min(len(self.data), SAMPLES, max(LEAST, MOVED // (held // carried + 1)))
        self.values, self.tensors = [pair for pair, *_ in kept], [tensor for _, tensor, _ in kept]

    def _open(self, until: float) -> None:
        """Lay both models open, and leave out what can't be asked for without changing what they answer."""
        begun, right = monotonic(), [_answers(side, self.feeds) for side in self.sides]
        right = [answers[: min(map(len, right))] for answers in right]
        self.opened = [
            Faithful(
                side, [pair[place] for pair in self.values], self.folder / f"opened{place}",
                [fed(side, feed) for feed in self.feeds[: len(right[place])]], right[place], right[1 - place],
                begun + (until - begun) * (place + 1) / 2,
            )
            for place, side in enumerate(self.sides)
        ]  # fmt: skip
        for one in self.opened:
            copies = f"in {len(one.copies)} runs" if len(one.copies) > 1 else "together"
            if one.errs:
                most, least = math.sqrt(max(one.errs)), math.sqrt(min(one.errs))
                by = f"{least:.2g}x" if f"{least:.2g}" == f"{most:.2g}" else f"{least:.2g}x to {most:.2g}x"
                self.notes.append(
                    f"where values between layers are asked for, {one.hosted.runtime} rounds others; they were read "
                    f"{copies}, in which the outputs' error is {by} as large as it is otherwise"
                )
            elif len(one.copies) > 1:
                self.notes.append(
                    f"reading all values between layers at once changes what {one.hosted.runtime} answers; they were "
                    f"read {copies}, in which it does not"
                )
        lost = {place for one in self.opened for place in one.lost}
        left = {place for one in self.opened for place in one.left} - lost
        for places, why in ((lost, "since asking for it changes what is answered"), (left, "for want of time")):
            if places:
                named = ", ".join(self.values[place][0] for place in sorted(places)[:NAMED])
                more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
                self.notes.append(f"values that are not looked at, {why}: {named}{more}")
        if gone := lost | left:
            kept = [place for place in range(len(self.values)) if place not in gone]
            if not kept:
                raise UnsupportedModel("There was no time to look at any value in between. Give it more.")
            for one in self.opened:
                one.keep(kept)
            self.values, self.tensors = [self.values[at] for at in kept], [self.tensors[at] for at in kept]

    def own(self, feed: Mapping[str, Array], values: Sequence[Array]) -> list[Array]:
        """What each of the candidate's layers makes of the original's values."""
        given = {t.name: value.astype(t.dtype, copy=False) for t, value in zip(self.tensors, values, strict=True)}
        return self.alone({**fed(self.candidate, feed), **given})[1]

    def runs(self, count: int) -> Iterator[tuple[dict[str, Array], Any, Any]]:
        """For each call: what the original is fed, states included, and what both models make of it."""
        few = self.data.take(np.arange(count))
        pairs = zip(*(calls(side.model.signature, few, side.target.batch) for side in self.sides), strict=True)
        for steps in pairs:
            states: list[dict[str, Array]] = [{}, {}]
            for given in zip(*(feeds for _, feeds in steps), strict=True):
                feeds = [{**feed, **state} for feed, state in zip(given, states, strict=True)]
                found = [one(feed) for one, feed in zip(self.opened, feeds, strict=True)]
                states = [
                    {tensor.name: outputs[str(tensor.feedback)] for tensor in side.model.signature.states}
                    for side, (outputs, _) in zip(self.sides, found, strict=True)
                ]
                yield feeds[0], found[0], found[1]


def _answers(hosted: Hosted, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """What a model answers, to as many as there is time for, and to one at the least."""
    runner, found, begun = hosted.runtime.load(hosted.model, hosted.target), list[dict[str, Array]](), monotonic()
    try:
        for feed in feeds:
            found.append(dict(runner(fed(hosted, feed))))
            if monotonic() - begun > CALLING:
                break
        return found
    finally:
        runner.close()
