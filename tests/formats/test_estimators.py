"""scikit-learn's estimators and pipelines come as their users call them, and tell what they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import skops.io
from sklearn import (
    calibration,
    cluster,
    compose,
    dummy,
    ensemble,
    feature_extraction,
    gaussian_process,
    impute,
    kernel_ridge,
    linear_model,
    model_selection,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)  # fmt: skip
from sklearn.base import BaseEstimator, TransformerMixin

from estimators import FORMAT, columns_of, digits, frame, of_frame, own, stored, texts, tumours
from strop import formats
from strop.data import match
from strop.errors import InvalidData, RunFailed, UnsupportedModel, UntrustedModel
from strop.model import ModelFormat
from strop.reading import read_for
from strop.runtime import Runtime
from strop.runtimes import Sklearn
from strop.target import Target
from strop.testing import Example, FormatCase, RuntimeCase

Pipe = pipeline.make_pipeline
ONE = Target(threads=1)


def answers(estimator: Any, batch: dict[str, Any], folder: Path) -> np.ndarray[Any, Any]:
    model = stored(estimator, folder)
    assert FORMAT.open(model.path).signature == FORMAT.open(estimator).signature
    runner = Sklearn().load(model, ONE)
    (found,) = runner(batch).values()
    runner.bind(batch)()
    runner.close()
    return found


KINDS: list[tuple[Any, str]] = [
    (linear_model.LogisticRegression(max_iter=50), "probability"), (svm.SVC(), "decision"),
    (svm.LinearSVC(), "decision"), (neighbors.KNeighborsClassifier(), "probability"),
    (neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"), "probability"),
    (naive_bayes.GaussianNB(), "probability"), (dummy.DummyClassifier(), "probability"),
    (neural_network.MLPClassifier((8,), max_iter=3), "probability"), (svm.OneClassSVM(), "decision"),
    (calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2), "probability"), (svm.SVR(), "prediction"),
    (Pipe(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(5)), "probability"),
    (ensemble.AdaBoostClassifier(n_estimators=3), "probability"),
    (ensemble.IsolationForest(n_estimators=5), "decision"),
    (ensemble.VotingClassifier([("a", naive_bayes.GaussianNB()), ("b", dummy.DummyClassifier())], voting="soft"),
     "probability"),
    (linear_model.Ridge(), "prediction"), (kernel_ridge.KernelRidge(kernel="rbf"), "prediction"),
    (gaussian_process.GaussianProcessRegressor(alpha=0.1), "prediction"),
    (model_selection.GridSearchCV(linear_model.RidgeClassifier(), {"alpha": [1, 2]}, cv=2), "decision"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:lbfgs failed")
@pytest.mark.parametrize(("kind", "output"), KINDS, ids=lambda given: type(given).__name__)
def test_every_kind_answers_as_scikit_learn_does(kind: Any, output: str, tmp_path: Path) -> None:
    x, y = digits()
    estimator = kind.fit(x[:150], y[:150])
    signature = FORMAT.open(estimator).signature
    assert (signature.outputs[0].name, str(signature.inputs[0])) == (output, "x: float64[?, 64]")
    np.testing.assert_array_equal(answers(estimator, {"x": x[150:180]}, tmp_path), own(estimator, x[150:180]))


def test_classes_of_text_and_two_of_them(tmp_path: Path) -> None:
    x, y = tumours()
    for kind, shape in ((linear_model.RidgeClassifier(), (None,)), (naive_bayes.GaussianNB(), (None, 2))):
        (result,) = FORMAT.open(kind.fit(x, y)).signature.outputs
        assert (result.shape, result.classes) == (shape, ("benign", "malignant"))
        np.testing.assert_array_equal(answers(kind, {"x": x}, tmp_path / str(shape)), own(kind, x))


def test_a_pipeline_of_a_frame_takes_the_columns_that_it_looks_at(tmp_path: Path) -> None:
    x, y = frame()
    estimator = of_frame()
    inputs = FORMAT.open(estimator).signature.inputs
    assert [(t.name, t.dtype, t.missing) for t in inputs] == [
        ("size", "float64", True), ("count", "float64", True), ("old", "float64", True), ("city", "str", False),
        ("note", "str", False),
    ]  # fmt: skip
    batch = columns_of(estimator)
    np.testing.assert_allclose(answers(estimator, batch, tmp_path), estimator.predict_proba(x), rtol=1e-12)
    data, signature = match(read_for(FORMAT.open(estimator).signature, (x, y)), FORMAT.open(estimator).signature)
    found = data.batch(0, len(data))
    assert [found[t.name].dtype.kind for t in signature.inputs] == ["f", "f", "f", "U", "U"]
    np.testing.assert_array_equal(found["size"], batch["size"])
    np.testing.assert_array_equal(data.labels, y == "malignant")


def test_data_that_do_not_fit_columns_are_told(tmp_path: Path) -> None:
    x, y = frame()
    signature = FORMAT.open(of_frame()).signature
    with pytest.raises(InvalidData, match="no array or column 'city'"):
        read_for(signature, (x.drop(columns="city"), y))
    with pytest.raises(InvalidData, match=r"'count' in the data is str.*, which can't be cast"):
        match(read_for(signature, (x.assign(count="many"), y)), signature)
    with pytest.raises(InvalidData, match=r"'city' in the data is float64, which can't be cast"):
        match(read_for(signature, (x.assign(city=1), y)), signature)
    strict = Pipe(compose.make_column_transformer((preprocessing.StandardScaler(), ["size", "count"])),
                  linear_model.LogisticRegression()).fit(x.fillna(0), y)  # fmt: skip
    signature = FORMAT.open(strict).signature
    assert not any(tensor.missing for tensor in signature.inputs), "what follows the scaler takes no NaN"
    with pytest.raises(InvalidData, match=r"'size' of the frame has none in row"):
        match(read_for(signature, (x, y)), signature)


@pytest.mark.parametrize("gap", [None, np.nan])
def test_text_that_is_missing_is_told_and_not_guessed_at(gap: float | None, tmp_path: Path) -> None:
    """scikit-learn has a category for it; here text is text, and in a CSV nothing tells '' from none."""
    x, y = frame()
    x = x[["count", "city"]].astype({"city": object})
    x.loc[4, "city"] = gap
    kinds = pipeline.make_pipeline(impute.SimpleImputer(strategy="constant", fill_value="none", missing_values=gap),
                                   preprocessing.OneHotEncoder())  # fmt: skip
    for encoder in (preprocessing.OneHotEncoder(), kinds):
        front = compose.make_column_transformer((encoder, ["city"]), ("passthrough", ["count"]))
        signature = FORMAT.open(Pipe(front, linear_model.LogisticRegression()).fit(x, y)).signature
        x.assign(y=y).to_csv(tmp_path / "d.csv", index=False)
        x.assign(y=y).to_parquet(tmp_path / "d.parquet")
        with pytest.raises(InvalidData, match="'city' of the frame has none in row 4"):
            read_for(signature, (x, y))
        with pytest.raises(InvalidData, match=r"'city' of .*d\.parquet has none in row 4"):
            read_for(signature, tmp_path / "d.parquet", label="y")
        with pytest.raises(InvalidData, match=r"'city' of .*d\.csv has '' in row 4, which in a CSV may be a text or"):
            read_for(signature, tmp_path / "d.csv", label="y")
    lines, of = texts()
    told = Pipe(feature_extraction.text.TfidfVectorizer(), svm.LinearSVC()).fit(lines.tolist(), of)
    data = ({"text": ["a", gap, "b"]}, of[:3])
    with pytest.raises(InvalidData, match=f"'text' has {gap} at place 1"):
        match(read_for(FORMAT.open(told).signature, data), FORMAT.open(told).signature)


def test_numbers_of_a_frame_are_one_matrix_by_name(tmp_path: Path) -> None:
    x, y = frame()
    numbers = x[["size", "count"]].fillna(0.0)
    estimator = Pipe(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(numbers, y)
    (entry,) = FORMAT.open(estimator).signature.inputs
    assert (entry.columns, entry.shape) == (("size", "count"), (None, 2))
    found = answers(estimator, {"x": numbers.to_numpy()}, tmp_path)
    np.testing.assert_array_equal(found, estimator.predict_proba(numbers))


@pytest.mark.parametrize("kind", ["TfidfVectorizer", "CountVectorizer", "HashingVectorizer"])
def test_text_is_one_column_of_strings(kind: str, tmp_path: Path) -> None:
    x, y = texts()
    vectorizer = getattr(feature_extraction.text, kind)(**({"n_features": 64} if kind[0] == "H" else {}))
    estimator = Pipe(vectorizer, svm.LinearSVC()).fit(x.tolist(), y)
    assert str(FORMAT.open(estimator).signature.inputs[0]) == "text: str[?]"
    np.testing.assert_array_equal(answers(estimator, {"text": x}, tmp_path), own(estimator, x.tolist()))
    fitted, _ = match(read_for(FORMAT.open(estimator).signature, (x.tolist(), y)), FORMAT.open(estimator).signature)
    assert fitted.batch(0, 3)["text"].tolist() == x[:3].tolist()


class Mine(TransformerMixin, BaseEstimator):
    def fit(self, x: Any, y: Any = None) -> Mine:
        return self

    def transform(self, x: Any) -> Any:
        return x


def rooted(x: Any) -> Any:
    return np.sqrt(x)


def test_what_is_not_scikit_learns_own_is_refused_by_name(tmp_path: Path) -> None:
    x, y = digits()
    function = preprocessing.FunctionTransformer
    for step, said in ((Mine(), r"holds a .*\.Mine\."), (function(rooted), r"holds .*\.rooted\."),
                       (function(lambda z: z), r"holds .*<lambda>\.")):  # fmt: skip
        with pytest.raises(UnsupportedModel, match=said):
            stored(Pipe(step, linear_model.Ridge()).fit(x, y), tmp_path)
    kept = Pipe(function(np.log1p), linear_model.Ridge()).fit(x, y)
    np.testing.assert_array_equal(answers(kept, {"x": x}, tmp_path), kept.predict(x))
    skops.io.dump(Pipe(function(rooted), linear_model.Ridge()).fit(x, y), tmp_path / "other.skops")
    with pytest.raises(UntrustedModel, match=r"other\.skops holds .*\.rooted, which could run any code"):
        formats.open(tmp_path / "other.skops")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (linear_model.Ridge(), "this Ridge has 2"), (neighbors.KNeighborsRegressor(), "this KNeighborsRegressor has 2"),
        (kernel_ridge.KernelRidge(), "this KernelRidge has 2"),
        (multioutput.MultiOutputRegressor(linear_model.Ridge()), "this MultiOutputRegressor has 2"),
    ],
    ids=str,
)  # fmt: skip
def test_several_targets_are_refused_by_name(kind: Any, said: str) -> None:
    x, _ = digits()
    with pytest.raises(UnsupportedModel, match=f"one target, and {said}"):
        FORMAT.open(kind.fit(x, x[:, 20:22]))


def test_what_else_is_refused_by_name() -> None:
    x, y = digits()
    for made, said in (
        (linear_model.Ridge(), "this Ridge is not"),
        (Pipe(preprocessing.StandardScaler(), svm.SVC()), "Pipeline is not"),
        (preprocessing.StandardScaler().fit(x), "and StandardScaler is none"),
        (cluster.KMeans(2, n_init=1).fit(x), "and KMeans is none"),
        (svm.SVC(decision_function_shape="ovo").fit(x, y), "one for each pair"),
        (ensemble.VotingClassifier([("a", linear_model.RidgeClassifier())]).fit(x, y), "gives neither"),
        (Pipe(preprocessing.OneHotEncoder(), linear_model.Ridge()).fit(np.array([["a"], ["b"]]), [1, 2]),
         "Columns of text must have names"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedModel, match=said):
            FORMAT.open(made)
    with pytest.raises(UnsupportedModel, match="ensembles of trees"):
        FORMAT.forest(FORMAT.open(linear_model.Ridge().fit(x, y)))


def test_what_scikit_learn_refuses_is_a_named_error(tmp_path: Path) -> None:
    x, y = digits()
    runner = Sklearn().load(stored(svm.SVC().fit(x, y), tmp_path), ONE)
    with pytest.raises(RunFailed, match="scikit-learn: Input X contains NaN"):
        runner({"x": np.full((1, 64), np.nan)})
    runner.close()


class TestPipelineFormat(FormatCase):
    format: ClassVar[ModelFormat] = FORMAT

    def example(self, folder: Path) -> Path:
        return stored(of_frame(), folder).path

    def broken(self, folder: Path) -> Path:
        path = folder / "cut.skops"
        path.write_bytes(self.example(folder).read_bytes()[:-500])
        return path


class TestPipelineRuntime(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Sklearn

    def example(self, folder: Path) -> Example:
        model = stored(of_frame(), folder)
        return Example(model, match(read_for(model.signature, frame()), model.signature)[0].take(range(20)))

    def broken(self, folder: Path) -> Any:
        model = stored(of_frame(), folder)
        model.path.write_bytes(b"PK")
        return model


@pytest.mark.parametrize("name", ["_dual_coef_", "_intercept_", "support_", "_n_support", "_probB"])
def test_arrays_that_would_lead_libsvm_out_of_bounds_are_refused(name: str, tmp_path: Path) -> None:
    x, y = digits()
    machine = svm.SVC().fit(x[:200], y[:200])
    setattr(machine, name, np.zeros(1, np.int32) if name == "_probB" else getattr(machine, name)[:1])
    skops.io.dump(machine, tmp_path / "odd.skops")
    with pytest.raises(UnsupportedModel, match=rf"odd\.skops .*{name} of a support vector machine does not fit"):
        formats.open(tmp_path / "odd.skops")


def test_indexes_that_lead_out_of_a_sparse_matrix_are_refused(tmp_path: Path) -> None:
    x, y = texts()
    estimator = Pipe(feature_extraction.text.CountVectorizer(), neighbors.KNeighborsClassifier()).fit(x.tolist(), y)
    estimator[-1]._fit_X.indices[0] = 1 << 30
    skops.io.dump(estimator, tmp_path / "odd.skops")
    with pytest.raises(UnsupportedModel, match=r"odd\.skops .* is broken"):
        formats.open(tmp_path / "odd.skops")
