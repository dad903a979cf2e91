"""Mixing: a precision for each part of a model, by what each is measured to cost and to harm."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..dataflow import Group
from ..errors import NotApplicable
from ..model import Batch, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Parts, Technique, Work, remaining
from ._calibration import feeds
from ._errors import MOST, Errors, errors
from ._harm import error, keep
from ._kept import kept_folder
from ._mix import BITS, WEIGHTS, Costs, fastest, passed
from ._times import Border, times

REPAIRS = 8  # programs to solve, until one's mix keeps what is allowed
OVERTIME = 0.25  # of the time that is left for measuring, in which to find one at all
TIME = 0.6
"""Of the time of the step, what is spent on measuring and solving, since what it makes is measured, too."""
EXACT = "f32"
FASTER = 0.95
"""Of what a group takes in all precisions of more bits: what it must at most take in one, for it to be tried."""
MIXES = "mixes.json"
NAMED = 8  # groups in a sentence


@dataclass(frozen=True)
class Found:
    """What was measured of the groups.

    Attributes:
        seconds: What each takes in each precision.
        costs: The same in precisions that it may have: one whose harm is not known may have the most exact only.
        errors: By what errors were judged.
    """

    seconds: Mapping[str, Mapping[str, float]]
    costs: Costs
    errors: Errors


@dataclass(frozen=True)
class Mixed(Technique):
    """Mixes precisions within a share of the error of another technique, which it comes before among its bases.

    Attributes:
        error: The share of the error of int8 throughout (its mean square; of distributions that of their logarithms)
            that the mix may have. Ranges of layers that harm much are narrower or wider than they were learned, where
            that lowers it.
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
    known = [{EXACT}] if found.errors.widths else [{EXACT}, {parts.precisions[0]}]
    if set(mix.values()) in known:
        short = ", of what there was time to try" if time.monotonic() > until else ""
        raise NotApplicable(f"the fastest mix within {share:.2g}x of its error is {mix.popitem()[1]} throughout{short}")
    notes, groups = (*model.notes, _told(mix, parts.labels, found.errors.widths)), _groups(parts, mix, found)
    return replace(found.errors.parts.save(mix, context.folder), notes=notes, groups=groups)


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
    lowest, allowed = parts.precisions[0], share * found.errors.learned
    bound = min(1.0, allowed / found.errors.worst[lowest]) if found.errors.worst[lowest] else share
    compared = sum(filter(math.isfinite, (found.costs.errors[group][lowest] for group in parts.members)))
    whole = compared or found.errors.worst[lowest] or 1.0
    judged = {(precision,) * len(parts.members): seen for precision, seen in found.errors.worst.items()}
    judged |= _judged(kept / MIXES, found.errors.widths)
    for solved in range(REPAIRS):  # errors do not quite add up: what was allowed for is corrected by what came of it
        kept_by = sum(seen <= allowed for seen in judged.values())  # the most exact throughout among them
        if solved and time.monotonic() > (until if kept_by > 1 else until + OVERTIME * (context.deadline - until)):
            break
        mix = fastest(found.costs, bound * whole)
        if mix is None:
            break
        values = tuple(mix[group] for group in parts.members)
        if values not in judged:
            judged[values] = error(found.errors.parts.step(mix), found.errors.given, found.errors.expected)
            keep(kept / MIXES, (found.errors.widths, list(judged.items())))
        seen = judged[values]
        if seen <= allowed and (bound >= 1 or seen > 0.8 * allowed):
            break
        bound = min(1.0, bound * min(3.0, max(0.1, 0.95 * allowed / max(seen, 1e-300))))
    able = [dict(zip(parts.members, values, strict=True)) for values, seen in judged.items() if seen <= allowed]
    if not able:
        raise NotApplicable(
            f"no mix of {' and '.join(parts.precisions)} has {share:.0%} of the error of int8 throughout"
        )
    return min(able, key=lambda mix: expected_seconds(found.seconds, found.costs.borders, mix)), found


def _judged(kept: Path, widths: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """The errors of mixes that were solved for other shares, where ranges were the same."""
    ranges, mixes = json.loads(kept.read_text()) if kept.exists() else ({}, [])
    return {tuple(values): seen for values, seen in mixes} if ranges == widths else {}


def expected_seconds(
    seconds: Mapping[str, Mapping[str, float]], borders: Sequence[Border], mix: Mapping[str, str]
) -> float:
    """What a call takes by the times of its parts."""
    inside = sum(seconds[group][precision] for group, precision in mix.items())
    return inside + sum(taken for one, other, taken in borders if passed(mix[one]) != passed(mix[other]))


def _measured(parts: Parts, given: Sequence[Batch], context: Context, kept: Path, until: float) -> Found:
    seconds, borders = times(parts, given[0], context, kept / "times.json", until)
    found = errors(parts, _paying(parts, seconds), given, context, kept, until)
    usable = {
        group: {p: taken for p, taken in known.items() if math.isfinite(found.groups[group].get(p, math.inf))}
        for group, known in seconds.items()
    }
    return Found(seconds, Costs(usable, found.groups, borders), found)


def _paying(parts: Parts, seconds: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """By precision in which weights alone are rounded, the groups that gain by it."""

    def pays(group: str, precision: str) -> bool:
        more = [taken for other, taken in seconds[group].items() if BITS[other] > BITS[precision]]
        return precision in seconds[group] and seconds[group][precision] < FASTER * min(more)

    return {p: [group for group in parts.members if pays(group, p)] for p in parts.weights}


def _groups(parts: Parts, mix: Mapping[str, str], found: Found) -> tuple[Group, ...]:
    """What each group was given, and why."""
    alone, seconds = found.errors.alone, found.seconds
    return tuple(
        Group(parts.labels[group], tuple(names), mix[group], alone.get(group), dict(seconds[group]))
        for group, names in parts.members.items()
    )


def _told(mix: Mapping[str, str], labels: Mapping[str, str], widths: Mapping[str, float]) -> str:
    """Which groups have which precision, as a sentence, and another on those whose ranges are others."""
    counts = Counter(mix.values())
    exact = [labels[group] for group, precision in mix.items() if "int" not in precision]
    said = ", ".join(f"{count} {_having(precision)}" for precision, count in counts.most_common())
    more = f" and {len(exact) - NAMED} more" if len(exact) > NAMED else ""
    kept = f"; in floats: {', '.join(exact[:NAMED])}{more}" if exact else ""
    return f"Of {len(mix)} groups of layers {said}{kept}.{_ranges(mix, labels, widths)}"


def _having(precision: str) -> str:
    return f"with {precision}" if precision in WEIGHTS else f"in {precision}"


def _ranges(mix: Mapping[str, str], labels: Mapping[str, str], widths: Mapping[str, float]) -> str:
    said = [f"{labels[group]} ({width:.2g}x)" for group, width in widths.items() if mix[group] == "int8"]
    if not said:
        return ""
    more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return f" Ranges are others than were learned, for less error, in {', '.join(said[:NAMED])}{more}."
