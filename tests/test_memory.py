"""Memory: what a model takes over its runtime, told on models whose weights are known; and size, all that ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest

from models import build, weight
from strop import formats, runtimes
from strop.data import Data
from strop.model import Model
from strop.server import Hosted, Server
from strop.target import Target, usable_cores

WIDTH = 1536
WEIGHTS = 2 * WIDTH * WIDTH * 4  # bytes
MB = 1e6


def wide(width: int) -> onnx.ModelProto:
    return build(
        f"g (float[N, {width}] x) => (float[N, {width}] y) {{ h = MatMul(x, w1)  y = MatMul(h, w2) }}",
        [weight("w1", width, width), weight("w2", width, width)],
    )


def inline(folder: Path, width: int = WIDTH) -> Model:
    onnx.save(wide(width), folder / "model.onnx")
    return formats.open(folder / "model.onnx")


def external(folder: Path, width: int = WIDTH) -> Model:
    onnx.save_model(wide(width), folder / "model.onnx", save_as_external_data=True, location="weights.bin")
    return formats.open(folder)


def converted(folder: Path, width: int = WIDTH) -> Model:
    onnx.save(wide(width), folder / "model.onnx")
    openvino.save_model(openvino.convert_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    (folder / "model.onnx").unlink()
    return formats.open(folder)


KINDS = [inline, external, converted]
Make = Callable[..., Model]


def taken(model: Model, folder: Path, width: int, samples: int = 64) -> int:
    data = folder / "data"
    Data({"x": np.ones((samples, width), np.float32)}).save(data)
    (runtime,) = (kind for kind in runtimes.all_runtimes() if model.format in kind.loads)
    with Server(Hosted(model, runtime(), Target(threads=1)), (usable_cores()[-1],)) as server:
        return server.memory(data)


@pytest.mark.parametrize("make", KINDS)
def test_weights_are_in_there_and_the_runtime_is_not(make: Make, tmp_path: Path) -> None:
    """Weights that are packed anew for the CPU are there twice for a while, memory-mapped or not."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    nothing = taken(make(small, 4), small, 4)
    found = taken(make(large), large, WIDTH)
    assert 0 <= nothing < 20 * MB, "a bare runtime takes 50 to 80 MB"
    assert WEIGHTS < found < 3 * WEIGHTS + nothing + 10 * MB


def test_samples_are_none_of_it(tmp_path: Path) -> None:
    assert taken(inline(tmp_path, 256), tmp_path, 256, samples=40_000) < 20 * MB, "the samples are 40 MB"


@pytest.mark.parametrize("make", KINDS)
def test_size_is_every_byte_that_ships(make: Make, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a part of the model")
    model = make(tmp_path, 64)
    shipped = [file for file in tmp_path.iterdir() if file.name != "notes.txt"]
    assert {file.name for file in shipped} == {file.name for file in model.files}
    assert model.size == sum(file.stat().st_size for file in shipped) > 2 * 64 * 64 * 4
    (tmp_path / "there").mkdir()
    assert model.copy_to(tmp_path / "there").size == model.size


def test_weights_that_two_tensors_share_ship_once(tmp_path: Path) -> None:
    external(tmp_path, 64)
    proto = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    first, second = proto.graph.initializer
    del second.external_data[:]
    second.external_data.extend(first.external_data)
    onnx.save(proto, tmp_path / "model.onnx")
    model = formats.open(tmp_path)
    assert [file.name for file in model.files] == ["model.onnx", "weights.bin"]
    assert model.size == sum(file.stat().st_size for file in model.files)
