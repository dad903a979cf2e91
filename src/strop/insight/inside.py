"""Inside: the values in between of two models, held to each other layer by layer. Runs in a job."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import formats
from ..data import Data
from ..errors import NotApplicable, RunFailed, UnsupportedModel
from ..model import Tensor
from ..runtime import LayerTime, Runner, calls
from ..server import Hosted, first_feeds
from ..timing import Effort, one_at_a_time
from .likeness import Likeness
from .opened import Faithful, Opened, apart, fed
from .parts import PRODUCTS, Part, parts, plain, shared

Array = np.ndarray[Any, Any]

SAMPLES = 64
"""At the most, that are looked into: sums over more hardly change."""
LEAST = 8
MOVED = 1 << 34
"""Bytes of values in between, in all samples together, above which fewer samples are looked into."""
HELD = 1 << 30
"""Bytes of the values in between of one call above which only those behind matrix products are looked at."""
TRIED = 8
"""Samples, at the most, by which is told what the error of one layer does to the outputs."""
TRYING = 60.0
"""Seconds that this may take, if that leaves one sample."""
EXACT = 1e-8
"""How far a model that is laid open may be off its own answers: power of the differences over that of the answers."""
SLACK = 0.02
"""The same, as a share of the error that is to be explained, where that is more."""


@dataclass
class Seen:
    """What was found at one layer.

    Attributes:
        part: The layer.
        place: Its number, in the original's order.
        own: Error introduced there: the candidate's layer is given what the original's is given.
        all: Error accumulated up to there.
        harm: Power of the change of the outputs over their own, where this layer alone is as in the candidate; None
            where that was not tried.
        seconds: That it takes in a call of the original and of the candidate; None where their runtimes don't tell.
        ran: What the candidate computed it in, as its runtime tells; empty where it does not.
    """

    part: Part
    place: int
    own: Likeness = field(default_factory=Likeness)
    all: Likeness = field(default_factory=Likeness)
    harm: float | None = None
    seconds: list[float | None] = field(default_factory=lambda: [None, None])
    ran: str = ""

    @property
    def precision(self) -> str:
        """What the candidate computes it in."""
        told = self.part.precision
        return self.ran if self.ran and " " not in told else told  # `int8 weights` says more than what they are used in


@dataclass
class Inside:
    """What was found between inputs and outputs of two models.

    Attributes:
        layers: In the original's order.
        outputs: Error of each result that is a float, over the same samples.
        samples: That were looked into.
        tried: That were used to tell the harm of single layers; 0 where it could not be told.
        rest: Bytes of both models that belong to no layer: the graph itself, names, what no float comes from.
        outside: Operators of the original, without those that only change how numbers are held, whose layer ends in
            none of the values compared.
        notes: What to know of it, in sentences.
    """

    layers: list[Seen]
    outputs: dict[str, Likeness]
    samples: int
    tried: int
    rest: tuple[int, int]
    outside: int
    notes: list[str]


def look(original: Hosted, candidate: Hosted, data: Path, folder: Path, effort: Effort | None = None) -> Inside:
    """Run both models on the same samples, and hold their values in between to each other.

    Each layer is also run by itself: all values that both models know become inputs of the candidate, and are given as
    the original has them. The harm that its error does is had by adding it to the original's value, and nothing else.

    Args:
        original: A model whose format tells what it computes.
        candidate: Another one, of the same inputs and outputs.
        data: Folder of stored samples.
        folder: An empty one, to write into.
        effort: By whose lock to wait, to tell what each layer takes; None to leave that out.

    Raises:
        UnsupportedModel: A format can't be looked into, or no value is known to both models.
        RunFailed: A runtime refuses a model that is laid open.
    """
    pair = _Pair(original, candidate, Data.load(data), folder)
    inside = pair.compare()
    pair.harm(inside)
    if effort is not None:
        with one_at_a_time(effort.lock):
            pair.time(inside)
    return inside


class _Pair:
    def __init__(self, original: Hosted, candidate: Hosted, data: Data, folder: Path):
        self.sides, self.data, self.folder, self.notes = (original, candidate), data, folder, list[str]()
        self.original, self.candidate = original, candidate
        self.flows = [formats.format_of(side.model.format).dataflow(side.model) for side in self.sides]
        self.values = shared(self.flows[0], self.flows[1])
        for flow, whose in zip(self.flows, ("original", "candidate"), strict=True):
            if flow.opaque:
                self.notes.append(
                    f"the {whose} has control flow ({', '.join(flow.opaque[:3])}): what is within is not looked into"
                )
        _, steps = next(calls(original.model.signature, data, original.target.batch))
        feed = dict(next(steps))
        self.right = [_answer(side, feed) for side in self.sides]
        self._choose(feed)
        self._open(feed)
        self.parts = parts(self.flows[0], self.flows[1], self.values)

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

    def _open(self, feed: Mapping[str, Array]) -> None:
        """Lay both models open, and leave out what can't be asked for without changing what they answer."""
        slack = max(EXACT, SLACK * min(1.0, apart(*self.right)))
        self.opened = [
            Faithful(
                side, [pair[place] for pair in self.values], self.folder / f"opened{place}", fed(side, feed),
                self.right[place], slack,
            )
            for place, side in enumerate(self.sides)
        ]  # fmt: skip
        for one in self.opened:
            if len(one.copies) > 1:
                self.notes.append(
                    f"{one.hosted.runtime} answers otherwise where it is asked for all values in between at once; they "
                    f"were asked for in {len(one.copies)} turns, in which it does not"
                )
        lost = {place for one in self.opened for place in one.lost}
        if lost:
            named = ", ".join(self.values[place][0] for place in sorted(lost)[:5])
            self.notes.append(f"not looked at, since asking for it changes what is answered: {named}")
            kept = [place for place in range(len(self.values)) if place not in lost]
            for one in self.opened:
                one.keep(kept)
            self.values, self.tensors = [self.values[at] for at in kept], [self.tensors[at] for at in kept]

    def compare(self) -> Inside:
        """Add up errors over all samples."""
        layers = [Seen(part, place) for place, part in enumerate(self.parts)]
        outputs = {tensor.name: Likeness() for tensor in self.original.model.signature.visible_outputs}
        names = [found for _, found in self.values]
        self.alone = Opened(self.candidate, names, self.folder / "alone", self.tensors)
        for feed, (results, values), (others, accumulated) in self._runs(self.count):
            for seen, value, far, own in zip(layers, values, accumulated, self._own(feed, values), strict=True):
                seen.all.add(value, far)
                seen.own.add(value, own)
            for name, likeness in outputs.items():
                if results[name].dtype.kind == "f" and results[name].shape == others[name].shape:
                    likeness.add(results[name], others[name])
        covered = {one.name for part in self.parts for one in part.original}
        before, after = (
            side.model.size - sum(part.bytes[place] for part in self.parts) for place, side in enumerate(self.sides)
        )
        outside = sum(plain(one.kind) in PRODUCTS for one in self.flows[0].operators if one.name not in covered)
        floats = {name: likeness for name, likeness in outputs.items() if likeness.cells or likeness.lost}
        return Inside(layers, floats, self.count, 0, (before, after), outside, self.notes)

    def _own(self, feed: Mapping[str, Array], values: Sequence[Array]) -> list[Array]:
        """What each of the candidate's layers makes of the original's values."""
        given = {t.name: value.astype(t.dtype, copy=False) for t, value in zip(self.tensors, values, strict=True)}
        return self.alone({**fed(self.candidate, feed), **given})[1]

    def _runs(self, count: int) -> Iterator[tuple[dict[str, Array], Any, Any]]:
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

    def harm(self, inside: Inside) -> None:
        """Tell what each layer's error does to the outputs, that of the largest errors first, as far as time allows."""
        opened = self._shifted()
        if opened is None:
            return
        (runner, added), names, begun = opened, list(inside.outputs), time.monotonic()
        harmful = [place for place, seen in enumerate(inside.layers) if seen.own.noise or seen.own.lost]
        harmful.sort(key=lambda place: -inside.layers[place].own.share)
        noise, signal = np.zeros((len(inside.layers), len(names))), np.zeros(len(names))
        tried = set(range(len(inside.layers))) - set(harmful)
        for feed, (_, values), _ in self._runs(min(TRIED, self.count)):
            own = self._own(feed, values)
            still = {name: np.zeros(value.shape, np.float32) for name, value in zip(added, values, strict=True)}
            results = runner({**feed, **still})
            signal += [_power(results[name]) for name in names]
            for place in harmful:
                shift = _difference(own[place].astype(np.float32), values[place].astype(np.float32))
                moved = runner({**feed, **still, added[place]: shift})
                noise[place] += [_power(_difference(moved[name], results[name])) for name in names]
                tried.add(place)
                if not inside.tried and time.monotonic() - begun > TRYING:
                    break
            inside.tried += 1
            if (time.monotonic() - begun) * (inside.tried + 1) / inside.tried > TRYING:
                break
        runner.close()
        if left := len(inside.layers) - len(tried):
            inside.notes.append(f"what they do to the outputs was not tried of the {left:,} layers of the least errors")
        known = signal > 0
        for place in tried if known.any() else ():
            inside.layers[place].harm = float((noise[place][known] / signal[known]).mean())

    def _shifted(self) -> tuple[Runner, tuple[str, ...]] | None:
        """The original, loaded so that something can be added to each value, and the names of what is added."""
        folder = self.folder / "shifted"
        folder.mkdir()
        room = formats.format_of(self.original.model.format)
        try:
            model, added = room.shifted(self.original.model, [value for value, _ in self.values], folder)
            return self.original.runtime.load(model, self.original.target), added
        except (NotApplicable, RunFailed) as error:
            self.notes.append(f"what the error of a single layer does to the outputs can't be told: {error}")
            return None

    def time(self, inside: Inside) -> None:
        """Tell what each layer takes in either model, as its runtime's profiler has it."""
        for place, side in enumerate(self.sides):
            feeds = first_feeds(side.model.signature, self.data, side.target.batch)[1]
            try:
                told = side.runtime.layer_times(side.model, side.target, feeds)
            except (NotApplicable, RunFailed) as error:
                note = f"what each layer takes can't be told: {error}"
                inside.notes += [] if note in inside.notes else [note]
                continue
            homes = {
                operator.name: seen
                for seen in inside.layers
                for operator in (seen.part.original, seen.part.candidate)[place]
            }
            for one in told:
                _ascribe(one, [homes[name] for name in one.layers if name in homes], place)


def _ascribe(one: LayerTime, found: Sequence[Seen], place: int) -> None:
    """Give what was timed to a layer; of several that were fused into one, to the last whose main operator it ran."""
    mains = [
        seen for seen in found if (main := (seen.part.main, seen.part.counterpart)[place]) and main.name in one.layers
    ]
    if found:
        seen = max(mains or found, key=lambda seen: seen.place)
        seen.seconds[place] = (seen.seconds[place] or 0.0) + one.seconds
    for seen in mains if place else ():
        seen.ran = one.precision or seen.ran


def _answer(hosted: Hosted, feed: Mapping[str, Array]) -> dict[str, Array]:
    runner = hosted.runtime.load(hosted.model, hosted.target)
    try:
        return dict(runner(fed(hosted, feed)))
    finally:
        runner.close()


def _difference(first: Array, second: Array) -> Array:
    """What two arrays are apart where both are finite, and 0 elsewhere."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart: Array = first - second
    apart[~np.isfinite(apart)] = 0
    return apart


def _power(values: Array) -> float:
    flat = values.reshape(-1).astype(np.float64)
    flat = flat[np.isfinite(flat)]
    return float(flat @ flat)
