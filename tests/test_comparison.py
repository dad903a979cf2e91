"""Compare: two models fitted to the same samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models import build
from strop.bundle import run_samples
from strop.comparison import fit, host
from strop.errors import InvalidData
from strop.outputs import load_outputs
from strop.reading import read
from strop.server import Hosted
from strop.target import Target


def doubling(folder: Path, given: str, made: str = "") -> Hosted:
    """A model that adds what it takes to itself, in floats of a width."""
    path = folder / f"{given}.onnx"
    made = made or given
    onnx.save(build(f"g ({given}[N, 2] x) => ({made}[N, 2] y) {{ y = Add(x, x) }}", []), path)
    return host(path, folder / given, Target(threads=1))


def test_models_in_floats_of_two_widths_each_take_and_give_their_own(tmp_path: Path) -> None:
    x = np.array([[1 + 2.0**-40, -0.0], [1e30, 0.1]])
    models = doubling(tmp_path, "float"), doubling(tmp_path, "double")
    for place, hosted in enumerate(fit(read({"x": x}, ["x"]), *models, tmp_path / "data")):
        run_samples(hosted, tmp_path / "data", tmp_path / f"{place}.npz")
        answer, own = load_outputs(tmp_path / f"{place}.npz")["y"], x.astype(("float32", "float64")[place])
        assert answer.dtype == own.dtype
        np.testing.assert_array_equal(answer, own + own)
    narrow = read({"x": x.astype(np.float32)}, ["x"])
    dtypes = [hosted.model.signature.names() for hosted in fit(narrow, *models[::-1], tmp_path / "narrow")]
    assert dtypes == [hosted.model.signature.names() for hosted in models[::-1]]


def test_what_can_not_be_cast_is_refused(tmp_path: Path) -> None:
    given = read({"x": np.ones((3, 2), np.float32)}, ["x"])
    with pytest.raises(InvalidData, match=r"takes x: float16\[N, 2\].*is float32, which can't be cast without loss"):
        fit(given, doubling(tmp_path, "float"), doubling(tmp_path, "float16"), tmp_path / "data")
    with pytest.raises(InvalidData, match=r"same inputs and outputs.*float32\[N, 2\].*int64\[N, 2\]"):
        fit(given, doubling(tmp_path, "float"), doubling(tmp_path, "int64"), tmp_path / "data")
