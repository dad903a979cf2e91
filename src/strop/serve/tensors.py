"""What the protocol of MLServer, KServe and Triton (Open Inference Protocol, v2) calls the types of tensors."""

from __future__ import annotations

from ..errors import NotApplicable
from ..model import Tensor

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "str": "BYTES",
}  # fmt: skip


def datatype(tensor: Tensor) -> str:
    """Raises: NotApplicable: The protocol has no such type."""
    if tensor.dtype not in DATATYPES:
        raise NotApplicable(
            f"servers take tensors of {', '.join(DATATYPES)}, and {tensor} is none. Run the bundle by strop: "
            "Bundle.load(folder).predict(inputs)."
        )
    return DATATYPES[tensor.dtype]


def shape(tensor: Tensor) -> list[int]:
    """The sizes of its axes, -1 for a free one."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape]
