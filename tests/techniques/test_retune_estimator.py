"""Estimators and pipelines trained anew: smaller, with their own parameters, by their own fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import (
    decomposition,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    kernel_ridge,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)  # fmt: skip

from estimators import FORMAT, ONE, answers, columns_of, digits, frame, made, of_frame, own, stored, texts, tumours
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.sklearn import load
from strop.model import Model
from strop.settings import Choice
from strop.technique import Technique
from strop.techniques import ReduceInputs, RetuneEstimator, _anew

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed"),
]
Pipe = pipeline.make_pipeline


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_anew, "usable_cores", lambda: [0])


def anew(estimator: Any, folder: Path, technique: Technique, rows: int = 300) -> tuple[Model, Model, Any]:
    """An estimator fitted on digits, and what it is trained anew to."""
    x, y = digits()
    model = stored(estimator.fit(x[:rows], y[:rows]), folder / "given")
    found = made(technique, model, folder, train=Data({"x": x[:rows]}, labels=y[:rows]))
    assert found.signature == model.signature
    last = load(found.path)
    return model, found, last[-1] if isinstance(last, pipeline.Pipeline) else last


KEEPS = [
    (svm.SVC(C=3.0, random_state=7), {"C": 3.0, "random_state": 7}), (svm.SVR(C=10.0), {"C": 10.0}),
    (svm.OneClassSVM(nu=0.2), {"nu": 0.2}), (kernel_ridge.KernelRidge(kernel="rbf", gamma=1e-3), {"gamma": 1e-3}),
    (neighbors.KNeighborsClassifier(3, weights="distance"), {"n_neighbors": 3, "weights": "distance"}),
    (gaussian_process.GaussianProcessRegressor(optimizer=None, alpha=0.1), {"alpha": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "same"), KEEPS, ids=lambda given: type(given).__name__)
def test_what_keeps_samples_is_trained_on_fewer(kind: Any, same: dict[str, Any], tmp_path: Path) -> None:
    model, found, last = anew(kind, tmp_path, RetuneEstimator(amount=0.6))
    (name,) = {"vectors", "neighbours"} & model.counts.keys()
    assert 0.3 * model.counts[name] <= found.counts[name] <= 0.7 * model.counts[name]
    assert type(last) is type(kind) and last.get_params().items() >= same.items()
    if hasattr(last, "classes_"):
        assert list(last.classes_) == list(range(10))
        x, y = digits()
        assert (answers(found, x[300:]).argmax(axis=1) == y[300:]).mean() > 0.75


def test_a_process_that_classifies_is_trained_on_fewer(tmp_path: Path) -> None:
    x, y = tumours()
    kind = Pipe(preprocessing.StandardScaler(), gaussian_process.GaussianProcessClassifier(optimizer=None))
    model = stored(kind.fit(x[:120], y[:120]), tmp_path / "given")
    train = Data({"x": x[:120]}, labels=np.searchsorted(["benign", "malignant"], y[:120]))
    found = made(RetuneEstimator(), model, tmp_path, train=train)
    assert load(found.path)[-1].base_estimator_.X_train_.shape[0] == 60
    assert (answers(found, x[120:]).argmax(axis=1) == own(kind, x[120:]).argmax(axis=1)).mean() > 0.85


SIZES = [
    (neural_network.MLPClassifier((40, 20), max_iter=3), {"hidden_layer_sizes": (10, 5)}),
    (ensemble.AdaBoostClassifier(n_estimators=8), {"n_estimators": 2, "learning_rate": 1.0}),
    (ensemble.BaggingClassifier(naive_bayes.GaussianNB(), 8, random_state=3), {"n_estimators": 2, "random_state": 3}),
    (Pipe(preprocessing.MinMaxScaler(), ensemble.ExtraTreesClassifier(8)), {"n_estimators": 2}),
    (Pipe(preprocessing.MinMaxScaler(), ensemble.GradientBoostingClassifier(n_estimators=4, max_depth=2)),
     {"n_estimators": 1, "max_depth": 2, "learning_rate": pytest.approx(0.1 * 4**0.75)}),
    (Pipe(preprocessing.MinMaxScaler(), ensemble.HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=4)),
     {"max_iter": 1, "max_leaf_nodes": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "wanted"), SIZES, ids=lambda given: type(given).__name__)
def test_fewer_neurons_and_estimators(kind: Any, wanted: dict[str, Any], tmp_path: Path) -> None:
    model, found, last = anew(kind, tmp_path, RetuneEstimator(amount=0.75))
    assert {name: last.get_params()[name] for name in wanted} == wanted
    assert found.size < model.size


def test_the_projection_before_a_last_step(tmp_path: Path) -> None:
    """Is what amount sets where that step has no size; where it has one, the width."""
    linear = Pipe(decomposition.PCA(0.9), linear_model.LogisticRegression(max_iter=200, C=0.5))
    model, found, last = anew(linear, tmp_path / "linear", RetuneEstimator(penalty=10.0))
    count = load(model.path)[0].n_components_
    assert load(found.path)[0].n_components_ == round(count / 2) and pytest.approx(0.05) == last.C
    both = Pipe(feature_selection.SelectKBest(feature_selection.chi2, k=40), svm.SVC())
    model, found, last = anew(both, tmp_path / "both", RetuneEstimator(amount=0.5, width=0.25, gamma=3.0))
    assert last.support_vectors_.shape[1] == 10
    assert last.gamma == pytest.approx(3 * load(model.path)[-1]._gamma)
    assert found.counts["vectors"] < 0.8 * model.counts["vectors"]


def test_a_search_tries_the_settings_that_the_estimator_has(tmp_path: Path) -> None:
    x, y = digits()
    known = {
        svm.SVC(): {"penalty", "gamma", "kernel"}, svm.SVC(kernel="linear"): {"penalty"},
        svm.NuSVC(nu=0.02): {"gamma", "kernel"}, neighbors.KNeighborsClassifier(): {"neighbors", "algorithm"},
        neighbors.KNeighborsClassifier(1, algorithm="brute"): {"algorithm"},
        neural_network.MLPClassifier((4,), max_iter=2): {"penalty"},
        Pipe(decomposition.PCA(8), svm.LinearSVC()): {"penalty"},
        Pipe(decomposition.PCA(8), svm.SVC()): {"penalty", "gamma", "kernel", "width"},
    }  # fmt: skip
    for kind, wanted in known.items():
        model, fits = FORMAT.open(kind.fit(x[:100], y[:100])), set()
        for name, domain in RetuneEstimator.space().items():
            for value in domain.values[1:] if isinstance(domain, Choice) else ():
                try:
                    RetuneEstimator.of({name: value}).requires(model, ONE)
                    fits.add(name)
                except NotApplicable as reason:
                    assert len(str(reason).split()) > 4
        assert fits == wanted, kind
    with pytest.raises(NotApplicable, match="a gamma"):
        RetuneEstimator(kernel="linear", gamma=3.0).requires(FORMAT.open(svm.SVC().fit(x, y)), ONE)


def test_a_linear_kernel_instead(tmp_path: Path) -> None:
    _, found, last = anew(svm.SVC(), tmp_path, RetuneEstimator(amount=0.0, kernel="linear"))
    x, y = digits()
    assert last.kernel == "linear" and (answers(found, x[300:]).argmax(axis=1) == y[300:]).mean() > 0.8


def test_what_can_not_be_made_smaller_is_refused_with_the_reason(tmp_path: Path) -> None:
    x, y = digits()
    for kind, said in (
        (naive_bayes.GaussianNB(), "no parameter of a GaussianNB makes it smaller"),
        (Pipe(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=20)), "a LogisticRegression"),
        (ensemble.RandomForestClassifier(2), r"trained anew as a forest \(retune\)"),
    ):  # fmt: skip
        with pytest.raises(NotApplicable, match=said):
            RetuneEstimator().requires(FORMAT.open(kind.fit(x, y)), ONE)
    model = stored(svm.SVC().fit(x, y), tmp_path / "svc")
    for train, said in (
        (Data({"x": x}), "have none"), (Data({"x": x}, labels=y + 1), "all of its 10 classes"),
        (Data({"x": x[:40]}, labels=y[:40]), "50 samples at the least"),
        (Data({"x": np.where(x > 15, np.inf, x)}, labels=y), "scikit-learn does not fit it anew: Input X contains inf"),
    ):  # fmt: skip
        with pytest.raises(NotApplicable, match=said):
            made(RetuneEstimator(), model, tmp_path / said[:7], train=train)


def test_frames_and_texts_are_trained_on_as_they_are(tmp_path: Path) -> None:
    x, y = frame()
    near = Pipe(of_frame().steps[0][1], neighbors.KNeighborsClassifier()).fit(x, y)
    batch = columns_of(near)
    model = stored(near, tmp_path / "frame")
    train = Data(batch, labels=(y == "malignant").astype(int))
    found = made(RetuneEstimator(neighbors=0.6), model, tmp_path / "a", train=train)
    assert load(found.path)[-1].n_neighbors == 3
    lines, of = texts()
    told = Pipe(feature_extraction.text.TfidfVectorizer(), neighbors.KNeighborsClassifier()).fit(lines.tolist(), of)
    model = stored(told, tmp_path / "text")
    train = Data({"text": lines}, labels=np.searchsorted(told.classes_, of))
    found = made(RetuneEstimator(amount=0.5), model, tmp_path / "b", train=train)
    assert found.counts["parameters"] < model.counts["parameters"]


@pytest.mark.parametrize("classifies", [True, False])
def test_columns_that_a_sparse_linear_model_weighs(classifies: bool, tmp_path: Path) -> None:
    """Of two copies of a column, an F test keeps both; under an L1 penalty one of them is enough."""
    x, y = tumours()
    rng = np.random.default_rng(0)
    x = np.hstack([x[:, :3], x[:, :3] * 1e3 + 1e-6 * rng.normal(size=(len(x), 3)), rng.normal(size=(len(x), 6))])
    labels = (y == "malignant").astype(int) if classifies else x[:, 0] + x[:, 1] + x[:, 2]
    kind = linear_model.LogisticRegression() if classifies else linear_model.Ridge()
    estimator = Pipe(preprocessing.StandardScaler(), kind).fit(x, labels)
    model = stored(estimator, tmp_path / "given")
    train = Data({"x": x}, labels=labels)
    found = made(ReduceInputs(by="sparsity", amount=0.75), model, tmp_path, train=train)
    kept = load(found.path)[1].get_support(indices=True)
    assert load(found.path)[-1].coef_.shape[-1] == 3
    before, after = own(estimator, x), answers(found, x)
    if classifies:
        assert kept.max() < 6 and (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.9
    else:
        assert set(kept % 3) == {0, 1, 2} and np.corrcoef(before, after)[0, 1] > 0.99
