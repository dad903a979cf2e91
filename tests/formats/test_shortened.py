"""A model cut down to its first trees is one that its own library runs, and its structure is counted right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from sklearn import ensemble, tree

from forests import edges, grown
from strop import formats
from strop.errors import NotApplicable, UnsupportedModel
from strop.forest import Forest
from strop.formats.forest import save
from strop.formats.onnx_trees import OnnxTreesFormat
from strop.model import Model
from strop.runtime import Runtime
from strop.runtimes import Catboost, Gtil, Lightgbm, Onnxruntime, Sklearn, Xgboost
from strop.target import Target
from strop.technique import Context
from strop.techniques import ForestToOnnx

cb = pytest.importorskip("catboost")
lgb = pytest.importorskip("lightgbm")
xgb = pytest.importorskip("xgboost")

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng
X = RNG(0).normal(size=(300, 5)).round(1).astype(np.float32)
Y = np.digitize(X[:, 0] + X[:, 1] * X[:, 2], [-0.5, 0.5])


def lightgbm_text(path: Path, rounds: int) -> None:
    settings = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    data = lgb.Dataset(np.column_stack([X[:, :4], RNG(1).integers(0, 9, len(X))]), Y, categorical_feature=[4])
    lgb.train(settings, data, rounds).save_model(path)


def xgboost_file(path: Path, rounds: int) -> None:
    xgb.XGBClassifier(n_estimators=rounds, max_depth=3, n_jobs=1).fit(X, Y).save_model(path)


def catboost_file(path: Path, rounds: int) -> None:
    settings = {"verbose": 0, "allow_writing_files": False, "thread_count": 1, "depth": 3}
    cb.CatBoostClassifier(iterations=rounds, **settings).fit(X, Y).save_model(str(path))


def sklearn_file(kind: Any) -> Callable[[Path, int], None]:
    def made(path: Path, rounds: int) -> None:
        count = "max_iter" if kind is ensemble.HistGradientBoostingClassifier else "n_estimators"
        skops.io.dump(kind(**{count: rounds}, random_state=0).fit(X, Y), path)

    return made


def forest_file(path: Path, rounds: int) -> None:
    save(grown(RNG(0), trees=rounds, features=5, dtype="float32"), path.parent)


def onnx_file(path: Path, rounds: int) -> None:
    forest = grown(RNG(0), trees=rounds, outputs=3, vectors=True, features=5, dtype="float32", sums="float32")
    given = save(forest, path.parent)
    made = ForestToOnnx().apply(given, Context(None, given, Target(threads=1), 0, path.parent))
    made.path.rename(path)


MODELS: dict[str, tuple[str, Callable[[Path, int], None], type[Runtime], int]] = {
    "lightgbm": ("model.txt", lightgbm_text, Lightgbm, 3),
    "xgboost": ("model.ubj", xgboost_file, Xgboost, 3),
    "catboost": ("model.cbm", catboost_file, Catboost, 1),
    "random forest": ("model.skops", sklearn_file(ensemble.RandomForestClassifier), Sklearn, 1),
    "boosting": ("model.skops", sklearn_file(ensemble.GradientBoostingClassifier), Sklearn, 3),
    "binned boosting": ("model.skops", sklearn_file(ensemble.HistGradientBoostingClassifier), Sklearn, 3),
    "forest": ("forest.npz", forest_file, Gtil, 1),
    "onnx": ("trees.onnx", onnx_file, Onnxruntime, 1),
}


def made(name: str, folder: Path, rounds: int) -> Model:
    file, make, _, _ = MODELS[name]
    folder.mkdir()
    make(folder / file, rounds)
    return formats.open(folder / file)


def forest_of(model: Model) -> Forest:
    room = formats.format_of(model.format)
    return room.forest(model)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", MODELS)
def test_the_first_trees_alone_are_a_model_that_its_library_runs(name: str, tmp_path: Path) -> None:
    _, _, runtime, trees = MODELS[name]
    whole = made(name, tmp_path / "whole", 4)
    (tmp_path / "short").mkdir()
    before = whole.digest()
    short = formats.format_of(whole.format).shortened(whole, tmp_path / "short")
    assert whole.digest() == before
    assert short.format == whole.format and short.signature.names() == whole.signature.names()
    kept, all_of_it = forest_of(short), forest_of(whole)
    assert kept.trees == trees < all_of_it.trees
    x = X if name == "lightgbm" else edges(RNG(2), all_of_it, 50)
    x = np.where(np.isfinite(x) & (np.abs(x) < 1e6), x, 0).astype(kept.dtype)
    runner = runtime().load(short, Target(threads=1))
    (found,) = runner({short.signature.inputs[0].name: x}).values()
    runner.close()
    np.testing.assert_allclose(found.squeeze(), kept.predict(x).squeeze(), rtol=1e-5, atol=1e-6)
    same = [(part.leaves(x)[:, :trees] == part.roots[:trees]).all() for part in (kept, all_of_it)]
    assert same[0] == same[1]


@pytest.mark.parametrize("name", MODELS)
def test_of_a_single_round_nothing_can_be_cut(name: str, tmp_path: Path) -> None:
    whole = made(name, tmp_path / "whole", 1)
    with pytest.raises(NotApplicable, match="at the most"):
        formats.format_of(whole.format).shortened(whole, tmp_path)


def test_a_single_tree_of_scikit_learn_can_not_be_cut(tmp_path: Path) -> None:
    skops.io.dump(tree.DecisionTreeClassifier().fit(X, Y), tmp_path / "model.skops")
    whole = formats.open(tmp_path / "model.skops")
    with pytest.raises(NotApplicable, match="at the most"):
        formats.format_of(whole.format).shortened(whole, tmp_path)


def test_formats_of_no_trees_say_what_is_there(tmp_path: Path) -> None:
    from models import cnn

    onnx.save(cnn(), tmp_path / "model.onnx")
    model = formats.open(tmp_path / "model.onnx")
    room = formats.format_of(model.format)
    with pytest.raises(UnsupportedModel, match=rf"none \(.*{model.size:,} bytes on disk\). strop benchmark"):
        formats.format_of("torch").structure(model)
    with pytest.raises(NotApplicable, match="onnx can't be shortened"):
        room.shortened(model, tmp_path)


def test_every_split_that_a_sample_passes_is_counted(tmp_path: Path) -> None:
    forest = grown(RNG(3), trees=7, leaves=20, features=9, subsets=0.3, names=tuple("abcdefghi"))
    forest = forest.check()
    model = save(forest, tmp_path)
    x = edges(RNG(4), forest, 40)
    found = formats.format_of(model.format).structure(model, {"x": x})
    passed = []
    for row in x:
        passed.append(0)
        for root in forest.roots:
            node = root
            while forest.feature[node] >= 0:
                passed[-1] += 1
                goes = forest.goes_left(np.array([node]), row[forest.feature[[node]]])
                node = (forest.left if goes[0] else forest.right)[node]
    facts = found.facts
    assert facts["visits"]["mean"] == found.operations == np.mean(passed)
    assert (facts["visits"]["low"], facts["visits"]["high"]) == tuple(np.percentile(passed, (5, 95)))
    splits = forest.feature >= 0
    assert facts["splits"] == {
        "thresholds": (splits & (forest.subset < 0)).sum(),
        "categories": len(forest.member_ends),
    }
    assert {column["name"]: column["splits"] for column in facts["columns"]} == {
        name: count for place, name in enumerate("abcdefghi") if (count := (forest.feature == place).sum())
    }
    assert all(column["gain"] is None for column in facts["columns"])
    assert facts["leaves"] == (~splits).sum() and facts["depth"]["max"] == forest.depth.max()
    (layer,) = found.layers
    leaves, kind = int((~splits).sum()), np.dtype(forest.dtype).itemsize
    assert layer.parameters == splits.sum() + leaves * forest.values.shape[1]
    assert layer.bytes == splits.sum() * (kind + 12) + leaves * forest.values.shape[1] * np.dtype(forest.sums).itemsize
    assert layer.waits and layer.weights < layer.bytes, "a sample reads what lies on its way"
    assert found.values["x"] == 9 * kind and found.values.keys() == {"x", *found.results}
    assert "by the ways of 40 samples" in found.told["visits"]


def test_without_samples_the_training_samples_count_or_every_leaf_alike(tmp_path: Path) -> None:
    # a root, its left child a leaf that 9 of 10 samples reached; the right one splits once more
    arrays: dict[str, Any] = {
        "feature": [2, -1, 0, -1, -1], "threshold": [0.0, 0, 1.0, 0, 0], "left": [1, -1, 3, -1, -1],
        "right": [2, -1, 4, -1, -1], "nan_left": [0] * 5, "zero_missing": [0] * 5, "subset": [-1] * 5,
        "leaf": [-1, 0, -1, 1, 2], "count": [100.0, 90, 10, 6, 4], "gain": [30.0, np.nan, 10, np.nan, np.nan],
        "members": [], "member_ends": [], "values": [[1.0], [2], [3]], "roots": [0], "output": [0], "base": [0.0],
    }  # fmt: skip
    gain = np.nan_to_num(arrays.pop("gain"))
    told = Forest(**arrays, gain=gain, features=3).check()
    found = formats.format_of("forest").structure(save(told, tmp_path))
    assert found.operations == pytest.approx(1.1)
    assert found.facts["columns"] == [
        {"name": "2", "splits": 1, "gain": 0.75}, {"name": "0", "splits": 1, "gain": 0.25},
    ]  # fmt: skip
    assert found.facts["unused"] == ["1"]
    assert "training samples that the model remembers" in found.told["visits"]
    untold = Forest(**{**arrays, "count": [np.nan] * 5}, gain=gain, features=3).check()
    found = formats.format_of("forest").structure(save(untold, tmp_path))
    assert found.operations == pytest.approx(5 / 3)
    assert "does not tell" in found.told["visits"]


def test_an_empty_forest_has_a_structure_too(tmp_path: Path) -> None:
    model = save(grown(RNG(0), trees=0), tmp_path)
    for samples in (None, {"x": np.zeros((3, 4))}):
        found = formats.format_of(model.format).structure(model, samples)
        assert found.operations == 0 and found.facts["columns"] == []


def test_the_structure_of_trees_in_onnx_is_read(tmp_path: Path) -> None:
    model = made("onnx", tmp_path / "model", 2)
    assert OnnxTreesFormat().structure(model).facts["trees"] == 2
