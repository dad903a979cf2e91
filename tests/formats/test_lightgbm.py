"""LightGBM's models are read into forests that predict what LightGBM itself does."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.data import Data, match
from strop.errors import InvalidData, UnsupportedModel
from strop.forest import ZERO, Forest
from strop.formats.lightgbm import LightgbmFormat

lgb = pytest.importorskip("lightgbm")

Array = np.ndarray[Any, Any]
FORMAT = LightgbmFormat()
QUIET = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2, "min_data_per_group": 1, "cat_smooth": 1.0}


HEAD = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=2
objective=regression
feature_names=a b c
feature_infos=none none none

"""


def table(rng: np.random.Generator, rows: int = 150) -> Array:
    """Two columns of numbers, one of them with zeros and NaN, and two of categories."""
    x = rng.normal(size=(rows, 4)).round(1)
    x[:, 2] = rng.integers(0, 45, rows)
    x[:, 3] = rng.integers(0, 4, rows)
    x[rng.random(rows) < 0.2, 1] = 0
    x[rng.random(rows) < 0.2, 1] = np.nan
    return x


def edges(rng: np.random.Generator, forest: Forest, rows: int = 300) -> Array:
    """Thresholds and their neighbours, categories known and unknown, and all that is odd."""
    at = np.append(forest.threshold[forest.feature >= 0], 0.0)
    odd = [np.nan, np.inf, -np.inf, -0.0, 5e-324, -5e-324, 1e-35, -1e-35, ZERO, -ZERO, 1.1e-35, 1e300, -1.0, -0.5, 2.7]
    pool = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), odd, np.arange(100.0), [2.0**31]])
    return rng.choice(pool, (rows, forest.features))


def agrees(booster: Any, forest: Forest, x: Array) -> None:
    raw = booster.predict(x, raw_score=True).reshape(len(x), -1)
    np.testing.assert_array_equal(forest.scores(x), raw, strict=True)
    np.testing.assert_allclose(forest.predict(x), booster.predict(x), rtol=1e-15, atol=0, strict=True)


def trained(rounds: int = 5, seed: int = 0, categorical: tuple[int, ...] = (2, 3), **params: Any) -> Any:
    rng = np.random.default_rng(seed)
    x = table(rng)
    classes = params.get("num_class", 2)
    y = np.nan_to_num(x[:, 0]) + (x[:, 2] % 7 < 3) + rng.normal(size=len(x)) / 2
    if params.get("objective") not in ("regression", "regression_l1", "huber", "fair", "quantile", "mape"):
        y = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes)) + (params.get("objective") == "gamma")
    group = [50] * 3 if params.get("objective") in ("lambdarank", "rank_xendcg") else None
    data = lgb.Dataset(x, y, categorical_feature=list(categorical), group=group, params=QUIET)
    return lgb.train({**QUIET, "seed": seed, **params}, data, rounds)


OBJECTIVES = [
    {"objective": "regression"},
    {"objective": "regression", "reg_sqrt": True},
    {"objective": "regression_l1", "reg_sqrt": True},
    *({"objective": name} for name in ("huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie")),
    {"objective": "binary"},
    {"objective": "binary", "sigmoid": 0.7},
    {"objective": "multiclass", "num_class": 3},
    {"objective": "multiclassova", "num_class": 3, "sigmoid": 1.3},
    *({"objective": name} for name in ("cross_entropy", "cross_entropy_lambda", "lambdarank", "rank_xendcg")),
]
WAYS: list[dict[str, Any]] = [
    {},
    {"use_missing": False, "max_cat_to_onehot": 64},
    {"zero_as_missing": True},
    {"boosting": "dart", "drop_rate": 0.5},
    {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
    {"num_leaves": 2, "rounds": 1},
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda given: "-".join(map(str, given.values())))
def test_every_objective_is_lightgbms_own(objective: dict[str, Any]) -> None:
    for seed, way in enumerate(WAYS):
        booster = trained(seed=seed, **objective, **way)
        forest = FORMAT.forest(FORMAT.open(booster))
        rng = np.random.default_rng(seed)
        agrees(booster, forest, table(rng))
        agrees(booster, forest, edges(rng, forest))
        agrees(booster, forest, edges(rng, forest, 50).clip(-1e38, 1e38).astype(np.float32))


def test_an_own_objective_gives_raw_scores() -> None:
    x = table(np.random.default_rng(0))
    data = lgb.Dataset(x, x[:, 0], params=QUIET)
    booster = lgb.train({**QUIET, "objective": lambda scores, data: (scores - data.get_label(), np.ones(150))}, data, 3)
    forest = FORMAT.forest(FORMAT.open(booster))
    assert forest.link == "identity"
    agrees(booster, forest, x)


@pytest.mark.parametrize("objective", [{"objective": "binary"}, {"objective": "multiclass", "num_class": 3}])
def test_models_without_trees_and_of_single_leaves(objective: dict[str, Any]) -> None:
    x = table(np.random.default_rng(0))
    empty = lgb.Booster(model_str=trained(**objective).model_to_string(num_iteration=1).split("Tree=0")[0].replace(
        "tree_sizes=", "no_sizes=") + "end of trees\n\nparameters:\nend of parameters\n")  # fmt: skip
    assert FORMAT.open(empty).counts["trees"] == 0
    agrees(empty, FORMAT.forest(FORMAT.open(empty)), x)
    stumps = trained(**objective, min_gain_to_split=1e9)
    assert FORMAT.open(stumps).counts["leaves"] == stumps.num_trees()
    agrees(stumps, FORMAT.forest(FORMAT.open(stumps)), x)


def text(rng: np.random.Generator, leaves: int, *, deep: bool) -> str:
    """A model as text, of trees drawn at random: every decision_type, and thresholds as odd as can be."""
    trees = []
    for _ in range(3):
        ends, left, right = [(-1, "")], np.zeros(leaves - 1, int), np.zeros(leaves - 1, int)
        for node in range(leaves - 1):
            parent, side = ends.pop(-1 if deep else rng.integers(len(ends)))
            if parent >= 0:
                (left if side == "left" else right)[parent] = node
            ends += [(node, "left"), (node, "right")]
        for leaf, (parent, side) in enumerate(ends):
            (left if side == "left" else right)[parent] = ~leaf
        odd = [0.0, -0.0, 5e-324, -5e-324, 1e-35, -1e-35, ZERO, -ZERO, 2 * ZERO, -2 * ZERO, 1e300, -1e300, np.inf, 3.0]
        decision = rng.choice([0, 1, 2, 4, 5, 6, 8, 9, 10], leaves - 1)
        threshold = np.where(rng.random(leaves - 1) < 0.5, rng.choice(odd, leaves - 1), rng.normal(size=leaves - 1))
        threshold[decision % 2 == 1] = rng.integers(0, 3, (decision % 2 == 1).sum())
        given = {
            "num_leaves": [leaves], "num_cat": [3], "split_feature": rng.integers(0, 3, leaves - 1),
            "threshold": threshold, "decision_type": decision, "left_child": left, "right_child": right,
            "leaf_value": rng.normal(size=leaves), "cat_boundaries": [0, 1, 1, 4],
            "cat_threshold": rng.integers(0, 1 << 32, 4), "is_linear": [0], "shrinkage": [1],
        }  # fmt: skip
        trees.append("\n".join(f"{key}={' '.join(map(repr, np.asarray(row).tolist()))}" for key, row in given.items()))
    return HEAD + "".join(f"Tree={i}\n{tree}\n\n\n" for i, tree in enumerate(trees)) + "end of trees\n"


@settings(max_examples=60)
@given(st.integers(0, 1 << 30), st.sampled_from([2, 3, 10, 61]), st.booleans())
def test_trees_drawn_at_random_are_lightgbms_own(
    tmp_path_factory: pytest.TempPathFactory, seed: int, leaves: int, deep: bool
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("drawn") / "model.txt"
    path.write_text(text(rng, leaves, deep=deep))
    model = FORMAT.open(path)
    assert model.counts["depth"] == leaves - 1 or not deep
    agrees(lgb.Booster(model_file=path), FORMAT.forest(model), edges(rng, FORMAT.forest(model), 100))


def test_it_is_stored_opened_and_kept(tmp_path: Path) -> None:
    booster = trained(objective="binary")
    live = FORMAT.open(booster)
    model = FORMAT.store(live, tmp_path / "given")
    assert (live.files, live.payload) == ((), booster)
    assert model.files == (tmp_path / "given" / "model.txt",)
    assert FORMAT.store(model, tmp_path / "again") is model
    assert (model.signature, model.counts) == (live.signature, live.counts)
    x = edges(np.random.default_rng(0), FORMAT.forest(model))
    agrees(lgb.Booster(model_file=model.path), FORMAT.forest(model), x)
    FORMAT.forest(model).save(tmp_path / "forest.npz")
    agrees(booster, Forest.load(tmp_path / "forest.npz"), x)
    model.path.write_bytes(model.path.read_bytes().replace(b"\n", b"\r\n"))
    assert FORMAT.detects(model.path)
    agrees(booster, FORMAT.forest(model), x)


def test_signature_names_counts_and_gains() -> None:
    x = table(np.random.default_rng(0))
    data = lgb.Dataset(x, x[:, 0] > 0, feature_name=["a", "b", "größe", "d"], params=QUIET)
    booster = lgb.train({**QUIET, "objective": "binary"}, data, 3)
    model = FORMAT.open(booster)
    (entry,), (result,) = model.signature.inputs, model.signature.outputs
    assert (entry.dtype, entry.shape, entry.columns) == ("float64", (None, 4), ("a", "b", "größe", "d"))
    assert (result.name, result.dtype, result.shape, entry.missing) == ("probability", "float64", (None,), True)
    assert FORMAT.open(trained(objective="multiclass", num_class=3)).signature.outputs[0].shape == (None, 3)
    assert FORMAT.open(trained(objective="regression")).signature.inputs[0].columns == ()
    forest, dumped = FORMAT.forest(model), booster.trees_to_dataframe()
    order = dumped.node_index.str.extract(r"(\d+)-([SL])(\d+)").astype({0: int, 2: int})
    dumped = dumped.iloc[np.lexsort((order[2], order[1] == "L", order[0]))]
    np.testing.assert_array_equal(forest.count, dumped["count"])
    np.testing.assert_allclose(forest.gain, dumped["split_gain"].astype(float), rtol=1e-5)


@pytest.mark.parametrize("kind", ["LGBMClassifier", "LGBMRegressor", "LGBMRanker"])
def test_wrappers_are_read_up_to_their_best_iteration(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = table(rng, 200)
    y = (x[:, 0] + rng.normal(size=200) > 0).astype(int)
    wrapper = getattr(lgb, kind)(n_estimators=60, learning_rate=0.5, **QUIET)
    with pytest.raises(UnsupportedModel, match=f"trained, and this {kind} is not"):
        FORMAT.open(wrapper)
    groups = {"group": [100], "eval_group": [[100]]} if kind == "LGBMRanker" else {}
    stop = lgb.early_stopping(2, verbose=False)
    wrapper.fit(x[:100], y[:100], eval_X=x[100:], eval_y=y[100:], callbacks=[stop], **groups)
    assert FORMAT.detects(wrapper)
    assert 0 < wrapper.best_iteration_ < 60
    model = FORMAT.store(FORMAT.open(wrapper), tmp_path)
    assert model.counts["trees"] == wrapper.best_iteration_
    for forest in (FORMAT.forest(model), FORMAT.forest(FORMAT.open(wrapper))):
        agrees(wrapper.booster_, forest, x)
    own = wrapper.predict_proba(x)[:, 1] if kind == "LGBMClassifier" else wrapper.predict(x)
    np.testing.assert_allclose(FORMAT.forest(model).predict(x), own, rtol=1e-15)


@pytest.mark.parametrize(("named", "classes"), [
    (["legit", "fraud"], ("fraud", "legit")), ([5, 2], (2, 5)), ([0, 1], ()),
])  # fmt: skip
def test_labels_are_those_a_wrapper_was_trained_with(
    named: list[Any], classes: tuple[Any, ...], tmp_path: Path
) -> None:
    x = table(np.random.default_rng(1), 200)
    labels = np.array(named)[(x[:, 0] > 0).astype(int)]
    wrapper = lgb.LGBMClassifier(n_estimators=5, **QUIET).fit(x, labels)
    for model in (FORMAT.open(wrapper), FORMAT.store(FORMAT.open(wrapper), tmp_path)):
        assert model.signature.outputs[0].classes == classes
        fitted = match(Data({"x": x}, labels), model.signature)[0]
        right = (FORMAT.forest(model).predict(x) > 0.5) == fitted.labels
        assert right.mean() == (wrapper.predict(x) == labels).mean() > 0.9
    with pytest.raises(InvalidData, match="model's classes") if classes else contextlib.nullcontext():
        match(Data({"x": x}, np.full(200, 1)), FORMAT.open(wrapper).signature)


def test_a_booster_is_read_up_to_its_best_iteration(tmp_path: Path) -> None:
    x = table(np.random.default_rng(0))
    data = lgb.Dataset(x, x[:, 0] > 0, params=QUIET)
    booster = lgb.train({**QUIET, "objective": "binary"}, data, 9, keep_training_booster=True)
    booster.best_iteration = 4
    model = FORMAT.store(FORMAT.open(booster), tmp_path)
    assert (booster.current_iteration(), model.counts["trees"]) == (9, 4)
    agrees(booster, FORMAT.forest(model), x)


def test_categories_of_a_table_are_their_codes() -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"kind": pandas.Categorical(rng.choice(["x", "y", "z"], 200)), "size": rng.normal(size=200)}
    )
    booster = lgb.train(
        {**QUIET, "objective": "regression"}, lgb.Dataset(frame, (frame.kind == "y") + frame["size"]), 5
    )
    model = FORMAT.open(booster)
    assert model.signature.inputs[0].columns == ("kind", "size")
    coded = np.column_stack([frame.kind.cat.codes, frame["size"]]).astype(float)
    np.testing.assert_allclose(FORMAT.forest(model).predict(coded), booster.predict(frame), rtol=1e-15)


def test_zero_ends_where_lightgbm_ends_it() -> None:
    assert float(np.float32(1e-35)) == ZERO


def test_what_it_detects(tmp_path: Path) -> None:
    def file(content: bytes) -> Path:
        (tmp_path / "file.txt").write_bytes(content)
        return tmp_path / "file.txt"

    assert FORMAT.detects(file(b"tree\nversion=v4\n")) and FORMAT.detects(str(file(b"tree\r\n")))
    for content in (b"", b"trees\nare green", b"treeless", b"{}"):
        assert not FORMAT.detects(file(content))
    for other in (tmp_path, tmp_path / "none.txt", 3, None, np.zeros(2), object):
        assert not FORMAT.detects(other)
        with pytest.raises(UnsupportedModel, match="A LightGBM model is a text file"):
            FORMAT.open(other)


def broken(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tree\n", "forest\n", "first line is 'forest', and must be 'tree'"),
        ("end of trees", "end", "does not say 'end of trees'"),
        ("max_feature_idx=2", "max_feature_idx=9", "10 features and 3 feature_names"),
        ("max_feature_idx=2", "max_feature_idx=99999999999", "feature_names"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=99999999999", "num_tree_per_iteration is 99999999999"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "1 trees and num_tree_per_iteration is 3"),
        ("num_leaves=4", "num_leaves=0", "no leaves"),
        ("num_leaves=4", "num_leaves=99999999999", "leaf_value holds 4 numbers, and must hold 99999999999"),
        ("num_leaves=4", "num_leaves=four", "four"),
        ("is_linear=0", "is_linear=1", "linear_tree=false"),
        ("objective=regression", "objective=lasso", "known to strop .*; this is 'lasso'"),
        ("objective=regression", "objective=multiclass num_class:3", "does not go with 1 trees per iteration"),
        ("objective=regression", "objective=", "broken"),
        ("objective=regression", "objective=binary sigmoid:0", "sigmoid is 0.0"),
        ("split_feature=0", "split_feature=3", "the feature that a node looks at is 3"),
        ("split_feature=0", "split_feature=-1", "broken"),
        ("split_feature=0", "split_feature=4294967296", "looks at is 4294967296"),
        ("left_child=1", "left_child=7", "a child is 7"),
        ("left_child=1", "left_child=0", "as in a cycle"),
        ("left_child=1", "left_child=-9", "its tree has 7"),
        ("threshold=0.5", "threshold=half", "half"),
        ("threshold=0.5", "threshold=nan", "a threshold is NaN"),
        ("leaf_value=1", "leaf_value=inf", "a leaf is not finite"),
        ("decision_type=2", "decision_type=64", "a decision_type is 64"),
        ("cat_boundaries", "cat_bounds", "KeyError: 'cat_boundaries'"),
        ("threshold=0.5", "threshold=1e99", "the subset of a node is 1e.99"),
        ("cat_boundaries=0 1", "cat_boundaries=1 1", "ascend from 0"),
        ("cat_threshold=6", "cat_threshold=4294967296", "cat_threshold is 4294967296"),
    ],
)  # fmt: skip
def test_what_is_broken_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    whole = (
        f"{HEAD}Tree=0\nnum_leaves=4\nnum_cat=1\n"
        "split_feature=0 1 2\nthreshold=0.5 0 0\ndecision_type=2 1 2\nleft_child=1 -1 -3\nright_child=2 -2 -4\n"
        "leaf_value=1 2 3 4\ncat_boundaries=0 1\ncat_threshold=6\nis_linear=0\n\nend of trees\n"
    )
    (tmp_path / "model.txt").write_text(whole)
    agrees(lgb.Booster(model_str=whole), FORMAT.forest(FORMAT.open(tmp_path / "model.txt")), np.ones((1, 3)))
    if new == "threshold=1e99":  # as the place of a subset
        whole = whole.replace("decision_type=2", "decision_type=1")
    broken(tmp_path / "model.txt", whole.replace(old, new).encode(), said)


def test_linear_trees_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="this LightGBM model has linear trees"):
        FORMAT.open(trained(objective="regression", linear_tree=True, categorical=()))


def test_truncated_and_flipped_files_end_in_a_refusal_or_a_forest(tmp_path: Path) -> None:
    booster = trained(rounds=2, objective="binary", num_leaves=4)
    whole, path, rng = booster.model_to_string().encode(), tmp_path / "model.txt", np.random.default_rng(0)
    x, end = table(rng, 5), whole.index(b"end of trees") + len("end of trees")
    for size in {*range(0, end, 9), *range(end - 20, end), *range(end, len(whole), 200)}:
        path.write_bytes(whole[:size])
        if size < end:
            with pytest.raises(UnsupportedModel):
                FORMAT.open(path)
        else:  # what follows the trees, nothing depends on
            np.testing.assert_allclose(FORMAT.forest(FORMAT.open(path)).predict(x), booster.predict(x), rtol=1e-15)
    refused = 0
    for _ in range(400):
        content = bytearray(whole[:end])
        for place in rng.integers(0, end, rng.integers(1, 4)):
            content[place] = rng.choice([rng.integers(256), ord("9"), ord("-"), ord(" "), ord("\n"), ord("e")])
        path.write_bytes(content)
        try:
            assert FORMAT.forest(FORMAT.open(path)).predict(x).shape[0] == 5
        except UnsupportedModel as error:
            refused += 1
            assert str(path) in str(error) or "forest" in str(error) or "LightGBM" in str(error)
    assert refused > 100


def test_the_library_is_not_loaded(tmp_path: Path) -> None:
    import subprocess

    FORMAT.store(FORMAT.open(trained(objective="binary")), tmp_path)
    code = ("import sys; from strop.formats.lightgbm import LightgbmFormat as F; m = F().open(sys.argv[1]); "
            "F().forest(m); assert 'lightgbm' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.txt"], check=True)
