"""A recipe: which type the weights of single layers take in .tflite, by patterns of their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .._plain import told
from ..errors import InvalidPlan, NotApplicable
from ..target import Target
from ._tflite import Source

TYPES = ("float", "int4", "int8")
SHOWN = 5  # names of layers in a message


@dataclass(frozen=True)
class Rule:
    """What one part of a recipe says.

    Attributes:
        spelled: The pattern as the user wrote it.
        pattern: The same, unlike that of any other rule, as the quantizer wants it.
        type: `float`, `int4` or `int8`.
    """

    spelled: str
    pattern: str
    type: str

    def names(self, layers: Sequence[str]) -> list[str]:
        """The layers that it speaks of: in whose names its pattern is found."""
        return [name for name in layers if re.search(self.pattern, name)]


def rules(recipe: str) -> tuple[Rule, ...]:
    """Read `PATTERN=TYPE;PATTERN=TYPE`.

    Raises:
        InvalidPlan: It is not that.
    """
    if not isinstance(recipe, str):
        raise InvalidPlan(f"A recipe must be text, and this is {told(recipe, repr)}. Write 'dense_.*=float'.")
    found = []
    for place, part in enumerate(filter(None, (part.strip() for part in recipe.split(";")))):
        spelled, _, kind = (half.strip() for half in part.rpartition("="))
        pattern = f"(?#{place})(?:{spelled})"
        try:
            if not spelled or kind not in TYPES:
                raise re.error("it names no layers, or no such type")
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidPlan(
                f"A recipe must be PATTERN=TYPE;PATTERN=TYPE with regular expressions and {', '.join(TYPES)}, and "
                f"{told(part, repr)} is not: {told(error)}. Write, for instance, 'dense_.*=float;conv.*=int4'."
            ) from error
        found.append(Rule(spelled, pattern, kind))
    return tuple(found)


def check_rules(recipe: str, source: Source, target: Target) -> None:
    """Hold a recipe to a model and to where it will run.

    Raises:
        NotApplicable: A pattern is in no layer's name, or a type is none that the target computes fast.
    """
    for rule in rules(recipe):
        layers = list(dict.fromkeys(source.scopes if rule.type == "float" else source.layers.values()))
        if not rule.names(layers):
            more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
            raise NotApplicable(
                f"the recipe's {rule.spelled!r} is in the name of no layer that it could make {rule.type}; there are "
                f"{', '.join(told(name, repr) for name in layers[:SHOWN])}{more}"
            )
        if target.mobile and rule.type == "int4":
            raise NotApplicable(f"phones compute fast in int8 and float16, and not in int4, as {rule.spelled!r} has it")


def in_float(recipe: str, source: Source) -> list[str]:
    """The layers with weights that a recipe leaves in float: the last rule that speaks of one counts."""
    last = {name: rule.type for rule in rules(recipe) for name in rule.names(list(source.layers.values()))}
    return [name for name, kind in last.items() if kind == "float"]
