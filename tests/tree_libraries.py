"""What every runtime that loads a forest owes: answers as the forest's own, the right way at every edge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from forests import edges, grown
from strop.data import Data
from strop.errors import NotApplicable
from strop.forest import Forest
from strop.formats.forest import save
from strop.model import Model
from strop.runtime import Runtime
from strop.target import Target
from strop.testing import Example, RuntimeCase

RNG = np.random.default_rng
Array = np.ndarray[Any, Any]

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "float32": {"dtype": "float32", "sums": "float32", "link": "sigmoid"},
    "float32 in, float64 sums": {"dtype": "float32", "link": "sigmoid of two"},
    "classes": {"outputs": 3, "trees": 7, "link": "softmax"},
    "scaled": {"link": "sigmoid", "scale": 0.7},
    "exponential": {"link": "exponential"},
    "signed square": {"link": "signed square"},
    "averaged": {"divisor": 5.0},
    "deep": {"deep": True, "leaves": 60},
    "empty": {"trees": 0},
    "one leaf": {"trees": 1, "leaves": 1, "features": 1},
    "shares of vectors": {"outputs": 3, "vectors": True, "link": "shares", "divisor": 5.0, "positive": True},
    "categories": {"subsets": 1.0},
    "never left, never right": {"infinite": True},
}


def forest_of(kind: str) -> Forest:
    settings = dict(KINDS[kind])
    positive, infinite = settings.pop("positive", False), settings.pop("infinite", False)
    forest = grown(RNG(5), **settings)
    if positive:
        forest = replace(forest, values=np.abs(forest.values), base=np.abs(forest.base))
    if infinite:
        chosen = RNG(6).random(len(forest.threshold))
        forest = replace(forest, threshold=np.select([chosen < 0.2, chosen > 0.8], [-np.inf, np.inf], forest.threshold))
    return replace(forest, nan_left=forest.nan_left & (forest.subset < 0)).check()


def answers(runtime: Runtime, forest: Forest, x: Array, folder: Path, threads: int = 1) -> Array:
    folder.mkdir(parents=True, exist_ok=True)
    model = save(forest, folder)
    runner = runtime.load(model, Target(threads=threads))
    (found,) = runner({"x": x}).values()
    runner.close()
    return found


class ForestRuntimeCase(RuntimeCase):
    """Attributes:
    tolerance: Largest error, relative to the largest value; that of sums in another order by default.
    refused: What the library has no like of.
    """

    runtime: ClassVar[type[Runtime]]
    tolerance: ClassVar[float] = 1e-15
    refused: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:  # one folder for all: what is compiled is found again
            patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
            yield

    def example(self, folder: Path) -> Example:
        folder.mkdir(parents=True, exist_ok=True)
        return Example(save(grown(RNG(1), link="sigmoid"), folder), Data({"x": RNG(0).normal(size=(30, 4))}))

    def broken(self, folder: Path) -> Model:
        model = self.example(folder).model
        model.path.write_bytes(model.path.read_bytes()[:300])
        return model

    def fitting(self, forest: Forest, x: Array) -> tuple[Forest, Array]:
        """Where the library is only near, what it is exact for."""
        return forest, x

    @pytest.mark.parametrize("kind", KINDS)
    def test_answers_as_the_forest_does(self, kind: str, tmp_path: Path) -> None:
        forest = forest_of(kind)
        forest, x = self.fitting(forest, edges(RNG(7), forest, 300))
        if kind in self.refused:
            with pytest.raises(NotApplicable):
                answers(self.runtime(), forest, x, tmp_path)
            return
        with np.errstate(over="ignore"):
            expected = forest.predict(x)
            found = answers(self.runtime(), forest, x, tmp_path)
            single = answers(self.runtime(), forest, x[:1], tmp_path)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        near = max(self.tolerance, 2e-7 * (forest.sums == "float32"))
        np.testing.assert_allclose(found, expected, rtol=4e-16, atol=near * np.abs(expected).max())
        np.testing.assert_array_equal(single, found[:1])

    def test_several_threads_answer_as_one(self, tmp_path: Path) -> None:
        forest = forest_of("plain")
        x = edges(RNG(8), forest, 501)
        one, two = (answers(self.runtime(), forest, x, tmp_path, threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)

    def test_zero_that_is_missing_is_refused_where_it_matters(self, tmp_path: Path) -> None:
        forest = grown(RNG(9), zero_missing=1.0)
        x = edges(RNG(7), forest, 3)
        with pytest.raises(NotApplicable, match="zero stands for missing"):
            answers(self.runtime(), forest, x, tmp_path)
        forest, x = self.fitting(replace(forest, threshold=forest.threshold + 0.05), x)
        forest = replace(forest, nan_left=forest.threshold > 0)
        found = answers(self.runtime(), forest, x, tmp_path)
        np.testing.assert_allclose(found, forest.predict(x), rtol=1e-6)

    def test_a_column_of_numbers_and_categories_is_refused(self, tmp_path: Path) -> None:
        forest = grown(RNG(9), subsets=0.5)
        with pytest.raises(NotApplicable, match="numbers in some splits and categories in others"):
            answers(self.runtime(), forest, edges(RNG(7), forest, 3), tmp_path)
