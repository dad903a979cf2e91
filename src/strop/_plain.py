"""Plain data: dataclasses restored from JSON, every value held against the type of its field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ._lazy import lazy

if TYPE_CHECKING:
    import pydantic
else:
    pydantic = lazy("pydantic")

T = TypeVar("T")

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
