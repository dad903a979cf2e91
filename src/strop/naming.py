"""Naming: what layers are called where a person reads of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

WRAPPED, WHOLE = "module.", "module"  # what PyTorch's names begin with where strop exported them, and the model's own
FORWARD = "forward"  # where what no layer of a PyTorch model computes comes from


def labels(layers: Sequence[tuple[str, str, str]]) -> list[str]:
    """Where each came from, if the model tells, else its name in the file; with what tells apart those of one place.

    Args:
        layers: Of each its name, operator and place.
    """
    places = [FORWARD if place == WHOLE else place.removeprefix(WRAPPED) or name for name, _, place in layers]
    kinds = [f"{place} {kind}" for place, (_, kind, _) in zip(places, layers, strict=True)]
    once, twice = Counter(places), Counter(kinds)
    return [
        place if once[place] == 1 or place == name else kind if twice[kind] == 1 else f"{place} {name}"
        for place, kind, (name, _, _) in zip(places, kinds, layers, strict=True)
    ]
