from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from strop._arrays import Matrix
from strop.data import Data, match
from strop.errors import InvalidData
from strop.model import Signature, Tensor
from strop.reading import read

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 4


def takes(*inputs: Tensor, outputs: tuple[Tensor, ...] = (Tensor("out", "float32", (None, 4)),)) -> Signature:
    return Signature(inputs, outputs)


SIMPLE = takes(Tensor("image", "float32", (None, 3)))


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
import strop.data, strop.model, strop.reading
resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))
try:
    np.ones(400 << 20, np.uint8)
except MemoryError:
    print("limited")
data = strop.reading.read(Path({str(tmp_path / "big.npy")!r}), ["x"])
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
    monkeypatch.setattr("strop._arrays._LARGE", 0 if large else 1 << 20)
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


def test_what_nothing_reads_of_a_source_is_known(tmp_path: Path) -> None:
    """Of a table what is no number, or where the model names columns no such one; of arrays what is no input."""
    path = table(tmp_path / "t.parquet", {"a": Y, "b": Y, "kind": COLUMNS["who"], "day": COLUMNS["day"]})
    assert read(path, ["x"]).unread == ("kind", "day")
    assert read(pq.read_table(path), ["x"], label="kind", slices=["day"]).unread == ()
    assert read(path, ["x"], matrix=Matrix(("a",))).unread == ("b", "kind", "day")
    given = read({"x": X, "labl": Y, "version": np.array(3)}, ["x"])
    assert match(given, takes(Tensor("x", "float32", (None, 3))))[0].unread == ("labl",)


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
    ({**COLUMNS, "age": [["a", "b"]] * 40}, ["age", "height"], {}, "'age' holds list"),
    ({**COLUMNS, "age": [[[1, 2]]] * 40}, ["age", "height"], {}, "'age' holds list<.*list"),
    ({**COLUMNS, "age": [*[[1, 2]] * 30, [1], *[[1, 2]] * 9]}, ["age"], {},
     "one length, and those of 'age' .* have 2 numbers in the first row and 1 in row 30. Pad or cut"),
    ({**COLUMNS, "age": [*[[1, 2]] * 30, [1, None], *[[1, 2]] * 9]}, ["age"], {}, "'age' .* lacks a number in row 30"),
    ({**COLUMNS, "age": [*[[1, 2]] * 30, None, *[[1, 2]] * 9]}, ["age"], {}, "'age' of .* has none in row 30"),
    ({**COLUMNS, "age": [None, *[[1, 2]] * 39]}, ["age"], {}, "'age' of .* has none in row 0"),
])  # fmt: skip
def test_bad_tables(tmp_path: Path, columns: dict, inputs: list[str], options: dict, says: str) -> None:
    with pytest.raises(InvalidData, match=says):
        read(table(tmp_path / "t.parquet", columns), inputs, **options)


NAMING = Matrix(("age", "height"), "float64", missing=True)


@pytest.mark.parametrize(("column", "says"), [
    (["a", "b"] * 20, "must be made such, from string. If they are"),
    (pa.array(["a", None] * 20).dictionary_encode(), "age must be made such, from dictionary<.*its place among"),
    ([[1.0]] * 40, "age must be made such, from list"),
    (["2020-01-01"] * 40, "age must be made such, from"),
])  # fmt: skip
def test_a_column_that_a_model_names_holds_numbers(tmp_path: Path, column: object, says: str) -> None:
    with pytest.raises(InvalidData, match=says):
        read(table(tmp_path / "t.parquet", {**COLUMNS, "age": column}), ["x"], matrix=NAMING)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_column_that_is_empty_is_missing(tmp_path: Path, suffix: str) -> None:
    path = table(tmp_path / f"t{suffix}", {**COLUMNS, "age": pa.nulls(40)})
    found = read(path, ["x"], matrix=NAMING).inputs["x"]
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_allclose(found[:, 1], X[:, 0], rtol=1e-6)
    with pytest.raises(InvalidData, match="age must be made such, from null"):
        read(path, ["x"], matrix=Matrix(("age", "height")))


def test_a_frame_that_is_no_table_is_told() -> None:
    twice = pd.DataFrame(np.zeros((20, 2)), columns=["a", "a"])
    with pytest.raises(InvalidData, match=r"distinct names.*Duplicate column names.*Rename or convert"):
        read(twice, ["x"])
    with pytest.raises(InvalidData, match="Conversion failed for column a"):
        read(pd.DataFrame({"a": [1j] * 20, "b": 1.0}), ["x"])


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


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("large", [True, False])
def test_a_column_of_lists_is_an_array(
    tmp_path: Path, fixed: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strop._arrays._LARGE", 0 if large else 1 << 20)
    ids = RNG.integers(0, 99, (40, 5)).astype(np.int32)
    lists = pa.array(ids.tolist(), pa.list_(pa.int32(), 5) if fixed else pa.list_(pa.int32()))
    path = table(tmp_path / "t.parquet", {"ids": lists, "length": Y.astype(np.float32), "label": Y})

    data = read(path, ["ids", "length"], storage=tmp_path / "s")
    np.testing.assert_array_equal(data.batch(0, 40)["ids"], ids)
    assert data.inputs["ids"].dtype == np.int32 and data.inputs["length"].shape == (40,)
    assert isinstance(data.inputs["ids"], np.memmap) == large

    matrix = read(path, ["features"], storage=tmp_path / "s").batch(0, 40)["features"]
    np.testing.assert_array_equal(matrix, np.concatenate([ids, Y[:, None]], axis=1).astype(np.float32))

    alone = read(path, ["tokens"], slices=["length"], storage=tmp_path / "s").inputs["tokens"]
    np.testing.assert_array_equal(alone, ids)
    assert alone.dtype == np.int32, "a column of lists alone is the input, as it is"

    table(path, {"a": Y, "x": lists})
    np.testing.assert_array_equal(read(path, ["tokens"]).inputs["tokens"], ids)


def test_lists_that_start_inside_another_array_are_read_right(tmp_path: Path) -> None:
    """Batches are slices, whose offsets do not begin at zero."""
    values = RNG.normal(size=(200_000, 2)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(values.ravel(), 2)
    pq.write_table(pa.table({"x": lists.cast(pa.list_(pa.float32()))}), tmp_path / "t.parquet")
    np.testing.assert_array_equal(read(tmp_path / "t.parquet", ["x"]).inputs["x"], values)


def test_a_csv_is_read_in_parts_as_it_would_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "n,later_float,later_text,said,flag",
        '9007199254740993,1,1,"one, and\nmore",true',
        '2,2,2,"a ""quoted"" word",false',
        "3,2.5,x,plain,true",
        "-4,1e3,y,plain,false",
    ]
    (tmp_path / "d.csv").write_text("\r\n".join(rows) + "\r\n")

    def columns() -> dict[str, np.ndarray]:
        names = ["n", "later_float", "later_text", "said", "flag"]
        return {name: read(tmp_path / "d.csv", names).inputs[name] for name in names}

    whole = columns()
    for piece in (1, 7, 30, 60):
        monkeypatch.setattr("strop._tables.PIECE", piece)
        for name, array in columns().items():
            np.testing.assert_array_equal(array, whole[name])
            assert array.dtype == whole[name].dtype, (piece, name)
    assert [array.dtype.kind for array in whole.values()] == ["i", "f", "U", "U", "b"]
    assert whole["n"][0] == 9007199254740993 and whole["said"][0] == "one, and\nmore"
    assert list(whole["later_text"]) == ["1", "2", "x", "y"] and list(whole["later_float"]) == [1, 2, 2.5, 1000]


@pytest.mark.parametrize(("content", "says"), [
    ("a,b\n1,2\n3\n", "can't be read as"), ("a,b\n", "no samples"), ("a,b\n1,2\n3,\n", "'b' of .* has none in row 1"),
    ("a,a\n1,2\n", "distinct names"), ("a,b\n1,x\n", None),
])  # fmt: skip
@pytest.mark.parametrize("piece", [1, 1 << 24])
def test_bad_csv(tmp_path: Path, content: str, says: str | None, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop._tables.PIECE", piece)
    (tmp_path / "d.csv").write_text(content)
    if says is None:
        assert list(read(tmp_path / "d.csv", ["x"]).inputs["x"]) == [[1]]
        return
    with pytest.raises(InvalidData, match=says):
        match(read(tmp_path / "d.csv", ["a", "b"]), takes(Tensor("a", "int64", (None,)), Tensor("b", "int64", (None,))))


def test_a_csv_larger_than_the_memory_is_read(tmp_path: Path) -> None:
    """60 MB of text; pieces are made smaller in proportion."""
    line = ",".join(f"{k}.1234567" for k in range(100, 170)) + "\n"
    with (tmp_path / "d.csv").open("w") as stream:
        stream.write(",".join(f"c{k}" for k in range(69)) + ",label\n")
        for _ in range(200):
            stream.write(line * 400)
    code = f"""
from pathlib import Path
import pyarrow, pyarrow.csv
import strop._tables, strop.reading
strop._tables.PIECE = 1 << 20
data = strop.reading.read(Path({str(tmp_path / "d.csv")!r}), ["x"], storage=Path({str(tmp_path / "s")!r}))
private = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
print(data.inputs["x"].shape, data.inputs["x"][79_999, 0], pyarrow.default_memory_pool().max_memory(), private * 1024)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    *shape, first, parsed, private = ran.stdout.split()
    assert " ".join(shape) == "(80000, 69)" and abs(float(first) - 100.1234567) < 1e-4, ran.stderr
    size = (tmp_path / "d.csv").stat().st_size
    assert int(parsed) < size / 8, "what pyarrow held at its peak"
    assert int(private) < 300 << 20, "the libraries themselves take a good part of it"


def test_a_table_without_a_label_says_what_it_has(tmp_path: Path) -> None:
    signature = takes(Tensor("features", "float32", (None, 3)))
    path = table(tmp_path / "t.csv", {"a": Y, "b": Y, "c": Y, "kind": Y})
    with pytest.raises(InvalidData, match=r"3 numbers a sample.*one more: 4 columns.*a, b, c, kind.*label=NAME"):
        match(read(path, ["features"]), signature)
    fitted = match(read(path, ["features"], label="kind"), signature)[0]
    assert fitted.inputs["features"].shape == (40, 3) and fitted.labels is not None
    path = table(tmp_path / "u.csv", {"a": Y, "b": Y, "c": Y, "kind": Y, "sex": Y})
    with pytest.raises(
        InvalidData, match=r"5 columns of numbers \(a, b, c, kind, sex\).*stacked in the order.*label, slices and group"
    ):
        match(read(path, ["features"]), signature)
    block = pa.array([[1.0, 2.0, 3.0]] * 40, pa.list_(pa.float32(), 3))
    path = table(tmp_path / "v.parquet", {"block": block, "kind": Y})
    with pytest.raises(InvalidData, match=r"has 2 columns of numbers \(block, kind\)|one more: .*block, kind"):
        match(read(path, ["features"]), signature)
    assert match(read(path, ["features"], label="kind"), signature)[0].inputs["features"].shape == (40, 3)


def _npy(header: str, version: bytes = b"\x01\x00") -> bytes:
    size = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + header.encode() + X.tobytes()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (40, 3)}"


def test_version_3_of_npy_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.npy").write_bytes(_npy(HEADER, b"\x03\x00"))
    np.testing.assert_array_equal(read(tmp_path / "d.npy", ["x"]).inputs["x"], X)


@pytest.mark.parametrize("header", [HEADER.replace("40", "True"), "(" * 400, HEADER[:-1] + "'''", "\0" + HEADER])
def test_a_damaged_header_is_told(tmp_path: Path, header: str) -> None:
    (tmp_path / "d.npy").write_bytes(_npy(header))
    with pytest.raises(InvalidData, match=r"d\.npy"):
        read(tmp_path / "d.npy", ["x"])


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_damaged_compression_is_told(tmp_path: Path, method: int) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", _npy(HEADER))
    raw = bytearray(path.read_bytes())
    raw[60:200] = b"\xff" * 140
    path.write_bytes(raw)
    for storage in (None, tmp_path / "storage"):
        with pytest.raises(InvalidData, match=r"d\.npz can't be read as \.npz"):
            read(path, ["x"], storage=storage)


def test_encrypted_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=X)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(InvalidData, match="must not be encrypted"):
        read(path, ["x"])


def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": X[:, 0]}), tmp_path / "d.parquet")
    raw = bytearray((tmp_path / "d.parquet").read_bytes())
    raw[-60:-8] = b"\xff" * 52
    (tmp_path / "d.parquet").write_bytes(raw)
    with pytest.raises(InvalidData, match=r"d\.parquet can't be read"):
        read(tmp_path / "d.parquet", ["x"])


def test_a_pipe_is_no_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.npy")
    for source in (tmp_path, tmp_path / "d.npy"):
        with pytest.raises(InvalidData, match="regular files"):
            read(source, ["x"])
