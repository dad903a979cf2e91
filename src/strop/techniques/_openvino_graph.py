"""OpenVINO's graphs: what several steps ask of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from .._quiet import openvino
from ..model import Batch
from ._calibration import Step

Array: TypeAlias = np.ndarray[Any, Any]

FAKE = "FakeQuantize"


def runner(graph: Any, threads: int) -> Step:
    """Steps of a graph in float32 and int8, whose answers have all names of its outputs."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino().Core().compile_model(graph, "CPU", options)
    request = compiled.create_infer_request()
    wanted = {name for port in compiled.inputs for name in port.get_names()}

    def step(batch: Batch) -> dict[str, Array]:
        request.infer({name: value for name, value in batch.items() if name in wanted})
        return {
            name: value for port in compiled.outputs
            for value in (request.get_tensor(port).data.copy(),) for name in port.get_names()
        }  # fmt: skip

    return step


def is_weight(value: Any) -> bool:
    """Whether a value hangs on a rounded constant."""
    kinds = [value.get_node().get_type_name()]
    while kinds[-1] in ("Reshape", "Convert", FAKE):
        value = value.get_node().input_value(0)
        kinds.append(value.get_node().get_type_name())
    return FAKE in kinds and kinds[-1] == "Constant"


def tell(graph: Any, values: Iterable[str]) -> None:
    """Add values, `node:output` each, to the outputs."""
    nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
    for value in values:
        name, _, place = value.rpartition(":")
        output = nodes[name].output(int(place))
        if any(port.get_node().get_type_name() == "Result" for port in output.get_target_inputs()):
            output = openvino().opset13.convert(output, output.get_element_type()).output(0)  # has its own names
            output.get_tensor().set_names({value})
        output.get_tensor().add_names({value})
        graph.add_outputs(output)


def telling(graph: Any, values: Iterable[str], threads: int) -> Step:
    """What runs a graph with nothing rounded and tells these values, too."""
    plain = graph.clone()
    tell(plain, values)
    for node in plain.get_ordered_ops():
        if node.get_type_name() == FAKE:
            for port in node.output(0).get_target_inputs():
                port.replace_source_output(node.input_value(0))
    return runner(plain, threads)
