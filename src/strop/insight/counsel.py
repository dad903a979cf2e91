"""Counsel: which techniques fit a model, and how much of a call's time each is expected to take away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .. import techniques
from ..errors import StropError, TechniqueError
from ..model import KERAS, ONNX, OPENVINO, SAVED_MODEL, TFLITE, TORCH, Model
from ..plan import Route, needed, routes
from ..runtime import Runtime
from ..server import Hosted
from ..target import Target
from ..technique import Needs, Technique, check
from ..units import quantity
from .roofline import shares_of
from .split import Found

LEAST_CALL = 0.4e-6
"""Seconds that a call from Python takes at the least: what one of a compiled forest of one leaf does."""

TOLD = 0.005
"""A share under this is not told of."""

CONVERTED = (ONNX, TORCH, KERAS, SAVED_MODEL, OPENVINO, TFLITE)
"""The formats of neural networks, of which another is quantized after it is converted."""

_MOST = ", the most that so few samples bear"

PIPELINE = "steps"
"""What the structure of a model with pre-processing tells."""


@dataclass(frozen=True)
class Advice:
    """What may be done to a model.

    Attributes:
        technique: One, or the chain of them that ends in what a runtime loads.
        gain: The share of a call's time that it is expected to take away by itself; gains of several multiply in what
            they leave.
        why: The figures behind it, and what it needs, as a sentence.
    """

    technique: str
    gain: float
    why: str


def advise(model: Model, ready: Hosted, target: Target, found: Found, most: float = 1.0) -> list[Advice]:
    """What fits a model, by expected gain: nothing is built, what was measured of the call is weighed by what each
    technique expects.

    Args:
        model: As given.
        ready: The model as it is measured, converted where it had to be, and what runs it.
        target: Where it will run.
        found: What was measured.
        most: The greatest strength of what trains, where there is little to train with.
    """
    given = [*_conversions(model, ready.runtime, target, found), *_steps(model, ready.model, target, found, most)]
    return sorted(given, key=lambda advice: -advice.gain)


def _conversions(model: Model, runtime: Runtime, target: Target, found: Found) -> Iterator[Advice]:
    """Other ways to run the same model: each chain with the runtime from which most is expected."""
    known = _routes(model, target)
    as_it_is = [
        replace(route, operations=None) for route in known
        if route.runtime is type(runtime) and not route.options and not _quantizes(route)
    ]  # fmt: skip
    base = min(as_it_is, key=lambda route: len(route.steps)).expects(target) if as_it_is else 1.0
    best: dict[tuple[type[Technique], ...], Route] = {}
    for route in known:
        carried_on = any(step.quantizes for step in route.steps[:-1])  # which a search tries last, too
        if route.runtime is not type(runtime) and not carried_on:
            best.setdefault(route.steps, route)
    overhead = _around(found)
    least = min(overhead, LEAST_CALL / found.seconds.value)
    for route in best.values():
        grown = [step.around for step in route.steps if step.around is not None]
        after = overhead * math.prod(grown) if grown else least
        # what is spent around the model is told by the profile, no longer by how much it computes
        expected = replace(route, operations=None).expects(target, _untouched(found)) / base
        what = "time, pre-processing included," if PIPELINE in found.structure.facts else "time in the model itself"
        why = f"Run through {route.end}, whose {what} is expected to be {expected:.2g}x"
        if overhead >= TOLD and after != overhead:
            before, then = (quantity(share * found.seconds.value, "s") for share in (overhead, after))
            turn = "shrink" if after < overhead else "grow"
            why += f"; the {before} of overhead in {runtime.label()} may {turn} to {then}"
        if _quantizes(route):
            why += _about_int8(target, found)
        label = " + ".join(step.label() for step in route.steps) or route.end
        yield Advice(label, _gain(after + (1 - overhead) * expected), why)


def _steps(model: Model, measured: Model, target: Target, found: Found, most: float) -> Iterator[Advice]:
    """What makes the model itself smaller, in the format it has, was measured in, or in one that holds the same.

    A student is not there yet, so that nothing can be said of its time.
    """
    known = [step for route in _routes(model, target) for step in route.steps]
    formats = {model.format, measured.format} | {step.returns for step in known if step.lossless}
    inside = 1 - (found.share.value if found.share else 0.0)
    for technique in techniques.all_techniques():
        apart = technique.returns or technique.mends or technique.gains is not None or Needs.STUDENT in technique.needs
        if apart or not technique.accepts & formats:
            continue
        step = technique() if Needs.TRAINING not in technique.needs else _held_back(technique(), most)
        try:
            as_run = model.format not in technique.accepts and measured.format in technique.accepts
            asked = measured if as_run else model
            check(step, asked, target)
        except StropError:  # of one for a format in between: it can't be asked about this file
            continue
        reach = step.reaches(asked) if asked.format in technique.accepts else 1.0
        expected = 1 - reach * (1 - step.expects(target))
        if technique.quantizes:
            expected = _untouched(found) + (1 - _untouched(found)) * expected
        about = (technique.__doc__ or "").split("\n")[0].rstrip(".")
        settings = ", ".join(f"{name} {value}" for name, value in step.settings().items() if name in step.strengths())
        why = f"{about}. The model's own part of a call ({inside:.0%}) is expected to take {expected:.2g}x as long"
        why += f" ({settings}{_MOST if step != technique() else ''})" if settings else ""
        if technique.shrinks and technique.shrinks in model.counts:
            count, amount = model.counts[technique.shrinks], step.settings()["amount"]
            why += f", with {max(1, round(count * (1 - amount))):,} of its {count:,} {technique.shrinks}"
        why += _about_int8(target, found) if technique.quantizes else ""
        why += f"; it needs {needed(technique.needs)}" if needed(technique.needs) else ""
        yield Advice(technique.label(), _gain(1 - inside + inside * expected), why)


def _held_back(step: Technique, most: float) -> Technique:
    """The step at its default strengths, or as strong as it may be."""
    strengths = {name: min(step.settings()[name], max(domain.low, most)) for name, domain in step.strengths().items()}
    return step.of({**step.settings(), **strengths})


def _quantizes(route: Route) -> bool:
    return any(step.quantizes for step in route.steps)


def _untouched(found: Found) -> float:
    """The share of the time in the model that goes to no matrix products, convolutions or the like."""
    whole = sum(row.seconds for row in found.rows)
    return sum(row.seconds for row in found.rows if not row.operations) / whole if whole else 0.0


def _about_int8(target: Target, found: Found) -> str:
    said = ""
    if (rest := _untouched(found)) >= TOLD:
        said += (
            f"; {rest:.0%} of it is in layers without matrix products or convolutions, which int8 leaves as they are"
        )
    if target.int8_saturates:
        said += "; this CPU has no instructions for products of 8 bits (VNNI, AMX), so little is gained"
    return said


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


def _around(found: Found) -> float:
    """The share of a call that a converter leaves as it is; what a pipeline spends before its last step is none."""
    if shares := shares_of(found.rows, found.overhead.value if found.overhead else 0.0):
        return shares["overhead"]
    return 0.0 if found.share is None or PIPELINE in found.structure.facts else found.share.value


def _routes(model: Model, target: Target) -> list[Route]:
    """The routes of converters and of what quantizes without training, from which most is expected first."""
    steps = [
        step for step in techniques.all_techniques()
        if (step.returns or (step.quantizes and model.format in CONVERTED)) and not step.needs & ~Needs.SAMPLES
    ]  # fmt: skip
    return routes(model, target, Needs.SAMPLES, steps)[0]


def _gain(left: float) -> float:
    return max(0.0, 1 - left)
