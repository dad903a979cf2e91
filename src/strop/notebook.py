"""Notebook: how results show themselves where HTML is shown, and candidates as a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ._lazy import installed
from .errors import MissingDependency
from .plan import Candidate
from .report.parts import limits_table, spread_text, table
from .trial import Outcome
from .units import counted, duration, named, share, stored, visible

# Rules of its own, under a class of its own: whatever else the notebook shows is left alone.
STYLE = """
.strop-shown .met { color: #17803d } .strop-shown .broken, .strop-shown .infeasible { color: #b3261e }
.strop-shown .inconclusive { color: #8a5a00 } .strop-shown .verdict { font-weight: 700 }
.strop-shown td, .strop-shown th { text-align: left } .strop-shown table { margin: .6em 0 }
"""


def shown(manifest: Mapping[str, Any], place: str = "") -> str:
    """A manifest as HTML: the verdict and why, the figures, the limits, the notes. Every name is escaped.

    Args:
        place: The folder, of a bundle.
    """
    verdict = manifest["verdict"]
    content = manifest["winner"] or manifest["closest"]
    parts = [
        f'<p><span class="verdict {escape(verdict)}">{escape(verdict)}</span>: {escape(manifest["reason"])}.</p>',
        _handed_over(manifest, content, place) if content else "",
        limits_table(manifest["limits"]) if manifest["limits"] else "",
        *(f"<p>Would help: {escape(line)}.</p>" for line in manifest["advice"]),
        *(f"<p>Note: {escape(note)}</p>" for note in manifest["notes"]),
    ]
    return visible(f'<div class="strop-shown"><style>{STYLE}</style>{"".join(parts)}</div>')


def frame(tried: Sequence[tuple[Candidate, Outcome]]) -> Any:
    """Candidates as a frame of pandas, one row each, in the order in which they were tried.

    Raises:
        MissingDependency: pandas is not installed.
    """
    if not installed("pandas"):
        raise MissingDependency("A frame is one of pandas, and pandas is not installed: pip install pandas")
    import pandas

    made = pandas.DataFrame([_row(candidate, outcome) for candidate, outcome in tried])
    figures = [(name, figure) for _, outcome in tried for name, figure in outcome.report.figures.items()]
    made.attrs["units"] = {name: figure.unit for name, figure in figures}
    return made


def _row(candidate: Candidate, outcome: Outcome) -> dict[str, Any]:
    verdicts = {judged.verdict for judged in outcome.report.judged}
    known: dict[str, float] = {}
    for name, figure in outcome.report.figures.items():
        for prefix, interval in ((name, figure.candidate), (f"{name}.ratio", figure.ratio)):
            known |= {prefix: interval.value, f"{prefix}.low": interval.low, f"{prefix}.high": interval.high}
    return {
        "candidate": str(candidate),
        "route": " + ".join(step.label() for step in candidate.steps),
        "runtime": candidate.runtime.label(),
        "cause": outcome.cause,
        "reason": outcome.reason,
        "limits": next((verdict for verdict in ("broken", "inconclusive", "met") if verdict in verdicts), ""),
        "seconds": outcome.seconds,
        **known,
    }


def _handed_over(manifest: Mapping[str, Any], content: Mapping[str, Any], place: str) -> str:
    """What it is, where it lies, and its figures beside the original's."""
    route = " + ".join(step["technique"] for step in content["route"]) or "the original, unchanged"
    said = f"{'Winner' if manifest['winner'] else 'Closest'}: {route}, on {content['runtime']['name']}."
    spent = f"{counted(manifest['candidates'], 'candidate')} in {duration(manifest['seconds'])}."
    where = f"<p>In <code>{escape(place)}</code>: {escape(', '.join(content['files']))}.</p>" if place else ""
    rows = []
    for name, found in content["metrics"].items():
        before, ratio = manifest["original"]["metrics"].get(name), content["ratios"].get(name)
        rows.append([
            escape(named(name, found.get("source", ""))),
            spread_text(before) if before else "",
            spread_text(found),
            escape(share(stored(ratio))) if ratio else "",
        ])  # fmt: skip
    figures = table("Figures", ["metric", "original", "handed over", "ratio"], rows) if rows else ""
    return f"<p>{escape(said)} {escape(spent)}</p>{where}{figures}"
