"""Notebook: how results show themselves where HTML is shown, their figures, and what is a table as a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ._lazy import installed
from .errors import InvalidData, MissingDependency
from .report import sheet
from .report.limits import limits_table
from .report.parts import spread_text, table
from .units import counted, duration, named, share, stored, visible

# Rules of its own, under a class of its own: whatever else the notebook shows is left alone.
STYLE = """
.strop-shown { --met: #17803d; --broken: #b3261e; --open: #8a5a00; color-scheme: light }
:is([data-jp-theme-light="false"], .vscode-dark) .strop-shown {
--met: #5bd68a; --broken: #ff8a80; --open: #f0b849; color-scheme: dark }
.strop-shown .met { color: var(--met) } .strop-shown :is(.broken, .infeasible) { color: var(--broken) }
.strop-shown .inconclusive { color: var(--open) } .strop-shown .verdict { font-weight: 700 }
.strop-shown :is(td, th) { text-align: left } .strop-shown table { margin: .6em 0 }
.strop-shown iframe { width: 100%; border: 0 } .strop-shown .hidden { display: none }
"""
HEIGHT = 620  # pixels of figures, by default


@dataclass(frozen=True)
class Figures:
    """Figures as the report draws them. A notebook shows them, in a frame that no code can leave.

    Attributes:
        html: One page by itself, to be written to a file.
    """

    html: str
    height: int = HEIGHT

    def _repr_html_(self) -> str:
        return _box(  # as it is: the page runs no script that is changed by a character
            f'<iframe sandbox="allow-scripts" title="Figures" style="height: {self.height}px" '
            f'srcdoc="{escape(self.html)}"></iframe>'
        )


def figures(title: str, drawn: str, height: int = HEIGHT) -> Figures:
    """HTML of the report's figures, to be shown.

    Raises:
        MissingDependency: Plotly is not installed.
        InvalidData: There is nothing to draw.
    """
    if not drawn:
        raise InvalidData(f"There is nothing to draw of {title}: none of it was measured.")
    if not installed("plotly"):
        raise MissingDependency("Figures are drawn by Plotly, and it is not installed: pip install plotly")
    return Figures(sheet(title, drawn), height)


def boxed(html: str) -> str:
    """HTML under a class of its own; control characters are shown as such."""
    return visible(_box(html))


def _box(html: str) -> str:
    return f'<div class="strop-shown"><style>{STYLE}</style>{html}</div>'


def shown(manifest: Mapping[str, Any], place: str = "") -> str:
    """A manifest as HTML: the verdict and why, the figures, the limits, the notes. Every name is escaped.

    Args:
        place: The folder, of a bundle.
    """
    verdict = manifest["verdict"]
    content = manifest["winner"] or manifest["closest"] or {}
    limits = limits_table(
        manifest["limits"], manifest["original"]["metrics"], content.get("metrics", {}), content.get("ratios", {}),
        manifest["slices"], manifest["goal"]["limits"],
    )  # fmt: skip
    parts = [
        f'<p><span class="verdict {escape(verdict)}">{escape(verdict)}</span>: {escape(manifest["reason"])}.</p>',
        _handed_over(manifest, content, place) if content else "",
        limits if manifest["limits"] else "",
        *(f"<p>Would help: {escape(line)}.</p>" for line in manifest["advice"]),
        *(f"<p>Note: {escape(note)}</p>" for note in manifest["notes"]),
    ]
    return boxed("".join(parts))


def frame(rows: Sequence[Mapping[str, Any]], units: Mapping[str, str] | None = None) -> Any:
    """Rows as a frame of pandas; where that is not installed, as a table of pyarrow, which comes with strop.

    Args:
        rows: One mapping a row, by column; what a row lacks is missing there.
        units: What columns are in: of a frame in `attrs["units"]`, of a table in the metadata of its fields (`unit`).
    """
    if installed("pandas"):
        import pandas

        made = pandas.DataFrame(list(rows))
        if units is not None:
            made.attrs["units"] = dict(units)
        return made
    import pyarrow

    columns = {name: _column([row.get(name) for row in rows]) for name in dict.fromkeys(n for row in rows for n in row)}
    known = {name: {"unit": unit} for name, unit in (units or {}).items()}
    fields = [pyarrow.field(name, column.type, metadata=known.get(name)) for name, column in columns.items()]
    return pyarrow.table(list(columns.values()), schema=pyarrow.schema(fields))


def _column(values: list[Any]) -> Any:
    """An array of pyarrow's; of text, where values are of several kinds, as a parameter's may be."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.array([None if value is None else str(value) for value in values])


def rows_of(tried: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Candidates, as a bundle has them, in the order in which they were tried: a row each, and the units of metrics."""
    figures = [(name, found) for one in tried for name, found in one["report"]["figures"].items()]
    return [_row(one) for one in tried], {name: found["unit"] for name, found in figures}


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    verdicts = {judged["verdict"] for judged in one["report"]["judged"]}
    known: dict[str, float] = {}
    for name, figure in one["report"]["figures"].items():
        for prefix, interval in ((name, figure["candidate"]), (f"{name}.ratio", figure["ratio"])):
            known |= {prefix: interval["value"], f"{prefix}.low": interval["low"], f"{prefix}.high": interval["high"]}
    return {
        "candidate": one["candidate"],
        "route": " + ".join(step["technique"] for step in one["route"]),
        "runtime": one["runtime"]["name"],
        "cause": one["cause"],
        "reason": one["reason"],
        "limits": next((verdict for verdict in ("broken", "inconclusive", "met") if verdict in verdicts), ""),
        "seconds": one["seconds"],
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
    side = "handed over" if manifest["winner"] else "closest"
    figures = table("Figures", ["metric", "original", side, "ratio"], rows) if rows else ""
    return f"<p>{escape(said)} {escape(spent)}</p>{where}{figures}"
