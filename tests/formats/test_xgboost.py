"""XGBoost's models are read into forests that predict what XGBoost itself does."""

from __future__ import annotations

import json
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
from strop.formats import _ubjson
from strop.formats.xgboost import XgboostFormat

xgb = pytest.importorskip("xgboost")

Array = np.ndarray[Any, Any]
FORMAT = XgboostFormat()
KINDS = ["q", "q", "c", "c"]


def table(rng: np.random.Generator, rows: int = 150) -> Array:
    """Two columns of numbers, one of them with zeros and NaN, and two of categories."""
    x = rng.normal(size=(rows, 4)).round(1)
    x[:, 2] = rng.integers(0, 45, rows)
    x[:, 3] = rng.integers(0, 4, rows)
    x[rng.random(rows) < 0.2, 1:3] = np.nan
    return x.astype(np.float32)


def edges(rng: np.random.Generator, forest: Forest, rows: int = 300) -> Array:
    """Thresholds and their neighbours, categories known and unknown, and all that is odd."""
    at = np.append(forest.threshold[forest.feature >= 0], 0.0).astype(np.float32)
    with np.errstate(over="ignore"):
        near = [at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))]
    odd = [np.nan, np.inf, -np.inf, -0.0, 1e-45, -1e-45, 1e-35, 3e38, -1.0, -1.5, 2.7, 2.0**24 - 1, 2.0**24, 2.0**31]
    pool = np.concatenate([*near, np.array(odd, np.float32), np.arange(100, dtype=np.float32)])
    x = rng.choice(pool, (rows, forest.features))
    listed = np.isin(np.arange(forest.features), forest.feature[forest.subset >= 0])
    x[listed & (x > -1) & (x < 0)] = -1  # what lies between is told of below
    return x


def agrees(booster: Any, forest: Forest, x: Array) -> None:
    """Raw margins bit for bit; but where base_score goes through a logarithm, its last digit may differ.

    With dart, `inplace_predict` differs from `predict`, as it adds base_score to each tree and takes it away again.
    """
    finite = np.isfinite(x[~np.isnan(x)]).all()  # XGBoost refuses others in a DMatrix
    dart = "dart" in json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
    matrix = xgb.DMatrix(
        x if finite else np.zeros_like(x), feature_names=booster.feature_names, feature_types=booster.feature_types
    )
    own, raw = booster.inplace_predict(x), booster.inplace_predict(x, predict_type="margin")
    if finite and not dart:
        np.testing.assert_array_equal(booster.predict(matrix), own)
    if finite:
        own, raw = booster.predict(matrix), booster.predict(matrix, output_margin=True)
    raw = raw.reshape(len(x), -1)
    exact = forest.link in ("identity", "softmax") and (finite or not dart)
    close = 0 if exact else 1e-7 * np.abs(forest.values).max(initial=1) * max(forest.trees, 1)
    np.testing.assert_allclose(forest.scores(x), raw, rtol=0, atol=close, strict=True)
    found = forest.predict(x)
    if own.ndim == 1 and raw.shape[1] > 1:  # of multi:softmax
        np.testing.assert_array_equal(found.argmax(axis=1), own)
    else:
        np.testing.assert_allclose(found, own, rtol=1e-6, atol=max(close, 1e-30), strict=True)


def trained(rounds: int = 5, seed: int = 0, categorical: bool = True, **params: Any) -> Any:
    rng = np.random.default_rng(seed)
    x = table(rng)
    objective, classes = params.get("objective", "reg:squarederror"), params.get("num_class", 2)
    y = np.nan_to_num(x[:, 0]) + (np.nan_to_num(x[:, 2]) % 7 < 3) + rng.normal(size=len(x)) / 2
    if "multi_strategy" in params or params.pop("wide", False):
        y = np.column_stack([y, rng.normal(size=len(x)), y * y])
    if objective.startswith(("multi", "binary", "rank", "count")) or objective == "reg:logistic":
        y = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    elif objective.startswith(("reg:gamma", "reg:tweedie", "reg:squaredlog", "survival")):
        y = np.exp(y)
    data = xgb.DMatrix(x, y, feature_types=KINDS if categorical else None, enable_categorical=categorical)
    if objective.startswith("rank"):
        data.set_group([50] * 3)
    if objective == "survival:aft":
        data.set_float_info("label_lower_bound", y)
        data.set_float_info("label_upper_bound", y + 1)
    return xgb.train({"nthread": 1, "seed": seed, "max_depth": 4, **params}, data, rounds)


OBJECTIVES = [
    *({"objective": f"reg:{name}"} for name in (
        "squarederror", "squaredlogerror", "pseudohubererror", "absoluteerror", "logistic", "gamma", "tweedie")),
    {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.5, 0.9]},
    {"objective": "binary:logistic"},
    {"objective": "binary:logistic", "base_score": 0.03},
    {"objective": "binary:logistic", "wide": True},
    {"objective": "binary:logitraw"},
    {"objective": "multi:softprob", "num_class": 3},
    {"objective": "multi:softmax", "num_class": 3},
    *({"objective": name} for name in (
        "count:poisson", "rank:pairwise", "rank:ndcg", "rank:map", "survival:cox", "survival:aft")),
    {"objective": "reg:squarederror", "multi_strategy": "multi_output_tree", "categorical": False},
    {"objective": "reg:squarederror", "wide": True},
]  # fmt: skip
WAYS: list[dict[str, Any]] = [
    {},
    {"max_cat_to_onehot": 1},
    {"max_cat_to_onehot": 100, "num_parallel_tree": 2, "subsample": 0.5},
    {"booster": "dart", "rate_drop": 0.5, "one_drop": 1},
    {"tree_method": "exact", "gamma": 0.5, "categorical": False},  # leaves deleted nodes behind
    {"max_depth": 1, "rounds": 1},
    {"rounds": 0},
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda given: "-".join(map(str, given.values())))
def test_every_objective_is_xgboosts_own(objective: dict[str, Any]) -> None:
    for seed, way in enumerate(WAYS):
        if "multi_strategy" in objective and {"booster", "tree_method"} & set(way):
            continue  # not in XGBoost
        if objective["objective"] in ("rank:pairwise", "rank:ndcg", "rank:map") and "num_parallel_tree" in way:
            continue  # which takes no subsample of groups
        booster = trained(seed=seed, **{**way, **objective})
        forest = FORMAT.forest(FORMAT.open(booster))
        rng = np.random.default_rng(seed)
        agrees(booster, forest, table(rng))
        agrees(booster, forest, edges(rng, forest))
        agrees(booster, forest, table(rng).astype(np.float64) + 1e-9)


def drawn(rng: np.random.Generator, leaves: int, *, deep: bool) -> dict[str, Any]:
    """A model as JSON, of trees drawn at random, with thresholds and categories as odd as can be."""
    model = json.loads(trained(rounds=3, categorical=False).save_raw("json"))
    inner = model["learner"]["gradient_booster"]["model"]
    size = 2 * leaves - 1
    for tree in inner["trees"]:
        left, right, parents = np.full(size, -1), np.full(size, -1), np.full(size, 2147483647)
        ends = [0]
        for made in range(1, size, 2):
            node = ends.pop(-1 if deep else rng.integers(len(ends)))
            left[node], right[node], parents[made : made + 2] = made, made + 1, node
            ends += [made, made + 1]
        split = left >= 0
        odd = np.array([0, -0.0, 1e-45, -1e-45, 1e-35, 3e38, -3e38, np.inf, 1, 2, 0.1], np.float32)
        listed = np.flatnonzero(split & (rng.random(size) < 0.3))
        subsets = [np.sort(rng.choice(60, rng.integers(1, 9), replace=False)) for _ in listed]
        sizes = [len(one) for one in subsets]
        kind = np.zeros(size, int)
        kind[listed] = 1
        tree.update(
            left_children=left.tolist(), right_children=right.tolist(), parents=parents.tolist(),
            split_indices=np.where(split, rng.integers(0, 4, size), 0).tolist(), split_type=kind.tolist(),
            split_conditions=np.where(
                split & (rng.random(size) < 0.5), rng.choice(odd, size), rng.normal(size=size).astype(np.float32)
            ).tolist(),
            default_left=rng.integers(0, 2, size).tolist(), categories_nodes=listed.tolist(), categories_sizes=sizes,
            categories_segments=(np.cumsum(sizes, dtype=int) - sizes).tolist(),
            categories=np.concatenate([np.zeros(0, int), *subsets]).tolist(),
            **{name: [0.0] * size for name in ("loss_changes", "sum_hessian", "base_weights")},
        )  # fmt: skip
        tree["tree_param"].update(num_nodes=str(size))
    return model


@settings(max_examples=60)
@given(st.integers(0, 1 << 30), st.sampled_from([1, 2, 3, 10, 61]), st.booleans())
def test_trees_drawn_at_random_are_xgboosts_own(
    tmp_path_factory: pytest.TempPathFactory, seed: int, leaves: int, deep: bool
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("drawn") / "model.json"
    path.write_text(json.dumps(drawn(rng, leaves, deep=deep)))
    model = FORMAT.open(path)
    assert model.counts["depth"] == leaves - 1 or not deep
    agrees(xgb.Booster(model_file=path), FORMAT.forest(model), edges(rng, FORMAT.forest(model), 100))


@pytest.mark.parametrize("objective", ["binary:logistic", "count:poisson"])
def test_base_scores_become_margins_as_in_xgboost(objective: str) -> None:
    """To the last digit of float32, which is for the mathematical library to say."""
    x, same = table(np.random.default_rng(0), 1), 0
    bases = np.random.default_rng(0).uniform(0, 1, 100)
    for base in bases:
        booster = trained(rounds=0, objective=objective, base_score=base, categorical=False)
        own = booster.inplace_predict(x, predict_type="margin").ravel()
        found = FORMAT.forest(FORMAT.open(booster)).base.astype(np.float32)
        np.testing.assert_array_max_ulp(found, own, 1)
        same += found == own
    assert same >= 97


def test_labels_that_are_all_the_same() -> None:
    x = table(np.random.default_rng(0))
    booster = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(x, np.zeros(len(x))), 2)
    agrees(booster, FORMAT.forest(FORMAT.open(booster)), x)


def test_a_category_below_zero_by_a_fraction_counts_as_zero() -> None:
    """Where XGBoost takes it as unknown; -1 and less are unknown to both."""
    booster = trained(max_cat_to_onehot=1)
    forest = FORMAT.forest(FORMAT.open(booster))
    x = table(np.random.default_rng(0))
    zero, below = x.copy(), x.copy()
    zero[:, 2:], below[:, 2:] = 0, -0.5
    np.testing.assert_array_equal(forest.predict(below), forest.predict(zero))


def test_it_is_stored_opened_and_kept(tmp_path: Path) -> None:
    booster = trained(objective="binary:logistic")
    live = FORMAT.open(booster)
    model = FORMAT.store(live, tmp_path / "given")
    assert (live.files, live.payload) == ((), booster)
    assert model.files == (tmp_path / "given" / "model.ubj",)
    assert FORMAT.store(model, tmp_path / "again") is model
    assert (model.signature, model.counts) == (live.signature, live.counts)
    x = edges(np.random.default_rng(0), FORMAT.forest(model))
    agrees(xgb.Booster(model_file=model.path), FORMAT.forest(model), x)
    FORMAT.forest(model).save(tmp_path / "forest.npz")
    agrees(booster, Forest.load(tmp_path / "forest.npz"), x)
    booster.save_model(tmp_path / "model.json")
    (tmp_path / "model.json").rename(tmp_path / "model.trees")
    assert FORMAT.detects(tmp_path / "model.trees")
    other = FORMAT.forest(FORMAT.open(tmp_path / "model.trees"))
    for name in Forest.ARRAYS:
        np.testing.assert_array_equal(getattr(other, name), getattr(FORMAT.forest(model), name))


def test_signature_names_counts_and_gains() -> None:
    x = table(np.random.default_rng(0))
    data = xgb.DMatrix(x, x[:, 0] > 0, feature_names=["a", "b", "größe", "d"])
    booster = xgb.train({"objective": "binary:logistic"}, data, 3)
    model = FORMAT.open(booster)
    (entry,), (result,) = model.signature.inputs, model.signature.outputs
    assert (entry.dtype, entry.shape, entry.columns) == ("float32", (None, 4), ("a", "b", "größe", "d"))
    assert (result.name, result.dtype, result.shape, entry.missing) == ("probability", "float32", (None,), True)
    assert FORMAT.open(trained(objective="multi:softprob", num_class=3)).signature.outputs[0].shape == (None, 3)
    assert FORMAT.open(trained(wide=True)).signature.outputs[0].shape == (None, 3)
    assert FORMAT.open(trained()).signature.inputs[0].columns == ()
    forest, dumped = FORMAT.forest(model), booster.trees_to_dataframe()
    np.testing.assert_allclose(forest.count, dumped.Cover, rtol=1e-5)
    splits = forest.feature >= 0
    np.testing.assert_allclose(forest.gain[splits], dumped.Gain[splits], rtol=1e-5)
    assert np.isnan(forest.gain[~splits]).all()


@pytest.mark.parametrize("kind", ["XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier"])
@pytest.mark.parametrize("booster", ["gbtree", "dart"])
def test_wrappers_are_read_up_to_their_best_iteration(kind: str, booster: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    y = (x[:, 0] + rng.normal(size=200) > 0).astype(int)
    many = {} if "RF" in kind else {"n_estimators": 60, "learning_rate": 1.0, "early_stopping_rounds": 2}
    wrapper = getattr(xgb, kind)(booster=booster, max_depth=2, n_jobs=1, **many)
    with pytest.raises(UnsupportedModel, match=f"trained, and this {kind} is not"):
        FORMAT.open(wrapper)
    groups = {"group": [100], "eval_group": [[100]]} if kind == "XGBRanker" else {}
    tested = {"eval_set": [(x[100:], y[100:])], "verbose": False} if many else {}
    wrapper.fit(x[:100], y[:100], **tested, **groups)
    assert FORMAT.detects(wrapper)
    model = FORMAT.store(FORMAT.open(wrapper), tmp_path)
    own = wrapper.predict_proba(x)[:, 1] if "Classifier" in kind else wrapper.predict(x)
    for forest in (FORMAT.forest(model), FORMAT.forest(FORMAT.open(wrapper))):
        np.testing.assert_allclose(forest.predict(x), own, rtol=1e-6)
    agrees(xgb.Booster(model_file=model.path), FORMAT.forest(model), x)
    if many:
        assert model.counts["trees"] == wrapper.best_iteration + 1 < wrapper.get_booster().num_boosted_rounds()
        wrapper.save_model(tmp_path / "all.json")
        assert FORMAT.open(tmp_path / "all.json").counts["trees"] == wrapper.get_booster().num_boosted_rounds()


def test_what_is_refused_by_name() -> None:
    x = table(np.random.default_rng(0))
    with pytest.raises(UnsupportedModel, match="this one is linear"):
        FORMAT.open(xgb.train({"booster": "gblinear"}, xgb.DMatrix(x, x[:, 0]), 1))
    with pytest.raises(UnsupportedModel, match=r"known to strop .* this is 'binary:hinge'"):
        FORMAT.open(trained(objective="binary:hinge"))
    with pytest.raises(UnsupportedModel, match=r"must be NaN, and this XGBRegressor takes -1.0 for it"):
        FORMAT.open(xgb.XGBRegressor(missing=-1.0, n_estimators=1).fit(x, x[:, 0]))
    with pytest.raises(UnsupportedModel, match="must be trained, and this Booster is not"):
        FORMAT.open(xgb.Booster())


def test_what_it_detects(tmp_path: Path) -> None:
    def file(content: bytes, name: str = "file.json") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    booster = trained(rounds=1)
    assert FORMAT.detects(file(booster.save_raw("json"))) and FORMAT.detects(file(booster.save_raw("ubj"), "any"))
    assert FORMAT.detects(file(b' {\n "version": [3]', "any")) and FORMAT.detects(str(file(b"", "a.UBJ")))
    for content in (b"", b'{"features_info": {}}', b"[]", b"tree\n"):
        assert not FORMAT.detects(file(content))
    for other in (tmp_path, tmp_path / "none.ubj", 3, None, np.zeros(2), object):
        assert not FORMAT.detects(other)
        with pytest.raises(UnsupportedModel, match="An XGBoost model is a file in JSON or UBJSON"):
            FORMAT.open(other)


def first(model: Any) -> Any:
    return model["learner"]["gradient_booster"]["model"]["trees"][0]


BREAKS: list[tuple[str, Any, str]] = [
    ("left_children", [9, -1, -1], "the left of a node is 9, and its tree has 3"),
    ("left_children", [-2, -1, -1], "the left of a node is -2"),
    ("left_children", [0, -1, -1], "as in a cycle"),
    ("left_children", [1 << 32, -1, -1], "is 4294967296"),
    ("left_children", [1 << 80, -1, -1], "left_children must be 3 numbers, and is object"),
    ("left_children", [1.0, -1, -1], "float64"),
    ("left_children", [1, -1], r"must be 3 numbers, and is int64 \(2,\)"),
    ("left_children", {"1": 2}, "left_children must be 3 numbers"),
    ("left_children", [[1], [2, 3]], "broken"),
    ("split_indices", [4, 0, 0], "looks at is 4, and must be 0 or more and less than 4"),
    ("split_indices", [-1, 0, 0], "broken"),
    ("split_indices", [1 << 32, 0, 0], "looks at is 4294967296"),
    ("split_conditions", ["a", "b", "c"], "split_conditions must be 3 numbers, and is <U1"),
    ("split_conditions", [float("nan"), 1, 1], "a threshold is NaN"),
    ("split_conditions", [0, 1e99, 1], "a leaf is not finite"),
    ("default_left", [2, 0, 0], "default_left is 2"),
    ("split_type", [1, 0, 0], "categories_nodes and split_type differ"),
    ("tree_param", {"num_nodes": "99999999999"}, "must be 99999999999 numbers"),
    ("tree_param", {"num_nodes": "three"}, "three"),
    ("id", 7, "not all 3, or not in order"),
]


@pytest.mark.parametrize(("key", "value", "said"), BREAKS)
def test_a_broken_tree_is_refused(tmp_path: Path, key: str, value: Any, said: str) -> None:
    model = drawn(np.random.default_rng(0), 2, deep=False)
    first(model).update(split_type=[0, 0, 0], categories_nodes=[], categories_sizes=[], categories_segments=[],
                        categories=[])  # fmt: skip
    path = tmp_path / "model.json"
    path.write_text(json.dumps(model))
    FORMAT.open(path)
    first(model)[key] = value
    path.write_text(json.dumps(model))
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


@pytest.mark.parametrize(
    ("sizes", "segments", "members", "said"),
    [
        ([3], [0], [1, 2], "not split up"),
        ([0], [0], [], "not split up"),
        ([2], [1], [1, 2], "not split up"),
        ([2], [0], [2, 1], "must ascend"),
        ([2], [0], [-1, 1], "a category is -1"),
        ([2], [0], [1, 1 << 40], "a category is 1099511627776"),
    ],
)
def test_broken_categories_are_refused(
    tmp_path: Path, sizes: list[int], segments: list[int], members: list[int], said: str
) -> None:
    model = drawn(np.random.default_rng(0), 2, deep=False)
    first(model).update(split_type=[1, 0, 0], categories_nodes=[0], categories_sizes=sizes,
                        categories_segments=segments, categories=members)  # fmt: skip
    path = tmp_path / "model.json"
    path.write_text(json.dumps(model))
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


def test_columns_that_none_looks_at_take_no_memory(tmp_path: Path) -> None:
    model = drawn(np.random.default_rng(0), 3, deep=False)
    model["learner"]["learner_model_param"]["num_feature"] = "2000000000"
    model["learner"]["feature_names"] = []
    path = tmp_path / "model.json"
    path.write_text(json.dumps(model))
    (note,) = FORMAT.open(path).notes
    assert "of 2,000,000,000 columns; not at" in note
    assert len(note) < 300


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_score": "[1, 2]"}, "base_score has 2 numbers for 1 outputs"),
        ({"base_score": "[1e999]"}, "not finite"),
        ({"base_score": "half"}, "broken"),
        ({"num_class": "99999999999"}, "for 99999999999 outputs"),
        ({"num_trees": "99999999999999"}, "its 3 trees are not all 99999999999999"),
        ({"num_feature": "0"}, "must be 0 or more and less than 0"),
    ],
)
def test_broken_settings_are_refused(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    model = drawn(np.random.default_rng(0), 3, deep=False)
    model["learner"]["learner_model_param"].update(settings)
    model["learner"]["gradient_booster"]["model"]["gbtree_model_param"].update(settings)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(model))
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "JSONDecodeError"),
        (b'{"learner": ' + b"[" * 200_000, "RecursionError"),
        (b'{"learner": 3}', "TypeError"),
        (b'{"version": [3, 2, 0]}', "KeyError: 'learner'"),
        (b"{L" + bytes(7) + b"\x07learner" + b"[" * 200_000, "nested more than 64 deep"),
        (b"{L" + bytes(7) + b"\x07learner[$d#L" + b"\x7f" * 8, "cut off"),
        (b"{L" + bytes(7) + b"\x07learner[#L" + b"\x7f" * 8, "must be|cut off"),
        (b"{L" + bytes(7) + b"\x07learner[$d#L" + b"\xff" * 8, "cut off"),
        (b"{L" + bytes(7) + b"\x07learnerZ}more", "4 bytes follow its end"),
        (b"{L" + bytes(7) + b"\x07learner?", "begins no value"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "model.ubj").write_bytes(content)
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(tmp_path / "model.ubj")


def test_ubjson_of_every_kind() -> None:
    number = b"i\xffU\xffI\xff\xfel\xff\xff\xff\xfdL" + b"\xff" * 8 + b"d\x3f\x80\0\0D\x3f\xf0\0\0\0\0\0\0"
    assert _ubjson.loads(b"[" + number + b"ZTFSL" + bytes(7) + b"\x02ab{}[]]") == [
        -1, 255, -2, -3, -1, 1.0, 1.0, None, True, False, "ab", {}, [],
    ]  # fmt: skip


@pytest.mark.parametrize("raw", ["ubj", "json"])
def test_truncated_and_flipped_files_end_in_a_refusal_or_a_forest(tmp_path: Path, raw: str) -> None:
    whole = bytes(trained(rounds=2, objective="binary:logistic", max_depth=2).save_raw(raw))
    path, rng = tmp_path / "model.ubj", np.random.default_rng(0)
    x = table(rng, 5)
    for size in range(0, len(whole), 13):
        path.write_bytes(whole[:size])
        with pytest.raises(UnsupportedModel):
            FORMAT.open(path)
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[place] = rng.choice([rng.integers(256), 0, 255, ord("9"), ord("-"), ord("{"), ord("L"), ord("Z")])
        path.write_bytes(content)
        try:
            assert FORMAT.forest(FORMAT.open(path)).predict(x).shape == (5,)
        except UnsupportedModel as error:
            refused += 1
            assert str(path) in str(error) or "forest" in str(error) or "XGBoost" in str(error)
    assert refused > 100


def test_the_library_is_not_loaded(tmp_path: Path) -> None:
    FORMAT.store(FORMAT.open(trained()), tmp_path)
    code = ("import sys; from strop.formats.xgboost import XgboostFormat as F; m = F().open(sys.argv[1]); "
            "F().forest(m); assert 'xgboost' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.ubj"], check=True)
