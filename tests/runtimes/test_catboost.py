"""CatBoost as a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from strop import formats
from strop.data import Data
from strop.errors import RunFailed
from strop.formats.catboost import CatboostFormat
from strop.model import Model
from strop.native.library import compiler
from strop.runtime import Runtime, predict
from strop.runtimes import Catboost, Native
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import ToForest, ToNative
from strop.testing import Example, RuntimeCase

cb = pytest.importorskip("catboost")

QUIET = {"verbose": 0, "allow_writing_files": False, "thread_count": 1, "iterations": 5, "depth": 3}
X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
X[:, 3] = np.digitize(X[:, 2], [-1, 0, 1])
Y = np.digitize(X[:, 0] + (X[:, 3] == 2), [-1, 1])


def trained(folder: Path, loss: str, categories: list[int], name: str = "model.cbm") -> Path:
    rows = X.astype(object)
    rows[:, categories] = X[:, categories].astype(int)
    model = cb.CatBoost({**QUIET, "loss_function": loss, "one_hot_max_size": 2})
    model.fit(rows if categories else X, (Y > 0) if loss == "Logloss" else Y, cat_features=categories)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_model(folder / name, "json" if name.endswith(".json") else "cbm")
    return folder / name


class TestCatboost(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Catboost

    def example(self, folder: Path) -> Example:
        return Example(formats.open(trained(folder, "Logloss", [])), Data({"x": X[:30]}))

    def broken(self, folder: Path) -> Model:
        model = self.example(folder).model
        model.path.write_bytes(model.path.read_bytes()[:300])
        return model


@pytest.mark.parametrize("loss", ["Logloss", "MultiClass", "RMSE", "Poisson"])
@pytest.mark.parametrize("categories", [[], [3]])
@pytest.mark.parametrize("name", ["model.cbm", "model.json"])
@pytest.mark.parametrize("batch", [1, 7])
def test_answers_as_its_forest_does(tmp_path: Path, loss: str, categories: list[int], name: str, batch: int) -> None:
    """Categories that training has not seen, fractions and NaN among them, included."""
    model = formats.open(trained(tmp_path, loss, categories, name))
    x = X[:30].copy()
    x[:9, 3] = [np.nan, -1, -0.5, -0.0, 2.9, 77, np.inf, 1e30, -np.inf]
    x[9, 0] = np.nan
    runner = Catboost().load(model, Target(threads=1))
    (found,) = predict(runner, model.signature, Data({"x": x}), batch).values()
    runner.close()
    np.testing.assert_allclose(found, CatboostFormat().forest(model).predict(x), rtol=1e-12, strict=True)


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
def test_the_library_that_it_becomes_answers_as_it_does(tmp_path: Path) -> None:
    """With the lowest border there is, below which CatBoost has NaN."""
    x = X.copy()
    x[::3, 0] = np.nan
    model = cb.CatBoost({**QUIET, "loss_function": "MultiClass", "nan_mode": "Min"}).fit(
        x, np.where(np.isnan(x[:, 0]), 2, Y)
    )
    given = CatboostFormat().store(formats.open(model), tmp_path)
    made = given
    for step in (ToForest(), ToNative()):
        folder = tmp_path / step.label()
        folder.mkdir()
        made = apply(step, made, Context(None, given, Target(), 0, folder))
    assert CatboostFormat().forest(given).threshold.min() == np.finfo(np.float32).min
    found, own = (
        predict(runtime.load(one, Target(threads=1)), one.signature, Data({"x": x}), 64)["probability"]
        for runtime, one in ((Native(), made), (Catboost(), given))
    )
    np.testing.assert_allclose(found, own, rtol=1e-12)


def test_what_it_calls_is_what_is_timed(tmp_path: Path) -> None:
    model = formats.open(trained(tmp_path, "MultiClass", [3]))
    runner = Catboost().load(model, Target(threads=1))
    for rows in (X[:1], X[:9]):
        bound: Any = runner.bind({"x": rows})()
        np.testing.assert_array_equal(np.reshape(bound, (len(rows), 3)), runner({"x": rows})["probability"])


def test_columns_that_do_not_fit_are_a_named_error(tmp_path: Path) -> None:
    runner = Catboost().load(formats.open(trained(tmp_path, "RMSE", [])), Target(threads=1))
    with pytest.raises(RunFailed, match="CatBoost: "):
        runner({"x": X[:5, :1]})
