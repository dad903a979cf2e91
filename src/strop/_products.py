"""Products: how fast the installed runtimes multiply matrices, in each precision."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._lazy import lazy
from ._multiplying import IDLE, LAYERS, MANY, OPERATORS, STEP, drawn, given, input_shape, operations_a_layer, rounded
from ._products_litert import Loaded, litert
from ._quiet import no_telemetry, openvino
from ._rounds import in_turn, median
from .stats import Interval
from .target import pin

if TYPE_CHECKING:
    import onnx
    from onnx import helper, numpy_helper
else:
    onnx = lazy("onnx")
    helper = lazy("onnx.helper")
    numpy_helper = lazy("onnx.numpy_helper")


@dataclass(frozen=True)
class Product:
    """How fast a runtime multiplies.

    Attributes:
        runtime: Its name.
        operator: `dense` or `convolution`.
        precision: Asked for: `f32`, `int8` or `bf16`.
        threads: Of the runtime.
        ran: The precision it was really computed in; where it is another one, that is all there is to tell.
        rate: Operations a second: two a multiplication with its addition.
        ratio: Its rate over that in f32, compared round by round.
    """

    runtime: str
    operator: str
    precision: str
    threads: int
    ran: str
    rate: Interval | None = None
    ratio: Interval | None = None


def products(runtime: str, cores: Sequence[int]) -> list[Product]:
    """Time both operators in all precisions that a runtime offers, which take turns.

    To be called once a process: a runtime's pool of threads stays with the cores that it was made on.

    Args:
        runtime: One of `LIBRARIES`.
        cores: What this process is kept to, one thread a core.
    """
    pin(cores)
    return [product for operator in OPERATORS for product in _timed(runtime, operator, len(cores))]


def start(runtime: str, cores: Sequence[int]) -> float:
    """Seconds that an operator with next to nothing to do takes, among many of its kind.

    To be called once a process, as `products`.
    """
    pin(cores)
    call, _ = LIBRARIES[runtime].load(IDLE, "f32", len(cores))
    return 1 / median(in_turn({"idle": call})["idle"]).high / MANY


def _idle() -> onnx.ModelProto:
    """Operators in a row, each on a few numbers; no two of one kind are neighbours, so that none are made one."""
    kinds = ("Sin", "Relu", "Cos", "Abs")
    values = ["x", *map(str, range(1, MANY)), "y"]
    nodes = [helper.make_node(kinds[at % len(kinds)], [values[at]], [values[at + 1]]) for at in range(MANY)]
    ends = [[helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, input_shape(IDLE, 1))] for end in ("x", "y")]
    made = helper.make_graph(nodes, "idle", ends[0], ends[1])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def graph(operator: str, precision: str, threads: int, layers: int = LAYERS) -> onnx.ModelProto:
    """Layers that only multiply, with constant weights; every thread gets as much work.

    Args:
        operator: One of `OPERATORS`.
        precision: `int8` quantizes activations (uint8 a tensor) and weights (int8 a channel) in QDQ form.
        threads: To share the work.
        layers: In a row.

    Returns:
        A graph from float32 `x` to float32 `y`, of the same shape.
    """
    made = OPERATORS[operator]
    constants: dict[str, Any] = {"scale": np.float32(STEP), "zero": np.uint8(0)}
    nodes = []
    value = "x"
    for layer, weights in enumerate(drawn(operator, layers)):
        if precision == "int8":
            constants[f"w{layer}"], constants[f"s{layer}"] = rounded(weights, made.axis)
            nodes += [
                *_quantize(value, f"a{layer}"),
                helper.make_node("DequantizeLinear", [f"w{layer}", f"s{layer}"], [f"d{layer}"], axis=made.axis),
                helper.make_node(made.name, [f"a{layer}", f"d{layer}"], [f"y{layer}"], **made.attributes),
            ]
        else:
            constants[f"w{layer}"] = weights
            nodes.append(helper.make_node(made.name, [value, f"w{layer}"], [f"y{layer}"], **made.attributes))
        value = f"y{layer}"
    nodes += _quantize(value, "y") if precision == "int8" else [helper.make_node("Identity", [value], ["y"])]
    ends = [
        [helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, input_shape(operator, threads))]
        for end in ("x", "y")
    ]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    joined = helper.make_graph(nodes, "products", ends[0], ends[1], stored)
    return helper.make_model(joined, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _quantize(value: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"{result} in 8 bits"]),
        helper.make_node("DequantizeLinear", [f"{result} in 8 bits", "scale", "zero"], [result]),
    ]


def _timed(runtime: str, operator: str, threads: int) -> list[Product]:
    library = LIBRARIES[runtime]
    loaded = {precision: library.load(operator, precision, threads) for precision in library.precisions}
    calls = {precision: call for precision, (call, ran) in loaded.items() if ran == precision}
    rates = in_turn(calls)
    operations = LAYERS * operations_a_layer(operator, threads)
    found = []
    for precision, (_, ran) in loaded.items():
        rate = median(rates[precision] * operations) if precision in rates else None
        compared = rate and precision != "f32" and "f32" in rates
        ratio = median(rates[precision] / rates["f32"]) if compared else None
        found.append(Product(runtime, operator, precision, threads, ran, rate, ratio))
    return found


def _proto(work: str, precision: str, threads: int) -> bytes:
    return (_idle() if work == IDLE else graph(work, precision, threads)).SerializeToString()


def _onnxruntime(work: str, precision: str, threads: int) -> Loaded:
    no_telemetry()
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")  # others take their turn
        options.enable_profiling = True
        options.profile_file_prefix = f"{scratch}/profile"
        session = ort.InferenceSession(_proto(work, precision, threads), options, providers=["CPUExecutionProvider"])
        feed = {"x": given(work, threads)}
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    operators = {event["args"]["op_name"] for event in events if "op_name" in event.get("args", {})}
    multiplying = [name for name in operators if "MatMul" in name or "Gemm" in name or "Conv" in name]
    ran = {"int8" if name.startswith("Q") or "Integer" in name else "f32" for name in multiplying}
    return lambda: session.run(None, feed), " and ".join(sorted(ran))


def _openvino(work: str, precision: str, threads: int) -> Loaded:
    core = openvino().Core()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(_proto(work, precision, threads)), "CPU", options)
    told = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    layers = [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in told]
    ran = {kind for name, kind in layers if name in ("FullyConnected", "MatMul", "Convolution")}
    request, feed = compiled.create_infer_request(), {0: given(work, threads)}
    named = {"int8" if kind in ("u8", "i8") else kind for kind in ran}
    return lambda: request.infer(feed, share_inputs=True), " and ".join(sorted(named))


@dataclass(frozen=True)
class Library:
    """How a runtime is asked.

    Attributes:
        module: That has to be installed.
        load: Makes one of `OPERATORS`, or `IDLE`, ready in a precision, for so many threads.
        precisions: That it offers on a CPU.
    """

    module: str
    load: Callable[[str, str, int], Loaded]
    precisions: tuple[str, ...]


LIBRARIES = {
    "onnxruntime": Library("onnxruntime", _onnxruntime, ("f32", "int8")),
    "openvino": Library("openvino", _openvino, ("f32", "int8", "bf16")),
    "litert": Library("ai_edge_litert", litert, ("f32", "int8")),
}
"""By the name of the runtime."""
