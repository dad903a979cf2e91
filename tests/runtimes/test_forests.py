"""The runtimes of trees."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)

import models
from forests import edges, grown
from strop import formats
from strop.data import Data
from strop.errors import RunFailed
from strop.formats.forest import ForestFormat, save
from strop.model import FOREST, ONNX_TREES, SKLEARN, Format, Model
from strop.native.library import compiler
from strop.runtime import Runtime, predict
from strop.runtimes import Gtil, Lightgbm, Native, Onnxruntime, Sklearn, Xgboost
from strop.server import Hosted, together
from strop.target import Target
from strop.technique import Context, Phase, Technique, apply
from strop.techniques import ToForest, ToNative
from strop.testing import Example, RuntimeCase

RNG = np.random.default_rng
X = RNG(0).normal(size=(200, 4))
Y = np.digitize(X[:, 0] + X[:, 1], [-1, 1])


class TestLightgbm(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Lightgbm

    def example(self, folder: Path) -> Example:
        lightgbm = pytest.importorskip("lightgbm")
        settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_leaves": 5}
        lightgbm.train(settings, lightgbm.Dataset(X, Y), 5).save_model(str(folder / "model.txt"))
        return Example(formats.open(folder / "model.txt"), Data({"x": X[:30]}))

    def broken(self, folder: Path) -> Model:
        model = self.example(folder).model
        model.path.write_text("tree\nversion=v4\n")
        return model

    @pytest.mark.parametrize("batch", [1, 7])
    def test_answers_as_the_library_does(self, tmp_path: Path, batch: int) -> None:
        lightgbm = pytest.importorskip("lightgbm")
        given = self.example(tmp_path)
        runner = Lightgbm().load(given.model, Target(threads=1))
        found = predict(runner, given.model.signature, given.data, batch)["probability"]
        runner.close()
        expected = lightgbm.Booster(model_file=str(given.model.path)).predict(X[:30])
        np.testing.assert_array_equal(found, expected)


class TestXgboost(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Xgboost

    def example(self, folder: Path) -> Example:
        xgboost = pytest.importorskip("xgboost")
        settings = {"objective": "binary:logistic", "max_depth": 3}
        xgboost.train(settings, xgboost.DMatrix(X, Y > 1), 5).save_model(folder / "model.ubj")
        return Example(formats.open(folder / "model.ubj"), Data({"x": X[:30].astype(np.float32)}))

    def broken(self, folder: Path) -> Model:
        model = self.example(folder).model
        model.path.write_bytes(model.path.read_bytes()[:300])
        return model


class TestSklearn(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Sklearn

    def example(self, folder: Path) -> Example:
        estimator = RandomForestClassifier(5, n_jobs=-1, verbose=3).fit(X, Y)
        return Example(_stored(estimator, folder), Data({"x": X[:30].astype(np.float32)}))

    def broken(self, folder: Path) -> Model:
        model = self.example(folder).model
        model.path.write_bytes(model.path.read_bytes()[:300])
        return model

    def test_input_that_it_refuses_is_a_named_error(self, tmp_path: Path) -> None:
        runner = Sklearn().load(self.example(tmp_path).model, Target(threads=1))
        with pytest.raises(RunFailed, match="scikit-learn: Input X contains infinity"):
            runner({"x": np.full((1, 4), np.inf, np.float32)})
        runner.close()

    def test_columns_need_no_names_and_no_types(self, tmp_path: Path) -> None:
        """Trained on a frame, with a column of categories: what is given is an array, and nothing warns of it."""
        frame = pd.DataFrame(X, columns=list("abcd")).assign(a=pd.Categorical(np.arange(200) % 7 * 3))
        for estimator in (
            HistGradientBoostingClassifier(max_iter=3), HistGradientBoostingRegressor(max_iter=3),
            GradientBoostingRegressor(n_estimators=3),
        ):  # fmt: skip
            given = frame.astype(float) if isinstance(estimator, GradientBoostingRegressor) else frame
            model = _stored(estimator.fit(given, Y), tmp_path)
            expected = (estimator.predict_proba if hasattr(estimator, "classes_") else estimator.predict)(given)
            (result,) = model.signature.outputs
            for batch in (1, 1500):
                runner = Sklearn().load(model, Target(threads=1, batch=batch))
                found = runner({"x": frame.astype(model.signature.inputs[0].dtype).to_numpy()})
                runner.close()
                np.testing.assert_array_equal(found[result.name], expected)


def _stored(estimator: Any, folder: Path) -> Model:
    return formats.format_of(SKLEARN).store(formats.open(estimator), folder)


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
class TestNative(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Native

    def example(self, folder: Path) -> Example:
        folder.mkdir(parents=True, exist_ok=True)
        model = save(grown(RNG(1), link="sigmoid of two"), folder)
        (folder / "made").mkdir()
        made = apply(ToNative(), model, Context(None, model, Target(), 0, folder / "made"))
        return Example(made, Data({"x": X[:30]}))

    def broken(self, folder: Path) -> Model:
        model = self.example(folder).model
        for file in model.files:
            file.write_bytes(b"nothing")
        return model

    def test_a_library_from_elsewhere_is_not_run_but_built_again(self, tmp_path: Path) -> None:
        given = self.example(tmp_path)
        forest = grown(RNG(1), link="sigmoid of two")
        x = edges(RNG(2), forest, 30)
        for file, content in ((given.model.path, b"\x7fELF of somebody else"), (given.model.files[1], b"wrong")):
            file.write_bytes(content)
        runner = Native().load(given.model, Target(threads=1))
        found = runner({"x": x})["probability"]
        runner.close()
        np.testing.assert_allclose(found, forest.predict(x), rtol=1e-15)

    def test_a_signature_that_is_none_of_a_forest_is_told(self, tmp_path: Path) -> None:
        given = self.example(tmp_path).model
        (result,) = given.signature.outputs
        odd = replace(result, dtype="float32"), replace(result, shape=(None, None))
        for outputs in ((), (result, result), odd[:1], odd[1:]):
            with pytest.raises(RunFailed, match=r"signature.*Build it again"):
                Native().load(replace(given, signature=replace(given.signature, outputs=outputs)), Target(threads=1))

    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    def test_a_source_that_is_damaged_is_told(self, tmp_path: Path, method: int) -> None:
        given = self.example(tmp_path)
        source = given.model.path.with_name("source.zip")
        given.model.path.write_bytes(b"\x7fELF of somebody else")
        with zipfile.ZipFile(source, "w", method) as archive:
            archive.writestr("forest.npz", bytes(range(256)) * 40)
        content = bytearray(source.read_bytes())
        content[50:70] = b"\xff" * 20
        source.write_bytes(content)
        with pytest.raises(RunFailed, match=r"source\.zip must hold forest\.npz"):
            Native().load(given.model, Target(threads=1))


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("trees", [0, 1, 5000])
def test_few_trees_and_many_come_through_to_the_library(trees: int, tmp_path: Path) -> None:
    """From LightGBM's file to the compiled library; without a tree all is what the sums begin with."""
    lightgbm = pytest.importorskip("lightgbm")
    settings = {"objective": "regression", "verbose": -1, "num_leaves": 4, "learning_rate": 0.01, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(X, X[:, 0] * X[:, 1]), max(trees, 1))
    booster.save_model(str(tmp_path / "model.txt"), num_iteration=max(trees, 1))
    model = original = formats.open(tmp_path / "model.txt")
    steps = [ToForest(), *([TruncateAll()] if not trees else []), ToNative()]
    for place, step in enumerate(steps):
        folder = tmp_path / str(place)
        folder.mkdir()
        model = apply(step, model, Context(None, original, Target(), 0, folder))
    assert model.counts["trees"] == trees
    runner = Native().load(model, Target(threads=1))
    for rows in (X[:1], X):
        found = runner({"x": rows})["prediction"]
        expected = booster.predict(rows) if trees else np.zeros(len(rows))
        np.testing.assert_array_equal(found, expected)
    runner.close()


@dataclass(frozen=True)
class TruncateAll(Technique):
    """Take out every tree, which no technique of strop's own does."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    phase: ClassVar[Phase] = Phase.SHRINK

    def apply(self, model: Model, context: Context) -> Model:
        forest = ForestFormat().forest(model)
        return save(replace(forest, roots=forest.roots[:0], output=forest.output[:0]), context.folder)


def test_quality_of_trees_is_told_in_large_calls_and_that_of_networks_in_the_targets(tmp_path: Path) -> None:
    """Dynamic int8 of a network depends on what else is in the call; a sample of trees does not."""
    forest = save(grown(RNG(1)), tmp_path)
    network = models.case("mlp", tmp_path).model
    for batch in (1, 4096):
        target = Target(threads=1, batch=batch)
        assert together(Hosted(forest, Native(), target)) == batch, "a library takes no forest.npz"
        assert together(Hosted(forest, Gtil(), target)) == max(batch, 512)
        assert together(Hosted(network, Onnxruntime(), target)) == batch
        assert together(Hosted(replace(network, format=ONNX_TREES), Onnxruntime(), target)) == max(batch, 512)
