"""scikit-learn's estimators as ONNX, on fewer vectors or neighbours, and as teachers, held to their own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn import (
    calibration,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)  # fmt: skip
from sklearn.gaussian_process import kernels

from estimators import (
    ONE,
    answers,
    as_onnx,
    columns_of,
    digits,
    frame,
    made,
    matrix,
    of_frame,
    own,
    stored,
    texts,
    tumours,
)  # fmt: skip
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.sklearn import Called, load
from strop.model import FOREST, ONNX, SKLEARN, Model
from strop.plan import routes
from strop.technique import Needs, Phase, Technique
from strop.techniques import (
    CondenseNeighbors,
    DistillEstimator,
    LowRankKernel,
    ReduceInputs,
    SklearnToOnnx,
    TeachForest,
    ToForest,
    distill_estimator,
)  # fmt: skip
from strop.techniques._kernels import Expansion
from strop.testing import Example, TechniqueCase

pytest.importorskip("skl2onnx")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed"),
    pytest.mark.filterwarnings("ignore:The `probability` parameter"),
]
Pipe = pipeline.make_pipeline
Array = np.ndarray[Any, Any]
SCALED = (preprocessing.StandardScaler(), preprocessing.MinMaxScaler(), preprocessing.RobustScaler())


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students need not be good ones here."""
    monkeypatch.setattr(distill_estimator, "STEPS", 500)


OWN = [
    linear_model.LogisticRegression(max_iter=50), svm.LinearSVC(), linear_model.RidgeClassifier(), svm.SVC(),
    svm.SVC(kernel="poly", degree=2), svm.SVC(kernel="linear"), svm.NuSVC(nu=0.02), svm.SVR(), svm.OneClassSVM(),
    kernel_ridge.KernelRidge(kernel="rbf", gamma=1e-3), linear_model.BayesianRidge(),
    discriminant_analysis.LinearDiscriminantAnalysis(),
    neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=3),
    neural_network.MLPClassifier((8, 6), activation="tanh", max_iter=3), neighbors.KNeighborsRegressor(),
    gaussian_process.GaussianProcessRegressor(
        kernels.ConstantKernel(2) * kernels.RBF(20.0) + kernels.WhiteKernel(), optimizer=None, normalize_y=True
    ),
    *(Pipe(scaler, decomposition.PCA(9, whiten=True), svm.SVC()) for scaler in SCALED),
    neighbors.KNeighborsRegressor(weights="distance"),
    gaussian_process.GaussianProcessClassifier(kernels.ConstantKernel(3.0) * kernels.RBF(15.0), optimizer=None),
    linear_model.SGDClassifier(loss="log_loss", random_state=0),
    Pipe(SCALED[0], linear_model.SGDClassifier(loss="modified_huber", random_state=0)),
    Pipe(feature_selection.SelectKBest(feature_selection.chi2, k=9), neighbors.KNeighborsClassifier()),
    Pipe(kernel_approximation.Nystroem(n_components=20, gamma=1e-3), linear_model.Ridge()),
    Pipe(decomposition.TruncatedSVD(9), linear_model.LogisticRegression(max_iter=50)),
]  # fmt: skip
OTHERS = [
    naive_bayes.GaussianNB(), svm.SVC(probability=True), calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
    ensemble.AdaBoostClassifier(n_estimators=3), Pipe(SCALED[0], ensemble.RandomForestClassifier(5)),
    Pipe(preprocessing.PolynomialFeatures(2), preprocessing.StandardScaler(), linear_model.Ridge()),
]  # fmt: skip


@pytest.mark.parametrize("kind", [*OWN, *OTHERS], ids=lambda kind: "-".join(type(s).__name__ for s in pipes(kind)))
def test_onnx_answers_as_scikit_learn_does(kind: Any, tmp_path: Path) -> None:
    x, y = digits()
    x = x[:, 16:40] if type(pipes(kind)[0]).__name__ == "PolynomialFeatures" else x
    estimator = kind.fit(x[:300], y[:300])
    model, found = as_onnx(estimator, matrix(x[300:400]), tmp_path)
    expected = own(estimator, x[300:400])
    off = np.abs(found - expected).reshape(100, -1).max(axis=1) / np.abs(expected).max()
    assert (off > 1e-3).sum() <= 1, "one sample may lie on an edge"
    names = [type(step).__name__ for step in pipes(kind)]
    told = f"{names[0]} as ONNX" if len(names) == 1 else f" and {names[-1]} as one graph of ONNX"
    assert f"{told}: off by" in model.notes[0] and names[0] in model.notes[0]
    foreign = {node.domain for node in formats.onnx.graph_of(model).graph.node} - {""}
    assert not foreign or kind not in OWN


def pipes(kind: Any) -> list[Any]:
    return [step for _, step in kind.steps] if isinstance(kind, pipeline.Pipeline) else [kind]


@pytest.mark.parametrize("kind", [svm.SVC(), linear_model.LogisticRegression(max_iter=50), svm.LinearSVC()], ids=str)
def test_two_classes_of_text(kind: Any, tmp_path: Path) -> None:
    x, y = tumours()
    estimator = Pipe(preprocessing.StandardScaler(), kind).fit(x, y)
    _, found = as_onnx(estimator, matrix(x), tmp_path)
    np.testing.assert_allclose(found, own(estimator, x), atol=1e-5 * np.abs(found).max(), strict=True)


@pytest.mark.parametrize("kind", [neighbors.KNeighborsClassifier, neighbors.KNeighborsRegressor])
@pytest.mark.parametrize("scaler", [None, preprocessing.StandardScaler()], ids=["plain", "scaled"])
def test_neighbours_that_are_hit_count_alone(kind: Any, scaler: Any, tmp_path: Path) -> None:
    """Weighted by distance: two stored samples are the same, with labels of their own, and half of the rows are hit.

    In a tree; by products of matrices scikit-learn itself sees one of the two a rounding away.
    """
    x, y = digits()
    x, y = np.vstack([x[:200], x[:20]]), np.concatenate([y[:200], 9 - y[:20]])
    estimator = Pipe(scaler, kind(weights="distance", algorithm="kd_tree")).fit(x, y)
    rows = np.vstack([x[:60], digits()[0][300:360]])
    apart, _ = estimator[-1].kneighbors(estimator[:-1].transform(rows), 6)
    rows = rows[(apart[:, 5] > apart[:, 4] + 1e-9) | (apart[:, 0] == 0)]  # of two that are as near, one is left out
    assert len(rows) > 80
    model, found = as_onnx(estimator, matrix(rows), tmp_path)
    np.testing.assert_allclose(found, own(estimator, rows), atol=2e-5 * max(1, found.max()), strict=True)
    assert "edge" not in model.notes[0]


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
@pytest.mark.parametrize("classes", [2, 10])
def test_each_class_against_the_rest(loss: str, classes: int, tmp_path: Path) -> None:
    """Scores go as far as where float32, or scikit-learn itself, has 0 for all classes."""
    x, y = digits()
    kind = linear_model.SGDClassifier(loss=loss, random_state=0).fit(x[y < classes], y[y < classes])
    kind.coef_, kind.intercept_ = kind.coef_ / 50, np.zeros(len(kind.coef_))
    rows = np.concatenate([scale * x[:30] for scale in (1e-3, 1.0, 1e2, 1e4, -1.0, -1e4, 0.0, -0.0)])
    scores = kind.decision_function(rows).reshape(len(rows), -1)
    rows = rows[(np.abs(scores.max(axis=1) + 709.78) > 1e-2) & (np.abs(np.abs(scores) - 1).min(axis=1) > 1e-4)]
    _, found = as_onnx(kind, matrix(rows), tmp_path)
    np.testing.assert_allclose(found, kind.predict_proba(rows), atol=2e-5, strict=True)


@pytest.mark.parametrize("length", [0.3, 3.0, 30.0])
def test_a_process_that_classifies(length: float, tmp_path: Path) -> None:
    """Also where its variance is all of the kernel's, and where next to none of it is left."""
    x, y = tumours()
    kernel = kernels.ConstantKernel(20.0) * kernels.RBF(length) + kernels.WhiteKernel(1e-3)
    kind = gaussian_process.GaussianProcessClassifier(kernel, optimizer=None)
    estimator = Pipe(preprocessing.StandardScaler(), kind).fit(x[:100], y[:100])
    rows = np.vstack([x[:150], 100 * x[:3]])
    _, found = as_onnx(estimator, matrix(rows), tmp_path)
    np.testing.assert_allclose(found, estimator.predict_proba(rows), atol=1e-4, strict=True)


def test_large_numbers_are_centered_before_they_are_rounded(tmp_path: Path) -> None:
    x, y = tumours()
    x = x[:, :5] + 1e9  # float32 has steps of 64 there
    estimator = Pipe(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(x, y)
    _, found = as_onnx(estimator, matrix(x), tmp_path)
    np.testing.assert_allclose(found, estimator.predict_proba(x), atol=1e-6)


def test_columns_of_a_frame_gaps_and_text_go_through(tmp_path: Path) -> None:
    x, _ = frame()
    _, found = as_onnx(of_frame(), Data(columns_of(of_frame())), tmp_path)
    np.testing.assert_allclose(found, of_frame().predict_proba(x), atol=1e-6, strict=True)


@pytest.mark.parametrize(
    "settings", [{}, {"ngram_range": (1, 2)}, {"analyzer": "char", "ngram_range": (2, 2)}], ids=str
)
def test_words_are_found_as_scikit_learn_finds_them(settings: dict[str, Any], tmp_path: Path) -> None:
    x, y = texts()
    estimator = Pipe(feature_extraction.text.TfidfVectorizer(**settings), svm.LinearSVC()).fit(x.tolist(), y)
    _, found = as_onnx(estimator, Data({"text": x}), tmp_path)
    np.testing.assert_allclose(found, own(estimator, x.tolist()), atol=1e-5, strict=True)


def test_what_onnx_has_no_words_for_is_refused_by_name(tmp_path: Path) -> None:
    x, y = texts()
    hashed = Pipe(feature_extraction.text.HashingVectorizer(n_features=64), svm.LinearSVC()).fit(x.tolist(), y)
    with pytest.raises(NotApplicable, match="can't convert HashingVectorizer"):
        as_onnx(hashed, Data({"text": x}), tmp_path / "hashed")
    near = Pipe(feature_extraction.text.TfidfVectorizer(), neighbors.KNeighborsClassifier(weights="distance"))
    with pytest.raises(NotApplicable, match="weighted by distance need Euclidean ones to be ONNX, not sparse samples"):
        as_onnx(near.fit(x.tolist(), y), Data({"text": x}), tmp_path / "sparse")
    x, y = digits()
    weighted = neighbors.KNeighborsClassifier(weights="distance", metric="manhattan").fit(x, y)
    with pytest.raises(NotApplicable, match="not the metric manhattan"):
        as_onnx(weighted, matrix(x[:60]), tmp_path / "weighted")
    forest = stored(ensemble.RandomForestClassifier(3).fit(x, y), tmp_path / "forest")
    with pytest.raises(NotApplicable, match="goes to ONNX as a forest"):
        SklearnToOnnx().requires(forest, ONE)


def test_a_huge_pipeline(tmp_path: Path) -> None:
    x, y = tumours()
    scalers = [preprocessing.StandardScaler(), preprocessing.MinMaxScaler()] * 40
    estimator = Pipe(*scalers, linear_model.LogisticRegression()).fit(x, y)
    model, found = as_onnx(estimator, matrix(x), tmp_path)
    np.testing.assert_allclose(found, estimator.predict_proba(x), atol=1e-5)
    assert len(formats.onnx.graph_of(model).graph.node) == 6, "all of it is folded into one product"
    assert model.notes[0].startswith("80 steps and LogisticRegression as one graph of ONNX: off by ")


class OfScikitLearn(TechniqueCase):
    def kind(self) -> Any:
        return Pipe(preprocessing.StandardScaler(), svm.SVC())

    def example(self, folder: Path) -> Example:
        x, y = digits()
        return Example(stored(self.kind().fit(x, y), folder), matrix(x[:40]))

    def misfit(self, folder: Path) -> Model | None:
        x, y = digits()
        return stored(ensemble.ExtraTreesClassifier(2).fit(x, y), folder)


class TestSklearnToOnnx(OfScikitLearn):
    technique: ClassVar[type[Technique]] = SklearnToOnnx
    tolerance: ClassVar[float] = 1e-4


class TestLowRankKernel(OfScikitLearn):
    technique: ClassVar[type[Technique]] = LowRankKernel
    tolerance: ClassVar[float] = 1.0


class TestCondenseNeighbors(OfScikitLearn):
    technique: ClassVar[type[Technique]] = CondenseNeighbors
    tolerance: ClassVar[float] = 1.0

    def kind(self) -> Any:
        return Pipe(preprocessing.StandardScaler(), neighbors.KNeighborsClassifier())


VECTORS = [
    svm.SVC(), svm.SVC(probability=True), svm.NuSVC(nu=0.02), svm.SVR(C=10.0), svm.OneClassSVM(),
    kernel_ridge.KernelRidge(alpha=0.1, kernel="rbf", gamma=1e-3),
    gaussian_process.GaussianProcessRegressor(kernels.RBF(30.0), alpha=0.1, optimizer=None, normalize_y=True),
]  # fmt: skip


@pytest.mark.parametrize("kind", VECTORS, ids=lambda kind: str(kind)[:24])
def test_fewer_vectors_decide_alike(kind: Any, tmp_path: Path) -> None:
    x, y = digits()
    estimator = kind.fit(x[:300], y[:300])
    model = stored(estimator, tmp_path / "given")
    fewer = made(LowRankKernel(amount=0.6), model, tmp_path)
    assert fewer.counts["vectors"] <= 0.42 * model.counts["vectors"]
    before, after = own(estimator, x[300:]), answers(fewer, x[300:])
    if before.ndim > 1:
        assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.9
    else:
        assert np.corrcoef(before, after)[0, 1] > 0.95
    assert type(load(fewer.path)) is type(estimator)


def test_all_vectors_are_the_same_machine() -> None:
    """Of every layout: the sums of a kernel's values are what the estimator decides."""
    x, y = digits()
    for kind in VECTORS:
        estimator = kind.fit(x[:200], y[:200])
        sums = Expansion.of(estimator)(x[200:300])
        if hasattr(estimator, "classes_"):
            estimator.decision_function_shape = "ovo"
            np.testing.assert_allclose(sums, estimator.decision_function(x[200:300]), atol=1e-9)
        else:
            np.testing.assert_allclose(sums[:, 0], own(estimator, x[200:300]), atol=1e-9)


@pytest.mark.parametrize("kind", [neighbors.KNeighborsClassifier(), neighbors.KNeighborsRegressor(3)], ids=str)
def test_fewer_neighbours_decide_alike(kind: Any, tmp_path: Path) -> None:
    x, y = digits()
    estimator = kind.fit(x[:400], y[:400])
    model = stored(estimator, tmp_path / "given")
    fewer = made(CondenseNeighbors(amount=0.75), model, tmp_path)
    assert (model.counts["neighbours"], load(fewer.path).n_neighbors) == (400, kind.n_neighbors)
    assert 90 <= fewer.counts["neighbours"] <= 105
    before, after = own(estimator, x[400:]), answers(fewer, x[400:])
    if before.ndim > 1:
        assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.8
    else:
        assert np.corrcoef(before, after)[0, 1] > 0.8


def test_neighbours_that_can_not_be_fewer_are_refused(tmp_path: Path) -> None:
    x, y = digits()
    cosine = stored(neighbors.KNeighborsClassifier(metric="cosine").fit(x, y), tmp_path / "cosine")
    with pytest.raises(NotApplicable, match="say nothing in the metric cosine"):
        made(CondenseNeighbors(), cosine, tmp_path / "a")
    many = stored(neighbors.KNeighborsClassifier(100).fit(x, y), tmp_path / "many")
    with pytest.raises(NotApplicable, match="would be left, and it looks for 100"):
        made(CondenseNeighbors(), many, tmp_path / "b")
    linear = stored(svm.SVC(kernel="linear").fit(x, y), tmp_path / "linear")
    with pytest.raises(NotApplicable, match="kernel is linear"):
        made(LowRankKernel(), linear, tmp_path / "c")


@pytest.mark.parametrize(
    ("kind", "technique", "least"),
    [
        (neighbors.KNeighborsClassifier(), DistillEstimator(), 0.7),
        (svm.SVC(), DistillEstimator(student="linear"), 0.8), (svm.SVR(), DistillEstimator(), 0.7),
        (svm.SVC(), DistillEstimator(), 0.7), (svm.OneClassSVM(nu=0.2), DistillEstimator(), 0.6),
        (svm.OneClassSVM(nu=0.2), DistillEstimator(student="linear"), 0.5),
        (svm.SVR(), TeachForest(amount=0.95, leaves=8), 0.85),
    ],
    ids=str,
)  # fmt: skip
def test_students_answer_as_their_teacher(kind: Any, technique: Technique, least: float, tmp_path: Path) -> None:
    if isinstance(technique, TeachForest):
        pytest.importorskip("lightgbm")
    x, y = digits()
    estimator = kind.fit(x[:400], y[:400])
    model = stored(estimator, tmp_path / "given")
    student = made(technique, model, tmp_path, train=matrix(x[:400]))
    assert student.format == (technique.returns or SKLEARN)
    assert student.signature == model.signature
    before = own(estimator, x[400:])
    if model.signature.outputs[0].name == "decision":
        (tmp_path / "onnx").mkdir()
        as_onnx(load(student.path), matrix(x[400:450]), tmp_path / "onnx")
    found = formats.format_of(FOREST).forest(student).predict(x[400:]) if technique.returns else None  # type: ignore[attr-defined]
    after = answers(student, x[400:]) if found is None else found
    assert after.shape == before.shape
    if before.ndim > 1:
        assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > least
    else:
        assert np.corrcoef(before, after)[0, 1] > least


@pytest.mark.parametrize("by", ["projection", "selection"])
def test_fewer_inputs_and_the_last_step_anew(by: str, tmp_path: Path) -> None:
    x, y = tumours()
    estimator = Pipe(preprocessing.StandardScaler(), svm.SVC(C=3.0)).fit(x[:400], y[:400])
    model = stored(estimator, tmp_path / "given")
    train = Data({"x": x[:400]}, labels=np.searchsorted(["benign", "malignant"], y[:400]))
    made_anew = made(ReduceInputs(by=by, amount=0.7), model, tmp_path, train=train)
    last = load(made_anew.path)[-1]
    assert (last.support_vectors_.shape[1], last.C, list(last.classes_)) == (9, 3.0, ["benign", "malignant"])
    assert (np.sign(answers(made_anew, x[400:])) == np.sign(own(estimator, x[400:]))).mean() > 0.9
    for labels, said in ((None, "have none"), (np.zeros(400, int), "all of its 2 classes")):
        with pytest.raises(NotApplicable, match=said):
            made(ReduceInputs(), model, tmp_path / said[:4], train=Data({"x": x[:400]}, labels=labels))
    few = Pipe(preprocessing.StandardScaler(), svm.SVC()).fit(x[:, :1], y)
    one = stored(few, tmp_path / "one")
    with pytest.raises(NotApplicable, match="of 1 numbers, 0 would be left"):
        made(ReduceInputs(), one, tmp_path / "b", train=Data({"x": x[:400, :1]}, labels=train.labels))


def test_what_comes_before_the_last_step_stays(tmp_path: Path) -> None:
    model = stored(of_frame(), tmp_path / "given")
    with pytest.raises(NotApplicable, match="linear already"):
        made(DistillEstimator(), model, tmp_path / "linear", train=Data(columns_of(of_frame())))
    x, y = frame()
    front = of_frame().steps[0][1]
    assert isinstance(front, compose.ColumnTransformer)
    near = Pipe(front, neighbors.KNeighborsClassifier()).fit(x, y)
    given = stored(near, tmp_path / "near")
    student = made(DistillEstimator(), given, tmp_path, train=Data(columns_of(near)))
    assert type(load(student.path)[0]).__name__ == "ColumnTransformer"
    found = Called(load(student.path), given.signature)(columns_of(near))
    assert (found.argmax(axis=1) == near.predict_proba(x).argmax(axis=1)).mean() > 0.8
    with pytest.raises(NotApplicable, match="one matrix of numbers"):
        TeachForest().requires(given, ONE)


def test_routes_are_those_that_the_estimator_allows(tmp_path: Path) -> None:
    x, y = digits()
    have = Needs.SAMPLES | Needs.LABELS | Needs.TRAINING
    machine, refused = routes(stored(svm.SVC().fit(x, y), tmp_path / "svc"), ONE, have)
    labels = [route.label for route in machine]
    assert {"sklearn", "sklearn-to-onnx + onnxruntime", "low-rank-kernel + sklearn-to-onnx + onnxruntime"} <= set(
        labels
    )
    assert refused["to-forest"] == "it is no ensemble of trees"
    assert "no neighbours" in refused["condense-neighbors"]
    assert not any("to-forest" in label.split(" + ") for label in labels)
    assert all(sum(step.chooses == "estimator" for step in route.steps) <= 1 for route in machine)
    trees, refused = routes(stored(ensemble.ExtraTreesClassifier(2).fit(x, y), tmp_path / "trees"), ONE, have)
    assert {"sklearn-to-onnx", "low-rank-kernel", "distill-estimator", "teach-forest"} <= set(refused)
    assert any("to-forest" in route.label for route in trees)
    assert SklearnToOnnx.returns == ONNX
    assert (SklearnToOnnx.phase, ToForest.phase) == (Phase.CONVERT, Phase.CONVERT)
