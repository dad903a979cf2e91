"""Settings: typed dataclass fields that are at once defaults, search space and JSON."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

from ._plain import told
from .errors import InvalidPlan

T = TypeVar("T", bound="str | int | float | bool")


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        faster: The one that makes a model faster than the default does, and worse; None where none is known to.
    """

    values: tuple[Any, ...]
    faster: Any = None

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(known) and value == known for known in self.values)

    def only(self, values: Iterable[Any]) -> Self:
        """The same with fewer values."""
        kept = tuple(values)
        return dataclasses.replace(self, values=kept, faster=self.faster if self.faster in kept else None)

    def __str__(self) -> str:
        return " or ".join(map(repr, self.values))


@dataclass(frozen=True)
class Span:
    """A number between two bounds, both included; integral where both bounds are.

    Attributes:
        strength: Whether more of it makes a model faster or smaller, and worse: then it need not be searched blindly.
    """

    low: float
    high: float
    log: bool = False
    strength: bool = False

    def __contains__(self, value: object) -> bool:
        integral = isinstance(self.low, int) and isinstance(self.high, int)
        fits = isinstance(value, int if integral else (int, float)) and not isinstance(value, bool)
        return fits and self.low <= value <= self.high  # type: ignore[operator]

    def __str__(self) -> str:
        whole = "whole " if isinstance(self.low, int) and isinstance(self.high, int) else ""
        return f"a {whole}number from {self.low} to {self.high}"


Domain: TypeAlias = Choice | Span

_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def choice(default: T, *others: T, faster: T | None = None) -> T:
    """A setting with a default and the other values that a search may try, one of which may be known to be faster."""
    domain = Choice((default, *others), faster)
    field: Any = dataclasses.field(default=default, metadata={"domain": domain})
    return field  # type: ignore[no-any-return]


def span(default: T, low: T, high: T, *, log: bool = False, strength: bool = False) -> T:
    """A number with a default and the bounds, both included, within which a search may choose."""
    domain = Span(low, high, log, strength)  # type: ignore[arg-type]
    field: Any = dataclasses.field(default=default, metadata={"domain": domain})
    return field  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Settings:
    """Base of techniques and runtimes: a frozen dataclass whose fields are the settings."""

    version: ClassVar[int] = 1
    """Raised whenever the same settings would give another result, so that old artifacts aren't reused."""

    @classmethod
    @functools.cache
    def label(cls) -> str:
        """The class's name as people write it: `StaticInt8` is `static-int8`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def space(cls) -> dict[str, Domain]:
        """The settings that a search may vary, with what it may choose for each."""
        return {f.name: f.metadata["domain"] for f in dataclasses.fields(cls) if "domain" in f.metadata}

    @classmethod
    def strengths(cls) -> dict[str, Span]:
        """Those of them that make a model faster or smaller, and worse, the more there is of them."""
        return {name: domain for name, domain in cls.space().items() if isinstance(domain, Span) and domain.strength}

    def settings(self) -> dict[str, Any]:
        """The settings as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Make one from JSON-able values.

        Raises:
            InvalidPlan: A name that is no setting, a value outside its domain, or of another type than the default.
        """
        known, domains = {f.name: f.default for f in dataclasses.fields(cls)}, cls.space()
        if unknown := set(settings) - set(known):
            raise InvalidPlan(
                f"{cls.label()} has no setting {sorted(unknown, key=str)}. "
                + (f"Its settings: {', '.join(sorted(known))}." if known else "It has none at all.")
            )
        for name, value in settings.items():
            domain, kind = domains.get(name), type(known[name])
            if value not in domain if domain else type(value) is not kind and kind in _TYPES:
                raise InvalidPlan(
                    f"{cls.label()}.{name} must be {domain or _TYPES[kind]}, not {told(value, repr)}. What else can be "
                    "set is listed by strop techniques."
                )
        return cls(**settings)

    def __str__(self) -> str:
        default = type(self)()
        changed = [f"{k}={v}" for k, v in self.settings().items() if v != getattr(default, k)]
        return self.label() + (f"({', '.join(changed)})" if changed else "")
