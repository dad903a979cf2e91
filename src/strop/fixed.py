"""Fixed: settings of techniques that the user has chosen, so that no search varies them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from . import techniques
from ._plain import told
from .errors import InvalidPlan
from .model import Format
from .plan import reached
from .technique import Technique

Fixed: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By technique and setting."""


def fixed(given: object) -> dict[str, dict[str, Any]]:
    """What a user fixes, each value held to what its setting may be.

    Raises:
        InvalidPlan: It names no technique, no setting of it, or a value that the setting can't take.
    """
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise InvalidPlan(
            f"settings must be given by technique, not {told(given, repr)}. Write, for instance, "
            "{'tflite-int8': {'integer_ends': True}}."
        )
    return {name: _of(techniques.find(name), settings) for name, settings in given.items()}


def spelled(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The same of texts like `TECHNIQUE.SETTING=VALUE`.

    Raises:
        InvalidPlan: As for `fixed`, or a text is not like that.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name, dot, setting = key.strip().rpartition(".")
        if not equals or not dot:
            raise InvalidPlan(
                f"--set must be TECHNIQUE.SETTING=VALUE, not {told(text, repr)}. Write, for instance, "
                "--set tflite-int8.integer_ends=true."
            )
        found.setdefault(name, {})[setting] = _read(techniques.find(name), setting, value.strip())
    return fixed(found)


def texts(settings: Fixed) -> list[str]:
    """What `spelled` reads."""
    return [
        f"{name}.{setting}={str(value).lower() if isinstance(value, bool) else value}"
        for name, chosen in settings.items()
        for setting, value in chosen.items()
    ]


def begun(step: Technique, fixed: Fixed) -> bool:
    """Whether a step has what is fixed of it and all else at its default, however strong it is."""
    first = type(step).of(fixed.get(step.label(), {}))
    return dataclasses.replace(step, **{name: getattr(first, name) for name in step.strengths()}) == first


def check_reached(settings: Fixed, format: Format) -> None:
    """Refuse settings of techniques that no route from a model comes to.

    Raises:
        InvalidPlan: There is such a one.
    """
    formats = reached(format, techniques.all_techniques())
    for name in settings:
        if not techniques.find(name).accepts & formats:
            raise InvalidPlan(
                f"settings are of techniques that come into question, and {name} takes nothing that a model in "
                f"{format} is converted to. Leave them out; strop techniques MODEL lists what fits."
            )


def _of(technique: type[Technique], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Its settings, a whole number where a fraction is wanted made one."""
    defaults = technique().settings()
    made = {
        name: float(value) if type(value) is int and isinstance(defaults.get(name), float) else value
        for name, value in settings.items()
    }
    technique.of(made)
    return made


def _read(technique: type[Technique], setting: str, text: str) -> object:
    """A value as its setting's type spells it; what is none of that type stays text, for it to be refused."""
    kind = type(technique().settings().get(setting, ""))
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    try:
        return kind(text)
    except ValueError:
        return text
