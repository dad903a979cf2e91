"""Plan: every well-typed chain of techniques that ends in a format some installed runtime loads."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from . import formats, runtimes, techniques
from ._lazy import installed
from .burden import UNKNOWN, Burden, of_call, of_structure
from .caution import NONE, Caution
from .errors import NotApplicable, StropError, TechniqueError
from .model import ONNX, OPENVINO, TFLITE, Format, Model
from .runtime import Runtime
from .settings import Choice, Domain, Span
from .spelling import option
from .target import Target
from .technique import Needs, Phase, Technique, Work, check

CARRIED_ON = 2.0  # int8 that a converter carries on lost its quality on 4 of the 6 real models; native int8 comes first
NEEDED = {
    Needs.SAMPLES: "samples, which are not given",
    Needs.LABELS: "labels, which the data do not have",
    Needs.TRAINING: "train data, which are not given ({train})",
    Needs.STUDENT: "a student, which is not given (student, of the training settings)",
}
LAYERED = (ONNX, OPENVINO, TFLITE)
"""The formats whose files tell how much of what there is to compute."""
LARGE = 1 << 28  # bytes of a model from which on that is not read: the order of routes is only worth so much
CONVERSIONS = 3  # converters in one route, at the most


def needed(needs: Needs) -> str:
    """What a user has to give besides the data that every search takes."""
    return " and ".join(NEEDED[need].partition(",")[0] for need in (Needs.TRAINING, Needs.STUDENT) if need in needs)


@dataclass(frozen=True)
class Candidate:
    """A route with all settings fixed, and a runtime with its options."""

    steps: tuple[Technique, ...]
    runtime: Runtime

    def __str__(self) -> str:
        return " + ".join([*map(str, self.steps), str(self.runtime)])

    def to_json(self) -> dict[str, Any]:
        return {
            "route": [
                {"technique": s.label(), "version": s.version, "settings": s.settings()} for s in self.steps
            ],
            "runtime": {"name": self.runtime.label(), "options": self.runtime.settings()},
        }  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        """All of them, and the runtime's options, by `technique.setting`."""
        parts = (*self.steps, self.runtime)
        return {f"{part.label()}.{name}": value for part in parts for name, value in part.settings().items()}

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Self:
        """Make one from plain data.

        Raises:
            InvalidPlan: A technique, runtime or setting that is not known here.
        """
        steps = tuple(techniques.find(step["technique"]).of(step["settings"]) for step in json["route"])
        return cls(steps, runtimes.find(json["runtime"]["name"]).of(json["runtime"]["options"]))

    @cached_property
    def key(self) -> str:
        """A short name for it, the same wherever the same settings are used."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


def served(candidate: Candidate, target: Target) -> tuple[Candidate, str]:
    """A candidate that was found elsewhere, without what this machine can't serve its runtime, and why that is."""
    try:
        candidate.runtime.requires(target)
    except NotApplicable as error:
        kind, options = type(candidate.runtime), candidate.runtime.settings()
        kept = {name: value for name, value in options.items() if _serves(kind, name, value, target)}
        return dataclasses.replace(candidate, runtime=kind.of(kept)), str(error)
    return candidate, ""


@dataclass(frozen=True)
class Route:
    """A well-typed chain of techniques and the runtime at its end; its settings are still free.

    Attributes:
        most: The greatest strength to try of steps that train, where there is little to train with.
        burden: What a call of the model that it starts from goes to, as far as is known.
        options: Of the runtime, where they are not its defaults: those in which it computes in a smaller type.
        ratio: Of latency, that these are expected to bring.
        start: Settings that it begins with where these are not the defaults, by `technique.setting`.
        fixed: Settings that the user has chosen, by `technique.setting`.
        doubts: What the model is likely to lose by its steps, where that is much (`Technique.doubts`).
    """

    steps: tuple[type[Technique], ...]
    runtime: type[Runtime]
    most: float = 1.0
    burden: Burden = UNKNOWN
    options: tuple[tuple[str, Any], ...] = ()
    ratio: float = 1.0
    start: tuple[tuple[str, Any], ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()
    doubts: str = ""

    @cached_property
    def label(self) -> str:
        return " + ".join((*(step.label() for step in self.steps), self.end))

    @cached_property
    def end(self) -> str:
        """The runtime, with the options that are the route's own."""
        return str(self.runtime.of(dict(self.options)))

    @cached_property
    def training(self) -> tuple[type[Technique], ...]:
        """Its steps that train."""
        return tuple(step for step in self.steps if step.needs & Needs.TRAINING)

    @cached_property
    def shrinking(self) -> tuple[type[Technique], ...]:
        """Its steps that train, or have a strength: what is left of the model is for the search to choose."""
        return tuple(step for step in self.steps if step in self.training or step.strengths())

    @cached_property
    def begun(self) -> tuple[Technique, ...]:
        """Its steps with what is fixed, and all else at its default."""
        return self._with(dict(self.fixed))

    @cached_property
    def whole(self) -> Route | None:
        """The same with what its steps may lose a share of in full; None where no step's strength is such a share."""
        steps = tuple(step.whole or step for step in self.steps)
        return self.only(steps) if steps != self.steps else None

    def strengths(self) -> dict[str, Span]:
        """The settings that make it faster and worse, by `technique.setting`, as far as they may go here."""
        fixed = dict(self.fixed)
        return {
            f"{step.label()}.{name}": self._held_back(domain) if step in self.training else domain
            for step in self.steps
            for name, domain in step.strengths().items()
            if f"{step.label()}.{name}" not in fixed
        }

    def _held_back(self, domain: Span) -> Span:
        return dataclasses.replace(domain, high=max(domain.low, min(domain.high, self.most)))

    def first(self) -> dict[str, Any]:
        """The strengths to begin with: the defaults, as far as they may go here."""
        defaults = {f"{step.label()}.{name}": value for step in self.begun for name, value in step.settings().items()}
        return {key: min(defaults[key], domain.high) for key, domain in self.strengths().items()}

    def at_strength(self, strength: float) -> dict[str, Any]:
        """All strengths moved together from what they begin with (0) to their least (-1) or greatest (1) values."""
        found, first = {}, self.first()
        for key, domain in self.strengths().items():
            end = domain.high if strength > 0 else domain.low
            found[key] = _between(first[key], end, abs(strength), domain.log)
        return found

    def strength_of(self, candidate: Candidate) -> float | None:
        """Where a candidate lies between the least (-1) and greatest (1) strength; None if it differs otherwise."""
        found, first, strengths = [], self.first(), self.strengths()
        for step, begun in zip(candidate.steps, self.begun, strict=True):
            for name, value in step.settings().items():
                key = f"{step.label()}.{name}"
                if key not in strengths:
                    if value != getattr(begun, name):
                        return None
                    continue
                end = strengths[key].high if value > first[key] else strengths[key].low
                share = _share(first[key], end, value, strengths[key].log) if value != first[key] else 0.0
                found.append(share if value > first[key] else -share)
        return sum(found) / len(found) if found and candidate.runtime == self.candidate().runtime else None

    def expects(self, target: Target) -> float:
        """The ratio of latency to expect before any is measured: it orders a search and the advice of a profile."""
        return sum(self.left(target).values()) * (CARRIED_ON if self.carries_on else 1.0)

    def left(self, target: Target) -> dict[Work, float]:
        """What is expected to be left of each kind of work, as shares of a call's time before."""
        ratio = self.runtime.expects(target) * self.ratio
        return self.burden.left(self.candidate().steps, target, self.runtime.label(), ratio)

    @property
    def carries_on(self) -> bool:
        """Whether a converter follows on a step that quantizes."""
        return any(
            step.quantizes and any(later.phase == Phase.CONVERT for later in self.steps[place + 1 :])
            for place, step in enumerate(self.steps)
        )

    def only(self, steps: Iterable[type[Technique]], burden: Burden | None = None) -> Self:
        """The same route with fewer steps, perhaps of a model that others have shrunk."""
        return dataclasses.replace(self, steps=tuple(steps), burden=burden or self.burden)

    def space(self, target: Target, fits: Mapping[str, Sequence[Any]] | None = None) -> dict[str, Domain]:
        """The settings to search, by `technique.setting`; values that this machine can't serve are left out.

        Args:
            target: Where the model will run.
            fits: For some settings, the values that the model at hand allows.
        """
        found: dict[str, Domain] = {}
        strengths, fixed = self.strengths(), dict(self.fixed)
        for part in (*self.steps, self.runtime):
            for name, domain in part.space().items():
                if issubclass(part, Runtime) and isinstance(domain, Choice):
                    domain = domain.only(v for v in domain.values if _serves(part, name, v, target))
                key = f"{part.label()}.{name}"
                if key in fixed or (part is self.runtime and name in dict(self.options)):
                    continue
                if isinstance(domain, Choice) and fits and key in fits:
                    domain = domain.only(value for value in domain.values if value in fits[key])
                if not isinstance(domain, Choice) or len(domain.values) > 1:
                    found[key] = strengths.get(key, domain)
        return found

    def candidate(self, settings: Mapping[str, Any] | None = None) -> Candidate:
        """Fix the settings, by `technique.setting`; what is not named begins where its route does."""
        chosen = {**self.first(), **dict(self.start), **(settings or {}), **dict(self.fixed)}
        options = _of_part(chosen, self.runtime)
        return Candidate(self._with(chosen), self.runtime.of({**dict(self.options), **options}))

    def _with(self, chosen: Mapping[str, Any]) -> tuple[Technique, ...]:
        return tuple(step.of(_of_part(chosen, step)) for step in self.steps)


def routes(
    model: Model,
    target: Target,
    have: Needs,
    known: Sequence[type[Technique]] | None = None,
    available: Sequence[type[Runtime]] | None = None,
    asked: Collection[str] = (),
    held: Caution = NONE,
    fixed: Mapping[str, Mapping[str, Any]] | None = None,
    burden: Burden | None = None,
) -> tuple[list[Route], dict[str, str]]:
    """Every well-typed route from a model, the most promising first, and why other things are left out.

    Phases never decrease within a format and start again after a converter; no technique repeats; at most one step
    quantizes, and no two choose the same of a model; what the steps need is covered by the data at hand.

    Args:
        model: What the routes start from.
        target: Formats allowed, threads and batch.
        have: What the data cover.
        known: Techniques to plan with; all by default.
        available: Runtimes to plan with; all by default.
        asked: The metrics that the goal speaks of.
        held: What may be trained, where there is little to train with.
        fixed: Settings that the user has chosen, by technique; what they refuse is left out.
        burden: What a call goes to, where it was measured; else what the file tells.
    """
    fixed = fixed or {}
    refused: dict[str, str] = {}
    usable: list[type[Technique]] = []
    known = techniques.all_techniques() if known is None else known
    reachable = reached(model.format, known)
    for technique in known:
        if not technique.accepts & reachable:
            continue
        if missing := technique.needs & ~have:
            refused[technique.label()] = f"needs {_words(missing)}"
        elif technique.gains is not None and not technique.gains & set(asked):
            metrics = " or ".join(sorted(technique.gains))
            refused[technique.label()] = f"improves {metrics} only, which the goal does not ask for"
        elif reason := _refusal(technique.of(fixed.get(technique.label(), {})), model, target):
            refused[technique.label()] = reason
        else:
            usable.append(technique)
    ends: list[type[Runtime]] = []
    for runtime in runtimes.all_runtimes() if available is None else available:
        if runtime.as_given:
            continue
        if not installed(runtime.module):
            refused[runtime.label()] = f"is not installed; pip install 'strop[{runtime.extra}]' brings it"
        else:
            ends.append(runtime)
    burden = burden or told(model, target)
    doubts = {
        one: one.of(fixed.get(one.label(), {})).doubts(model) if model.format in one.accepts else "" for one in usable
    }
    doubts = {one: said or held.of(one) for one, said in doubts.items()}
    found = [
        route
        for steps, format in _chains(usable, model.format, ())
        if _complete(steps)
        for runtime in ends
        if format in runtime.loads and target.allows(format)
        for route in _in_floats(
            Route(
                steps,
                runtime,
                held.most,
                burden,
                fixed=_flat(fixed, steps),
                doubts=next((doubts[step] for step in steps if doubts.get(step)), ""),
            ),
            target,
        )
    ]
    return sorted(found, key=lambda route: (route.expects(target), len(route.steps))), refused


def told(model: Model, target: Target) -> Burden:
    """What a call of a model goes to, as its file tells."""
    room = next((known for known in formats.all_formats() if known.name == model.format), None)
    if room is None:
        return UNKNOWN
    known = UNKNOWN
    if model.format in LAYERED and model.size <= LARGE:
        with contextlib.suppress(StropError):  # what can't be taken apart here may be run all the same
            known = of_structure(room.structure(model), target)
    return of_call(known, room.operations(model), target)


def _flat(fixed: Mapping[str, Mapping[str, Any]], steps: Iterable[type[Technique]]) -> tuple[tuple[str, Any], ...]:
    """What is fixed of these steps, by `technique.setting`."""
    names = [step.label() for step in steps]
    return tuple((f"{name}.{key}", value) for name in names for key, value in fixed.get(name, {}).items())


def _of_part(chosen: Mapping[str, Any], part: type[Technique | Runtime]) -> dict[str, Any]:
    """What `technique.setting` chooses of one technique or runtime, by setting."""
    named = ((key.rpartition("."), value) for key, value in chosen.items())
    return {name: value for (label, _, name), value in named if label == part.label()}


def _in_floats(route: Route, target: Target) -> list[Route]:
    """The route in float32, and where its runtime has floats of a smaller type, in these.

    After a step that quantizes they are for the little that is left in floats, which loses next to nothing by them: no
    route of its own, but how it begins. One that mixes precisions has said what each layer is computed in.
    """
    known = route.runtime.lower(target)
    if known is None or route.whole:
        return [route]
    options, ratio = known
    if any(step.quantizes for step in route.steps):
        named = {f"{route.runtime.label()}.{name}": value for name, value in options.items()}
        return [dataclasses.replace(route, start=tuple(named.items()))]
    return [route, dataclasses.replace(route, options=tuple(options.items()), ratio=ratio)]


def reached(format: Format, known: Sequence[type[Technique]]) -> set[Format]:
    """The formats that converters lead to, and the one at the beginning."""
    found, size = {format}, 0
    while len(found) > size:
        size = len(found)
        found |= {step.returns for step in known if step.returns and step.accepts & found}
    return found


def _chains(
    usable: Sequence[type[Technique]], format: Format, steps: tuple[type[Technique], ...]
) -> Iterator[tuple[tuple[type[Technique], ...], Format]]:
    yield steps, format
    for place, step in enumerate(usable):
        # within a phase, steps keep the order in which they are registered: n of them would make n! routes
        late = steps and steps[-1].returns is None and steps[-1].phase == step.phase and usable.index(steps[-1]) > place
        if not late and _fits(step, format, steps):
            yield from _chains(usable, step.returns or format, (*steps, step))


def _between(start: float, end: float, share: float, log: bool) -> float:
    """A value so far on the way from one to the other: two decimals of it, or two digits where the scale is log."""
    if log:
        return float(f"{start * (end / start) ** share:.2g}")
    return round(start + share * (end - start), 2)


def _share(start: float, end: float, value: float, log: bool) -> float:
    """How far a value is on the way from one to the other."""
    return math.log(value / start) / math.log(end / start) if log else (value - start) / (end - start)


def _complete(steps: tuple[type[Technique], ...]) -> bool:
    """Whether every step has the company that it is worth nothing without."""
    return all(
        (not step.for_quantizing or any(later.quantizes for later in steps[place + 1 :]))
        and (not step.mends or not all(earlier.lossless for earlier in steps[:place]))
        for place, step in enumerate(steps)
    )


def _fits(step: type[Technique], format: Format, before: tuple[type[Technique], ...]) -> bool:
    if format not in step.accepts or step in before:
        return False
    if step.quantizes and any(other.quantizes for other in before):
        return False
    if step.chooses and any(other.chooses == step.chooses for other in before):
        return False
    if step.returns and sum(1 for other in before if other.returns) >= CONVERSIONS:
        return False
    if step.returns and any(other.whole for other in before):
        return False  # mixed by what layers take and lose in the runtimes of their format
    if before and before[-1].returns and before[-1].phase == Phase.COMPILE:
        return False  # tied to its runtime
    if before and before[-1].simplified and step.phase == Phase.SIMPLIFY:
        return False
    same_format = not before or before[-1].returns is None
    return not before or not same_format or step.phase >= before[-1].phase


def _refusal(technique: Technique, model: Model, target: Target) -> str | None:
    """Why a technique does not fit the model as given; None where it does, or where it starts elsewhere."""
    try:
        if model.format in technique.accepts:
            check(technique, model, target)
        else:
            technique.takes(model.signature)
    except TechniqueError as error:
        return str(error)
    return None


def _serves(runtime: type[Runtime], name: str, value: object, target: Target) -> bool:
    try:
        dataclasses.replace(runtime(), **{name: value}).requires(target)
    except NotApplicable:
        return False
    return True


def _words(needs: Needs) -> str:
    return " and ".join(NEEDED[need].format(train=option("train")) for need in needs)
