"""A compiled forest gives what NumPy gives, to the last bit of its sums, on every way through the trees."""

from __future__ import annotations

import io
import platform
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forests import edges, grown
from strop.errors import RunFailed, UnsupportedModel
from strop.forest import LINKS, Forest
from strop.native import library, tables
from strop.native.library import FLAGS, Library, build, compiler, write_source
from strop.target import instruction_sets

RNG = np.random.default_rng
pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

WAYS = {
    "steps": {"PER_ABREAST": 0.0, "PER_TREE": 0.0, "PER_THRESHOLD": 0.0, "PER_SPLIT": 1e9},
    "slices": {"PER_CONDITION": 0.0, "PER_SUBSET": 0.0, "PER_SPLIT": 0.0, "PER_TREE_OF_BLOCK": 0.0},
    "walk": {"PER_ABREAST": 1e9, "PER_TREE": 1e9, "PER_SPLIT": 1e9},
}


def compiled(forest: Forest, folder: Path) -> Library:
    folder.mkdir(parents=True, exist_ok=True)
    write_source(forest, folder)
    build(folder, folder / "model.so")
    return Library(folder / "model.so", forest.dtype, forest.sums, forest.width)


FORESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "of float32": {"dtype": "float32", "sums": "float32", "link": "sigmoid"},
    "of float32 summed in float64": {"dtype": "float32", "link": "sigmoid of two", "divisor": 5.0},
    "zero is missing": {"zero_missing": 0.5, "leaves": 40},
    "categories": {"subsets": 0.5, "zero_missing": 0.2, "leaves": 40, "features": 3},
    "categories of float32": {"subsets": 0.7, "leaves": 30, "dtype": "float32", "sums": "float32"},
    "several outputs": {"outputs": 3, "trees": 9, "link": "softmax"},
    "leaves of several values": {"outputs": 4, "vectors": True, "divisor": 5.0},
    "many outputs": {"outputs": 130, "trees": 130, "leaves": 3},
    "many leaves": {"leaves": 250, "trees": 20},
    "more leaves than a byte counts": {"leaves": 700, "trees": 3},
    "deep": {"leaves": 61, "deep": True, "trees": 9},
    "a tree": {"trees": 1},
    "trees without a split": {"leaves": 1, "trees": 3},
    "none": {"trees": 0},
    "nothing counted": {"counted": False, "leaves": 30},
    "one feature": {"features": 1, "leaves": 100, "trees": 17},
}


@pytest.mark.parametrize("name", FORESTS)
@pytest.mark.parametrize("way", WAYS)
def test_equals_numpy_on_every_way(name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in WAYS[way].items():
        monkeypatch.setattr(tables, constant, value)
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-O1"))  # a third of the time; -O3 is for other tests
    rng = RNG(hash_of(name))
    forest = grown(rng, **FORESTS[name])
    made = tables.tables(forest).constants
    if way == "walk" and made["CONDITIONS"]:
        assert (made["WALK"], made["SLICES"]) == (1, 0)
    if way == "steps" and forest.trees:
        assert (made["STEPS"], made["SLICES"]) == (1, 0)
    if way == "slices" and forest.trees:
        assert made["SLICES"] == (FORESTS[name].get("leaves", 12) <= 256)
    found = compiled(forest, tmp_path)
    x = edges(rng, forest, 1100)
    expected = forest.predict(x)
    for rows in (x, x[:3], x[:1], x[:0], x[:513]):
        result = found(rows)
        assert result.shape == expected[: len(rows)].shape
        if forest.link in ("identity",):
            np.testing.assert_array_equal(result, expected[: len(rows)])
        else:  # the exponential of C and of NumPy differ in the last bit, and 1 - p in the last of 1
            exact = forest.sums == "float64"
            near = {"rtol": 1e-15, "atol": 2.3e-16} if exact else {"rtol": 5e-7}
            np.testing.assert_allclose(result, expected[: len(rows)], **near)


def hash_of(name: str) -> int:
    return sum(map(ord, name))


@pytest.mark.parametrize("link", LINKS)
def test_every_link(link: str, tmp_path: Path) -> None:
    forest = grown(RNG(1), outputs=1 if "sigmoid" in link else 2, trees=6, link=link, scale=0.7)
    if link == "shares":
        forest = replace(forest, values=np.abs(forest.values), base=np.zeros(2))
    x = edges(RNG(2), forest, 50)
    np.testing.assert_allclose(compiled(forest, tmp_path)(x), forest.predict(x), rtol=1e-14)


@pytest.mark.parametrize(
    ("way", "most", "integer"),
    [("steps", 100, "int8"), ("slices", 30_000, "int16"), ("walk", 10**6, "int32"), ("slices", 2**40, None)],
)
def test_leaves_on_a_grid_are_integers(
    way: str, most: int, integer: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant, value in WAYS[way].items():
        monkeypatch.setattr(tables, constant, value)
    rng, step = RNG(9), 2.0**-20
    forest = grown(rng, outputs=2, trees=30, vectors=way == "walk")
    multiples = rng.integers(-most, most + 1, forest.values.shape)
    multiples.flat[0] = most
    on_grid = replace(forest, values=multiples * step, base=np.array([5 * step, 0.0]), step=step).check()
    made = tables.tables(on_grid)
    assert made.constants.get("INTEGER") == (f"{integer}_t" if integer else None)
    assert len(made.content) < len(tables.tables(replace(on_grid, step=0.0)).content) or integer is None
    x = edges(rng, on_grid, 1100)
    found = compiled(on_grid, tmp_path)
    for rows in (x, x[:1], x[:5]):
        np.testing.assert_array_equal(found(rows), on_grid.predict(rows))  # whole sums are exact, in float64 too


def test_a_base_off_the_grid_is_rounded_once(tmp_path: Path) -> None:
    forest = grown(RNG(10), trees=30)
    values = np.round(forest.values * 1000) / 1024
    on_grid = replace(forest, values=values, base=np.array([0.1]), step=2.0**-10).check()
    x = edges(RNG(11), on_grid, 100)
    exact = 0.1 + values[on_grid.leaf[on_grid.leaves(x)], 0].sum(axis=1)
    np.testing.assert_array_equal(compiled(on_grid, tmp_path)(x), exact)
    np.testing.assert_allclose(exact, on_grid.predict(x), rtol=0, atol=30 * np.spacing(np.abs(values).max() * 30))


def test_no_row_is_copied_and_nothing_is_needed_at_run_time(tmp_path: Path) -> None:
    forest = grown(RNG(3))
    found = compiled(forest, tmp_path)
    x = np.zeros((5, 4))
    call, out = found.bind(x)
    call()
    before = out.copy()
    x[:] = edges(RNG(4), forest, 5)
    call()
    assert np.array_equal(out, forest.predict(x)) and not np.array_equal(out, before)
    needed = subprocess.run(["ldd", tmp_path / "model.so"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[0].split(".so")[0].split("/")[-1] for line in needed.splitlines()} <= {
        "linux-vdso", "libm", "libc", "ld-linux-x86-64", "ld-linux-aarch64"
    }  # fmt: skip


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines have one kind of code")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_compiled_for_older_machines_gives_the_same(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forest = grown(RNG(12), leaves=60, trees=40, subsets=0.1, zero_missing=0.2, dtype=dtype, sums=dtype)
    x = edges(RNG(13), forest, 1100)
    expected = forest.predict(x)
    write_source(forest, tmp_path)
    source = (tmp_path / "forest.c").read_text()
    assert source.count("FASTEST static") == 2
    (tmp_path / "forest.c").write_text(source.replace("FASTEST static", "static"))
    for level in ("x86-64", *(["x86-64-v3"] if "avx2" in instruction_sets() else [])):
        monkeypatch.setattr(library, "FLAGS", (*FLAGS, f"-march={level}"))
        build(tmp_path, tmp_path / f"{level}.so")
        found = Library(tmp_path / f"{level}.so", dtype, dtype, None)
        assert np.array_equal(found(x), expected)
        assert np.array_equal(found(x[:1]), expected[:1])


def test_one_row_may_be_of_any_type_and_its_result_is_its_own(tmp_path: Path) -> None:
    forest = grown(RNG(3))
    found = compiled(forest, tmp_path)
    x = np.round(RNG(4).normal(size=(9, 8)) * 4)
    expected = forest.predict(np.ascontiguousarray(x[:, ::2]))
    kept = [found(row) for row in x[:, None, ::2]]  # not contiguous
    assert np.array_equal(np.concatenate(kept), expected)
    whole = x[:, ::2].astype(np.int32)
    whole.flags.writeable = False
    assert np.array_equal(np.concatenate([found(whole[k : k + 1]) for k in range(9)]), expected)


def test_a_program_in_c_and_several_threads_can_call_it(tmp_path: Path) -> None:
    forest = replace(grown(RNG(5), leaves=60, trees=40), names=("age", "*/ evil \\", "/*c", "d\n"))
    found = compiled(forest, tmp_path)
    x = edges(RNG(6), forest, 3000)
    expected, wrong = forest.predict(x), []

    def again() -> None:
        for rows in [
            *(slice(place, None, 7) for place in range(20)),
            *(slice(place, place + 1) for place in range(300)),
        ]:
            wrong.extend([rows] if not np.array_equal(found(x[rows]), expected[rows]) else [])

    threads = [threading.Thread(target=again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    x[:2].tofile(tmp_path / "rows")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "forest.h"\n'
        "int main(void) { double x[2 * STROP_FEATURES], out[2 * STROP_RESULTS];"
        'FILE *rows = fopen("rows", "rb"); if (fread(x, sizeof x, 1, rows) != 1) return 1;'
        'strop_predict(x, 2, out); printf("%.17g %.17g\\n", out[0], out[1]); return 0; }'
    )
    command = [compiler(), "-Wall", "-Werror", "main.c", "./model.so", "-lm", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert [*map(float, said.split())] == expected[:2].tolist()


@pytest.mark.parametrize("settings", [
    {"scale": "1\n#include </etc/passwd>"}, {"divisor": "1; int x"}, {"features": "4}; int x; enum { A"},
    {"scale": True}, {"scale": float("inf")}, {"features": 4.5}, {"names": "abcd"}, {"names": None}, {"rows": 3},
])  # fmt: skip
def test_a_forest_from_elsewhere_brings_no_words_into_c(tmp_path: Path, settings: dict[str, Any]) -> None:
    replace(grown(RNG(5), link="sigmoid"), **settings).save(tmp_path / "forest.npz")
    with pytest.raises(UnsupportedModel, match=r"forest\.npz must be .* broken|this one is broken"):
        Forest.load(tmp_path / "forest.npz")


def test_a_damaged_forest_is_told(tmp_path: Path) -> None:
    file = tmp_path / "forest.npz"
    grown(RNG(5)).save(file)
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez_compressed(file, **arrays)  # so that what decompresses meets the damage
    whole, random, refused = file.read_bytes(), RNG(6), 0
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        try:
            Forest.read(io.BytesIO(damaged), file)
        except UnsupportedModel:
            refused += 1
    assert refused > 20


def test_what_cannot_be_built_or_loaded_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forest = grown(RNG(7))
    found = compiled(forest, tmp_path)
    with pytest.raises(RunFailed, match="4 columns"):
        found(np.zeros((2, 3)))
    with pytest.raises(RunFailed, match="signature"):
        Library(tmp_path / "model.so", "float64", "float64", 3)
    for kinds in (("float32", "float64"), ("float64", "float32")):  # it would read or write beyond the arrays
        with pytest.raises(RunFailed, match="signature"):
            Library(tmp_path / "model.so", *kinds, None)
    (tmp_path / "broken.so").write_bytes(b"\x7fELF")
    with pytest.raises(RunFailed, match="Build it again"):
        Library(tmp_path / "broken.so", "float64", "float64", None)
    (tmp_path / "tables.h").write_text("#error no tables\n")
    with pytest.raises(RunFailed, match="no tables"):
        build(tmp_path, tmp_path / "other.so")
    monkeypatch.setattr(library, "COMPILERS", ())
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(RunFailed, match="Install gcc"):
        build(tmp_path, tmp_path / "other.so")
