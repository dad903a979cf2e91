"""Confirm: prove the finalists on samples that nothing has seen, best first, until one is proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Self

from . import jobs
from .clock import LOOKS, Clock
from .events import Confirmed, Confirming, Event, Said, Stopped
from .forecast import rank
from .goal import Goal
from .judge import Report, better_than_original
from .looks import looks_at, note_look, used_before
from .odds import gain, odds, worth
from .plan import Candidate
from .rundir import RunDir, read_json, write_json
from .server import Hosted
from .trial import Outcome, Setting, measure

FINALISTS = 3
POOL = 12  # of the best, that finalists are chosen among
SURE = 0.95  # odds, from which on no time for another look is kept
ERROR_RATE = 0.05
SLACK = 3  # looks that there must be room for, to take one at what does not seem proven: some take longer than others
CONFIRMED = "confirmed.json"


@dataclass(frozen=True)
class Finding:
    """A candidate with what the confirm split says of it.

    Attributes:
        report: On the confirm split, at the confidence stated.
        confidence: Of each one-sided bound.
        better: Whether its objective is proven better than the original's.
        problem: Why it could not be confirmed, where it could not be run.
        looks: How often its confirm data had been used before by other runs.
    """

    candidate: Candidate
    model: Mapping[str, Any]
    report: Report
    confidence: float
    better: bool
    problem: str = ""
    looks: int = 0

    @property
    def verdict(self) -> str:
        """`met` where every limit is, `broken` where one is, else `inconclusive`."""
        found = {judged.verdict for judged in self.report.judged}
        return "broken" if self.problem or "broken" in found else "inconclusive" if "inconclusive" in found else "met"

    @property
    def why_not(self) -> str:
        """The limits that are not met, with the samples that would decide an open one; empty where all are."""
        said = []
        for judged in self.report.judged:
            if judged.verdict != "met":
                needed = f" (about {judged.needed:,} samples would decide)" if judged.needed else ""
                where = f" in {judged.slice}" if judged.slice else ""
                said.append(f"{judged} is {judged.verdict}{where}{f' ({judged.why})' if judged.why else needed}")
        return self.problem or ", ".join(said)

    @property
    def proven(self) -> bool:
        return self.verdict == "met" and self.better

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "candidate": self.candidate.to_json(), "report": self.report.to_json()}

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Self:
        return cls(**{**json, "candidate": Candidate.of(json["candidate"]), "report": Report.of(json["report"])})


def finalists(
    tried: Sequence[tuple[Candidate, Outcome]], goal: Goal, narrower: float = 1.0
) -> list[tuple[Candidate, Outcome]]:
    """At most three, of which most is to be expected: by what each gains, and how likely it is to be proven. One of
    them seems proven already, where any does. What to look at first is told by two looks, for which time is kept; the
    others come in the order of their objective.

    Of those that answer alike, since they differ in lossless steps only, the best: where its quality is not proven, no
    other's is.

    Args:
        narrower: Bounds on the confirm split over those on the search split.
    """
    usable = [(c, o) for c, o in tried if o.usable]
    alike: dict[tuple[str, ...], tuple[Candidate, Outcome]] = {}
    for candidate, outcome in sorted(usable, key=lambda entry: rank(entry[1], goal)):
        lossy = (str(step) for step in candidate.steps if not step.lossless)
        alike.setdefault((*lossy, str(candidate.runtime)), (candidate, outcome))
    ranked = list(alike.values())
    safe = [place for place, (_, outcome) in enumerate(ranked) if _seems_proven(outcome)]
    count = min(FINALISTS, len(ranked))
    looks = [(odds(o, goal, narrower, 1 - ERROR_RATE / max(1, count)), gain(o, goal)) for _, o in ranked]
    pool = sorted({*range(min(POOL, len(ranked))), *safe[:1]})
    chosen = max(
        (some for some in combinations(pool, count) if not safe or not set(safe).isdisjoint(some)),
        key=lambda some: worth(looks[place] for place in some),
    )
    first = max(chosen, key=lambda one: max(
        (worth((looks[one], looks[other])) for other in chosen if other != one), default=looks[one][0]
    ), default=None)  # fmt: skip
    return [ranked[place] for place in sorted(chosen, key=lambda place: (place != first, place))]


def _seems_proven(outcome: Outcome) -> bool:
    return all(judged.verdict == "met" for judged in outcome.report.judged)


def looks_to_keep(tried: Sequence[tuple[Candidate, Outcome]], goal: Goal, noise: float, narrower: float = 1.0) -> int:
    """How many looks to keep time for: one at the original, or at the best so far; and another one, where the best may
    not be proven."""
    best = finalists(tried, goal, narrower)[:1]
    sure = all(
        better_than_original(outcome.report, goal, noise)
        and odds(outcome, goal, narrower, 1 - ERROR_RATE / FINALISTS) >= SURE
        for _, outcome in best
    )
    return 1 if sure else LOOKS


def confirm(
    run: RunDir,
    setting: Setting,
    tried: Sequence[tuple[Candidate, Outcome]],
    digest: str,
    clock: Clock,
    noise: float,
    tell: Callable[[Event], None],
) -> list[Finding]:
    """Measure the finalists on the confirm split until one is proven; what an earlier call has found is kept.

    Args:
        noise: Of the objective: a gain under it is none.

    Returns:
        What was found, in the order in which it was looked at; the last one is proven, or none is.
    """
    chosen = finalists(tried, setting.goal, setting.narrower)
    path = run / CONFIRMED
    findings = read_json(path, lambda plain: [Finding.of(entry) for entry in plain]) if path.exists() else []
    known = {finding.candidate.key for finding in findings}
    wanted = {candidate.key for candidate, _ in chosen}
    fresh = wanted - known and not any(finding.proven for finding in findings)
    before = max(0, looks_at(digest) - len(wanted & known))
    if fresh and before:
        tell(Said(used_before(before), warning=True))
    left = [(candidate, outcome) for candidate, outcome in chosen if candidate.key not in known]
    while left and not any(finding.proven for finding in findings) and (not findings or clock.room_for(1)):
        candidate, outcome = _next(left, last=bool(findings) and not clock.room_for(SLACK))
        left.remove((candidate, outcome))
        tell(Confirming(str(candidate), len(chosen) - len(left), len(chosen)))
        note_look(digest)
        try:
            found = _look(setting, candidate, outcome, 1 - ERROR_RATE / len(chosen), clock, noise)
            findings.append(replace(found, looks=before))
        except KeyboardInterrupt:
            tell(Stopped("interrupted; what was confirmed so far decides (Ctrl-C again ends that too)"))
            break
        write_json(path, [finding.to_json() for finding in findings])
        clock.keep()
        verdict = "no better" if findings[-1].verdict == "met" and not findings[-1].better else findings[-1].verdict
        tell(Confirmed(str(candidate), verdict, findings[-1].why_not))
    return findings


def _next(left: Sequence[tuple[Candidate, Outcome]], last: bool) -> tuple[Candidate, Outcome]:
    """The first; where it is the last that there is time for, the best whose limits all seem proven, if any does."""
    safe = [entry for entry in left if _seems_proven(entry[1])]
    return safe[0] if last and safe else left[0]


def _look(
    setting: Setting, candidate: Candidate, outcome: Outcome, confidence: float, clock: Clock, noise: float
) -> Finding:
    hosted = Hosted(setting.model(outcome.model), candidate.runtime, setting.workshop.target)
    ended = jobs.run(
        measure, setting, hosted, "confirm", setting.confirming, confidence, clock.to_confirm, limits=clock.whole()
    )
    model = outcome.model or {}
    if ended.value is None:
        return Finding(candidate, model, Report(), confidence, False, problem=ended.reason)
    return Finding(candidate, model, ended.value, confidence, better_than_original(ended.value, setting.goal, noise))
