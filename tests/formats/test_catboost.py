"""CatBoost's models are read into forests that predict what CatBoost itself does."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UnsupportedModel
from strop.forest import Forest
from strop.formats import _cityhash, _flatbuffers
from strop.formats.catboost import CatboostFormat
from strop.testing import FormatCase

cb = pytest.importorskip("catboost")

Array = np.ndarray[Any, Any]
FORMAT = CatboostFormat()
RNG = np.random.default_rng
QUIET = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
CATEGORIES = [2, 3]


def table(rng: np.random.Generator, rows: int = 150) -> Array:
    """Two columns of numbers, one of them with zeros and NaN, and two of categories."""
    x = rng.normal(size=(rows, 4)).round(1)
    x[rng.random(rows) < 0.2, 1] = np.nan
    x[:, 2] = rng.integers(0, 45, rows)
    x[:, 3] = rng.integers(0, 4, rows)
    return x.astype(np.float32)


def rows_of(x: Array, categories: list[int]) -> Array:
    """What CatBoost takes: numbers as they are, and categories as whole numbers; it has not seen -1."""
    if not categories:
        return x
    found = np.empty(x.shape, object)
    found[:] = x
    codes = x[:, categories]
    with np.errstate(invalid="ignore"):
        found[:, categories] = np.where(np.abs(codes) < 2**31, codes, -1).astype(np.int64)
    return found


def trained(loss: str = "RMSE", seed: int = 0, categorical: bool = True, rounds: int = 5, **params: Any) -> Any:
    x = table(RNG(seed))
    y = np.nan_to_num(x[:, 0]) + (x[:, 2] % 7 < 3) + RNG(seed).normal(size=len(x)) / 2
    name, pool = loss.split(":")[0], {}
    if name.startswith("Multi") and name not in ("MultiClass", "MultiClassOneVsAll", "MultiQuantile"):
        y = np.column_stack([y, y * y, -y])
    if name in ("Logloss", "Focal", "MultiLogloss", "QuerySoftMax"):
        y = (y > 0.5).astype(int)
    elif name in ("MultiClass", "MultiClassOneVsAll"):
        y = np.digitize(y, [0, 1])
    elif name in ("CrossEntropy", "MultiCrossEntropy"):
        y = np.clip(y, 0, 1)
    elif name not in ("RMSE", "MultiRMSE", "Quantile", "MultiQuantile"):
        y = np.exp(y).clip(0, 4)
    if name.startswith(("Pair", "Query", "Yeti", "Stochastic", "Lambda", "Group")):
        pool["group_id"] = np.arange(len(x)) // 50
    if name == "SurvivalAft":
        y = np.column_stack([y, y + 1])
    categories = CATEGORIES if categorical else []
    settings = {"max_ctr_complexity": 1} if categorical else {}
    model = cb.CatBoost({**QUIET, "loss_function": loss, "iterations": rounds, "depth": 3, **settings, **params})
    return model.fit(cb.Pool(rows_of(x, categories), y, cat_features=categories, **pool))


def edges(rng: np.random.Generator, forest: Forest, rows: int = 300) -> Array:
    """Borders and their neighbours, categories known and unknown, and all that is odd."""
    at = np.append(forest.threshold[forest.feature >= 0], 0.0).astype(np.float32)
    with np.errstate(over="ignore"):
        near = [at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))]
    odd = [np.nan, np.inf, -np.inf, -0.0, 1e-45, -1e-45, 3e38, -1.0, -1.5, -0.5, 2.7, 2.0**24 - 1, 2.0**31, 1e30]
    return rng.choice(np.concatenate([*near, np.array(odd, np.float32), np.arange(60, dtype=np.float32)]),
                      (rows, forest.features))  # fmt: skip


def agrees(model: Any, forest: Forest, x: Array) -> None:
    """Sums bit for bit, but for scale and bias, which CatBoost applies at the end."""
    rows = rows_of(x, model.get_cat_feature_indices())
    raw = model.predict(rows, "RawFormulaVal", thread_count=1).reshape(len(x), -1)
    close = 0 if model.get_scale_and_bias()[0] == 1 and not forest.base.any() else 1e-14 * max(1, np.abs(raw).max())
    np.testing.assert_allclose(forest.scores(x), raw, rtol=0, atol=close, strict=True)
    single = model.predict(rows[0], "RawFormulaVal", thread_count=1)
    np.testing.assert_array_equal(np.ravel(single), raw[0])
    kind = {"identity": "RawFormulaVal", "exponential": "Exponent"}.get(forest.link, "Probability")
    own = model.predict(rows, kind, thread_count=1)
    np.testing.assert_allclose(forest.predict(x), own, rtol=1e-12, atol=1e-14, strict=True)


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


def drawn(rng: np.random.Generator, leaves: int, outputs: int, *, deep: bool) -> dict[str, Any]:
    """A model as JSON, of trees drawn at random: of any shape, or (no leaves given) symmetric."""
    model = exported("drawn", outputs)
    numbers = model["features_info"]["float_features"]
    odd = np.array([0, -0.0, 1e-45, -1e-45, 1e-35, 3e38, -3e38, 1, 2, 0.1, *rng.normal(size=6)], np.float32)
    for one in numbers:
        one["borders"] = sorted(set(map(float, rng.choice(odd, rng.integers(1, 9)))))
        one["has_nans"] = bool(rng.random() < 0.7)
        one["nan_value_treatment"] = str(rng.choice(["AsIs", "AsFalse", "AsTrue"]))
    splits = sum(len(one["borders"]) for one in numbers) + 3
    model["features_info"]["categorical_features"][0]["values"] = _cityhash.hashes(
        rng.choice(10, 3, replace=False)
    ).tolist()

    def leaf() -> dict[str, Any]:
        value = (rng.integers(-999, 999, outputs) / 64).tolist()
        return {"value": value if outputs > 1 else value[0], "weight": int(rng.integers(5))}

    def tree() -> dict[str, Any]:
        top = leaf()
        ends = [top]
        for _ in range(leaves - 1):
            node = ends.pop(-1 if deep else rng.integers(len(ends)))
            node.clear()
            node.update(left=leaf(), right=leaf(), split={"split_index": int(rng.integers(splits))})
            ends += [node["left"], node["right"]]
        return top

    def symmetric() -> dict[str, Any]:
        depth = int(rng.integers(0, 5))
        return {
            "leaf_values": (rng.integers(-999, 999, outputs << depth) / 64).tolist(),
            "leaf_weights": [1] * (1 << depth),
            "splits": [{"split_index": int(at)} for at in rng.integers(0, splits, depth)],
        }  # fmt: skip

    del model["oblivious_trees"]
    model["trees" if leaves else "oblivious_trees"] = [tree() if leaves else symmetric() for _ in range(3)]
    return model


def exported(name: str, outputs: int = 1) -> dict[str, Any]:
    """The export of a model of three columns of numbers and one of categories, each with a split."""
    if (name, outputs) not in EXPORTED:
        x = table(RNG(0))
        x[:, 3] = np.nan_to_num(x[:, 1])
        loss = "MultiClass" if outputs > 1 else "Logloss"
        model = cb.CatBoost({**QUIET, "loss_function": loss, "iterations": 2, "depth": 2, "one_hot_max_size": 99})
        y = np.digitize(x[:, 0], [0] if outputs == 1 else [-0.5, 0.5])
        model.fit(cb.Pool(rows_of(x, [2]), y, cat_features=[2]))
        EXPORTED[name, outputs] = dumped(model)
    return json.loads(EXPORTED[name, outputs])


EXPORTED: dict[tuple[str, int], str] = {}


def dumped(model: Any) -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model.save_model(f"{folder}/model.json", format="json")
        return Path(folder, "model.json").read_text()


def loaded(path: Path) -> Any:
    model = cb.CatBoost()
    model.load_model(path, "json" if path.suffix == ".json" else "cbm")
    return model


@settings(max_examples=40)
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


def same(one: Forest, other: Forest) -> None:
    one, other = one.without_unused_nodes(), other.without_unused_nodes()
    for name in Forest.ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


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


def test_what_is_refused_by_name(tmp_path: Path) -> None:
    x = table(RNG(0))
    y = x[:, 0] > 0
    with pytest.raises(UnsupportedModel, match=r"combines columns.*max_ctr_complexity=1"):
        FORMAT.open(trained("Logloss", rounds=50, max_ctr_complexity=3))
    with pytest.raises(UnsupportedModel, match=r"known to strop .* this is 'RMSEWithUncertainty'"):
        FORMAT.open(trained("RMSEWithUncertainty", categorical=False))
    words = np.array([["red", "green"][int(one)] for one in y], object)[:, None]
    for size in (1, 9):
        own = cb.CatBoost({**QUIET, "iterations": 2, "one_hot_max_size": size}).fit(words, y, cat_features=[0])
        with pytest.raises(
            UnsupportedModel, match=r"whole numbers from 0 to 9,999,999, and of column 0, . of . are none"
        ):
            FORMAT.open(own)
    pool = cb.Pool([[one[:2].tolist()] for one in np.nan_to_num(x)], y, embedding_features=[0])
    with pytest.raises(UnsupportedModel, match="takes texts or embeddings"):
        FORMAT.open(cb.CatBoost({**QUIET, "iterations": 2, "loss_function": "Logloss"}).fit(pool))
    empty = trained(categorical=False)
    empty.shrink(0)
    for format in ("cbm", "json"):
        empty.save_model(tmp_path / f"empty.{format}", format=format)
        with pytest.raises(UnsupportedModel, match="must have trees, and this one has none"):
            FORMAT.open(tmp_path / f"empty.{format}")


def test_what_it_detects(tmp_path: Path) -> None:
    def file(content: bytes, name: str = "file.json") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    trained().save_model(tmp_path / "model.cbm")
    assert FORMAT.detects(file((tmp_path / "model.cbm").read_bytes(), "any"))
    assert FORMAT.detects(file(b' {\n "ctr_data": {', "any")) and FORMAT.detects(str(file(b"", "a.CBM")))
    for content in (b"", b'{"learner": {}}', b"[]", b"tree\n"):
        assert not FORMAT.detects(file(content))
    for other in (tmp_path, tmp_path / "none.cbm", 3, None, np.zeros(2), object):
        assert not FORMAT.detects(other)
        with pytest.raises(UnsupportedModel, match=r"A CatBoost model is a \.cbm file"):
            FORMAT.open(other)


BREAKS: list[tuple[str, int, str, float, str]] = [
    ("shape", 0, "<i4", 0, "it has 0 outputs"),
    ("shape", 0, "<i4", 1 << 30, "it has 1073741824 outputs"),
    ("shape", 0, "<i4", 2, "it has 8 leaves, and counts of 16"),
    ("symmetric", 1, "<i4", 1 << 30, "a split is 1073741824"),
    ("symmetric", 1, "<i4", -1, "a split is -1"),
    ("symmetric", 2, "<i4", -1, "not divided among its trees"),
    ("symmetric", 2, "<i4", 99, "not divided among its trees"),
    ("symmetric", 3, "<i4", 7, "not divided among its trees"),
    ("symmetric", 8, "<f8", float("nan"), "a leaf is not finite"),
    ("symmetric", 16, "<f8", float("inf"), "a leaf is not finite"),
    ("shape", 10, "<u2", 65535, "a child is 65535"),
    ("shape", 10, "<u2", 2, "in two ways, as in a cycle"),
    ("shape", 11, "<u4", 1 << 31, "the value of a leaf is 2147483648"),
]


@pytest.mark.parametrize(("kind", "field", "dtype", "value", "said"), BREAKS)
def test_a_broken_tree_is_refused(tmp_path: Path, kind: str, field: int, dtype: str, value: float, said: str) -> None:
    """A number of the file, or the first one of a list, is changed."""
    policy = "SymmetricTree" if kind == "symmetric" else "Depthwise"
    path = FORMAT.store(FORMAT.open(trained("RMSE", rounds=2, categorical=False, grow_policy=policy)), tmp_path).path
    whole = bytearray(path.read_bytes())
    core = _flatbuffers.root(bytes(whole[8:])).table(1)
    place = core._place(field)
    assert place is not None
    at = 8 + (place if field == 0 else core.buffer.follow(place) + 4)
    if field == 11:  # of a leaf
        at += 4 * int(np.flatnonzero(core.numbers(11, "<u4") != (1 << 32) - 1)[0])
    whole[at : at + np.dtype(dtype).itemsize] = np.array(value, dtype).tobytes()
    path.write_bytes(whole)
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


EXPORT_BREAKS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("oblivious_trees", 0, "splits", 0, "split_index"), 1 << 40, "a split is 1099511627776"),
    (("oblivious_trees", 0, "splits", 0, "split_index"), 1.5, "must be a list of numbers, and is float64"),
    (("oblivious_trees", 0, "splits"), [{"split_index": 0}] * 30, "the depth of a tree is 30"),
    (("oblivious_trees", 0, "splits"), [], "do not have 4 leaves"),
    (("oblivious_trees", 0, "leaf_values"), ["a"] * 4, "and is <U1"),
    (("oblivious_trees", 0, "leaf_values"), [1, [2], 3, 4], "broken"),
    (("oblivious_trees", 0, "leaf_weights"), [1], "counts of 1"),
    (("oblivious_trees", 0), 3, "TypeError"),
    (("scale_and_bias",), [1, 0], "the bias must be a list"),
    (("scale_and_bias",), [1, [1, 2, 3]], "reshape"),
    (("features_info", "float_features", 0, "borders"), [2, 1], "must ascend"),
    (("features_info", "float_features", 0, "borders"), [float("nan")], "a threshold is NaN|a split is"),
    (("features_info", "float_features", 0, "flat_feature_index"), 1 << 60, "the column of a feature is"),
    (("features_info", "float_features", 0, "flat_feature_index"), -1, "the column of a feature is -1"),
    (("features_info", "float_features", 0, "nan_value_treatment"), "odd", "KeyError"),
    (("features_info", "categorical_features", 0, "values"), [5, 5], "a category twice"),
    (("features_info", "categorical_features", 0, "values"), [12345], "1 of 1 are none"),
    (("features_info", "ctrs"), [{"elements": [{}]}], "KeyError"),
    (("features_info",), [], "AttributeError"),
    (("model_info", "params", "loss_function", "type"), "Odd", "this is 'Odd'"),
    (("trees",), [{"left": {"value": 1}, "split": {"split_index": 0}}], "KeyError: 'right'"),
    (("trees",), [{}], "KeyError: 'value'"),
]


@pytest.mark.parametrize(("where", "value", "said"), EXPORT_BREAKS)
def test_a_broken_export_is_refused(tmp_path: Path, where: tuple[Any, ...], value: Any, said: str) -> None:
    model = exported("broken")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(model))
    FORMAT.open(path)
    inner = model
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(model))
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


@pytest.mark.parametrize("kind", ["cbm", "json", "statistics", "shape"])
def test_truncated_and_flipped_files_end_in_a_refusal_or_a_forest(tmp_path: Path, kind: str) -> None:
    ways = {"statistics": {"one_hot_max_size": 1}, "shape": {"grow_policy": "Lossguide", "categorical": False}}
    own = trained("Logloss", rounds=2, depth=2, **ways.get(kind, {}))
    path, rng = tmp_path / ("model.json" if kind == "json" else "model.cbm"), RNG(0)
    own.save_model(path, "json" if kind == "json" else "cbm")
    whole, x = path.read_bytes(), table(rng, 5)
    for size in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:size] or b"{")
        with pytest.raises(UnsupportedModel):
            FORMAT.open(path)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 60)):
            content[place] = rng.choice([rng.integers(256), 0, 1, 127, 255, ord("9"), ord("-"), ord("[")])
        path.write_bytes(content)
        try:
            assert len(FORMAT.forest(FORMAT.open(path)).predict(np.resize(x, (5, 4)))) == 5
        except UnsupportedModel:
            refused += 1
    assert refused > 30


def test_flatbuffers_are_read_within_their_bytes() -> None:
    vector = struct.pack("<IIHHHHi", 12, 0, 6, 8, 4, 0, 8)
    assert _flatbuffers.root(vector + struct.pack("<II", 4, 1) + b"ab").size == 6
    for content in (b"", b"abc", b"\xff" * 8, struct.pack("<Ii", 4, -1 << 31), struct.pack("<Ii", 4, 1 << 30)):
        with pytest.raises(ValueError, match="cut off"):
            _flatbuffers.root(content)
    table = struct.pack("<IHHHHi", 12, 6, 8, 4, 0, 8)  # at 12: its only field, at 16, lies 4 on
    list_of = table + struct.pack("<I", 4) + struct.pack("<I", 3) + b"abc"
    assert _flatbuffers.root(list_of).text(0) == "abc"
    assert _flatbuffers.root(list_of).text(1) == ""
    with pytest.raises(ValueError, match="lacks its field 1"):
        _flatbuffers.root(list_of).table(1)
    with pytest.raises(ValueError, match="cut off"):
        _flatbuffers.root(list_of[:-1]).text(0)
    again = _flatbuffers.root(list_of)
    with pytest.raises(ValueError, match="its parts overlap"):
        [again.text(0) for _ in range(99)]


def test_the_library_is_not_loaded(tmp_path: Path) -> None:
    FORMAT.store(FORMAT.open(trained()), tmp_path)
    code = ("import sys; from strop.formats.catboost import CatboostFormat as F; m = F().open(sys.argv[1]); "
            "F().forest(m); assert 'catboost' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.cbm"], check=True)


class TestCatboost(FormatCase):
    format = FORMAT

    def example(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        return FORMAT.store(FORMAT.open(trained()), folder).path

    def broken(self, folder: Path) -> Path:
        (folder / "model.cbm").write_bytes(b"CBM1\xff\xff\0\0 and no more")
        return folder / "model.cbm"
