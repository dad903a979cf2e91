"""Inside: the values in between of two models, held to each other layer by layer. Runs in a job."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from time import monotonic

from ..data import Data
from ..errors import NotApplicable, RunFailed
from ..progress import Tell, Teller
from ..runtime import SECONDS, LayerTime
from ..server import Hosted, first_feeds
from ..timing import Effort, one_at_a_time
from .harm import harm
from .likeness import Likeness
from .pair import Pair
from .parts import products
from .seen import Inside, Seen

OPENING = 0.4  # of the time, in which values are laid open
LEAST = 0.2  # seconds of calls, by which layers are timed
COMPARED, TIMED = 0.5, 0.9  # of all that is done, when layers were compared, and where timing begins
PROGRESS = "progress.json"
ROOM = 6  # times that, which both models take, with loading and where something disturbs


def look(
    original: Hosted, candidate: Hosted, data: Path, folder: Path, effort: Effort | None = None, seconds: float = inf
) -> Inside:
    """Run both models on the same samples, and hold their values in between to each other.

    Each layer is also run by itself: all values that both models know become inputs of the candidate, and are given as
    the original has them. The harm that its error does is had by adding it to the original's value, and nothing else.

    Args:
        original: A model whose format tells what it computes.
        candidate: Another one, of the same inputs and outputs.
        data: Folder of stored samples.
        folder: An empty one, to write into: also how far it is, as `PROGRESS`.
        effort: By whose lock to wait, to tell what each layer takes; None to leave that out.
        seconds: That it may take, or so: fewer values and samples are looked into where that is little.

    Raises:
        UnsupportedModel: A format can't be looked into, or no value is known to both models.
        RunFailed: A runtime refuses a model that is laid open.
    """
    until, tell = monotonic() + seconds, Teller(folder / PROGRESS)
    tell(0.0, "laying both models open")
    pair = Pair(original, candidate, Data.load(data), folder, OPENING * seconds)
    inside = compare(pair, (until - monotonic()) / 3, tell)
    harm(pair, inside, (until - monotonic()) / 2, tell)
    tell(TIMED, "timing layers")
    if effort is not None:
        try:
            with one_at_a_time(effort.lock, (until - monotonic()) / 2):
                time(pair, inside, until - monotonic())
        except TimeoutError as error:
            inside.notes.append(f"what each layer takes can't be told: {error}")
    return inside


def compare(pair: Pair, seconds: float = inf, tell: Tell = lambda share, words: None) -> Inside:
    """Add up errors over all samples, or as many as there is time for."""
    until = monotonic() + seconds
    layers = [Seen(part, place) for place, part in enumerate(pair.parts)]
    outputs = {tensor.name: Likeness() for tensor in pair.original.model.signature.visible_outputs}
    for done, (feed, (results, values), (others, accumulated)) in enumerate(pair.runs(pair.count), 1):
        for seen, value, far, own in zip(layers, values, accumulated, pair.own(feed, values), strict=True):
            seen.all.add(value, far)
            seen.own.add(value, own)
            seen.measure(value)
        for name, likeness in outputs.items():
            if results[name].dtype.kind == "f" and results[name].shape == others[name].shape:
                likeness.add(results[name], others[name])
        carried = min(pair.count, done * pair.original.target.batch)
        tell(COMPARED * carried / pair.count, f"layers compared on {carried} of {pair.count} samples")
        if monotonic() > until:
            pair.count = carried
            break
    covered = {one.name for part in pair.parts for one in part.original}
    before, after = (
        side.model.size - sum(part.bytes[place] for part in pair.parts) for place, side in enumerate(pair.sides)
    )
    outside = tuple(one for one in products(pair.flows[0].operators) if one.name not in covered)
    floats = {name: likeness for name, likeness in outputs.items() if likeness.cells or likeness.lost}
    return Inside(layers, floats, pair.count, 0, (before, after), outside, pair.notes)


def time(pair: Pair, inside: Inside, seconds: float = inf) -> None:
    """Tell what each layer takes in either model, as its runtime's profiler has it."""
    each = min(SECONDS, max(LEAST, seconds / ROOM))
    for place, side in enumerate(pair.sides):
        feeds = first_feeds(side.model.signature, pair.data, side.target.batch)[1]
        try:
            told = side.runtime.layer_times(side.model, side.target, feeds, each)
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
    """Give what was timed to a layer; of several that were fused into one, to that with the most weights of those whose
    main operator it ran, else to the last."""
    mains = [
        seen for seen in found if (main := (seen.part.main, seen.part.counterpart)[place]) and main.name in one.layers
    ]
    if found:
        seen = max(mains or found, key=lambda seen: (bool(mains) and seen.part.bytes[place], seen.place))
        seen.seconds[place] = (seen.seconds[place] or 0.0) + one.seconds
    for seen in mains if place else ():
        seen.ran = one.precision or seen.ran
