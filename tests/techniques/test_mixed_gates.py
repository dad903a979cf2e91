"""Mixed precision by OpenVINO answers what its arithmetic says, also where a gate is made of a layer's mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import models
from strop import formats
from strop._quiet import openvino
from strop.data import Data
from strop.nmse import nmse
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import MixedOpenvino, ToOpenvino

pytest.importorskip("openvino")

TARGET = Target(threads=1)
GATES, CHANNELS = 2, 16
NEAR = 0.5  # of what int8 does to the outputs: roundings may fall otherwise


def gated(folder: Path) -> Any:
    """Convolutions whose outputs are scaled by what two small layers make of their mean, for images of any size."""
    lines, weights, last = [], [], "x"
    for at in range(GATES):
        names = [f"w{at}", f"down{at}", f"up{at}"]
        shapes = [(CHANNELS, CHANNELS, 1, 1), (4, CHANNELS, 1, 1), (CHANNELS, 4, 1, 1)]
        weights += [models.weight(name, *shape, scale=4) for name, shape in zip(names, shapes, strict=True)]
        end = "y" if at == GATES - 1 else f"h{at}"
        lines += [
            f"c{at} = Conv({last}, w{at})", f"m{at} = GlobalAveragePool(c{at})", f"d{at} = Conv(m{at}, down{at})",
            f"r{at} = Relu(d{at})", f"u{at} = Conv(r{at}, up{at})", f"s{at} = HardSigmoid(u{at})",
            f"g{at} = Mul(c{at}, s{at})", f"{end} = Add(c{at}, g{at})",
        ]  # fmt: skip
        last = end
    sizes = f"float[N, {CHANNELS}, H, W]"
    proto = models.build(f"g ({sizes} x) => ({sizes} y) {{ {chr(10).join(lines)} }}", weights)
    for node in proto.graph.node:
        node.name = f"layer {node.output[0]}"
    onnx.save(proto, folder / "gated.onnx")
    return formats.open(folder / "gated.onnx")


def spelled(graph: Any) -> Any:
    """The graph with its rounding told in ordinary operators, which OpenVINO computes in floats."""
    op = openvino().opset13
    for node in [node for node in graph.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]:
        value, low, high, least, most = node.input_values()
        steps = op.constant(np.float32(node.get_attributes()["levels"] - 1))
        inside = op.subtract(op.minimum(op.maximum(value, low), high), low)
        place = op.divide(op.round(op.divide(op.multiply(inside, steps), op.subtract(high, low))), steps)
        made = op.add(op.multiply(place, op.subtract(most, least)), least)
        for port in node.output(0).get_target_inputs():
            port.replace_source_output(made.output(0))
    return graph


def test_each_layer_alone_in_int8_and_alone_spared_answers_as_its_arithmetic_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = Data({"x": rng.uniform(0, 2, (32, CHANNELS, 12, 10)).astype(np.float32)})
    model = gated(tmp_path)
    (tmp_path / "openvino").mkdir()
    base = apply(ToOpenvino(), model, Context(None, model, TARGET, 0, tmp_path / "openvino"))
    parts: Any = MixedOpenvino().parts(base, Context(data, base, TARGET, 0, tmp_path / "made", shared=tmp_path))
    exact, rounded = (dict.fromkeys(parts.members, precision) for precision in ("f32", "int8"))
    feeds = [{"x": data.inputs["x"][row : row + 1]} for row in range(4)]

    def answers(graph: Any) -> list[dict[str, Any]]:
        compiled = openvino().Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [{"y": compiled(feed)["y"].copy()} for feed in feeds]

    def apart(one: Any, other: Any) -> float:
        return float(np.mean(list(map(nmse, one, other))))

    whole = apart(answers(parts.grouped.mixed(rounded)), answers(parts.grouped.mixed(exact)))
    assert len(parts.members) == 3 * GATES
    for group in parts.members:
        for mix in ({**exact, group: "int8"}, {**rounded, group: "f32"}):
            found, told = (answers(graph) for graph in (parts.grouped.mixed(mix), spelled(parts.grouped.mixed(mix))))
            assert apart(found, told) < NEAR * whole, group
