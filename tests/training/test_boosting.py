"""Trees trained anew: with the parameters that the original had, on what they may look at, within their time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import formats
from strop.data import Data
from strop.errors import NotApplicable, TechniqueError
from strop.formats.catboost import with_categories
from strop.learning import Training
from strop.model import FOREST, Model
from strop.target import Target
from strop.technique import Context
from strop.training.boosting import must_stay, retrain_forest, teacher
from strop.training.trees import Changes, used
from strop.training.xgboost import _told

catboost = pytest.importorskip("catboost")
lightgbm = pytest.importorskip("lightgbm")
ensemble = pytest.importorskip("sklearn.ensemble")
tree = pytest.importorskip("sklearn.tree")
threadpoolctl = pytest.importorskip("threadpoolctl")
xgboost = pytest.importorskip("xgboost")
RNG = np.random.default_rng
SAME = Changes()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("strop.training.trees.usable_cores", lambda: (0,))
    with threadpoolctl.threadpool_limits(1, "openmp"):
        yield


def rows(count: int = 400, seed: int = 0) -> Data:
    """Four columns of numbers, with gaps, and one of categories; two classes that hang on three of them."""
    rng = RNG(seed)
    x = rng.normal(size=(count, 5))
    x[:, 4] = rng.integers(0, 6, count)
    labels = (x[:, 0] + x[:, 1] * (x[:, 4] % 2 > 0) + 0.3 * rng.normal(size=count) > 0).astype(np.int64)
    x[:, :4][rng.random((count, 4)) < 0.05] = np.nan
    return Data({"x": x}, labels)


def of_lightgbm(folder: Path, data: Data, labels: Any = None, **parameters: Any) -> Model:
    given = {"objective": "binary", "num_leaves": 9, "learning_rate": 0.2, "verbose": -1, "num_threads": 1,
             "min_data_in_leaf": 7, **parameters}  # fmt: skip
    x, y = data.inputs["x"], data.labels if labels is None else labels
    booster = lightgbm.train(given, lightgbm.Dataset(x, y, categorical_feature=[4]), 12)
    folder.mkdir(parents=True, exist_ok=True)
    booster.save_model(folder / "model.txt")
    return formats.open(folder / "model.txt")


def booster_of_xgboost(data: Data, labels: Any = None, **parameters: Any) -> Any:
    given = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.17, "lambda": 2.5, "nthread": 1, **parameters}
    y = data.labels if labels is None else labels
    types = [*"qqqqq"] if "multi_strategy" in parameters else [*"qqqqc"]  # categories do not go with vector leaves
    matrix = xgboost.DMatrix(data.inputs["x"], y, feature_types=types, enable_categorical=True)
    return xgboost.train(given, matrix, 12)


def of_xgboost(folder: Path, data: Data, labels: Any = None, **parameters: Any) -> Model:
    return stored(booster_of_xgboost(data, labels, **parameters), folder)


def of_catboost(folder: Path, data: Data, labels: Any = None, **parameters: Any) -> Model:
    given = {"loss_function": "Logloss", "depth": 3, "learning_rate": 0.2, "iterations": 12, "max_ctr_complexity": 1,
             "random_seed": 0, "thread_count": 1, "verbose": 0, "allow_writing_files": False, **parameters}  # fmt: skip
    x, y = with_categories(data.inputs["x"].astype(np.float32), [4]), data.labels if labels is None else labels
    return stored(catboost.CatBoost(given).fit(catboost.Pool(x, y, cat_features=[4])), folder)


def of_sklearn(folder: Path, data: Data, labels: Any = None, task: str = "Classifier", **parameters: Any) -> Model:
    given = {"max_iter": 12, "learning_rate": 0.2, "max_leaf_nodes": 9, "min_samples_leaf": 7, "random_state": 0,
             "categorical_features": [4], **parameters}  # fmt: skip
    made = getattr(ensemble, f"HistGradientBoosting{task}")(**given)
    return stored(made.fit(data.inputs["x"], data.labels if labels is None else labels), folder)


def stored(live: Any, folder: Path) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    opened = formats.open(live)
    return formats.format_of(opened.format).store(opened, folder)


def context(original: Model, data: Data | None, folder: Path, **settings: Any) -> Context:
    (folder / "made").mkdir(exist_ok=True, parents=True)
    fitted = data and replace(data, dtypes={"x": original.signature.inputs[0].dtype})
    return Context(None, original, Target(threads=1), 0, folder / "made", train=fitted, **settings)


MAKERS = pytest.mark.parametrize("make", [of_catboost, of_lightgbm, of_sklearn, of_xgboost])


@MAKERS
def test_with_the_same_columns_and_parameters_it_is_the_original_again(make: Any, tmp_path: Path) -> None:
    data = rows()
    given = context(make(tmp_path, data), data, tmp_path)
    first = teacher(given)
    made = retrain_forest(given, used(first), SAME)
    assert (made.trees, made.outputs, made.names, made.dtype) == (12, 1, first.names, first.dtype)
    np.testing.assert_allclose(made.predict(data.inputs["x"]), first.predict(data.inputs["x"]), atol=1e-5)
    again = retrain_forest(given, used(first), SAME)
    np.testing.assert_array_equal(again.threshold, made.threshold)


@MAKERS
def test_what_is_left_out_is_never_looked_at(make: Any, tmp_path: Path) -> None:
    data = rows()
    given = context(make(tmp_path, data), data, tmp_path)
    made = retrain_forest(given, np.array([1, 2, 4]), SAME)
    assert set(used(made)) <= {1, 2, 4}
    assert made.features == 5
    assert 4 in made.feature[made.subset >= 0], "categories stay categories"
    before = np.array(data.inputs["x"])
    changed = before.copy()
    changed[:, [0, 3]] = RNG(1).normal(size=(len(data), 2))
    np.testing.assert_array_equal(made.predict(changed), made.predict(before))
    np.testing.assert_array_equal(data.inputs["x"], before)


@MAKERS
def test_changes_are_ratios_to_the_parameters_of_the_original(make: Any, tmp_path: Path) -> None:
    data = rows(1000)
    given = context(make(tmp_path, data), data, tmp_path)
    kept = used(teacher(given))
    assert retrain_forest(given, kept, Changes(rounds=0.5)).trees == 6
    assert retrain_forest(given, kept, Changes(rounds=0.01)).trees == 1
    few, usual = (
        retrain_forest(given, kept, changes) for changes in (Changes(rounds=0.1, leaves=0.5), Changes(rounds=0.1))
    )
    assert (few.feature < 0).sum() in (4, 5)
    assert (usual.feature < 0).sum() in (8, 9)
    first, hasty = (
        retrain_forest(given, kept, Changes(rounds=0.1, rate=rate)).scores(data.inputs["x"]) for rate in (1, 2)
    )
    assert np.ptp(hasty) == pytest.approx(2 * np.ptp(first), rel=1e-4)
    sparse = retrain_forest(given, kept, Changes(least=20))
    if make is not of_catboost:  # whose trees ask the same at all nodes of a level
        assert sparse.count[sparse.feature < 0].min() >= 20


def test_lightgbm_is_given_what_its_file_says_and_no_more(tmp_path: Path) -> None:
    data = rows()
    model = of_lightgbm(tmp_path, data, monotone_constraints=[1, 0, 0, 0, 0], lambda_l2=3.0)
    strange = tmp_path / "strange.json"
    text = model.path.read_text().replace("[forcedsplits_filename: ]", f"[forcedsplits_filename: {strange}]")
    strange.write_text('{"feature": 3, "threshold": 0.0}')
    model.path.write_text(text)
    given = context(formats.open(model.path), data, tmp_path)
    made = retrain_forest(given, np.arange(5), SAME)
    x = data.inputs["x"]
    np.testing.assert_allclose(made.predict(x), teacher(given).predict(x), atol=1e-12)


def test_lightgbm_without_parameters_is_told_by_its_trees(tmp_path: Path) -> None:
    data = rows()
    model = of_lightgbm(tmp_path, data)
    model.path.write_text(model.path.read_text().partition("\nparameters:")[0])
    told: list[str] = []
    tell = lambda share, words: told.append(words)  # noqa: E731
    given = context(formats.open(model.path), data, tmp_path, progress=tell)
    made, first = retrain_forest(given, np.arange(5), SAME), teacher(given)
    assert (made.trees, int((made.tree == 0).sum())) == (first.trees, int((first.tree == 0).sum()))
    x = data.inputs["x"]
    assert np.ptp(made.scores(x)) == pytest.approx(np.ptp(first.scores(x)), rel=0.3), "the rate is the original's"
    assert told[0] == "its file holds no parameters: rate and leaves are as its trees tell, all else LightGBM's default"


@pytest.mark.parametrize("parameters", [{}, {"lambda": 0.0, "eta": 0.9}, {"max_depth": 6, "subsample": 0.7}])
def test_xgboost_trees_tell_rate_and_l2(parameters: dict[str, Any]) -> None:
    booster = booster_of_xgboost(rows(), **parameters)
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    told = _told(trees)
    assert told["eta"] == pytest.approx(parameters.get("eta", 0.17), rel=0.01)
    assert told["lambda"] == pytest.approx(parameters.get("lambda", 2.5), abs=0.02)


def test_xgboost_trees_that_another_rule_made_tell_nothing() -> None:
    booster = booster_of_xgboost(rows(), alpha=5.0)
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    assert _told(trees) == {}
    assert _told([]) == {}


def test_a_live_xgboost_model_keeps_its_parameters_and_is_left_alone(tmp_path: Path) -> None:
    data = rows()
    booster = booster_of_xgboost(data, gamma=0.7, min_child_weight=4)
    kept = stored(booster, tmp_path / "stored")
    assert booster.attributes() == {}
    given = context(kept, data, tmp_path)
    x = data.inputs["x"]
    made = retrain_forest(given, np.arange(5), SAME)
    np.testing.assert_allclose(made.predict(x), teacher(given).predict(x), atol=1e-5)
    # what was loaded from a file does not know what it was trained with, and says defaults
    booster.save_model(tmp_path / "plain.ubj")
    given = context(stored(xgboost.Booster(model_file=tmp_path / "plain.ubj"), tmp_path / "stored"), data, tmp_path)
    made = retrain_forest(given, np.arange(5), SAME)
    assert np.ptp(made.scores(x)) == pytest.approx(np.ptp(teacher(given).scores(x)), rel=0.3), "the rate is its own"
    assert int(made.depth.max()) == 3


@pytest.mark.parametrize(
    ("make", "several"),
    [(of_catboost, {"loss_function": "MultiClass"}),
     (of_catboost, {"loss_function": "MultiClassOneVsAll", "grow_policy": "Depthwise"}),
     (of_lightgbm, {"objective": "multiclass", "num_class": 3}),
     (of_sklearn, {}),
     (of_xgboost, {"objective": "multi:softprob", "num_class": 3}),
     (of_xgboost, {"objective": "multi:softprob", "num_class": 3, "multi_strategy": "multi_output_tree"})],
)  # fmt: skip
def test_several_classes(make: Any, several: dict[str, Any], tmp_path: Path) -> None:
    data = rows()
    labels = data.labels + (data.inputs["x"][:, 4] > 4)  # type: ignore[operator]
    given = context(make(tmp_path, data, labels, **several), replace(data, labels=labels), tmp_path)
    first = teacher(given)
    made = retrain_forest(given, used(first), SAME)
    x = data.inputs["x"]
    np.testing.assert_allclose(made.predict(x), first.predict(x), atol=1e-4)
    assert retrain_forest(given, used(first), Changes(rounds=0.5)).trees == first.trees // 2
    with pytest.raises(NotApplicable, match="classes from 0 to 2, and row 0 has 7"):
        retrain_forest(
            context(given.original, replace(data, labels=np.full(len(data), 7)), tmp_path), used(first), SAME
        )


@pytest.mark.parametrize(
    ("make", "settings"),
    [(of_catboost, {"loss_function": "Quantile:alpha=0.7"}), (of_catboost, {"loss_function": "Poisson"}),
     (of_lightgbm, {"objective": "regression"}), (of_lightgbm, {"objective": "poisson"}),
     (of_sklearn, {"task": "Regressor", "loss": "gamma"}), (of_xgboost, {"objective": "reg:squarederror"})],
)  # fmt: skip
def test_regression(make: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    data = rows()
    labels = np.abs(np.nan_to_num(data.inputs["x"][:, 0])) * 3 + 0.01
    given = context(make(tmp_path, data, labels, **settings), replace(data, labels=labels), tmp_path)
    first = teacher(given)
    x = data.inputs["x"]
    np.testing.assert_allclose(retrain_forest(given, np.arange(5), SAME).predict(x), first.predict(x), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "objective"), [(of_catboost, "YetiRank"), (of_lightgbm, "lambdarank"), (of_xgboost, "rank:ndcg")]
)
def test_ranking_needs_groups(make: Any, objective: str, tmp_path: Path) -> None:
    data = rows()
    groups = np.repeat(np.arange(20), 20)
    x, y = data.inputs["x"], data.labels
    if make is of_catboost:
        given = {"loss_function": objective, "iterations": 5, "depth": 3, "allow_writing_files": False, "verbose": 0}
        booster = catboost.CatBoost(given).fit(catboost.Pool(x, y, group_id=groups))
    elif make is of_lightgbm:
        matrix = lightgbm.Dataset(x, y, group=np.full(20, 20))
        booster = lightgbm.train({"objective": objective, "num_leaves": 9, "verbose": -1, "num_threads": 1}, matrix, 5)
    else:
        matrix = xgboost.DMatrix(x, y, qid=groups)
        booster = xgboost.train({"objective": objective, "max_depth": 3, "nthread": 1}, matrix, 5)
    original = stored(booster, tmp_path / "given")
    with pytest.raises(NotApplicable, match="groups"):
        retrain_forest(context(original, data, tmp_path), np.arange(5), SAME)
    mixed = RNG(0).permutation(len(data))  # the rows of a group need not be together
    given = context(original, Data({"x": x[mixed]}, y[mixed], groups=groups[mixed]), tmp_path)  # type: ignore[index]
    made, first = retrain_forest(given, np.arange(5), SAME).predict(x), teacher(given).predict(x)
    assert np.corrcoef(made, first)[0, 1] > 0.9


@MAKERS
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "labels, and the train data have none"),
        ({"labels": np.array(["yes"] * 400)}, "labels that are numbers, and these are <U3"),
        ({"labels": np.full(400, 0.5)}, "classes from 0 to 1, and row 0 has 0.5"),
        ({"labels": np.r_[np.zeros(399), np.nan]}, "finite, and row 399"),
        ({"labels": np.zeros((400, 2))}, r"one label a sample.*\(400, 2\)"),
        ({"rows": np.arange(20)}, "50 samples at the least, and there are 20"),
    ],
)
def test_what_can_not_be_trained_on_is_refused(make: Any, change: Any, said: str, tmp_path: Path) -> None:
    data = rows()
    given = context(make(tmp_path, data), replace(data, **change), tmp_path)
    with pytest.raises(NotApplicable, match=said):
        retrain_forest(given, np.arange(5), SAME)


def test_an_objective_of_ones_own_is_refused(tmp_path: Path) -> None:
    def squares(scores: Any, data: Any) -> Any:
        return scores - data.get_label(), np.ones(len(scores))

    given = context(of_lightgbm(tmp_path, rows(), objective=squares), rows(), tmp_path)
    with pytest.raises(NotApplicable, match="objective of its own"):
        retrain_forest(given, np.arange(5), SAME)


def test_a_model_that_nothing_trains_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_lightgbm(tmp_path, rows())
    with pytest.raises(NotApplicable, match="models in forest are not trained anew, only those in catboost, lightgbm"):
        retrain_forest(context(replace(model, format=FOREST), rows(), tmp_path), np.arange(5), SAME)
    with pytest.raises(TechniqueError, match="none are given"):
        retrain_forest(context(model, None, tmp_path), np.arange(5), SAME)
    monkeypatch.setattr("strop.training.boosting.installed", lambda name: False)
    with pytest.raises(NotApplicable, match="lightgbm, which is not installed"):
        retrain_forest(context(model, rows(), tmp_path), np.arange(5), SAME)


@MAKERS
@pytest.mark.parametrize("settings", [{"deadline": 0.0}, {"training": Training(seconds=1e-9)}])
def test_training_ends_with_its_time_and_tells_of_its_progress(
    make: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    model, told = make(tmp_path, rows()), []
    with pytest.raises(TimeoutError, match="1 of 12 rounds"):
        retrain_forest(context(model, rows(), tmp_path, **settings), np.arange(5), SAME)
    tell = lambda share, words: told.append((share, words))  # noqa: E731
    retrain_forest(context(model, rows(), tmp_path, progress=tell), np.arange(5), SAME)
    assert told[-1] == (1.0, "round 12 of 12")
    assert len(told) == 12


def test_features_that_are_to_stay_go_by_name_or_number(tmp_path: Path) -> None:
    given = context(of_lightgbm(tmp_path, rows()), rows(), tmp_path, training=Training(keep=("3", "a*")))
    forest = teacher(given)
    assert must_stay(given, forest).tolist() == [3]
    assert must_stay(given, replace(forest, names=("age", "sex", "area", "b", "3"))).tolist() == [0, 2, 4]


@MAKERS
def test_infinity_and_unknown_categories_are_values_like_others(make: Any, tmp_path: Path) -> None:
    data = rows()
    original = make(tmp_path, data)
    x = np.array(data.inputs["x"])
    x[0, 0], x[1, 1], x[2, 4], x[3, 4] = np.inf, -np.inf, -1, np.nan
    made = retrain_forest(context(original, replace(data, inputs={"x": x}), tmp_path), np.arange(5), SAME)
    assert np.isfinite(made.predict(x)).all()
    assert np.corrcoef(made.predict(x).reshape(len(x), -1)[:, -1], data.label_array())[0, 1] > 0.7


@pytest.mark.parametrize(
    "parameters",
    [{"grow_policy": "Lossguide", "max_leaves": 6, "l2_leaf_reg": 9},
     {"loss_function": "RMSE", "monotone_constraints": {0: 1}, "bootstrap_type": "Bayesian", "rsm": 0.5},
     {"auto_class_weights": "Balanced", "boosting_type": "Ordered", "one_hot_max_size": 9, "border_count": 20},
     {"class_weights": [1, 4], "feature_weights": {1: 0.3}, "random_strength": 3, "leaf_estimation_iterations": 4},
     {"loss_function": "RMSE", "ctr_target_border_count": 3, "bootstrap_type": "Bernoulli", "subsample": 0.6}],
)  # fmt: skip
def test_catboost_is_given_what_its_file_says(
    parameters: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = rows()
    original = of_catboost(tmp_path, data, **parameters)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    given = context(original, data, tmp_path)
    made, x = retrain_forest(given, np.arange(5), SAME), data.inputs["x"]
    np.testing.assert_allclose(made.predict(x), teacher(given).predict(x), rtol=1e-9)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "made"]), "nothing is written"
    assert capfd.readouterr() == ("", "")


def test_catboost_holds_to_the_samples_of_a_leaf_where_trees_are_of_any_shape(tmp_path: Path) -> None:
    data = rows()
    original = of_catboost(tmp_path, data, grow_policy="Depthwise", depth=5, loss_function="RMSE")
    given = context(original, data, tmp_path)
    sparse, usual = (retrain_forest(given, np.arange(5), Changes(least=least)) for least in (60, 1))
    assert sparse.count[sparse.feature >= 0].min() >= 60 > usual.count[usual.feature >= 0].min()


def test_catboost_as_json_and_losses_that_can_not_be_trained_on(tmp_path: Path) -> None:
    data, given = rows(), {"iterations": 3, "verbose": 0, "allow_writing_files": False, "random_seed": 0}
    x, y = np.nan_to_num(data.inputs["x"]), data.label_array()
    booster = catboost.CatBoost({"loss_function": "Logloss", **given}).fit(x, y)
    booster.save_model(tmp_path / "model.json", format="json")
    again = context(formats.open(tmp_path / "model.json"), replace(data, inputs={"x": x}), tmp_path)
    made = retrain_forest(again, np.arange(5), SAME)
    np.testing.assert_allclose(made.predict(x), teacher(again).predict(x), rtol=1e-9)
    with pytest.raises(NotApplicable, match=r"CatBoost does not train it anew: .*[Tt]arget"):
        same = np.zeros(len(data), np.int64)
        retrain_forest(context(again.original, Data({"x": x}, same), tmp_path), np.arange(5), SAME)
    bounds = catboost.CatBoost({"loss_function": "SurvivalAft", **given}).fit(x, np.column_stack([y + 1, y + 2]))
    with pytest.raises(NotApplicable, match="bounds of its labels"):
        retrain_forest(context(stored(bounds, tmp_path / "aft"), data, tmp_path), np.arange(5), SAME)


FORESTS: list[tuple[str, dict[str, Any]]] = [
    ("RandomForestClassifier", {"max_features": 3, "class_weight": "balanced_subsample", "max_samples": 0.5}),
    ("RandomForestRegressor", {"oob_score": True, "min_samples_leaf": 0.02, "criterion": "absolute_error"}),
    ("ExtraTreesClassifier", {"max_depth": 4, "monotonic_cst": [1, 0, 0, 0, 0]}),
    ("GradientBoostingClassifier", {"subsample": 0.7, "max_features": "sqrt", "loss": "exponential"}),
    ("GradientBoostingRegressor", {"n_iter_no_change": 3, "validation_fraction": 0.3, "loss": "huber"}),
    ("HistGradientBoostingRegressor", {"interaction_cst": [{0, 1}, {2, 3}], "monotonic_cst": {"a": 1}}),
]


def of_forest(folder: Path, name: str, data: Data, labels: Any = None, **parameters: Any) -> Model:
    size = {"max_iter" if "Hist" in name else "n_estimators": 30}
    x, y = data.inputs["x"], data.labels if labels is None else labels
    if isinstance(parameters.get("monotonic_cst"), dict):
        x = pytest.importorskip("pandas").DataFrame(x, columns=list("abcde"))
    return stored(getattr(ensemble, name)(random_state=0, **size, **parameters).fit(x, y), folder)


def whole(count: int = 400) -> Data:
    """Without gaps, which some do not take."""
    data = rows(count)
    return replace(data, inputs={"x": np.nan_to_num(data.inputs["x"]).astype(np.float32).astype(np.float64)})


@pytest.mark.parametrize(("name", "parameters"), FORESTS)
def test_scikit_learn_fits_with_the_parameters_of_the_estimator(
    name: str, parameters: dict[str, Any], tmp_path: Path
) -> None:
    data, told = whole(), []
    tell = lambda share, words: told.append(words)  # noqa: E731
    given = context(of_forest(tmp_path, name, data, **parameters), data, tmp_path, progress=tell)
    first, x = teacher(given), data.inputs["x"]
    made = retrain_forest(given, np.arange(5), SAME)
    assert made.trees == first.trees
    if "n_iter_no_change" not in parameters:  # which keeps samples from training
        np.testing.assert_allclose(made.predict(x), first.predict(x), rtol=1e-6)
    assert made.names == first.names
    assert told[-1] == f"round {made.trees} of {made.trees}"
    assert len(told) >= 15, "it is looked at while it grows"
    fewer = retrain_forest(given, np.array([0, 3]), SAME)
    assert set(used(fewer)) <= {0, 3}
    assert fewer.features == 5
    least = parameters.get("min_samples_leaf", 1)
    small = retrain_forest(given, np.arange(5), Changes(rounds=0.5, leaves=0.25, least=4))
    assert small.trees == first.trees // 2
    assert 3 * (small.feature < 0).sum() < (first.feature < 0).sum()
    assert small.count[small.feature < 0].min() >= (4 if least == 1 else 0.08 * len(x))
    with pytest.raises(TimeoutError, match="rounds"):
        retrain_forest(replace(given, deadline=0.0), np.arange(5), SAME)


@pytest.mark.parametrize("name", ["RandomForestClassifier", "GradientBoostingClassifier"])
def test_classes_of_scikit_learn_stay_in_order(name: str, tmp_path: Path) -> None:
    data = whole()
    numbers = data.label_array() + (data.inputs["x"][:, 4] > 4)
    words = np.array(["no", "perhaps", "yes"])[numbers]
    original = of_forest(tmp_path, name, data, words, **({"class_weight": {"no": 5}} if "Random" in name else {}))
    assert original.signature.outputs[0].classes == ("no", "perhaps", "yes")
    given = context(original, replace(data, labels=numbers), tmp_path)
    made, x = retrain_forest(given, np.arange(5), SAME), data.inputs["x"]
    np.testing.assert_allclose(made.predict(x), teacher(given).predict(x), atol=1e-12)
    with pytest.raises(NotApplicable, match="no sample of class 'yes'"):
        few = replace(data, labels=np.minimum(numbers, 1))
        retrain_forest(replace(given, train=replace(few, dtypes=given.train.dtypes)), np.arange(5), SAME)  # type: ignore[union-attr]


def test_what_scikit_learn_does_not_fit_is_refused(tmp_path: Path) -> None:
    data = whole()
    original = of_forest(tmp_path, "HistGradientBoostingRegressor", data, loss="poisson")
    wrong = replace(data, labels=data.label_array() - 1.0)
    with pytest.raises(NotApplicable, match=r"scikit-learn does not fit it anew: .*loss='poisson'"):
        retrain_forest(context(original, wrong, tmp_path), np.arange(5), SAME)


def test_a_single_tree_is_fitted_on_fewer_columns(tmp_path: Path) -> None:
    data = whole()
    live = tree.DecisionTreeClassifier(max_depth=4, random_state=0).fit(data.inputs["x"], data.labels)
    given = context(stored(live, tmp_path), data, tmp_path)
    made = retrain_forest(given, np.array([0, 1]), SAME)
    assert (made.trees, made.features, set(used(made))) == (1, 5, {0, 1})
