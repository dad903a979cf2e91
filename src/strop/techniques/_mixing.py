"""Mixing: a precision for each part of a model, by what each is measured to cost and to harm."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..dataflow import Group
from ..errors import NotApplicable, TechniqueError
from ..model import Batch, Model
from ..prefix import Prefix
from ..runtime import LayerTime
from ..settings import span
from ..target import Target
from ..technique import Context, Parts, Technique, Work, remaining
from ._calibration import Step, feeds
from ._harm import error, harm, keep
from ._kept import kept_folder
from ._mix import Costs, fastest

MOST, COMPARED, FEWEST = 64, 16, 4
"""Samples by which mixes are judged, for what they lose may be lost on few of them; and the most and the least of these
by which the harm of single parts is compared."""
ROOM = 5e8  # bytes of samples and answers, beyond which no more than are compared are kept
REPAIRS = 8  # programs to solve, until one's mix keeps what is allowed
TIME, COMPARING = 0.6, 0.7
"""Of the time of the step, what is spent on measuring and solving, since what it makes is measured, too; and of that,
the end of comparing harm."""
EXACT = "f32"
NAMED = 8  # groups in a sentence


@dataclass(frozen=True)
class Found:
    """What was measured of the parts, and by what.

    Attributes:
        costs: Their times and errors, which are taken to add up.
        worst: By precision, the error where all of them are in it.
        given: The samples.
        expected: What the float model answers to them.
        alone: By group that was tried by itself, its share of what the least exact precision does to all, one by one.
    """

    costs: Costs
    worst: Mapping[str, float]
    given: Sequence[Batch]
    expected: Sequence[Batch]
    alone: Mapping[str, float]


@dataclass(frozen=True)
class Mixed(Technique):
    """Mixes precisions within a share of the error of another technique, which it comes before among its bases.

    Attributes:
        error: The share of the error of int8 throughout (its mean square) that the mix may have.
    """

    error: float = span(0.3, 3e-3, 1.0, log=True, strength=True)

    def exact(self) -> float:
        """The ratio of what it falls back on, over float32."""
        return 1.0

    def expects(self, target: Target) -> float:
        return gained(self.exact(), super().expects(target), self.error)

    def apart(self, target: Target) -> Mapping[Work, float]:
        return {
            work: gained(1.0 if work is Work.OVERHEAD else self.exact(), lowest, self.error)
            for work, lowest in super().apart(target).items()
        }

    def apply(self, model: Model, context: Context) -> Model:
        return mixed(self, self.error, model, context)


def measured_folder(technique: Technique, model: Model, context: Context) -> Path:
    """Where what was measured of a model lies: the same for every share of the error."""
    settings = {name: value for name, value in technique.settings().items() if name not in technique.strengths()}
    return kept_folder(technique.label(), model, {**settings, "version": technique.version}, context)


def gained(exact: float, lowest: float, share: float) -> float:
    """The ratio of latency to expect of a mix, between those of its most and its least exact precision throughout.

    A rule of thumb: of what int8 gained, mixes in runs of `benchmarks/mixed.py` kept nearer to the square root of the
    share of its error than to half of it and more.
    """
    return exact - (exact - lowest) * math.sqrt(share)


def mixed(technique: Technique, share: float, model: Model, context: Context) -> Model:
    """Write the fastest mix whose error is a share of that of the least exact precision throughout.

    Raises:
        NotApplicable: There is none, or it is the same precision throughout, which other techniques give.
        TechniqueError: The deadline has passed.
    """
    parts = technique.parts(model, context)
    until = time.monotonic() + TIME * remaining(context)
    given = list(feeds(model.signature, context, MOST, lambda: parts.step(dict.fromkeys(parts.members, EXACT))))
    mix, found = chosen(parts, share, given, context, measured_folder(technique, model, context), until)
    if set(mix.values()) in ({EXACT}, {parts.precisions[0]}):
        raise NotApplicable(f"the fastest mix within {share:.2g}x of its error is {mix.popitem()[1]} throughout")
    notes, groups = (*model.notes, _told(mix, parts.labels)), _groups(parts, mix, found)
    return replace(parts.save(mix, context.folder), notes=notes, groups=groups)


def chosen(
    parts: Parts, share: float, given: Sequence[Batch], context: Context, kept: Path, until: float
) -> tuple[dict[str, str], Found]:
    """The fastest precisions whose error is a share of that of the least exact precision throughout, and by what.

    Args:
        parts: The model.
        share: Of the error, that is allowed.
        given: Samples to judge by; layers are compared by as many of them as there is time for.
        context: For the deadline and the progress, and to time layers by.
        kept: A folder for what was measured, which is the same for every share.
        until: `time.monotonic()` after which the best so far is good enough.

    Raises:
        NotApplicable: No mix of precisions has so small an error.
        TechniqueError: The deadline has passed.
    """
    found = _measured(parts, given, context, kept, until)
    lowest = parts.precisions[0]
    allowed, bound = share * found.worst[lowest], share
    compared = sum(filter(math.isfinite, (found.costs.errors[group][lowest] for group in parts.members)))
    whole = compared or found.worst[lowest] or 1.0
    uniform = [  # a group that there was no time to compare, or that loses all, has no int8 to choose
        dict.fromkeys(parts.members, precision) for precision, seen in found.worst.items()
        if seen <= allowed and all(precision in known for known in found.costs.seconds.values())
    ]  # fmt: skip
    best = min(((expected_seconds(found.costs, mix), mix) for mix in uniform), key=lambda one: one[0], default=None)
    for solved in range(REPAIRS):  # errors do not quite add up: what was allowed for is corrected by what came of it
        if solved and time.monotonic() > until:
            break
        mix = fastest(found.costs, bound * whole)
        if mix is None:
            break
        seen = error(parts.step(mix), found.given, found.expected)
        seconds = expected_seconds(found.costs, mix)
        if seen <= allowed and (best is None or seconds < best[0]):
            best = seconds, mix
        if seen <= allowed and (bound >= 1 or seen > 0.8 * allowed):
            break
        bound = min(1.0, bound * min(3.0, max(0.1, 0.95 * allowed / max(seen, 1e-300))))
    if best is None:
        raise NotApplicable(
            f"no mix of {' and '.join(parts.precisions)} has {share:.0%} of the error of int8 throughout"
        )
    return best[1], found


def expected_seconds(costs: Costs, mix: Mapping[str, str]) -> float:
    """What a call takes by the costs of its parts."""
    inside = sum(costs.seconds[group][precision] for group, precision in mix.items())
    return inside + sum(seconds for one, other, seconds in costs.borders if mix[one] != mix[other])


def _measured(parts: Parts, given: Sequence[Batch], context: Context, kept: Path, until: float) -> Found:
    lowest = parts.precisions[0]
    times, conversion = _timed(parts, context, kept / "times.json", until)
    exact = dict.fromkeys(parts.members, EXACT)
    plain = parts.step(exact)
    comparing = time.monotonic() + COMPARING * (until - time.monotonic())
    begun = time.monotonic()
    given = _fitting(given, plain(given[0]))
    expected = [plain(feed) for feed in given]
    each = (time.monotonic() - begun) / len(given)
    fit = max(FEWEST, min(COMPARED, (comparing - begun) / (2 * len(parts.members) * each)))
    # Spread over all of them: samples that lie next to each other are often alike.
    few = _spread(len(given), int(fit))
    compared = [given[place] for place in few], [expected[place] for place in few]
    prefix = Prefix(parts, exact, *compared)

    def only(groups: Sequence[str]) -> Step:
        return prefix.step({group: lowest if group in groups else EXACT for group in parts.members})

    worst = _worst(parts, given, expected, kept / "worst.json")
    record, at_once = kept / "harm.json", context.target.at_once
    alone = harm(list(parts.members), only, *compared, context, comparing, record, at_once)
    total = sum(filter(math.isfinite, alone.values())) or 1.0
    tried = json.loads(record.read_text()) if record.exists() else {}  # of others, what blocks of them do is known
    by_itself = {group: tried[group] / total for group in parts.members if math.isfinite(tried.get(group, math.inf))}
    # Rounding moves the outputs along the same ways as int8 does, so that its error is shared out alike.
    shares = {group: known / total if math.isfinite(known) else 1 / len(alone) for group, known in alone.items()}
    errors = {
        group: {p: known if p == lowest else worst[p] * shares[group] for p in parts.precisions}
        for group, known in alone.items()
    }
    usable = {
        group: {p: seconds for p, seconds in found.items() if math.isfinite(errors[group][p])}
        for group, found in times.items()
    }
    borders = [(one, other, conversion * count) for one, other, count in parts.borders]
    return Found(Costs(usable, errors, borders), worst, given, expected, by_itself)


def _worst(parts: Parts, given: Sequence[Batch], expected: Sequence[Batch], kept: Path) -> dict[str, float]:
    if kept.exists():
        known: dict[str, float] = json.loads(kept.read_text())
        return known
    found = {p: error(parts.step(dict.fromkeys(parts.members, p)), given, expected) for p in parts.precisions}
    keep(kept, found)
    return found


def _fitting(given: Sequence[Batch], answer: Batch) -> Sequence[Batch]:
    """As many samples as there is room for."""
    each = sum(array.nbytes for array in (*given[0].values(), *answer.values()))
    return [given[place] for place in _spread(len(given), max(COMPARED, int(ROOM / each)))]


def _spread(count: int, most: int) -> np.ndarray[Any, Any]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _timed(parts: Parts, context: Context, kept: Path, until: float) -> tuple[dict[str, dict[str, float]], float]:
    """By group the seconds in each precision; and those of converting one value where precisions differ, 0 where there
    was no time to find out."""
    if kept.exists():
        known, conversion = json.loads(kept.read_text())
        return known, conversion
    times: dict[str, dict[str, float]] = {group: {} for group in parts.members}
    others = {}
    for number, precision in enumerate(parts.precisions):
        context.progress(number / (len(parts.precisions) + 1), f"timing layers in {precision}")
        found, others[precision] = _by_group(parts, dict.fromkeys(parts.members, precision), context)
        for group, seconds in found.items():
            times[group][precision] = seconds
    shares = _share_out(times, others)
    if time.monotonic() > until:
        return times, 0.0
    turns = {group: parts.precisions[number % len(parts.precisions)] for number, group in enumerate(parts.members)}
    expected = sum(share * others[turns[group]] for group, share in shares.items())
    converting = _by_group(parts, turns, context)[1] - expected
    crossing = sum(count for one, other, count in parts.borders if turns[one] != turns[other])
    conversion = max(0.0, converting) / crossing if crossing else 0.0
    keep(kept, (times, conversion))
    return times, conversion


def _by_group(parts: Parts, precisions: Mapping[str, str], context: Context) -> tuple[dict[str, float], float]:
    """The seconds of each group, and those of all that belongs to none."""
    group_of = {name: group for group, names in parts.members.items() for name in names}
    found, rest = dict.fromkeys(parts.members, 0.0), 0.0
    for layer in _profile(parts, precisions, context):
        groups = [group_of[name] for name in layer.layers if name in group_of]
        for group in groups:
            found[group] += layer.seconds / len(groups)
        rest += 0.0 if groups else layer.seconds
    return found, rest


def _share_out(times: Mapping[str, dict[str, float]], others: Mapping[str, float]) -> dict[str, float]:
    """Add to groups what belongs to none, and tell the share that each gets of it: as they take time.

    What there is of it in every precision is the runtime's own, or comes before all groups. What one has more of is the
    price of it, such as rounding values, or layers whose names a runtime did not tell: without it, groups would seem
    too fast in it, and conversions too dear.
    """
    longest = {group: max(found.values()) for group, found in times.items()}
    whole = sum(longest.values())
    shares = {group: seconds / whole if whole else 1 / len(longest) for group, seconds in longest.items()}
    for precision, seconds in others.items():
        for group, found in times.items():
            found[precision] += (seconds - min(others.values())) * shares[group]
    return shares


def _profile(parts: Parts, precisions: Mapping[str, str], context: Context) -> Sequence[LayerTime]:
    if context.layer_times is None:
        raise TechniqueError("choosing precisions by time needs a runtime that tells what each layer takes")
    context.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.folder, prefix=".scratch-") as folder:
        return context.layer_times(parts.save(precisions, Path(folder) / "model"))


def _groups(parts: Parts, mix: Mapping[str, str], found: Found) -> tuple[Group, ...]:
    """What each group was given, and why."""
    return tuple(
        Group(
            parts.labels[group], tuple(names), mix[group], found.alone.get(group), dict(found.costs.seconds[group])
        )
        for group, names in parts.members.items()
    )  # fmt: skip


def _told(mix: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """Which groups have which precision, as a sentence."""
    counts = Counter(mix.values())
    exact = [labels[group] for group, precision in mix.items() if precision != "int8"]
    said = ", ".join(f"{count} in {precision}" for precision, count in counts.most_common())
    more = f" and {len(exact) - NAMED} more" if len(exact) > NAMED else ""
    return f"Of {len(mix)} groups of layers {said}; not in int8: {', '.join(exact[:NAMED])}{more}."
