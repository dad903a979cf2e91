"""What ONNX Runtime fused of rounded numbers is put apart again: the same names, the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from models import RNG, build, weight
from strop import formats
from strop.formats._onnx_unfused import FORMS, unfused
from strop.reading import read_for
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import find

IMAGES = RNG(0).normal(size=(24, 3, 8, 8)).astype(np.float32)


def net() -> onnx.ModelProto:
    """Of what ONNX Runtime computes in integers, and what it moves as such."""
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            r = Relu (c)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            d = Conv <pads = [1, 1, 1, 1]> (m, w2, b2)
            l = LeakyRelu <alpha = 0.1> (d)
            a = Add (l, m)
            k = Concat <axis = 1> (a, m)
            g = GlobalAveragePool (k)
            f = Flatten (g)
            s = Sigmoid (f)
            t = MatMul (s, w3)
            y = Gemm <transB = 1> (t, w4, b4)
        }""",
        [weight("w1", 6, 3, 3, 3), weight("b1", 6), weight("w2", 6, 6, 3, 3), weight("b2", 6), weight("w3", 12, 7),
         weight("w4", 5, 7), weight("b4", 5)],
    )  # fmt: skip


def made(folder: Path, proto: onnx.ModelProto, *steps: Technique) -> list[Path]:
    """What each step of a chain makes of a graph."""
    onnx.save(proto, folder / "model.onnx")
    model = original = formats.open(folder / "model.onnx")
    data, found = read_for(model.signature, {"x": IMAGES}), []
    for place, step in enumerate(steps):
        (folder / f"{place}").mkdir()
        model = apply(step, model, Context(data, original, Target(threads=1), 0, folder / f"{place}"))
        found.append(model.path)
    return found


def answers(proto: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": IMAGES})[0])


@pytest.mark.parametrize("per_channel", [True, False])
def test_what_was_rounded_bears_its_name_again_and_the_answers_are_the_same(per_channel: bool, tmp_path: Path) -> None:
    quantized, fused = made(
        tmp_path, net(), find("static-int8").of({"per_channel": per_channel}), find("optimize-onnx").of({})
    )
    proto = onnx.load(fused)
    kinds = {node.op_type for node in proto.graph.node}
    assert {"QLinearConv", "QLinearAdd", "QGemm", "QLinearMatMul"} <= kinds, "what this is about"
    names = [node.name for node in proto.graph.node]
    before = answers(proto)
    apart = unfused(proto)
    assert not {node.op_type for node in apart.graph.node} & set(FORMS)
    onnx.checker.check_model(apart)
    assert np.array_equal(answers(apart), before)
    kept = {node.name for node in apart.graph.node}
    rounding = {name for name in names if "Quantize" in name or name.endswith("_q")}
    assert set(names) - rounding <= kept, "by these a profiler tells of it"
    # a name stands for the same layer as before ONNX Runtime saw it
    values = {value for node in apart.graph.node for value in node.output}
    known = {value for node in onnx.load(quantized).graph.node for value in node.output}
    assert {"r", "m", "d", "a", "k", "g", "t", "y"} & known <= values


def test_biases_are_scaled_as_the_product_that_they_are_added_to() -> None:
    rng = RNG(1)
    stored = {
        "w": rng.integers(-100, 100, (4, 3)).astype(np.int8), "b": rng.integers(-5000, 5000, 3).astype(np.int32),
        "xs": np.float32(0.02), "xz": np.uint8(128), "ws": np.array([0.01, 0.02, 0.03], np.float32),
        "wz": np.zeros(3, np.int8), "ys": np.float32(0.05), "yz": np.uint8(120),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x_q"], "round"),
        helper.make_node("QGemm", ["x_q", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"], ["y_q"], "product",
                         domain="com.microsoft", alpha=0.5),
        helper.make_node("DequantizeLinear", ["y_q", "ys", "yz"], ["y"], "restore"),
    ]  # fmt: skip
    ends = [[helper.make_tensor_value_info(name, 1, ["N", width])] for name, width in (("x", 4), ("y", 3))]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", *ends, weights)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=domains, ir_version=8)
    x = rng.normal(size=(24, 4)).astype(np.float32)

    def run(proto: onnx.ModelProto) -> np.ndarray:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"x": x})[0])

    before = run(proto)
    apart = unfused(proto)
    assert [node.op_type for node in apart.graph.node if node.name == "product"] == ["Gemm"]
    assert np.abs(run(apart) - before).max() <= 0.0501, "one step of rounding"
    assert np.abs(run(apart) - before).mean() < 0.01


def test_graphs_that_have_none_stay_as_they_are() -> None:
    proto = net()
    before = proto.SerializeToString(deterministic=True)
    assert unfused(proto).SerializeToString(deterministic=True) == before


def test_convolutions_with_channels_last_have_them_first_again(tmp_path: Path) -> None:
    _, fused = made(tmp_path, net(), find("static-int8").of({}), find("optimize-onnx").of({"level": "all"}))
    proto = onnx.load(fused)
    laid = [node for node in proto.graph.node if any(one.name == "channels_last" for one in node.attribute)]
    last = [node.name for node in laid if node.op_type == "QLinearConv"]
    if not last:
        pytest.skip("ONNX Runtime lays out no channels last on this CPU")
    before, values = answers(proto), {value for node in proto.graph.node for value in node.output}
    assert not {"r", "d"} & values
    apart = unfused(proto)
    assert [node.name for node in apart.graph.node if node.op_type == "Conv"] == last
    made_of = {value: node.op_type for node in apart.graph.node for value in node.output}
    assert made_of["r"] == made_of["d"] == "Conv"
    assert np.abs(answers(apart) - before).max() < 0.02 * np.abs(before).max()
    apart.graph.output.add().name = "r"
    shape = ort.InferenceSession(apart.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": IMAGES}
    )[1].shape  # fmt: skip
    assert shape == (24, 6, 8, 8)
