"""Teacher: the original's outputs for the train data."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..formats.torch import copies, named
from .answers import Array, recall
from .batches import Batches, TrainBatch

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


class Teacher:
    """Answers what the original says to a batch.

    Args:
        module: The original, in evaluation mode, or what answers as it does.
        names: Its outputs that hold one row a sample.
        batches: The train data.
        folder: Where its answers are kept for all that a run trains; None to ask it every time.
        seconds: What asking for all of them may take; where it would take longer, it is asked every time.
        progress: Told the share of the answers that are there.
    """

    def __init__(
        self,
        module: Any,
        names: Collection[str],
        batches: Batches,
        folder: Path | None,
        seconds: float = math.inf,
        progress: Callable[[float], None] = lambda share: None,
    ):
        self.module, self.names, self.batches = module, names, batches
        self._kept: dict[str, Array] | None = None
        if folder is not None and batches.augment is None:
            self._kept = recall(folder, self._arrays, batches, seconds, progress)

    def __call__(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        """Its outputs that are floats and of samples, by name, `[samples, ...]`."""
        if self._kept is None:
            return self.ask(batch)
        return {name: torch.from_numpy(np.array(array[batch.rows])) for name, array in self._kept.items()}

    def ask(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        """The same, from the original itself."""
        with torch.no_grad():
            answer = named(self.module(**copies(batch.inputs)))
        return {name: t.float() for name, t in answer.items() if name in self.names and t.is_floating_point()}

    def _arrays(self, batch: TrainBatch) -> Mapping[str, Array]:
        return {name: tensor.numpy() for name, tensor in self.ask(batch).items()}
