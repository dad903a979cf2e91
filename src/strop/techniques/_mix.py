"""Mix: the fastest precision for each group of operators, within what error is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .._lazy import lazy
from .._quiet import hushed

optimize = lazy("scipy.optimize")
sparse = lazy("scipy.sparse")

GAP = 1e-3  # from the best, at which the solver may stop
SECONDS = 2.0  # that it may take
BITS = {"int4 weights": 4, "int8": 8, "int8 weights": 8, "bf16": 16, "f32": 32}
"""Of a precision."""
WEIGHTS = ("int8 weights", "int4 weights")
"""Precisions in which weights alone are rounded."""


def passed(precision: str) -> str:
    """What the values are that groups in a precision read and make."""
    return "f32" if precision in WEIGHTS else precision


@dataclass(frozen=True)
class Costs:
    """What is known of the groups of a model's operators.

    Attributes:
        seconds: By group, what it takes in each precision.
        errors: By group, what each precision adds to the error of the outputs.
        borders: Groups between which values pass, and the seconds that it takes to convert these where the precisions
            are not the same.
    """

    seconds: Mapping[str, Mapping[str, float]]
    errors: Mapping[str, Mapping[str, float]]
    borders: Sequence[tuple[str, str, float]]


def fastest(costs: Costs, allowed: float) -> dict[str, str] | None:
    """The precision of each group that takes the least time together, conversions included, at a bounded sum of errors.

    An integer program: one variable for each precision of a group, and one for each border, which is at least as large
    as any precision's difference across it.

    Args:
        costs: Times and errors, which are taken to add up.
        allowed: The sum of errors, at the most.

    Returns:
        By group; None where even the most exact has a greater error, or the solver found nothing in its time.
    """
    choices = [(group, precision) for group, found in costs.seconds.items() for precision in found]
    place = {choice: number for number, choice in enumerate(choices)}
    count = len(choices)
    value = np.array([costs.seconds[group][precision] for group, precision in choices])
    value = np.concatenate([value, [seconds for _, _, seconds in costs.borders]])

    # HiGHS's tolerances are absolute, and these are microseconds, and errors of a millionth: both are told in shares
    rows = [{place[choice]: costs.errors[choice[0]][choice[1]] / allowed for choice in choices}]
    low, high = [-np.inf], [1.0]
    for group, found in costs.seconds.items():
        rows.append({place[group, precision]: 1.0 for precision in found})
        low.append(1.0)
        high.append(1.0)
    for number, (one, other, _) in enumerate(costs.borders):
        for values in dict.fromkeys(passed(precision) for group in (one, other) for precision in costs.seconds[group]):
            differing = {count + number: -1.0}
            for group, sign in ((one, 1.0), (other, -1.0)):
                differing |= {place[group, p]: sign for p in costs.seconds[group] if passed(p) == values}
            rows.append(differing)
            low.append(-np.inf)
            high.append(0.0)
    matrix = sparse.lil_array((len(rows), len(value)))
    for row, entries in enumerate(rows):
        for column, entry in entries.items():
            matrix[row, column] = entry
    integral = np.concatenate([np.ones(count), np.zeros(len(costs.borders))])
    with hushed():  # HiGHS says now and then what it does
        solved = optimize.milp(
            value / value.max(),
            integrality=integral,
            bounds=optimize.Bounds(0, 1),
            constraints=optimize.LinearConstraint(sparse.csr_array(matrix), low, high),
            options={"time_limit": SECONDS, "mip_rel_gap": GAP},
        )
    if solved.x is None:
        return None
    return {group: precision for number, (group, precision) in enumerate(choices) if solved.x[number] > 0.5}
