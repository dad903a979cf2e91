"""Counsel: which techniques fit a model, and how much of a call's time each is expected to take away."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .. import techniques
from ..burden import UNKNOWN, Burden, kind_of, of_structure
from ..caution import NONE, Caution
from ..errors import StropError, TechniqueError
from ..model import NETWORKS, Model
from ..plan import Route, needed, routes
from ..runtime import Runtime
from ..server import Hosted
from ..target import Target
from ..technique import Needs, Technique, Work, check
from ..units import quantity
from .roofline import Row
from .split import Found

LEAST_CALL = 0.4e-6
"""Seconds that a call from Python takes at the least: what one of a compiled forest of one leaf does."""

TOLD = 0.005
"""A share under this is not told of."""

_MOST = ", the most that so few samples bear"

PIPELINE = "steps"
"""What the structure of an estimator tells, pre-processing and all."""

WORDS = {
    Work.OVERHEAD: "overhead",
    Work.PREPARATION: "what comes before the last step",
    Work.WEIGHTS: "reading weights from memory",
    Work.CONVOLUTIONS: "convolutions",
    Work.PRODUCTS: "matrix products",
    Work.OTHER: "layers without convolutions or matrix products",
    Work.MODEL: "the model itself",
}


@dataclass(frozen=True)
class Advice:
    """What may be done to a model.

    Attributes:
        technique: One, or the chain of them that ends in what a runtime loads.
        gain: The share of a call's time that it is expected to take away by itself; gains of several multiply in what
            they leave.
        why: The figures behind it, and what it needs, as a sentence.
        rest: Of these, the part of a call that most of what is left goes to, in a few words.
    """

    technique: str
    gain: float
    why: str
    rest: str = ""


def advise(model: Model, ready: Hosted, target: Target, found: Found, held: Caution = NONE) -> list[Advice]:
    """What fits a model, by expected gain: nothing is built. Each route is weighed by what was measured of the call as
    a search weighs it by what the file tells (`Route.expects`).

    Args:
        model: As given.
        ready: The model as it is measured, converted where it had to be, and what runs it.
        target: Where it will run.
        found: What was measured.
        held: What may be trained, where there is little to train with.
    """
    known = _routes(model, target)
    burden = replace(burden_of(found, ready.runtime.label(), target), base=_base(known, ready.runtime, target))
    known = [replace(route, burden=burden) for route in known]
    given = [
        *_ways(known, type(ready.runtime), target, found), *_alone(known, burden, model, ready, target, found, held)
    ]  # fmt: skip
    return [advice for _, advice in sorted(given, key=lambda one: one[0])]


def burden_of(found: Found, runtime: str, target: Target) -> Burden:
    """What a call goes to, as it was measured; where no single layers were, the file tells what is not overhead.

    Args:
        found: What was measured.
        runtime: Through which, by name.
        target: Of the call.
    """
    overhead = found.share.value if found.share else 0.0
    # of a call that other work disturbs, the difference to its layers is no overhead
    least = found.overhead.low if found.overhead else 0.0
    if found.rows and PIPELINE in found.structure.facts:
        known = _by_steps(found.rows, least)
    elif found.rows:
        known = _by_rows(found.rows, least)
    else:
        parts = len(found.structure.layers) > 1
        known = (of_structure(found.structure, target) if parts else UNKNOWN).within(overhead)
    return replace(known, least=LEAST_CALL / found.seconds.value, runtime=runtime)


def _by_steps(rows: Sequence[Row], overhead: float) -> Burden:
    """What a pipeline takes between its steps goes where they go, and a step with what it takes to begin."""
    *before, last = (row.seconds for row in rows)
    return Burden.of({Work.PREPARATION: overhead + sum(before), Work.MODEL: last})


def _by_rows(rows: Sequence[Row], overhead: float) -> Burden:
    taken = {**dict.fromkeys(Work, 0.0), Work.OVERHEAD: overhead}
    for row in rows:
        kind = kind_of(row.operator) if row.operations else Work.OTHER
        kind = Work.OVERHEAD if row.bound_by == "overhead" else kind
        reads = row.operations and row.moved and row.bound_by == "memory"
        read = min(1.0, row.bytes / row.moved) if reads else 0.0
        taken[Work.WEIGHTS] += row.seconds * read
        taken[kind] += row.seconds * (1 - read)
    return Burden.of(taken)


def _base(known: Iterable[Route], runtime: Runtime, target: Target) -> float:
    """The ratio that is expected of the model as it was measured, over the reference runtime."""
    measured = (
        route for route in known if route.runtime is type(runtime) and not route.options and not _quantizes(route)
    )
    plain = min(measured, key=lambda route: len(route.steps), default=Route((), type(runtime)))
    return replace(plain, burden=UNKNOWN).expects(target)


def _ways(
    known: Iterable[Route], runtime: type[Runtime], target: Target, found: Found
) -> Iterator[tuple[tuple[bool, float], Advice]]:
    """Other ways to run the same model: each chain with the runtime from which most is expected."""
    best: dict[tuple[type[Technique], ...], Route] = {}
    for route in sorted(known, key=lambda route: (route.expects(target), len(route.steps))):
        carried_on = any(step.quantizes for step in route.steps[:-1])  # which a search tries last, too
        if route.runtime is not runtime and not carried_on:
            best.setdefault(route.steps, route)
    for route in best.values():
        label = " + ".join(step.label() for step in route.steps) or route.end
        losing = [f"{_about(step)}. " for step in route.steps if step.quantizes]
        yield _weighed(label, f"{''.join(losing)}Run through {route.candidate().runtime}", route, target, found)


def _alone(
    known: Iterable[Route], burden: Burden, model: Model, ready: Hosted, target: Target, found: Found, held: Caution
) -> Iterator[tuple[tuple[bool, float], Advice]]:
    """What makes the model itself smaller, in the format it has, was measured in, or in one that holds the same.

    A student is not there yet, so that nothing can be said of its time.
    """
    lossless = {step.returns for route in known for step in route.steps if step.lossless}
    formats = {model.format, ready.model.format} | lossless
    for technique in techniques.all_techniques():
        apart = technique.returns or technique.mends or technique.gains is not None or Needs.STUDENT in technique.needs
        if apart or not technique.accepts & formats:
            continue
        route = Route((technique,), type(ready.runtime), held.most, burden)
        (step,) = route.candidate().steps
        as_run = model.format not in technique.accepts and ready.model.format in technique.accepts
        try:
            check(step, ready.model if as_run else model, target)
            doubts = step.doubts(ready.model if as_run else model)
            route = replace(route, doubts=doubts or held.of(technique))
        except StropError:  # of one for a format in between: it can't be asked about this file
            continue
        about = _about(technique)
        settings = ", ".join(f"{name} {value}" for name, value in step.settings().items() if name in step.strengths())
        about += f" ({settings}{_MOST if step != technique() else ''})" if settings else ""
        if technique.shrinks and technique.shrinks in model.counts:
            count, amount = model.counts[technique.shrinks], step.settings()["amount"]
            about += f", with {max(1, round(count * (1 - amount))):,} of its {count:,} {technique.shrinks}"
        yield _weighed(technique.label(), about, route, target, found)


def _about(technique: type[Technique]) -> str:
    """What it does, in its own words, without a full stop."""
    return (technique.__doc__ or "").split("\n")[0].rstrip(".")


def _weighed(label: str, about: str, route: Route, target: Target, found: Found) -> tuple[tuple[bool, float], Advice]:
    """What to sort a route by, what is doubted last; and the advice that tells what is expected, with its reasons."""
    before, after = route.burden.shares(), route.left(target)
    told = [work for work, share in before.items() if share >= TOLD]
    ratios = {work: after[work] / before[work] for work in told}
    parts = [_part(work, before[work], ratios[work], found.seconds.value) for work in told]
    why = f"{about}. Expected of the parts of a call: {'; '.join(parts)}"
    integers = (step for step in route.steps if step.quantizes and step.accepts & set(NETWORKS))
    if target.int8_saturates and any(step().expects(target) < 1 for step in integers):
        why += "; less than with VNNI"
    lacking = needed(functools.reduce(operator.or_, (step.needs for step in route.steps), Needs.NOTHING))
    why += f"; it needs {lacking}" if lacking else ""
    why += f"; but {route.doubts}" if route.doubts else ""
    left = sum(after.values())
    work = max(told, key=after.__getitem__)
    rest = f"{WORDS[work]}, {before[work]:.0%} of a call, {_times(ratios[work])}"
    return (bool(route.doubts), left), Advice(label, max(0.0, 1 - left), why, rest)


def _part(work: Work, share: float, ratio: float, seconds: float) -> str:
    said = f"{WORDS[work]} ({share:.0%}) {_times(ratio)}"
    if work is Work.OVERHEAD and ratio != 1:
        said += f", which is {quantity(share * ratio * seconds, 's')} for {quantity(share * seconds, 's')}"
    return said


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x as long"


def _quantizes(route: Route) -> bool:
    return any(step.quantizes for step in route.steps)


def unfit(model: Model, target: Target) -> dict[str, str]:
    """The techniques for the model's format that do not fit it, and why."""
    found = {}
    for technique in techniques.all_techniques():
        try:
            if model.format in technique.accepts:
                check(technique(), model, target)
        except TechniqueError as error:
            found[technique.label()] = str(error)
    return found


def _routes(model: Model, target: Target) -> list[Route]:
    """The routes of converters and of what quantizes without training."""
    steps = [
        step for step in techniques.all_techniques()
        if (step.returns or (step.quantizes and model.format in NETWORKS)) and not step.needs & ~Needs.SAMPLES
    ]  # fmt: skip
    return routes(model, target, Needs.SAMPLES, steps, burden=UNKNOWN)[0]
