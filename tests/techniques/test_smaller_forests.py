"""Forests with fewer leaves, with leaves fitted anew, and on a grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forests import edges, grown
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable, UnsupportedModel
from strop.forest import Forest
from strop.formats.forest import ForestFormat, save
from strop.formats.trees import notes
from strop.learning import Training
from strop.model import FOREST, Model
from strop.native.library import compiler
from strop.plan import routes
from strop.runtimes import Native
from strop.target import Target
from strop.technique import Context, Needs, apply
from strop.techniques import (
    PruneLeaves,
    QuantizeForest,
    RefitLeaves,
    SimplifyForest,
    ToForest,
    ToNative,
    TruncateRounds,
)
from strop.techniques._leaves import weights
from strop.techniques.prune_leaves import pruned
from strop.techniques.quantize_forest import binned, rounded
from strop.techniques.refit_leaves import refitted
from strop.techniques.simplify_forest import simplified
from strop.techniques.truncate_rounds import truncated
from strop.testing import Example, TechniqueCase

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
RNG = np.random.default_rng
KINDS: list[dict[str, Any]] = [
    {}, {"outputs": 3}, {"outputs": 3, "vectors": True}, {"divisor": 12.0, "subsets": 0.2}, {"counted": False},
    {"deep": True, "zero_missing": 0.2, "dtype": "float32", "sums": "float32"},
]  # fmt: skip


def example(folder: Path, **settings: Any) -> Example:
    """A forest whose later trees weigh ever less, as in boosting, and who differ little within a tree."""
    folder.mkdir(parents=True, exist_ok=True)
    forest = grown(RNG(0), trees=20, leaves=10, **settings)
    tree = forest.tree[np.flatnonzero(forest.leaf >= 0)]
    forest = replace(forest, values=forest.values * 0.02 + 0.3 * 0.7 ** tree[:, None])
    return Example(save(forest, folder), Data({"x": RNG(1).normal(size=(60, 4))}))


def weight(forest: Forest, x: Any) -> Any:
    return weights(forest, Model(FOREST, None, formats.trees.signature(forest)), Data({"x": x}))


def leaves(forest: Forest, x: Any) -> Any:
    return forest.leaf[forest.leaves(x)]


class TestPruneLeaves(TechniqueCase):
    technique = PruneLeaves

    def example(self, folder: Path) -> Example:
        return example(folder)

    def misfit(self, folder: Path) -> Model | None:
        folder.mkdir(parents=True)
        return save(grown(RNG(3), leaves=1), folder)


class TestRefitLeaves(TechniqueCase):
    technique = RefitLeaves

    def example(self, folder: Path) -> Example:
        return example(folder)

    def _context(self, example: Example, folder: Path) -> Context:
        return replace(super()._context(example, folder), train=example.data, training=Training())


class TestQuantizeForest(TechniqueCase):
    technique = QuantizeForest
    tolerance = 1e-3

    def example(self, folder: Path) -> Example:
        return example(folder)

    def misfit(self, folder: Path) -> Model | None:
        folder.mkdir(parents=True)
        return save(grown(RNG(3), trees=0), folder)


@pytest.mark.parametrize("settings", KINDS)
def test_the_more_is_pruned_the_fewer_leaves_stay_and_the_farther_the_scores_are(settings: dict[str, Any]) -> None:
    rng = RNG(7)
    forest = grown(rng, trees=12, leaves=30, **settings)
    x = edges(rng, forest, 300)
    found = [pruned(forest, weight(forest, x), amount).check() for amount in (0, 0.2, 0.5, 0.8, 1)]
    np.testing.assert_allclose(found[0].predict(x), forest.predict(x), rtol=1e-5 if "sums" in settings else 1e-12)
    ends = [int((one.feature < 0).sum()) for one in found]
    assert ends[0] == (forest.feature < 0).sum()
    assert ends == sorted(ends, reverse=True)
    for amount, left in ((0.2, ends[1]), (0.5, ends[2]), (0.8, ends[3])):
        assert (1 - amount) * ends[0] * 0.85 - 12 <= left <= (1 - amount) * ends[0] + 4
    assert found[-1].trees == 0, "all are one leaf, and added to the base"
    assert np.ptp(found[-1].scores(x), axis=0).max() == 0


def test_pruning_takes_the_splits_that_change_least_wherever_they_are() -> None:
    """Against each single split above two leaves: the first to go is the one that is cheapest."""
    forest = grown(RNG(8), trees=6, leaves=12)
    x = RNG(9).normal(size=(4000, 4))
    loads = np.bincount(forest.leaves(x).ravel(), minlength=len(forest.feature)) + 1e-9
    made = pruned(forest, loads, 1.2 / (forest.feature < 0).sum())
    assert (made.feature < 0).sum() == (forest.feature < 0).sum() - 1
    given = np.mean((made.scores(x) - forest.scores(x)) ** 2)
    for node in np.flatnonzero(forest.feature >= 0):
        sides = forest.left[node], forest.right[node]
        if (forest.feature[list(sides)] < 0).all():
            first, second = (forest.values[forest.leaf[side]] for side in sides)
            there = [loads[side] for side in sides]
            mean = (first * there[0] + second * there[1]) / sum(there)
            cost = (there[0] * (first - mean) ** 2 + there[1] * (second - mean) ** 2) / len(x)
            assert given <= cost[0] * (1 + 1e-6)


def test_equal_leaves_are_merged_for_nothing() -> None:
    forest = replace(
        grown(RNG(4), leaves=20), values=np.zeros((1, 1)), leaf=np.minimum(grown(RNG(4), leaves=20).leaf, 0)
    )
    made = pruned(forest, np.ones(len(forest.feature)), 0.05)
    assert (made.trees, made.base.tolist()) == (0, forest.base.tolist())


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("ridge", [0.1, 100.0])
def test_refitting_lowers_what_it_minimizes_and_a_forest_that_is_right_stays(
    settings: dict[str, Any], ridge: float
) -> None:
    rng = RNG(10)
    forest = grown(rng, trees=12, leaves=20, **settings)
    x = edges(rng, forest, 500)
    wanted = forest.scores(x).astype(float) / forest.divisor
    less = pruned(truncated(forest, 0.3), weight(truncated(forest, 0.3), x), 0.4)
    made = refitted(less, leaves(less, x), wanted, ridge).check()

    def lost(given: Forest) -> Any:
        apart = (wanted - given.scores(x).astype(float) / given.divisor) * given.divisor
        return (apart**2).sum() + ridge * ((given.values - less.values) ** 2).sum()

    assert lost(made) < lost(less)
    stopped = refitted(less, leaves(less, x), wanted, ridge, lambda: True)
    np.testing.assert_array_equal(stopped.values, less.values)
    nearly = np.abs(refitted(forest, leaves(forest, x), wanted, ridge).values - forest.values).max()
    assert nearly < (1e-4 if "sums" in settings else 1e-9)


def test_refitting_is_ridge_regression() -> None:
    forest = grown(RNG(11), trees=4, leaves=6)
    x = RNG(12).normal(size=(200, 4))
    wanted = RNG(13).normal(size=(200, 1))
    ends = leaves(forest, x)
    made = refitted(forest, ends, wanted, 2.0)
    indicators = np.zeros((200, len(forest.values)))
    for tree in range(forest.trees):
        indicators[np.arange(200), ends[:, tree]] += 1
    normal = indicators.T @ indicators + 2.0 * np.eye(len(forest.values))
    exact = np.linalg.solve(normal, indicators.T @ (wanted - forest.scores(x)))
    np.testing.assert_allclose(made.values - forest.values, exact, atol=2e-2 * np.abs(exact).max())


@pytest.mark.parametrize("step", [TruncateRounds(0.6), PruneLeaves(0.6)])
def test_refitting_wins_quality_back(tmp_path: Path, step: Any) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rng = RNG(14)
    x = rng.normal(size=(6000, 8))
    x[rng.random(x.shape) < 0.05] = np.nan
    signal = np.nan_to_num(x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * np.abs(x[:, 3]))
    y = (signal + rng.normal(size=len(x)) > 0.4).astype(int)
    train, test = slice(0, 4000), slice(4000, None)
    settings = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 0}
    booster = lightgbm.train(settings, lightgbm.Dataset(x[train], y[train]), 60)
    booster.save_model(str(tmp_path / "model.txt"))
    original = formats.open(tmp_path / "model.txt")
    data = Data({"x": x[train]}, y[train])
    made, models = original, [original]
    for place, each in enumerate((ToForest(), step, RefitLeaves())):
        folder = tmp_path / str(place)
        folder.mkdir()
        made = apply(each, made, Context(data, original, Target(threads=1), 0, folder, train=data))
        models.append(made)
    full, less, again = (ForestFormat().forest(model).predict(x[test]) for model in models[1:])

    def loss(p: Any) -> float:
        return float(-np.mean(np.where(y[test] == 1, np.log(p), np.log(1 - p))))

    assert np.mean((again - full) ** 2) < 0.75 * np.mean((less - full) ** 2)
    assert loss(again) - loss(full) < 0.65 * (loss(less) - loss(full))


def test_refitting_is_planned_after_a_loss_only(tmp_path: Path) -> None:
    model = example(tmp_path / "given").model
    have = Needs.SAMPLES | Needs.TRAINING
    known = [TruncateRounds, PruneLeaves, RefitLeaves, SimplifyForest, ToNative]
    found, _ = routes(model, Target(threads=1), have, known, [Native])
    refitting = [route.steps for route in found if RefitLeaves in route.steps]
    assert len(refitting) == 6, "three ways to lose something, simplified or not"
    for steps in refitting:
        assert {TruncateRounds, PruneLeaves} & set(steps[: steps.index(RefitLeaves)])


def test_an_original_that_is_no_forest_can_not_be_learned_from(tmp_path: Path) -> None:
    given = example(tmp_path / "given")
    (tmp_path / "made").mkdir()
    other = replace(given.model, format="onnx")
    with pytest.raises(NotApplicable, match="onnx"):
        RefitLeaves().apply(
            given.model, Context(None, other, Target(), 0, tmp_path / "made", train=given.data)
        )  # fmt: skip


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("bits", [16, 8])
def test_leaves_lie_on_a_grid_and_scores_are_within_the_bound(settings: dict[str, Any], bits: int) -> None:
    rng = RNG(15)
    forest = grown(rng, trees=12, leaves=20, **settings)
    made = rounded(forest, bits).check()
    whole = made.values / made.step
    assert (whole == np.rint(whole)).all()
    assert 2 ** (bits - 2) - 2 <= np.abs(whole).max() <= 2 ** (bits - 1) - 1
    x = edges(rng, forest, 1000)
    trees = forest.trees if forest.outputs == 1 or "vectors" in settings else forest.trees // 3
    off = np.abs(made.scores(x).astype(float) - forest.scores(x)).max()
    assert off <= trees * made.step / 2 + (1e-5 if "sums" in settings else 1e-12)
    assert f"off by {trees * made.step / 2 / made.divisor:.2g} at the most" in " ".join(notes(made))
    np.testing.assert_array_equal(made.leaves(x), forest.without_unused_nodes().leaves(x))


@pytest.mark.parametrize("bins", [2, 5, 31])
def test_no_feature_keeps_more_thresholds_than_bins(bins: int) -> None:
    rng = RNG(16)
    forest = grown(rng, trees=20, leaves=30, features=3, subsets=0.1)
    forest = replace(forest, threshold=np.where(rng.random(len(forest.threshold)) < 0.02, np.inf, forest.threshold))
    x = edges(rng, forest, 500)
    made = binned(forest, weight(forest, x), bins).check()
    numeric = (forest.feature >= 0) & (forest.subset < 0) & np.isfinite(forest.threshold)
    for feature in range(3):
        before, after = (set(one.threshold[numeric & (one.feature == feature)].tolist()) for one in (forest, made))
        assert after <= before, "each is one that was there"
        assert 2 <= len(after) <= bins < len(before)
    order = np.argsort(forest.threshold[numeric & (forest.feature == 0)])
    assert (np.diff(made.threshold[numeric & (made.feature == 0)][order]) >= 0).all()
    np.testing.assert_array_equal(made.threshold[~numeric], forest.threshold[~numeric])
    same = binned(forest, weight(forest, x), 255)
    np.testing.assert_array_equal(same.threshold, forest.threshold)


def test_a_forest_that_is_all_zero_is_quantized() -> None:
    made = rounded(replace(grown(RNG(0)), values=np.zeros((40, 1)), leaf=np.where(grown(RNG(0)).leaf < 0, -1, 0)), 8)
    assert made.check().step == 1.0


def test_the_step_is_kept_and_checked(tmp_path: Path) -> None:
    made = rounded(grown(RNG(17)), 8)
    made.save(tmp_path / "forest.npz")
    assert Forest.load(tmp_path / "forest.npz").without_unused_nodes().step == made.step > 0
    for wrong in (replace(made, step=3 * made.step), replace(made, step=-1.0), replace(made, step=np.nan)):
        with pytest.raises(UnsupportedModel, match="step"):
            wrong.check()


def test_a_report_is_told_what_no_split_looks_at(tmp_path: Path) -> None:
    forest = replace(grown(RNG(0), features=3), features=5, names=tuple("abcde"))
    model = save(forest, tmp_path)
    assert model.notes == ("the forest looks at 3 of 5 columns; not at d, e",)
    assert Model.of(model.to_json(tmp_path), tmp_path) == model


@pytest.mark.parametrize("seed", range(4))
def test_categories_that_are_decided_above_decide_nothing(seed: int) -> None:
    rng = RNG(seed)
    forest = grown(rng, trees=6, leaves=60, features=2, subsets=0.8)
    few = [np.unique(rng.integers(4, size=rng.integers(4))) for _ in forest.member_ends]
    ends = np.cumsum([len(one) for one in few])
    forest = replace(forest, members=np.concatenate(few), member_ends=ends).check()
    made = simplified(forest).check()
    assert (made.subset >= 0).sum() < 0.5 * (forest.subset >= 0).sum()
    x = np.concatenate([edges(rng, forest, 1500), rng.integers(-1, 5, (500, 2))])
    np.testing.assert_array_equal(made.predict(x), forest.predict(x))


@pytest.mark.parametrize(("first", "last", "left"), [(0.1, 0.0, 1), (0.1, 0.3, 2), (-0.0, -0.0, 1)])
@pytest.mark.parametrize("sums", ["float64", "float32"])
def test_trees_of_one_leaf_go_where_sums_stay_the_same(first: float, last: float, left: int, sums: str) -> None:
    """The one between them has splits: what comes after it would be added in another order."""
    forest = grown(RNG(21), trees=3, leaves=4, sums=sums, dtype="float32")
    ends = [int(np.flatnonzero((forest.tree == tree) & (forest.leaf >= 0))[0]) for tree in (0, 2)]
    values = forest.values.copy()
    values[forest.leaf[ends], 0] = first, last
    forest = replace(forest, values=values, roots=[ends[0], forest.roots[1], ends[1]])
    made = simplified(forest)
    assert made.trees == left
    x = edges(RNG(22), forest, 300)
    np.testing.assert_array_equal(made.scores(x), forest.scores(x))
