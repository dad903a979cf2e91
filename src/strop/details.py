"""Details: what slices, churn and fairness come to, in sentences. They speak of plain data, as a manifest holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .slices import SMALLEST_SLICE
from .units import counted, percent, share, spread, stored

NAMED = 10  # slices that a sentence lists
ALIKE = 3  # candidates, likewise


def lines(found: Mapping[str, Any]) -> Iterable[str]:
    """All that is worth a line on a terminal: not every slice, but what stands out."""
    yield from drops(found["worst_drops"])
    yield from flags(found["slices"])
    yield from unjudged(found["slices"])
    yield from (f"churn: {line}" for line in churn(found["churn"]))
    yield from fairness(found["fairness"])


def counts(original: Mapping[str, int], made: Mapping[str, int]) -> list[str]:
    """What became of parameters, operations, trees, leaves, where both are known."""
    known = [name for name in original if original[name] and name in made]
    kept = [f"{name} {_count(made[name])}" for name in known if made[name] == original[name]]
    return [
        f"{name}: {_count(original[name])} became {_count(made[name])}, {made[name] / original[name]:.3g}x"
        for name in known
        if made[name] != original[name]
    ] + ([f"unchanged: {', '.join(kept)}"] if kept else [])


def _count(number: int) -> str:
    return f"{number / 1e6:.3g} M" if number >= 1_000_000 else f"{number:,}"


def called(original: Mapping[str, Any]) -> list[str]:
    """What an original takes as users call it, beside what it takes on the runtime that it is measured on."""
    found = original["called"]
    if found is None:
        return []
    if found["why"]:
        return [f"as called ({found['runtime']}), the original could not be timed: {found['why']}"]
    took, ratio = found["metrics"]["latency.p50"], share(stored(found["ratios"]["latency.p50"]))
    said = f"latency.p50 is {spread(stored(took), took['unit'])}, {ratio} of that on {original['runtime']['name']}"
    return [f"as called ({found['runtime']}), the original's {said}"]


def drops(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The worst drop of each metric."""
    said = []
    for drop in found:
        if drop["value"] is None or drop["value"] <= 0:
            said.append(f"no slice loses in {drop['metric']}")
            continue
        more = ", proven to be more than the whole loses" if drop["flagged"] else ""
        lost = spread(stored(drop), drop["unit"])
        said.append(
            f"worst drop in {drop['metric']}: {lost}, in {drop['slice']} ({counted(drop['n'], 'sample')}){more}"
        )
    return said


def flags(slices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The slices that lose more than the whole does."""
    return [
        f"{name} loses more than the whole in {metric}: {spread(stored(found['original']), found['unit'])} became "
        f"{spread(stored(found['candidate']), found['unit'])}"
        for name, one in slices.items()
        for metric, found in one["metrics"].items()
        if found["flagged"]
    ]


def unjudged(slices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The slices that are too small to judge."""
    small = [f"{name} ({one['n']})" for name, one in slices.items() if one["n"] < SMALLEST_SLICE]
    if not small:
        return []
    return [f"too small to judge, with fewer than {SMALLEST_SLICE} samples: {_listed(small)}"]


def churn(found: Mapping[str, Any] | None) -> list[str]:
    """What share of the predictions changed, and for worse or better."""
    if not found:
        return []
    said = f"{percent(stored(found['changed']))} of the predictions changed"
    if "to_wrong" in found:
        wrong, right = percent(stored(found["to_wrong"])), percent(stored(found["to_right"]))
        said += f"; {wrong} were right and are wrong now, {right} the other way round"
    return [said]


def fairness(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The largest difference of each rate between the values of a protected column, before and after."""
    said = []
    for column, rates in found.items():
        if not rates:
            said.append(f"no fairness between values of {column}: it is told of binary classifiers with labels only")
        for rate, one in rates.items():
            words, gap = rate.replace("_", " "), one["gap"]
            if gap is None:
                said.append(f"{words} between values of {column}: undecidable, fewer than two have the samples")
                continue
            before, after, change = (spread(stored(gap[key]), "") for key in ("original", "candidate", "change"))
            said.append(
                f"{words} between values of {column}: the largest difference was {before}, is {after}; "
                f"changed by {change}"
            )
    return said


def without(found: Sequence[Mapping[str, Any]], objective: str) -> list[str]:
    """What each step gave: the best that was tried without it."""
    said = []
    for one in found:
        if one["candidate"] is None:
            said.append(f"without {one['technique']}: nothing that was tried kept the limits")
            continue
        ratio = share(stored(one["ratio"]))
        said.append(f"without {one['technique']}: {objective} {ratio} of the original's at best, by {one['candidate']}")
    return said


def noise(found: Mapping[str, Any]) -> str:
    """How much the original differs from itself, with its spread, and what of that a gain is held to."""
    ratio = stored(found)
    return (
        f"{found['metric']} of the original against itself is {share(ratio)}. A gain in it counts where its own bounds "
        f"leave out 1x, and it is more than the {abs(ratio.value - 1):.2g} that this is off 1x"
    )


def search(manifest: Mapping[str, Any]) -> str:
    """How much was tried of what was planned, and why no more."""
    found = manifest["search"]
    counts = [
        (found["tried"], "tried"),
        (found["refused"], "refused (a step of it does not fit this model or this machine)"),
        (found["untried"], "not tried (the search ended before)"),
    ]
    said = [f"{count} {what}" for count, what in counts if count]
    more = manifest["candidates"] - found["tried"]
    others = f"; {counted(more, 'more candidate')}: routes of these with other settings" if more > 0 else ""
    return (
        f"the search ended: {found['ended']}. {counted(found['routes'], 'planned route')} (steps in a row, and what "
        f"runs the result): {', '.join(said)}{others}"
    )


def refused(tried: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why candidates were not tried: each reason once, with those that it is true of."""
    reasons: dict[str, list[str]] = {}
    for one in tried:
        if one["cause"] == "refused":
            reasons.setdefault(one["reason"], []).append(one["candidate"])
    return [f"{_listed(names, ALIKE)}: {reason}" for reason, names in reasons.items()]


def _listed(names: Sequence[str], most: int = NAMED) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
