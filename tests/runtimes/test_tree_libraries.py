"""The libraries that run any forest: GTIL, TL2cgen, lleaves, oneDAL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from forests import edges
from strop import formats
from strop._lazy import installed
from strop.forest import Forest
from strop.formats._lightgbm_text import lightgbm_text
from strop.formats._plain_trees import plain
from strop.model import FOREST
from strop.native.library import compiler
from strop.prepare import reference
from strop.runtime import Runtime
from strop.runtimes import Gtil, Lleaves, Native, Tl2cgen
from tree_libraries import KINDS, RNG, Array, ForestRuntimeCase, answers, forest_of

HERE = Path(__file__).parent


@pytest.mark.skipif(not installed("treelite"), reason="needs the extra trees")
class TestGtil(ForestRuntimeCase):
    runtime: ClassVar[type[Runtime]] = Gtil


@pytest.mark.skipif(not installed("tl2cgen") or compiler() is None, reason="needs the extra trees, and a C compiler")
class TestTl2cgen(ForestRuntimeCase):
    runtime: ClassVar[type[Runtime]] = Tl2cgen
    refused: ClassVar[frozenset[str]] = frozenset({"never left, never right"})

    @pytest.mark.parametrize("kind", ["plain", "float32", "categories"])
    def test_numbers_as_they_are_answer_alike(self, kind: str, tmp_path: Path) -> None:
        forest = forest_of(kind)
        x = edges(RNG(7), forest, 300)
        found, expected = (answers(Tl2cgen(quantize=quantize), forest, x, tmp_path) for quantize in (False, True))
        np.testing.assert_array_equal(found, expected)

    def test_what_was_compiled_is_used_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        forest = forest_of("plain")
        x = edges(RNG(7), forest, 9)
        first = answers(Tl2cgen(), forest, x, tmp_path)
        monkeypatch.setattr(Tl2cgen, "_generate", None)
        np.testing.assert_array_equal(answers(Tl2cgen(), forest, x, tmp_path), first)


@pytest.mark.skipif(not installed("lleaves"), reason="needs the extra trees")
class TestLleaves(ForestRuntimeCase):
    runtime: ClassVar[type[Runtime]] = Lleaves
    refused: ClassVar[frozenset[str]] = frozenset({"shares of vectors"})

    def fitting(self, forest: Forest, x: Array) -> tuple[Forest, Array]:
        """A threshold of zero is the smallest number above it there."""
        return forest, np.where(x == np.finfo(x.dtype).smallest_subnormal, 0, x)


@pytest.mark.skipif(not installed("daal4py"), reason="needs the extra trees")
def test_onedal_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "daal4py_cases.py")]
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-3000:]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("shares of vectors", "averaged")])
def test_text_for_lleaves_is_lightgbms(kind: str, tmp_path: Path) -> None:
    forest = forest_of(kind)
    (tmp_path / "model.txt").write_text(lightgbm_text(plain(forest)))
    model = formats.open(tmp_path / "model.txt")
    room = formats.format_of(model.format)
    again = room.forest(model)  # type: ignore[attr-defined]
    x = RNG(3).normal(size=(200, forest.features)).astype(forest.dtype)
    x[RNG(4).random(x.shape) < 0.1] = np.nan
    np.testing.assert_allclose(again.scores(x), forest.scores(x), rtol=1e-6, atol=1e-6)


def test_what_refuses_some_forests_is_no_reference() -> None:
    assert isinstance(reference(FOREST)[1], Native)
