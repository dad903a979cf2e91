"""Forecast: what to expect of a candidate, by what was measured of others with the same steps or runtime."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from . import metrics
from .aiming import aim, spent
from .goal import Goal
from .judge import score
from .plan import Candidate, Route
from .target import Target
from .trial import Outcome

Core: TypeAlias = tuple[tuple[str, ...], str]

MARGIN = 0.1  # by which an estimate may be wrong
BROKEN = 1e6  # ranks a candidate that seems to break a limit behind all that seem to keep them
LEAST_KEPT, MOST_KEPT = 0.1, 2.0  # of a gain that was promised, on a logarithmic scale: the rest is chance
FAR = 1.0  # the violation that stands for a limit that was not measured


class Forecast:
    """What a search has measured, and what that says of what it has not.

    Attributes:
        tried: Every finished candidate and its outcome, in order.
        route_of: By a candidate's key.
    """

    def __init__(self, goal: Goal, target: Target):
        self.goal, self.target = goal, target
        self.tried: list[tuple[Candidate, Outcome]] = []
        self.route_of: dict[str, Route] = {}

    def note(self, route: Route, candidate: Candidate, outcome: Outcome) -> None:
        self.tried.append((candidate, outcome))
        self.route_of[candidate.key] = route

    def predict(self, route: Route) -> float:
        """What to expect of a route: what was measured of one that differs by lossless steps only, else the prior.

        A limit that was broken there tells nothing here: lossless steps are what mends a size.
        """
        if self.knows(route):
            return min(self.by_core()[core(route)])
        return self.estimate(route.candidate(self.learned(route)), route)

    def knows(self, route: Route) -> bool:
        """Whether one that differs by lossless steps only was measured, and seems to keep the limits."""
        return min(self.by_core().get(core(route), [math.inf])) < BROKEN

    def estimate(self, candidate: Candidate, route: Route) -> float:
        """What to expect of a candidate: what its route came to without the steps that shrink, times what they promise.

        What they promise is held to what they kept of it elsewhere. Where a step takes a share of what another loses,
        it is what that one came to, times what is left of its promise.
        """
        if not route.shrinking:
            return self.expected(route)
        if route.whole and (known := self.measured(route.whole)):
            full = sum(
                route.burden.left([step.whole() for step in candidate.steps if step.whole], self.target).values()
            )
            left = self._promised(candidate, route) / full
            return min(known) * left if min(known) > 0 else min(known) / left
        value, kept = self._whole(route), math.pow(self._promised(candidate, route), self._slope())
        return value * kept if value > 0 else value / kept

    def _promised(self, candidate: Candidate, route: Route) -> float:
        """The ratio of latency that the steps that shrink promise together."""
        steps = [step for step in candidate.steps if type(step) in route.shrinking]
        return sum(route.burden.left(steps, self.target).values())

    def _whole(self, route: Route) -> float:
        """What a route came to without the steps that shrink, limits that it broke aside; else what is expected."""
        shrunk = [step for step in route.candidate().steps if type(step) in route.shrinking]
        plain = route.only(
            (step for step in route.steps if step not in route.shrinking), route.burden.after(shrunk, self.target)
        )
        return min(self.measured(plain), default=self.expected(plain))

    def measured(self, route: Route) -> list[float]:
        """The scores of routes that differ from one by lossless steps only, limits that they broke aside."""
        found = (
            score(outcome.report, self.goal) for candidate, outcome in self.tried
            if outcome.cause == "done" and core(self.route_of[candidate.key]) == core(route)
        )  # fmt: skip
        return [one for one in found if math.isfinite(one)]

    def expected(self, route: Route) -> float:
        """What is expected of a route before anything is measured, as a score: of what is maximized, negative."""
        ratio = route.expects(self.target)
        return ratio if self.goal.direction == "minimize" else -1 / ratio

    def _slope(self) -> float:
        """How much of what is promised is kept, on a logarithmic scale: least squares through what was measured."""
        points = []
        for candidate, outcome in self.tried:
            route = self.route_of[candidate.key]
            value = score(outcome.report, self.goal)
            if not route.shrinking or outcome.cause != "done" or not math.isfinite(value):
                continue
            gained = value / self._whole(route)
            if gained > 0:
                points.append(
                    (math.log(self._promised(candidate, route)), math.log(gained if value > 0 else 1 / gained))
                )
        squares = sum(promised**2 for promised, _ in points)
        return min(max(LEAST_KEPT, sum(p * found for p, found in points) / squares), MOST_KEPT) if squares else 1.0

    def worth(self, candidate: Candidate, route: Route) -> bool:
        """Whether it could become the best, by what is told before: nothing is shrunk that could not."""
        if not route.shrinking or metrics.find(self.goal.objective).quality:
            return True
        best = self.best()
        return best == math.inf or self.estimate(candidate, route) < best + MARGIN * abs(best)

    def by_core(self) -> dict[Core, list[float]]:
        found: dict[Core, list[float]] = {}
        for candidate, outcome in self.tried:
            if outcome.cause == "done":
                found.setdefault(core(self.route_of[candidate.key]), []).append(rank(outcome, self.goal))
        return found

    def best(self) -> float:
        return min((rank(outcome, self.goal) for _, outcome in self.tried), default=math.inf)

    def aimed(self, route: Route) -> dict[str, Any]:
        """The share of a loss that the limits bear, by what that loss was in full, and at other shares."""
        whole, strengths = route.whole, route.strengths()
        if whole is None or len(strengths) != 1:
            return {}
        ((key, domain),) = strengths.items()
        full, alike, tried = None, None, {}
        for candidate, outcome in self.tried:
            known = self.route_of[candidate.key]
            if outcome.cause == "done" and losing(known) == losing(whole) and candidate == known.candidate():
                alike = spent(outcome, self.goal)  # through another runtime, as a rule about as much
                full = alike if core(known) == core(whole) else full
            elif outcome.cause == "done" and core(known) == core(route):
                (share,) = (step.settings()[name] for step in candidate.steps for name in step.strengths())
                tried[share] = spent(outcome, self.goal)
        full = alike if full is None else full
        share = None if full is None else aim(tried, full, domain)
        return {} if share is None else {key: share}

    def learned(self, route: Route) -> dict[str, Any]:
        """The settings of the steps that shrink, as they did best so far in other routes that begin with the same; or
        as what they may lose was lost in full."""
        if aimed_at := self.aimed(route):
            return aimed_at
        best: tuple[float, dict[str, Any]] = (math.inf, {})
        for candidate, outcome in self.tried:
            shrinking = self.route_of[candidate.key].shrinking
            value = rank(outcome, self.goal)
            if shrinking and shrinking == route.shrinking[: len(shrinking)] and value < min(best[0], BROKEN):
                best = value, {
                    f"{step.label()}.{name}": setting
                    for step in candidate.steps if type(step) in shrinking
                    for name, setting in step.settings().items()
                }  # fmt: skip
        return best[1]


def core(route: Route) -> Core:
    """What decides a route's quality and most of its speed: its runtime, and its steps but the lossless ones."""
    return tuple(step.label() for step in route.steps if not step.lossless), route.end


def losing(route: Route) -> tuple[str, ...]:
    """Its steps that lose something, wherever it runs."""
    return tuple(step.label() for step in route.steps if not (step.lossless or step.returns))


def rank(outcome: Outcome, goal: Goal) -> float:
    """A number to sort candidates by, the best lowest: those that seem to keep every limit come before all others."""
    if outcome.cause != "done":
        return math.inf
    value = score(outcome.report, goal)
    looked_at = {judged.limit for judged in outcome.report.judged}
    unseen = sum(FAR for limit in goal.limits if str(limit) not in looked_at)
    violation = sum(judged.violation for judged in outcome.report.judged) + unseen
    return value if violation == 0 else BROKEN * (1 + violation)
