"""What a profile says of the operators of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..structure import Layer
from ..units import quantity

UNUSED = "constants that no layer reads"
SHOWN = 8  # kinds of operators that are named


def told(
    layers: Sequence[Layer], kinds: Counter[str], weights: Counter[str], between: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Facts of a graph, and the same in words.

    Args:
        layers: All of them.
        kinds: How many there are of each operator.
        weights: Bytes of weights by their type.
        between: How many layers compute values of which type.
    """
    parameters = sum(layer.parameters for layer in layers)
    operations = sum(layer.operations or 0.0 for layer in layers)
    facts = {
        "operators": dict(kinds.most_common()), "weights": dict(weights.most_common()), "computed": dict(between),
        "parameters": parameters, "operations": round(operations),
    }  # fmt: skip
    named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(SHOWN))
    more = f" and {len(kinds) - SHOWN} other kinds" if len(kinds) > SHOWN else ""
    types = ", ".join(f"{quantity(size, 'bytes')} as {kind}" for kind, size in weights.most_common(4))
    said = {
        "layers": f"{sum(kinds.values()):,}: {named}{more}",
        "weights": f"{parameters:,} numbers, {types}" if types else "none",
        "work": f"{operations:,.0f} multiply-adds for one sample, in matrix products, convolutions and the like",
    }
    return facts, said


def as_whole(names: Sequence[str]) -> list[str]:
    """What to know of layers that hold graphs of their own, as a sentence; none where there are no such layers."""
    if not names:
        return []
    are = "is" if len(names) == 1 else "are"
    return [f"{listed(names)} {are} told of as a whole: what a loop repeats counts once, and of branches all"]


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
