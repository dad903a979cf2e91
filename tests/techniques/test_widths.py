"""Other ranges for single groups: taken where most samples lose less, and not by the doing of one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import models
from strop import formats
from strop.data import Data
from strop.nmse import nmse
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import MixedOnnx, MixedOpenvino, ToOpenvino
from strop.techniques._calibration import Step
from strop.techniques._widths import NARROW, NARROWER, WIDE, widths
from techniques.test_fit import CHANNELS, network

TARGET = Target(threads=1)
SAMPLES = [{"x": np.array([float(row)])} for row in range(8)]
RIGHT = [{"y": np.ones(1)} for _ in SAMPLES]


def losing(by: Callable[[str, float, int], float], tried: list[tuple[str, float]]) -> Callable[[str, float], Step]:
    """Steps whose answers are off by so much (as NMSE), by group, width and sample."""

    def made(group: str, width: float) -> Step:
        tried.append((group, width))
        return lambda feed: {"y": np.array([1 + by(group, width, int(feed["x"][0])) ** 0.5])}

    return made


def found(
    by: Callable[[str, float, int], float], folder: Path, until: float = math.inf
) -> tuple[dict[str, tuple[float, float]], list[tuple[str, float]]]:
    tried: list[tuple[str, float]] = []
    alone = {"a": 1.0, "b": 0.5, "c": 0.001}
    context = Context(None, None, TARGET, 0, folder)  # type: ignore[arg-type]
    made = losing(by, tried)
    return widths(alone, made, SAMPLES, RIGHT, context, until, folder / "widths.json"), tried


def test_the_best_range_is_taken_where_all_samples_lose_less(tmp_path: Path) -> None:
    result, tried = found(lambda group, width, row: 0.3 * (width if group == "a" else 1 / width), tmp_path)
    assert result == {"a": (NARROWER, pytest.approx(NARROWER)), "b": (WIDE, pytest.approx(1 / WIDE))}
    assert {group for group, _ in tried} == {"a", "b"}, "what does a thousandth of the harm is not worth it"
    again, tried = found(lambda *given: 0.0, tmp_path)
    assert again == result and not tried, "and is known from then on"


@pytest.mark.parametrize(
    "by",
    [
        lambda group, width, row: 0.0 if width == NARROW and row % 2 == 0 else 0.3,
        lambda group, width, row: 50.0 if width == 1.0 and row in (2, 3) else 0.3 + 0.01 * (width != 1.0),
        lambda group, width, row: 0.3 * (0.97 if width == WIDE else 1.0),
    ],
    ids=["only those that choose", "two samples of eight", "hardly less"],
)
def test_a_range_stays_where_it_is_not_clearly_worse(by: Any, tmp_path: Path) -> None:
    result, tried = found(by, tmp_path)
    assert result == {} and tried


def test_no_range_is_tried_after_the_time(tmp_path: Path) -> None:
    result, tried = found(lambda group, width, row: 0.1 / width, tmp_path, until=0.0)
    assert result == {} and tried == [] and not (tmp_path / "widths.json").exists()


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_wider_ranges_answer_nearly_the_same_and_narrow_ones_clip(runtime: str, tmp_path: Path) -> None:
    """Biases in integers, too, whose steps are those of what is multiplied."""
    network(tmp_path)
    model, rng = formats.open(tmp_path / "model.onnx"), np.random.default_rng(0)
    data = Data({"x": rng.uniform(0, 2, (32, CHANNELS, 9, 7)).astype(np.float32)})
    mixer: Any = MixedOnnx()
    if runtime == "openvino":
        pytest.importorskip("openvino")
        (tmp_path / "ir").mkdir()
        model, mixer = apply(ToOpenvino(), model, Context(None, model, TARGET, 0, tmp_path / "ir")), MixedOpenvino()
    parts = mixer.parts(model, Context(data, model, TARGET, 0, tmp_path / "parts", shared=tmp_path))
    feeds = [{"x": data.inputs["x"][row : row + 1]} for row in range(8)]
    rounded, exact = (dict.fromkeys(parts.members, precision) for precision in ("int8", "f32"))
    right = [parts.step(exact)(feed) for feed in feeds]

    def lost(width: float, groups: Any) -> float:
        step = parts.widened(dict.fromkeys(groups, width)).step(rounded)
        return float(np.mean([nmse(step(feed), wanted) for feed, wanted in zip(feeds, right, strict=True)]))

    assert {*parts.members} >= {*parts.ranged} and len(parts.ranged) >= 3, "each reads a value that no other does"
    learned = lost(1.0, parts.ranged)
    assert lost(2.0, parts.ranged) < 20 * learned < 0.02, "a bit less for each value"
    assert lost(0.3, parts.ranged) > 20 * learned


def test_of_a_value_that_two_groups_read_there_is_one_range(tmp_path: Path) -> None:
    proto = models.build(
        """g (float[N, 16] x) => (float[N, 16] y) {
            a = MatMul(x, wa)
            b = MatMul(x, wb)
            s = Add(a, b)
            y = MatMul(s, wc)
        }""",
        [models.weight(name, 16, 16) for name in ("wa", "wb", "wc")],
    )
    for node in proto.graph.node:
        node.name = f"layer {node.output[0]}"
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(16)})
    parts = MixedOnnx().parts(model, Context(data, model, TARGET, 0, tmp_path / "parts", shared=tmp_path))
    read = {scale for scales in parts.ranged.values() for scale in scales}  # type: ignore[attr-defined]
    assert "x_scale" not in read and "s_scale" in read
