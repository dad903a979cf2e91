"""Search: which candidate to try next. Routes at their defaults first, then the settings of those that lead."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from . import metrics
from ._lazy import lazy
from .aiming import AIM, spent
from .forecast import BROKEN, Core, Forecast, core, losing, rank
from .goal import Goal
from .journal import restored, told
from .judge import Judged, score
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

LEADERS = 3  # routes whose settings are searched
REPEATS = 5  # proposals of one route that were tried before, until it counts as exhausted
PATIENCE = 12  # trials of settings in a row without a gain, after which the search ends
GAIN = 0.01  # what counts as one: the noise of a quiet machine
REACH = 0.15  # what lossless steps may gain
AGAIN = 0.5  # of what was measured, by which others may promise less than its lossless variants and come first
UNMEASURED = 1.0
MOST = 0.5  # an expected ratio, under which a route that loses nothing is tried first
FREE = 2  # routes without training to measure, before any is spent: there must be something to compare with
LITTLE = 0.1  # of what a limit allows, by the bound: what lost no more is proven as good as surely
MENDINGS = 3  # weaker settings in a row, for a route that trains and broke a limit
NARROW = 0.15  # between two strengths, -1 to 1, under which no third is tried
NEAR = 0.1  # a violation up to which other settings, or lossless steps, may mend a route


class Searcher(Protocol):
    """Says what to try next, and is told what came of it.

    Attributes:
        exhausted: What is said where `ask` has no more.
        tried: Every finished candidate and its outcome, in order; those of an earlier session first.
    """

    exhausted: ClassVar[str]
    tried: list[tuple[Candidate, Outcome]]

    def ask(self) -> Proposal | None:
        """The next candidate, or None where nothing is left that is worth a trial."""
        ...

    def tell(self, proposal: Proposal, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Proposal:
    """A candidate to try, and why.

    Attributes:
        settings: By `technique.setting`, where they are not all defaults.
        trial: Optuna's, where it proposed it.
    """

    candidate: Candidate
    route: Route
    why: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    trial: Any = field(compare=False, default=None)


class Replay:
    """One candidate and nothing else: a recipe on a retrained model."""

    exhausted: ClassVar[str] = "the recipe was replayed"

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

    exhausted: ClassVar[str] = "nothing is left that promises more"

    def __init__(self, routes: Sequence[Route], goal: Goal, target: Target, seed: int, journal: Path):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.routes, self.goal, self.target, self.seed = list(routes), goal, target, seed
        backend = optuna_journal.JournalFileBackend(str(journal))
        self.storage = optuna.storages.JournalStorage(backend)
        self.forecast = Forecast(goal, target)
        self.tried = self.forecast.tried
        self._studies: dict[str, optuna.Study] = {}
        self._exhausted: set[str] = set()
        self._failed: set[str] = set()  # techniques that failed once, refusals aside
        self._mixed: dict[Core, str] = {}  # where a mix was found, or none: by what it differs by lossless steps only
        self._put_off: set[Core] = set()  # too slow to measure, or off a limit by more than lossless steps mend
        self._spoiled: set[str] = set()  # defaults of routes that are proven to break a limit on quality
        self._fits: dict[str, Mapping[str, Sequence[Any]]] = {}
        self._begun: set[str] = set()
        self._since_gain = 0
        self._recall()

    def ask(self) -> Proposal | None:
        seen = {candidate.key for candidate, _ in self.tried}
        if mending := self._mend(seen):
            return mending
        fresh = [route for route in self.routes if route.label not in self._begun and self._promises(route)]
        stronger, safer = self._strengthen(seen), self._secure(seen)
        if (stronger or safer) and (sure := self._surest(fresh)):
            return sure
        if safer and not any(self._expect(route) < self.forecast.best() for route in fresh):
            return safer
        if fresh:
            route = min(fresh, key=self._order)
            if stronger and self.forecast.estimate(stronger.candidate, stronger.route) < self._expect(route):
                return stronger
            if self.forecast.best() < self._expect(route) and (faster := self._hasten(seen)):
                return faster
            settings = self.forecast.learned(route)
            why = "its defaults" if not settings else "what was trained for another route"
            why = "as much as the limits bear" if settings and route.whole else why
            return Proposal(route.candidate(settings), route, why, settings)
        if faster := self._hasten(seen):
            return faster
        if self._since_gain >= PATIENCE:
            return None
        while leaders := self._leaders():
            if proposal := self._vary(leaders[0], seen):
                return proposal
        return None

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        study, trial = self._study(proposal.route), proposal.trial
        if trial is None:  # only now is it known which settings fit, and a study's space can't change later
            self._fits.setdefault(proposal.route.label, outcome.fits)
            if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):  # left by a kill
                space = self._space(proposal.route)
                chosen = {name: value for name, value in proposal.settings.items() if name in space}
                study.enqueue_trial({**_defaults(proposal.route, space), **chosen})
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

    def _mend(self, seen: set[str]) -> Proposal | None:
        """A weaker setting for the route tried last, where none of its settings has kept the limits on quality."""
        route = self.forecast.route_of[self.tried[-1][0].key] if self.tried else None
        tried = self._strengths_tried(route) if route else []
        if route is None or not tried or len(tried) > MENDINGS or any(kept for _, kept in tried):
            return None
        return self._bisect(route, seen, tried)

    def _strengthen(self, seen: set[str]) -> Proposal | None:
        """A stronger setting for the best candidate so far, where it has one that keeps the limits on quality."""
        best = self._best()
        route = self.forecast.route_of[best[0].key] if best else None
        tried = self._strengths_tried(route) if route else []
        if route is None or not any(kept for _, kept in tried):
            return None
        return self._bisect(route, seen, tried)

    def _hasten(self, seen: set[str]) -> Proposal | None:
        """The best so far, or what the best is a mix of, with a setting that is known to be faster and worse, where
        that makes little use of what the limits allow."""
        best = self._best() if metrics.find(self.goal.objective).scenario else None  # a faster one is no smaller
        whole = self.forecast.route_of[best[0].key].whole if best else None
        best = self._best(core(whole)) if whole else best
        if best is None or spent(best[1], self.goal) >= AIM:
            return None
        route = self.forecast.route_of[best[0].key]
        known = best[0].settings
        for key, domain in self._space(route).items():
            if isinstance(domain, Choice) and domain.faster is not None:
                settings = {**known, key: domain.faster}
                candidate = route.candidate(settings)
                if candidate.key not in seen:
                    return Proposal(candidate, route, "faster, as the limits leave room", settings)
        return None

    def _best(self, among: Core | None = None) -> tuple[Candidate, Outcome] | None:
        """What ranks first, of all or of one core."""
        done = [
            (rank(outcome, self.goal), candidate.key, (candidate, outcome)) for candidate, outcome in self.tried
            if outcome.cause == "done" and among in (None, core(self.forecast.route_of[candidate.key]))
        ]  # fmt: skip
        return min(done, key=lambda one: one[:2])[2] if done else None

    def _secure(self, seen: set[str]) -> Proposal | None:
        """A mix of what is best so far, where that keeps the limits on quality by a point estimate only, and so may not
        be proven; until there is one that keeps them by its bounds."""
        best = self._best()
        if best is None or rank(best[1], self.goal) >= BROKEN or spent(best[1], self.goal) <= 1:
            return None
        leader = self.forecast.route_of[best[0].key]
        wanted = core(leader.whole or leader)
        mixes = [r for r in self.routes if r.whole and core(r.whole) == wanted and not self._waits(r)]
        tried = [o for c, o in self.tried if core(self.forecast.route_of[c.key]) in map(core, mixes)]
        safe = any(rank(o, self.goal) < BROKEN and spent(o, self.goal) <= 1 for o in tried)
        if not mixes or safe or len(tried) > MENDINGS:
            return None
        route = min((r for r in mixes if r.label in self._begun), default=min(mixes, key=self._order), key=self._order)
        settings = self.forecast.aimed(route)
        candidate = route.candidate(settings)
        fits = settings and candidate.key not in seen
        return Proposal(candidate, route, "what is best so far may not be proven", settings) if fits else None

    def _surest(self, fresh: Sequence[Route]) -> Proposal | None:
        """What loses nothing, where all that was tried loses something of what a limit allows: before more of the same
        is tried. Of outputs that are letters, no number of samples that there is may prove a loss to be small."""
        tried = (o for _, o in self.tried if rank(o, self.goal) < BROKEN)
        exact = [route for route in fresh if not (losing(route) or route.options or self._waits(route))]
        if not exact or any(spent(outcome, self.goal) < LITTLE for outcome in tried):
            return None
        route = min(exact, key=self._order)
        gains = self._expect(route) < (1.0 if self.goal.direction == "minimize" else -1.0)
        return Proposal(route.candidate(), route, "it loses nothing", {}) if gains else None

    def _strengths_tried(self, route: Route) -> list[tuple[float, bool]]:
        """Of a route, all settings but the strengths at their defaults: how strong, and whether quality was kept."""
        found = []
        for candidate, outcome in self.tried:
            if self.forecast.route_of[candidate.key].label == route.label and outcome.cause == "done":
                strength = route.strength_of(candidate)
                if strength is not None:
                    lost = any(judged.violation > 0 for judged in self._on_quality(outcome.report.judged))
                    found.append((strength, not lost))
        return found

    def _on_quality(self, found: Sequence[Judged]) -> list[Judged]:
        limits = {str(limit) for limit in self.goal.limits if metrics.find(limit.metric).quality}
        return [judged for judged in found if judged.limit in limits]

    def _bisect(self, route: Route, seen: set[str], tried: Sequence[tuple[float, bool]]) -> Proposal | None:
        """Halfway between the strongest setting that keeps the quality asked for and the weakest that does not; of a
        share of a loss, what the losses so far say."""
        if route.whole:
            settings = self.forecast.aimed(route)
            candidate = route.candidate(settings)
            fits = settings and candidate.key not in seen and self.forecast.worth(candidate, route)
            return Proposal(candidate, route, "as much as the limits bear", settings) if fits else None
        low = max((strength for strength, kept in tried if kept), default=-1.0)
        high = min((strength for strength, kept in tried if not kept), default=1.0)
        middle = (low + high) / 2
        settings = route.at_strength(middle)
        candidate = route.candidate(settings)
        if high - low < NARROW or candidate.key in seen or not self.forecast.worth(candidate, route):
            return None
        return Proposal(candidate, route, "as strong as the limits bear", settings)

    def _order(self, route: Route) -> tuple[bool, bool, bool, int, float]:
        """Sorts routes: what shrinks twice comes after what shrinks once, for it is built on that."""
        later = self._waits(route), self._too_early(route), self._risky(route)
        return *later, max(1, len(route.shrinking)), self._expect(route)

    def _expect(self, route: Route) -> float:
        """What to expect of a route, to sort it by: one that differs by lossless steps only from what was measured
        comes after what promises a little less, for it is no news; nor is a mix that may lose all that int8 did."""
        expected, whole = self.forecast.predict(route), route.whole
        known = bool(self.forecast.measured(route)) or bool(
            whole and self.forecast.knows(whole) and self._loses_all(route)
        )
        return expected + AGAIN * abs(expected) if known else expected

    def _loses_all(self, route: Route) -> bool:
        aimed, strengths = self.forecast.aimed(route), route.strengths()
        return bool(aimed) and all(value >= strengths[key].high for key, value in aimed.items())

    def _risky(self, route: Route) -> bool:
        """Whether it loses something while there is nothing to hand over, and what loses nothing was not tried, though
        it promises most of what there is, or others have broken a limit on quality."""
        if not losing(route) or self.forecast.best() < BROKEN:
            return False
        if any(o.cause == "done" and not losing(self.forecast.route_of[c.key]) for c, o in self.tried):
            return False
        return bool(self._spoiled) or any(r.expects(self.target) < MOST for r in self.routes if not losing(r))

    def _too_early(self, route: Route) -> bool:
        """Whether it trains, and there is nothing yet to compare it with; or mixes precisions, which takes long to find
        out, and there is nothing yet to hand over, or what loses all of it was not tried, by which a share is aimed."""
        if route.whole:
            if self._is_open(core(route.whole)):
                return True
            cheap = (r for r in self.routes if not (r.whole or r.training) and r.label not in self._begun)
            return self.forecast.best() >= BROKEN and any(self._promises(r) for r in cheap)
        free = sum(o.cause == "done" and not self.forecast.route_of[c.key].training for c, o in self.tried)
        left = (r for r in self.routes if not r.training and r.label not in self._begun)
        return bool(route.training) and free < FREE and any(self._promises(r) for r in left)

    def _is_open(self, wanted: Core) -> bool:
        """Whether there are routes of that core, and it is not known yet what becomes of one."""
        known = wanted in self.forecast.by_core() or wanted in self._put_off
        return not known and any(core(r) == wanted and r.label not in self._begun for r in self.routes)

    def _vary(self, route: Route, seen: set[str]) -> Proposal | None:
        tried = self._strengths_tried(route) if route.shrinking else []
        if tried and (proposal := self._bisect(route, seen, tried)):
            return proposal
        study = self._study(route)
        for _ in range(REPEATS):
            trial, settings = self._settings(study, route)
            candidate = route.candidate(settings)
            if candidate.key not in seen and not self.forecast.worth(candidate, route):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            if candidate.key not in seen:
                return Proposal(candidate, route, "settings of a route that leads", trial=trial)
            earlier = next(outcome for known, outcome in self.tried if known.key == candidate.key)
            self._close(study, trial, earlier)
        self._exhausted.add(route.label)
        return None

    def _settings(self, study: optuna.Study, route: Route) -> tuple[optuna.trial.Trial, dict[str, Any]]:
        trial = study.ask()
        return trial, {name: _suggest(trial, name, domain) for name, domain in self._space(route).items()}

    def _space(self, route: Route) -> dict[str, Domain]:
        return route.space(self.target, self._fits.get(route.label))

    def _promises(self, route: Route) -> bool:
        """Whether lossless steps could still bring a route to the front, given what was measured without them; not such
        as come before a mix, for another one takes long to make, and is the same."""
        if self._mixed.get(core(route), route.label) != route.label:
            return False
        measured = self.forecast.by_core().get(core(route))
        kept = min(measured or [BROKEN]) < BROKEN  # as what trains may, when it is weaker
        if not kept and self._spoils(route):
            return False
        if not self.forecast.worth(route.candidate(self.forecast.learned(route)), route) or not self._mends(route):
            return False
        return not measured or min(measured) < self.forecast.best() + REACH * abs(self.forecast.best())

    def _mends(self, route: Route) -> bool:
        """Whether what prepares for int8 has something to mend: without it, the route broke a limit on quality."""
        plain = route.only(step for step in route.steps if not step.for_quantizing)
        return plain.steps == route.steps or self._spoils(plain)

    def _spoils(self, route: Route) -> bool:
        """Whether its defaults, or those of one that differs by lossless steps only, break a limit on quality."""
        return any(core(self.forecast.route_of[key]) == core(route) for key in self._spoiled)

    def _waits(self, route: Route) -> bool:
        """Whether others go first: such models are known to lose much by it, a step of it failed elsewhere, one that
        quantizes, or a gentler one than it, broke a limit on quality, or what differs from it by lossless steps only
        took too long or breaks a limit by far."""
        if route.doubts or core(route) in self._put_off:
            return True
        if any(step.label() in self._failed for step in route.steps):
            return True
        broken = [self.forecast.route_of[key] for key in self._spoiled]
        spoilers = {step for other in broken if not other.training for step in other.steps if step.quantizes}
        prepared = any(step.for_quantizing for step in route.steps)
        return not prepared and not spoilers.isdisjoint([*route.steps, *(step.gentler for step in route.steps)])

    def _potential(self, route: Route, outcome: Outcome) -> float:
        """What varying a route may come to: what was measured; where a limit is broken by little, what was expected."""
        value = rank(outcome, self.goal)
        violation = sum(judged.violation for judged in outcome.report.judged)
        near = 0 < violation < NEAR or (violation > 0 and bool(route.shrinking))  # what is weaker will break less
        return min(value, self.forecast.expected(route)) if near else value

    def _leaders(self) -> list[Route]:
        """The routes to vary, one a core: those that promise most, the one with the fewest trials first."""
        best: dict[Core, tuple[float, Route]] = {}
        count: dict[str, int] = {}
        for candidate, outcome in self.tried:
            route = self.forecast.route_of[candidate.key]
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

    def _note(self, route: Route, candidate: Candidate, outcome: Outcome) -> None:
        best = self.forecast.best()
        self.forecast.note(route, candidate, outcome)
        self._begun.add(route.label)
        if outcome.cause == "timeout" or any(judged.violation > NEAR for judged in outcome.report.broken):
            self._put_off.add(core(route))
        mixes = [step.label() for step in route.steps if step.whole]
        if mixes and (outcome.cause == "done" or outcome.blamed in mixes):
            self._mixed.setdefault(core(route), route.label)
        if outcome.blamed and outcome.cause != "refused":
            self._failed.add(outcome.blamed)
        if candidate == route.candidate() and self._on_quality(outcome.report.broken):
            self._spoiled.add(candidate.key)
        if self.forecast.best() < (best - GAIN * abs(best) if math.isfinite(best) else best):
            self._since_gain = 0
        elif outcome.cause == "done" and candidate != route.candidate():
            self._since_gain += 1

    def _recall(self) -> None:
        """Take up what an earlier search over this journal has finished; what it left unfinished is open again."""
        known = {route.label: route for route in self.routes}
        for summary in self.storage.get_all_studies():
            if summary.study_name in known:
                study = self._study(known[summary.study_name])
                for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        for label, trial in told(self.storage):
            if label in known:
                candidate, outcome = restored(trial)
                self._fits.setdefault(label, outcome.fits)  # of its first trial, as when it was told
                self._note(known[label], candidate, outcome)


def _defaults(route: Route, space: Mapping[str, Domain]) -> dict[str, Any]:
    first = route.candidate()
    parts = {part.label(): part for part in (*first.steps, first.runtime)}
    return {name: getattr(parts[name.rsplit(".", 1)[0]], name.rsplit(".", 1)[1]) for name in space}


def _suggest(trial: optuna.trial.Trial, name: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.values)
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
