"""Batches: the train data in random order, part of it held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._lazy import lazy
from ..data import Data
from ..errors import InvalidData
from ..formats.torch import as_tensor

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

Array: TypeAlias = np.ndarray[Any, Any]
Augment: TypeAlias = Callable[[dict[str, Array], np.random.Generator], Mapping[str, Array]]

MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class TrainBatch:
    """Samples of one step.

    Attributes:
        rows: Their rows in the train data.
        inputs: By name.
        labels: Or None.
    """

    rows: Array
    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None


class Batches:
    """The train data, in batches.

    Args:
        data: All of it.
        size: Samples a batch.
        held_out: Share to keep apart.
        seed: Of the order, and of what is held out.
        augment: What a user does to a batch before it is trained on.

    Raises:
        InvalidData: Fewer than two samples.
    """

    def __init__(self, data: Data, size: int, held_out: float, seed: int, augment: Augment | None = None):
        if len(data) < 2:
            raise InvalidData(f"Training needs at least 2 samples, and there is {len(data)}. Give more with --train.")
        order = np.random.default_rng([seed, 0]).permutation(len(data))
        apart = min(int(len(data) * held_out), MOST_HELD_OUT)
        self.data, self.seed, self.augment = data, seed, augment
        self.held_out, self.rows = np.sort(order[:apart]), order[apart:]
        self.size = min(size, len(self.rows))
        self.labels = data.label_array()

    @property
    def steps(self) -> int:
        """Batches of one epoch; a last one that is not full is left out."""
        return max(1, len(self.rows) // self.size)

    def epoch(self, number: int, first: int = 0) -> Iterator[TrainBatch]:
        """The batches of an epoch from the `first` on: the same whenever it is asked for."""
        order = np.random.default_rng([self.seed, 1, number]).permutation(self.rows)
        for step in range(first, self.steps):
            rows = order[step * self.size : (step + 1) * self.size]
            yield self.take(rows, np.random.default_rng([self.seed, 2, number, step]))

    def apart(self) -> Iterator[TrainBatch]:
        """What is held out, as it is."""
        for start in range(0, len(self.held_out), self.size):
            yield self.take(self.held_out[start : start + self.size])

    def take(self, rows: Array, random: np.random.Generator | None = None) -> TrainBatch:
        """Some samples; augmented where there is a generator for it."""
        arrays = self.data.take(rows).batch(0, len(rows))
        labels = None if self.labels is None else self.labels[rows]
        if self.augment and random:
            changed = dict(self.augment(dict(arrays), random))
            if {k: v.shape[:1] for k, v in changed.items()} != {k: v.shape[:1] for k, v in arrays.items()}:
                raise InvalidData("augment must return every input, with as many samples as it was given.")
            arrays = {name: np.asarray(changed[name], array.dtype) for name, array in arrays.items()}
        return TrainBatch(
            rows, {name: as_tensor(array) for name, array in arrays.items()}, None if labels is None else target(labels)
        )


def target(labels: Array) -> torch.Tensor:
    """Labels as losses take them: classes in int64, numbers in float32."""
    if labels.dtype.kind not in "biuf":
        raise InvalidData(
            f"Training needs labels that are numbers, and these are {labels.dtype}. Give each class its number, in the "
            "order of the model's outputs."
        )
    kind = np.int64 if labels.dtype.kind in "biu" else np.float32
    return torch.from_numpy(np.array(labels, kind))
