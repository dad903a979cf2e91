"""Layers of two models are held to each other: what each introduces is what NumPy makes of it; a bad one is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models import RNG, build, case, weight
from strop import formats
from strop.comparison import fit, host
from strop.dataflow import Operator
from strop.errors import UnsupportedModel
from strop.formats._onnx_inside import place_of
from strop.insight import inside, story
from strop.insight.inside import look
from strop.insight.likeness import Likeness
from strop.insight.parts import Part, parts
from strop.insight.seen import Inside, Seen
from strop.naming import labels
from strop.profiling import profile
from strop.reading import read_for
from strop.runtime import LayerTime
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import find
from strop.timing import Effort, one_at_a_time

BAD, WIDTH, LAYERS = 11, 32, 20
SAMPLES = 24


def deep(named: bool = True) -> onnx.ModelProto:
    """Twenty dense layers, residual so that the signal stays; the weights of one have outliers in two rows, which
    its inputs are zero at, so that only the grid of int8 suffers from them."""
    lines, weights, value = [], [], "x"
    for layer in range(LAYERS):
        matrix = numpy_helper.to_array(weight(f"w{layer}", WIDTH, WIDTH, seed=1)).copy() * 0.5
        matrix[:, :2] = 0 if layer < BAD + 1 else matrix[:, :2]
        if layer == BAD:
            matrix[:2] = 300.0
        weights += [numpy_helper.from_array(matrix, f"w{layer}"), weight(f"b{layer}", WIDTH, scale=0.0)]
        lines += [
            f"h{layer} = Gemm({value}, w{layer}, b{layer})", f"r{layer} = Relu(h{layer})",
            f"s{layer} = Add(r{layer}, {value})",
        ]  # fmt: skip
        value = f"s{layer}"
    body = "\n".join(lines)
    proto = build(f"g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] s{LAYERS - 1}) {{ {body} }}", weights)
    for node in proto.graph.node if named else ():
        node.name = f"layer{node.output[0][1:]}.{node.op_type.lower()}"
    return proto


def test_a_layer_that_holds_graphs_is_told_by_its_own_name(tmp_path: Path) -> None:
    proto = build(
        """g (float[N, 16] x) => (float[N, 16] y) {
            h = MatMul(x, w)
            s = ReduceSum <keepdims = 0> (h)
            b = Greater(s, zero)
            y = If (b) <
                then_branch = t () => (float[N, 16] a) { a = MatMul(h, w) },
                else_branch = e () => (float[N, 16] c) { c = Mul(h, v) }>
        }""",
        [weight("w", 16, 16), numpy_helper.from_array(np.float32(0), "zero")],
    )
    proto.graph.node[2].name, proto.graph.node[3].name = "gt", "choose"
    proto.graph.node[3].attribute[1].g.initializer.append(weight("v", 16))
    onnx.save(proto, tmp_path / "flow.onnx")
    flow = formats.format_of("onnx").dataflow(formats.open(tmp_path / "flow.onnx"))
    chosen = parts(flow, flow, [("h", "h"), ("y", "y")])[1]
    assert chosen.main.name == chosen.counterpart.name == "choose" and chosen.bytes == (68, 68)
    assert {one.name for one in chosen.original} >= {"gt", "choose"}


def test_what_a_pytorch_model_computes_itself_is_of_its_forward() -> None:
    given = [("node_linear", "Gemm", "module.fc"), ("node_add", "Add", "module"), ("node_add_1", "Add", "module"),
             ("node_softmax", "Softmax", "module")]  # fmt: skip
    assert labels(given) == ["fc", "forward node_add", "forward node_add_1", "forward Softmax"]


def rows() -> dict[str, np.ndarray]:
    x = RNG(0).normal(size=(SAMPLES, WIDTH)).astype(np.float32)
    x[:, :2] = 0
    return {"x": x}


def made(source: Path, folder: Path, inputs: dict[str, np.ndarray], *steps: Technique) -> Path:
    """What a chain of techniques makes of a file."""
    model = original = formats.open(source)
    data = read_for(model.signature, inputs)
    for place, step in enumerate(steps):
        (folder / f"{place}").mkdir(parents=True)
        model = apply(step, model, Context(data, original, Target(threads=1), 0, folder / f"{place}"))
    return model.path


def seen(original: Path, candidate: Path, inputs: dict[str, np.ndarray], folder: Path, **how: Any) -> Inside:
    target = Target(threads=1)
    pair = [host(path, folder / f"host{place}", target) for place, path in enumerate((original, candidate))]
    first, second = fit(read_for(pair[0].model.signature, inputs), pair[0], pair[1], folder / "data")
    (folder / "opened").mkdir()
    return look(first, second, folder / "data", folder / "opened", **how)


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    onnx.save(proto, path)
    return path


STATIC = find("static-int8").of({"per_channel": False})


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Inside]:
    """The deep model, its int8, and what is seen inside."""
    folder = tmp_path_factory.mktemp("bad")
    source = saved(deep(), folder / "model.onnx")
    candidate = made(source, folder / "made", rows(), STATIC)
    return source, candidate, seen(source, candidate, rows(), folder)


def test_the_layer_with_outliers_is_named_first(bad: tuple[Path, Path, Inside]) -> None:
    found = bad[2]
    plain = story.layers(found)
    worst = max(plain, key=lambda one: one["share"])
    assert worst["name"] == f"layer{BAD}.gemm" and worst["share"] > 0.5
    assert len([one for one in plain if one["operator"] == "Gemm"]) == LAYERS
    (origin,) = [line for line in story.tell(found, plain) if "is introduced in" in line]
    assert f"introduced in 1 layer of {len(plain)}: layer{BAD}.gemm (Gemm in int8" in origin
    before = [one["accumulated"]["error"] for one in plain if one["operator"] == "Add"]
    assert max(before[:BAD]) < before[BAD] / 3, "what is accumulated jumps there"


def test_errors_are_told_where_another_measures_all_the_time(bad: tuple[Path, Path, Inside], tmp_path: Path) -> None:
    source, candidate, whole = bad
    with one_at_a_time(tmp_path / "lock"):
        found = seen(source, candidate, rows(), tmp_path, effort=Effort(lock=tmp_path / "lock"), seconds=6.0)
    assert len(found.layers) == len(whole.layers) and any(one.own.share for one in found.layers)
    assert {second for one in found.layers for second in one.seconds} == {None}
    assert found.notes[-1] == "what each layer takes can't be told: another strop measures on this machine"


def test_what_onnx_runtime_fused_is_explained_layer_by_layer(bad: tuple[Path, Path, Inside], tmp_path: Path) -> None:
    source, candidate, before = bad
    fused = made(candidate, tmp_path / "made", rows(), find("optimize-onnx").of({}))
    assert "QGemm" in {node.op_type for node in onnx.load(fused).graph.node}
    found = seen(source, fused, rows(), tmp_path)
    assert not found.outside and [one.part.value for one in found.layers] == [one.part.value for one in before.layers]
    plain = story.layers(found)
    worst = max(plain, key=lambda one: one["share"])
    assert worst["name"] == f"layer{BAD}.gemm" and worst["share"] > 0.5
    dense = [one for one in found.layers if one.part.main.kind == "Gemm"]
    assert len(dense) == LAYERS and {one.precision for one in dense} == {"int8"}
    assert min(one.part.bytes[1] for one in dense) >= WIDTH * WIDTH + 4 * WIDTH, "weights and a bias of its own"
    assert sum(one.part.bytes[1] for one in found.layers) + found.rest[1] == fused.stat().st_size
    assert found.layers[-1].all.share == pytest.approx(before.layers[-1].all.share, rel=0.1)


def test_sizes_are_right_to_the_byte(bad: tuple[Path, Path, Inside]) -> None:
    source, candidate, found = bad
    dense = [one.part.bytes for one in found.layers if one.part.main.kind == "Gemm"]
    floats = 4 * (WIDTH * WIDTH + WIDTH)
    scales = 4 + 1  # of a tensor: a scale, a zero point
    # weights and biases in integers; the scales of both (the bias has a zero point of its width), and of the output
    integers = WIDTH * WIDTH + scales + 4 * WIDTH + 4 + 4 + scales
    assert dense[1:] == [(floats, integers)] * (LAYERS - 1)
    assert dense[0] == (floats, integers + scales), "which rounds the input, too"
    for place, path in enumerate((source, candidate)):
        assert sum(one.part.bytes[place] for one in found.layers) + found.rest[place] == path.stat().st_size
        stored = sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer)
        assert sum(one.part.bytes[place] for one in found.layers) == stored


def test_what_single_layers_do_adds_up_to_what_is_seen(bad: tuple[Path, Path, Inside]) -> None:
    found = bad[2]
    (output,) = found.outputs.values()
    assert found.tried and found.samples == SAMPLES
    assert sum(one.harm or 0 for one in found.layers) == pytest.approx(output.share, rel=0.5)
    assert found.layers[-1].all.share == pytest.approx(output.share)


def perturbed(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), name))
    return proto


@pytest.mark.parametrize("chain", ["", "to-openvino"])
def test_what_a_layer_introduces_is_what_numpy_makes_of_it(tmp_path: Path, chain: str) -> None:
    if chain:
        pytest.importorskip("openvino")
    source, changed = saved(deep(), tmp_path / "a.onnx"), saved(perturbed(deep(), "w3"), tmp_path / "b.onnx")
    candidate = made(changed, tmp_path / "made", rows(), find(chain)()) if chain else changed
    found = seen(source, candidate, rows(), tmp_path)
    x, stored = rows()["x"].astype(float), {t.name: numpy_helper.to_array(t) for t in deep().graph.initializer}
    for layer in range(3):
        x = x + np.maximum(x @ stored[f"w{layer}"] + stored[f"b{layer}"], 0)
    right = np.maximum(x @ stored["w3"] + stored["b3"], 0)
    wrong = np.maximum(x @ (stored["w3"] * np.float32(1.01)) + stored["b3"], 0)
    expected = np.sum((wrong - right) ** 2) / np.sum(right**2)
    plain = {one["name"]: one for one in story.layers(found)}
    assert plain["layer3.gemm"]["introduced"]["error"] ** 2 == pytest.approx(expected, rel=1e-3)
    assert plain["layer3.gemm"]["share"] > 0.999
    assert all(one["introduced"]["error"] < 1e-6 for name, one in plain.items() if name != "layer3.gemm")
    assert plain["layer2.gemm"]["accumulated"]["error"] < 1e-6 < 1e-4 < plain["layer9.gemm"]["accumulated"]["error"]


def test_what_a_runtime_fused_is_the_time_of_the_layer_with_the_weights() -> None:
    def layer(name: str, place: int, size: int) -> Seen:
        operator = Operator(name, "Conv" if size else "Add", (), (name,))
        return Seen(Part(name, name, (operator,), (operator,), operator, operator, (size, size)), place)

    wide, added, after = layer("wide", 0, 4000), layer("added", 1, 0), layer("after", 2, 0)
    inside._ascribe(LayerTime("wide", "Conv", 3e-4, ("wide", "added"), "f32"), [wide, added], 0)
    inside._ascribe(LayerTime("added", "Add", 1e-4, ("added", "after"), "f32"), [added, after], 1)
    assert [one.seconds for one in (wide, added, after)] == [[3e-4, None], [None, None], [None, 1e-4]]


def test_nodes_without_names_get_some_that_are_of_use(tmp_path: Path) -> None:
    source = saved(deep(named=False), tmp_path / "model.onnx")
    assert not any(node.name for node in onnx.load(source).graph.node)
    found = seen(source, made(source, tmp_path / "made", rows(), STATIC), rows(), tmp_path)
    names = [one["name"] for one in story.layers(found)]
    assert len(set(names)) == len(names) and all(names)
    worst = max(zip(names, found.layers, strict=True), key=lambda pair: pair[1].harm or 0)[0]
    assert worst == f"Gemm:h{BAD}"


def test_layers_of_a_pytorch_model_bear_its_own_names(tmp_path: Path) -> None:
    proto = build(
        "g (float[N, 4] x) => (float[N, 3] z) { h = Gemm(x, a, c) y = Relu(h) z = MatMul(y, w) }",
        [weight("a", 4, 4), weight("c", 4), weight("blocks.0.fc.weight", 4, 3)],
    )  # fmt: skip
    proto.graph.node[2].input[1] = "blocks.0.fc.weight"
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'stem', 'stem.fc', 'linear']")
    proto.graph.node[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="no list (")
    source = saved(proto, tmp_path / "model.onnx")
    inputs = {"x": RNG(0).normal(size=(12, 4)).astype(np.float32)}
    layers = story.layers(seen(source, source, inputs, tmp_path))
    assert [one["name"] for one in layers] == ["stem.fc", "blocks.0.fc"]
    times = profile(source, {"x": inputs["x"]}, target=Target(threads=1))["layers"]
    assert {"stem.fc", "blocks.0.fc"} <= {one["name"] for one in times}
    known = {layer.name for layer in formats.format_of("onnx").structure(formats.open(source)).layers}
    assert {name for one in times for name in one["layers"]} == known, "the file's own names are there, too"


@pytest.mark.parametrize(
    "weights", ["stem.fc.weight", "stem.fc.weight_DequantizeLinear_Output", "stem.fc.weight_quantized",
                "stem.fc.weight/float"],
)  # fmt: skip
def test_weights_are_known_under_what_quantizing_and_mixing_call_them(weights: str) -> None:
    assert place_of(onnx.helper.make_node("MatMul", ["x", weights], ["y"])) == "stem.fc"


def test_control_flow_is_said_and_the_rest_explained(tmp_path: Path) -> None:
    proto = build(
        """g (float[N, 4] x, bool flag) => (float[N, 4] y) {
            h = MatMul(x, w)
            c = If (flag) <
                then_branch = yes () => (float[N, 4] a) { a = Relu(h) },
                else_branch = no () => (float[N, 4] b) { b = Neg(h) }
            >
            y = MatMul(c, v)
        }""",
        [weight("w", 4, 4), weight("v", 4, 4)],
    )  # fmt: skip
    inputs = {"x": RNG(0).normal(size=(12, 4)).astype(np.float32), "flag": np.array(True)}
    source = saved(proto, tmp_path / "a.onnx")
    found = seen(source, saved(perturbed(proto, "v"), tmp_path / "b.onnx"), inputs, tmp_path)
    assert any("control flow (If:c)" in note and "not looked into" in note for note in found.notes)
    assert [one.part.value for one in found.layers] == ["h", "c", "y"]
    assert [one.own.share < 1e-12 for one in found.layers] == [True, True, False]


def test_a_product_without_a_line_of_its_own_is_named_with_the_reason(tmp_path: Path) -> None:
    proto = build(
        "g (float[N, 4] x) => (float[N, 4] y) { h = MatMul(x, w) y = MatMul(h, v) }",
        [weight("w", 4, 4), weight("v", 4, 4)],
    )
    inputs = {"x": RNG(0).normal(size=(12, 4)).astype(np.float32)}
    source = saved(proto, tmp_path / "a.onnx")
    assert not story.untold(seen(source, source, inputs, tmp_path))
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "other"
    (tmp_path / "again").mkdir()
    found = seen(source, saved(proto, tmp_path / "b.onnx"), inputs, tmp_path / "again")
    assert [one["name"] for one in story.layers(found)] == ["MatMul:h"]
    (said,) = story.untold(found)
    assert said.startswith("told of as one, since the candidate has no") and said.endswith(": MatMul:y with MatMul:h")
    for operator in (found.layers[0].part.main, *found.layers[0].part.original):
        object.__setattr__(operator, "place", "layers.0")
    (said,) = story.untold(found)
    assert said.endswith(": layers.0 MatMul:y with layers.0"), "not as the place that both have"


def test_models_that_share_no_value_are_refused_with_what_to_do(tmp_path: Path) -> None:
    first = build("g (float[N, 4] x) => (float[N, 4] y) { a = MatMul(x, w) y = Relu(a) }", [weight("w", 4, 4)])
    other = build("g (float[N, 4] x) => (double[N, 4] y) { b = MatMul(x, w) y = Cast <to = 11> (b) }",
                  [weight("w", 4, 4)])  # fmt: skip
    del other.graph.output[:]
    other.graph.output.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["N", 4]))
    inputs = {"x": np.ones((12, 4), np.float32)}
    first.graph.output[0].name = first.graph.node[1].output[0] = "b"
    other.graph.node[0].output[0], other.graph.node[1].input[0] = "b", "b"
    first.graph.node[0].output[0] = first.graph.node[1].input[0] = "q"
    found = seen(saved(first, tmp_path / "a.onnx"), saved(other, tmp_path / "b.onnx"), inputs, tmp_path)
    assert [one.part.value for one in found.layers] == ["b"], "the output is what they share at the least"
    assert [one.kind for one in found.layers[0].part.original] == ["MatMul", "Relu"]
    with pytest.raises(UnsupportedModel, match=r"looks into models of ONNX.*strop compare"):
        formats.format_of("native").dataflow(formats.open(tmp_path / "a.onnx"))


@pytest.mark.parametrize("technique", ["static-int8", "dynamic-int8"])
@pytest.mark.parametrize("kind", ["transformer", "lstm", "several_inputs", "no_batch", "constants", "external"])
def test_odd_models_are_looked_into(kind: str, technique: str, tmp_path: Path) -> None:
    given = case(kind, tmp_path / "given")
    step = find(technique)()
    (tmp_path / "made").mkdir()
    context = Context(given.data, given.model, Target(threads=1), 0, tmp_path / "made")
    candidate = apply(step, given.model, context)
    inputs = {**given.data.inputs, **given.data.constants}
    found = seen(given.model.path, candidate.path, inputs, tmp_path)
    assert found.layers and found.outputs
    for one in found.layers:
        assert one.own.cells and one.all.cells == one.own.cells
    assert all(likeness.sqnr > 15 for likeness in found.outputs.values())
    assert any("int8" in one.precision for one in found.layers)


def test_what_is_asked_for_in_between_does_not_change_the_answers(tmp_path: Path) -> None:
    """OpenVINO 2026.4 answers otherwise where this model is asked for all values at once: attention in int8."""
    pytest.importorskip("openvino")
    given = case("transformer", tmp_path / "given")
    model = given.model
    for place, name in enumerate(("to-openvino", "openvino-int8")):
        (tmp_path / f"made{place}").mkdir()
        context = Context(given.data, given.model, Target(threads=1), 0, tmp_path / f"made{place}")
        model = apply(find(name)(), model, context)
    found = seen(given.model.path, model.path, dict(given.data.inputs), tmp_path)
    assert found.outputs["embedding"].sqnr > 30
    assert found.layers[-1].all.sqnr == pytest.approx(found.outputs["embedding"].sqnr, abs=0.5)
    assert min(one.all.sqnr for one in found.layers) > 15
    assert {one.precision for one in found.layers} == {"f32", "int8", "int8 weights"}


def test_infinite_values_are_left_out_where_the_original_has_them_and_told_where_not(tmp_path: Path) -> None:
    def masked(huge: float) -> onnx.ModelProto:
        return build(
            """g (float[N, 4] x) => (float[N, 4] y) {
                a = MatMul(x, w)
                b = Mul(a, scale)
                m = Add(b, mask)
                y = Softmax(m)
            }""",
            [weight("w", 4, 4), numpy_helper.from_array(np.float32(huge), "scale"),
             numpy_helper.from_array(np.array([0, 0, 0, -np.inf], np.float32), "mask")],
        )  # fmt: skip

    inputs = {"x": RNG(0).normal(size=(12, 4)).astype(np.float32)}
    paths = [saved(masked(huge), tmp_path / f"{huge}.onnx") for huge in (1.0, 3e38)]
    found = seen(*paths, inputs, tmp_path)
    assert found.layers[0].all.lost and found.outputs["y"].lost
    assert "infinite or none" in story.tell(found, story.layers(found))[0]
    (tmp_path / "same").mkdir()
    same = seen(paths[0], paths[0], inputs, tmp_path / "same")
    assert all(one.own.noise == 0 and one.own.lost == 0 for one in same.layers)
    assert story.tell(same, story.layers(same)) == [
        "The output is the original's, up to the rounding of 32-bit floats."
    ]


def test_floats_of_16_bits_are_looked_into(tmp_path: Path) -> None:
    half = [
        numpy_helper.from_array(numpy_helper.to_array(weight(name, 8, 8)).astype(np.float16), name) for name in "wv"
    ]
    proto = build("g (float16[N, 8] x) => (float16[N, 8] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }", half)
    source, changed = saved(proto, tmp_path / "a.onnx"), tmp_path / "b.onnx"
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half[0]) * np.float16(1.5), "w"))
    inputs = {"x": RNG(0).normal(size=(12, 8)).astype(np.float16)}
    found = seen(source, saved(proto, changed), inputs, tmp_path)
    assert [round(one.own.share, 2) for one in found.layers] == [0.25, 0.0]
    assert found.tried and (found.layers[0].harm or 0) == pytest.approx(found.outputs["y"].share, rel=0.01)
    assert {one.precision for one in found.layers} == {"f16"}


def test_tflite_layers_too(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from strop.testing import Example
    from tflites import cnn, images, opened, quantize, values

    model = opened(cnn(), tmp_path / "given")
    candidate = quantize(find("tflite-int8")(), Example(model, images()), tmp_path / "made")
    inputs = dict(images().inputs)
    found = seen(model.path, candidate.path, inputs, tmp_path)
    assert [one.part.value for one in found.layers] == ["first", "second", "mean", "logits", "probabilities"]
    assert {one.precision for one in found.layers} == {"int8"}
    assert sum(one.harm or 0 for one in found.layers) == pytest.approx(found.outputs["scores"].share, rel=1)
    kernel = values(cnn())["dense/kernel"]
    dense = next(one.part for one in found.layers if one.part.value == "logits")
    assert dense.bytes == (4 * kernel.size + 4 * 10, kernel.size + 4 * 10)


def test_values_too_wide_for_8_bits_are_named_as_the_cause(tmp_path: Path) -> None:
    proto = build(
        """g (float[N, 6] x) => (float[N, 6] y) {
            a = MatMul(x, w)
            m = Add(a, mask)
            p = Softmax(m)
            y = MatMul(p, v)
        }""",
        [weight("w", 6, 6), weight("v", 6, 6),
         numpy_helper.from_array(np.array([0, 0, 0, 0, 0, -1e6], np.float32), "mask")],
    )  # fmt: skip
    inputs = {"x": RNG(0).normal(size=(24, 6)).astype(np.float32)}
    source = saved(proto, tmp_path / "model.onnx")
    step = find("static-int8").of({"operators": "all"})
    found = seen(source, made(source, tmp_path / "made", inputs, step), inputs, tmp_path)
    said = " ".join(story.tell(found, story.layers(found)))
    assert "What goes into Softmax:p from MatMul:a reaches 1e+06, and 83 % of it is less than one step" in said


def test_an_output_that_was_zero_is_told_without_a_share_of_nothing() -> None:
    output = Likeness()
    output.add(np.zeros(4), np.ones(4))
    assert story.tell(Inside([], {"y": output}, 4, 0, (0, 0), (), []), []) == [
        "The output is not zero, as all of the original's is."
    ]
