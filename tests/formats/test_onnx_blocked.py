"""Values in blocks of channels are plain again: the same names, the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models import RNG, build, weight
from strop import formats
from strop.formats._onnx_blocked import DOMAIN, unblocked
from strop.reading import read_for
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import find

IMAGES = RNG(0).normal(size=(12, 16, 8, 8)).astype(np.float32)


def net() -> onnx.ModelProto:
    return build(
        """g (float[N, 16, 8, 8] x) => (float[N, 5] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            r = Relu (c)
            d = Conv <pads = [1, 1, 1, 1]> (r, w2, b2)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
            e = Conv <pads = [1, 1, 1, 1]> (m, w3, b3)
            a = Add (e, m)
            f = Conv (a, w4, b4)
            g = GlobalAveragePool (f)
            h = Flatten (g)
            y = Gemm (h, w5, b5)
        }""",
        [weight("w1", 16, 16, 3, 3), weight("b1", 16), weight("w2", 16, 16, 3, 3), weight("b2", 16),
         weight("w3", 16, 16, 3, 3), weight("b3", 16), weight("w4", 32, 16, 1, 1), weight("b4", 32),
         weight("w5", 32, 5), weight("b5", 5)],
    )  # fmt: skip


def answers(proto: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": IMAGES})[0])


def test_values_bear_their_names_again_and_what_lost_its_name_is_left(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "model.onnx")
    model = formats.open(tmp_path / "model.onnx")
    (tmp_path / "made").mkdir()
    context = Context(read_for(model.signature, {"x": IMAGES}), model, Target(threads=1), 0, tmp_path / "made")
    made = onnx.load(apply(find("optimize-onnx").of({"level": "all"}), model, context).path)
    if not any(node.domain == DOMAIN for node in made.graph.node):
        pytest.skip("ONNX Runtime blocks no channels on this CPU")
    names, before = {node.name for node in made.graph.node if node.op_type != "ReorderInput"}, answers(made)
    values = {value for node in made.graph.node for value in node.output}
    assert not {"r", "d"} & values
    plain = unblocked(made)
    assert np.array_equal(answers(plain), before)
    assert names <= {node.name for node in plain.graph.node}, "by these a profiler tells of it"
    values = {value for node in plain.graph.node for value in node.output}
    assert {"r", "d", "m", "y"} <= values
    assert "e" not in values, "to which something was added where it is made"
    for name in ("r", "d", "m"):
        plain.graph.output.add().name = name
    session = ort.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    room = formats.format_of("onnx")
    (tmp_path / "tapped").mkdir()
    tapped = room.tapped(model, ["r", "d", "m"], tmp_path / "tapped")
    right = ort.InferenceSession(str(tapped.path), providers=["CPUExecutionProvider"]).run(None, {"x": IMAGES})
    for found, wanted in zip(session.run(None, {"x": IMAGES})[1:], right[1:], strict=True):
        assert np.allclose(found, wanted, atol=1e-4)
