"""Tables with columns of categories: what a library makes of its own frame, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from frames import ASCII, KINDS, ROWS, frame, lightgbm_of, lightgbms, target, xgboost_of, xgboosts
from strop import formats, metrics
from strop.comparison import fit, host
from strop.data import match
from strop.errors import InvalidData, UnsupportedModel
from strop.formats.trees import TreeFormat
from strop.model import Model, Signature
from strop.reading import read_for
from strop.target import Target

UNSEEN = {"town": "Wien", "size": 99}
BOTH = pytest.mark.parametrize("library", [lightgbms, xgboosts])


def rows_of(model: Model, source: object) -> np.ndarray[Any, Any]:
    data, _ = match(read_for(model.signature, source), model.signature)
    return data.batch(0, len(data))["x"]


def scores(model: Model, source: object) -> np.ndarray[Any, Any]:
    room = formats.format_of(model.format)
    assert isinstance(room, TreeFormat)
    return room.forest(model).predict(rows_of(model, source))


def sources(table: pd.DataFrame, folder: Path) -> dict[str, object]:
    """The same table in all ways in which it may come."""
    table.to_parquet(folder / "table.parquet")
    plain = pa.Table.from_pandas(table, preserve_index=False)
    plain = plain.cast(pa.schema([(f.name, getattr(f.type, "value_type", f.type)) for f in plain.schema]))
    pq.write_table(plain, folder / "plain.parquet", row_group_size=97)
    table.to_csv(folder / "table.csv", index=False)
    backwards = table[table.columns[::-1]]
    return {
        "frame": table, "dictionaries": folder / "table.parquet", "plain": folder / "plain.parquet",
        "csv": folder / "table.csv", "other order": backwards, "arrow": plain,
        "objects": table.astype({name: object for name in table.columns if table[name].dtype == "category"}),
    }  # fmt: skip


@BOTH
def test_every_table_gives_what_the_library_gives_of_the_frame(library: Any, tmp_path: Path) -> None:
    path, table, predict = library(tmp_path)
    model = formats.open(path)
    shuffled = table.copy()
    for name in model.signature.inputs[0].categories:
        shuffled[name] = table[name].cat.reorder_categories([*table[name].cat.categories[::-1]])
    expected = predict(table)
    np.testing.assert_array_equal(predict(shuffled), expected)
    for given in (table, shuffled):
        for how, source in sources(given, tmp_path).items():
            np.testing.assert_allclose(scores(model, source), expected, rtol=1e-6, err_msg=how)
    assert len(np.unique(expected)) > 20


@BOTH
def test_live_models_know_as_much_as_their_files(library: Any, tmp_path: Path) -> None:
    path, table, _ = library(tmp_path)
    live = lgb.Booster(model_file=str(path)) if library is lightgbms else xgb.Booster(model_file=str(path))
    opened = formats.open(live)
    stored = formats.format_of(opened.format).store(opened, tmp_path / "stored")
    signature = formats.open(path).signature
    assert opened.signature == stored.signature == signature
    assert Signature.of(json.loads(json.dumps(signature.to_json()))) == signature
    assert signature.inputs[0].categories["size"] == tuple(table["size"].cat.categories.tolist())
    shortened = formats.format_of(opened.format).shortened(stored, tmp_path)
    assert shortened.signature == signature


def test_what_lightgbm_has_not_seen_is_missing(tmp_path: Path) -> None:
    path, table, predict = lightgbms(tmp_path)
    strange = table.copy()
    for name, value in UNSEEN.items():
        strange[name] = table[name].cat.add_categories([value])
        strange.loc[::3, name] = value
    model = formats.open(path)
    for how, source in sources(strange, tmp_path).items():
        np.testing.assert_allclose(scores(model, source), predict(strange), rtol=1e-15, err_msg=how)
    none = table.assign(town=pd.Categorical([None] * ROWS, table["town"].cat.categories))
    for how, source in sources(none, tmp_path).items():  # a column of a CSV file that holds nothing has no type
        np.testing.assert_allclose(scores(model, source), predict(none), rtol=1e-15, err_msg=how)


@pytest.mark.parametrize("name", UNSEEN)
def test_what_xgboost_has_not_seen_is_refused_by_row(name: str, tmp_path: Path) -> None:
    path, table, predict = xgboosts(tmp_path)
    strange = table.copy()
    strange[name] = table[name].cat.set_categories([*table[name].cat.categories, UNSEEN[name]])
    strange.loc[7, name] = UNSEEN[name]
    with pytest.raises(xgb.core.XGBoostError, match="not in the training set"):
        predict(strange)
    model = formats.open(path)
    for source in sources(strange, tmp_path).values():
        with pytest.raises(InvalidData, match=rf"categories of '{name}' as .*refuses others, as .* in row 7 of"):
            rows_of(model, source)


def test_ordered_categories_are_told_where_only_one_column_can_be_theirs(tmp_path: Path) -> None:
    table = frame(KINDS)
    table["size"] = table["size"].cat.as_ordered()
    booster = lightgbm_of(table)
    model = formats.open(booster)
    assert {*model.signature.inputs[0].categories} == {*KINDS}
    np.testing.assert_allclose(scores(model, table), booster.predict(table), rtol=1e-15)
    table.insert(0, "flag", (table["age"] > 40).astype(int))  # as good a home of a list of three
    table["age"] = table["age"] / 7
    unclear = formats.open(lightgbm_of(table))
    assert unclear.signature.inputs[0].categories == {}
    with pytest.raises(InvalidData, match="takes columns of numbers, and of the frame town, size, new must be made"):
        rows_of(unclear, table)


def test_blanks_in_names_are_underscores_to_lightgbm_only(tmp_path: Path) -> None:
    plain = frame(KINDS, gaps=0)
    table = plain.rename(columns={"town": "home town", "age": "age now"})
    booster = lgb.train({"verbosity": -1, "num_threads": 1}, lgb.Dataset(table, target(plain)), 5)
    booster.save_model(tmp_path / "model.txt")
    model = formats.open(tmp_path / "model.txt")
    assert {"home_town", "age_now"} <= {*model.signature.inputs[0].columns}
    np.testing.assert_allclose(scores(model, table), booster.predict(table), rtol=1e-15)
    data = read_for(model.signature, table, slices=["home town"])
    assert data.slices["home town"].tolist() == table["home town"].tolist()
    with pytest.raises(InvalidData, match="the frame lacks age_now"):
        rows_of(model, table.rename(columns={"age now": "age-now"}))


def test_a_column_of_one_category_and_one_of_none_are_told(tmp_path: Path) -> None:
    table = frame(KINDS).assign(same=pd.Categorical(["a"] * ROWS), empty=pd.Categorical([None] * ROWS))
    booster = lightgbm_of(table)
    model = formats.open(booster)
    known = model.signature.inputs[0].categories
    assert known["same"] == ("a",) and known["empty"] == ()
    (tmp_path / "model.txt").write_bytes(booster.model_to_string().replace("\n", "\r\n").encode())
    assert formats.open(tmp_path / "model.txt").signature == model.signature
    np.testing.assert_allclose(scores(model, table), booster.predict(table), rtol=1e-15)


def test_names_that_xgboost_cuts_apart_are_not_told(tmp_path: Path) -> None:
    table = frame({"town": KINDS["town"], "size": KINDS["size"]})
    model = formats.open(xgboost_of(table))
    assert {*model.signature.inputs[0].categories} == {"size"}
    with pytest.raises(InvalidData, match="of the frame town must be made such"):
        rows_of(model, table)


def test_wrappers_keep_their_best_round_and_their_categories(tmp_path: Path) -> None:
    table = frame(ASCII)
    wrapper = xgb.XGBClassifier(n_estimators=30, early_stopping_rounds=1, learning_rate=1.0, enable_categorical=True)
    wrapper.fit(table, target(table), eval_set=[(table[:99], target(table)[:99])], verbose=False)
    model = formats.open(wrapper)
    assert model.counts["trees"] == wrapper.best_iteration + 1 < wrapper.get_booster().num_boosted_rounds()
    np.testing.assert_allclose(scores(model, table), wrapper.predict_proba(table)[:, 1], rtol=1e-6)
    words = np.where(target(table), "yes", "no")
    named = lgb.LGBMClassifier(n_estimators=3, verbosity=-1, n_jobs=1).fit(table, words)
    model = formats.open(named)
    data, _ = match(
        read_for(model.signature, table.assign(label=pd.Categorical(words)), label="label"), model.signature
    )
    np.testing.assert_array_equal(data.label_array(), target(table))


@BOTH
def test_a_column_may_be_a_feature_and_a_slice(library: Any, tmp_path: Path) -> None:
    path, table, _ = library(tmp_path)
    table = frame({**KINDS, **ASCII} if "new" in table else ASCII, gaps=0)
    model = formats.open(path)
    for how, source in sources(table, tmp_path).items():
        data = read_for(model.signature, source, slices=["town", "size", "age"])
        np.testing.assert_array_equal(data.inputs["x"], rows_of(model, table), err_msg=how)
        for name in ("town", "size", "age"):
            assert data.slices[name].tolist() == table[name].tolist(), how


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="town"), "takes 5 columns by name, and the frame lacks town"),
        (lambda t: t.assign(town=t["town"].cat.codes), "categories of 'town' as .* holds int8. Give the values"),
        (lambda t: t.assign(size=t["size"].astype(str)), "categories of 'size' as 10, 20, 30, .*string"),
        (lambda t: t.assign(age=t["town"]), "takes columns of numbers, and of the frame age must be made such"),
    ],
)  # fmt: skip
def test_columns_of_another_kind_are_refused(change: Any, says: str, tmp_path: Path) -> None:
    table = frame({**KINDS, "size": [10, 20, 30]})
    model = formats.open(lightgbm_of(table))
    with pytest.raises(InvalidData, match=says):
        rows_of(model, change(table))


def test_codes_in_an_array_are_what_they_were(tmp_path: Path) -> None:
    path, table, predict = lightgbms(tmp_path)
    coded = table.apply(lambda column: column.cat.codes.replace(-1, np.nan) if column.dtype == "category" else column)
    np.testing.assert_allclose(scores(formats.open(path), coded.to_numpy(np.float64)), predict(table), rtol=1e-15)


@pytest.mark.parametrize(
    "content", ["[[", '{"a": 1}', '["abc"]', '[[["a"]]]', "7"], ids=["cut", "mapping", "text", "nested", "number"]
)
def test_a_broken_list_of_categories_is_a_named_error(content: str, tmp_path: Path) -> None:
    path, *_ = lightgbms(tmp_path)
    head, _, _ = path.read_text().partition("pandas_categorical:")
    path.write_text(f"{head}pandas_categorical:{content}\n")
    with pytest.raises(UnsupportedModel, match="must be a whole LightGBM model"):
        formats.open(path)


@pytest.mark.parametrize(
    ("column", "change"),
    [(1, {"offsets": [0, 9, 3]}), (1, {"offsets": [0, 1]}), (1, {"values": ["a"]}), (2, {"values": 5}), (2, None)],
)
def test_broken_categories_of_xgboost_are_a_named_error(column: int, change: Any, tmp_path: Path) -> None:
    booster = xgboost_of(frame(ASCII))
    booster.save_model(tmp_path / "model.json")
    whole = json.loads((tmp_path / "model.json").read_text())
    listed = whole["learner"]["gradient_booster"]["model"]["cats"]["enc"]
    if change is None:
        del listed[column]
    else:
        listed[column].update(change)
    (tmp_path / "model.json").write_text(json.dumps(whole))
    with pytest.raises(UnsupportedModel, match="must be a whole XGBoost model"):
        formats.open(tmp_path / "model.json")


def test_models_with_other_categories_are_not_compared_on_one_table(tmp_path: Path) -> None:
    path, table, _ = lightgbms(tmp_path)
    lightgbm_of(frame({**KINDS, "town": KINDS["town"][::-1]})).save_model(tmp_path / "other.txt")
    hosted = [host(file, tmp_path / file.stem, Target(threads=1), False) for file in (path, tmp_path / "other.txt")]
    given = read_for(hosted[0].model.signature, table)
    with pytest.raises(InvalidData, match="and the other knows other categories"):
        fit(given, *hosted, tmp_path / "data")


# Labels


@pytest.mark.parametrize("suffix", ["cbm", "json"])
@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [-1, 1], ["b", "a", "c"], [10, 30, 20]],
    ids=["words", "signs", "three words", "three numbers"],
)  # fmt: skip
def test_catboosts_files_tell_what_classes_are_called(labels: list[Any], suffix: str, tmp_path: Path) -> None:
    cb = pytest.importorskip("catboost")
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    y = np.array(labels)[np.digitize(x[:, 0], [-0.3, 0.3][: len(labels) - 1])]
    settings = {"iterations": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    made = cb.CatBoostClassifier(**settings).fit(x, y)
    made.save_model(tmp_path / f"model.{suffix}", format=suffix)
    for given in (tmp_path / f"model.{suffix}", made):
        model = formats.open(given)
        assert model.signature.outputs[0].classes == tuple(made.classes_.tolist())
        data, _ = match(read_for(model.signature, (x, y)), model.signature)
        assert (made.classes_[data.label_array()] == y).all()
        with pytest.raises(InvalidData, match=r"Labels must be the model's classes, .*'other'"):
            match(read_for(model.signature, (x, np.full(60, "other"))), model.signature)


def test_labels_of_a_file_that_catboost_read_itself_are_numbers_again(tmp_path: Path) -> None:
    cb = pytest.importorskip("catboost")
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    np.savetxt(tmp_path / "rows.csv", np.column_stack([y, x]), "%g", ",")
    (tmp_path / "columns").write_text("0\tLabel\n")
    pool = cb.Pool(str(tmp_path / "rows.csv"), column_description=str(tmp_path / "columns"), delimiter=",")
    made = cb.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False, thread_count=1).fit(pool)
    model = formats.open(made)
    assert model.signature.outputs[0].classes == ("0", "1")
    for labels in (y, y.astype(str), y > 0, y.astype(np.float32)):
        data, _ = match(read_for(model.signature, (x, labels)), model.signature)
        np.testing.assert_array_equal(data.label_array(), y)


def test_words_for_classes_that_a_file_does_not_know_are_refused_by_name(tmp_path: Path) -> None:
    path, table, _ = lightgbms(tmp_path)
    model = formats.open(path)
    words = np.where(target(table), "yes", "no")
    data, _ = match(read_for(model.signature, (table, words)), model.signature)
    with pytest.raises(
        InvalidData, match=r"auroc needs labels that are the numbers .* does not tell .* first is '(yes|no)'"
    ):
        metrics.find("auroc").check({"probability": scores(model, table)}, data.label_array())
