"""Estimator: scikit-learn's own tools take a bundle as one of its models."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import models
from engine import bundle_of
from estimators import made, matrix, stored
from strop.bundle import Bundle
from strop.errors import BundleError
from strop.model import Model
from strop.native.library import compiler
from strop.prepare import reference
from strop.runtime import predict
from strop.target import Target
from strop.techniques import ToForest, ToNative

X, NUMBERS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]


def bundled(folder: Path, model: Model, data: Any, metric: str = "") -> Bundle:
    """A bundle of a model with its own answers to some samples, judged by a metric."""
    runner, few = reference(model.format)[1].load(model, Target(threads=1)), data.take(range(0, len(data), 5))
    outputs = predict(runner, model.signature, few, 1)
    runner.close()
    bundle = bundle_of(folder, model, few.inputs, outputs)
    manifest = json.loads((folder / "manifest.json").read_text())
    figure = {"value": 1.0, "low": 1.0, "high": 1.0, "unit": "", "n": 10}
    manifest["winner"]["metrics"] = {metric: figure} if metric else {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.load(bundle.folder)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> tuple[RandomForestClassifier, Bundle]:
    """A forest with labels of text, and a bundle of it as a C library."""
    if compiler() is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("forest")
    trained = RandomForestClassifier(10, max_depth=4, random_state=0).fit(X, NAMES)
    plain = made(ToForest(), stored(trained, folder / "given"), folder / "plain", matrix(X))
    return trained, bundled(folder / "bundle", made(ToNative(), plain, folder / "native", matrix(X)), matrix(X))


def test_a_forest_answers_in_the_labels_that_it_was_trained_on(forest: Any) -> None:
    trained, bundle = forest
    found = bundle.estimator()
    assert is_classifier(found) and found.classes_.tolist() == trained.classes_.tolist()
    np.testing.assert_allclose(found.predict_proba(X), trained.predict_proba(X), atol=1e-6)
    assert (found.predict(X) == trained.predict(X)).all()
    assert found.score(X, NAMES) == accuracy_score(NAMES, trained.predict(X))
    scorer = get_scorer("neg_log_loss")
    assert scorer(found, X, NAMES) == pytest.approx(scorer(trained, X, NAMES), abs=1e-6)


def test_it_is_trained_whatever_is_done_to_it(forest: Any) -> None:
    trained, bundle = forest
    found = bundle.estimator()
    assert clone(found).get_params() == found.get_params() == {"folder": str(bundle.folder.resolve())}
    expected = [accuracy_score(NAMES[part], trained.predict(X[part])) for part in np.split(np.arange(150), 3)]
    piped = make_pipeline(FunctionTransformer(), found)
    split = [(np.arange(2), part) for part in np.split(np.arange(150), 3)]  # two samples would train no forest
    assert cross_val_score(piped, X, NAMES, cv=split).tolist() == expected
    calibrated = CalibratedClassifierCV(FrozenEstimator(found), method="sigmoid", cv=3).fit(X, NAMES)
    assert calibrated.predict_proba(X).shape == (150, 3) and calibrated.score(X, NAMES) > 0.9


def test_a_pickle_holds_the_path_only(forest: Any) -> None:
    found = forest[1].estimator()
    before = found.predict(X)
    kept = pickle.dumps(found)
    assert len(kept) < 1000
    assert (pickle.loads(kept).predict(X) == before).all()


def test_scores_of_a_network_become_probabilities(tmp_path: Path) -> None:
    case = models.case("external", tmp_path / "given")
    bundle = bundled(tmp_path / "bundle", case.model, case.data, "accuracy")
    found, (x,) = bundle.estimator(), case.data.inputs.values()
    (scores,) = bundle.predict({case.model.signature.inputs[0].name: x}).values()
    likely = found.predict_proba(x)
    assert found.classes_.tolist() == [*range(scores.shape[1])]
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    assert (found.predict(x) == scores.argmax(1)).all() and (likely.argmax(1) == scores.argmax(1)).all()
    np.testing.assert_allclose(np.log(likely[:, 1] / likely[:, 0]), scores[:, 1] - scores[:, 0], rtol=1e-4, atol=1e-5)


def test_what_was_judged_as_numbers_is_a_regressor(tmp_path: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    trained = RandomForestRegressor(5, max_depth=4, random_state=0).fit(x, y)
    found = bundled(tmp_path / "b", stored(trained, tmp_path / "given"), matrix(x), "mse").estimator()
    assert is_regressor(found) and not hasattr(found, "predict_proba")
    np.testing.assert_allclose(found.predict(x), trained.predict(x), rtol=1e-6)
    assert found.score(x, y) == pytest.approx(trained.score(x, y))


def test_many_answers_a_sample_are_no_estimators(tmp_path: Path) -> None:
    case = models.case("transformer", tmp_path / "given")
    bundle = bundled(tmp_path / "bundle", case.model, case.data)
    if next(iter(bundle.samples()[1].values())).ndim > 2:
        with pytest.raises(BundleError, match="one answer a sample"):
            bundle.estimator()
    else:
        assert is_regressor(bundle.estimator())
