"""Counting: parameters, and operations for one sample."""

from __future__ import annotations

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


def cost(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Cost:
    """Count a module's parameters, and its operations for one sample.

    Args:
        module: In evaluation mode.
        inputs: Samples, `[samples, ...]` by name.
    """
    one = {name: tensor[:1] if tensor.ndim else tensor for name, tensor in inputs.items()}
    plainly = torch.backends.mkldnn.flags(enabled=False)  # the counter knows nothing of a kernel for a whole LSTM
    with torch.no_grad(), plainly, flop_counter.FlopCounterMode(display=False) as counter:
        module(**one)
    return Cost(sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2)
