"""Models that know the categories of a table: what is made of them takes the same table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frames import frame, lightgbms, target, xgboosts
from strop import formats, runtimes
from strop.bundle import Bundle
from strop.data import Data, match
from strop.formats.forest import ForestFormat
from strop.model import NATIVE, Model
from strop.native.library import compiler
from strop.reading import read_for
from strop.runtime import predict
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import DistillForest, DropFeatures, ForestToOnnx, Retune, ToForest, ToNative

HERE = Target(threads=1)
BOTH = pytest.mark.parametrize("library", [lightgbms, xgboosts])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.training.trees.usable_cores", lambda: (0,))


def built(original: Model, steps: list[Technique], train: Data, folder: Path) -> Model:
    model = original
    for place, step in enumerate(steps):
        (folder / str(place)).mkdir()
        model = apply(step, model, Context(None, original, HERE, 0, folder / str(place), train=train))
    return model


def handed_over(model: Model, runtime: str, folder: Path) -> Bundle:
    """A bundle, as far as predicting goes."""
    moved = model.copy_to(folder)
    content = {
        "files": [file.name for file in moved.files], "format": model.format, "signature": model.signature.to_json(),
        "runtime": {"name": runtime, "options": {}},
    }  # fmt: skip
    return Bundle(folder, {"winner": content, "target": vars(HERE)})


def trained_on(model: Model, table: pd.DataFrame, file: Path) -> Data:
    table.assign(label=target(table)).to_csv(file, index=False)
    return match(read_for(model.signature, file, label="label"), model.signature)[0]


@pytest.mark.parametrize(("library", "to"), [(lightgbms, ToNative()), (xgboosts, ForestToOnnx())])
def test_what_it_becomes_takes_the_frame_as_the_library_does(library: Any, to: Technique, tmp_path: Path) -> None:
    if to == ToNative() and compiler() is None:
        pytest.skip("needs a C compiler")
    path, table, own = library(tmp_path)
    original = formats.open(path)
    made = built(original, [ToForest(), to], trained_on(original, table, tmp_path / "train.csv"), tmp_path)
    assert made.signature == original.signature
    bundle = handed_over(made, "native" if made.format == NATIVE else "onnxruntime", tmp_path / "bundle")
    other = table.assign(town=table["town"].astype(object))
    for given in (table, other):
        (found,) = bundle.predict(given).values()
        np.testing.assert_allclose(found.reshape(-1), own(table), rtol=1e-5)
    if made.format == NATIVE:
        header = made.path.with_name("forest.h").read_text()
        assert "1: town, the code of a category\n" in header and "0: weight\n" in header


@BOTH
@pytest.mark.parametrize("step", [DropFeatures(by="shap", amount=0.3), Retune(), DistillForest()], ids=str)
def test_trained_anew_it_numbers_them_as_before(library: Any, step: Technique, tmp_path: Path) -> None:
    path, table, own = library(tmp_path)
    original = formats.open(path)
    train = trained_on(original, table, tmp_path / "train.csv")
    made = built(original, [ToForest(), step], train, tmp_path)
    assert made.signature == original.signature
    fresh = frame({name: [*table[name].cat.categories][::-1] for name in original.signature.inputs[0].categories}, 7)
    rows = match(read_for(made.signature, fresh), made.signature)[0].inputs["x"]
    assert np.corrcoef(ForestFormat().forest(made).predict(rows), own(fresh))[0, 1] > 0.8


@BOTH
def test_its_own_runtime_is_given_codes(library: Any, tmp_path: Path) -> None:
    path, table, own = library(tmp_path)
    model = formats.open(path)
    data, signature = match(read_for(model.signature, table), model.signature)
    runner = next(one for one in runtimes.all_runtimes() if model.format in one.loads)().load(model, HERE)
    (found,) = predict(runner, signature, data, 1).values()
    runner.close()
    np.testing.assert_array_equal(found, own(table))
