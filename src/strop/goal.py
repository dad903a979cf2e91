"""Goal: the limits that a result must keep, and the metric to improve within them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Self, TypeAlias

from .errors import InvalidGoal

Better: TypeAlias = Literal["lower", "higher"]
Side: TypeAlias = Literal["at_least", "at_most"]

_METRIC = r"(?:[A-Za-z_][\w.]*:)?[A-Za-z_]\w*(?:\.\w+)*"
_SCOPED = rf"(drop|worst_slice)\s*\(\s*({_METRIC})\s*(?:,\s*(\d+)\s*)?\)"
_LIMIT = re.compile(rf"(?:{_SCOPED}|({_METRIC}))\s*(<=|>=|<|>)\s*(.+)")
_VALUE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)")
_OBJECTIVE = re.compile(rf"(minimize|maximize)\s+({_METRIC})")
_SHAPE = "`METRIC OP VALUE`, as in `size < 20 MB`, `latency.p95 < 10 ms` or `accuracy >= 99% of original`"

_UNITS = {
    "s": {"s": "1", "ms": "1e-3", "us": "1e-6", "ns": "1e-9"},
    "bytes": {"GB": "1e9", "MB": "1e6", "kB": "1e3", "B": "1", "KB": "1e3",
              "GiB": str(2**30), "MiB": str(2**20), "KiB": str(2**10)},
    "J": {"J": "1", "mJ": "1e-3", "uJ": "1e-6", "nJ": "1e-9"},
    "W": {"W": "1", "mW": "1e-3"},
    "/s": {"/s": "1"},
}  # fmt: skip
_SPELLED = {
    "s": ("s", "ms", "us", "ns"), "bytes": ("GB", "MB", "kB", "B"), "J": ("J", "mJ", "uJ", "nJ"), "W": ("W", "mW"),
    "/s": ("/s",),
}  # fmt: skip
_LOWER = {name.lower(): name for scales in _UNITS.values() for name in scales if name != "KB"}
_EXAMPLE = {"s": "10 ms", "bytes": "20 MB", "J": "5 mJ", "W": "20 W", "/s": "100 /s"}


@dataclass(frozen=True)
class Limit:
    """A bound on one metric.

    Attributes:
        metric: Its name, or `module:function`.
        op: How the candidate compares to the value.
        value: In base units: seconds, bytes, joules, watts, a second, plain numbers. A share (`99%` is 0.99) where
            `relative`.
        relative: Whether the value is a multiple of the original's.
        scope: The whole data, the worst slice, or the `drop`: how much worse the candidate is than the original.
        unit: What the value is in: `s`, `bytes`, `J`, `W`, `/s`, or empty for a plain number.
        support: Of `worst_slice(METRIC, 300)`: samples of the rarest class that a slice must hold to decide; without
            classes, samples. Smaller slices are told of, and decide nothing.
    """

    metric: str
    op: Literal["<", "<=", ">", ">="]
    value: float
    relative: bool = False
    scope: Literal["whole", "drop", "worst_slice"] = "whole"
    unit: str = ""
    support: int = 0

    def __post_init__(self) -> None:
        if not self.relative and not self.unit:
            object.__setattr__(self, "unit", _cost_unit(self.metric) or "")
        if not math.isfinite(self.value):
            raise InvalidGoal(f"A limit needs a finite number, and {self.metric!r} was given {self.value}.")
        cost = _cost_unit(self.metric) is not None
        if self.value <= 0 and self.scope != "drop" and (self.relative or self.unit or cost):
            raise InvalidGoal(f"`{self}` can't be kept by any model: write a value above zero.")
        if self.scope == "drop" and self.op in (">", ">="):
            raise InvalidGoal(f"`{self}` asks for a model that is worse. A drop is limited from above: use <= or <.")
        if self.support and self.scope != "worst_slice":
            raise InvalidGoal(f"`{self}` names a least size of slices, which only worst_slice has. Leave it out.")
        if self.scope == "worst_slice" and cost:
            raise InvalidGoal(
                f"`{self}` can't be told by slice: {self.metric} is a cost. Limit `{self.metric}` itself."
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a limit as people write it.

        Raises:
            InvalidGoal: It can't be read, can be read in two ways, or has a unit that does not fit the metric.
        """
        read = _LIMIT.fullmatch(text.strip())
        value = _VALUE.fullmatch(read[6].strip()) if read else None
        if read is None or value is None:
            raise InvalidGoal(f"`{text.strip()}` can't be read as a limit. A limit is {_SHAPE}.")
        scope: Any = read[1] or "whole"
        metric, op, support = read[2] or read[4], read[5], int(read[3] or 0)
        try:
            number = Decimal(value[1])
            finite = math.isfinite(float(number))
        except (InvalidOperation, OverflowError):
            finite = False
        if not finite:
            raise InvalidGoal(f"A limit needs a finite number, and `{text.strip()}` has {value[1]}.")
        suffix = re.sub(r"\s+", " ", value[2].strip())
        wants = _cost_unit(metric)
        left = _left(scope, metric, support)
        if suffix == "%":
            other = _EXAMPLE[wants] if wants else _digits(number / 100)
            raise InvalidGoal(
                f"`{text.strip()}` can be read in two ways. Write `{left} {op} {value[1]}% of original` for a share of "
                f"the original's, or `{left} {op} {other}` for the number itself."
            )
        if suffix in ("% of original", "x", "x of original"):
            share = float(number / 100 if suffix[0] == "%" else number)
            return cls(metric, op, share, True, scope, support=support)  # type: ignore[arg-type]
        unit = next((kind for kind, scales in _UNITS.items() if suffix in scales), None)
        if suffix and unit is None:
            known = ", ".join(name for scales in _UNITS.values() for name in scales)
            near = difflib.get_close_matches(suffix.lower(), _LOWER, 1)
            meant = "% of original" if "original" in suffix else next((_LOWER[one] for one in near), "")
            hint = f" Did you mean {meant}?" if meant else ""
            raise InvalidGoal(
                f"`{text.strip()}` has the unknown unit {suffix!r}.{hint} Units are {known}, `% of original`."
            )
        if wants and unit != wants and (unit or wants != "/s"):
            raise InvalidGoal(
                f"`{text.strip()}` has {f'the unit {suffix!r}' if unit else 'no unit'}, and {metric} is in {wants}. "
                f"Write it as in `{left} {op} {_EXAMPLE[wants]}`."
            )
        scale = Decimal(_UNITS[unit][suffix]) if unit else Decimal(1)
        return cls(metric, op, float(number * scale), False, scope, unit or "", support)  # type: ignore[arg-type]

    def __str__(self) -> str:
        left = _left(self.scope, self.metric, self.support)
        exact = Decimal(repr(float(self.value)))
        if self.relative:
            return f"{left} {self.op} {_digits(exact * 100)}% of original"
        if not self.unit:
            return f"{left} {self.op} {_digits(exact)}"
        spelled = _SPELLED[self.unit]
        fitting = [name for name in spelled if abs(exact) >= Decimal(_UNITS[self.unit][name])]
        name = fitting[0] if fitting else spelled[-1]
        return f"{left} {self.op} {_digits(exact / Decimal(_UNITS[self.unit][name]))} {name}"

    @property
    def side(self) -> Side:
        """Which side the operator bounds."""
        return "at_most" if self.op in ("<", "<=") else "at_least"

    def bound(self, better: Better) -> tuple[Side, float, float]:
        """What the limit asks of the candidate: at least, or at most, `factor * original + constant`.

        Args:
            better: Which way the metric is good; a drop of a lower-is-better metric is a rise.

        Returns:
            The side, the factor and the constant.
        """
        if self.scope != "drop":
            return (self.side, self.value, 0.0) if self.relative else (self.side, 0.0, self.value)
        sign = 1.0 if better == "lower" else -1.0
        side: Side = "at_most" if better == "lower" else "at_least"
        return (side, 1 + sign * self.value, 0.0) if self.relative else (side, 1.0, sign * self.value)


@dataclass(frozen=True)
class Goal:
    """Limits to keep, and the metric to minimize or maximize within them."""

    limits: tuple[Limit, ...] = ()
    objective: str = "latency.p50"
    direction: Literal["minimize", "maximize"] = "minimize"

    def __post_init__(self) -> None:
        for low in (limit for limit in self.limits if limit.side == "at_least"):
            for high in (limit for limit in self.limits if limit.side == "at_most"):
                if (low.metric, low.relative, low.scope) != (high.metric, high.relative, high.scope):
                    continue
                touching = low.op == ">=" and high.op == "<="
                if low.value > high.value or (low.value == high.value and not touching):
                    raise InvalidGoal(f"`{low}` and `{high}` contradict each other: no model keeps both. Drop one.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read clauses divided by `;` or line ends: limits, and at most one `minimize METRIC` or `maximize METRIC`.

        Raises:
            InvalidGoal: A clause is empty or can't be read, or the clauses contradict each other.
        """
        return cls._of_clauses(_clauses(text))

    @classmethod
    def given(cls, goal: Goal | str | None) -> Goal:
        """A goal as an argument gives it: as text, made already, or none.

        Raises:
            InvalidGoal: As for `parse`.
        """
        return goal if isinstance(goal, Goal) else Goal() if goal is None else Goal.parse(goal)

    @classmethod
    def of(cls, limits: Iterable[str] = (), minimize: str | None = None, maximize: str | None = None) -> Self:
        """Make a goal of limits as text and the name of a metric to improve.

        Raises:
            InvalidGoal: As for `parse`.
        """
        clauses = [clause for text in limits for clause in _clauses(text)]
        clauses += [f"minimize {minimize}"] if minimize is not None else []
        clauses += [f"maximize {maximize}"] if maximize is not None else []
        return cls._of_clauses(clauses)

    @classmethod
    def _of_clauses(cls, clauses: Iterable[str]) -> Self:
        limits: list[Limit] = []
        objectives: list[tuple[Any, str]] = []
        for clause in clauses:
            if read := _OBJECTIVE.fullmatch(clause):
                objectives.append((read[1], read[2]))
            elif clause.split()[0] in ("minimize", "maximize"):
                raise InvalidGoal(f"`{clause}` can't be read: name one metric, as in `minimize latency.p95`.")
            else:
                limits.append(Limit.parse(clause))
        if len(objectives) > 1:
            seen = " and ".join(f"`{direction} {metric}`" for direction, metric in objectives)
            raise InvalidGoal(f"A goal improves one metric, and this has {seen}. Keep one; make the others limits.")
        direction, objective = objectives[0] if objectives else (cls.direction, cls.objective)
        return cls(tuple(limits), objective, direction)

    def __str__(self) -> str:
        return "; ".join([f"{self.direction} {self.objective}", *map(str, self.limits)])

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it speaks of: the metrics of its limits, and the objective."""
        return tuple(dict.fromkeys([*(limit.metric for limit in self.limits), self.objective]))

    def to_json(self) -> dict[str, Any]:
        """Plain data, the limits as text."""
        return {
            "limits": [str(limit) for limit in self.limits],
            "objective": self.objective,
            "direction": self.direction,
        }

    @classmethod
    def of_json(cls, json: Mapping[str, Any]) -> Self:
        return cls(tuple(map(Limit.parse, json["limits"])), json["objective"], json["direction"])

    def check(self, better: Mapping[str, Better], units: Mapping[str, str]) -> None:
        """Hold the goal against the metrics that exist; a `module:function` is accepted unseen.

        Args:
            better: Name of every known metric, and which way it is good.
            units: What its numbers are in (`s`, `bytes`, `J`, empty).

        Raises:
            InvalidGoal: An unknown metric, a limit on the side that is never in danger, a unit that does not fit, or
                an objective that asks for a worse model.
        """
        for metric in self.metrics:
            if metric not in better and ":" not in metric:
                near = difflib.get_close_matches(metric, better, 3, 0.5)
                guess = f" Did you mean {' or '.join(near)}?" if near else ""
                raise InvalidGoal(f"There is no metric {metric!r}.{guess} Known are {', '.join(sorted(better))}.")
        for limit in self.limits:
            _check_limit(limit, better.get(limit.metric), units.get(limit.metric))
        way = better.get(self.objective)
        if way and way != ("lower" if self.direction == "minimize" else "higher"):
            right = "minimize" if way == "lower" else "maximize"
            raise InvalidGoal(
                f"`{self.direction} {self.objective}` asks for a worse model: {self.objective} is better when {way}. "
                f"Write `{right} {self.objective}`."
            )


def _left(scope: str, metric: str, support: int) -> str:
    inner = f"{metric}, {support}" if support else metric
    return metric if scope == "whole" else f"{scope}({inner})"


def _check_limit(limit: Limit, way: Better | None, unit: str | None) -> None:
    if way and limit.scope != "drop" and limit.side != ("at_most" if way == "lower" else "at_least"):
        op = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}[limit.op]
        raise InvalidGoal(
            f"`{limit}` bounds the wrong side: {limit.metric} is better when {way}, so this would forbid a good model. "
            f"Turn it round: `{str(limit).replace(f' {limit.op} ', f' {op} ')}`."
        )
    if unit is None or limit.relative:
        return
    wants = next((kind for kind in _UNITS if unit == kind or (kind == "/s" and unit.endswith(kind))), "")
    if limit.unit != wants and (limit.unit or wants != "/s"):
        example = f"with a unit, as in `{_EXAMPLE[wants]}`" if wants else "as a plain number"
        kind = unit or "plain numbers"
        raise InvalidGoal(f"`{limit}` does not fit {limit.metric}, which is in {kind}. Write it {example}.")


def _clauses(text: str) -> list[str]:
    if not isinstance(text, str):
        raise InvalidGoal(f"A goal is text, and {text!r} is none. Write limits as {_SHAPE}, divided by `;`.")
    lines = [line.strip().removesuffix(";") for line in text.splitlines() if line.strip()]
    clauses = [clause.strip() for line in lines for clause in line.split(";")]
    if not clauses or not all(clauses):
        raise InvalidGoal(f"{text!r} has an empty clause. A clause is {_SHAPE}, or `minimize METRIC`.")
    return clauses


def _cost_unit(metric: str) -> str | None:
    """What the numbers of a built-in cost metric are in, empty for a plain number; None for any other metric."""
    kinds = {
        "latency": "s", "size": "bytes", "memory": "bytes", "energy": "J", "power": "W", "throughput": "/s", "cost": "",
        "server.rate": "/s", "server": "s",
    }  # fmt: skip
    return kinds.get(metric, kinds.get(metric.split(".")[0]))


def _digits(number: Decimal) -> str:
    """The shortest text that reads back to the same number."""
    number = number.normalize()
    return f"{number:f}" if -7 <= number.adjusted() <= 15 else str(number)
