"""Findings: what the figures measured of a machine mean for whoever wants a faster model on it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._multiplying import OPERATORS
from ._products import Product
from .machine import Measured, floor
from .stats import Interval
from .target import BF16, DOT_PRODUCTS, Target, instruction_sets
from .units import share

PAYS = 1.1  # times as fast as float32, that a gain is worth its loss of precision
QUIET = {"latency.p50": 0.03, "latency.p95": 0.10}  # noise floors, under which most gains can be proven
WIDTH = 110  # characters of a line


def conclude(measured: Measured) -> dict[str, Any]:
    """What to expect of int8 and bfloat16 here, and which differences can be told apart.

    Returns:
        `int8`, `bf16` and `noise`, in words; `measured`, the figures as plain data in base units (operations, bytes and
        calls a second; ratios).
    """
    return {
        "int8": _int8(measured),
        "bf16": _bf16(measured),
        "noise": _noise(measured),
        "measured": measured.to_json(),
    }


def summarize(found: Mapping[str, Any]) -> str:
    """What `conclude` found, as plain text for a terminal."""
    measured = found["measured"]
    lines = [_paragraph(name, found[name]) for name in ("int8", "bf16", "noise")]
    lines += [_paragraph("", f"{note}.") for note in measured["notes"]]
    if measured["bandwidth"]:
        copied = [f"{_rate(entry)} GB/s by {_threads(entry['threads'])}" for entry in measured["bandwidth"]]
        said = f"memory is copied at {' and '.join(copied)}, what is read and what is written taken together"
        lines.append(_paragraph("bandwidth", said))
    lines += [_paragraph("", f"{what} could not be measured: {why}.") for what, why in measured["missing"].items()]
    lines += _table(measured["products"])
    return "\n".join(lines)


def _int8(measured: Measured) -> str:
    shown = _asked("int8", measured)
    sets = instruction_sets()
    how = ""
    if have := [name for name in DOT_PRODUCTS if name in sets]:
        how = f" Dot products of int8 are single instructions here ({', '.join(have)})."
    elif Target().int8_saturates:
        how = (
            " Without VNNI or AMX, products of uint8 and int8 are summed in 16 bits, which can saturate: weights are "
            "kept to 7 bits where that matters."
        )
    if not shown:
        return f"not measured.{how}"
    return (
        f"{_pays(shown)}: {_speeds(shown)}. Expect at most that where products take the time; "
        f"where reading the weights does, a quarter of the bytes may bring more.{how}"
    )


def _bf16(measured: Measured) -> str:
    shown, sets = _asked("bf16", measured), instruction_sets()
    lacking = " This CPU has no bfloat16 instructions" if sets and not sets & {*BF16} else ""
    if not shown:
        return "not measured: no runtime that is installed and runs here computes in it."
    if lacking:
        lacking += ", so it is emulated." if any(product.ratio for product in shown) else "."
    return f"{_pays(shown)}: {_speeds(shown)}.{lacking}"


def _noise(measured: Measured) -> str:
    if not measured.noise:
        return "not measured."
    floors = {name: floor(ratio) for name, ratio in measured.noise.items()}
    quiet = [name for name, off in floors.items() if off <= QUIET[name]]
    loud = len(quiet) < len(floors)
    said = "quiet enough" if not loud else "quiet enough for medians" if "latency.p50" in quiet else "not quiet"
    shares = " and ".join(f"{off:.1%} in {name}" for name, off in floors.items())
    return (
        f"{said}: a small model measured against itself is off by up to {shares}; smaller differences can't be told "
        f"apart here.{' End what else runs before you measure.' if loud else ''}"
    )


def _asked(precision: str, measured: Measured) -> list[Product]:
    return [p for p in measured.products if p.precision == precision and p.threads == measured.threads]


def _pays(shown: Iterable[Product]) -> str:
    gaining = [p.operator for p in shown if p.ratio and p.ratio.low > PAYS]
    names = [name for name in OPERATORS if name in gaining]
    if not names:
        return "does not pay here"
    return "pays here" if len(names) == len(OPERATORS) else f"pays here for {names[0]} layers only"


def _speeds(shown: Sequence[Product]) -> str:
    """`against float32, products run at 1.9x (dense) and 2x (convolution) through onnxruntime, at 0.9x ...`."""
    parts = []
    for runtime in dict.fromkeys(product.runtime for product in shown):
        own = [p for p in shown if p.runtime == runtime]
        factors = [f"{p.ratio.value:.2g}x ({p.operator})" for p in own if p.ratio]
        others = dict.fromkeys(f"in {p.ran}" + (f" ({p.operator})" if factors else "") for p in own if not p.ratio)
        how = [f"at {' and '.join(factors)}"] * bool(factors) + [f"{' and '.join(others)} all the same"] * bool(others)
        parts.append(f"{' and '.join(how)} through {runtime}")
    return f"{'against float32, ' if any(p.ratio for p in shown) else ''}products run {', '.join(parts)}"


def _table(products: Sequence[Mapping[str, Any]]) -> list[str]:
    ran = [name for name in ("f32", "int8", "bf16") if any(p["precision"] == name and p["rate"] for p in products)]
    if not ran:
        return []
    found = {(p["runtime"], p["operator"], p["threads"], p["precision"]): p for p in products}
    rows = [["", "", "", *(head for name in ran for head in (name, *([f"{name} / f32"] if name != "f32" else [])))]]
    for runtime, operator, threads in dict.fromkeys(key[:3] for key in found):
        row = [runtime, operator, _threads(threads)]
        for name in ran:
            product = found.get((runtime, operator, threads, name), {})
            row.append(_rate(product["rate"]) if product.get("rate") else "-")
            if name != "f32":
                row.append(share(Interval(**product["ratio"])) if product.get("ratio") else "-")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["", "Matrix products, 10^9 operations a second", *(f"  {line}" for line in lines)]


def _rate(rate: Mapping[str, float]) -> str:
    """In 10^9 a second, with the farther of its bounds: `92.3 ±4.9`."""
    value, low, high = (rate[name] / 1e9 for name in ("value", "low", "high"))
    farther = max(high - value, value - low)
    return f"{value:.{0 if value >= 100 else 1}f} ±{farther:.{0 if farther >= 10 else 1}f}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _paragraph(name: str, text: str) -> str:
    return textwrap.fill(f"{name:<10}{text}", WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False)
