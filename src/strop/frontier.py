"""Frontier: the candidates so far that no other one beats in both the objective and quality."""

from __future__ import annotations

from dataclasses import dataclass

from . import metrics
from .trial import Outcome

SHOWN = 4


@dataclass(frozen=True)
class Point:
    """A candidate, by what was measured of it.

    Attributes:
        cost: The objective over the original's; where more is better, the other way round.
        quality: Of the first metric of quality; where less is better, negative.
        said: Both, as they are shown.
    """

    candidate: str
    cost: float
    quality: float
    said: str

    def beats(self, other: Point) -> bool:
        no_worse = self.cost <= other.cost and self.quality >= other.quality
        return no_worse and (self.cost, self.quality) != (other.cost, other.quality)

    def __str__(self) -> str:
        return f"{self.said}: {self.candidate}"


class Frontier:
    """Keeps what is not beaten, the best by the objective first."""

    def __init__(self) -> None:
        self.objective = "latency.p50"
        self.points: list[Point] = []

    def add(self, candidate: str, outcome: Outcome) -> None:
        """Take a candidate in, where both the objective and a metric of quality are known of it."""
        if not (found := self._point(candidate, outcome)) or any(point.beats(found) for point in self.points):
            return
        kept = [point for point in self.points if not found.beats(point)]
        self.points = sorted([*kept, found], key=lambda point: (point.cost, -point.quality))

    def lines(self, leave: str = "") -> list[str]:
        """A line for each, of the first few.

        Args:
            leave: A candidate that is shown elsewhere.
        """
        return [str(point) for point in self.points if point.candidate != leave][:SHOWN]

    def _point(self, candidate: str, outcome: Outcome) -> Point | None:
        figures = outcome.report.figures
        quality = next((name for name in figures if metrics.find(name).quality), None)
        aim = figures.get(metrics.find(self.objective).name)
        if aim is None or quality is None or metrics.find(self.objective).quality:
            return None
        ratio, value = aim.ratio.value, figures[quality].candidate.value
        less = metrics.find(self.objective).better == "lower"
        good = value if metrics.find(quality).better == "higher" else -value
        cost = ratio if less else -ratio
        return Point(candidate, cost, good, f"{ratio:.3g}x {self.objective}, {quality} {value:.4g}")
