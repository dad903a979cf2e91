"""Fairness: rates by hand, gaps between values, and how often the bounds on a gap's change are wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from strop.fairness import Gap, fairness
from strop.fairness import gap as gap_of
from strop.stats import Binary

Array = np.ndarray[Any, Any]


@dataclass
class Probe:
    original_outputs: dict[str, Array]
    candidate_outputs: dict[str, Array]
    labels: Array | None
    groups: Array | None = None
    seed: int = 0


def probe(before: Any, after: Any, labels: Any, groups: Any = None) -> Any:
    """Of a classifier that says yes with a logit above 0."""
    sides = [{"y": np.where(np.asarray(side), 3.0, -3.0).astype(np.float32)} for side in (before, after)]
    return Probe(sides[0], sides[1], np.asarray(labels), groups)


HALVES = {"sex=F": np.arange(200), "sex=M": np.arange(200, 400)}
LABELS = np.arange(400) % 2


def test_rates_are_shares_of_all_of_positives_and_of_negatives() -> None:
    before, after = LABELS == 1, LABELS == 1
    after = after.copy()
    after[np.flatnonzero(LABELS == 1)[:40]] = False  # 40 of the 100 positives of F are missed
    after[np.flatnonzero(LABELS == 0)[-10:]] = True  # 10 of the 100 negatives of M are taken in
    found = fairness(probe(before, after, LABELS), HALVES)
    shown = {
        name: {v: (one.original.value, one.candidate.value, one.n) for v, one in rates.values.items()}  # type: ignore[union-attr]
        for name, rates in found.items()
    }
    assert shown == {
        "selection_rate": {"sex=F": (0.5, 0.3, 200), "sex=M": (0.5, 0.55, 200)},
        "true_positive_rate": {"sex=F": (1.0, 0.6, 100), "sex=M": (1.0, 1.0, 100)},
        "false_positive_rate": {"sex=F": (0.0, 0.0, 100), "sex=M": (0.0, 0.1, 100)},
    }
    for name, change in (("selection_rate", 0.25), ("true_positive_rate", 0.4), ("false_positive_rate", 0.1)):
        gap = found[name].gap
        assert gap is not None
        assert gap.change.value == pytest.approx(change)
        assert gap.change.low < change < gap.change.high
    missed = found["true_positive_rate"].gap
    assert missed is not None and missed.change.low > 0.25 and missed.change.high < 0.55


def test_values_with_too_few_samples_are_undecidable_and_left_out() -> None:
    labels = LABELS.copy()
    labels[220:400] = 0  # 10 positives among M
    rows = {**HALVES, "sex=X": np.arange(20)}
    found = fairness(probe(labels == 1, labels == 1, labels), rows)
    assert found["selection_rate"].values["sex=X"].original is None
    assert found["selection_rate"].gap is not None
    positives = found["true_positive_rate"]
    assert positives.values["sex=M"].candidate is None and positives.values["sex=M"].n == 10
    assert positives.values["sex=F"].candidate is not None
    assert positives.gap is None


def test_no_change_in_the_samples_is_no_proof_of_none() -> None:
    gap = fairness(probe(LABELS == 1, LABELS == 1, LABELS), HALVES)["selection_rate"].gap
    assert gap is not None and gap.change.value == 0
    unseen = (1 - 0.025 ** (1 / 200)) * math.sqrt(2)  # on either side, each pair at half the error
    assert (gap.change.low, gap.change.high) == pytest.approx((-unseen, unseen))
    assert (gap.original.low, gap.original.value) == (0, 0)
    assert 0.08 < gap.original.high < 0.09  # two rates of 0.5, each of 200: 1.645 times their error of 0.05, and a bit


def test_nan_is_the_wrong_answer() -> None:
    given = probe(LABELS == 1, LABELS == 1, LABELS)
    given.candidate_outputs["y"] = np.where(np.arange(400) < 200, np.nan, given.candidate_outputs["y"])
    found = fairness(given, HALVES)
    for name, rate in (("true_positive_rate", 0), ("false_positive_rate", 1)):
        told = found[name].values["sex=F"].candidate
        assert told is not None and told.value == rate


@pytest.mark.parametrize(
    "given",
    [
        Probe({"y": np.eye(4, dtype=np.float32)[LABELS]}, {"y": np.eye(4, dtype=np.float32)[LABELS]}, LABELS),
        Probe({"y": np.ones(400, np.float32)}, {"y": np.ones(400, np.float32)}, None),
        Probe({"y": np.ones(400, np.float32)}, {"y": np.ones(400, np.float32)}, LABELS / 2),
        Probe({"y": np.ones((400, 3), np.float32)}, {"y": np.ones((400, 3), np.float32)}, np.ones((400, 3), np.int64)),
    ],
)
def test_of_other_tasks_nothing_is_told(given: Any) -> None:
    assert fairness(given, HALVES) == {}


def test_samples_of_a_group_are_drawn_together() -> None:
    random = np.random.default_rng(0)
    after = (LABELS == 1) ^ np.repeat(random.random(40) < 0.2, 10)  # ten at a time
    widths = []
    for groups in (None, np.arange(400) // 10):
        gap = fairness(probe(LABELS == 1, after, LABELS, groups), HALVES)["true_positive_rate"].gap
        assert gap is not None
        widths.append(gap.change.high - gap.change.low)
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.parametrize("straddling", [False, True])
def test_groups_that_hold_several_values_widen_the_gap(straddling: bool) -> None:
    """Users who appear under both values: their rates hang together, nobody knows how."""
    groups = np.arange(400) % 200 if straddling else np.arange(400)
    gap = fairness(probe(LABELS == 1, LABELS == 1, LABELS, groups), HALVES)["selection_rate"].gap
    assert gap is not None
    assert (gap.original.high > 0.1) == straddling


def test_of_a_value_that_is_one_group_nothing_is_known() -> None:
    given = probe(LABELS == 1, LABELS == 1, LABELS, np.where(np.arange(400) < 200, 0, np.arange(400)))
    gap = fairness(given, {**HALVES, "sex=X": np.arange(300, 400)})["selection_rate"].gap
    assert gap is not None
    assert gap.original.low == 0
    assert 0.5 < gap.original.high < 0.6, "from 0 or 1 to what the others may have, about 0.5"
    assert (gap.change.low, gap.change.high) == (-1, 1)


def apart(before: Any, after: Any, sizes: Any, flips: float, random: np.random.Generator) -> Gap:
    """The gap of rates over independent samples; so many are decided anew."""
    rates = []
    for first, second, size in zip(before, after, sizes, strict=True):
        luck = random.random(size)
        again = np.where(random.random(size) < flips, random.random(size), luck)
        rates.append(Binary(luck < first, again < second))
    return gap_of(rates)


CASES = {
    "alike": ((0.3, 0.3), (0.3, 0.3), 0.1),
    "apart": ((0.3, 0.5), (0.3, 0.5), 0.1),
    "rare": ((0.02, 0.02), (0.02, 0.02), 0.01),
    "near 1": ((0.99, 0.95), (0.99, 0.9), 0.1),
    "four alike": ((0.3, 0.3, 0.3, 0.3), (0.3, 0.3, 0.3, 0.3), 0.1),
    "four, one leaves": ((0.3, 0.3, 0.3, 0.3), (0.3, 0.3, 0.3, 0.4), 0.1),
    "four, one comes back": ((0.3, 0.3, 0.3, 0.4), (0.3, 0.3, 0.3, 0.3), 0.1),
    "four apart": ((0.2, 0.3, 0.4, 0.5), (0.15, 0.3, 0.4, 0.5), 0.1),
    "ends change": ((0.5, 0.3, 0.3), (0.3, 0.3, 0.5), 0.1),
}


@pytest.mark.parametrize("case", CASES)
def test_bounds_on_gaps_and_their_change_hold(case: str) -> None:
    """Each of the eight bounds is wrong in at most 5 % of 150 samples; three standard errors are 5.3 points.

    The second value has half as many samples again.
    """
    before, after, flips = CASES[case]
    random, wrong, repeats = np.random.default_rng(1), np.zeros(6), 150
    sizes = [100 + 50 * (place % 2) for place in range(len(before))]
    for _ in range(repeats):
        found = apart(before, after, sizes, flips, random)
        for at, (one, truth) in enumerate(
            [
                (found.original, np.ptp(before)),
                (found.candidate, np.ptp(after)),
                (found.change, np.ptp(after) - np.ptp(before)),
            ]
        ):
            wrong[2 * at : 2 * at + 2] += one.low > truth + 1e-12, one.high < truth - 1e-12
    assert wrong.max() / repeats <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)


def test_bounds_on_a_gap_are_not_needlessly_wide() -> None:
    """Two values well apart, 1,000 samples each: the interval that knew the spread is 1.645 standard errors each way.

    That of the change would be 1.96, since half of the error is kept for another pair.
    """
    random = np.random.default_rng(2)
    found = [apart((0.3, 0.5), (0.3, 0.5), (1000, 1000), 0.1, random) for _ in range(100)]
    for name, wide in (("original", 1.15), ("change", 1.45)):
        intervals = [getattr(one, name) for one in found]
        width = np.mean([one.high - one.low for one in intervals])
        assert width <= wide * 2 * 1.645 * np.std([one.value for one in intervals])


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("values", [2, 5])
def test_where_nothing_flips_a_gap_is_hardly_wider_than_one_rate(n: int, values: int) -> None:
    """No bound on a gap is narrower than that of one of its rates, which is exact; two make it 1.74 times as wide."""
    rates = [Binary(np.arange(n) % 2, np.arange(n) % 2) for _ in range(values)]
    change = gap_of(rates).change
    exact = rates[0].margin(1, 0)
    assert exact.high < change.high <= 1.75 * exact.high
    assert change.low == -change.high
