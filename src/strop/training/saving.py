"""Saving what was trained, with what it holds and does."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from .._lazy import lazy
from ..formats.counting import cost
from ..formats.torch import save
from ..model import KERAS, Model
from ..technique import Context
from . import keras
from .loop import train_batches
from .opening import closed

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


def saved(module: torch.nn.Module, model: Model, context: Context) -> Model:
    """Write a module that answers as `model` does, in its format, and count its parameters and operations."""
    if model.format == KERAS:
        return keras.saved(closed(module, model, context), context)
    batches = train_batches(context)
    inputs = batches.take(batches.rows[:2]).inputs
    counts = asdict(cost(module.eval(), {name: _shaped(model, name, tensor) for name, tensor in inputs.items()}))
    return replace(save(module, context.folder, model), counts=counts)


def _shaped(model: Model, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Cut or repeated to the shape that the original was counted in: train data may be of another length."""
    shape = next(known.shape for known in model.signature.inputs if known.name == name)
    for axis, size in enumerate(shape[1:], 1):
        if isinstance(size, int):
            tensor = tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])
    return tensor
