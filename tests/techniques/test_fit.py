"""Fitted weights: what a layer reads is what its runtime reads, integers lose less than the nearest, floats stay."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import models
from strop import formats
from strop.data import Data
from strop.nmse import nmse
from strop.runtime import Array
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import MixedOnnx, MixedOpenvino, OpenvinoInt8, StaticInt8, ToOpenvino, _fit
from strop.techniques import _onnx_fit as for_onnx
from strop.techniques import _openvino_fit as for_openvino
from strop.techniques._calibration import Step
from strop.techniques._fit import Layer, fitted
from strop.techniques._onnxruntime import runner
from strop.techniques._rounding import Grid, bf16, factored, halves, integers, loss, rounded

TARGET = Target(threads=1)
CHANNELS = 8


def correlated(rng: np.random.Generator, groups: int, rows: int, inputs: int) -> Array:
    """As what comes out of a layer with a Relu: of few directions, and never below 0."""
    few = rng.normal(size=(groups, rows, 4)) @ rng.normal(size=(groups, 4, inputs))
    found: Array = np.maximum(few + 0.3 * rng.normal(size=(groups, rows, inputs)) + 0.5, 0)
    return found


def nearest(grid: Grid, weights: Array) -> Array:
    return grid(weights, np.tile(np.arange(weights.shape[2]), (len(weights), 1)))


@pytest.mark.parametrize(("groups", "outputs", "inputs", "most"), [(1, 12, 200, 64), (6, 1, 9, 64), (2, 3, 70, 7)])
def test_integers_lose_less_than_the_nearest_and_keep_to_their_limits(
    groups: int, outputs: int, inputs: int, most: int
) -> None:
    rng = np.random.default_rng(0)
    weights, read = rng.normal(size=(groups, outputs, inputs)), correlated(rng, groups, 600, inputs)
    weights[..., 1] = 0
    moment, scales = read.transpose(0, 2, 1) @ read / 600, np.abs(weights).max(2) / most
    grid = integers(scales[..., None], most)
    found = rounded(weights, grid, factored(moment))
    steps = found / scales[..., None]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert np.abs(np.rint(steps)).max() <= most
    assert not found[..., 1].any(), "what was pruned stays so"
    assert loss(weights, found, moment) < 0.7 * loss(weights, nearest(grid, weights), moment)
    lost = np.square((weights - found) @ read.transpose(0, 2, 1)).sum() / 600
    assert loss(weights, found, moment) == pytest.approx(lost), "the mean over rows of what outputs lose"


def test_halves_are_those_of_torch_and_lose_less_than_the_nearest_where_a_bias_is_made_up_for() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=1000) * 10.0 ** rng.integers(-30, 30, 1000), [0, 1.00390625, 1.01171875]])
    values = values.astype(np.float32)
    assert np.array_equal(bf16(values), torch.from_numpy(values).bfloat16().float().numpy())
    assert np.isfinite(bf16(np.array([-np.inf, np.finfo(np.float32).min], np.float32))).all()
    weights, read = rng.normal(size=(2, 8, 60)), correlated(rng, 2, 600, 60)
    weights[..., 0], read[..., 0] = 20 + rng.random((2, 8)), 1  # the bias
    moment = read.transpose(0, 2, 1) @ read / 600
    found = rounded(weights, halves, factored(moment, lead=1))
    assert np.array_equal(found, bf16(found)) and np.array_equal(found[..., 0], bf16(weights[..., 0]))
    assert loss(weights, found, moment) < 0.1 * loss(weights, bf16(weights), moment)


def test_hardly_any_integers_around_the_nearest_lose_less() -> None:
    """All that are within one of the nearest are tried."""
    rng, found, best, plain = np.random.default_rng(1), list[float](), list[float](), list[float]()
    around = np.array(np.meshgrid(*[[-1, 0, 1]] * 7)).reshape(7, -1).T
    for _ in range(20):
        weights, read = rng.normal(size=(1, 1, 7)), correlated(rng, 1, 50, 7)
        moment, scales = read.transpose(0, 2, 1) @ read / 50, np.abs(weights).max(2) / 7
        grid = integers(scales[..., None], 7)
        off = weights[0] - np.clip(np.rint(weights[0] / scales[0]) + around, -7, 7) * scales[0]
        best.append(np.einsum("ri,ij,rj->r", off, moment[0], off).min())
        plain.append(loss(weights, nearest(grid, weights), moment))
        found.append(loss(weights, rounded(weights, grid, factored(moment)), moment))
    assert all(one <= other * (1 + 1e-4) for one, other in zip(best, found, strict=True))
    assert sum(best) < sum(found) < 0.5 * (sum(best) + sum(plain)), "nearer to the best than to the nearest"


SHAPES = [
    # spatial sizes of the input, kernel, groups, attributes
    ((9, 8), (3, 3), 1, "pads = [1, 1, 1, 1], strides = [2, 1]"),
    ((9, 8), (3, 2), 4, "pads = [0, 1, 2, 0], dilations = [2, 1]"),
    ((9, 8), (3, 3), CHANNELS, "strides = [2, 2], pads = [1, 1, 1, 1]"),
    ((9, 8), (1, 1), 1, ""),
    ((11,), (4,), 2, 'auto_pad = "SAME_UPPER", strides = [3]'),
    ((5, 6, 7), (2, 3, 2), 1, 'auto_pad = "VALID", strides = [1, 2, 1]'),
]


@pytest.mark.parametrize(("sizes", "kernel", "groups", "attributes"), SHAPES)
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_rows_are_what_a_convolution_reads(
    sizes: tuple[int, ...], kernel: tuple[int, ...], groups: int, attributes: str, runtime: str, tmp_path: Path
) -> None:
    shape = ", ".join(map(str, sizes))
    more = ", ".join(filter(None, [f"group = {groups}, kernel_shape = {list(kernel)}", attributes]))
    proto = models.build(
        f"""g (float[N, {CHANNELS}, {shape}] x) => (float[N, M, {", ".join("ABC"[: len(sizes)])}] y) {{
            h = Relu(x)
            y = Conv <{more}> (h, w)
        }}""",
        [models.weight("w", CHANNELS, CHANNELS // groups, *kernel, scale=3)],
    )
    for node in proto.graph.node:
        node.name = f"layer {node.output[0]}"
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(CHANNELS, *sizes)})
    feed = {"x": data.inputs["x"][:2]}
    if runtime == "onnx":
        original, quantized = StaticInt8().both(model, Context(data, model, TARGET, 0, tmp_path / "made"))
        (layer,) = for_onnx.layers(original, quantized)
        known: dict[str, Array] = for_onnx.telling(original, [layer.value], 1)(feed)
    else:
        pytest.importorskip("openvino")
        (tmp_path / "ir").mkdir()
        base = apply(ToOpenvino(), model, Context(None, model, TARGET, 0, tmp_path / "ir"))
        graph = OpenvinoInt8().grouped(base, Context(data, base, TARGET, 0, tmp_path / "made")).graph
        (place,) = for_openvino._places(graph)
        layer, known = place.layer, for_openvino.telling(graph, [place.layer.value], 1)(feed)
    rows = _fit._rows(layer, known[layer.value], 10**6, np.random.default_rng(0))
    found = (rows @ layer.weights.transpose(0, 2, 1)).transpose(0, 2, 1)  # [groups, outputs, rows]
    expected = np.moveaxis(known["y"], 1, 0).reshape(found.shape)
    assert layer.weights.shape[0] == groups
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def network(folder: Path) -> onnx.ModelProto:
    """Convolutions, one of them by channel, and a product, all reading what is never below 0."""
    proto = models.build(
        f"""g (float[N, {CHANNELS}, H, W] x) => (float[N, 5] y) {{
            a = Conv <pads = [1, 1, 1, 1]> (x, wa, ba)
            ra = Relu(a)
            b = Conv <pads = [1, 1, 1, 1], group = {CHANNELS}> (ra, wb, bb)
            rb = Relu(b)
            c = Conv(rb, wc, bc)
            rc = Relu(c)
            m = GlobalAveragePool(rc)
            f = Flatten(m)
            y = Gemm <transB = 1> (f, wd, bd)
        }}""",
        [
            models.weight("wa", CHANNELS, CHANNELS, 3, 3, scale=4), models.weight("ba", CHANNELS, scale=2),
            models.weight("wb", CHANNELS, 1, 3, 3, scale=4), models.weight("bb", CHANNELS, scale=2),
            models.weight("wc", CHANNELS, CHANNELS, 1, 1, scale=4), models.weight("bc", CHANNELS, scale=2),
            models.weight("wd", 5, CHANNELS, scale=4), models.weight("bd", 5),
        ],
    )  # fmt: skip
    for node in proto.graph.node:
        node.name = f"layer {node.output[0]}"
    onnx.save(proto, folder / "model.onnx")
    return proto


def none(*given: object) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_int8_loses_less_on_samples_that_it_has_not_seen_and_floats_of_mixes_stay(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from techniques.test_all import run

    monkeypatch.setattr(Target, "int8_saturates", True)  # weights have 7 bits, and lose more than activations do
    network(tmp_path)
    rng, original = np.random.default_rng(0), formats.open(tmp_path / "model.onnx")
    data, unseen = (Data({"x": rng.uniform(0, 2, (64, CHANNELS, 9, 7)).astype(np.float32)}) for _ in range(2))
    model, plain, mixer = original, StaticInt8(), MixedOnnx()
    technique: Technique = plain
    if runtime == "openvino":
        pytest.importorskip("openvino")
        (tmp_path / "ir").mkdir()
        model = apply(ToOpenvino(), original, Context(None, original, TARGET, 0, tmp_path / "ir"))
        technique, mixer = OpenvinoInt8(), MixedOpenvino()  # type: ignore[assignment]
    right = run(original, unseen)

    def lost(name: str) -> float:
        (tmp_path / name).mkdir()
        return nmse(
            run(apply(technique, model, Context(data, model, TARGET, 0, tmp_path / name / "made")), unseen), right
        )

    fine = lost("fitted")
    parts: Any = mixer.parts(model, Context(data, model, TARGET, 0, tmp_path / "parts"))
    exact = parts.save(dict.fromkeys(parts.members, "f32"), tmp_path / "exact")
    assert nmse(run(exact, unseen), right) < 1e-9
    monkeypatch.setattr(_fit, "_fit", lambda *given: None)
    assert fine < 0.7 * lost("nearest")


def test_bf16_loses_less_on_samples_that_it_has_not_seen_and_is_wanted_only_where_it_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from techniques.test_all import run

    pytest.importorskip("openvino")
    proto = network(tmp_path)
    proto.graph.node.insert(6, onnx.helper.make_node("Mul", ["rc", "half"], ["less"], "layer less"))
    proto.graph.node[7].input[0] = "less"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))  # no dimensions
    onnx.save(proto, tmp_path / "model.onnx")
    rng, original = np.random.default_rng(0), formats.open(tmp_path / "model.onnx")
    data, unseen = (Data({"x": rng.uniform(0, 2, (64, CHANNELS, 9, 7)).astype(np.float32)}) for _ in range(2))
    (tmp_path / "ir").mkdir()
    model = apply(ToOpenvino(), original, Context(None, original, TARGET, 0, tmp_path / "ir"))
    right = run(original, unseen)

    def lost(name: str, halves: bool) -> float:
        monkeypatch.setattr(for_openvino, "computes", lambda precision: halves)
        (tmp_path / name).mkdir()
        parts: Any = MixedOpenvino().parts(model, Context(data, model, TARGET, 0, tmp_path / name / "made"))
        assert bool(parts.grouped.fitted["bf16"]) is halves
        return nmse(run(parts.save(dict.fromkeys(parts.members, "bf16"), tmp_path / name / "halved"), unseen), right)

    assert lost("fitted", halves=True) < 0.7 * lost("nearest", halves=False)


def read(value: Array) -> Any:
    def telling(values: Iterable[str]) -> Step:
        return lambda feed: {"x": value[feed["row"]]}

    return telling


def layer(rng: np.random.Generator, name: str = "w", inputs: int = 40) -> Layer:
    weights = rng.normal(size=(1, 6, inputs))
    return Layer(name, "x", weights, np.abs(weights).max(2) / 7, 7, None, shifts=True)


def given(count: int) -> list[dict[str, Any]]:
    return [{"row": row} for row in range(count)]


def context(folder: Path, deadline: float = math.inf) -> Context:
    return Context(None, None, TARGET, 0, folder, deadline=deadline)  # type: ignore[arg-type]


def test_samples_that_do_not_agree_leave_each_weight_at_its_nearest(tmp_path: Path) -> None:
    """What every second one moves, the others do not."""
    rng = np.random.default_rng(0)
    values = np.zeros((8, 100, 40))
    values[::2, :, :20] = correlated(rng, 4, 100, 20)
    values[1::2, :, 20:] = rng.normal(size=(4, 100, 20))
    one = layer(rng)
    fit = fitted([one], read(values), given(8), context(tmp_path))["w"]
    assert np.array_equal(fit.integers, np.rint(one.weights / one.scales[..., None]))
    np.testing.assert_allclose(fit.mean[0], values.reshape(-1, 40).mean(0), atol=1e-5)
    alike = np.broadcast_to(correlated(rng, 1, 100, 40), (8, 100, 40))
    fit = fitted([one], read(alike), given(8), context(tmp_path))["w"]
    assert not np.array_equal(fit.integers, np.rint(one.weights / one.scales[..., None]))


def test_weights_alone_are_rounded_where_few_rows_read_them_for_what_is_read_before_it_was_multiplied(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    smoothed, plain = rng.uniform(0.1, 10, 64), rng.normal(size=(1, 6, 64))
    rows = correlated(rng, 1, 256, 64).reshape(8, 32, 64) / smoothed
    scales = np.abs(plain / smoothed).max(2) / 127
    one = Layer("w", "x", plain / smoothed, scales, 127, None, shifts=True, smoothed=smoothed, alone=True)
    fit = fitted([one], read(rows * smoothed), given(8), context(tmp_path))["w"]
    assert np.abs(fit.four).max() <= 7 and fit.four.dtype == np.int8 and fit.four_steps.shape == (1, 6, 2)
    x = rows.reshape(-1, 64)
    known = {
        "four": (fit.four.reshape(6, 2, 32) * fit.four_steps[0][..., None]).reshape(6, 64),
        "eight": fit.eight[0] * fit.eight_steps[0],
        "nearest": np.rint(plain[0] / (top := np.abs(plain[0]).max(1, keepdims=True) / 7)) * top,
    }
    off = {name: np.square((x - x.mean(0)) @ (weights - plain[0]).T).mean() for name, weights in known.items()}
    assert off["eight"] < 0.05 * off["four"] < 0.05 * 0.15 * off["nearest"]
    many = fitted([one], read(np.repeat(rows * smoothed, 2, axis=1)), given(8), context(tmp_path))["w"]
    assert not many.four.size and not many.eight.size and many.integers.size
    odd = replace(one, weights=one.weights[..., :40], smoothed=smoothed[:40])
    assert not fitted([odd], read(rows[..., :40]), given(8), context(tmp_path))["w"].four.size, "40 are no whole blocks"


def test_what_time_and_room_do_not_suffice_for_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    values = correlated(rng, 8, 100, 40)
    assert fitted([layer(rng)], read(values), given(8), context(tmp_path, time.monotonic() - 1)) == {}
    monkeypatch.setattr(_fit, "WIDEST", 39)
    assert fitted([layer(rng)], read(values), given(8), context(tmp_path)) == {}
    monkeypatch.setattr(_fit, "WIDEST", 40)
    monkeypatch.setattr(_fit, "ROOM", 1)
    both = fitted([layer(rng, "a"), layer(rng, "b")], read(values), given(8), context(tmp_path))
    assert list(both) == ["a", "b"], "one at a time"
    values[3, 5, 7] = np.inf
    assert fitted([layer(rng)], read(values), given(8), context(tmp_path)) == {}


def test_fits_are_kept_and_what_is_missing_is_made_later(tmp_path: Path) -> None:
    rng, made = np.random.default_rng(0), list[list[str]]()
    values = correlated(rng, 8, 100, 40)
    layers = [layer(rng, "a/first"), layer(rng, "b")]

    def fits(several: Sequence[Layer]) -> dict[str, _fit.Fit]:
        made.append([one.name for one in several])
        return fitted(several[:1], read(values), given(8), context(tmp_path))  # as if time had ended

    first, second, third = (_fit.kept_fits(tmp_path, layers, fits) for _ in range(3))
    assert made == [["a/first", "b"], ["b"]], "what there was no time for"
    assert list(first) == ["a/first"] and list(second) == list(third) == ["a/first", "b"]
    assert all(np.array_equal(second[name].integers, third[name].integers) for name in second)


def test_biases_that_branches_read_too_are_not_moved(tmp_path: Path) -> None:
    proto = models.build(
        """g (float[N, 16] x) => (float[N, 8] y) {
            v = Gemm(x, w, b)
            y = Add(v, b)
        }""",
        [models.weight("w", 16, 8, scale=3), models.weight("b", 8)],
    )
    for node in proto.graph.node:
        node.name = f"layer {node.output[0]}"
    onnx.save(proto, tmp_path / "model.onnx")
    model, data = formats.open(tmp_path / "model.onnx"), Data({"x": np.abs(models.floats(16))})
    made = StaticInt8().both(model, Context(data, model, TARGET, 0, tmp_path / "made"))
    assert [(one.name, one.shifts) for one in for_onnx.layers(*made)] == [("w", False)]
    right, found = (runner(proto.SerializeToString(), 1)(data.inputs)["y"] for proto in made)
    assert nmse({"y": found}, {"y": right}) < 1e-3
