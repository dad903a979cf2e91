"""An ONNX graph, written node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

Array = np.ndarray[Any, Any]

FLOAT, DOUBLE = 1, 11  # of onnx.TensorProto
KINDS = {"float32": FLOAT, "float64": DOUBLE}


class Graph:
    """Nodes that follow one another.

    Attributes:
        dtype: Of the numbers that are written into it.
        domains: Whose operators there are.
    """

    def __init__(self, dtype: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.domains = {""}
        self.dtype = dtype

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        self.domains.add(domain)
        return name

    def cast(self, name: str, dtype: str, wanted: str) -> str:
        """From a dtype to another, where that is one."""
        return name if dtype == wanted else self.add("Cast", name, to=KINDS[wanted])

    def number(self, value: float | list[int]) -> str:
        """A constant: a number of the graph's type, or a list of axes."""
        return self.array(np.array(value, np.int64 if isinstance(value, list) else self.dtype))

    def array(self, values: Array, dtype: str | None = None) -> str:
        """A constant array, as it is or of another dtype."""
        name = f"constant_{len(self.stored)}"
        self.stored.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name
