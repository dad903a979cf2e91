"""Live: what a notebook, or the terminal of a script, shows while a search works."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from .events import Confirmed, Confirming, Event, Listener, Planned, Said, Stopped, Tried, Trying, Working
from .frontier import Frontier
from .units import counted, duration, visible


def following(listener: Listener | None) -> Listener:
    """Who is told of a search: the listener; where none is given, the notebook or terminal that it runs in, if any."""
    return listener or (Live() if _in_notebook() else _lines if sys.stderr.isatty() else _ignore)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _ignore(event: Event) -> None:
    pass


def _lines(event: Event) -> None:
    """A line for each candidate, and for what a person must know."""
    match event:
        case Said(text, True):
            said = f"note: {text}"
        case Tried(number, candidate, outcome, best):
            said = f"{number:>3} {candidate}: {outcome}{' (best so far)' if best == candidate else ''}"
        case Confirming(candidate, place, finalists):
            said = f"confirming {place} of {finalists} on unseen samples: {candidate}"
        case Confirmed(candidate, verdict, why):
            said = f"{candidate} is {verdict}{f': {why}' if why else ''}"
        case Stopped(reason):
            said = f"search ended: {reason}"
        case _:
            return
    print(visible(said), file=sys.stderr, flush=True)


class Live:
    """Listens to a search: one output of a cell, in which what is tried, the best so far and warnings stand."""

    def __init__(self) -> None:
        self.doing, self.best, self.left = "reading model and data", "", ""
        self.tried, self.warnings, self.leader, self.frontier = 0, list[str](), "", Frontier()
        self._handle: Any = None

    def __call__(self, event: Event) -> None:
        match event:
            case Said(text, True):
                self.warnings.append(text)
            case Planned(routes, _, objective):
                self.frontier.objective = objective
                self.doing = f"{counted(len(routes), 'route')} to try"
            case Trying(number, candidate, why, left):
                self.doing = f"{number}: {candidate}{f' ({why})' if why else ''}"
                self.left = "" if left is None else f"{duration(max(0.0, left))} left"
            case Working(share, words):
                self.doing = f"{self.doing.partition('; ')[0]}; {words}, {share:.0%}"
            case Tried(number, candidate, outcome, best):
                self.tried = number
                if best == candidate:
                    self.best, self.leader = f"{candidate}: {outcome}", candidate
                self.frontier.add(candidate, outcome)
            case Confirming(candidate, place, finalists):
                self.doing = f"confirming {place} of {finalists} on unseen samples: {candidate}"
            case Confirmed(candidate, verdict, why):
                self.doing = f"{candidate} is {verdict}{f': {why}' if why else ''}"
            case Stopped(reason):
                self.doing, self.left = f"search ended: {reason}", ""
            case _:
                return
        self._show()

    def _repr_html_(self) -> str:
        return "".join(f"<div>{escape(line)}</div>" for line in self._lines())

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        best = f"best so far, of {counted(self.tried, 'candidate')}: {self.best}" if self.best else ""
        others = [f"or {line}" for line in self.frontier.lines(self.leader)] if self.best else []
        lines = [", ".join(filter(None, (self.doing, self.left))), best, *others]
        lines += [f"note: {one}" for one in self.warnings]
        return [visible(line) for line in lines if line]

    def _show(self) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(self)
