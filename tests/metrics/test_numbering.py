"""Labels that number classes otherwise than the model does."""

from __future__ import annotations

import numpy as np
import pytest

from strop.metrics import find, misnumbered

RNG = np.random.default_rng(0)


def answers(truth: np.ndarray, right: float, classes: int) -> dict[str, np.ndarray]:
    """One-hot scores of which a share is right."""
    found = np.where(RNG.random(len(truth)) < right, truth, RNG.integers(0, classes, len(truth)))
    return {"scores": np.eye(classes, dtype=np.float32)[found]}


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_another_numbering_is_told_with_what_it_would_have_right(classes: int) -> None:
    truth = RNG.integers(0, classes, 1000)
    said = misnumbered(find("accuracy"), answers(truth, 0.9, classes), (truth + 1) % classes)
    assert "if labels were numbered otherwise" in said
    assert any(f"class {one} is labelled {(one + 1) % classes}" in said for one in range(classes))


def test_a_single_score_turned_around_is_told() -> None:
    truth = RNG.integers(0, 2, 500)
    scores = np.clip(truth + RNG.normal(0, 0.3, 500), 0, 1).astype(np.float32)
    assert "0 is labelled 1" in misnumbered(find("accuracy"), {"score": scores}, 1 - truth)
    assert not misnumbered(find("accuracy"), {"score": scores}, truth)


@pytest.mark.parametrize("right", [0.0, 0.3, 0.9])
def test_a_poor_model_is_none(right: float) -> None:
    truth = RNG.integers(0, 5, 1000)
    assert not misnumbered(find("accuracy"), answers(truth, right, 5), truth)


def test_nor_is_one_that_always_says_the_most_frequent_class() -> None:
    labels = (RNG.random(1000) < 0.02).astype(np.int64)
    scores = {"scores": np.tile(np.array([[0.9, 0.1]], np.float32), (1000, 1))}
    assert not misnumbered(find("accuracy"), scores, labels)
    assert not misnumbered(find("accuracy"), scores, 1 - labels), "all but 2 % wrong, and no numbering tells them apart"


def test_few_samples_prove_nothing_and_what_is_no_class_is_none() -> None:
    truth = RNG.integers(0, 10, 50)
    assert not misnumbered(find("accuracy"), answers(truth, 1.0, 10), (truth + 1) % 10)
    assert not misnumbered(find("accuracy"), {"y": RNG.normal(size=(50, 1))}, RNG.normal(size=50))
    assert not misnumbered(find("accuracy"), {"y": RNG.normal(size=(50, 1))}, None)


def test_words_of_a_language_are_too_many_to_tell() -> None:
    truth = RNG.integers(0, 1001, 20_000)
    assert not misnumbered(find("accuracy"), {"words": (truth + 1) % 1001}, truth)
    assert misnumbered(find("accuracy"), {"words": (truth % 1000 + 1) % 1000}, truth % 1000)
