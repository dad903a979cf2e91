"""Events: what the engine tells while it works. Reporters and the journal listen; nothing answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Said(Event):
    """Something that a person should know: an assumption made, a warning, what the data can prove."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Measured(Event):
    """The original has been measured.

    Attributes:
        report: The engine's `Report`.
    """

    report: Any


@dataclass(frozen=True)
class Planned(Event):
    """The routes are known.

    Attributes:
        routes: Their labels, in the order in which they will be tried.
        refused: Label to reason, of techniques and runtimes that don't fit.
        objective: The metric to improve.
    """

    routes: tuple[str, ...]
    refused: dict[str, str]
    objective: str = "latency.p50"


@dataclass(frozen=True)
class Trying(Event):
    """A candidate is about to be built and measured."""

    number: int
    candidate: str
    why: str
    seconds_left: float | None


@dataclass(frozen=True)
class Working(Event):
    """A step of the candidate that is being tried takes long, and this is where it is.

    Attributes:
        share: Of the step that is done, 0 to 1.
        words: What it does.
    """

    share: float
    words: str


@dataclass(frozen=True)
class Tried(Event):
    """A candidate is done.

    Attributes:
        outcome: The engine's `Outcome`.
        best: The best candidate so far, as text; None where none keeps the limits yet.
    """

    number: int
    candidate: str
    outcome: Any
    best: str | None


@dataclass(frozen=True)
class Confirming(Event):
    """A finalist goes to the confirm split."""

    candidate: str
    place: int
    finalists: int


@dataclass(frozen=True)
class Confirmed(Event):
    """A finalist has been measured on the confirm split.

    Attributes:
        verdict: `met`, `broken` or `inconclusive`; `no better` where it keeps the limits and gains nothing.
        why: The limits that are not met, with the samples that would decide an open one; empty where all are.
    """

    candidate: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Stopped(Event):
    """The search ended early, and why."""

    reason: str


Listener: TypeAlias = Callable[[Event], None]
