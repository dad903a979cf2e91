"""Saving what was trained, with what it holds and does."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ..formats.counting import cost
from ..formats.torch import save
from ..model import Model
from ..technique import Context
from .loop import train_batches

if TYPE_CHECKING:
    import torch


def saved(module: torch.nn.Module, model: Model, context: Context) -> Model:
    """Write a module that answers as `model` does, and count its parameters and operations."""
    batches = train_batches(context)
    counts = asdict(cost(module.eval(), batches.take(batches.rows[:2]).inputs))
    return replace(save(module, context.folder, model), counts=counts)
