"""Archives: what would fill memory or disk is refused before it is inflated, whatever its entries say."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from strop import _archives, formats
from strop._archives import check_expansion
from strop.errors import InvalidData, UnsupportedModel
from strop.forest import Forest
from strop.formats.forest import source_of
from strop.formats.sklearn import load
from strop.formats.torch import load_weights
from strop.model import NATIVE, Model, Signature
from strop.reading import read

ZEROS = bytes(1 << 20)


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_archives, "MOST", 1 << 16)


def bomb(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A thousand times as large as its file."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, ZEROS)
    return path


def test_a_models_archive_that_expands_too_far_is_refused(tmp_path: Path) -> None:
    library = Model(NATIVE, tmp_path / "model.so", Signature((), ()))
    bomb(tmp_path / "forest.npz", "feature.npy")
    bomb(tmp_path / "source.zip", "forest.npz")
    bomb(tmp_path / "model.skops", "schema.json", "1.npy")
    bomb(tmp_path / "model.pt2", "model/models/model.json")
    bomb(tmp_path / "weights.pt", "weights/data.pkl")
    for opening in (
        lambda: Forest.load(tmp_path / "forest.npz"), lambda: source_of(library),
        lambda: load(tmp_path / "model.skops"), lambda: formats.open(tmp_path / "model.pt2"),
        lambda: load_weights(None, tmp_path / "weights.pt"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(UnsupportedModel, match=r"may expand to 100 times its size.*expands to .* MB.*compression"):
            opening()


def test_an_archive_within_one_is_judged_by_the_file(tmp_path: Path) -> None:
    inner = bomb(tmp_path / "inner", "feature.npy")
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.write(inner, "forest.npz")
    with pytest.raises(UnsupportedModel, match=r"source\.zip .*expands to 1\.\d+ MB"):
        source_of(Model(NATIVE, tmp_path / "model.so", Signature((), ())))


def test_members_are_no_larger_than_their_entries_say(tmp_path: Path) -> None:
    """So what they say may be believed, also where checksum and size were both altered to hide the rest."""
    content = bomb(tmp_path / "source.zip", "forest.npz").read_bytes()
    true, small = (struct.pack("<L", zlib.crc32(plain)) for plain in (ZEROS, ZEROS[:100]))
    shorter = content.replace(struct.pack("<L", len(ZEROS)), struct.pack("<L", 100))
    for altered, length in ((shorter, None), (shorter.replace(true, small), 100)):
        (tmp_path / "source.zip").write_bytes(altered)
        check_expansion(tmp_path / "source.zip")
        with pytest.raises(UnsupportedModel, match=r"source\.zip must "):
            source_of(Model(NATIVE, tmp_path / "model.so", Signature((), ())))
        if length:
            with zipfile.ZipFile(tmp_path / "source.zip") as archive:
                assert len(archive.read("forest.npz")) == length


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_inflates_without_bounds_is_not_read(tmp_path: Path, method: int) -> None:
    with pytest.raises(UnsupportedModel, match="neither stored nor deflated"):
        Forest.load(bomb(tmp_path / "forest.npz", "feature.npy", method=method))
    with pytest.raises(InvalidData, match="neither stored nor deflated"):
        read(bomb(tmp_path / "data.npz", "x.npy", method=method), ["x"], storage=tmp_path / "s")


def test_members_that_lie_over_each_other_count_one_by_one(tmp_path: Path) -> None:
    path = bomb(tmp_path / "overlap.zip", "a")
    with zipfile.ZipFile(path, "a") as archive:
        (info,) = archive.infolist()
        archive.filelist += [info] * 9
        archive._didModify = True  # type: ignore[attr-defined]
    with zipfile.ZipFile(path) as archive:
        assert _archives.expanded(archive) == 10 * len(ZEROS)


def test_data_may_compress_well_and_must_fit_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "sparse.npz", x=np.zeros((1 << 17, 1)))
    assert len(read(tmp_path / "sparse.npz", ["x"], storage=tmp_path / "s")) == 1 << 17
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1 << 30, 0, 1 << 19))
    with pytest.raises(InvalidData, match=r"must fit into the disk of .*expands by 1,0[\d,]+ bytes, where 524,288"):
        read(tmp_path / "sparse.npz", ["x"], storage=tmp_path / "s")
    monkeypatch.setattr("strop._arrays.psutil.virtual_memory", lambda: type("", (), {"available": 1 << 18}))
    with pytest.raises(InvalidData, match=r"must fit into memory.*where 262,144 are free.*np\.savez"):
        read(tmp_path / "sparse.npz", ["x"])
    np.savez(tmp_path / "plain.npz", x=np.zeros((1 << 17, 1)))
    assert len(read(tmp_path / "plain.npz", ["x"])) == 1 << 17


def test_what_is_not_compressed_is_never_refused(tmp_path: Path) -> None:
    check_expansion(bomb(tmp_path / "stored.zip", "a", method=zipfile.ZIP_STORED))
