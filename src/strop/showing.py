"""Showing: what `profile`, `compare` and `explain` give, as plain data that shows itself where HTML is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .details import lines
from .insight import WORTH
from .notebook import Figures, boxed, figures, frame
from .report import comparison_figures, forest_charts, layer_charts, profile_figures
from .report.limits import limits_table
from .report.parts import bullets, spread_text, table
from .units import named, quantity, share, spread, stored

MOST = 15  # layers in a table
HEAD, ROW = 190, 24  # pixels of a figure of rows


class _Layered(dict[str, Any]):
    """What tells of `layers`, one by one."""

    def to_frame(self) -> Any:
        """A frame of pandas (without pandas, a table of pyarrow), one row a layer: what `layers` has; what has an
        interval, with `.low` and `.high`."""
        return frame([_flat(one) for one in self["layers"]])


class Profile(_Layered):
    """What `strop.profile` gave."""

    def plot(self) -> Figures:
        """The time of each layer, and the roofline, for a notebook to show.

        Raises:
            MissingDependency: Plotly is not installed.
            InvalidData: No layer has a time of its own, as where a runtime has no profiler.
        """
        return figures("a profile", profile_figures(self))

    def _repr_html_(self) -> str:
        model = self["model"]
        said = f"{spread(stored(self['seconds']), 's')} a call, through {model['runtime']}"
        bound = f"; bound by {self['bound_by']}" if self["bound_by"] else ""
        timed = sorted((one for one in self["layers"] if one["seconds"]), key=lambda one: -one["seconds"]["value"])
        rows = [
            [escape(one["name"]), escape(one["operator"]), escape(quantity(one["seconds"]["value"], "s")),
             f"{one['share']['value']:.1%}", escape(one["bound_by"] or "")]
            for one in timed[:MOST]
        ]  # fmt: skip
        told = [f"{name}: {text}" for name, text in self["told"].items()]
        worth = [one for one in self["advice"] if one["gain"] >= WORTH]
        advice = [f"{one['technique']}: {one['gain']:.0%} less time. {one['why']}." for one in worth]
        return boxed(
            f"<p>{escape(said + bound)}</p>{bullets(told)}"
            + _table("Layers", ["layer", "operator", "time", "share", "bound by"], rows)
            + _more(len(timed), "layers") + _notes(self) + bullets(advice, "What would help, as far as can be expected")
        )  # fmt: skip


class Comparison(dict[str, Any]):
    """What `strop.compare` or `strop.benchmark` gave."""

    def to_frame(self) -> Any:
        """A frame of pandas (without pandas, a table of pyarrow), one row a metric, of the whole and of each slice:
        `slice` (empty for the whole), `metric`, `unit`, and `original`, `candidate` and `ratio`, each with `.low` and
        `.high`."""
        rows = [
            {"slice": part, "metric": name, "unit": unit, **_flat(sides)} for part, name, unit, sides in self._rows()
        ]
        return frame(rows)

    def plot(self) -> Figures:
        """Every ratio with its interval, for a notebook to show.

        Raises:
            MissingDependency: Plotly is not installed.
            InvalidData: Nothing has a ratio.
        """
        return figures("a comparison", comparison_figures(self), HEAD + ROW * len(self._rows()))

    def _repr_html_(self) -> str:
        rows = [
            [escape(named(name, found.get("source", ""))), spread_text(self["original"]["metrics"][name]),
             spread_text(found), escape(share(stored(self["ratios"][name])))]
            for name, found in self["candidate"]["metrics"].items()
        ]  # fmt: skip
        unmeasured = [f"{name}: {why}" for name, why in self["not_measurable"].items()]
        return boxed(
            _table("Figures", ["metric", "original", "candidate", "ratio"], rows)
            + self._limits() + bullets([*lines(self)])
            + bullets(unmeasured, "What was not measurable here") + _notes(self)
        )  # fmt: skip

    def _limits(self) -> str:
        before, after = self["original"]["metrics"], self["candidate"]["metrics"]
        return limits_table(self["limits"], before, after, self["ratios"], self["slices"]) if self["limits"] else ""

    def _rows(self) -> Sequence[tuple[str, str, str, Mapping[str, Any]]]:
        """Slice, metric, unit, and the bounds of both models and of their ratio."""
        whole = [
            ("", name, found["unit"], {
                "original": _bounds(self["original"]["metrics"][name]), "candidate": _bounds(found),
                "ratio": _bounds(self["ratios"][name]),
            })
            for name, found in self["candidate"]["metrics"].items()
        ]  # fmt: skip
        sides = ("original", "candidate", "ratio")
        parts = [
            (part, name, one["unit"], {side: _bounds(one[side]) for side in sides})
            for part, told in self["slices"].items() for name, one in told["metrics"].items()
        ]  # fmt: skip
        return [*whole, *parts]


class Explanation(_Layered):
    """What `strop.explain` gave."""

    def plot(self) -> Figures:
        """Each layer's share of the error, and its time before and after, for a notebook to show; of trees, how far
        each puts the scores off, and the columns that they split by.

        Raises:
            MissingDependency: Plotly is not installed.
            InvalidData: The models could not be looked into.
        """
        trees = self["forest"]
        drawn = forest_charts(trees) if trees else layer_charts(self["layers"]) if self["layers"] else ""
        return figures("an explanation", drawn)

    def _repr_html_(self) -> str:
        worst = sorted((one for one in self["layers"] if one["share"]), key=lambda one: -one["share"])
        rows = [
            [escape(one["name"]), escape(one["operator"]), escape(one["precision"]), f"{one['share']:.1%}"]
            for one in worst[:MOST]
        ]  # fmt: skip
        return boxed(
            f"<p>{escape(' '.join(self['said']))}</p>"
            + _table("Layers", ["layer", "operator", "computed in", "share of the error"], rows)
            + _more(len(worst), "layers") + _notes(self)
        )  # fmt: skip


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds and sides as columns of their own: `seconds`, `seconds.low`, `introduced.error`."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        inner = value if isinstance(value, Mapping) else {"value": value}
        found |= {name if key == "value" else f"{name}.{key}": kept for key, kept in inner.items()}
    return found


def _bounds(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("value", "low", "high")}


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(caption, heads, rows) if rows else ""


def _more(count: int, what: str) -> str:
    return f"<p>and {count - MOST:,} more {what}: to_frame() has them all.</p>" if count > MOST else ""


def _notes(found: Mapping[str, Any]) -> str:
    return "".join(f"<p>Note: {escape(note)}</p>" for note in found["notes"])
