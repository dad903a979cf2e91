from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from strop.data import Data, match, overlap, read, split
from strop.errors import InvalidData
from strop.model import Signature, Tensor

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
    with pytest.raises(InvalidData, match="'slices/kind' holds object"):
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
    with pytest.raises(InvalidData, match="holds no saved data"):
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


# Reading


def check(data: Data, labels: bool = True) -> None:
    np.testing.assert_array_equal(data.batch(0, 40)["image"], X)
    assert labels == (data.labels is not None)
    if labels:
        np.testing.assert_array_equal(data.labels, Y)


def test_names_of_a_single_input(tmp_path: Path) -> None:
    check(read({"image": X, "labels": Y, "extra": Y}, ["image"]))
    check(read({"x": X, "y": Y, "extra": Y}, ["image"]))
    check(read({"pictures": X, "label": Y}, ["image"]))
    check(read({"pictures": X, "truth": Y}, ["image"], label="truth"))
    check(read((X, Y), ["image"]))
    check(read(({"image": X}, Y), ["image"]))
    check(read(X, ["image"]), labels=False)
    data = read({"x": X, "y": Y, "sex": Y.astype(str), "user": Y * 3}, ["image"], slices=["sex"], group="user")
    assert list(data.inputs) == ["image"] and data.slices["sex"][1] == "1" and data.group_array()[1] == 3
    assert match(data, SIMPLE)[0].inputs["image"] is X


def test_several_inputs_and_a_constant() -> None:
    data = read({"ids": X, "mask": X, "sr": 16000, "labels": Y, "other": Y}, ["ids", "mask", "sr"])
    assert data.constants["sr"] == 16000 and set(data.inputs) == {"ids", "mask", "other"}


def test_an_uncompressed_npz_is_mapped_in_place(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, labels=Y, sr=np.array(3), none=np.empty((0, 2)), fortran=np.asfortranarray(X))
    data = read(tmp_path / "d.npz", ["x", "sr", "fortran"], storage=tmp_path / "unused")
    assert isinstance(data.inputs["x"], np.memmap) and data.inputs["x"].filename == tmp_path / "d.npz"
    assert data.batch(3, 7)["x"].flags.aligned
    np.testing.assert_array_equal(data.inputs["x"], X)
    np.testing.assert_array_equal(data.inputs["fortran"], X)
    np.testing.assert_array_equal(data.labels, Y)
    assert data.constants["sr"] == 3 and not (tmp_path / "unused").exists()


def test_a_file_larger_than_the_memory_is_read(tmp_path: Path) -> None:
    """Address space is no measure of a mapping, so the limit is on the heap (RLIMIT_DATA)."""
    big = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (400, 1 << 20))  # 400 MB, sparse
    big[399, 5] = 7
    big.flush()
    code = f"""
import resource
from pathlib import Path
import numpy as np
import strop.data, strop.model
resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))
try:
    np.ones(400 << 20, np.uint8)
except MemoryError:
    print("limited")
data = strop.data.read(Path({str(tmp_path / "big.npy")!r}), ["x"])
tensor = strop.model.Tensor("x", "float32", (None, 1 << 20))
data, _ = strop.data.match(data, strop.model.Signature((tensor,), ()))
parts = strop.data.split(data, 0)
parts.confirm.save(Path({str(tmp_path / "saved")!r}))
print(data.batch(398, 400)["x"].sum(), parts.search.digest() != data.digest(), len(parts.confirm))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert ran.stdout.split() == ["limited", "7.0", "True", "200"], ran.stderr
    assert sum(file.stat().st_size for file in (tmp_path / "saved").iterdir()) < 10_000


@pytest.mark.parametrize("stored", [True, False])
def test_a_compressed_npz(tmp_path: Path, stored: bool) -> None:
    np.savez_compressed(tmp_path / "d.npz", image=X, labels=Y)
    data = read(str(tmp_path / "d.npz"), ["image"], storage=tmp_path / "storage" if stored else None)
    check(data)
    assert isinstance(data.inputs["image"], np.memmap) == stored


def test_npy_and_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", X)
    check(read(tmp_path / "image.npy", ["image"]), labels=False)
    np.save(tmp_path / "labels.npy", Y)
    data = read(tmp_path, ["image"])
    check(data)
    assert isinstance(data.inputs["image"], np.memmap) and isinstance(data.labels, np.memmap)


COLUMNS = {
    "age": Y,
    "who": [f"person {k}" for k in Y],
    "height": X[:, 0],
    "ok": Y > 1,
    "label": Y,
    "day": ["m", "tu"] * 20,
}


def table(path: Path, columns: dict[str, object] = COLUMNS) -> Path:
    arrow = pa.table(columns)
    if path.suffix == ".csv":
        csv.write_csv(arrow, path)
    else:
        pq.write_table(arrow, path, row_group_size=7)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("large", [True, False])
def test_a_table_becomes_one_matrix(tmp_path: Path, suffix: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.data._LARGE", 0 if large else 1 << 20)
    columns = {**COLUMNS, "who": pa.array(COLUMNS["who"]).dictionary_encode()} if suffix == ".parquet" else COLUMNS
    path = table(tmp_path / f"t{suffix}", columns)
    data = read(path, ["features"], slices=["day"], group="who", storage=tmp_path / "storage")
    expected = np.stack([Y, X[:, 0], Y > 1], axis=1).astype(np.float32)
    np.testing.assert_allclose(data.batch(0, 40)["features"], expected, rtol=1e-6)
    assert data.inputs["features"].dtype == np.float32
    np.testing.assert_array_equal(data.labels, Y)
    assert data.slices["day"][1] == "tu" and data.group_array()[1] == "person 1"
    assert isinstance(data.inputs["features"], np.memmap) == large
    data.save(tmp_path / "saved")
    assert Data.load(tmp_path / "saved").digest() == data.digest()
    assert match(data, takes(Tensor("features", "float32", (None, 3))))[1].inputs[0].batched


def test_a_table_of_one_column_an_input(tmp_path: Path) -> None:
    data = read(table(tmp_path / "t.parquet"), ["age", "height"], label="who")
    assert list(data.inputs) == ["age", "height"] and data.inputs["age"].dtype == np.int64
    assert data.labels is not None and data.labels[3] == "person 3"
    np.testing.assert_array_equal(data.inputs["height"], X[:, 0])
    assert list(read(table(tmp_path / "t.csv"), ["age"]).inputs) == ["age"]
    matrix = read(table(tmp_path / "t.parquet"), ["x"], label="who").inputs["x"]
    assert matrix.shape == (40, 4)  # where another label is named, `label` is a column like any other


@pytest.mark.parametrize(("columns", "inputs", "options", "says"), [
    (COLUMNS, ["age", "hight"], {}, "no array or column 'hight'.*Did you mean 'height'"),
    (COLUMNS, ["x"], {"label": "lable"}, "'lable'.*Did you mean 'label'"),
    ({**COLUMNS, "age": [None, *Y[1:]]}, ["x"], {}, "'age' of .* has none in row 0"),
    ({**COLUMNS, "height": [*X[:30, 0], None, *X[31:, 0]]}, ["x"], {}, "'height' of .* has none in row 30"),
    ({"who": COLUMNS["who"], "label": Y}, ["x"], {}, "no numeric column"),
    ({**COLUMNS, "age": [[1, 2]] * 40}, ["age", "height"], {}, "'age' holds list"),
])  # fmt: skip
def test_bad_tables(tmp_path: Path, columns: dict, inputs: list[str], options: dict, says: str) -> None:
    with pytest.raises(InvalidData, match=says):
        read(table(tmp_path / "t.parquet", columns), inputs, **options)


def test_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strop_test_data.py").write_text(
        "import numpy as np\n"
        "def load(): return {'x': np.ones((12, 3)), 'labels': np.arange(12)}\n"
        "def pair(): return np.ones((12, 3)), np.arange(12)\n"
        "def fail(): raise KeyError('nothing')\n"
        "def wrong(): return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert len(read("strop_test_data:load", ["a"])) == len(read("strop_test_data:pair", ["a"])) == 12
    with pytest.raises(InvalidData, match="strop_test_data:fail failed with KeyError: 'nothing'"):
        read("strop_test_data:fail", ["a"])
    with pytest.raises(InvalidData, match="int is none of these"):
        read("strop_test_data:wrong", ["a"])
    with pytest.raises(InvalidData, match="failed with AttributeError"):
        read("strop_test_data:absent", ["a"])
    with pytest.raises(InvalidData, match="failed with ModuleNotFoundError"):
        read("strop_test_absent:load", ["a"])
    assert sys.path == before


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "plain.npz", x=X, secret=objects)
    np.savez_compressed(tmp_path / "packed.npz", x=X, secret=objects)
    for source, storage, name in [("o.npy", None, "o"), ("plain.npz", None, "secret"), ("packed.npz", None, "secret"),
                                  ("packed.npz", tmp_path / "s", "secret")]:  # fmt: skip
        with pytest.raises(InvalidData, match=f"'{name}' holds Python objects, which strop never unpickles"):
            read(tmp_path / source, ["x"], storage=storage)


def test_broken_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X)
    np.savez_compressed(tmp_path / "c.npz", x=X)
    np.save(tmp_path / "d.npy", X)
    table(tmp_path / "d.parquet")
    for name in ("d.npz", "c.npz", "d.npy", "d.parquet"):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 5, len(whole) // 2):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(InvalidData, match="can't be read as"):
                read(tmp_path / name, ["x"])
        (tmp_path / name).write_text("this is text, not data " * 20)
        with pytest.raises(InvalidData, match="can't be read as"):
            read(tmp_path / name, ["x"])
    np.savez_compressed(tmp_path / "c.npz", x=X)
    damaged = bytearray((tmp_path / "c.npz").read_bytes())
    damaged[150:160] = bytes(10)
    (tmp_path / "c.npz").write_bytes(damaged)
    with pytest.raises(InvalidData, match="can't be read as"):
        read(tmp_path / "c.npz", ["x"], storage=tmp_path / "s")
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(InvalidData, match="can't be read as"):
        read(tmp_path / "e.csv", ["x"])


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no data at"):
        read(tmp_path / "absent.npz", ["x"])
    (tmp_path / "d.txt").write_text("1 2 3")
    with pytest.raises(InvalidData, match=r"end in \.npz, \.npy, \.parquet or \.csv, and d\.txt"):
        read(tmp_path / "d.txt", ["x"])
    with pytest.raises(InvalidData, match="list is none of these"):
        read([1, 2], ["x"])
    with pytest.raises(InvalidData, match="one shape for all samples"):
        read({"x": [[1, 2], [3]]}, ["x"])
    with pytest.raises(InvalidData, match=r"'sexx'.*Did you mean 'sex'.*x, sex"):
        read({"x": X, "sex": Y}, ["x"], slices=["sexx"])


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
    ({"input": X, "sr": np.full(40, 3)}, r"takes sr.*shape \[40\]"),
    ({"input": X.reshape(2, 2, 10, 3), "sr": 3}, r"takes input.*shape \[2, 2, 10, 3\]"),
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
    ({"image": X[:, :2]}, r"shape \[40, 2\]: \[2\] is not \[3\]"),
    ({"image": X[:, None, :2]}, r"shape \[40, 1, 2\]: \[1, 2\] is not \[\?, 3\]"),
    ({"image": X[:, None, None]}, r"shape \[40, 1, 1, 3\]\. It must be \[samples, \.\.\.\] with 2 axes"),
    ({"image": X[:, 0]}, r"shape \[40\]\. It must be"),
    ({"image": np.float32(3)}, r"shape \[\]: \[\] is not \[\?, 3\]"),
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
    monkeypatch.setattr("strop.data._PIECE", 30)
    with pytest.raises(InvalidData, match="row 33"):
        match(Data({"image": bad(33, np.nan)}), SIMPLE)
    with pytest.raises(InvalidData, match="row 33"):
        match(Data({"image": bad(33, np.nan)}, rows=np.array([1, 2, 33, 4])), SIMPLE)
    match(Data({"image": bad(33, np.nan)}, rows=np.array([1, 2, 3, 4])), SIMPLE)
    monkeypatch.setattr("strop.data._CHECKED", 20)
    match(Data({"image": bad(33, np.nan)}), SIMPLE)


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
    monkeypatch.setattr("strop.data._PIECE", 50)
    a, b = Data({"x": X, "z": Y}), Data({"x": X[::-1][:10], "z": Y[::-1][:10]})
    assert overlap(b, a) == overlap(a, b) == 10
    assert overlap(a, Data({"x": X + 1, "z": Y})) == overlap(a, Data({"x": X, "z": Y + 1})) == 0
    parts = split(a, 0)
    assert overlap(parts.search, parts.confirm) == 0 and overlap(parts.search, a) == len(parts.search)


def test_saved_data_are_plain_json(tmp_path: Path) -> None:
    Data({"x": X}, Y).save(tmp_path)
    assert json.loads((tmp_path / "data.json").read_text())["arrays"]["labels"] == {"file": "1.npy"}
