"""Forests trained anew: without some features, smaller, or taught by the original."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from forests import grown
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.forest import Forest
from strop.formats.forest import ForestFormat, save
from strop.learning import Training
from strop.model import FOREST, Model
from strop.native.library import compiler
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import DistillForest, DropFeatures, Retune, ToForest
from strop.techniques.distill_forest import like, made_up, scored
from strop.techniques.drop_features import IMPORTANCES
from strop.testing import Example, TechniqueCase
from strop.training.trees import categories, used

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.training.trees.usable_cores", lambda: (0,))


def rows(count: int = 500, seed: int = 0) -> Data:
    """Six columns, the first three ever less telling, the last three noise."""
    rng = RNG(seed)
    x = rng.normal(size=(count, 6))
    score = 2 * x[:, 0] + np.abs(x[:, 1]) + 0.5 * x[:, 2]
    return Data({"x": x}, (score + 0.1 * rng.normal(size=count) > 0.8).astype(np.int64))


def trained(folder: Path, data: Data, library: str = "lightgbm", **parameters: Any) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    x, y = data.inputs["x"], data.labels
    live: Any
    if library == "lightgbm":
        given = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, **parameters}
        live = lightgbm.train(given, lightgbm.Dataset(x, y), 40)
    elif library == "catboost":
        given = {"iterations": 40, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
        live = pytest.importorskip("catboost").CatBoost({"loss_function": "Logloss", **given, **parameters}).fit(x, y)
    elif library == "sklearn":
        live = pytest.importorskip("sklearn.ensemble").RandomForestClassifier(40, max_depth=6, random_state=0).fit(x, y)
    else:
        given = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, **parameters}
        live = xgboost.train(given, xgboost.DMatrix(x, y), 40)
    opened = formats.open(live)
    return formats.format_of(opened.format).store(opened, folder)


def context(original: Model, data: Data, folder: Path, **settings: Any) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    fitted = replace(data, dtypes={"x": original.signature.inputs[0].dtype})
    return Context(None, original, Target(threads=1), 0, folder, train=fitted, **settings)


def read(original: Model, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return apply(ToForest(), original, Context(None, original, Target(threads=1), 0, folder))


def forest_of(model: Model) -> Forest:
    return ForestFormat().forest(model)


class Retraining(TechniqueCase):
    """What is common to all three: a forest that an original became, and what that was trained on."""

    tolerance: ClassVar[float] = 0.3

    def example(self, folder: Path) -> Example:
        x = rows().inputs["x"]
        data = Data({"x": x}, 2 * x[:, 0] + np.abs(x[:, 1]))
        original = trained(folder / "original", data, objective="regression")
        return Example(read(original, folder / "forest"), data)

    def _context(self, example: Example, folder: Path) -> Context:
        if not example.data.inputs:
            return super()._context(example, folder)
        original = next(example.model.path.parent.parent.joinpath("original").iterdir())
        return context(formats.open(original), example.data, folder)

    def misfit(self, folder: Path) -> Model | None:
        folder.mkdir(parents=True)
        return save(grown(RNG(0), trees=1, features=1), folder)


class TestDropFeatures(Retraining):
    technique = DropFeatures


class TestRetune(Retraining):
    technique = Retune


class TestDistillForest(Retraining):
    technique = DistillForest

    def misfit(self, folder: Path) -> Model | None:
        folder.mkdir(parents=True)
        return save(grown(RNG(0), trees=0), folder)


TOLD = [("catboost", "permutation"), ("catboost", "shap"), ("sklearn", "permutation"), ("sklearn", "gain"),
        *((library, by) for library in ("lightgbm", "xgboost") for by in IMPORTANCES)]  # fmt: skip


@pytest.mark.parametrize(("library", "by"), TOLD)
def test_what_tells_nothing_is_dropped_and_never_looked_at(library: str, by: str, tmp_path: Path) -> None:
    data = rows()
    original = trained(tmp_path / "original", data, library)
    model = read(original, tmp_path / "forest")
    assert len(used(forest_of(model))) == 6
    made = apply(DropFeatures(by, 0.5), model, context(original, data, tmp_path / "made"))
    assert used(forest_of(made)).tolist() == [0, 1, 2]
    assert made.counts["features"] == 3
    assert made.signature == model.signature
    most = apply(DropFeatures(by, 0.9), model, context(original, data, tmp_path / "most"))
    assert used(forest_of(most)).tolist() == [0], "one is left"


def test_gain_permutation_and_shap_agree_on_what_matters_most(tmp_path: Path) -> None:
    data = rows()
    original = trained(tmp_path / "original", data)
    forest = forest_of(read(original, tmp_path / "forest"))
    for importance in IMPORTANCES.values():
        found = importance(forest, context(original, data, tmp_path / "made"))
        assert np.argsort(-found)[:3].tolist() == [0, 1, 2]
        assert (found >= 0).all()


def test_shap_is_the_librarys_own_for_several_classes(tmp_path: Path) -> None:
    data = rows()
    several = replace(data, labels=data.labels + (data.inputs["x"][:, 2] > 0))  # type: ignore[operator]
    for library, objective in (
        ("catboost", {"loss_function": "MultiClass"}),
        ("lightgbm", {"objective": "multiclass", "num_class": 3}),
        ("xgboost", {"objective": "multi:softprob", "num_class": 3}),
    ):
        original = trained(tmp_path / library, several, library, **objective)
        forest = formats.format_of(original.format).forest(original)  # type: ignore[attr-defined]
        found = IMPORTANCES["shap"](forest, context(original, several, tmp_path / "made"))
        assert found.shape == (6,)
        assert set(np.argsort(-found)[:3]) == {0, 1, 2}


def test_features_that_must_stay_stay(tmp_path: Path) -> None:
    data = rows()
    original = trained(tmp_path / "original", data)
    model = read(original, tmp_path / "forest")
    stay = Training(keep=("5",))
    made = apply(DropFeatures(amount=0.5), model, context(original, data, tmp_path / "made", training=stay))
    assert len(used(forest_of(made))) == 3
    assert 5 in used(forest_of(made))
    stay = Training(keep=("*",))
    with pytest.raises(NotApplicable, match="3 of its 6 features would go, and 6 are to be kept"):
        apply(DropFeatures(amount=0.5), model, context(original, data, tmp_path / "none", training=stay))


def test_where_splits_do_not_tell_their_gain_another_importance_is_named(tmp_path: Path) -> None:
    data = rows()
    original = trained(tmp_path / "original", data)
    forest = forest_of(read(original, tmp_path / "forest"))
    (tmp_path / "bare").mkdir()
    bare = save(replace(forest, gain=np.full(len(forest.gain), np.nan)), tmp_path / "bare")
    with pytest.raises(NotApplicable, match="use permutation or shap"):
        apply(DropFeatures("gain"), bare, context(original, data, tmp_path / "made"))
    apply(DropFeatures("permutation"), bare, context(original, data, tmp_path / "other"))


@pytest.mark.parametrize(("library", "by", "other"), [("catboost", "gain", "shap"), ("sklearn", "shap", "gain")])
def test_an_importance_that_a_library_does_not_tell(library: str, by: str, other: str, tmp_path: Path) -> None:
    data = rows()
    original = trained(tmp_path / "original", data, library)
    model = read(original, tmp_path / "forest")
    with pytest.raises(NotApplicable, match=f"use permutation or {other}"):
        apply(DropFeatures(by), model, context(original, data, tmp_path / "made"))


@pytest.mark.parametrize("library", ["catboost", "sklearn"])
def test_retuned_by_its_own_library_it_is_smaller(library: str, tmp_path: Path) -> None:
    data, unseen = rows(), rows(2000, seed=1)
    original = trained(tmp_path / "original", data, library)
    model = read(original, tmp_path / "forest")
    made = apply(Retune(0.75, leaves=0.5), model, context(original, data, tmp_path / "made"))
    assert made.counts["trees"] == 10
    assert made.counts["leaves"] < 0.2 * model.counts["leaves"]
    assert made.signature == model.signature
    right = [
        ((forest_of(one).predict(unseen.inputs["x"])[:, 1] > 0.5) == unseen.labels).mean() for one in (model, made)
    ]
    assert right[1] > right[0] - 0.04


@pytest.mark.parametrize("step", [Retune(0.5), DistillForest(0.5)])
def test_what_was_dropped_before_stays_dropped(step: Any, tmp_path: Path) -> None:
    data = rows()
    original = trained(tmp_path / "original", data)
    model = read(original, tmp_path / "forest")
    fewer = apply(DropFeatures(amount=0.5), model, context(original, data, tmp_path / "fewer"))
    made = apply(step, fewer, context(original, data, tmp_path / "made"))
    assert set(used(forest_of(made))) <= {0, 1, 2}
    assert made.counts["trees"] == 20


def test_retuned_with_a_fifth_of_the_rounds_it_is_better_than_cut_off(tmp_path: Path) -> None:
    data, unseen = rows(), rows(2000, seed=1)
    original = trained(tmp_path / "original", data)
    model = read(original, tmp_path / "forest")
    made = forest_of(apply(Retune(0.8), model, context(original, data, tmp_path / "made")))
    assert made.trees == 8
    first = forest_of(model)
    cut = replace(first, roots=first.roots[:8], output=first.output[:8])
    loss = [_log_loss(one.predict(unseen.inputs["x"]), unseen.labels) for one in (first, made, cut)]
    assert loss[1] < loss[0] + 0.5 * (loss[2] - loss[0])


def test_taught_with_a_fifth_of_the_leaves_it_ranks_as_the_original(tmp_path: Path) -> None:
    datasets, metrics = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.metrics")
    x, y = datasets.make_classification(6000, 12, n_informative=8, random_state=0)
    data, unseen, labels = Data({"x": x[:3000]}), x[3000:], y[3000:]  # no labels to be taught by
    original = trained(tmp_path / "original", replace(data, labels=y[:3000]), num_leaves=31)
    model = read(original, tmp_path / "forest")
    made = apply(DistillForest(0.8), model, context(original, data, tmp_path / "made"))
    assert made.counts["leaves"] <= 0.2 * model.counts["leaves"]
    auroc = [metrics.roc_auc_score(labels, forest_of(one).predict(unseen)) for one in (model, made)]
    assert auroc[0] > 0.95
    assert auroc[1] > auroc[0] - 0.02


@pytest.mark.parametrize(
    "settings",
    [
        {"outputs": 3, "link": "softmax"},
        {"outputs": 3, "vectors": True, "link": "shares", "divisor": 12.0},
        {"dtype": "float32", "sums": "float32", "link": "sigmoid", "scale": 2.0},
        {"link": "exponential", "subsets": 0.5},
        {"divisor": 12.0, "link": "identity"},
    ],
)
def test_any_forest_can_be_a_teacher(settings: dict[str, Any], tmp_path: Path) -> None:
    teacher = grown(RNG(0), trees=12, leaves=6, features=4, **settings)
    if settings["link"] == "shares":
        teacher = replace(teacher, values=np.abs(teacher.values), base=np.zeros(3))
    (tmp_path / "teacher").mkdir()
    original = save(teacher, tmp_path / "teacher")
    x = RNG(1).normal(size=(2000, 4))
    if settings.get("subsets"):
        x = np.where(RNG(2).random(x.shape) < 0.5, RNG(3).integers(0, 70, x.shape), x)
        x = np.where([len(categories(teacher)) and n in categories(teacher) for n in range(4)], np.trunc(x), x)
    made = apply(DistillForest(0.0, leaves=2.0), original, context(original, Data({"x": x}), tmp_path / "made"))
    student = forest_of(made)
    assert (student.link, student.dtype, student.sums, student.width) == (
        teacher.link, teacher.dtype, teacher.sums, teacher.width
    )  # fmt: skip
    scores = [one.scores(x.astype(one.dtype)) / one.divisor for one in (teacher, student)]
    for output in range(teacher.outputs):
        assert np.corrcoef(scores[0][:, output], scores[1][:, output])[0, 1] > 0.9
    assert np.abs(scores[0].mean(axis=0) - scores[1].mean(axis=0)).max() < 0.1
    if teacher.dtype == "float32":
        np.testing.assert_array_equal(student.threshold, student.threshold.astype(np.float32))


def test_forests_of_several_outputs_become_one_round_by_round() -> None:
    parts = [grown(RNG(seed), trees=seed + 2, features=3) for seed in range(3)]
    parts = [replace(part, base=np.zeros(1)) for part in parts]
    original = grown(RNG(9), trees=3, outputs=3, features=3)
    whole = like(original, parts, np.array([1.0, 2.0, 3.0]))
    assert whole.output.tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 2]
    x = RNG(3).normal(size=(50, 3))
    alone = np.hstack([part.scores(x) for part in parts])
    np.testing.assert_allclose(whole.scores(x), alone + np.array([1, 2, 3]), atol=1e-12)


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
def test_scores_are_the_same_compiled_and_not(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = grown(RNG(4), trees=6, outputs=2, link="softmax", divisor=2.0)
    x = RNG(5).normal(size=(100, 4))
    plain = scored(forest, x)
    np.testing.assert_allclose(plain, forest.scores(x) / 2, atol=1e-12)
    monkeypatch.setattr("strop.techniques.distill_forest.WORTH_COMPILING", 0)
    monkeypatch.setattr(Forest, "predict", None)
    np.testing.assert_allclose(scored(forest, x), plain, atol=1e-12)


def test_rows_that_are_made_up_hold_values_of_others() -> None:
    x = RNG(6).normal(size=(1000, 4))
    first, second = made_up(x, 2, 0.25, seed=3)
    for copy in (first, second):
        assert 0.2 < (copy != x).mean() < 0.3
        assert all(np.isin(copy[:, column], x[:, column]).all() for column in range(4))
    assert (first != second).any()
    np.testing.assert_array_equal(first, made_up(x, 1, 0.25, seed=3)[0])
    assert made_up(x, 0, 0.25, seed=3) == []


@pytest.mark.parametrize("step", [DropFeatures(), Retune()])
def test_no_labels_no_library_no_time(step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows()
    original = trained(tmp_path / "original", data)
    model = read(original, tmp_path / "forest")
    with monkeypatch.context() as patch, pytest.raises(NotApplicable, match="labels, and the train data have none"):
        patch.setattr("strop.techniques.drop_features._sample", None)  # nothing is spent on importance before
        apply(step, model, context(original, replace(data, labels=None), tmp_path / "made"))
    with pytest.raises(TimeoutError, match="rounds"):
        apply(step, model, context(original, data, tmp_path / "made", deadline=0.0))
    with pytest.raises(NotApplicable, match="models in forest are not trained anew"):
        apply(step, model, context(replace(model, format=FOREST), data, tmp_path / "made"))
    monkeypatch.setattr("strop.training.boosting.installed", lambda name: False)
    with pytest.raises(NotApplicable, match="not installed"):
        apply(step, model, context(original, data, tmp_path / "made"))


def test_distilling_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows()
    original = trained(tmp_path / "original", data)
    model = read(original, tmp_path / "forest")
    with pytest.raises(TimeoutError, match="rounds"):
        apply(DistillForest(), model, context(original, data, tmp_path / "made", deadline=0.0))
    with pytest.raises(NotApplicable, match="50 samples at the least"):
        apply(DistillForest(), model, context(original, data.take(np.arange(9)), tmp_path / "made"))
    monkeypatch.setattr("strop.techniques.distill_forest.installed", lambda name: False)
    with pytest.raises(NotApplicable, match="LightGBM, which is not installed"):
        apply(DistillForest(), model, context(original, data, tmp_path / "made"))


def _log_loss(p: Any, labels: Any) -> float:
    return float(-np.log(np.clip(np.where(labels > 0, p, 1 - p), 1e-6, 1)).mean())
