"""Units: numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from .stats import Interval

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

BESIDE = 0.1  # of 1
NARROW = 5e-3  # bounds, within which four decimals tell something

_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "J": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")),
    "W": ((1.0, "W"), (1e-3, "mW")),
}


def quantity(value: float, unit: str) -> str:
    """A number with its unit, three or four digits: `2.31 ms`, `4.1 MB`, `0.9312`."""
    if not math.isfinite(value):
        return "not known"
    scale, name = _scale(value, unit)
    return f"{_digits(value / scale, unit)} {name}".strip()


def spread(interval: Interval, unit: str) -> str:
    """A value with its bounds, in one unit: `2.31 (2.25 to 2.40) ms`; no bounds where there is no spread."""
    if interval.low == interval.high or not math.isfinite(interval.value):
        return quantity(interval.value, unit)
    scale, name = _scale(interval.value, unit)
    shown = [_digits(number / scale, unit) for number in (interval.value, interval.low, interval.high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]}) {name}".strip()


def share(interval: Interval) -> str:
    """A ratio with its bounds: `0.43x (0.41 to 0.45)`."""
    if not math.isfinite(interval.value):
        return "not known"
    exact = interval.low < interval.high < interval.low + NARROW
    value, low, high = (_times(number, exact) for number in (interval.value, interval.low, interval.high))
    return f"{value}x" if interval.low == interval.high else f"{value}x ({low} to {high})"


def named(what: str, source: str) -> str:
    """A metric or a limit, with what its figures are had from where that must be said: `energy (RAPL)`."""
    return f"{what} ({source})" if source else what


def percent(interval: Interval) -> str:
    """A share with its bounds: `1.2% (0.9% to 1.6%)`."""
    if not math.isfinite(interval.value):
        return "not known"
    low, high = (f"{bound:.2%}" if math.isfinite(bound) else "?" for bound in (interval.low, interval.high))
    return f"{interval.value:.2%} ({low} to {high})"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 candidate`, `2,000 samples`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def stored(found: Mapping[str, Any]) -> Interval:
    """An interval of plain data; null, in what was read from a file, is a number that is not known."""
    return Interval(*(math.nan if found[key] is None else found[key] for key in ("value", "low", "high")))


def duration(seconds: float) -> str:
    """Seconds as `48 s` or `3 min 20 s`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _scale(value: float, unit: str) -> tuple[float, str]:
    scales = _SCALES.get(unit, ((1.0, unit.replace("1/s", "/s")),))
    return next(((scale, name) for scale, name in scales if abs(value) >= scale), scales[-1])


def _times(value: float, exact: bool) -> str:
    """Three digits; beside 1, as many decimals on either side of it, and one more where it is known that well."""
    if not math.isfinite(value):
        return "?"
    if exact and abs(value - 1) < BESIDE:
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return f"{value:.{4 if 1 <= value < 1.1 else 3}g}"


def _digits(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "?"
    if unit == "":
        return f"{value:.4f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def visible(text: str) -> str:
    """Text with its control characters spelled out (line ends and tabs stay): a name must not move the cursor."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
