"""How strong what trains may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strop.caution import FEW_ROWS, NONE, caution
from strop.data import Data
from strop.model import LIGHTGBM, SKLEARN, TORCH, Model, Signature

NETWORK = Model(TORCH, None, Signature((), ()))


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
    held = caution(images(samples, zeros), NETWORK)
    assert (held.most, len(held.why), held.doubts) == (most, len(said), "")
    assert all(text.startswith(start) for text, start in zip(held.why, said, strict=True))


def test_few_rows_let_what_trains_a_forest_come_last() -> None:
    few, many = (Data({"x": np.zeros((rows, 4))}) for rows in (FEW_ROWS - 1, FEW_ROWS))
    forest = replace(NETWORK, format=LIGHTGBM, counts={"trees": 500})
    held = caution(few, forest)
    assert held.most == 1.0 and f"{FEW_ROWS - 1:,} rows" in held.doubts and held.why[0].endswith("It is tried last.")
    assert caution(many, forest) == NONE == caution(few, replace(NETWORK, format=SKLEARN)), "of which nothing is known"


def test_bags_of_words_bear_their_zeros() -> None:
    assert caution(Data({"x": np.zeros((1000, 500), np.float32)}, np.zeros(1000)), NETWORK) == NONE
