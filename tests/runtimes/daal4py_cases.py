"""oneDAL's cases, which `test_tree_libraries.py` runs: no process can load it after OpenVINO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from forests import grown
from strop.forest import Forest
from strop.runtime import Runtime
from strop.runtimes import Daal4py
from tree_libraries import RNG, Array, ForestRuntimeCase, answers

pytest.importorskip("daal4py")


class TestDaal4py(ForestRuntimeCase):
    runtime: ClassVar[type[Runtime]] = Daal4py
    tolerance: ClassVar[float] = 2e-6  # its leaves are float32
    refused: ClassVar[frozenset[str]] = frozenset({"categories"})

    def fitting(self, forest: Forest, x: Array) -> tuple[Forest, Array]:
        """Its thresholds are float32."""
        with np.errstate(over="ignore"):
            threshold, x = forest.threshold.astype(np.float32), x.astype(np.float32).astype(forest.dtype)
        return replace(forest, threshold=threshold), x

    def test_only_what_lies_between_two_float32_may_go_astray(self, tmp_path: Path) -> None:
        forest = grown(RNG(1), trees=5, leaves=30)
        x = RNG(2).choice(forest.threshold[forest.feature >= 0], (2000, forest.features))
        lower = forest.threshold.astype(np.float32).astype(np.float64)
        lower = np.where(lower > forest.threshold, np.nextafter(lower.astype(np.float32), -np.inf), lower)
        between = ((x[:, :, None] > lower) & (x[:, :, None] <= forest.threshold)).any(axis=(1, 2))
        wrong = np.abs(answers(Daal4py(), forest, x, tmp_path) - forest.predict(x)) > 1e-5
        assert wrong.any()
        assert not (wrong & ~between).any()
