"""How strong what trains may be."""

from __future__ import annotations

import numpy as np
import pytest

from strop.caution import caution
from strop.data import Data


def images(samples: int, zeros: float) -> Data:
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, 1, 8, 8)).astype(np.float32)
    return Data({"image": x * (random.random(x.shape) >= zeros)}, random.integers(0, 2, samples))


@pytest.mark.parametrize(
    ("samples", "zeros", "most", "said"),
    [
        (100, 0.0, 0.3, ["With 100 samples to train with, no more than 30% is pruned"]),
        (299, 0.9, 0.3, ["With 299 samples"]),
        (300, 0.0, 0.5, ["With 300 samples to train with, no more than 50% is pruned"]),
        (1000, 0.0, 1.0, []),
        (1000, 0.5, 1.0, []),
        (1000, 0.9, 0.5, ["90% of the inputs' values are zero, so no more than 50% is pruned"]),
    ],
)
def test_few_samples_and_zeros_hold_back(samples: int, zeros: float, most: float, said: list[str]) -> None:
    found, why = caution(images(samples, zeros))
    assert (found, len(why)) == (most, len(said))
    assert all(text.startswith(start) for text, start in zip(why, said, strict=True))


def test_bags_of_words_bear_their_zeros() -> None:
    assert caution(Data({"x": np.zeros((1000, 500), np.float32)}, np.zeros(1000))) == (1.0, [])
