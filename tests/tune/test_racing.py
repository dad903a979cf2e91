"""What is called a difference: right as often as it says, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from strop.tune.race import spelled
from strop.tune.racing import Folds, Noise, apart, corrected_for_choice, standard_error

RNG = np.random.default_rng(0)


def test_equal_candidates_are_called_apart_in_at_most_5_percent() -> None:
    """Differences that share a part, as those of folds with common training data do (correlation 0.2 of 5 folds)."""
    shared = RNG.normal(size=(2000, 1)) * np.sqrt(0.2)
    differences = shared + RNG.normal(size=(2000, 5)) * np.sqrt(0.8)
    assert np.mean([apart(row, ratio=0.25) for row in differences]) <= 0.06
    naive = np.abs(differences.mean(axis=1)) / (differences.std(axis=1, ddof=1) / np.sqrt(5)) > 2.13
    assert naive.mean() / 2 > 0.06, "without the correction it would be called too often"


def test_a_clear_difference_is_found() -> None:
    assert apart(np.array([0.1, 0.12, 0.09, 0.11, 0.1]), ratio=0.25)
    assert not apart(-np.array([0.1, 0.12, 0.09, 0.11, 0.1]), ratio=0.25)
    assert apart(np.full(5, 0.01), ratio=0.25)
    assert not apart(np.zeros(5), ratio=0.25)
    assert not apart(np.array([0.3]), ratio=0.25), "one fold tells nothing about spread"


def test_the_corrected_error_is_that_of_the_paper() -> None:
    differences = np.array([0.02, -0.01, 0.03, 0.0])
    variance = differences.var(ddof=1) * (1 / 4 + 1 / 3)
    assert standard_error(differences, 1 / 3) == pytest.approx(np.sqrt(variance))


def test_a_candidate_that_equals_the_best_is_seldom_dropped_on_its_first_fold() -> None:
    noise = Noise()
    assert not noise.hopeless(np.array([9.0]), 0.25), "nothing is known of the noise yet"
    assert noise.hopeless(np.array([0.5, 0.51, 0.49]), 0.25), "but that three folds agree is"
    for _ in range(40):
        noise.learn(RNG.normal(0, 0.01, 5))
    dropped = np.mean([noise.hopeless(np.array([behind]), 0.25) for behind in RNG.normal(0, 0.01, 2000)])
    assert dropped < 0.08
    assert noise.hopeless(np.array([0.05]), 0.25)
    assert not noise.hopeless(np.array([-0.05]), 0.25)


def test_the_choice_of_the_best_of_equals_is_corrected_for() -> None:
    """Of candidates that are all worth 0 the best seems better, by the folds it was chosen on."""
    flattered, corrected = [], []
    for _ in range(300):
        table = RNG.normal(size=(20, 10))
        best = int(table.mean(axis=1).argmax())
        flattered.append(table[best].mean())
        corrected.append(table[best].mean() - corrected_for_choice(list(table), best))
    assert np.mean(flattered) > 0.5
    assert np.mean(corrected) < 0, "it is cautious"


def test_folds_compare_as_a_comparison_does() -> None:
    X, y = RNG.normal(size=(200, 3)), RNG.integers(0, 2, 200)
    scores = [cross_val_score(LogisticRegression(C=c), X, y) for c in (1.0, 0.001)]
    found = Folds(scores[0], scores[1], 0.25, 200)
    assert found.original().value == pytest.approx(scores[0].mean())
    assert found.ratio().low <= scores[1].mean() / scores[0].mean() <= found.ratio().high
    margin = found.margin(0.99, 0.0)
    assert margin.low <= (scores[1] - 0.99 * scores[0]).mean() <= margin.high
    assert found.margin(0.0, 0.4).value == pytest.approx(scores[1].mean() - 0.4)


def test_parameters_are_spelled_on_one_line() -> None:
    assert spelled({"a\nb": "v\n" * 500, "c": 0.123456}) == f"a b={'v ' * 28}v..., c=0.1235"
