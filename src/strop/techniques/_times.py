"""Times: what each group of operators takes in each precision, and what conversions take between them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import TechniqueError
from ..model import Batch
from ..runtime import LayerTime
from ..technique import Context, Parts
from ._harm import keep

TURNS = "turns"
"""The mix in which neighbours have different precisions."""
ROUNDS, AGREED = 4, 1.05
"""In which each mix is timed at the most; and how many times as long the second least may be, for both to be believed.
"""
PASSING = "passing.json"
AGAIN = 0.3  # of the time for mixing, after which no mix is timed again


@dataclass(frozen=True)
class _Taken:
    """The seconds of one call.

    Attributes:
        groups: By group, what its operators take.
        light: By group, the part of it that is not in the layer of the operator that begins it.
        rest: What belongs to no group.
    """

    groups: Mapping[str, float]
    light: Mapping[str, float]
    rest: float

    @property
    def whole(self) -> float:
        return sum(self.groups.values()) + self.rest


Border = tuple[str, str, float]
"""Two groups, and the seconds that it takes to convert what passes between them."""


def times(
    parts: Parts, sample: Batch, context: Context, kept: Path, until: float
) -> tuple[dict[str, dict[str, float]], list[Border]]:
    """By group the seconds in each precision that it may have; and those of converting what passes between groups where
    precisions differ, 0 where there was no time to find out.

    Args:
        parts: The model.
        sample: By which it is known how many numbers pass.
        context: To time layers by, and for the progress.
        kept: A file for what was measured.
        until: `time.monotonic()` after which conversions are not timed.
    """
    turns = {group: parts.precisions[number % len(parts.precisions)] for number, group in enumerate(parts.members)}
    mixes = {precision: dict.fromkeys(parts.members, precision) for precision in parts.precisions}
    for precision, groups in parts.weights.items():
        if groups:
            mixes[precision] = {
                group: precision if group in groups else parts.precisions[-1] for group in parts.members
            }
    taken = _quietest(parts, {**mixes, TURNS: turns} if parts.borders else mixes, context, kept, until)
    mixed = taken.pop(TURNS, None)
    shares = _shares(taken)
    least = min(one.rest for one in taken.values())
    found = {
        group: {
            p: one.groups[group] + (one.rest - least) * share
            for p, one in taken.items() if group in parts.weights.get(p, parts.members)
        }
        for group, share in shares.items()
    }  # fmt: skip
    if mixed is None and parts.borders:
        return found, []  # for want of time
    expected = sum(taken[p].light[group] + shares[group] * taken[p].rest for group, p in turns.items())
    converting = sum(mixed.light.values()) + mixed.rest - expected if mixed else 0.0  # apart, or with what is light
    numbers = _passing(parts, sample, kept.with_name(PASSING))
    crossing = sum(count for (one, other), count in numbers.items() if turns[one] != turns[other])
    each = max(0.0, converting) / crossing if crossing else 0.0
    return found, [(one, other, each * count) for (one, other), count in numbers.items()]


def _quietest(
    parts: Parts, mixes: Mapping[str, Mapping[str, str]], context: Context, kept: Path, until: float
) -> dict[str, _Taken]:
    """What each mix takes where nothing disturbs it: the least of several times, until two are alike.

    For seconds on end a machine that others share is slower, and which mix that befell would seem the slower one. So
    they take turns; and what there was no time to time twice is timed again when another mix asks for it.
    """
    known = json.loads(kept.read_text()) if kept.exists() else {}
    found = {name: [_Taken(**one) for one in known.get(name, [])] for name in mixes}
    begun = time.monotonic()
    again = begun + AGAIN * (until - begun)
    for number in range(ROUNDS):
        open_ = [name for name, known in found.items() if len(known) <= number and not _agreed(known)]
        for place, name in enumerate(open_):
            if (name == TURNS and time.monotonic() > until) or (found[name] and time.monotonic() > again):
                break
            done = (number + place / len(open_)) / ROUNDS
            context.progress(done, "timing conversions" if name == TURNS else f"timing layers in {name}")
            found[name].append(_taken(parts, mixes[name], context))
            keep(kept, {name: [asdict(one) for one in known] for name, known in found.items()})
    return {name: min(known, key=lambda one: one.whole) for name, known in found.items() if known}


def _agreed(known: Sequence[_Taken]) -> bool:
    least = sorted(one.whole for one in known)[:2]
    return len(least) == 2 and least[1] <= AGREED * least[0]


def _passing(parts: Parts, sample: Batch, kept: Path) -> dict[tuple[str, str], int]:
    """How many numbers pass between groups; one, where that is not known."""
    if kept.exists():
        return {(one, other): count for one, other, count in json.loads(kept.read_text())}
    values = dict.fromkeys(value for _, _, passing in parts.borders for value in passing)
    exact = dict.fromkeys(parts.members, parts.precisions[-1])
    told = {**sample, **parts.telling(values).step(exact)(sample)} if values else {}
    found = {(one, other): max(1, sum(told[value].size for value in passing)) for one, other, passing in parts.borders}
    keep(kept, [(one, other, count) for (one, other), count in found.items()])
    return found


def _taken(parts: Parts, precisions: Mapping[str, str], context: Context) -> _Taken:
    """A layer belongs to the groups that begin in it, for what else was fused into it takes next to no time; where none
    does, to all that have operators in it."""
    group_of = {name: group for group, names in parts.members.items() for name in names}
    begins = {names[0]: group for group, names in parts.members.items()}
    groups, light, rest = dict.fromkeys(parts.members, 0.0), dict.fromkeys(parts.members, 0.0), 0.0
    for layer in _profile(parts, precisions, context):
        begun = [begins[name] for name in layer.layers if name in begins]
        among = begun or [group_of[name] for name in layer.layers if name in group_of]
        for group in among:
            groups[group] += layer.seconds / len(among)
            light[group] += 0.0 if begun else layer.seconds / len(among)
        rest += 0.0 if among else layer.seconds
    return _Taken(groups, light, rest)


def _shares(taken: Mapping[str, _Taken]) -> dict[str, float]:
    """What each group gets of what belongs to none: as they take time.

    What there is of it in every precision is the runtime's own, or comes before all groups. What one has more of is the
    price of it, such as rounding values, or layers whose names a runtime did not tell: without it, groups would seem
    too fast in it, and conversions too dear.
    """
    longest = {group: max(one.groups[group] for one in taken.values()) for group in next(iter(taken.values())).groups}
    whole = sum(longest.values())
    return {group: seconds / whole if whole else 1 / len(longest) for group, seconds in longest.items()}


def _profile(parts: Parts, precisions: Mapping[str, str], context: Context) -> Sequence[LayerTime]:
    if context.layer_times is None:
        raise TechniqueError("choosing precisions by time needs a runtime that tells what each layer takes")
    context.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.folder, prefix=".scratch-") as folder:
        return context.layer_times(parts.save(precisions, Path(folder) / "model"))
