"""scikit-learn's estimators, fitted on small real data, for the tests."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn import compose, datasets, feature_extraction, impute, linear_model, pipeline, preprocessing

from strop import formats
from strop.data import Data
from strop.formats.sklearn import Called, SklearnFormat, load
from strop.learning import Training
from strop.model import Model
from strop.runtimes import Onnxruntime
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import SklearnToOnnx

Array = np.ndarray[Any, Any]
FORMAT = SklearnFormat()
ONE = Target(threads=1)


@functools.cache
def digits() -> tuple[Array, Array]:
    """The first 600 of 1,797 digits: [600, 64], [600]."""
    x, y = datasets.load_digits(return_X_y=True)
    return x[:600], y[:600]


@functools.cache
def tumours() -> tuple[Array, Array]:
    """Breast cancer: [569, 30], labels of text [569]."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return x, np.array(["malignant", "benign"])[y]


@functools.cache
def texts() -> tuple[Array, Array]:
    """Lines of what scikit-learn says of its data sets, and of which one."""
    told = {name: getattr(datasets, f"load_{name}")().DESCR for name in ("iris", "wine", "diabetes")}
    lines = [(line, name) for name, text in told.items() for line in text.splitlines() if len(line) > 20]
    found, of = zip(*lines, strict=True)
    return np.array([*found, "naïve façade, _under_ a1 b", ""]), np.array([*of, "iris", "wine"])


@functools.cache
def frame() -> tuple[pd.DataFrame, Array]:
    """Numbers with gaps, whole numbers, booleans, a category of text, a text, and a column that nothing looks at."""
    rng = np.random.default_rng(0)
    x, y = tumours()
    notes, _ = texts()
    columns = {
        "size": np.where(rng.random(200) < 0.1, np.nan, x[:200, 0]), "count": rng.integers(0, 5, 200),
        "old": x[:200, 1] > 18, "city": rng.choice(["rome", "paris", "oslo"], 200), "note": np.resize(notes, 200),
        "spare": np.arange(200),
    }  # fmt: skip
    return pd.DataFrame(columns), y[:200]


@functools.cache
def of_frame() -> Any:
    x, y = frame()
    numbers = pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    front = compose.ColumnTransformer([
        ("numbers", numbers, ["size", "count"]),
        ("kinds", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city", "old"]),
        ("words", feature_extraction.text.TfidfVectorizer(), "note"),
    ])  # fmt: skip
    return pipeline.make_pipeline(front, linear_model.LogisticRegression()).fit(x, y)


def columns_of(estimator: Any) -> dict[str, Array]:
    """The frame as the batch that a model of its columns takes."""
    x, _ = frame()
    inputs = FORMAT.open(estimator).signature.inputs
    return {t.name: x[t.name].to_numpy().astype(str if t.dtype == "str" else t.dtype) for t in inputs}


def stored(estimator: Any, folder: Path) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    return FORMAT.store(formats.open(estimator), folder)


def own(estimator: Any, x: Any) -> Array:
    """What its users call."""
    for name in ("predict_proba", "decision_function", "predict"):
        if hasattr(estimator, name):
            return np.asarray(getattr(estimator, name)(x), np.float64)
    raise AssertionError(sklearn.__version__)


def matrix(x: Array) -> Data:
    return Data({"x": np.asarray(x, np.float64)})


def made(
    technique: Technique, model: Model, folder: Path, data: Data | None = None, train: Data | None = None
) -> Model:
    """What a technique makes, of data to hold it to or to train with."""
    (folder / "made").mkdir(parents=True)
    lesson: dict[str, Any] = {}
    if train:
        lesson = {"train": train, "training": Training(), "deadline": time.monotonic() + 60}
    return apply(technique, model, Context(data, model, ONE, 0, folder / "made", **lesson))


def answers(model: Model, x: Any) -> Array:
    return Called(load(model.path), model.signature)({"x": x})


def as_onnx(estimator: Any, data: Data, folder: Path) -> tuple[Model, Array]:
    """The graph, and what ONNX Runtime makes of the data by it."""
    model = stored(estimator, folder / "given")
    found = made(SklearnToOnnx(), model, folder, data)
    assert found.signature == model.signature
    runner = Onnxruntime().load(found, ONE)
    (whole,) = runner(data.batch(0, len(data))).values()
    (single,) = runner(data.batch(0, 1)).values()
    runner.close()
    np.testing.assert_allclose(single, whole[:1], atol=1e-4 * np.abs(whole).max())
    return found, whole
