"""What a person sees while strop works, and the tables at the end. Everything goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.segment import Segment
from rich.table import Table

from . import details
from .advice import would_decide
from .events import Confirmed, Confirming, Event, Measured, Planned, Said, Stopped, Tried, Trying, Working
from .frontier import Frontier
from .judge import Report
from .progress import Tell
from .result import Result
from .units import counted, duration, named, share, spread, stored, visible
from .verification import compared, explain

LONGEST = 1500  # characters of an error: a paragraph
BESIDE = 45  # columns of a terminal that the bar and the time left take
STYLE = {
    "met": "green", "broken": "red", "infeasible": "red", "inconclusive": "yellow", "not checked": "dim",
    "same": "green", "close": "yellow", "different": "red",
}  # fmt: skip


class Reporter:
    """Listens to a search: a line that lives on a terminal, and plain lines anywhere."""

    def __init__(self, console: Console, budget: float):
        self.console, self.budget, self.start = console, budget, time.monotonic()
        self.trying, self.best, self.leader, self.frontier = "", "", "", Frontier()
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[left]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.progress.add_task("reading model and data", total=budget, left="")

    def __enter__(self) -> Reporter:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Said(text, warning):
                self._line(("[yellow]note:[/] " if warning else "") + escape(text))
            case Measured(report):
                self._line(f"original: {escape(_figures(report, 'original'))}")
            case Planned(routes, refused, objective):
                self.frontier.objective = objective
                left_out = f"; {len(refused)} of the techniques and runtimes are left out: the report says why"
                self._line(f"{counted(len(routes), 'route')} to try{left_out if refused else ''}")
            case Trying(number, candidate, why, left):
                self.trying = f"{number}: {escape(candidate)}"
                self._live(f"{self.trying} [dim]({escape(why)})[/]" if why else self.trying)
                self.tick(left or 0.0)
            case Working(share, words):
                self._live(f"{self.trying} [dim]{escape(words)}, {share:.0%}[/]")
                self.progress.update(self.task, completed=time.monotonic() - self.start)
            case Tried(number, candidate, outcome, best):
                mark = " [green]best so far[/]" if best == candidate else ""
                if mark:
                    self.best, self.leader = f"best so far: {candidate}: {outcome}", candidate
                self.frontier.add(candidate, outcome)
                self._line(f"{number:>3} {escape(candidate)}: {escape(str(outcome))}{mark}")
            case Stopped(reason):
                self._line(f"search ended: {escape(reason)}")
            case Confirming(candidate, place, finalists):
                said = f"confirming {place} of {finalists} on unseen samples: {escape(candidate)}"
                self.progress.update(self.task, description=said, left="")
                self._line(said)
            case Confirmed(candidate, verdict, why):
                said = f"{candidate} is {verdict}{f': {why}' if why else ''}"
                self._line(f"[{STYLE.get(verdict, 'yellow')}]{escape(said)}[/]")
            case _:
                pass

    def tick(self, left: float) -> None:
        """Say how much time is left, in seconds."""
        spent = time.monotonic() - self.start
        said = f"{duration(max(0.0, left))} left"
        self.progress.update(self.task, completed=spent, total=max(self.budget, spent), left=said)

    def _live(self, text: str) -> None:
        """The line that lives; under it the best so far, and what no other beats in both the objective and quality."""
        width = max(20, self.console.width - BESIDE)
        best = f"\n[green]{escape(self.best[:width])}[/]" if self.best else ""
        others = [f"\n[dim]{escape(f'     or {line}'[:width])}[/]" for line in self.frontier.lines(self.leader)]
        self.progress.update(self.task, description="".join((text, best, *others)))

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=not self.console.is_terminal)


class _Screen(Console):
    """Shows control characters in what it is given; those of its own, for colors and lines that live, it sends."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console() -> Console:
    """Standard error; plain where it is no terminal or NO_COLOR is set."""
    found = _Screen(stderr=True, highlight=False, force_terminal=False if os.environ.get("NO_COLOR") else None)
    if not sys.stderr.isatty():
        found.width = 160  # a log has no edge to fold at
    return found


@contextlib.contextmanager
def telling(words: str) -> Iterator[Tell]:
    """Says how far a verb is: what begins in a line of its own, a log's too; what goes on in one that lives."""
    screen = console()
    with screen.status(words) as status:

        def tell(share: float, words: str) -> None:
            if not share:
                screen.print(escape(words), soft_wrap=True)
            status.update(escape(f"{share:.0%}, {words}"))

        yield tell


def show_result(console: Console, result: Result, bundle: str | None, out: Path | None = None) -> None:
    """The table that a user wants: original against winner, limits, where the bundle lies."""
    manifest = result.manifest
    show_manifest(console, manifest)
    if not bundle and result.handed_over is None:
        place = out or result.out or "a bundle"
        console.print(f"nothing was written to {escape(str(place))}, because no candidate was measured", soft_wrap=True)
    if bundle:
        show_bundle(console, manifest, bundle)


def show_bundle(console: Console, manifest: Mapping[str, Any], bundle: str) -> None:
    """Where what a search came to lies, and whether it keeps the limits."""
    open_ = "is not proven to" if manifest["verdict"] == "inconclusive" else "does not"
    what = "bundle" if manifest["winner"] else f"closest candidate, which {open_} keep the limits"
    console.print(f"{what}: [bold]{escape(bundle)}[/] (report.html, manifest.json, model)", soft_wrap=True)


def show_manifest(console: Console, manifest: Mapping[str, Any]) -> None:
    """What a search came to: original against winner, limits, what stands out, how far it got."""
    style = STYLE[manifest["verdict"]]
    console.print()
    console.print(f"[bold {style}]{manifest['verdict']}[/]: {escape(manifest['reason'])}.", soft_wrap=True)
    content = manifest["winner"] or manifest["closest"]
    if content:
        show_figures(console, manifest["original"]["metrics"], content["metrics"], content["ratios"],
                     "winner" if manifest["winner"] else "closest")  # fmt: skip
    counts = details.counts(manifest["original"]["counts"], content["counts"] if content else {})
    for line in (*details.called(manifest["original"]), *counts):
        console.print(f"  {escape(line)}", soft_wrap=True)
    show_limits(console, manifest["limits"])
    show_details(console, manifest)
    show_notes(console, manifest["notes"])
    show_not_measurable(console, manifest["not_measurable"])
    for line in manifest["advice"]:
        console.print(f"  would help: {escape(line)}", soft_wrap=True)
    console.print(f"{counted(manifest['candidates'], 'candidate')} in {duration(manifest['seconds'])}; "
                  f"{escape(details.search(manifest))}", soft_wrap=True)  # fmt: skip
    console.print(f"noise: {escape(details.noise(manifest['noise']))}", soft_wrap=True)


def show_figures(
    console: Console,
    original: Mapping[str, Any],
    other: Mapping[str, Any],
    ratios: Mapping[str, Any],
    name: str,
) -> None:
    """Metric by metric: two models and their ratio, each with its spread."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("metric", "original", name, f"{name} / original"):
        table.add_column(head, no_wrap=head == "metric")  # on a narrow terminal, spreads go to lines of their own
    for metric, found in other.items():
        before = original.get(metric, found)
        label = named(metric, found.get("source", ""))
        table.add_row(label, _spread(before), _spread(found), share(stored(ratios[metric])))
    console.print(table)


def show_limits(console: Console, limits: Any) -> None:
    """Limit by limit: the verdict, and what would decide an open one."""
    for found in limits:
        verdict = found["verdict"]
        open_ = verdict == "inconclusive" and not found.get("why")
        extra = f", {would_decide(found['limit'], found.get('needed'))}" if open_ else ""
        where = f" in {found['slice']}" if found.get("slice") else ""
        why = f" ({found['why']})" if found.get("why") else ""
        limit = named(found["limit"], found.get("source", ""))
        console.print(f"  [{STYLE[verdict]}]{verdict:<12}[/] {escape(limit + where + extra + why)}", soft_wrap=True)


def show_not_measurable(console: Console, reasons: Mapping[str, str]) -> None:
    """Metrics that were to be reported and can't be told here, each with the reason."""
    for metric, reason in reasons.items():
        console.print(f"{escape(metric)}: [yellow]not measurable here[/]: {escape(reason)}", soft_wrap=True)


def show_notes(console: Console, notes: Iterable[str]) -> None:
    """What to know of how it was measured."""
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


def show_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """What `compare` and `benchmark` find."""
    show_figures(console, found["original"]["metrics"], found["candidate"]["metrics"], found["ratios"], "candidate")
    show_limits(console, found["limits"])
    show_details(console, found)
    show_notes(console, found["notes"])
    show_not_measurable(console, found["not_measurable"])


def show_verified(console: Console, found: Mapping[str, Any]) -> None:
    """What `verify` found: outputs and limits, why they may differ, and what differs between the machines."""
    outputs = found["outputs"]
    console.print(f"[{STYLE[outputs['verdict']]}]{outputs['verdict']}[/]: {escape(outputs['said'])}", soft_wrap=True)
    for cause in outputs["causes"]:
        console.print(f"  likely cause: {escape(cause)}", soft_wrap=True)
    for limit in found["limits"]:
        said = explain(limit).removeprefix(limit["verdict"])
        console.print(
            f"  [{STYLE[limit['verdict']]}]{limit['verdict']:<12}[/] {escape(limit['limit'] + said)}", soft_wrap=True
        )
    console.print(f"  {escape(compared(found['objective']))}", soft_wrap=True)
    if found["judged_on"]:
        console.print(f"  judged on {escape(found['judged_on'])}", soft_wrap=True)
    if found["verdict"] != "met":
        for row in found["environment"]["differences"]:
            said = f"{row['what']} was {row['bundle'] or 'not there'}, and is {row['here'] or 'not there'}"
            console.print(f"  [dim]differs: {escape(said)}[/]", soft_wrap=True)
    console.print(f"[bold {STYLE[found['verdict']]}]{found['verdict']}[/]")


def show_details(console: Console, found: Mapping[str, Any]) -> None:
    """What stands out of slices, churn and fairness."""
    for line in details.lines(found):
        console.print(f"  {escape(line)}", soft_wrap=True)


def _spread(found: Mapping[str, Any]) -> str:
    return spread(stored(found), found["unit"])


def _figures(report: Report, side: str) -> str:
    figures = report.figures.items()
    return ", ".join(f"{named(name, f.source)} {spread(getattr(f, side), f.unit)}" for name, f in figures)


def fail(message: str) -> None:
    """One paragraph on standard error."""
    folded = visible(" ".join(message.split()))
    sys.stderr.write(f"strop: {folded[:LONGEST]}{' ...' if len(folded) > LONGEST else ''}\n")
