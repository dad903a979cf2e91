"""scikit-learn's ensembles are read into forests that predict what scikit-learn itself does."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import threadpoolctl
from sklearn import ensemble, tree
from sklearn.datasets import make_classification
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from strop import formats
from strop.data import Data, match
from strop.errors import InvalidData, UnsupportedModel, UntrustedModel
from strop.forest import Forest
from strop.formats.sklearn import SklearnFormat
from strop.model import LIGHTGBM, SKLEARN, XGBOOST, ModelFormat
from strop.native.library import Library, build, compiler, write_source
from strop.reading import read_for
from strop.testing import FormatCase

Array = np.ndarray[Any, Any]
FORMAT = SklearnFormat()
RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP's threads wait for each other, which takes long where other processes take their cores."""
    with threadpoolctl.threadpool_limits(1, "openmp"):
        yield


def table(rng: np.random.Generator, rows: int = 150, missing: float = 0.2, categories: bool = False) -> Array:
    """Four columns of numbers, with zeros and NaN; the first and the third may be of categories."""
    x = rng.normal(size=(rows, 4)).round(1)
    if categories:
        x[:, 0], x[:, 2] = rng.integers(0, 5, rows), rng.choice([3, 4, 7, 40, 1000, 65537], rows)
    x[rng.random((rows, 4)) < missing] = np.nan
    return x


def target(x: Array, classes: int, rng: np.random.Generator) -> Array:
    y = np.nan_to_num(x[:, 0]) + (np.nan_to_num(x[:, 2]) % 3 < 1) + rng.normal(size=len(x)) / 2
    return np.digitize(y, np.quantile(y, np.arange(1, classes) / classes)) if classes else y


def trained(name: str, seed: int = 0, *, classes: int = 3, **settings: Any) -> Any:
    rng = RNG(seed)
    boosted, binned = name.startswith("Gradient"), name.startswith("Hist")
    categories = binned and "categorical_features" in settings
    x = table(rng, missing=0 if boosted else 0.2, categories=categories)
    room = tree if hasattr(tree, name) else ensemble
    rounds = {} if room is tree else {"max_iter" if binned else "n_estimators": 6}
    given = {**rounds, **({"min_samples_leaf": 5} if binned else {}), "random_state": seed, **settings}
    y = target(x, classes if name.endswith("Classifier") else 0, rng)
    if settings.get("loss") in ("poisson", "gamma"):
        y = np.exp(y)
    return getattr(room, name)(**given).fit(x, y)


def own(estimator: Any, x: Array) -> Array:
    return estimator.predict_proba(x) if hasattr(estimator, "classes_") else estimator.predict(x)


def edges(
    rng: np.random.Generator, forest: Forest, listed: Array, rows: int = 300, *, bounded: bool, missing: bool
) -> Array:
    """Thresholds and their neighbours, categories known and unknown, and all that is odd and that scikit-learn takes.

    Args:
        listed: Which columns are of categories.
        bounded: Whether it refuses infinities, and what float32 can't hold.
        missing: Whether it takes NaN.
    """
    at = np.append(forest.threshold[(forest.feature >= 0) & (forest.subset < 0)], 0.0)
    near = [at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)]
    single = at.astype(np.float32)  # that float64 is rounded to on its way
    near += [single, np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))]
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e-45, -1e-36, 1e34, -1e34, -1, 1e300, 2.0**31, 2.0**53])
    pool = np.concatenate([*map(np.float64, near), odd])
    pool = pool[(np.isnan(pool) & missing) | (np.abs(pool) <= (1e35 if bounded else np.inf))]
    x = rng.choice(pool, (rows, forest.features))
    codes = rng.choice([np.nan, -1, -300, 0, 1, 2, 3, 4, 7, 8, 40, 41, 256, 259, 1000, 65537, 2.0**31, 1e300], x.shape)
    return np.where(listed, codes, x)


def listed(estimator: Any) -> Array:
    flags = getattr(estimator, "is_categorical_", None)
    return np.zeros(estimator.n_features_in_, bool) if flags is None else flags


CASES: list[tuple[str, dict[str, Any]]] = [
    *((f"{kind}{task}", {}) for kind in ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
      for task in ("Classifier", "Regressor")),
    ("RandomForestClassifier", {"classes": 2, "max_leaf_nodes": 9, "class_weight": "balanced"}),
    ("RandomForestRegressor", {"criterion": "absolute_error", "n_estimators": 1}),
    ("RandomForestRegressor", {"max_depth": 1}),
    ("GradientBoostingClassifier", {}),
    ("GradientBoostingClassifier", {"classes": 2}),
    ("GradientBoostingClassifier", {"classes": 2, "loss": "exponential"}),
    ("GradientBoostingClassifier", {"init": "zero", "n_estimators": 1, "max_depth": 1}),
    ("GradientBoostingRegressor", {"init": "zero", "learning_rate": 0.37}),
    *(("GradientBoostingRegressor", {"loss": loss}) for loss in ("squared_error", "huber", "quantile")),
    ("HistGradientBoostingClassifier", {}),
    ("HistGradientBoostingClassifier", {"classes": 2, "categorical_features": [0, 2]}),
    ("HistGradientBoostingClassifier", {"categorical_features": [2], "max_leaf_nodes": 2}),
    ("HistGradientBoostingRegressor", {"categorical_features": [0, 1, 2, 3]}),
    *(("HistGradientBoostingRegressor", {"loss": loss, "quantile": 0.3})
      for loss in ("squared_error", "absolute_error", "quantile", "poisson", "gamma")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda given: str(given))
def test_every_ensemble_is_scikit_learns_own(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    for seed in range(2):
        rng = RNG(seed)
        if settings.get("categorical_features") == [0, 1, 2, 3]:
            x = np.abs(table(rng, categories=True)).round()
            estimator = ensemble.HistGradientBoostingRegressor(max_iter=6, min_samples_leaf=5, **settings)
            estimator.fit(x, target(x, 0, rng))
        else:
            estimator = trained(name, seed, **settings)
        model = FORMAT.open(estimator)
        forest = FORMAT.forest(model)
        bounded, missing = not name.startswith("Hist"), not name.startswith("Gradient")
        exact = forest.link in ("identity", "probabilities")
        x = edges(rng, forest, listed(estimator), bounded=bounded, missing=missing)
        found, expected = forest.predict(x), own(estimator, x)
        np.testing.assert_allclose(found, expected, rtol=0 if exact else 1e-12, atol=0, strict=True)
        assert model.signature.inputs[0].missing == missing
        assert model.signature.outputs[0].name == ("prediction" if name.endswith("Regressor") else "probability")
    stored = FORMAT.forest(FORMAT.store(model, tmp_path))
    for array in Forest.ARRAYS:
        np.testing.assert_array_equal(getattr(stored, array), getattr(forest, array))


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("RandomForestClassifier", {"n_estimators": 40}),
        ("HistGradientBoostingClassifier", {"categorical_features": [2]}),
    ],
    ids=["forest", "boosting"],
)
def test_what_is_compiled_is_scikit_learns_own_too(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Of float32 rows against float64 thresholds."""
    estimator = trained(name, **settings)
    forest = FORMAT.forest(FORMAT.open(estimator))
    write_source(forest, tmp_path)
    build(tmp_path, tmp_path / "model.so")
    x = edges(RNG(0), forest, listed(estimator), bounded=name.startswith("Random"), missing=True)
    library = Library(tmp_path / "model.so", forest.dtype, forest.sums, forest.width)
    np.testing.assert_allclose(library(x.astype(forest.dtype)), own(estimator, x), rtol=1e-12, strict=True)


def test_a_chain_of_sixty_splits() -> None:
    x = np.arange(61.0)[:, None]
    estimator = tree.DecisionTreeRegressor().fit(x, 3.0 ** np.arange(61))
    model = FORMAT.open(estimator)
    assert model.counts["depth"] == 60
    rows = np.concatenate([x, x + 0.5, x + 0.4])
    np.testing.assert_array_equal(FORMAT.forest(model).predict(rows), estimator.predict(rows))


def test_a_tree_without_splits_and_boosting_that_stopped_early() -> None:
    x = table(RNG(0), missing=0)
    alone = ensemble.RandomForestRegressor(2).fit(x, np.full(len(x), 7.5))
    assert FORMAT.open(alone).counts["depth"] == 0
    np.testing.assert_array_equal(FORMAT.forest(FORMAT.open(alone)).predict(x), 7.5)
    for name in ("GradientBoostingClassifier", "HistGradientBoostingClassifier"):
        early = trained(name, n_iter_no_change=1, tol=10.0, **({"early_stopping": True} if "Hist" in name else {}))
        assert FORMAT.open(early).counts["trees"] < 18
        np.testing.assert_allclose(FORMAT.forest(FORMAT.open(early)).predict(x), early.predict_proba(x), rtol=1e-12)


def test_columns_categories_and_labels_of_a_frame(tmp_path: Path) -> None:
    rng = RNG(0)
    frame = pd.DataFrame({"size": rng.normal(size=200), "kind": pd.Categorical(rng.choice([2, 5, 9], 200))})
    labels = np.where((frame["kind"] == 5) ^ (frame["size"] > 0), "yes", "no")
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=5).fit(frame, labels)
    model = FORMAT.store(FORMAT.open(estimator), tmp_path)
    (entry,), (result,) = model.signature.inputs, model.signature.outputs
    assert (entry.dtype, entry.columns, result.classes) == ("float64", ("size", "kind"), ("no", "yes"))
    x = frame.astype(float).to_numpy()
    np.testing.assert_allclose(FORMAT.forest(model).predict(x), estimator.predict_proba(frame), rtol=1e-12)
    fitted, _ = match(Data({"x": x}, labels=labels), model.signature)
    np.testing.assert_array_equal(fitted.labels, labels == "yes")
    for strange, said in ((np.full(200, "oui"), "'oui'"), (np.arange(200), "0"), (np.full(200, "zz"), "'zz'")):
        with pytest.raises(
            InvalidData, match=f"must be the model's classes, 'no', 'yes', and that of row 0 is .*{said}"
        ):
            match(Data({"x": x}, labels=strange), model.signature)
    numbered = ensemble.RandomForestClassifier(2).fit(x, np.where(labels == "yes", 7, -1))
    fitted, _ = match(Data({"x": x}, labels=np.where(labels == "yes", 7.0, -1.0)), FORMAT.open(numbered).signature)
    np.testing.assert_array_equal(fitted.labels, labels == "yes")
    assert FORMAT.open(trained("RandomForestClassifier")).signature.outputs[0].classes == ()


class Own(ensemble.RandomForestClassifier):
    def predict_proba(self, X: Any) -> Any:
        return 1 - super().predict_proba(X)


def test_what_is_refused_by_name() -> None:
    x, y = make_classification(60, 4, random_state=0)
    for estimator in (make_pipeline(StandardScaler(), LogisticRegression()), ensemble.AdaBoostClassifier()):
        model = formats.open(estimator.fit(x, y))
        with pytest.raises(UnsupportedModel, match=rf"ensembles of trees \(RandomForest.*{type(estimator).__name__}"):
            FORMAT.forest(model)
    assert FORMAT.detects(Own())
    with pytest.raises(UnsupportedModel, match=r"no class derived of one; this is .*\.Own\."):
        formats.open(Own().fit(x, y))
    with pytest.raises(UnsupportedModel, match="this RandomForestClassifier is not"):
        FORMAT.open(ensemble.RandomForestClassifier())
    with pytest.raises(UnsupportedModel, match="one target, and this ExtraTreesRegressor has 2"):
        FORMAT.open(ensemble.ExtraTreesRegressor(2).fit(x, x[:, :2]))
    with pytest.raises(UnsupportedModel, match="begin with a constant, and this begins with what LinearRegression"):
        FORMAT.open(ensemble.GradientBoostingRegressor(init=LinearRegression(), n_estimators=1).fit(x, y))
    for values in (["a", "b"], [0.5, 1.5], [-1, 1]):
        frame = pd.DataFrame({"a": pd.Categorical(np.resize(values, 60))})
        with pytest.raises(UnsupportedModel, match=r"whole numbers from 0, and column 0 has"):
            FORMAT.open(ensemble.HistGradientBoostingClassifier(max_iter=1).fit(frame, y))
    with pytest.raises(UnsupportedModel, match=r"broken \(AttributeError"):
        broken = trained("RandomForestClassifier")
        del broken.classes_, broken.estimators_
        FORMAT.open(broken)


class TestSklearnFormat(FormatCase):
    format: ClassVar[ModelFormat] = FORMAT

    def example(self, folder: Path) -> Path:
        model = FORMAT.store(FORMAT.open(trained("RandomForestClassifier")), folder)
        assert FORMAT.store(model, folder / "again") is model
        return model.path

    def broken(self, folder: Path) -> Path:
        path = folder / "cut.skops"
        path.write_bytes(self.example(folder).read_bytes()[:-500])
        return path


class Harmless:
    """A class that is not scikit-learn's own."""


def test_a_skops_file_with_other_types_is_not_read(tmp_path: Path) -> None:
    estimator = trained("RandomForestClassifier")
    estimator.extra_ = Harmless()
    skops.io.dump(estimator, tmp_path / "model.skops")
    with pytest.raises(UntrustedModel, match=r"holds .*Harmless, which .*trust_pickle=True"):
        formats.open(tmp_path / "model.skops")
    skops.io.dump({"a": 1}, tmp_path / "model.skops")
    with pytest.raises(UnsupportedModel, match=r"this is builtins\.dict"):
        formats.open(tmp_path / "model.skops")
    with pytest.raises(UnsupportedModel, match="skops can write, and this RandomForestClassifier is not"):
        estimator.extra_ = (number for number in range(3))
        FORMAT.store(FORMAT.open(estimator), tmp_path)


def rewritten(source: Path, goal: Path, change: Any) -> Path:
    """The same archive, `change(name, content)` in the place of each member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(goal, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return goal


@pytest.mark.parametrize(
    "name", ["RandomForestClassifier", "GradientBoostingRegressor", "HistGradientBoostingClassifier"]
)
def test_a_damaged_file_is_a_named_error(name: str, tmp_path: Path) -> None:
    """Whatever the bytes: of the archive, or (its checksums made right) of what is in it."""
    small = {"max_iter" if name.startswith("Hist") else "n_estimators": 2}
    settings = {"categorical_features": [2]} if name.startswith("Hist") else {}
    model = FORMAT.store(FORMAT.open(trained(name, **small, **settings)), tmp_path)
    whole, path, rng, refused = model.path.read_bytes(), tmp_path / "damaged.skops", RNG(0), 0
    x = table(rng, 5, missing=0).astype(model.signature.inputs[0].dtype)
    for size in range(0, len(whole), len(whole) // 6):
        path.write_bytes(whole[:size])
        with pytest.raises(UnsupportedModel, match=r"damaged\.skops"):
            FORMAT.open(path)

    def flipped(member: str, content: bytes) -> bytes:
        spoiled = bytearray(content)
        if member.endswith(".npy") and rng.random() < 0.5:
            for place in rng.integers(128, len(spoiled), 3) if len(spoiled) > 128 else ():
                spoiled[place] = rng.choice([rng.integers(256), 0, 255, 127])
        return bytes(spoiled)

    for _ in range(12):
        try:
            assert len(FORMAT.forest(FORMAT.open(rewritten(model.path, path, flipped))).predict(x)) == 5
        except UnsupportedModel as error:
            refused += 1
            assert str(path) in str(error) or str(error).startswith(("A forest", "Categories"))
    assert refused > 3


@pytest.mark.parametrize(("key", "value"), [("node_count", -1), ("node_count", 0), ("n_features_in_", 10**6)])
def test_numbers_that_would_lead_scikit_learn_out_of_bounds_are_refused(key: str, value: int, tmp_path: Path) -> None:
    model = FORMAT.store(FORMAT.open(trained("RandomForestClassifier", n_estimators=1)), tmp_path)

    def change(member: str, content: bytes) -> bytes:
        if member != "schema.json":
            return content

        def walk(part: Any) -> None:
            for name, inner in part.items() if isinstance(part, dict) else enumerate(part):
                if name == key:
                    inner.update(content=json.dumps(value), __id__=id(inner))  # equal numbers share one
                elif isinstance(inner, (dict, list)):
                    walk(inner)

        schema = json.loads(content)
        walk(schema)
        return json.dumps(schema).encode()

    with pytest.raises(UnsupportedModel, match=r"changed\.skops"):
        FORMAT.open(rewritten(model.path, tmp_path / "changed.skops", change))


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(Path(os.environ["STROP_TEST_BOMB"])),)


@pytest.mark.parametrize("name", ["model.pkl", "model.JOBLIB", "model.pickle.gz"])
def test_a_pickle_is_only_read_where_it_is_trusted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_TEST_BOMB", str(tmp_path / "gone off"))
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UntrustedModel, match=r"is a pickle, and reading it would run .*trust_pickle=True"):
        formats.open(path)
    assert not (tmp_path / "gone off").exists()
    with pytest.raises(UnsupportedModel, match="got a NoneType"):
        formats.open(path, trust_pickle=True)
    assert (tmp_path / "gone off").exists(), "which is why"
    path.write_bytes(b"\x80\x04nothing")
    with pytest.raises(UnsupportedModel, match=r"must be a pickle that can be read here, and can't"):
        formats.open(path, trust_pickle=True)


def test_pickles_of_any_library_open_where_trusted(tmp_path: Path) -> None:
    lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    x, y = make_classification(60, 4, random_state=0)
    for format, estimator in (
        (SKLEARN, ensemble.RandomForestClassifier(2)), (LIGHTGBM, lightgbm.LGBMClassifier(n_estimators=2, verbose=-1)),
        (XGBOOST, xgboost.XGBClassifier(n_estimators=2)),
    ):  # fmt: skip
        joblib.dump(estimator.fit(x, y), tmp_path / "model.joblib", compress=3)
        model = formats.open(str(tmp_path / "model.joblib"), trust_pickle=True)
        assert (model.format, model.files) == (format, ())
        assert [file.suffix for file in formats.format_of(format).store(model, tmp_path).files] != [".joblib"]


def test_labels_of_text_come_as_pandas_has_them() -> None:
    rng = RNG(0)
    frame = pd.DataFrame({"a": rng.normal(size=40), "b": rng.normal(size=40)})
    labels = pd.Series(np.where(frame["a"] > 0, "yes", "no"), dtype=object)
    model = FORMAT.open(ensemble.ExtraTreesClassifier(2).fit(frame, labels))
    for source in ((frame, labels), (frame.to_numpy(), labels), (frame, labels.tolist())):
        fitted, _ = match(read_for(model.signature, source), model.signature)
        np.testing.assert_array_equal(fitted.labels, labels == "yes")
