"""Statistics of batch norm, taken anew: those of what was there before do not fit what was made of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._lazy import lazy
from .batches import TrainBatch

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


def norms(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that keep running statistics."""
    kinds = torch.nn.modules.batchnorm._BatchNorm
    return [layer for layer in module.modules() if isinstance(layer, kinds) and layer.track_running_stats]


def reestimate(module: torch.nn.Module, batches: Iterable[TrainBatch]) -> None:
    """Set running means and variances to their averages over some batches, of two samples or more each.

    Nothing is changed where there is no such batch.
    """
    layers = norms(module)
    batches = (batch for batch in batches if len(batch.rows) > 1)
    first = next(batches, None) if layers else None
    if first is None:
        return
    before = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()  # type: ignore[operator]
        layer.momentum = None  # type: ignore[assignment]  # a plain average
        layer.train()
    with torch.no_grad():
        for batch in itertools.chain([first], batches):
            module(**batch.inputs)
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
    module.eval()
