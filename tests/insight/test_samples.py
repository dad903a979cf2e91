"""Which samples are answered otherwise is what NumPy finds, and the worst come first."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.insight.samples import LISTED, samples

RNG = np.random.default_rng
Array = np.ndarray[Any, Any]


def of(original: Array, candidate: Array, labels: Array | None = None, **more: Any) -> dict[str, Any]:
    given = {"classes": (), "forced": False, **more}
    return samples({"scores": original}, {"scores": candidate}, labels, given["classes"], given["forced"])


def classes(seed: int = 0, samples: int = 300) -> tuple[Array, Array, Array]:
    rng = RNG(seed)
    original = rng.normal(size=(samples, 5)).astype(np.float32)
    return original, original + rng.normal(0, 0.4, original.shape).astype(np.float32), rng.integers(0, 5, samples)


def test_the_samples_that_changed_are_those_that_numpy_finds() -> None:
    original, candidate, labels = classes()
    found = of(original, candidate, labels)
    before, after = original.argmax(1), candidate.argmax(1)
    changed = np.flatnonzero(before != after)
    assert found["rows"] == changed.tolist() and found["changed"] == len(changed) > LISTED
    assert found["decisions"] == 300
    assert found["to_wrong"] == int(((before == labels) & (after != labels)).sum())
    assert found["to_right"] == int(((before != labels) & (after == labels)).sum())
    margins = {row: float(candidate[row, after[row]] - candidate[row, before[row]]) for row in changed.tolist()}
    listed = [(one["row"], one["margin"]) for one in found["worst"]]
    expected = sorted(margins.items(), key=lambda item: -item[1])[:LISTED]
    assert [row for row, _ in listed] == [row for row, _ in expected]
    np.testing.assert_allclose([margin for _, margin in listed], [margin for _, margin in expected], rtol=1e-5)
    for one in found["worst"]:
        row = one["row"]
        assert (one["label"], one["original"], one["candidate"]) == (labels[row], before[row], after[row])


def test_classes_are_called_as_the_model_calls_them() -> None:
    original, candidate, labels = classes(samples=40)
    found = of(original, candidate, labels, classes=("a", "b", "c", "d", "e"))
    row = found["worst"][0]["row"]
    assert found["worst"][0]["original"] == "abcde"[original[row].argmax()]


def test_a_single_score_is_cut_in_the_middle() -> None:
    original, candidate = np.array([0.4, 0.6, 0.9, 0.1]), np.array([0.7, 0.55, 0.4, 0.05])
    found = of(original, candidate, np.array([0, 1, 1, 0]))
    assert found["rows"] == [0, 2] and (found["to_wrong"], found["to_right"]) == (2, 0)
    assert [one["row"] for one in found["worst"]] == [0, 2]
    np.testing.assert_allclose([one["margin"] for one in found["worst"]], [0.2, 0.1])


def test_without_labels_probabilities_are_of_classes_and_other_numbers_only_if_that_is_said() -> None:
    original, candidate, _ = classes(samples=60)
    powers = [np.exp(side) / np.exp(side).sum(1, keepdims=True) for side in (original, candidate)]
    changed = np.flatnonzero(original.argmax(1) != candidate.argmax(1)).tolist()
    assert of(*powers)["rows"] == of(original, candidate, forced=True)["rows"] == changed
    found = of(original, candidate)
    assert found["changed"] is None and found["rows"] is None
    off = np.sqrt(((candidate - original) ** 2).sum(1) / (original**2).sum(1))
    assert [one["row"] for one in found["worst"]] == np.argsort(-off)[:LISTED].tolist()
    np.testing.assert_allclose([one["error"] for one in found["worst"]], np.sort(off)[::-1][:LISTED], rtol=1e-5)


def test_steps_of_a_sample_are_told_with_their_sample() -> None:
    original = np.zeros((6, 4, 3), np.float32)
    original[..., 0] = 1
    candidate = original.copy()
    candidate[2, 3] = candidate[5, 0] = [0, 0, 1]
    found = of(original, candidate, np.zeros((6, 4), np.int64))
    assert found["rows"] == [2, 5] and found["decisions"] == 24 and found["to_wrong"] == 2
    assert [(one["row"], one["step"]) for one in found["worst"]] == [(2, 3), (5, 0)]


def test_numbers_that_are_none_are_no_prediction() -> None:
    original, candidate, labels = classes(samples=20)
    candidate[7] = np.nan
    found = of(original, candidate, labels)
    assert 7 in found["rows"]
    (lost,) = [one for one in found["worst"] if one["row"] == 7]
    assert lost["candidate"] is None and lost["margin"] is None
    assert found["worst"][0] == lost, "nothing is worse"


def test_classes_in_integers_have_no_margin() -> None:
    found = of(np.array([1, 2, 3]), np.array([1, 0, 3]), np.array([1, 2, 3]))
    assert found["rows"] == [1] and found["worst"][0]["margin"] is None


def test_outputs_of_another_shape_are_compared_by_none() -> None:
    assert of(np.zeros((3, 2)), np.zeros((3, 4)))["worst"] == []
