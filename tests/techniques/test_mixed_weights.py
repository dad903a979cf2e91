"""Mixes in which some groups have weights alone rounded, to 8 or to 4 bits, where products read each for few rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import models
from strop import explain, formats
from strop.data import Data
from strop.model import Model
from strop.nmse import nmse
from strop.prefix import Prefix
from strop.runtime import Array, LayerTime
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import MixedDynamic, MixedOnnx, MixedOpenvino, ToOpenvino
from strop.techniques._mixing import chosen
from techniques.test_all import run
from techniques.test_mixed import Made

TARGET = Target(threads=1)
EIGHT, FOUR = "int8 weights", "int4 weights"
WIDTH = 64


def attending(rows: int) -> onnx.ModelProto:
    """A layer of attention, whose ranges SmoothQuant moves into weights, and two products behind it."""
    return models.build(
        f"""g (float[N, {rows}, {WIDTH}] x) => (float[N, {rows}, {WIDTH}] y) {{
            q = MatMul(x, wq)
            k = MatMul(x, wk)
            v = MatMul(x, wv)
            t = Transpose <perm = [0, 2, 1]> (k)
            s = MatMul(q, t)
            d = Mul(s, scale)
            a = Softmax <axis = -1> (d)
            m = MatMul(a, v)
            o = MatMul(m, wo)
            r = Add(o, x)
            h = MatMul(r, w1)
            b = Add(h, bias)
            g = Relu(b)
            y = MatMul(g, w2)
        }}""",
        [*(models.weight(name, WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo", "w2")),
         models.weight("w1", WIDTH, WIDTH), models.weight("bias", WIDTH),
         onnx.numpy_helper.from_array(np.float32(0.1), "scale")],
    )  # fmt: skip


def transposed(rows: int = 1) -> onnx.ModelProto:
    """Products whose weights lie the other way round."""
    return models.build(
        f"""g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{
            h = Gemm <transB = 1> (x, w1, b)
            r = Relu(h)
            i = Gemm <transB = 1> (r, w2)
            s = Relu(i)
            y = Gemm(s, w3, b)
        }}""",
        [*(models.weight(name, WIDTH, WIDTH) for name in ("w1", "w2", "w3")), models.weight("b", WIDTH)],
    )


def opened(proto: onnx.ModelProto, mixer: type[Technique], folder: Path) -> tuple[Model, Data, Any]:
    """The model, samples for it, and its groups."""
    for node in proto.graph.node:
        node.name = node.output[0]
    onnx.save(proto, folder / "model.onnx")
    model = formats.open(folder / "model.onnx")
    shape = [one.dim_value for one in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    values = models.floats(*shape) * np.geomspace(0.05, 20, WIDTH, dtype=np.float32)
    data = Data({"x": values})
    given = model
    if mixer is MixedOpenvino:
        pytest.importorskip("openvino")
        given = apply(ToOpenvino(), model, Context(None, model, TARGET, 0, folder / "converted"))
    return model, data, mixer().parts(given, Context(data, model, TARGET, 0, folder / "parts"))


@pytest.mark.parametrize("mixer", [MixedOpenvino, MixedOnnx, MixedDynamic])
@pytest.mark.parametrize("build", [attending, transposed])
def test_weights_alone_are_rounded_in_each_group_by_itself_and_in_all(
    build: Callable[[int], onnx.ModelProto], mixer: type[Technique], tmp_path: Path
) -> None:
    model, data, parts = opened(build(3), mixer, tmp_path)
    right = run(model, data)
    exact = dict.fromkeys(parts.members, "f32")
    able = parts.weights[FOUR]
    assert len(able) == len(parts.weights[EIGHT]) == (6 if build is attending else 3)
    feeds = [data.batch(row, row + 1) for row in range(4)]
    prefix = Prefix(parts, exact, feeds, [parts.step(exact)(feed) for feed in feeds])
    lost = {}
    for precision in (EIGHT, FOUR):
        whole = parts.save({**exact, **dict.fromkeys(able, precision)}, tmp_path / precision)
        lost[precision] = nmse(run(whole, data), right)
        for group in able:
            mix = {**exact, group: precision}
            made = parts.save(mix, tmp_path / f"{precision} {group}".replace("/", "-"))
            assert 0 < nmse(run(made, data), right) < 2 * lost[precision], group
            for feed in feeds:
                assert nmse(prefix.step(mix)(feed), parts.step(mix)(feed)) < 1e-3 * lost[precision], group
    assert lost[EIGHT] < 0.1 * lost[FOUR] < 0.1 * 0.1
    turns = dict(zip(parts.members, ["int8", FOUR, "f32", EIGHT] * 2, strict=False))
    mix = {group: one if one in ("int8", "f32") or group in able else "f32" for group, one in turns.items()}
    assert nmse(run(parts.save(mix, tmp_path / "turns"), data), right) < 0.1


@pytest.mark.parametrize("mixer", [MixedOpenvino, MixedOnnx])
def test_weights_that_many_rows_read_are_not_rounded_alone(mixer: type[Technique], tmp_path: Path) -> None:
    _, _, parts = opened(attending(48), mixer, tmp_path)
    assert not any(parts.weights.values())


def test_files_hold_4_bits_and_explanations_tell_which_layers_have_them(tmp_path: Path) -> None:
    _, data, parts = opened(transposed(), MixedOpenvino, tmp_path)
    sizes = {}
    for precision in ("f32", "int8", EIGHT, FOUR):
        made = parts.save(dict.fromkeys(parts.members, precision), tmp_path / precision)
        sizes[precision] = made.path.with_suffix(".bin").stat().st_size
    numbers = 3 * WIDTH * WIDTH
    assert sizes["f32"] > 4 * numbers and sizes["int8"] < 1.3 * numbers and sizes[EIGHT] < 1.2 * numbers
    assert sizes[FOUR] < 0.85 * numbers, "4 bits each, and 4 bytes for 32 of them"
    mix = dict(zip(parts.members, ("f32", EIGHT, FOUR), strict=True))
    parts.save(mix, tmp_path / "mix")
    found = explain(tmp_path / "model.onnx", tmp_path / "mix" / "model.xml", dict(data.inputs), target=TARGET)
    products = [layer["precision"] for layer in found["layers"] if layer["operator"] == "Gemm"]
    assert products == ["f32", EIGHT, FOUR]


class Reading(Made):
    """Groups of which some read many weights: in 4 bits these do a tenth of what int8 does."""

    def __init__(self, errors: Mapping[str, float], able: Sequence[str]):
        super().__init__(errors)
        self.borders = []
        self.weights = dict.fromkeys((EIGHT, FOUR), able)  # type: ignore[assignment]
        self.kinds = list[Counter[str]]()

    def step(self, precisions: Mapping[str, str]) -> Callable[[Any], dict[str, Array]]:
        self.kinds.append(Counter(precisions.values()))
        does = {"int8": 1.0, EIGHT: 0.01, FOUR: 0.1, "f32": 0.0}
        off = sum(does[precision] * self.errors[name] for name, precision in precisions.items())
        return lambda batch: {"y": np.array([1.0 + off**0.5])}


@pytest.mark.parametrize(("micros", "expected"), [
    ({"int8": 40, EIGHT: 60, FOUR: 30, "f32": 100}, FOUR),
    ({"int8": 40, EIGHT: 40, FOUR: 42, "f32": 100}, EIGHT),
    ({"int8": 40, EIGHT: 99, FOUR: 90, "f32": 100}, "f32"),
])  # fmt: skip
def test_weights_alone_are_rounded_where_that_pays(micros: Mapping[str, int], expected: str, tmp_path: Path) -> None:
    """The two that harm most are within what is allowed with their weights rounded alone; and what does not pay is not
    tried."""
    parts = Reading({"a": 1e-4, "b": 1e-4, "c": 5e-3, "d": 5e-3}, able="cd")

    def tell(model: Model) -> Sequence[LayerTime]:
        mix: Mapping[str, str] = model  # type: ignore[assignment]
        return [LayerTime(name, "", 1e-6 * micros[one], parts.members[name]) for name, one in mix.items()]

    given = Context(None, None, TARGET, 0, tmp_path, layer_times=tell)  # type: ignore[arg-type]
    mix, found = chosen(parts, 0.3, [{"x": np.ones(1)}], given, tmp_path, until=math.inf)
    assert mix == {"a": "int8", "b": "int8", "c": expected, "d": expected}
    assert {p for kinds in parts.kinds for p in kinds} >= {"int8", "f32", expected}
    if expected == "f32":
        assert not any(kinds[FOUR] or kinds[EIGHT] for kinds in parts.kinds)
    assert set(found.seconds["a"]) == {"int8", "f32"} and set(found.seconds["c"]) == set(micros)


@pytest.mark.parametrize("mixer", [MixedOpenvino, MixedOnnx, MixedDynamic])
def test_a_mix_tells_whose_weights_are_rounded_alone(mixer: type[Technique], tmp_path: Path) -> None:
    model, data, parts = opened(attending(3), mixer, tmp_path)
    micros = {"int8": 40, "dynamic int8": 40, EIGHT: 35, FOUR: 30, "f32": 100, "bf16": 100}

    def layers(made: Model) -> Sequence[LayerTime]:
        known = formats.format_of(made.format).dataflow(made).operators
        products = [one for one in known if "MatMul" in one.kind]
        return [LayerTime(one.name, "", 1e-6 * micros[one.precision], (one.name,)) for one in products]

    context = Context(data, model, TARGET, 0, tmp_path / "made", layer_times=layers)
    made = apply(mixer(error=0.9), parts.model, context)
    kinds = Counter(group.precision for group in made.groups)
    assert kinds[EIGHT] and f"{kinds[EIGHT]} with int8 weights" in made.notes[-1]
    assert nmse(run(made, data), run(model, data)) < 0.1
