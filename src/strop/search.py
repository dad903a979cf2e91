"""Search: which candidate to try next. Routes at their defaults first, then the settings of those that lead."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from . import metrics
from ._lazy import lazy
from .goal import Goal
from .judge import score
from .plan import Candidate, Route
from .settings import Choice, Domain
from .target import Target
from .trial import Outcome

if TYPE_CHECKING:
    import optuna
    import optuna.storages.journal as optuna_journal
else:
    optuna = lazy("optuna")
    optuna_journal = lazy("optuna.storages.journal")

Core: TypeAlias = tuple[tuple[str, ...], str]

LEADERS = 3  # routes whose settings are searched
REPEATS = 5  # proposals of one route that were tried before, until it counts as exhausted
PATIENCE = 12  # trials of settings in a row without a gain, after which the search ends
GAIN = 0.01  # what counts as one: the noise of a quiet machine
REACH = 0.15  # what lossless steps may gain
UNMEASURED = 1.0
NEAR = 0.1  # a violation up to which other settings, or lossless steps, may mend a route
BROKEN = 1e6  # ranks a candidate that seems to break a limit behind all that seem to keep them
FAR = 1.0  # the violation that stands for a limit that was not measured


class Searcher(Protocol):
    """Says what to try next, and is told what came of it.

    Attributes:
        tried: Every finished candidate and its outcome, in order; those of an earlier session first.
    """

    tried: list[tuple[Candidate, Outcome]]

    def ask(self) -> Proposal | None:
        """The next candidate, or None where nothing is left that is worth a trial."""
        ...

    def tell(self, proposal: Proposal, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Proposal:
    """A candidate to try, and why."""

    candidate: Candidate
    route: Route
    why: str
    trial: Any = field(compare=False, default=None)


class Replay:
    """One candidate and nothing else: a recipe on a retrained model."""

    def __init__(self, candidate: Candidate):
        self.candidate = candidate
        self.tried: list[tuple[Candidate, Outcome]] = []

    def ask(self) -> Proposal | None:
        route = Route(tuple(type(step) for step in self.candidate.steps), type(self.candidate.runtime))
        return None if self.tried else Proposal(self.candidate, route, "the recipe")

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        self.tried.append((proposal.candidate, outcome))


class RouteSearch:
    """Routes at their defaults, most promising first; then the leaders' settings by TPE, limits as constraints.

    One Optuna study a route, all in one journal: what is told is on disk, and a new searcher over the same journal
    goes on from there.

    Args:
        routes: Most promising first.
        journal: The journal's file.
    """

    def __init__(self, routes: Sequence[Route], goal: Goal, target: Target, seed: int, journal: Path):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.routes, self.goal, self.target, self.seed = list(routes), goal, target, seed
        backend = optuna_journal.JournalFileBackend(str(journal))
        self.storage = optuna.storages.JournalStorage(backend)
        self.tried: list[tuple[Candidate, Outcome]] = []
        self._studies: dict[str, optuna.Study] = {}
        self._route_of: dict[str, Route] = {}
        self._exhausted: set[str] = set()
        self._failed: set[str] = set()  # techniques that failed once, refusals aside
        self._put_off: set[Core] = set()  # too slow to measure, or off a limit by more than lossless steps mend
        self._spoiled: set[str] = set()  # defaults of routes that are proven to break a limit on quality
        self._fits: dict[str, Mapping[str, Sequence[Any]]] = {}
        self._since_gain = 0
        self._recall()

    def ask(self) -> Proposal | None:
        seen = {candidate.key for candidate, _ in self.tried}
        fresh = [route for route in self.routes if route.candidate().key not in seen and self._promises(route)]
        if fresh:
            route = min(fresh, key=lambda route: (self._waits(route), self._predict(route)))
            return Proposal(route.candidate(), route, "its defaults")
        if self._since_gain >= PATIENCE:
            return None
        while leaders := self._leaders():
            if proposal := self._vary(leaders[0], seen):
                return proposal
        return None

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        study, trial = self._study(proposal.route), proposal.trial
        if trial is None:  # only now is it known which settings fit, and a study's space can't change later
            self._fits[proposal.route.label] = outcome.fits
            if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):  # left by a kill
                study.enqueue_trial(_defaults(proposal.route, self._space(proposal.route)))
            trial, _ = self._settings(study, proposal.route)
        trial.set_user_attr("candidate", json.dumps(proposal.candidate.to_json()))
        trial.set_user_attr("outcome", json.dumps(outcome.to_json()))
        self._close(study, trial, outcome)
        self._note(proposal.route, proposal.candidate, outcome)

    def _close(self, study: optuna.Study, trial: optuna.trial.Trial, outcome: Outcome) -> None:
        value = score(outcome.report, self.goal)
        if outcome.cause != "done":
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        violations = {judged.limit: judged.violation for judged in outcome.report.judged}
        for limit in map(str, self.goal.limits):
            trial.set_constraint(limit, violations.get(limit, 0.0))
        # where a limit was broken before the objective was measured, TPE sorts by how far it was broken
        study.tell(trial, value if math.isfinite(value) else UNMEASURED)

    def _vary(self, route: Route, seen: set[str]) -> Proposal | None:
        study = self._study(route)
        for _ in range(REPEATS):
            trial, settings = self._settings(study, route)
            candidate = route.candidate(settings)
            if candidate.key not in seen:
                return Proposal(candidate, route, "settings of a route that leads", trial)
            earlier = next(outcome for known, outcome in self.tried if known.key == candidate.key)
            self._close(study, trial, earlier)
        self._exhausted.add(route.label)
        return None

    def _settings(self, study: optuna.Study, route: Route) -> tuple[optuna.trial.Trial, dict[str, Any]]:
        trial = study.ask()
        return trial, {name: _suggest(trial, name, domain) for name, domain in self._space(route).items()}

    def _space(self, route: Route) -> dict[str, Domain]:
        return route.space(self.target, self._fits.get(route.label))

    def _predict(self, route: Route) -> float:
        """What to expect of a route: what was measured of one that differs by lossless steps only, else the prior.

        A limit that was broken there tells nothing here: lossless steps are what mends a size.
        """
        measured = min(self._by_core().get(core(route), [math.inf]))
        return measured if measured < BROKEN else route.expects(self.target)

    def _promises(self, route: Route) -> bool:
        """Whether lossless steps could still bring a route to the front, given what was measured without them."""
        if any(core(self._route_of[key]) == core(route) for key in self._spoiled):
            return False
        measured = self._by_core().get(core(route))
        return not measured or min(measured) < self._best() + REACH * abs(self._best())

    def _waits(self, route: Route) -> bool:
        """Whether others go first: a step of it failed elsewhere, one that quantizes broke a limit on quality, or what
        differs from it by lossless steps only took too long or breaks a limit by far."""
        if core(route) in self._put_off:
            return True
        if any(step.label() in self._failed for step in route.steps):
            return True
        spoilers = {step for key in self._spoiled for step in self._route_of[key].steps if step.quantizes}
        return not spoilers.isdisjoint(route.steps)

    def _by_core(self) -> dict[Core, list[float]]:
        found: dict[Core, list[float]] = {}
        for candidate, outcome in self.tried:
            if outcome.cause == "done":
                found.setdefault(core(self._route_of[candidate.key]), []).append(rank(outcome, self.goal))
        return found

    def _potential(self, route: Route, outcome: Outcome) -> float:
        """What varying a route may come to: what was measured; where a limit is broken by little, what was expected."""
        value = rank(outcome, self.goal)
        near = 0 < sum(judged.violation for judged in outcome.report.judged) < NEAR
        return min(value, route.expects(self.target)) if near else value

    def _leaders(self) -> list[Route]:
        """The routes to vary, one a core: those that promise most, the one with the fewest trials first."""
        best: dict[Core, tuple[float, Route]] = {}
        count: dict[str, int] = {}
        for candidate, outcome in self.tried:
            route = self._route_of[candidate.key]
            count[route.label] = count.get(route.label, 0) + 1
            value = self._potential(route, outcome)
            if outcome.cause == "done" and value < best.get(core(route), (math.inf, route))[0]:
                best[core(route)] = value, route
        leaders = [route for _, route in sorted(best.values(), key=lambda entry: entry[0])][:LEADERS]
        open_routes = [r for r in leaders if r.label not in self._exhausted and self._space(r)]
        return sorted(open_routes, key=lambda route: count[route.label])

    def _study(self, route: Route) -> optuna.Study:
        if route.label not in self._studies:
            sampler = optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=4)
            self._studies[route.label] = optuna.create_study(
                study_name=route.label, storage=self.storage, sampler=sampler, load_if_exists=True
            )
        return self._studies[route.label]

    def _best(self) -> float:
        return min((rank(outcome, self.goal) for _, outcome in self.tried), default=math.inf)

    def _note(self, route: Route, candidate: Candidate, outcome: Outcome) -> None:
        best = self._best()
        self.tried.append((candidate, outcome))
        self._route_of[candidate.key] = route
        if outcome.cause == "timeout" or any(judged.violation > NEAR for judged in outcome.report.broken):
            self._put_off.add(core(route))
        if outcome.blamed and outcome.cause != "refused":
            self._failed.add(outcome.blamed)
        quality = {str(limit) for limit in self.goal.limits if metrics.find(limit.metric).quality}
        if candidate == route.candidate() and any(judged.limit in quality for judged in outcome.report.broken):
            self._spoiled.add(candidate.key)
        improved = self._best() < best - GAIN * abs(best) if math.isfinite(best) else self._best() < best
        if improved:
            self._since_gain = 0
        elif outcome.cause == "done" and candidate != route.candidate():
            self._since_gain += 1

    def _recall(self) -> None:
        """Take up what an earlier search over this journal has finished; what it left unfinished is open again."""
        known = {route.label: route for route in self.routes}
        found = []
        for summary in self.storage.get_all_studies():
            if summary.study_name not in known:
                continue
            study = self._study(known[summary.study_name])
            for trial in study.get_trials(deepcopy=False):
                if "outcome" in trial.user_attrs:
                    candidate = Candidate.of(json.loads(trial.user_attrs["candidate"]))
                    found.append((known[summary.study_name], candidate, trial))
                elif trial.state == optuna.trial.TrialState.RUNNING:
                    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        for route, candidate, trial in sorted(found, key=lambda entry: str(entry[2].datetime_start)):
            outcome = Outcome.of(json.loads(trial.user_attrs["outcome"]))
            if not trial.state.is_finished():
                study = self._study(route)
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if candidate == route.candidate():
                self._fits[route.label] = outcome.fits
            self._note(route, candidate, outcome)


def core(route: Route) -> Core:
    """What decides a route's quality and most of its speed: its runtime, and its steps but the lossless ones."""
    return tuple(step.label() for step in route.steps if not step.lossless), route.runtime.label()


def rank(outcome: Outcome, goal: Goal) -> float:
    """A number to sort candidates by, the best lowest: those that seem to keep every limit come before all others."""
    if outcome.cause != "done":
        return math.inf
    value = score(outcome.report, goal)
    looked_at = {judged.limit for judged in outcome.report.judged}
    unseen = sum(FAR for limit in goal.limits if str(limit) not in looked_at)
    violation = sum(judged.violation for judged in outcome.report.judged) + unseen
    return value if violation == 0 else BROKEN * (1 + violation)


def _defaults(route: Route, space: Mapping[str, Domain]) -> dict[str, Any]:
    parts = {part.label(): part() for part in (*route.steps, route.runtime)}
    return {name: getattr(parts[name.rsplit(".", 1)[0]], name.rsplit(".", 1)[1]) for name in space}


def _suggest(trial: optuna.trial.Trial, name: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.values)
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
