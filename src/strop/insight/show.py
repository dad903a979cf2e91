"""Show: a profile as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..units import counted, quantity, spread, stored
from .guidance import WORTH
from .table import layer_table, one_line, table

WIDTH = 110  # characters of a line, at the most
TOLD = 0.005  # of a call, from which on it is told what binds a part
COLUMNS = 10  # of a table, that are listed
UNUSED = 12  # columns, that are named
HARMFUL = 10  # layers, whose harm in int8 is listed
NOT_FITTING = 5  # techniques that don't fit, that are named with the reason
WIDTHS = {
    "f32": "in f32 (floats of 32 bits)", "int8": "in int8 (integers of 8 bits)", "bf16": "in bf16 (floats of 16)",
    "f64": "in f64 (floats of 64 bits)", "f64 loops": "in f64 loops (vector by vector, as libsvm does)",
}  # fmt: skip
BARS = "▁▂▃▄▅▆▇█"
MOMENTS = 60  # of a call, in which its memory is drawn
GLOSS = {
    "activations": "activations: the values between layers.",
    "ranges": "ranges: the least and greatest that they take, which the 256 steps of int8 have to span.",
    "error": "error 0.3: the mix may have 0.3 of the error (its mean square) that int8 throughout has.",
    "NNCF": "NNCF: Intel's library that rounds models for OpenVINO.",
    "SVD": "SVD: a matrix as the product of two that have fewer numbers.",
    "Tucker-2": "Tucker-2: a convolution as three that have fewer numbers.",
    "VNNI": "VNNI: instructions for products of 8 bits, which this CPU has not.",
}
"""What words in the advice mean, by the word."""
BOUND = {
    "compute": "computing (compute)",
    "memory": "reading and writing data (memory)",
    "latency": "reads that wait for each other (latency)",
    "conversion": "changing types and layouts (conversion)",
    "overhead": "starting calls and layers (overhead)",
}


def summarize(found: Mapping[str, Any], width: int = WIDTH, whole: bool = False) -> str:
    """What `strop.profiling.profile` gave, for a person.

    Args:
        width: Characters of a line.
        whole: Whether to list all layers, not only those that take most.
    """
    page = _Page(min(width, WIDTH))
    model, facts = found["model"], found["structure"]
    given = f"{model['format']}, {quantity(model['size'], 'bytes')} on disk"
    other = model.get("as", model["format"])
    page.say("model", given + (f"; taken apart and run as {other}" if other != model["format"] else ""))
    for name, said in found["told"].items():
        page.say(name, said)
    if unused := facts.get("unused"):
        more = f" and {len(unused) - UNUSED:,} more" if len(unused) > UNUSED else ""
        page.say("", f"not looked at: {', '.join(map(one_line, unused[:UNUSED]))}{more}")
    if facts.get("computed"):
        page.say("types", "layers compute " + ", ".join(f"{kind} ({n:,})" for kind, n in facts["computed"].items()))
    page.say("time", _time(found))
    if bound := _bound(found):
        page.say("spent on", bound)
    page.say("memory", _memory(found))
    if held := found.get("held"):
        page.say("", _over_time(held))
    if found.get("peaks"):
        page.say("machine", _machine(found["peaks"]))
    if energy := found.get("energy"):
        page.say("energy", _energy(energy))
    page.add(*layer_table(found["layers"], page.width, whole), *_columns(facts.get("columns", [])))
    page.add(*_sensitivity(found.get("sensitivity")))
    if found["notes"]:
        page.add("")  # before the advice, which is no better than what was measured
        for note in found["notes"]:
            page.say("note", f"{note}.")
    _advise(page, found["advice"], found["unfit"])
    if guides := found.get("guide"):
        page.add("", "What fits the case")
        for one in guides:
            page.fill(f"{one['case']}: {one_line(one['said'])}", "  ", " " * 8)
    return "\n".join(page.lines)


class _Page:
    def __init__(self, width: int):
        self.width, self.lines = width, list[str]()

    def say(self, name: str, text: str) -> None:
        self.fill(f"{name:<10}{one_line(text)}", after=" " * 10)

    def add(self, *lines: str) -> None:
        self.lines += lines

    def fill(self, text: str, before: str = "", after: str = "") -> None:
        self.lines += textwrap.wrap(
            text, self.width, initial_indent=before, subsequent_indent=after, break_on_hyphens=False
        )


def _time(found: Mapping[str, Any]) -> str:
    model = found["model"]
    said = (
        f"a call of {counted(model['batch'], 'sample')} takes {spread(stored(found['seconds']), 's')} through "
        f"{model['runtime']} on {counted(model['threads'], 'thread')}, the median of {counted(found['calls'], 'call')}"
    )
    bound = {"overhead": "; most of it is spent around the model", "model": "; most of it is spent in the model itself"}
    return said + ("" if found.get("shares") else bound.get(found["bound_by"], ""))


def _bound(found: Mapping[str, Any]) -> str:
    shares = found.get("shares") or {}
    known = sorted(((share, kind) for kind, share in shares.items() if share >= TOLD), reverse=True)
    left = 1 - sum(shares.values())
    said = [f"{share:.0%} {BOUND[kind]}" for share, kind in known]
    return ", ".join([*said, f"{left:.0%} of unknown sizes"] if shares and left >= TOLD else said)


def _memory(found: Mapping[str, Any]) -> str:
    said = f"{quantity(found['memory'], 'bytes')} at the peak, besides the runtime's own"
    if held := found.get("held"):
        said += (
            f"; weights are {quantity(held['weights'], 'bytes')} of it all the time, and values between layers "
            f"{quantity(held['most'], 'bytes')} at the most, while {held['at']} runs, if layers run one by one (the "
            f"largest of them is {'made by ' + held['largest'] if held['largest'] else 'an input'}); the rest is what "
            "the runtime copies and sets aside"
        )
    return said


def _over_time(held: Mapping[str, Any]) -> str:
    """The values between layers from the first layer to the last, drawn."""
    times = held["over_time"]
    count = min(MOMENTS, len(times))
    most = [max(times[at * len(times) // count : (at + 1) * len(times) // count]) for at in range(count)]
    bars = "".join(BARS[min(len(BARS) - 1, int(len(BARS) * now / (held["most"] or 1)))] for now in most)
    return f"from layer to layer: {bars} (highest: {quantity(held['most'], 'bytes')})"


def _energy(energy: Mapping[str, Any]) -> str:
    if "why" in energy:
        return f"not measurable here: {energy['why']}"
    return (
        f"{spread(stored(energy['joules']), 'J')} a call, {quantity(energy['watts'], 'W')} while it runs "
        f"({energy['source']}; what the processor draws anyway is in there)"
    )


def _machine(peaks: Mapping[str, Any]) -> str:
    rates = " and ".join(f"{rate / 1e9:,.0f} {WIDTHS.get(kind, kind)}" for kind, rate in peaks["rates"].items())
    said = [
        *([f"billions of operations a second, {rates}, a multiply-add being two"] if rates else []),
        f"{peaks['memory'] / 1e9:.0f} GB/s from memory and {peaks['cache'] / 1e9:.0f} GB/s from the caches near the "
        "cores",
        *([f"a layer with nothing to do takes {quantity(peaks['start'], 's')}"] if peaks["start"] else []),
    ]
    return f"measured here, at the most: {'; '.join(said)}"


def _columns(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    if not columns:
        return []
    whole = sum(column["splits"] for column in columns)
    rows = [["column", "splits", "share of splits", "share of gain"]]
    for column in columns[:COLUMNS]:
        gain = "-" if column["gain"] is None else f"{column['gain']:.1%}"
        rows.append([one_line(column["name"]), f"{column['splits']:,}", f"{column['splits'] / whole:.1%}", gain])
    more = [f"  and {counted(len(columns) - COLUMNS, 'column')} more"] if len(columns) > COLUMNS else []
    return ["", "Columns", *table(rows), *more]


def _sensitivity(found: Mapping[str, Any] | None) -> list[str]:
    """How layers bear int8, the most harmful first."""
    if not found:
        return []
    metric = found["metric"]
    head = ["layer and what follows it", "alone in int8", "all others in int8"]
    rows = [[*head, *([f"{metric} alone", f"{metric} of all others"] if metric else [])]]
    for name, alone, spared in [
        ("(all)", found["whole"], found["original"]),
        *((one["name"], one["alone"], one["spared"]) for one in found["groups"][:HARMFUL]),
    ]:
        told = [f"{error['metric']:.4f}" for error in (alone, spared)] if metric else []
        rows.append([one_line(name), f"{alone['error']:.2e}", f"{spared['error']:.2e}", *told])
    left, short = len(found["groups"]) - HARMFUL, found["left"]
    return [
        "",
        f"How layers bear int8 ({found['technique']}, {counted(found['samples'], 'sample')}): mean squared error of "
        "the outputs, over their square",
        *table(rows),
        *([f"  and {counted(left, 'layer')} that {'do' if left > 1 else 'does'} less harm"] if left > 0 else []),
        *([f"  time was too short for {counted(short, 'more layer')}: the same again goes on"] if short else []),
    ]


def _advise(page: _Page, advice: Sequence[Mapping[str, Any]], unfit: Mapping[str, str]) -> None:
    worth = [one for one in advice if one["gain"] >= WORTH]
    page.add("")
    page.fill(
        "What would help, and how much of a call's time it is expected to take away (strop optimize proves it); what "
        "such models are known to lose much by comes last"
    )
    for one in worth:
        page.add(f"  {one['gain']:>4.0%}  {one['technique']}")
        page.fill(one_line(f"{one['why']}."), " " * 8, " " * 8)
    if not worth:
        page.add("  nothing: see below what fits the case")
    if gloss := [said for word, said in GLOSS.items() if any(word in one["why"] for one in worth)]:
        page.fill(" ".join(gloss), "  ", "  ")
    small = [one for one in advice if one["gain"] < WORTH]
    for said, some in (
        (f"under {WORTH:.0%} each", [one for one in small if one["gain"] > 0]),
        ("no faster by these", [one for one in small if not one["gain"] > 0]),
    ):
        if some:
            page.add(f"  {said}; what most of the time would go to with each:")
        for one in some:
            page.fill(one_line(f"{one['technique']}: {one['rest']}"), "    ", " " * 8)
    for name, why in list(unfit.items())[:NOT_FITTING]:
        page.fill(one_line(f"not {name}: {why}"), "  ", " " * 8)
    if len(unfit) > NOT_FITTING:
        page.fill(f"nor {', '.join(list(unfit)[NOT_FITTING:])}: see --json", "  ", " " * 8)
