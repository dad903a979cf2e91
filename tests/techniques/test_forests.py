"""What is done to forests."""

from __future__ import annotations

import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forests import edges, grown
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.forest import Forest
from strop.formats.forest import SOURCE, save
from strop.model import Model
from strop.native.library import SOURCES, compiler
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import SimplifyForest, ToForest, ToNative, TruncateRounds
from strop.techniques.simplify_forest import simplified
from strop.techniques.truncate_rounds import truncated
from strop.testing import Example, TechniqueCase

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
RNG = np.random.default_rng


def example(folder: Path, **settings: Any) -> Example:
    """A forest whose later trees weigh ever less, as in boosting."""
    folder.mkdir(parents=True, exist_ok=True)
    forest = grown(RNG(0), trees=20, leaves=10, **settings)
    tree = forest.tree[np.flatnonzero(forest.leaf >= 0)]
    forest = replace(forest, values=forest.values * 0.4 ** tree[:, None])
    return Example(save(forest, folder), Data({"x": RNG(1).normal(size=(30, 4))}))


def boosted(folder: Path, **settings: Any) -> Example:
    lightgbm = pytest.importorskip("lightgbm")
    folder.mkdir(parents=True, exist_ok=True)
    x = RNG(2).normal(size=(300, 4))
    data = lightgbm.Dataset(x, (x[:, 0] * x[:, 1] > 0).astype(int))
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 7, **settings}, data, 10)
    booster.save_model(str(folder / "model.txt"))
    return Example(formats.open(folder / "model.txt"), Data({"x": x[:30]}))


class TestToForest(TechniqueCase):
    technique = ToForest

    def example(self, folder: Path) -> Example:
        return boosted(folder)

    def misfit(self, folder: Path) -> Model | None:
        model = boosted(folder).model
        model.path.write_text("tree\nand no more\n")
        return model


class TestToNative(TechniqueCase):
    technique = ToNative

    def example(self, folder: Path) -> Example:
        return example(folder)


class TestSimplifyForest(TechniqueCase):
    technique = SimplifyForest

    def example(self, folder: Path) -> Example:
        return example(folder)


class TestTruncateRounds(TechniqueCase):
    technique = TruncateRounds

    def example(self, folder: Path) -> Example:
        return example(folder)

    def misfit(self, folder: Path) -> Model | None:
        folder.mkdir(parents=True)
        return save(grown(RNG(3), trees=1), folder)


def test_what_is_shipped_can_be_built_again_by_hand(tmp_path: Path) -> None:
    given = example(tmp_path / "example")
    (tmp_path / "made").mkdir()
    made = apply(ToNative(), given.model, Context(None, given.model, Target(), 0, tmp_path / "made"))
    assert [file.name for file in made.files] == ["model.so", "model.so.seal", "forest.h", SOURCE]
    with zipfile.ZipFile(made.path.with_name(SOURCE)) as archive:
        archive.extractall(tmp_path / "source")
        assert set(archive.namelist()) == {*SOURCES, "forest.npz"}
    command = next(line for line in (tmp_path / "source/forest.c").read_text().splitlines() if " -o model.so" in line)
    subprocess.run(command.split(), cwd=tmp_path / "source", check=True)
    assert (tmp_path / "source/model.so").stat().st_size > 10_000


@pytest.mark.parametrize("seed", range(6))
def test_simpler_and_the_same(seed: int) -> None:
    """Few thresholds and few different leaves: most splits are decided by others, or decide nothing."""
    rng = RNG(seed)
    forest = grown(rng, trees=6, leaves=60, features=2, subsets=0.1 * (seed % 2), zero_missing=0.1 * (seed // 2))
    forest = replace(forest, threshold=np.round(forest.threshold), values=np.round(forest.values / 2))
    found = simplified(forest).check()
    assert len(found.feature) < 0.6 * len(forest.feature)
    x = edges(rng, forest, 2000)
    np.testing.assert_array_equal(found.predict(x), forest.predict(x))
    again = simplified(found)
    assert len(again.feature) == len(found.feature)


def test_splits_that_are_decided_and_leaves_that_are_equal_go() -> None:
    def forest(**changes: Any) -> Forest:
        given: dict[str, Any] = {
            "feature": [0, 0, -1, -1, -1], "threshold": [1.0, 2.0, 0, 0, 0], "left": [1, 2, -1, -1, -1],
            "right": [4, 3, -1, -1, -1], "nan_left": [False] * 5, "zero_missing": [False] * 5, "subset": [-1] * 5,
            "leaf": [-1, -1, 0, 1, 2], "count": [5.0] * 5, "gain": [1.0] * 5, "members": [], "member_ends": [],
            "values": [[1.0], [2.0], [3.0]], "roots": [0], "output": [0], "base": [0.0], "features": 1,
        }  # fmt: skip
        return Forest(**{**given, **changes}).check()

    assert len(simplified(forest()).feature) == 3, "x <= 1 is x <= 2, and NaN went right"
    assert len(simplified(forest(nan_left=[True, False, False, False, False])).feature) == 5, "NaN still decides"
    assert len(simplified(forest(nan_left=[True, True, False, False, False])).feature) == 3
    assert len(simplified(forest(zero_missing=[False, True, False, False, False])).feature) == 5
    equal = simplified(forest(values=[[1.0], [1.0], [1.0]], threshold=[2.0, 1.0, 0, 0, 0]))
    assert (len(equal.feature), equal.predict(np.zeros((1, 1))).tolist()) == (0, [1.0])


@pytest.mark.parametrize("settings", [{}, {"outputs": 3}, {"outputs": 3, "vectors": True}, {"divisor": 12.0}])
def test_the_first_rounds_stay(settings: dict[str, Any]) -> None:
    forest = grown(RNG(5), trees=12, **settings)
    half, least = truncated(forest, 0.5), truncated(forest, 0.95)
    assert half.trees == 6
    assert least.trees == (3 if settings.get("outputs") and not settings.get("vectors") else 1)
    x = edges(RNG(6), forest, 50)
    alone = replace(
        forest, roots=forest.roots[:6], output=forest.output[:6], divisor=6.0 if "divisor" in settings else 1.0
    )
    np.testing.assert_array_equal(half.predict(x), alone.predict(x))


def test_a_broken_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    given = boosted(tmp_path / "example")
    given.model.path.write_bytes(given.model.path.read_bytes()[:600])
    (tmp_path / "made").mkdir()
    with pytest.raises(NotApplicable, match=r"model\.txt"):
        ToForest().apply(given.model, Context(None, given.model, Target(), 0, tmp_path / "made"))
