"""Fairness: rates by hand, gaps between values, and how often the bounds on a gap's change are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from strop import fairness as module
from strop.fairness import fairness

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
    unseen = 1 - 0.025 ** (1 / 200)
    assert (gap.change.low, gap.change.high) == pytest.approx((-unseen, unseen))
    assert (gap.original.low, gap.original.value) == (0, 0)
    assert 0.08 < gap.original.high < 0.18  # two rates of 0.5, each of 200; resamples lean to one side


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((0.3, 0.3), (0.3, 0.3)),
        ((0.3, 0.3, 0.3, 0.3), (0.3, 0.3, 0.3, 0.4)),
        ((0.3, 0.3, 0.3, 0.4), (0.3, 0.3, 0.3, 0.3)),
        ((0.2, 0.3, 0.4, 0.5), (0.15, 0.3, 0.4, 0.5)),
    ],
)
def test_bounds_on_gaps_and_their_change_hold(before: Any, after: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is wrong in at most 5 % of simulated samples; one standard error of 60 times is 2.8 %."""
    drawn = list(module.counts(np.random.default_rng(0), 2000, 400 * len(before)))
    monkeypatch.setattr(module, "counts", lambda *_: drawn)
    random, truth, times = np.random.default_rng(1), np.ptp(after) - np.ptp(before), 60
    rows = {f"value={place}": np.arange(400) + 400 * place for place in range(len(before))}
    labels = np.arange(400 * len(before)) % 2
    wrong = np.zeros(4)
    for _ in range(times):
        luck = random.random(len(labels))
        again = np.where(random.random(len(labels)) < 0.9, luck, random.random(len(labels)))
        sides = [chance < np.repeat(rates, 400) for chance, rates in ((luck, before), (again, after))]
        gap = fairness(probe(*sides, labels), rows)["selection_rate"].gap
        assert gap is not None
        wrong += (
            gap.change.low > truth, gap.change.high < truth,
            gap.original.low > np.ptp(before), gap.original.high < np.ptp(before),
        )  # fmt: skip
    assert (wrong / times).max() <= 0.05 + 2 * 0.028
