"""What every technique owes, and how each meets the odd models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import models
from strop import runtimes, techniques
from strop.data import Data
from strop.errors import InvalidPlan, NotApplicable, TechniqueError
from strop.formats import onnx as room
from strop.model import ONNX, Model
from strop.runtime import predict
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import (
    DynamicInt8,
    OpenvinoInt8,
    OpenvinoInt8Weights,
    OptimizeOnnx,
    Simplify,
    StaticInt8,
    ToOpenvino,
)
from strop.testing import Example, TechniqueCase, fake_data, fake_model, registered
from strop.testing.fakes import FakeCalibrate, FakeCompile, FakeRound, FakeStrip

TARGET = Target(threads=1)


def run(model: Model, data: Data) -> dict[str, np.ndarray]:
    kind = runtimes.find("onnxruntime" if model.format == ONNX else "openvino")
    runner = kind().load(model, TARGET)
    try:
        return predict(runner, model.signature, data, 4)
    finally:
        runner.close()


def error(model: Model, original: Model, data: Data) -> float:
    """The largest difference of an output, relative to its largest value."""
    before, after = run(original, data), run(model, data)
    assert list(before) == list(after)
    return max(float(np.abs(after[n] - before[n]).max() / np.abs(before[n]).max()) for n in before)


def step(technique: Technique, model: Model, data: Data | None, folder: Path) -> Model:
    folder.mkdir(parents=True)
    return apply(technique, model, Context(data, model, TARGET, 0, folder))


def openvino(kind: str, folder: Path) -> Example:
    pytest.importorskip("openvino")
    case = models.case(kind, folder)
    return Example(step(ToOpenvino(), case.model, None, folder / "ir"), case.data)


class OfOnnx(TechniqueCase):
    kind = "cnn"
    refused = "quantized"

    def example(self, folder: Path) -> Example:
        case = models.case(self.kind, folder)
        return Example(case.model, case.data)

    def misfit(self, folder: Path) -> Model | None:
        return models.case(self.refused, folder).model


class TestSimplify(OfOnnx):
    technique = Simplify


class TestOptimizeOnnx(OfOnnx):
    technique = OptimizeOnnx
    kind = "external"

    def misfit(self, folder: Path) -> Model | None:
        return None


class TestDynamicInt8(OfOnnx):
    technique = DynamicInt8
    kind = "transformer"
    tolerance = 0.04


class TestStaticInt8(OfOnnx):
    technique = StaticInt8
    tolerance = 0.04


class TestToOpenvino(OfOnnx):
    technique = ToOpenvino
    tolerance = 1e-4

    def misfit(self, folder: Path) -> Model | None:
        pytest.importorskip("openvino")
        case = models.case("mlp", folder)
        return step(DynamicInt8(), case.model, None, folder / "int8")


class OfOpenvino(TechniqueCase):
    def example(self, folder: Path) -> Example:
        return openvino("cnn", folder)

    def misfit(self, folder: Path) -> Model | None:
        return openvino("quantized", folder).model


class TestOpenvinoInt8(OfOpenvino):
    technique = OpenvinoInt8
    tolerance = 0.04


class TestOpenvinoInt8Weights(OfOpenvino):
    technique = OpenvinoInt8Weights
    tolerance = 0.02


class OfFake(TechniqueCase):
    @pytest.fixture(autouse=True)
    def _fakes(self, tmp_path_factory: pytest.TempPathFactory):
        with registered(tmp_path_factory.mktemp("fakes")):
            yield

    def example(self, folder: Path) -> Example:
        model = fake_model(folder, padding=100)
        return Example(model, fake_data(model, 20))


class TestFakeStrip(OfFake):
    technique = FakeStrip

    def misfit(self, folder: Path) -> Model | None:
        return fake_model(folder)


class TestFakeRound(OfFake):
    technique = FakeRound


class TestFakeCalibrate(OfFake):
    technique = FakeCalibrate


class TestFakeCompile(OfFake):
    technique = FakeCompile


# How far each may be from the original; text: the reason why it refuses.
NOTHING = "nothing to simplify"
ALREADY = "already quantized"
ODD: dict[str, tuple[float | str, float | str, float | str, float | str]] = {
    # kind:          simplify, dynamic-int8, static-int8, to-openvino
    "mlp":            (NOTHING, 0.02, 0.02, 1e-4),
    "cnn":            (1e-4, 0.03, 0.03, 1e-4),
    "transformer":    (NOTHING, 0.04, 0.05, 1e-4),
    "lstm":           (NOTHING, 0.02, 0.06, 1e-4),
    "constants":      (1e-4, 0.03, 0.03, 1e-4),
    "old_opset":      (NOTHING, 0.02, 0.03, 1e-4),
    "wrong_shape":    (NOTHING, 0.02, 0.02, 1e-4),
    "several_inputs": (NOTHING, 0.04, 0.04, 1e-4),
    "no_batch":       (NOTHING, 0.04, 0.05, 1e-4),
    "quantized":      (ALREADY, ALREADY, ALREADY, 1e-4),
    "external":       (1e-4, 0.03, 0.03, 1e-4),
}  # fmt: skip


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("technique", [Simplify, DynamicInt8, StaticInt8, ToOpenvino], ids=lambda t: t.label())
def test_odd_models_pass_or_are_refused_with_a_reason(tmp_path: Path, kind: str, technique: type[Technique]) -> None:
    if technique is ToOpenvino:
        pytest.importorskip("openvino")
    expected = ODD[kind][[Simplify, DynamicInt8, StaticInt8, ToOpenvino].index(technique)]
    case = models.case(kind, tmp_path / "given")
    if isinstance(expected, str):
        with pytest.raises(NotApplicable, match=expected):
            step(technique(), case.model, case.data, tmp_path / "result")
    else:
        result = step(technique(), case.model, case.data, tmp_path / "result")
        assert error(result, case.model, case.data) <= expected


@pytest.mark.parametrize("kind", [kind for kind in models.KINDS if kind != "quantized"])
def test_openvino_int8_on_odd_models(tmp_path: Path, kind: str) -> None:
    given = openvino(kind, tmp_path / "given")
    case = models.case(kind, tmp_path / "given")
    result = step(OpenvinoInt8(), given.model, given.data, tmp_path / "int8")
    assert error(result, case.model, case.data) <= 0.08
    result = step(OpenvinoInt8Weights(mode="symmetric"), given.model, None, tmp_path / "weights")
    assert error(result, case.model, case.data) <= 0.03


@pytest.mark.parametrize(
    "changes",
    [
        {"calibrator": "entropy"}, {"calibrator": "percentile"}, {"per_channel": False}, {"operators": "all"},
        {"exclude": "ends"}, {"samples": 50}, {"weights": "full"},
    ],
    ids=str,
)  # fmt: skip
def test_static_int8_settings_work(tmp_path: Path, changes: dict[str, object]) -> None:
    case = models.case("cnn", tmp_path / "given")
    technique = StaticInt8(**changes)
    if changes.get("weights") == "full" and not TARGET.int8_saturates:
        with pytest.raises(NotApplicable, match="never saturates"):
            technique.requires(case.model, TARGET)
        return
    result = step(technique, case.model, case.data, tmp_path / "result")
    assert error(result, case.model, case.data) <= 0.2


def quantized_weights(model: Model) -> set[str]:
    """The operators that read a dequantized weight, by name."""
    graph = room.load(model).graph
    stored = {t.name for t in graph.initializer}
    weights = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored}
    return {n.op_type + n.name for n in graph.node if n.op_type in ("Conv", "Gemm") and weights & set(n.input[1:2])}


def test_ends_and_named_nodes_stay_in_float(tmp_path: Path) -> None:
    case = models.case("cnn", tmp_path / "given")
    proto = room.load(case.model)
    for number, node in enumerate(proto.graph.node):
        node.name = f"node{number}"
    named = room.save(proto, tmp_path, case.model)
    all_of_them = quantized_weights(step(StaticInt8(), named, case.data, tmp_path / "all"))
    assert len(all_of_them) == 3
    ends = quantized_weights(step(StaticInt8(exclude="ends"), named, case.data, tmp_path / "ends"))
    assert ends == {"Convnode4"}
    one = quantized_weights(step(StaticInt8(nodes="node4"), named, case.data, tmp_path / "one"))
    assert one == all_of_them - {"Convnode4"}
    with pytest.raises(NotApplicable, match="no node 'node99'"):
        StaticInt8(nodes="node99").requires(named, TARGET)


def test_dynamic_int8_leaves_convolutions_unless_asked(tmp_path: Path) -> None:
    case = models.case("cnn", tmp_path / "given")
    plain = room.load(step(DynamicInt8(), case.model, None, tmp_path / "plain")).graph
    assert [n.op_type for n in plain.node].count("Conv") == 2
    asked = room.load(step(DynamicInt8(convolutions=True), case.model, None, tmp_path / "asked")).graph
    assert [n.op_type for n in asked.node].count("ConvInteger") == 2
    with pytest.raises(NotApplicable, match="no convolution"):
        DynamicInt8(convolutions=True).requires(models.case("mlp", tmp_path / "mlp").model, TARGET)


def test_a_mask_of_attention_takes_no_steps_of_int8_from_the_scores(tmp_path: Path) -> None:
    """As exports of transformers have it: the lowest number there is, added where nothing is to be looked at."""
    rng, lowest = np.random.default_rng(0), float(np.finfo(np.float32).min)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.4, (16, 16)).astype(np.float32), name) for name in ("q", "k", "v")
    ]
    weights += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("one", 1), ("lowest", lowest))]
    node = helper.make_node
    nodes = [
        *(node("MatMul", ["x", name], [f"x{name}"], f"to_{name}") for name in ("q", "k", "v")),
        node("Transpose", ["xk"], ["xkt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["xq", "xkt"], ["scores"], "compare"),
        node("Sub", ["one", "keep"], ["left"], "invert"), node("Mul", ["left", "lowest"], ["mask"], "lower"),
        node("Add", ["scores", "mask"], ["masked"], "hide"), node("Softmax", ["masked"], ["shares"], "share", axis=-1),
        node("MatMul", ["shares", "xv"], ["y"], "mix"),
    ]  # fmt: skip
    value, float32 = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    ends = [value("x", float32, ["N", 8, 16]), value("keep", float32, ["N", 1, 8])], [value("y", float32, ["N", 8, 16])]
    proto = helper.make_model(helper.make_graph(nodes, "attention", *ends, weights), ir_version=8,
                                   opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip
    keep = (np.arange(8) < rng.integers(3, 9, (60, 1, 1))).astype(np.float32)
    data = Data({"x": rng.normal(size=(60, 8, 16)).astype(np.float32), "keep": keep})
    model = room.OnnxFormat().store(room.OnnxFormat().open(proto), tmp_path / "given")
    made = step(StaticInt8(), model, data, tmp_path / "made")
    whole = Data({**data.inputs, "keep": np.ones_like(keep)})  # nothing is hidden: the scores' own rounding is left
    own = error(step(StaticInt8(), model, whole, tmp_path / "whole"), model, whole)
    assert error(made, model, data) < 1.5 * own < 0.5, "all scores alike are 0.87 off"
    with pytest.raises(NotApplicable, match=r"Too many bins.*minmax does without"):
        step(StaticInt8(calibrator="percentile"), model, data, tmp_path / "other")


def test_openvino_halves_weights_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    case = models.case("transformer", tmp_path / "given")
    full = step(ToOpenvino(), case.model, None, tmp_path / "full")
    half = step(ToOpenvino(half=True), case.model, None, tmp_path / "half")
    assert half.files[1].stat().st_size < 0.6 * full.files[1].stat().st_size
    assert error(half, case.model, case.data) <= 0.01


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "performance"}, {"smooth_quant_alpha": 0.5}, {"smooth_quant_alpha": -1.0},
        {"scheme": "generic"}, {"range_estimator": "quantile"}, {"range_estimator": "mean-minmax"},
        {"samples": 100},
    ],
    ids=str,
)  # fmt: skip
def test_openvino_int8_settings_work(tmp_path: Path, changes: dict[str, object]) -> None:
    given = openvino("transformer", tmp_path / "given")
    result = step(OpenvinoInt8(**changes), given.model, given.data, tmp_path / "result")
    assert error(result, given.model, given.data) <= 0.08


def test_openvino_int8_refuses_settings_that_change_nothing(tmp_path: Path) -> None:
    given = openvino("cnn", tmp_path / "given")
    for technique, said in (
        (OpenvinoInt8(smooth_quant_alpha=0.5), "no attention"),
        (OpenvinoInt8(scheme="generic"), "no attention"),
    ):
        with pytest.raises(NotApplicable, match=said):
            technique.requires(given.model, TARGET)


def relu_only() -> onnx.ModelProto:
    return models.build("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", [])


def test_models_without_weights_are_refused(tmp_path: Path) -> None:
    onnx.save(relu_only(), tmp_path / "relu.onnx")
    model = room.OnnxFormat().open(tmp_path / "relu.onnx")
    for technique in (DynamicInt8(), StaticInt8()):
        with pytest.raises(NotApplicable, match="to quantize"):
            technique.requires(model, TARGET)
    pytest.importorskip("openvino")
    converted = step(ToOpenvino(), model, None, tmp_path / "ir")
    for technique in (OpenvinoInt8(), OpenvinoInt8Weights()):
        with pytest.raises(NotApplicable, match="to quantize"):
            technique.requires(converted, TARGET)


def test_a_bias_with_a_row_axis_is_quantized(tmp_path: Path) -> None:
    """ONNX Runtime fuses MatMul and Add into a Gemm with such a bias, and its quantizer then fails on it."""
    row = numpy_helper.from_array(np.ones((1, 4), np.float32), "b")
    text = "g (float[N, 16] x) => (float[N, 4] y) { m = MatMul(x, w) y = Add(m, b) }"
    onnx.save(models.build(text, [models.weight("w", 16, 4), row]), tmp_path / "row.onnx")
    model, data = room.OnnxFormat().open(tmp_path / "row.onnx"), models.data_for("mlp")
    assert error(step(StaticInt8(), model, data, tmp_path / "result"), model, data) <= 0.03


def test_a_shared_bias_is_quantized_whatever_others_are_called(tmp_path: Path) -> None:
    """ONNX Runtime's quantizer would call its copies b1, b2, ..., as the layers are."""
    text = "".join(
        f"b{n + 1} = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({f'b{n}' if n else 'x'}, k{n}, b)\n"
        for n in range(4)
    )
    layers = [models.weight(f"k{n}", 4, 4, 3, 3) for n in range(4)]
    proto = models.build(
        f"g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] b4) {{ {text} }}", [*layers, models.weight("b", 4)]
    )
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    model, data = room.OnnxFormat().open(path), Data({"x": models.floats(4, 6, 6)})
    assert error(step(StaticInt8(), model, data, tmp_path / "int8"), model, data) < 0.05


def test_what_openvino_cannot_convert_is_refused_with_the_operator(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    onnx.save(models.build("g (float[N, 4] x) => (float[N, 4] y) { y = Affine(x) }", [], 7), tmp_path / "affine.onnx")
    model = room.OnnxFormat().open(tmp_path / "affine.onnx")
    with pytest.raises(NotApplicable, match="Affine"):
        step(ToOpenvino(), model, None, tmp_path / "ir")


def test_float16_weights_are_refused(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.ones((4, 4), np.float16), "w")
    onnx.save(
        models.build("g (float16[N, 4] x) => (float16[N, 4] y) { y = MatMul(x, w) }", [half]), tmp_path / "h.onnx"
    )
    model = room.OnnxFormat().open(tmp_path / "h.onnx")
    for technique in (DynamicInt8(), StaticInt8()):
        with pytest.raises(NotApplicable, match="float16"):
            technique.requires(model, TARGET)


def test_products_of_activations_only_have_no_weights_to_quantize(tmp_path: Path) -> None:
    onnx.save(models.build("g (float[N, N] x) => (float[N, N] y) { y = MatMul(x, x) }", []), tmp_path / "x.onnx")
    model = room.OnnxFormat().open(tmp_path / "x.onnx")
    with pytest.raises(NotApplicable, match="weights"):
        step(DynamicInt8(), model, None, tmp_path / "result")


def test_openvino_refuses_what_only_onnx_runtime_knows(tmp_path: Path) -> None:
    case = models.case("transformer", tmp_path / "given")
    proto = room.load(case.model)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.graph.node.append(helper.make_node("Gelu", ["embedding"], ["g"], domain="com.microsoft"))
    proto.graph.output[0].name = "g"
    with pytest.raises(NotApplicable, match=r"com\.microsoft\.Gelu"):
        ToOpenvino().requires(room.save(proto, tmp_path, case.model), TARGET)


def test_an_input_passed_through_keeps_both_names(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    proto = models.mlp()
    proto.graph.node.append(helper.make_node("Identity", ["x"], ["same"]))
    proto.graph.output.append(helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, ["N", 16]))
    onnx.save(proto, tmp_path / "pass.onnx")
    model = room.OnnxFormat().open(tmp_path / "pass.onnx")
    data = models.data_for("mlp")
    assert error(step(ToOpenvino(), model, None, tmp_path / "ir"), model, data) <= 1e-4


def test_calibration_stops_at_the_deadline(tmp_path: Path) -> None:
    case = models.case("cnn", tmp_path / "given")
    (tmp_path / "result").mkdir()
    context = Context(case.data, case.model, TARGET, 0, tmp_path / "result", deadline=0.0)
    with pytest.raises(TechniqueError, match="out of time after 0 of"):
        apply(StaticInt8(), case.model, context)


def test_calibration_tells_its_progress(tmp_path: Path) -> None:
    case = models.case("cnn", tmp_path / "given")
    (tmp_path / "result").mkdir()
    told: list[float] = []
    context = replace(
        Context(case.data, case.model, TARGET, 0, tmp_path / "result"), progress=lambda share, _: told.append(share)
    )
    apply(StaticInt8(), case.model, context)
    ranges, fits = told[: models.SAMPLES], told[models.SAMPLES :]
    assert ranges == sorted(ranges) and len(set(ranges)) == models.SAMPLES
    assert fits[-1] == 0 and sorted(fits[:-1]) == fits[:-1], "samples again, and the layers"


def test_ranges_are_learned_once_a_run_and_anew_for_other_samples(tmp_path: Path) -> None:
    case, told = models.case("cnn", tmp_path / "given"), list[str]()

    def made(name: str, technique: StaticInt8, shared: Path | None, data: Data = case.data) -> bytes:
        (tmp_path / name).mkdir(parents=True)
        context = Context(data, case.model, TARGET, 0, tmp_path / name, shared=shared)
        return apply(
            technique, case.model, replace(context, progress=lambda _, words: told.append(words))
        ).path.read_bytes()

    run = tmp_path / "run"
    first = made("run/a", StaticInt8(), run)
    assert told and first == made("alone/a", StaticInt8(), None)
    told.clear()
    made("run/b", StaticInt8(samples=50), run)
    assert told, "the ranges of others"
    told.clear()
    made("run/c", StaticInt8(exclude="none"), run)
    assert not told, "the ranges of the run, and its fits"
    other = replace(case.data, inputs={name: 3 * array for name, array in case.data.inputs.items()})
    assert made("alone/b", StaticInt8(), None, other) != first and told


def test_no_samples_to_calibrate_with_is_said(tmp_path: Path) -> None:
    case = models.case("cnn", tmp_path / "given")
    with pytest.raises(NotApplicable, match="needs samples"):
        step(StaticInt8(), case.model, None, tmp_path / "result")


def test_states_are_fed_back_while_calibrating(tmp_path: Path) -> None:
    """A counter in the state reaches values in the fifth step that no first step has: its range must hold them."""
    proto = models.build(
        """g (float[1, 4] x, float[1, 4] state) => (float[1, 4] y, float[1, 4] next) {
            next = Add(state, x)
            y = MatMul(next, w)
        }""",
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    onnx.save(proto, tmp_path / "counter.onnx")
    model = room.OnnxFormat().open(tmp_path / "counter.onnx")
    x, state = model.signature.inputs
    signature = replace(model.signature, inputs=(x, replace(state, batched=False, feedback="next")))
    model = replace(model, signature=signature)
    data = Data({"x": np.ones((3, 5, 4), np.float32)})
    result = step(StaticInt8(), model, data, tmp_path / "result")
    np.testing.assert_allclose(run(result, data)["y"][0, -1], 5, atol=0.1)


def test_printing_libraries_leave_standard_output_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = openvino("cnn", tmp_path / "given")
    step(OpenvinoInt8(), given.model, given.data, tmp_path / "int8")
    case = models.case("cnn", tmp_path / "onnx")
    step(StaticInt8(calibrator="entropy"), case.model, case.data, tmp_path / "static")
    assert capfd.readouterr().out == ""


def test_techniques_are_found_by_label() -> None:
    for technique in techniques.TECHNIQUES:
        assert techniques.find(technique.label()) is technique
    with pytest.raises(InvalidPlan, match="Did you mean 'static-int8'"):
        techniques.find("static-int")
    with pytest.raises(InvalidPlan, match="There are: distill"):
        techniques.find("xyzzy")
