"""CatBoost's files: which are taken, and which are refused, with the reason."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catboosts import FORMAT, QUIET, RNG, cb, exported, table, trained
from strop.errors import UnsupportedModel
from strop.formats import _cityhash, _flatbuffers
from strop.testing import FormatCase


def test_what_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = table(RNG(0))
    y = x[:, 0] > 0
    with pytest.raises(UnsupportedModel, match=r"combines columns.*max_ctr_complexity=1"):
        FORMAT.open(trained("Logloss", rounds=50, max_ctr_complexity=3))
    with pytest.raises(UnsupportedModel, match=r"known to strop .* this is 'RMSEWithUncertainty'"):
        FORMAT.open(trained("RMSEWithUncertainty", categorical=False))
    words = np.array([["red", "green"][int(one)] for one in y], object)[:, None]
    for size in (1, 9):
        own = cb.CatBoost({**QUIET, "iterations": 2, "one_hot_max_size": size}).fit(words, y, cat_features=[0])
        monkeypatch.setattr(_cityhash, "MOST", 10**5)  # to be done sooner
        with pytest.raises(UnsupportedModel, match=r"whole numbers from 0 to 99,999, and of column 0, . of . are none"):
            FORMAT.open(own)
    pool = cb.Pool([[one[:2].tolist()] for one in np.nan_to_num(x)], y, embedding_features=[0])
    with pytest.raises(UnsupportedModel, match="takes texts or embeddings"):
        FORMAT.open(cb.CatBoost({**QUIET, "iterations": 2, "loss_function": "Logloss"}).fit(pool))
    empty = trained(categorical=False)
    empty.shrink(0)
    for format in ("cbm", "json"):
        empty.save_model(tmp_path / f"empty.{format}", format=format)
        with pytest.raises(UnsupportedModel, match="must have trees, and this one has none"):
            FORMAT.open(tmp_path / f"empty.{format}")


def test_what_it_detects(tmp_path: Path) -> None:
    def file(content: bytes, name: str = "file.json") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    trained().save_model(tmp_path / "model.cbm")
    assert FORMAT.detects(file((tmp_path / "model.cbm").read_bytes(), "any"))
    assert FORMAT.detects(file(b' {\n "ctr_data": {', "any")) and FORMAT.detects(str(file(b"", "a.CBM")))
    for content in (b"", b'{"learner": {}}', b"[]", b"tree\n"):
        assert not FORMAT.detects(file(content))
    for other in (tmp_path, tmp_path / "none.cbm", 3, None, np.zeros(2), object):
        assert not FORMAT.detects(other)
        with pytest.raises(UnsupportedModel, match=r"A CatBoost model is a \.cbm file"):
            FORMAT.open(other)


BREAKS: list[tuple[str, int, str, float, str]] = [
    ("shape", 0, "<i4", 0, "it has 0 outputs"),
    ("shape", 0, "<i4", 1 << 30, "it has 1073741824 outputs"),
    ("shape", 0, "<i4", 2, "it has 8 leaves, and counts of 16"),
    ("symmetric", 1, "<i4", 1 << 30, "a split is 1073741824"),
    ("symmetric", 1, "<i4", -1, "a split is -1"),
    ("symmetric", 2, "<i4", -1, "not divided among its trees"),
    ("symmetric", 2, "<i4", 99, "not divided among its trees"),
    ("symmetric", 3, "<i4", 7, "not divided among its trees"),
    ("symmetric", 8, "<f8", float("nan"), "a leaf is not finite"),
    ("symmetric", 16, "<f8", float("inf"), "a leaf is not finite"),
    ("shape", 10, "<u2", 65535, "a child is 65535"),
    ("shape", 10, "<u2", 2, "in two ways, as in a cycle"),
    ("shape", 11, "<u4", 1 << 31, "the value of a leaf is 2147483648"),
]


@pytest.mark.parametrize(("kind", "field", "dtype", "value", "said"), BREAKS)
def test_a_broken_tree_is_refused(tmp_path: Path, kind: str, field: int, dtype: str, value: float, said: str) -> None:
    """A number of the file, or the first one of a list, is changed."""
    policy = "SymmetricTree" if kind == "symmetric" else "Depthwise"
    path = FORMAT.store(FORMAT.open(trained("RMSE", rounds=2, categorical=False, grow_policy=policy)), tmp_path).path
    whole = bytearray(path.read_bytes())
    core = _flatbuffers.root(bytes(whole[8:])).table(1)
    place = core._place(field)
    assert place is not None
    at = 8 + (place if field == 0 else core.buffer.follow(place) + 4)
    if field == 11:  # of a leaf
        at += 4 * int(np.flatnonzero(core.numbers(11, "<u4") != (1 << 32) - 1)[0])
    whole[at : at + np.dtype(dtype).itemsize] = np.array(value, dtype).tobytes()
    path.write_bytes(whole)
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


EXPORT_BREAKS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("oblivious_trees", 0, "splits", 0, "split_index"), 1 << 40, "a split is 1099511627776"),
    (("oblivious_trees", 0, "splits", 0, "split_index"), 1.5, "must be a list of numbers, and is float64"),
    (("oblivious_trees", 0, "splits"), [{"split_index": 0}] * 30, "the depth of a tree is 30"),
    (("oblivious_trees", 0, "splits"), [], "do not have 4 leaves"),
    (("oblivious_trees", 0, "leaf_values"), ["a"] * 4, "and is <U1"),
    (("oblivious_trees", 0, "leaf_values"), [1, [2], 3, 4], "broken"),
    (("oblivious_trees", 0, "leaf_weights"), [1], "counts of 1"),
    (("oblivious_trees", 0), 3, "TypeError"),
    (("scale_and_bias",), [1, 0], "the bias must be a list"),
    (("scale_and_bias",), [1, [1, 2, 3]], "reshape"),
    (("features_info", "float_features", 0, "borders"), [2, 1], "must ascend"),
    (("features_info", "float_features", 0, "borders"), [float("nan")], "a threshold is NaN|a split is"),
    (("features_info", "float_features", 0, "flat_feature_index"), 1 << 60, "the column of a feature is"),
    (("features_info", "float_features", 0, "flat_feature_index"), -1, "the column of a feature is -1"),
    (("features_info", "float_features", 0, "nan_value_treatment"), "odd", "KeyError"),
    (("features_info", "categorical_features", 0, "values"), [5, 5], "a category twice"),
    (("features_info", "categorical_features", 0, "values"), [12345], "1 of 1 are none"),
    (("features_info", "ctrs"), [{"elements": [{}]}], "KeyError"),
    (("features_info",), [], "AttributeError"),
    (("model_info", "params", "loss_function", "type"), "Odd", "this is 'Odd'"),
    (("trees",), [{"left": {"value": 1}, "split": {"split_index": 0}}], "KeyError: 'right'"),
    (("trees",), [{}], "KeyError: 'value'"),
]


@pytest.mark.parametrize(("where", "value", "said"), EXPORT_BREAKS)
def test_a_broken_export_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, ...], value: Any, said: str
) -> None:
    monkeypatch.setattr(_cityhash, "MOST", 10**5)
    model = exported()
    path = tmp_path / "model.json"
    path.write_text(json.dumps(model))
    FORMAT.open(path)
    inner = model
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(model))
    with pytest.raises(UnsupportedModel, match=said):
        FORMAT.open(path)


@pytest.mark.parametrize("kind", ["cbm", "json", "statistics", "shape"])
def test_truncated_and_flipped_files_end_in_a_refusal_or_a_forest(tmp_path: Path, kind: str) -> None:
    ways = {"statistics": {"one_hot_max_size": 1}, "shape": {"grow_policy": "Lossguide", "categorical": False}}
    own = trained("Logloss", rounds=2, depth=2, **ways.get(kind, {}))
    path, rng = tmp_path / ("model.json" if kind == "json" else "model.cbm"), RNG(0)
    own.save_model(path, "json" if kind == "json" else "cbm")
    whole, x = path.read_bytes(), table(rng, 5)
    for size in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:size] or b"{")
        with pytest.raises(UnsupportedModel):
            FORMAT.open(path)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 60)):
            content[place] = rng.choice([rng.integers(256), 0, 1, 127, 255, ord("9"), ord("-"), ord("[")])
        path.write_bytes(content)
        try:
            assert len(FORMAT.forest(FORMAT.open(path)).predict(np.resize(x, (5, 4)))) == 5
        except UnsupportedModel:
            refused += 1
    assert refused > 30


def test_flatbuffers_are_read_within_their_bytes() -> None:
    vector = struct.pack("<IIHHHHi", 12, 0, 6, 8, 4, 0, 8)
    assert _flatbuffers.root(vector + struct.pack("<II", 4, 1) + b"ab").size == 6
    for content in (b"", b"abc", b"\xff" * 8, struct.pack("<Ii", 4, -1 << 31), struct.pack("<Ii", 4, 1 << 30)):
        with pytest.raises(ValueError, match="cut off"):
            _flatbuffers.root(content)
    table = struct.pack("<IHHHHi", 12, 6, 8, 4, 0, 8)  # at 12: its only field, at 16, lies 4 on
    list_of = table + struct.pack("<I", 4) + struct.pack("<I", 3) + b"abc"
    assert _flatbuffers.root(list_of).text(0) == "abc"
    assert _flatbuffers.root(list_of).text(1) == ""
    with pytest.raises(ValueError, match="lacks its field 1"):
        _flatbuffers.root(list_of).table(1)
    with pytest.raises(ValueError, match="cut off"):
        _flatbuffers.root(list_of[:-1]).text(0)
    again = _flatbuffers.root(list_of)
    with pytest.raises(ValueError, match="its parts overlap"):
        [again.text(0) for _ in range(99)]


def test_the_library_is_not_loaded(tmp_path: Path) -> None:
    FORMAT.store(FORMAT.open(trained()), tmp_path)
    code = ("import sys; from strop.formats.catboost import CatboostFormat as F; m = F().open(sys.argv[1]); "
            "F().forest(m); assert 'catboost' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.cbm"], check=True)


class TestCatboost(FormatCase):
    format = FORMAT

    def example(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        return FORMAT.store(FORMAT.open(trained()), folder).path

    def broken(self, folder: Path) -> Path:
        (folder / "model.cbm").write_bytes(b"CBM1\xff\xff\0\0 and no more")
        return folder / "model.cbm"
