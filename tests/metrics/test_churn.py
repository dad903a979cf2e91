"""Churn: what share of the predictions changed, and whether they were right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strop import metrics


def shares(found: dict[str, Any]) -> dict[str, float]:
    return {name: comparison.candidate().value for name, comparison in found.items()}


def test_changes_are_told_apart_by_the_labels(probe: Any) -> None:
    before, after, labels = [0, 0, 0, 1, 2, 1], [0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 2]
    eye = np.eye(3, dtype=np.float32)
    found = metrics.churn(probe(eye[before], eye[after], labels))
    assert shares(found) == pytest.approx({"changed": 4 / 6, "to_wrong": 1 / 6, "to_right": 1 / 6})
    assert found["changed"].n == 6
    low, high = found["to_wrong"].candidate().low, found["to_wrong"].candidate().high
    assert 0 < low < 1 / 6 < high < 0.6


def test_classes_need_no_labels(probe: Any) -> None:
    assert shares(metrics.churn(probe(np.array([0, -1, 2, 1]), np.array([0, -1, 2, 2])))) == {"changed": 0.25}


def test_nan_is_a_changed_prediction_and_wrong(probe: Any) -> None:
    eye = np.eye(2, dtype=np.float32)
    after = eye[[0, 1, 0, 1]]
    after[0] = np.nan
    found = shares(metrics.churn(probe(eye[[0, 1, 0, 1]], after, [0, 1, 0, 1])))
    assert found == {"changed": 0.25, "to_wrong": 0.25, "to_right": 0}


def test_a_slice_is_judged_by_its_rows_and_groups_stay_together(probe: Any) -> None:
    before, after = np.zeros(40, np.int64), (np.arange(40) < 10).astype(np.int64)
    whole = probe(before, after, np.zeros(40, np.int64), groups=np.arange(40) // 10)
    assert shares(metrics.churn(whole, np.arange(20)))["to_wrong"] == 0.5
    alone = probe(before, after, np.zeros(40, np.int64))
    spread = [metrics.churn(one)["changed"].candidate() for one in (whole, alone)]
    assert spread[0].high - spread[0].low > spread[1].high - spread[1].low


def test_steps_of_a_sequence_are_decisions(probe: Any) -> None:
    before = np.zeros((5, 4, 3), np.float32)
    before[..., 0] = 1
    after = before.copy()
    after[0, 0] = [0, 1, 0]
    found = metrics.churn(probe(before, after, np.zeros((5, 4), np.int64)))
    assert shares(found)["to_wrong"] == pytest.approx(1 / 20)


@pytest.mark.parametrize(
    ("outputs", "labels", "expected"),
    [
        (np.eye(3, dtype=np.float32), np.arange(3), True),
        (np.arange(3), None, True),
        (np.eye(3, dtype=np.float32), None, False),
        (np.eye(3, dtype=np.float32), np.array(["a", "b", "c"]), False),
        (np.ones((3, 1), np.float32), np.ones(3, np.float32), False),
    ],
)
def test_what_classifies(outputs: Any, labels: Any, expected: bool) -> None:
    assert metrics.classifies({"y": outputs}, labels) is expected
