"""Points: all of a space that can be enumerated, and where they lie to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .space import Point, Space

Array = np.ndarray[Any, Any]

MOST = 20_000  # points of a space that are looked through one by one


class Points:
    """By place where there is an order, else by being another.

    Attributes:
        points: In the order of the space.
        number: Of a point, by its key.
        places: [points, dimensions], 0 to 1; of a parameter that a point does not have, the middle.
    """

    def __init__(self, space: Space):
        self.points = list(space)
        self.number = {key(point): number for number, point in enumerate(self.points)}
        self._names = sorted({name for point in self.points for name in point})
        columns = [self._columns(name) for name in self._names]
        self.places = np.concatenate(columns or [np.zeros((len(self.points), 1))], 1)

    def find(self, drawn: Point) -> int | None:
        """The number of what was drawn, which may be more than the space has; None for what is no point of it."""
        return self.number.get(key({name: drawn[name] for name in self._names if name in drawn}))

    def nearest(self, point: Point, among: Array, rng: np.random.Generator) -> int:
        """One of the nearest, of the numbers given."""
        apart = np.abs(self.places[among] - self.places[self.number[key(point)]]).sum(axis=1)
        return int(rng.choice(among[apart == apart.min()]))

    def _columns(self, name: str) -> Array:
        """[points, 1] of numbers and of what is one of two, [points, values] of what is one of several."""
        known = {point[name] for point in self.points if name in point}
        values = [point.get(name) for point in self.points]
        if not any(isinstance(value, str) for value in known):
            low, reach = min(known), max(1e-300, max(known) - min(known))
            return np.array([[0.5 if value is None else (value - low) / reach] for value in values])
        order = sorted(known, key=str)
        if len(order) == 2:
            return np.array([[0.5 if value is None else float(value == order[1])] for value in values])
        return np.array([[0.5 * (value == one) for one in order] for value in values], float)  # two of them are 1 apart


def key(point: Mapping[str, Any]) -> str:
    """One text for one point, which can be read back."""
    return json.dumps(point, sort_keys=True)
