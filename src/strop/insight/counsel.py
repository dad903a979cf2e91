"""Counsel: which techniques fit a model, and how much of a call's time each is expected to take away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .. import techniques
from ..errors import TechniqueError
from ..model import Model
from ..plan import Route, needed, routes
from ..runtime import Runtime
from ..target import Target
from ..technique import Needs, Technique, check
from ..units import quantity
from .split import Found

LEAST_CALL = 0.4e-6
"""Seconds that a call from Python takes at the least: what one of a compiled forest of one leaf does."""

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


def advise(model: Model, runtime: Runtime, target: Target, found: Found) -> list[Advice]:
    """What fits a model, by expected gain: nothing is built, what was measured of the call is weighed by what each
    technique expects.

    Args:
        model: As given.
        runtime: What it is measured on.
        target: Where it will run.
        found: What was measured.
    """
    given = [*_conversions(model, runtime, target, found), *_steps(model, target, found)]
    return sorted(given, key=lambda advice: -advice.gain)


def _conversions(model: Model, runtime: Runtime, target: Target, found: Found) -> Iterator[Advice]:
    """Other ways to run the same model: each chain with the runtime from which most is expected."""
    best: dict[tuple[type[Technique], ...], Route] = {}
    known = _routes(model, target)
    measured = [route for route in known if route.runtime is type(runtime)]
    base = min(measured, key=lambda route: len(route.steps)).expects(target) if measured else 1.0
    for route in known:
        if route not in measured:
            best.setdefault(route.steps, route)
    overhead = _around(found)
    least = min(overhead, LEAST_CALL / found.seconds.value)
    for route in best.values():
        expected = route.expects(target) / base
        what = "time, pre-processing included," if PIPELINE in found.structure.facts else "time in the model itself"
        why = f"Run through {route.runtime.label()}, whose {what} is expected to be {expected:.2g}x"
        if found.overhead and least < overhead:
            why += (
                f"; the {quantity(found.overhead.value, 's')} that {runtime.label()} spends around it may shrink to "
                f"{quantity(least * found.seconds.value, 's')}"
            )
        label = " + ".join(step.label() for step in route.steps) or route.runtime.label()
        yield Advice(label, _gain(least + (1 - overhead) * expected), why)


def _steps(model: Model, target: Target, found: Found) -> Iterator[Advice]:
    """What makes the model itself smaller, in the format it has or in one that holds the same."""
    known = [step for route in _routes(model, target) for step in route.steps]
    formats = {model.format} | {step.returns for step in known if step.lossless}
    inside = 1 - (found.share.value if found.share else 0.0)
    for technique in techniques.all_techniques():
        if technique.returns or technique.mends or technique.gains is not None or not technique.accepts & formats:
            continue
        step = technique()
        try:
            check(step, model, target)
        except TechniqueError:
            continue
        expected = step.expects(target)
        about = (technique.__doc__ or "").split("\n")[0].rstrip(".")
        settings = ", ".join(f"{name} {value}" for name, value in step.settings().items() if name in step.strengths())
        why = f"{about}. Of the {inside:.0%} of a call that the model itself takes, {expected:.2g}x is expected to stay"
        why += f" ({settings})" if settings else ""
        if technique.shrinks and technique.shrinks in model.counts:
            count, amount = model.counts[technique.shrinks], step.settings()["amount"]
            why += f", with {max(1, round(count * (1 - amount))):,} of its {count:,} {technique.shrinks}"
        why += f"; it needs {needed(technique.needs)}" if needed(technique.needs) else ""
        yield Advice(technique.label(), _gain(1 - inside + inside * expected), why)


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
    return 0.0 if found.share is None or PIPELINE in found.structure.facts else found.share.value


def _routes(model: Model, target: Target) -> list[Route]:
    """The routes of converters alone, from which most is expected first."""
    converters = [step for step in techniques.all_techniques() if step.returns and not step.needs & ~Needs.SAMPLES]
    return routes(model, target, Needs.SAMPLES, converters)[0]


def _gain(left: float) -> float:
    return max(0.0, 1 - left)
