"""Counting: parameters, and operations for one sample."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    import torch
    from torch.utils import flop_counter
else:
    torch = lazy("torch", "torch")
    flop_counter = lazy("torch.utils.flop_counter", "torch")


@dataclass(frozen=True)
class Cost:
    """What a module holds and does.

    Attributes:
        parameters: Numbers that were learned, shared ones once.
        operations: Multiply-adds of its matrix products and convolutions for one sample.
    """

    parameters: int
    operations: int


@contextlib.contextmanager
def _layer_by_layer() -> Iterator[None]:
    """Without oneDNN, which has a kernel for a whole LSTM that the counter knows nothing of."""
    before = torch._C._get_mkldnn_enabled()  # by `torch.backends.mkldnn.flags`, PyTorch warns of other things
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def cost(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Cost:
    """Count a module's parameters, and its operations for one sample.

    Args:
        module: In evaluation mode.
        inputs: Samples, `[samples, ...]` by name.
    """
    one = {name: tensor[:1] if tensor.ndim else tensor for name, tensor in inputs.items()}
    with torch.no_grad(), _layer_by_layer(), flop_counter.FlopCounterMode(display=False) as counter:
        module(**one)
    return Cost(sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2)
