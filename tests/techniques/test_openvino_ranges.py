"""Ranges by channel: as wide as samples need that they were not learned from, and no wider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import models
from strop import formats
from strop.data import Data
from strop.model import Model
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import OpenvinoInt8, ToOpenvino, _openvino_ranges
from strop.techniques._openvino_graph import FAKE, is_weight, runner

pytest.importorskip("openvino")
TARGET = Target(threads=1)
CHANNELS = 16


def network(folder: Path, mean: bool = False) -> Model:
    """A convolution by channel, between two that multiply; with their mean over places, or without."""
    outputs, last = ("float[N, 8, 1, 1] z", "z = GlobalAveragePool(y)") if mean else ("float[N, 8, 8, 8] y", "")
    proto = models.build(
        f"""g (float[N, {CHANNELS}, 8, 8] x) => ({outputs}) {{
            a = Conv(x, w1)
            b = Relu(a)
            c = Conv <kernel_shape = [3, 3], group = {CHANNELS}, pads = [1, 1, 1, 1]> (b, w2)
            d = Relu(c)
            y = Conv(d, w3)
            {last}
        }}""",
        [numpy_helper.from_array(np.eye(CHANNELS, dtype=np.float32)[:, :, None, None], "w1"),
         models.weight("w2", CHANNELS, 1, 3, 3), models.weight("w3", 8, CHANNELS, 1, 1)],
    )  # fmt: skip
    onnx.save(proto, folder / "model.onnx")
    model = formats.open(folder / "model.onnx")
    (folder / "ir").mkdir()
    return apply(ToOpenvino(), model, Context(None, model, TARGET, 0, folder / "ir"))


def rare(rng: np.random.Generator, count: int) -> Any:
    """Channels that are active in one sample of eight, each as much as another."""
    found = rng.uniform(0.5, 1, (count, CHANNELS, 8, 8)) * (rng.random((count, CHANNELS, 1, 1)) < 1 / 8)
    return (found * rng.uniform(0.05, 1, (count, CHANNELS, 1, 1)) ** 2).astype(np.float32)


def unlike(rng: np.random.Generator, count: int) -> Any:
    """Channels that are always active, each in a range of its own."""
    return (rng.uniform(0, 1, (count, CHANNELS, 8, 8)) * np.logspace(-3, 0, CHANNELS)[:, None, None]).astype(np.float32)


def quantized(model: Model, data: Any, folder: Path) -> Any:
    return OpenvinoInt8().grouped(model, Context(Data({"x": data}), model, TARGET, 0, folder / "made"))


def widths(grouped: Any) -> list[Any]:
    """Of each rounding by channel, the widths of its ranges."""
    rounds = (node for node in grouped.graph.get_ordered_ops() if node.get_type_name() == FAKE)
    known = [
        [rounding.input_value(place).get_node().data.ravel() for place in (1, 2, 3, 4)]
        for rounding in rounds if not is_weight(rounding.output(0)) and rounding.input_value(2).get_node().data.size > 1
    ]  # fmt: skip
    assert all(np.array_equal(low, one) and np.array_equal(high, two) for low, high, one, two in known)
    return [high - low for low, high, *_ in known]


def test_channels_that_are_rarely_active_get_wider_ranges_and_new_samples_lose_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rng = network(tmp_path), np.random.default_rng(0)
    seen, fresh = rare(rng, 32), rare(rng, 32)
    wide = quantized(model, seen, tmp_path / "wide")
    monkeypatch.setattr("strop.techniques.quantize_openvino.widen", lambda *given: None)
    learned = quantized(model, seen, tmp_path / "learned")
    (before,), (after,) = widths(learned), widths(wide)
    assert (after >= before - 1e-6).all() and after.min() >= 0.49 * after.max() > 2 * before.min()
    exact = wide.mixed(dict.fromkeys(wide.members, "f32"))
    right, *answers = (
        np.array([runner(graph, 1)({"x": one[None]})["y"] for one in fresh])
        for graph in (exact, learned.throughout(), wide.throughout())
    )
    lost = [np.square(answer - right).sum() for answer in answers]
    assert lost[1] < 0.5 * lost[0] < 0.1 * np.square(right).sum()


def test_channels_that_are_always_active_keep_their_own_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = network(tmp_path), np.random.default_rng(0)
    seen = unlike(rng, 32)
    (after,) = widths(quantized(model, seen, tmp_path / "wide"))
    monkeypatch.setattr("strop.techniques.quantize_openvino.widen", lambda *given: None)
    (before,) = widths(quantized(model, seen, tmp_path / "learned"))
    assert after.min() < 0.1 * after.max() and (after <= max(1.01 * before.max() / 16, 0) + before).all()


def test_where_outputs_are_means_of_what_was_rounded_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rng = network(tmp_path, mean=True), np.random.default_rng(0)
    seen, fresh = unlike(rng, 32), unlike(rng, 32)
    wide = quantized(model, seen, tmp_path / "wide")
    asked = _openvino_ranges._wider
    monkeypatch.setattr(_openvino_ranges, "_wider", lambda *given: asked(*given[:-1], 0.0))  # time has ended
    own = quantized(model, seen, tmp_path / "own")
    (found,), (other,) = widths(wide), widths(own)
    assert np.ptp(found) == 0 and other.min() < 0.1 * other.max()
    exact, *answers = (
        np.array([runner(graph, 1)({"x": one[None]})["z"] for one in fresh])
        for graph in (wide.mixed(dict.fromkeys(wide.members, "f32")), wide.throughout(), own.throughout())
    )
    lost = [np.square(answer - exact).sum() for answer in answers]
    assert lost[0] < lost[1]


@pytest.mark.parametrize("case", ["dead", "one", "late"])
def test_dead_channels_single_samples_and_ended_time_leave_ranges_that_hold(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rng = network(tmp_path), np.random.default_rng(0)
    seen = rare(rng, 1 if case == "one" else 16)
    if case == "dead":
        seen[:, :4] = 0
    if case == "late":
        monkeypatch.setattr(_openvino_ranges, "TIME", 0.0)
    (found,) = widths(quantized(model, seen, tmp_path))
    assert np.isfinite(found).all()
    if case == "dead":
        assert (found[:4] == found.max()).all(), "of which nothing is known"
