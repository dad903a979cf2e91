from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from strop import formats
from strop.data import Data, match, split
from strop.errors import InvalidData
from strop.model import Signature, Tensor
from strop.overlap import overlap
from strop.reading import read

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 4


def takes(*inputs: Tensor, outputs: tuple[Tensor, ...] = (Tensor("out", "float32", (None, 4)),)) -> Signature:
    return Signature(inputs, outputs)


SIMPLE = takes(Tensor("image", "float32", (None, 3)))


# Data


def test_a_view_holds_its_rows_only() -> None:
    data = Data({"x": X}, Y, {"s": Y + 1}, Y * 2, {"rate": np.array(16000)})
    view = data.take([5, 3, 9, 1]).take([2, 0])
    assert len(view) == 2
    np.testing.assert_array_equal(view.batch(0, 2)["x"], X[[9, 5]])
    np.testing.assert_array_equal(view.label_array(), Y[[9, 5]])
    np.testing.assert_array_equal(view.group_array(), Y[[9, 5]] * 2)
    np.testing.assert_array_equal(view.slice_arrays()["s"], Y[[9, 5]] + 1)
    assert view.batch(1, 2)["rate"].shape == () and view.inputs["x"] is X


def test_a_batch_is_fresh_contiguous_and_cast() -> None:
    stored = np.asfortranarray(RNG.integers(0, 255, (8, 4, 5), np.uint8))
    big_endian = X.astype(">f4")[:8]
    data = Data({"a": stored, "b": big_endian}, dtypes={"a": "float32", "b": "float32"})
    for view in (data, data.take(np.arange(8))):
        batch = view.batch(2, 5)
        assert all(v.flags.c_contiguous and v.flags.owndata and v.flags.writeable for v in batch.values())
        assert batch["a"].dtype == batch["b"].dtype == np.float32 and batch["b"].dtype.isnative
        np.testing.assert_array_equal(batch["a"], stored[2:5])
        np.testing.assert_array_equal(batch["b"], X[2:5])


def test_objects_are_refused_by_name() -> None:
    with pytest.raises(InvalidData, match="'kind' holds object"):
        Data({"x": X}, slices={"kind": np.array(["a", None] * 20, object)})


def test_save_and_load(tmp_path: Path) -> None:
    data = Data({"a/b": X, "c": X[:, :1]}, Y.astype(str), {"s": Y}, Y, {"k": np.array(3)}, dtypes={"c": "float64"})
    data = data.take(np.arange(30, 10, -1))
    data.save(tmp_path / "one")
    loaded = Data.load(tmp_path / "one")
    assert loaded.digest() == data.digest() and loaded.dtypes == {"c": "float64"}
    assert isinstance(loaded.inputs["a/b"], np.memmap)
    loaded.take([1, 2]).save(tmp_path / "two")  # refers to the files of the first
    assert len(list((tmp_path / "two").glob("*.npy"))) == 2  # the scalar and the rows
    again = Data.load(tmp_path / "two")
    np.testing.assert_array_equal(again.batch(0, 2)["a/b"], X[[29, 28]])
    again.save(tmp_path / "two")  # over itself
    assert Data.load(tmp_path / "two").digest() == again.digest()
    (tmp_path / "moved").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert Data.load(tmp_path / "moved" / "two").digest() == again.digest()


@pytest.mark.parametrize("part", [np.s_[:], np.s_[7:20], np.s_[3], np.s_[:, 1], np.s_[::2]])
def test_a_part_of_a_mapped_file_is_saved_as_it_is(tmp_path: Path, part: object) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = Data({"x": mapped[part]})
    data.save(tmp_path / "saved")
    np.testing.assert_array_equal(Data.load(tmp_path / "saved").inputs["x"], X[part])


def test_a_referenced_file_that_changes_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, labels=Y)
    read(tmp_path / "d.npz", ["x"]).save(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.npy"))
    Data.load(tmp_path / "saved")
    os.utime(tmp_path / "d.npz", (1, 1))
    with pytest.raises(InvalidData, match=r"d\.npz has changed"):
        Data.load(tmp_path / "saved")
    (tmp_path / "d.npz").unlink()
    with pytest.raises(InvalidData, match=r"d\.npz has gone"):
        Data.load(tmp_path / "saved")


def test_half_saved_data_are_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data({"x": X}, Y)
    data.save(tmp_path / "d")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        data.save(tmp_path / "d")
    assert [file for file in (tmp_path / "d").iterdir() if file.name.startswith(".")] == []
    with pytest.raises(InvalidData, match="holds no data that strop saved"):
        Data.load(tmp_path / "d")


def test_digest_tells_contents_apart() -> None:
    data = Data({"x": X}, Y)
    same = Data({"x": np.asfortranarray(X.astype(">f4"))}, Y.copy())
    assert data.digest() == same.digest() == data.take(np.arange(40)).digest()
    changed = X.copy()
    changed[39, 2] += 1
    different = [Data({"x": changed}, Y), Data({"z": X}, Y), Data({"x": X}), data.take(np.arange(39)),
                 data.take([1, 0, *range(2, 40)]), Data({"x": X}, (Y + 1) % 4)]  # fmt: skip
    assert len({data.digest(), *(other.digest() for other in different)}) == 7


# Matching


def fit(arrays: dict[str, object], *inputs: Tensor, **options: object) -> tuple[Data, Signature]:
    return match(read(arrays, [t.name for t in inputs]), takes(*inputs, **options))  # type: ignore[arg-type]


def test_axes() -> None:
    image = RNG.normal(size=(12, 1, 6, 6)).astype(np.float32)
    for shape, batched, fixed in [((None, 1, 6, 6), True, None), (("n", None, "h", 6), True, None),
                                  ((1, 1, 6, 6), True, 1), ((4, 1, 6, 6), True, 4),
                                  ((1, 6, 6), False, None), ((None, 6, 6), False, None)]:  # fmt: skip
        tensor = fit({"x": image}, Tensor("x", "float32", shape))[1].inputs[0]
        assert (tensor.batched, tensor.fixed_batch) == (batched, fixed), shape
    tensor = fit({"x": X[:, 0]}, Tensor("x", "float32", ()))[1].inputs[0]
    assert not tensor.batched


def test_constants() -> None:
    weights = Tensor("w", "float32", (3,))
    data, signature = fit({"x": X, "w": X[0], "sr": np.int32(3)}, Tensor("x", "float32", (None, 3)), weights,
                          Tensor("sr", "int64", ()))  # fmt: skip
    assert set(data.constants) == {"w", "sr"} and [t.batched for t in signature.inputs] == [True, False, False]
    batch = data.take([4, 5]).batch(0, 1)
    assert batch["w"].shape == (3,) and batch["sr"].shape == () and batch["sr"].dtype == np.int64
    assert match(data, signature)[1] == signature
    data, _ = match(
        read({"w": X[0], "x": X[:3], "labels": Y[:3]}, ["w", "x"]), takes(weights, Tensor("x", "float32", (None, 3)))
    )
    assert not data.constants  # three samples of one value each
    data, _ = match(read({"w": X[0], "x": X}, ["w", "x"]), takes(weights, Tensor("x", "float32", (None, 3))))
    assert set(data.constants) == {"w"} and len(data) == 40


SILERO = takes(
    Tensor("input", "float32", (None, None)), Tensor("state", "float32", (2, None, 128)), Tensor("sr", "int64", ()),
    outputs=(Tensor("output", "float32", (None, 1)), Tensor("stateN", "float32", (None, None, None))),
)  # fmt: skip


def test_state_is_found() -> None:
    sound = RNG.normal(size=(12, 7, 576)).astype(np.float32)
    data, signature = match(read({"input": sound, "sr": 16000}, ["input", "state", "sr"]), SILERO)
    assert [(t.name, t.feedback, t.batched) for t in signature.inputs] == [
        ("input", None, True), ("state", "stateN", False), ("sr", None, False)]  # fmt: skip
    assert list(data.inputs) == ["input"] and [t.name for t in signature.visible_outputs] == ["output"]
    assert match(data, signature)[1] == signature
    one_step = match(read({"input": sound[:, 0], "sr": 16000}, ["input", "sr"]), SILERO)[1]
    assert one_step == signature


def lstm(
    *outputs: str, shapes: tuple[tuple[int | None, ...], ...] = ((None, None, 9), (1, None, 5), (1, None, 5))
) -> Signature:
    state = (Tensor("h0", "float32", (1, None, 5)), Tensor("c0", "float32", (1, None, 5)))
    return takes(
        Tensor("x", "float32", (None, None, 3)),
        *state,
        outputs=tuple(Tensor(name, "float32", shape) for name, shape in zip(outputs, shapes, strict=True)),
    )


def test_states_are_told_apart_by_name() -> None:
    data = Data({"x": RNG.normal(size=(12, 4, 3)).astype(np.float32)})
    for shapes in [((None, None, 9), (1, None, 5), (1, None, 5)), ((), (), ()), ((None, None, 5),) * 3]:
        for names in (("y", "hn", "cn"), ("y", "cn", "hn")):
            states = match(data, lstm(*names, shapes=shapes))[1].states
            assert {t.name: t.feedback for t in states} == {"h0": "hn", "c0": "cn"}
    with pytest.raises(InvalidData, match=r"the input h0.*could come from any of the outputs"):
        match(data, lstm("r", "s", "t"))


@pytest.mark.parametrize(("arrays", "says"), [
    ({"input": X, "labels": Y}, "takes the input sr: int64.*have only input"),
    ({"audio": X, "sr": 3}, r"takes the input input: float32\[\?, \?\].*have only audio, sr"),
    ({"input": X, "sr": np.full(40, 3)}, r"'sr' must have the shape \[\] \(one number.*has \[40\]"),
    ({"input": X.reshape(2, 2, 10, 3), "sr": 3}, r"or with time \[samples, steps, \?\].*\[2, 2, 10"),
])  # fmt: skip
def test_what_does_not_fit_a_stateful_model(arrays: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidData, match=says):
        match(read(arrays, ["input", "state", "sr"]), SILERO)


def test_more_of_stateful_models() -> None:
    state, out = Tensor("h", "float32", (4, 5)), (Tensor("y", "float32", (4, 2)), Tensor("h_out", "float32", (4, 5)))
    with pytest.raises(InvalidData, match="one sequence at a time"):
        fit({"x": X}, Tensor("x", "float32", (4, 3)), state, outputs=out)
    two = (Tensor("a", "float32", (1, 3)), Tensor("b", "float32", (1, 3)), state)
    with pytest.raises(InvalidData, match="differ in it: a 5, b 6"):
        fit({"a": np.ones((12, 5, 3), "f4"), "b": np.ones((12, 6, 3), "f4")}, *two, outputs=out)
    with pytest.raises(InvalidData, match="takes the input b"):  # a result must be left
        fit({"a": X}, Tensor("a", "float32", (None, 3)), Tensor("b", "float32", (None, 3)),
            outputs=(Tensor("image", "float32", (None, 3)),))  # fmt: skip


@pytest.mark.parametrize(("have", "wants", "allowed"), [
    ("uint8", "float32", True), ("int16", "float32", True), ("int32", "int64", True), ("float32", "float64", True),
    ("float64", "float32", True), ("float16", "float32", True), ("bool", "float32", True),
    ("int64", "int32", False), ("int64", "float32", False), ("float32", "int32", False), ("float32", "float16", False),
    ("int8", "uint8", False), ("<U3", "float32", False),
])  # fmt: skip
def test_casts(have: str, wants: str, allowed: bool) -> None:
    array = np.ones((12, 3)).astype(have)
    if allowed:
        data, _ = fit({"x": array}, Tensor("x", wants, (None, 3)))
        assert data.batch(0, 2)["x"].dtype == wants and data.inputs["x"] is array
    else:
        with pytest.raises(InvalidData) as caught:
            fit({"x": array}, Tensor("x", wants, (None, 3)))
        assert f'data["x"] = data["x"].astype("{wants}")' in str(caught.value)


def bad(row: int, value: float) -> np.ndarray:
    array = X.copy()
    array[row, 1] = value
    return array


@pytest.mark.parametrize(("arrays", "says"), [
    ({"picture": X, "other": X}, r"takes the input image: float32\[\?, 3\], and the data have only picture, other"),
    ({"image": X[:, :2]}, r"shape \[40, 2\]: a sample is \[2\], and must be \[3\]\."),
    ({"image": X[:, None, :2]}, r"shape \[40, 1, 2\]: a sample is \[1, 2\], and must be \[\?, 3\]"),
    ({"image": X[:, None, None]}, r"must have the shape \[samples, 3\], and in the data it has \[40, 1, 1, 3\]"),
    ({"image": X[:, 0]}, r"must have the shape \[samples, 3\], and in the data it has \[40\]\. Reshape it"),
    ({"image": np.float32(3)}, r"shape \[\]: a sample is \[\], and must be \[\?, 3\]"),
    ({"image": X, "labels": Y[:39]}, "image 40, labels 39"),
    ({"image": X, "labels": np.int64(3)}, "image 40, labels 0"),
    ({"image": X[:0], "labels": Y[:0]}, "no samples"),
    ({"image": X[:0]}, "no samples"),
    ({"image": bad(7, np.nan)}, "'image' has NaN or infinity in row 7"),
    ({"image": bad(39, np.inf).astype(np.float64)}, "'image' has NaN or infinity in row 39"),
])  # fmt: skip
def test_what_does_not_fit(arrays: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidData, match=says) as caught:
        match(read(arrays, ["image"]), SIMPLE)
    assert "\n" not in str(caught.value)


def test_slices_and_groups_hold_one_value_a_sample() -> None:
    with pytest.raises(InvalidData, match=r"'s' must hold one value a sample, and has the shape \[40, 3\]"):
        match(read({"image": X, "s": X}, ["image"], slices=["s"]), SIMPLE)
    with pytest.raises(InvalidData, match="groups 39"):
        match(read({"image": X, "g": Y[:39]}, ["image"], group="g"), SIMPLE)


def test_nan_is_looked_for_in_pieces_and_in_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.data.PIECE", 30)
    with pytest.raises(InvalidData, match="row 33"):
        match(Data({"image": bad(33, np.nan)}), SIMPLE)
    with pytest.raises(InvalidData, match="row 33"):
        match(Data({"image": bad(33, np.nan)}, rows=np.array([1, 2, 33, 4])), SIMPLE)
    match(Data({"image": bad(33, np.nan)}, rows=np.array([1, 2, 3, 4])), SIMPLE)
    monkeypatch.setattr("strop.data._CHECKED", 20)
    match(Data({"image": bad(33, np.nan)}), SIMPLE)


@pytest.mark.parametrize("kind", models.KINDS)
def test_real_models(tmp_path: Path, kind: str) -> None:
    case = models.case(kind, tmp_path)
    fitted, signature = match(case.data, formats.open(case.model.path).signature)
    assert signature == case.model.signature
    assert fitted.digest() == case.data.digest()


# Splits


def rows(data: Data) -> set[int]:
    return set(data.batch(0, len(data))["x"].tolist())


@given(st.integers(10, 600), st.integers(1, 12), st.integers(0, 3), st.data())
def test_splits_are_disjoint_complete_seeded_and_stratified(
    n: int, classes: int, seed: int, draw: st.DataObject
) -> None:
    labels = np.array(draw.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    data = Data({"x": np.arange(n)}, labels)
    parts = split(data, seed)
    sets = [rows(part) for part in (parts.calibration, parts.search, parts.confirm)]
    assert set.union(*sets) == set(range(n)) and sum(map(len, sets)) == n and all(sets)
    assert len(parts.confirm) == (n + 1) // 2 and len(parts.calibration) == min(300, n // 5)
    again = split(data, seed)
    assert again.confirm.digest() == parts.confirm.digest() and again.search.digest() == parts.search.digest()
    distinct, counts = np.unique(labels, return_counts=True)
    if len(distinct) <= n / 10:
        for part in (parts.calibration, parts.search, parts.confirm):
            for value, count in zip(distinct, counts, strict=True):
                assert abs((part.label_array() == value).sum() - count * len(part) / n) <= 2.5


@given(st.lists(st.integers(1, 30), min_size=4, max_size=40), st.integers(0, 3))
def test_groups_stay_together(sizes: list[int], seed: int) -> None:
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    data = Data({"x": np.arange(len(groups))}, groups=groups)
    try:
        parts = split(data, seed)
    except InvalidData:
        largest = np.cumsum(sorted(sizes, reverse=True))
        fewest = np.searchsorted(largest, len(groups) / 2) + 1  # groups that it takes to confirm
        assert len(groups) < 10 or len(sizes) - fewest < 2
        return
    held = [set(part.group_array()) for part in (parts.calibration, parts.search, parts.confirm)]
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2] and all(held)
    assert len(parts.confirm) >= len(groups) / 2
    assert set.union(*(rows(p) for p in (parts.calibration, parts.search, parts.confirm))) == set(range(len(groups)))


def test_other_seeds_split_otherwise() -> None:
    data = Data({"x": np.arange(100)})
    assert len({split(data, seed).confirm.digest() for seed in range(5)}) == 5


def test_the_first_part_of_a_split_is_fair() -> None:
    labels = np.repeat(np.arange(4), 500)  # sorted, as in many files
    first = split(Data({"x": np.arange(2000)}, labels), 0).search.take(np.arange(80)).label_array()
    assert np.bincount(first).min() >= 18


def test_parts_that_are_handed_over() -> None:
    data, other = Data({"x": np.arange(40)}), Data({"x": np.arange(100, 120)})
    parts = split(data, 0, calibration=other)
    assert parts.calibration is other and (len(parts.confirm), len(parts.search)) == (20, 20)
    parts = split(data, 0, confirm=other)
    assert parts.confirm is other and (len(parts.calibration), len(parts.search)) == (8, 32)
    parts = split(data, 0, calibration=other, confirm=other)
    assert rows(parts.search) == set(range(40))


def test_what_can_not_be_split() -> None:
    with pytest.raises(InvalidData, match="at least 10 samples, and there are 9"):
        split(Data({"x": np.arange(9)}), 0)
    with pytest.raises(InvalidData, match="20 samples in 2 groups can't be divided"):
        split(Data({"x": np.arange(20)}, groups=np.arange(20) % 2), 0)
    split(Data({"x": np.arange(20)}, groups=np.repeat([0, 1, 2], [18, 1, 1])), 0)


def test_overlap_counts_samples_that_occur_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.overlap.PIECE", 50)
    a, b = Data({"x": X, "z": Y}), Data({"x": X[::-1][:10], "z": Y[::-1][:10]})
    assert overlap(b, a) == overlap(a, b) == 10
    assert overlap(a, Data({"x": X + 1, "z": Y})) == overlap(a, Data({"x": X, "z": Y + 1})) == 0
    parts = split(a, 0)
    assert overlap(parts.search, parts.confirm) == 0 and overlap(parts.search, a) == len(parts.search)


def test_saved_data_are_plain_json(tmp_path: Path) -> None:
    Data({"x": X}, Y).save(tmp_path)
    assert json.loads((tmp_path / "data.json").read_text())["arrays"]["labels"] == {"file": "1.npy"}


def test_slices_may_cross_and_be_protected(tmp_path: Path) -> None:
    source = {"image": X, "sex": Y, "race": Y % 3, "age": Y * 2}
    found = read(source, ["image"], slices=["age", "sex * race"], protected=["sex", "race*sex"])
    assert set(found.slices) == {"age", "sex", "race"}
    assert found.crossings == ("sex*race", "race*sex") and found.protected == ("sex", "race*sex")
    found.save(tmp_path)
    assert Data.load(tmp_path).take([0]).crossings == found.crossings
    assert Data.load(tmp_path).protected == found.protected
    again = read(Data({"image": X}, slices={"sex": Y, "race": Y}), ["image"], slices=["sex*race"], protected=["race"])
    assert (again.crossings, again.protected) == (("sex*race",), ("race",))


@pytest.mark.parametrize("name", ["sex*", "*", "sex*sex"])
def test_a_crossing_names_distinct_columns(name: str) -> None:
    with pytest.raises(InvalidData, match=r"joined by `\*`"):
        read({"image": X, "sex": Y}, ["image"], slices=[name])


@pytest.mark.parametrize("source", [{"image": X, "sex": Y}, Data({"image": X}, slices={"sex": Y})])
def test_a_crossing_of_what_is_not_there_is_refused(source: Any) -> None:
    with pytest.raises(InvalidData, match=r"no array or column 'sx'.* mean 'sex'"):
        read(source, ["image"], slices=["sx*sex"])
