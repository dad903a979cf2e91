"""Plain data: dataclasses restored from JSON, every value held against the type of its field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ._lazy import lazy
from .errors import InvalidPlan

if TYPE_CHECKING:
    import pydantic
else:
    pydantic = lazy("pydantic")

T = TypeVar("T")

LONGEST = 300  # characters that a message has for a value: some libraries tell all they know

_ADAPTERS: dict[Any, pydantic.TypeAdapter[Any]] = {}


def restore(kind: type[T], plain: Any) -> T:
    """Make a dataclass, and those within it, of what `json.loads` gave.

    Raises:
        ValueError: A value is missing, or none of its field's type.
    """
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = pydantic.TypeAdapter(kind)
    try:
        made: T = _ADAPTERS[kind].validate_python(plain)
    except pydantic.ValidationError as error:  # which lists all that is wrong, with addresses: the first is enough
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))) from None
    return made


def told(value: object, spell: Callable[[object], str] = str) -> str:
    """A value of the user's own as text within a sentence, also where its own `__str__` or `__repr__` fails."""
    try:
        words = spell(value).split()
    except Exception:
        return f"a {type(value).__name__} that can't be shown"
    text = " ".join(words).rstrip(".") or type(value).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def given(kind: type[T], value: object, name: str) -> T:
    """An argument that has a class of its own; its default where there is none.

    Raises:
        InvalidPlan: It is something else.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        own = kind.__name__
        raise InvalidPlan(f"{name} must be a strop.{own}, not {told(value, repr)}. Write {name}=strop.{own}(...).")
    return value


def texts(value: object, name: str) -> tuple[str, ...]:
    """An argument that is one text, or several.

    Raises:
        InvalidPlan: It is something else.
    """
    found = (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if not all(isinstance(text, str) for text in found):
        raise InvalidPlan(f'{name} must be text, or several in a list, not {told(value, repr)}. Write {name}=["NAME"].')
    return found
