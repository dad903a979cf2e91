"""CatBoost's models are read into forests that predict what CatBoost itself does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catboosts import FORMAT, QUIET, RNG, Array, agrees, cb, drawn, edges, loaded, rows_of, same, table, trained
from strop.errors import UnsupportedModel
from strop.forest import Forest
from strop.formats import _cityhash

LOSSES = [
    "Logloss", "CrossEntropy", "Focal:focal_alpha=0.5;focal_gamma=2", "MultiClass", "MultiClassOneVsAll",
    "MultiLogloss", "MultiCrossEntropy", "RMSE", "MAE", "Quantile:alpha=0.3", "MultiQuantile:alpha=0.3,0.6",
    "Expectile:alpha=0.3", "LogLinQuantile", "Poisson", "Tweedie:variance_power=1.5", "MAPE", "Lq:q=2",
    "Huber:delta=1", "LogCosh", "RMSPE", "MultiRMSE", "SurvivalAft", "Cox", "YetiRank", "YetiRankPairwise", "PairLogit",
    "PairLogitPairwise", "QueryRMSE", "QuerySoftMax", "StochasticRank:metric=NDCG", "StochasticFilter",
    "LambdaMart:metric=NDCG", "GroupQuantile",
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_catboosts_own(loss: str) -> None:
    model = trained(loss)
    forest = FORMAT.forest(FORMAT.open(model))
    agrees(model, forest, table(RNG(1)))
    agrees(model, forest, edges(RNG(1), forest))


@pytest.mark.parametrize("loss", ["MultiClass", "RMSE"])
@pytest.mark.parametrize(
    "way",
    [
        {"grow_policy": "Depthwise"},
        {"grow_policy": "Lossguide", "max_leaves": 9, "depth": 8},
        {"grow_policy": "Lossguide", "min_data_in_leaf": 200},  # trees that are a leaf
        {"nan_mode": "Max"},
        {"nan_mode": "Max", "grow_policy": "Lossguide"},
        {"one_hot_max_size": 50},
        {"one_hot_max_size": 50, "grow_policy": "Depthwise"},
        {"one_hot_max_size": 50, "simple_ctr": ["Counter"], "depth": 6},
        {"one_hot_max_size": 1, "simple_ctr": ["Buckets:TargetBorderCount=3", "Counter"]},
        {"one_hot_max_size": 1, "simple_ctr": ["BinarizedTargetMeanValue:Prior=0.3"], "ctr_target_border_count": 3},
        {"one_hot_max_size": 1, "simple_ctr": ["Borders:TargetBorderCount=5"], "has_time": True},
        {"rounds": 1, "depth": 1},
        {"rounds": 300, "depth": 2},
        {"depth": 12, "rounds": 2},
        {"border_count": 1000, "categorical": False, "nan_mode": "Forbidden"},
    ],
    ids=lambda way: "-".join(map(str, way.values())),
)
def test_every_way_of_training_is_read(loss: str, way: dict[str, Any]) -> None:
    if loss != "RMSE" and any("TargetBorderCount" in str(one) for one in way.get("simple_ctr", ())):
        way = {**way, "simple_ctr": [one.split(":")[0] for one in way["simple_ctr"]]}
    if way.get("nan_mode") == "Forbidden":
        with pytest.raises(cb.CatBoostError, match="nan"):
            trained(loss, **way)
        return
    model = trained(loss, **way)
    forest = FORMAT.forest(FORMAT.open(model))
    agrees(model, forest, table(RNG(1)))
    agrees(model, forest, edges(RNG(1), forest))


def test_scale_and_bias_are_read() -> None:
    for loss, bias in (("RMSE", 1.5), ("MultiClass", [0.5, -1.0, 2.0]), ("MultiRMSE", [1.0, 0.0, -3.0])):
        model = trained(loss)
        model.set_scale_and_bias(0.37, bias)
        forest = FORMAT.forest(FORMAT.open(model))
        np.testing.assert_array_equal(forest.base, np.ravel(bias))
        agrees(model, forest, edges(RNG(1), forest))


@pytest.mark.parametrize("loss", ["Logloss", "Poisson", "MultiClass"])
def test_models_that_were_added_up_keep_their_loss(loss: str, tmp_path: Path) -> None:
    both = cb.sum_models([trained(loss), trained(loss, 1, depth=2)], [0.5, 2.0])
    model = FORMAT.open(both)
    agrees(both, FORMAT.forest(model), table(RNG(2)))
    both.save_model(tmp_path / "both.json", format="json")
    assert FORMAT.open(tmp_path / "both.json").signature == model.signature


def of_codes(codes: list[int], **params: Any) -> tuple[Any, Array]:
    """A model of one column of such categories, and a row of each."""
    x = np.repeat(codes, 6)[:, None]
    settings = {**QUIET, "iterations": 30, "depth": 4, "cat_features": [0], "learning_rate": 0.5, **params}
    y = RNG(0).permutation(len(codes)).repeat(6).astype(float)
    return cb.CatBoost(settings).fit(x, y), np.array([*codes, 4, 777_777, 8_388_608, -1, np.nan], np.float32)[:, None]


@pytest.mark.parametrize("size", [1, 255])
def test_codes_are_found_by_their_hash(size: int) -> None:
    """Of any length; and one that nobody has seen is like any other such."""
    codes = [0, 5, 9, 10, 99, 100, 999, 1000, 9999, 12_345, 654_321]
    model, x = of_codes(codes, one_hot_max_size=size)
    forest = FORMAT.forest(FORMAT.open(model))
    agrees(model, forest, x)
    found = forest.predict(x)
    assert len(set(found[:11])) > 1 and len(set(found[11:])) == 1
    assert len(forest.members) and set(forest.members) <= set(codes)


def test_hashes_of_many_codes() -> None:
    rng = RNG(0)
    wanted = np.append(rng.choice(200_000, 500, replace=False), 9_999_999)
    hashes = np.concatenate([_cityhash.hashes(wanted[[at]]) for at in range(len(wanted))])
    found, places = _cityhash.codes(hashes)
    np.testing.assert_array_equal(wanted[places], found)
    assert len(found) == 501 and (np.diff(found) > 0).all()
    assert [len(one) for one in _cityhash.codes(hashes[:0])] == [0, 0]


def test_more_borders_and_categories_than_a_byte_counts() -> None:
    rng = RNG(0)
    x = np.column_stack([rng.normal(size=3000), rng.integers(0, 600, 3000)]).astype(np.float32)
    y = np.sin(9 * x[:, 0]) + x[:, 1] % 5
    model = cb.CatBoost({**QUIET, "iterations": 30, "border_count": 2000, "one_hot_max_size": 600, "depth": 7,
                         "grow_policy": "Depthwise"})  # fmt: skip
    model.fit(cb.Pool(rows_of(x, [1]), y, cat_features=[1]))
    forest = FORMAT.forest(FORMAT.open(model))
    assert len(set(forest.threshold[forest.feature == 0])) > 260
    agrees(model, forest, np.column_stack([edges(rng, forest)[:, 0], rng.integers(0, 700, 300)]).astype(np.float32))


@settings(max_examples=25)
@given(st.integers(0, 1 << 30), st.sampled_from([0, 1, 2, 10, 61]), st.sampled_from([1, 3]), st.booleans())
def test_trees_drawn_at_random_are_catboosts_own(
    tmp_path_factory: pytest.TempPathFactory, seed: int, leaves: int, outputs: int, deep: bool
) -> None:
    rng, folder = RNG(seed), tmp_path_factory.mktemp("drawn")
    (folder / "model.json").write_text(json.dumps(drawn(rng, leaves, outputs, deep=deep)))
    model = FORMAT.open(folder / "model.json")
    assert model.counts["depth"] == leaves - 1 or not (deep and leaves)
    x, own = edges(rng, FORMAT.forest(model), 100), loaded(folder / "model.json")
    agrees(own, FORMAT.forest(model), x)
    own.save_model(folder / "model.cbm")
    agrees(own, FORMAT.forest(FORMAT.open(folder / "model.cbm")), x)
    same(FORMAT.forest(model), FORMAT.forest(FORMAT.open(folder / "model.cbm")))


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
def test_live_models_files_and_exports_are_the_same(tmp_path: Path, policy: str) -> None:
    own = trained("Logloss", grow_policy=policy, simple_ctr=["Borders", "Counter"], one_hot_max_size=10)
    live = FORMAT.open(own)
    model = FORMAT.store(live, tmp_path / "stored")
    assert model.files == (tmp_path / "stored" / "model.cbm",)
    assert FORMAT.store(model, tmp_path / "again") is model
    assert (model.signature, model.counts) == (live.signature, live.counts)
    x = edges(RNG(0), FORMAT.forest(model))
    agrees(loaded(model.path), FORMAT.forest(model), x)
    same(FORMAT.forest(live), FORMAT.forest(model))
    FORMAT.forest(model).save(tmp_path / "forest.npz")
    agrees(own, Forest.load(tmp_path / "forest.npz"), x)
    own.save_model(tmp_path / "model.json", format="json")
    (tmp_path / "model.json").rename(tmp_path / "model.export")
    export = FORMAT.open(tmp_path / "model.export")
    assert (export.signature, export.counts) == (live.signature, live.counts)
    np.testing.assert_allclose(FORMAT.forest(export).predict(x), FORMAT.forest(model).predict(x), rtol=1e-13)


@pytest.mark.parametrize("kind", ["CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"])
def test_wrappers_give_what_they_predict(kind: str) -> None:
    wrapper = getattr(cb, kind)(iterations=9, depth=3, **QUIET)
    with pytest.raises(UnsupportedModel, match=f"trained, and this {kind} is not"):
        FORMAT.open(wrapper)
    x = table(RNG(0))
    for y in (x[:, 0] > 0, np.digitize(x[:, 0], [-1, 1])):
        wrapper.fit(x, y.astype(int), **({"group_id": np.arange(len(x)) // 50} if kind == "CatBoostRanker" else {}))
        own = wrapper.predict_proba(x) if kind == "CatBoostClassifier" else wrapper.predict(x)
        assert FORMAT.detects(wrapper)
        np.testing.assert_allclose(FORMAT.forest(FORMAT.open(wrapper)).predict(x), own, rtol=1e-12, strict=True)


@pytest.mark.filterwarnings("ignore:Failed to import numba")
def test_training_that_stopped_early_and_a_loss_of_ones_own() -> None:
    class Squares:
        def calc_ders_range(self, sums: Any, targets: Any, weights: Any) -> list[tuple[float, float]]:
            return [(target - one, -1.0) for one, target in zip(sums, targets, strict=True)]

    x, y = table(RNG(0)), RNG(0).normal(size=150)
    early = cb.CatBoostRegressor(iterations=200, early_stopping_rounds=3, learning_rate=1.0, **QUIET)
    early.fit(x[:100], y[:100], eval_set=(x[100:], y[100:]))
    own = cb.CatBoostRegressor(iterations=3, loss_function=Squares(), eval_metric="RMSE", **QUIET).fit(x, y)
    for model in (early, own):
        agrees(model, FORMAT.forest(FORMAT.open(model)), x)
    assert FORMAT.open(early).counts["trees"] == early.tree_count_ < 200


def test_signature_names_and_counts() -> None:
    x = table(RNG(0))
    pool = cb.Pool(x, x[:, 0] > 0, feature_names=["a", "b", "größe", "d"])
    own = cb.CatBoost({**QUIET, "loss_function": "Logloss", "iterations": 3, "depth": 2}).fit(pool)
    model = FORMAT.open(own)
    (entry,), (result,) = model.signature.inputs, model.signature.outputs
    assert (entry.dtype, entry.shape, entry.columns) == ("float32", (None, 4), ("a", "b", "größe", "d"))
    assert (result.name, result.dtype, result.shape, entry.missing) == ("probability", "float64", (None, 2), True)
    assert FORMAT.open(trained("MultiClass")).signature.outputs[0].shape == (None, 3)
    assert FORMAT.open(trained("RMSE")).signature.outputs[0].name == "prediction"
    assert FORMAT.open(trained("RMSE")).signature.inputs[0].columns == ()
    for policy in ("SymmetricTree", "Depthwise"):
        model = trained(grow_policy=policy, categorical=False)
        forest = FORMAT.forest(FORMAT.open(model))
        ends = forest.feature < 0
        assert (forest.count[forest.roots] == 150).all() and np.isnan(forest.gain).all()
        np.testing.assert_array_equal(
            forest.count[~ends], forest.count[forest.left[~ends]] + forest.count[forest.right[~ends]]
        )
        reached = np.bincount(forest.leaves(table(RNG(0))).ravel(), minlength=len(forest.feature))
        np.testing.assert_array_equal(forest.count[ends], reached[ends])
