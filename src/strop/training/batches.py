"""Batches: the train data in random order, part of it held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from .._calls import function
from .._plain import told
from ..data import Data
from ..errors import InvalidData, InvalidPlan, TechniqueError
from ..formats.torch import as_tensor
from ..learning import Training
from ..spelling import option
from ..technique import Context

Array: TypeAlias = np.ndarray[Any, Any]
Augment: TypeAlias = Callable[[dict[str, Array], np.random.Generator], Mapping[str, Array]]

MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class TrainBatch:
    """Samples of one step.

    Attributes:
        rows: Their rows in the train data.
        inputs: By name, tensors of the framework that is trained.
        labels: One of them, or None.
    """

    rows: Array
    inputs: dict[str, Any]
    labels: Any


class Batches:
    """The train data, in batches.

    Args:
        data: All of it.
        size: Samples a batch.
        held_out: Share to keep apart.
        seed: Of the order, and of what is held out.
        augment: What a user does to a batch before it is trained on.
        labelled: Whether the labels, where there are any, are wanted.
        given: Makes of an array what the framework takes; PyTorch's tensors by default.

    Raises:
        InvalidData: Fewer than two samples, or labels that are no numbers.
    """

    def __init__(
        self, data: Data, size: int, held_out: float, seed: int, augment: Augment | None = None, labelled: bool = True,
        given: Callable[[Array], Any] = as_tensor,
    ):  # fmt: skip
        if len(data) < 2:
            raise InvalidData(
                f"Training needs at least 2 samples, and there is {len(data)}. Give more: {option('train', 'DATA')}."
            )
        order = np.random.default_rng([seed, 0]).permutation(len(data))
        apart = min(int(len(data) * held_out), MOST_HELD_OUT)
        self.data, self.seed, self.augment, self.given = data, seed, augment, given
        self.held_out, self.rows = np.sort(order[:apart]), order[apart:]
        self.size = min(size, len(self.rows))
        self.labels = data.label_array() if labelled else None
        if self.labels is not None:
            _check(self.labels)

    @cached_property
    def binary(self) -> bool:
        """Whether all labels are 0 or 1."""
        return self.labels is not None and bool(np.isin(self.labels, (0, 1)).all())

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
            arrays = _augmented(self.augment, arrays, random)
        inputs = {name: self.given(array) for name, array in arrays.items()}
        return TrainBatch(rows, inputs, None if labels is None else self.given(target(labels)))


def batches_of(data: Data, training: Training, seed: int, given: Callable[[Array], Any] = as_tensor) -> Batches:
    """Train data in batches, as the settings say.

    Raises:
        InvalidData, InvalidPlan: There are too few, or their labels or what augments them are none to train with.
    """
    augment = training.augment
    if isinstance(augment, str):
        augment = function(augment, "a function f(batch, generator)", InvalidPlan)
    return Batches(data, training.batch, training.holdout, seed, augment, training.loss != "none", given)


def settings_of(context: Context) -> Training:
    """How to train."""
    return context.training or Training()


def data_of(context: Context) -> Data:
    """What to train on.

    Raises:
        TechniqueError: Nothing is given.
    """
    if context.train is None:
        raise TechniqueError("training needs train data, and none are given")
    return context.train


def _augmented(augment: Augment, arrays: Mapping[str, Array], random: np.random.Generator) -> dict[str, Array]:
    """What a user's function makes of a batch.

    Raises:
        InvalidPlan: It fails, or returns something else than such a batch.
    """
    try:
        changed = {name: np.asarray(array) for name, array in dict(augment(dict(arrays), random)).items()}
    except Exception as error:  # whatever it raises is told as it is
        raise InvalidPlan(
            f"augment must return a batch as it is given one, and failed with {type(error).__name__}: {told(error)}."
        ) from error
    for name, array in arrays.items():
        made = changed.get(name)
        if made is None or made.shape[:1] != array.shape[:1] or not np.can_cast(made.dtype, array.dtype, "same_kind"):
            found = "leaves it out" if made is None else f"returns {made.dtype}{list(made.shape)}"
            raise InvalidPlan(
                f"augment must return every input with as many samples and of the kind that it was given, and of "
                f"{name!r}, {array.dtype}{list(array.shape)}, it {found}."
            )
    return {name: changed[name].astype(array.dtype, copy=False) for name, array in arrays.items()}


def _check(labels: Array) -> None:
    if labels.dtype.kind not in "biuf":
        raise InvalidData(
            f"Training needs labels that are numbers, and these are {labels.dtype}. Give each class its number, in the "
            "order of the model's outputs."
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(labels.astype(np.float32)).reshape(len(labels), -1).all(axis=1)
    if not finite.all():
        raise InvalidData(
            f"Labels to train on must be finite, and row {int(finite.argmin())} is not in float32. Drop such samples, "
            "or scale the labels."
        )


def target(labels: Array) -> Array:
    """Labels as losses take them: classes in int64, numbers in float32."""
    return np.array(labels, np.int64 if labels.dtype.kind in "biu" else np.float32)
