"""Errors: what each group of operators does to the outputs in each precision, by the ranges where it does least."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..model import Batch
from ..prefix import Prefix
from ..technique import Context, Parts
from ._calibration import Step
from ._harm import error, harm, keep
from ._widths import widths

MOST, COMPARED, FEWEST = 64, 16, 4
"""Samples by which mixes are judged, for what they lose may be lost on few of them; and the most and the least of these
by which the harm of single parts is compared."""
ROOM = 5e8  # bytes of samples and answers, beyond which no more than are compared are kept
COMPARING, RANGING, JUDGING = 0.65, 0.15, 0.1
"""Of the time for mixing, what may go into comparing harm, into trying other ranges, and into a run of all samples."""


@dataclass(frozen=True)
class Errors:
    """What was measured of the groups' errors (`distance` of the outputs), and by what.

    Attributes:
        parts: With the ranges by which they harm least.
        widths: By group whose ranges are others than were learned, how many times as wide they are.
        groups: By group and precision, which are taken to add up.
        worst: By precision, the error where all of them are in it.
        learned: That where all are in the least exact one, by ranges as they were learned.
        alone: By group that was tried by itself, its share of what the least exact precision does to all, one by one.
        given: The samples.
        expected: What the float model answers to them.
    """

    parts: Parts
    widths: Mapping[str, float]
    groups: Mapping[str, Mapping[str, float]]
    worst: Mapping[str, float]
    learned: float
    alone: Mapping[str, float]
    given: Sequence[Batch]
    expected: Sequence[Batch]


def errors(
    parts: Parts,
    weights: Mapping[str, Sequence[str]],
    given: Sequence[Batch],
    context: Context,
    kept: Path,
    until: float,
) -> Errors:
    """Measure them.

    Args:
        parts: The model, its ranges as they were learned.
        weights: By precision in which weights alone are rounded, the groups of which that is to be known.
        given: Samples; groups are compared by as many of them as there is time for.
        context: For the target and the progress.
        kept: A folder for what is known so far.
        until: `time.monotonic()` at which mixing ends.
    """
    begun, lowest = time.monotonic(), parts.precisions[0]
    plain = parts.step(dict.fromkeys(parts.members, parts.precisions[-1]))
    answer, warm = plain(given[0]), time.monotonic()
    plain(given[0])
    seconds = time.monotonic() - warm
    given = _judging(given, answer, seconds, until - begun, kept / "judging.json")
    expected = [plain(feed) for feed in given]
    few = _few(parts, len(given), seconds, until - begun)
    worst = _worst(parts, given, expected, kept / "worst.json")
    each = _Each(parts, [given[place] for place in few], [expected[place] for place in few], context, kept)
    harms, alone = each.harms(begun + COMPARING * (until - begun), worst[lowest])
    better = each.better(alone, time.monotonic() + RANGING * (until - begun))
    further = {p: each.weights(p, names, time.monotonic() + RANGING * (until - begun)) for p, names in weights.items()}

    others, learned = {group: width for group, (width, _) in better.items()}, worst[lowest]
    widened = parts.widened(others) if others else parts
    whole = error(widened.step(dict.fromkeys(parts.members, lowest)), given, expected) if others else learned
    if whole < learned:  # all together, too
        parts, worst = widened, {**worst, lowest: whole}
        for group, (_, share) in better.items():
            harms[group], alone[group] = harms[group] * share, alone[group] * share
    else:
        others = {}

    # Rounding moves the outputs along the same ways as int8 does: of each group it does the share that it does of all.
    # That is told by all together, for one by one they may do next to nothing where all of them flip a letter.
    total = sum(filter(math.isfinite, harms.values())) or worst[lowest] or 1.0
    finite = {group: known if math.isfinite(known) else total / len(harms) for group, known in harms.items()}
    milder = {p: whole / worst[lowest] if worst[lowest] else 0.0 for p, whole in worst.items()}
    groups = {
        group: {p: known if p == lowest else finite[group] * milder[p] for p in parts.precisions}
        | {p: known_of[group] for p, known_of in further.items() if group in known_of}
        for group, known in harms.items()
    }
    alone = {group: known / total for group, known in alone.items()}
    return Errors(parts, others, groups, worst, learned, alone, given, expected)


class _Each:
    """Groups compared one by one: each alone in the least exact precision."""

    def __init__(
        self, parts: Parts, given: Sequence[Batch], expected: Sequence[Batch], context: Context, kept: Path
    ) -> None:
        self.parts, self.given, self.expected, self.context, self.kept = parts, given, expected, context, kept
        self.exact = dict.fromkeys(parts.members, parts.precisions[-1])
        self.prefix = Prefix(parts, self.exact, given, expected)

    def only(self, groups: Sequence[str]) -> Step:
        """What runs the model in which these are in it."""
        return self._only(groups, self.parts.precisions[0], self.prefix)

    def wide(self, group: str, width: float) -> Step:
        """The same of one, whose ranges are so many times as wide."""
        return self._only([group], self.parts.precisions[0], self.prefix.over(self.parts.widened({group: width})))

    def harms(self, until: float, whole: float) -> tuple[dict[str, float], dict[str, float]]:
        """What each does to the outputs; and of those that were tried by themselves, for of others it is known what
        blocks of them do."""
        record, names = self.kept / "harm.json", list(self.parts.members)
        found = self._harm(names, self.only, until, record, whole)
        tried = json.loads(record.read_text()) if record.exists() else {}
        return found, {group: tried[group] for group in names if math.isfinite(tried.get(group, math.inf))}

    def better(self, alone: Mapping[str, float], until: float) -> dict[str, tuple[float, float]]:
        """Widths of ranges by which groups do less (see `widths`)."""
        ranged = {group: alone[group] for group in self.parts.ranged if group in alone}
        kept, at_once = self.kept / "widths.json", self.context.target.at_once
        return widths(ranged, self.wide, self.given, self.expected, self.context, until, kept, at_once)

    def weights(self, precision: str, names: Sequence[str], until: float) -> dict[str, float]:
        """What each of these does where its weights alone are rounded."""
        record = self.kept / f"harm-{precision.replace(' ', '-')}.json"
        return self._harm(names, lambda groups: self._only(groups, precision, self.prefix), until, record)

    def _harm(
        self,
        names: Sequence[str],
        made: Callable[[Sequence[str]], Step],
        until: float,
        record: Path,
        whole: float = math.inf,
    ) -> dict[str, float]:
        at_once = self.context.target.at_once
        return harm(names, made, self.given, self.expected, self.context, until, record, at_once, whole)

    def _only(self, groups: Sequence[str], precision: str, prefix: Prefix) -> Step:
        return prefix.step({**self.exact, **dict.fromkeys(groups, precision)})


def _worst(parts: Parts, given: Sequence[Batch], expected: Sequence[Batch], kept: Path) -> dict[str, float]:
    if kept.exists():
        known: dict[str, float] = json.loads(kept.read_text())
        return known
    *rounded, exact = parts.precisions  # by which the others are judged
    found = {p: error(parts.step(dict.fromkeys(parts.members, p)), given, expected) for p in rounded} | {exact: 0.0}
    keep(kept, found)
    return found


def _judging(given: Sequence[Batch], answer: Batch, each: float, seconds: float, kept: Path) -> Sequence[Batch]:
    """As many samples as there are room and time for; and as many for every share."""
    if kept.exists():
        count = int(json.loads(kept.read_text()))
    else:
        room = ROOM / sum(array.nbytes for array in (*given[0].values(), *answer.values()))
        count = max(COMPARED, int(min(MOST, room, JUDGING * seconds / each)))
        keep(kept, count)
    return [given[place] for place in _spread(len(given), count)]


def _spread(count: int, most: int) -> np.ndarray[Any, Any]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _few(parts: Parts, count: int, each: float, seconds: float) -> np.ndarray[Any, Any]:
    """Samples to compare by, spread over all of them: those that lie next to each other are often alike."""
    fit = COMPARING * seconds / (2 * len(parts.members) * each)
    return _spread(count, int(max(FEWEST, min(COMPARED, fit))))
