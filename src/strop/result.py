"""Result: what a search comes to, and the manifest that says it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from . import metrics, techniques
from .advice import binding, what_would_help
from .bundle import Bundle, Source, next_free, write
from .clock import End
from .confirm import Finding
from .errors import BundleError, Infeasible
from .forecast import rank
from .goal import Goal
from .judge import Figure, Report
from .looks import used_before
from .notebook import Figures, figures, frame, rows_of, shown
from .plan import Candidate, reached
from .prepare import Request, environment
from .report import frontier
from .rundir import SAVED, write_json
from .spelling import option
from .technique import Needs
from .trial import Outcome, Setting, plain
from .units import counted, named, quantity, share

SCHEMA = 1


@dataclass(frozen=True)
class Search:
    """How far a search came.

    Attributes:
        ended: Why.
        bound: The option that ended it, `budget` or `trials`; empty where neither did.
        routes: That were planned; each of them is tried, refused by a technique on the way, or untried.
    """

    ended: str
    bound: str
    routes: int
    tried: int
    refused: int
    untried: int

    @classmethod
    def of(cls, planned: Iterable[Candidate], tried: Iterable[tuple[Candidate, Outcome]], end: End) -> Self:
        """Args: planned: Every route at its defaults."""
        causes = {candidate.key: outcome.cause for candidate, outcome in tried}
        found = [causes.get(candidate.key) for candidate in planned]
        refused, untried = found.count("refused"), found.count(None)
        return cls(end.why, end.bound, len(found), len(found) - refused - untried, refused, untried)

    @property
    def cut_short(self) -> bool:
        """Whether more time, or more trials, would have tried more."""
        return bool(self.bound) and self.untried > 0

    @property
    def advice(self) -> str:
        """What would have tried more."""
        more = "more candidates" if self.bound == "trials" else "more time"
        return f"{more} ({option(self.bound)}): {self.untried} of {self.routes} routes were not tried"


@dataclass(frozen=True)
class Result:
    """What a search comes to.

    Attributes:
        verdict: `met`, `inconclusive` or `infeasible`.
        winner: What is handed over: a candidate, or the original where nothing beats it; None without one.
        closest: Where there is no winner, or where it is the original: the candidate that came closest.
        original: The original, measured like a candidate.
        reason: Why it came to this, in a sentence.
        advice: What would help, where a limit is not met.
        tried: Every candidate and its outcome, in order.
        manifest: All of it as plain data, per `manifest.schema.json`.
        anatomy: What is handed over, layer by layer: `explained` (see `strop.explain`), `profile` and
            `sensitivity` (see `strop.profile`), and `why_not`, why one is missing.
    """

    verdict: str
    winner: Finding | None
    closest: Finding | None
    original: Finding
    reason: str
    advice: tuple[str, ...]
    tried: tuple[tuple[Candidate, Outcome], ...]
    manifest: Mapping[str, Any]
    setting: Setting = field(repr=False)
    out: str | None = None
    anatomy: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def handed_over(self) -> Finding | None:
        """What a bundle would hold: the winner, else the closest candidate."""
        return self.winner or self.closest

    def save(self, folder: str | Path | None = None) -> Bundle:
        """Write the winner (or, without one, the closest candidate) as a bundle.

        Args:
            folder: A folder that does not exist yet, or is empty. By default the one that `optimize` was given as
                `out`, or one beside it where an earlier session of the run has written that; else a new one in the
                run directory.

        Raises:
            BundleError: The folder exists, or can't be written. The run keeps what was found: `resume` has it again.
            Infeasible: No candidate could be measured, so there is nothing to hand over.
        """
        finding = self.handed_over
        if finding is None:
            raise Infeasible(f"there is nothing to save: {self.reason}.")
        model = self.setting.model(finding.model)
        source = Source(model, finding.candidate.runtime, self.setting.workshop.target, self.setting.search)
        place = Path(folder) if folder else next_free(Path(self.out or self.setting.root / "bundle"))
        try:
            bundle = write(place, source, self.manifest, self.tried, self.anatomy)
        except BundleError as error:
            again = option("resume", str(self.setting.root))
            raise BundleError(f"{error} Nothing is lost: {again} goes on with the run, and repeats nothing.") from error
        with contextlib.suppress(OSError):  # of a run that has no room left; the bundle is whole
            write_json(self.setting.root / SAVED, {"bundle": str(place.absolute())})
        return bundle

    def raise_for_verdict(self) -> None:
        """Raise where the limits are not met, for scripts that must not go on.

        Raises:
            Infeasible: The verdict is not `met`.
        """
        if self.verdict != "met":
            broken = self.closest.report.broken if self.closest else ()
            raise Infeasible(self.reason, self.closest, tuple(j.limit for j in broken))

    def to_frame(self) -> Any:
        """All that was tried as a frame of pandas (without pandas, a table of pyarrow), one row a candidate, in order.

        Columns: `candidate`, `route`, `runtime`, `cause` and `reason` as of an outcome, `limits` (the worst verdict of
        the search; empty where none was judged), `seconds`, and of each metric `NAME`, `NAME.low`, `NAME.high` and the
        same of `NAME.ratio`. What they are in is in `frame.attrs["units"]` (of a table, in its fields' metadata).
        """
        return frame(*rows_of(self._plain()))

    def plot(self) -> Figures:
        """The frontier of all candidates, as the report draws it, for a notebook to show.

        Raises:
            MissingDependency: Plotly is not installed.
            InvalidData: No candidate was measured.
        """
        found = self.manifest
        return figures(f"strop: {found['original']['source']}", frontier(self._plain(), found))

    def _plain(self) -> list[dict[str, Any]]:
        return [plain(candidate, outcome) for candidate, outcome in self.tried]

    def _repr_html_(self) -> str:
        return shown(self.manifest)

    def __repr__(self) -> str:
        return f"Result({self.verdict!r}, {self.reason!r})"

    def __str__(self) -> str:
        """The verdict and why, and what to know of how it came about."""
        notes = (f"note: {note}" for note in self.manifest["notes"])
        ways = (f"would help: {way}" for way in self.advice)
        return "\n".join([f"{self.verdict}: {self.reason}", *notes, *ways])


def conclude(
    request: Request,
    setting: Setting,
    tried: Sequence[tuple[Candidate, Outcome]],
    findings: Sequence[Finding],
    original: Finding,
    called: Mapping[str, Any] | None,
    refused: Mapping[str, str],
    search: Search,
    seconds: float,
) -> Result:
    """Decide what is handed over, and say why.

    Args:
        findings: Of the confirm split (or of the closest candidate, where nothing was worth confirming).
        original: The original measured against itself; on the confirm split where nothing is proven.
        called: What it takes as users call it, where that is not what runs it here.
        refused: Techniques and runtimes that were not tried at all, and why.
        search: How far the search came.
    """
    goal = setting.goal
    proven = next((finding for finding in findings if finding.proven), None)
    met = next((finding for finding in findings if finding.verdict == "met"), None)
    best = _closest(findings, goal) or _searched(tried, findings, goal)
    winner, closest, verdict, advice = None, best, "infeasible", []
    if proven:
        winner, closest, verdict = proven, None, "met"
        reason = f"{proven.candidate} keeps every limit: {_gain(proven, goal)}{_price(proven)}"
        if passed := [f"{f.candidate} ({f.why_not or 'no better'})" for f in findings if f is not proven]:
            reason += f". Others that seemed faster were not proven: {'; '.join(passed)}"
    elif best is None and search.cut_short and (request.recipe or original.verdict != "met"):
        verdict, reason = "inconclusive", f"no candidate was measured ({search.ended})"
    elif original.verdict == "met":
        winner, verdict = original, "met"
        why = _why_not(best, tried, findings, goal, search)
        reason = f"the original keeps every limit, and no candidate is proven better: {why}"
    elif met:
        winner, closest, verdict = met, None, "met"
        reason = f"{met.candidate} keeps every limit, which the original does not, at a price: {_gain(met, goal)}"
    elif (best or original).verdict == "inconclusive":
        verdict = "inconclusive"
        reason = f"these data can't decide whether {', '.join(_open(best or original))} is kept"
    else:
        reason = f"no candidate keeps the limits: {binding(_seen(tried, findings), search.ended)}"
        if problems := [f"{found.candidate}: {found.problem}" for found in findings if found.problem]:
            reason += f"; not confirmed: {'; '.join(problems)}"
    if not proven:
        seen = best.report if best and not best.problem else None
        trainable = _trainable(request, setting)
        advice = what_would_help(goal, seen, original.report, trainable, request.splits["confirm"])
        if search.cut_short:
            advice.insert(0, search.advice)
    if verdict != "met" and best is None and original.why_not:
        reason += f"; of the original, {original.why_not}"
    shown = winner or closest or original
    looks = max((finding.looks for finding in findings), default=0)
    manifest = {
        "schema": SCHEMA,
        "verdict": verdict,
        "reason": reason,
        "advice": advice,
        "goal": goal.to_json(),
        "target": vars(request.target),
        "seed": request.seed,
        "preprocessing": request.preprocessing,
        "settings": request.settings,
        "asked": {
            "label": request.label,
            "group": request.group,
            "trials": request.budget.trials,
            "budget": request.budget.seconds,
            "beside": list(request.beside),
        },
        "original": {
            "source": Path(request.source).name,
            "format": setting.original.model.format,
            "runtime": {"name": setting.original.runtime.label(), "options": setting.original.runtime.settings()},
            "signature": setting.original.model.signature.to_json(),
            "counts": dict(setting.original.model.counts),
            "called": dict(called) if called else None,
            "metrics": _metrics(shown.report.figures, "original"),  # on the samples that its rival is judged by
        },
        "winner": _described(winner),
        "closest": _described(closest),
        "limits": _limits(shown.report),
        **shown.report.details(),
        "confirmed": [_confirmed(finding) for finding in findings],
        "without": _without(shown.candidate, tried, goal),
        "noise": _noise(original.report, goal),
        "splits": dict(request.splits),
        "candidates": sum(outcome.counts for _, outcome in tried),
        "search": asdict(search),
        "seconds": round(seconds, 2),
        "environment": environment(),
        "hashes": {"original": request.original_digest, **request.digests},
        "not_tried": dict(refused),
        "not_measurable": shown.report.not_measurable,
        "notes": [
            *request.notes,
            *([used_before(looks)] if looks else []),
            *shown.report.notes,
            *shown.model.get("notes", ()),
        ],
    }
    return Result(
        verdict, winner, closest, original, reason, tuple(advice), tuple(tried), manifest, setting, request.out
    )


def _without(candidate: Candidate, tried: Sequence[tuple[Candidate, Outcome]], goal: Goal) -> list[dict[str, Any]]:
    """What each step of a candidate gave: the best that was tried without it and seems to keep the limits; of a step
    that all had, nothing is told."""
    name, found = metrics.find(goal.objective).name, []
    for step in candidate.steps:
        without = [(c, o) for c, o in tried if o.cause == "done" and type(step) not in map(type, c.steps)]
        if not without:
            continue
        others = [
            (rank(outcome, goal), other.key, str(other), outcome.report.figures[name].ratio)
            for other, outcome in without
            if outcome.usable and name in outcome.report.figures
        ]
        best = min(others, key=lambda entry: entry[:2], default=None)
        found.append({
            "technique": step.label(), "candidate": best and best[2], "ratio": best and asdict(best[3]),
        })  # fmt: skip
    return found


def _trainable(request: Request, setting: Setting) -> list[str]:
    """What train data, which were not given, would let be tried, also on what the original is turned into."""
    if request.training is not None:
        return []
    every = techniques.all_techniques()
    formats = reached(setting.workshop.original.format, every)
    return [step.label() for step in every if step.needs == Needs.TRAINING and step.accepts & formats]


def _closest(findings: Sequence[Finding], goal: Goal) -> Finding | None:
    order = {"met": 0, "inconclusive": 1, "broken": 2}
    seen = [finding for finding in findings if not finding.problem]
    return min(seen, key=lambda f: (order[f.verdict], sum(j.violation for j in f.report.judged)), default=None)


def _searched(tried: Sequence[tuple[Candidate, Outcome]], findings: Sequence[Finding], goal: Goal) -> Finding | None:
    """The best that was measured while searching, where the confirm split says nothing of any candidate."""
    measured = [(rank(o, goal), c.key, c, o) for c, o in tried if o.cause == "done" and o.model]
    if not measured:
        return None
    _, key, candidate, outcome = min(measured, key=lambda entry: entry[:2])
    why = next((f.problem for f in findings if f.candidate.key == key), "") or "it was not measured on unseen samples"
    note = f"{candidate} was measured on the search split only: {why}"
    report = replace(outcome.report, notes=(*outcome.report.notes, note))
    return Finding(candidate, outcome.model or {}, report, 0.95, False, problem=why)


def _noise(original: Report, goal: Goal) -> dict[str, Any]:
    """The ratio of the original to itself, by the objective; by the median latency where that has no noise."""
    metric = metrics.find(goal.objective)
    found = original.figures.get(metric.name)
    if metric.quality or found is None or found.ratio.low == found.ratio.high:
        return {"metric": "latency.p50", **asdict(original.figures["latency.p50"].ratio)}
    return {"metric": named(metric.name, found.source), **asdict(found.ratio)}


def _open(finding: Finding) -> list[str]:
    return [str(j) for j in finding.report.judged if j.verdict == "inconclusive"]


def _gain(finding: Finding, goal: Goal) -> str:
    figure = finding.report.figures[metrics.find(goal.objective).name]
    value = quantity(figure.candidate.value, figure.unit)
    return f"{named(goal.objective, figure.source)} is {value}, {share(figure.ratio)} of the original's"


def _seen(tried: Sequence[tuple[Candidate, Outcome]], findings: Sequence[Finding]) -> list[Report]:
    """The last report of every candidate that was measured."""
    searched = {candidate.key: outcome.report for candidate, outcome in tried if outcome.cause == "done"}
    confirmed = {finding.candidate.key: finding.report for finding in findings if not finding.problem}
    return list({**searched, **confirmed}.values())


def _price(finding: Finding) -> str:
    """What a smaller or better model costs in latency, where it is proven to: never in silence."""
    latency = finding.report.figures.get("latency.p50")
    if latency is None or not latency.ratio.low > 1:
        return ""
    return f"; it is slower: latency.p50 is {share(latency.ratio)} of the original's"


def _unmeasured(tried: Sequence[tuple[Candidate, Outcome]], search: Search) -> str:
    """Why none was measured of those that were tried; empty where one was, or none was tried."""
    reasons = Counter(f"{outcome.cause}, {outcome.reason}" for _, outcome in tried)
    if not reasons or any(outcome.cause == "done" for _, outcome in tried):
        return ""
    more = f", and {counted(len(reasons) - 1, 'other reason')}" if len(reasons) > 1 else ""
    ended = f"; {search.ended}" if search.cut_short else ""
    return f"no candidate was measured ({reasons.most_common(1)[0][0]}{more}{ended})"


def _why_not(
    best: Finding | None,
    tried: Sequence[tuple[Candidate, Outcome]],
    findings: Sequence[Finding],
    goal: Goal,
    search: Search,
) -> str:
    if best is None:
        problems = [f"{finding.candidate} could not be run: {finding.problem}" for finding in findings]
        return "; ".join(problems) or _unmeasured(tried, search) or binding(_seen(tried, findings), search.ended)
    if best.verdict == "met":
        return f"the best, {best.candidate}, is not: {_gain(best, goal)}"
    stops = best.report.broken or [j for j in best.report.judged if j.verdict == "inconclusive"]
    word = "breaks" if best.verdict == "broken" else "could not be proven to keep"
    return f"{best.candidate} {word} {', '.join(map(str, stops))} ({_gain(best, goal)})"


def _described(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    files = [os.path.relpath(file, Path(finding.model["path"]).parent) for file in finding.model["files"]]
    return {
        "file": files[0],
        "files": files,
        "format": finding.model["format"],
        **finding.candidate.to_json(),
        "signature": finding.model["signature"],
        "counts": finding.model["counts"],
        "confidence": finding.confidence,
        "metrics": _metrics(finding.report.figures, "candidate"),
        "ratios": {name: asdict(figure.ratio) for name, figure in finding.report.figures.items()},
    }


def _metrics(figures: Mapping[str, Figure], side: str) -> dict[str, Any]:
    return {name: figure.side(side) for name, figure in figures.items()}


def _confirmed(finding: Finding) -> dict[str, Any]:
    return {
        "candidate": str(finding.candidate),
        "verdict": finding.verdict,
        "better": finding.better,
        "why": finding.why_not,
        "confidence": finding.confidence,
        "ratios": {name: asdict(figure.ratio) for name, figure in finding.report.figures.items()},
        "limits": _limits(finding.report),
    }


def _limits(report: Report) -> list[dict[str, Any]]:
    return [judged.to_json() for judged in report.judged]
