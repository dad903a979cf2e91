"""Trees: what every library that trains them is given, and what it owes; samples and labels made fit for it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import NotApplicable, TechniqueError
from ..forest import Array, Forest
from ..model import Model
from ..spelling import option
from ..target import usable_cores
from ..technique import Context

FEWEST = 50  # samples to train on


@dataclass(frozen=True)
class Changes:
    """How a new ensemble differs from the original: ratios to what the original was trained with.

    Attributes:
        rounds: Of boosting, or trees that are averaged.
        leaves: Of a tree; where trees are bounded by depth, half the leaves are one level less.
        rate: The learning rate; it stays at 1 at the most.
        least: What a leaf must hold, of samples or of their weight.
    """

    rounds: float = 1.0
    leaves: float = 1.0
    rate: float = 1.0
    least: float = 1.0


@dataclass(frozen=True)
class Lesson:
    """What is trained on, and how.

    Attributes:
        x: [samples, features] of the forest's dtype.
        kept: The features that may be looked at; the others hold 0 throughout (see `only`).
        labels: [samples], or None.
        groups: [samples], samples of equal value belong together; or None.
        categorical: Features that are categories.
        threads: To train with.
        seed: Of all that is random.
        tell: Called with what had to be assumed.
        tick: Called after each round with the number done and that of all; raises TimeoutError where time is up.
    """

    x: Array
    kept: Array
    labels: Array | None
    groups: Array | None
    categorical: tuple[int, ...]
    threads: int
    seed: int
    tell: Callable[[str], None]
    tick: Callable[[int, int], None]

    def only(self, kept: Array) -> Lesson:
        """With 0 in all other columns: no split is found in them, and features keep their numbers."""
        x = self.x.copy()
        x[:, np.setdiff1d(np.arange(x.shape[1]), kept)] = 0
        return replace(self, x=x, kept=kept)

    def numbers(self) -> Array:
        """The labels, float64 and finite.

        Raises:
            NotApplicable: There are none, or they are no numbers.
        """
        labels = self.labels
        if labels is None:
            raise NotApplicable("training it anew needs labels, and the train data have none")
        if labels.dtype.kind not in "biuf":
            raise NotApplicable(f"training it anew needs labels that are numbers, and these are {labels.dtype}")
        if labels.ndim != 1:
            raise NotApplicable(f"training it anew needs one label a sample, and these have the shape {labels.shape}")
        numbers = labels.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise NotApplicable(f"labels must be finite, and row {int(np.isfinite(numbers).argmin())} is not")
        return numbers

    def classes(self, count: int) -> Array:
        """The labels, if each is the number of a class, from 0 up.

        Raises:
            NotApplicable: They are not.
        """
        numbers = self.numbers()
        wrong = (numbers != np.trunc(numbers)) | (numbers < 0) | (numbers >= count)
        if wrong.any():
            raise NotApplicable(
                f"its labels must be classes from 0 to {count - 1}, and row {int(wrong.argmax())} has "
                f"{numbers[int(wrong.argmax())]:g}"
            )
        return numbers

    def by_group(self) -> tuple[Lesson, Array]:
        """The samples in order of groups, and how many there are of each.

        Raises:
            NotApplicable: There are no groups.
        """
        if self.groups is None:
            raise NotApplicable("it ranks, and training it anew needs groups, which the train data do not have")
        order = np.argsort(self.groups, kind="stable")
        _, sizes = np.unique(self.groups, return_counts=True)
        labels = None if self.labels is None else self.labels[order]
        return replace(self, x=self.x[order], labels=labels, groups=self.groups[order]), sizes


class Library(ABC):
    """What trains one format of trees anew."""

    module: ClassVar[str]
    """What must be installed for it."""

    @abstractmethod
    def train(self, original: Model, forest: Forest, lesson: Lesson, changes: Changes) -> Forest:
        """Train with the original's parameters, changed.

        Args:
            original: On disk.
            forest: What it was read into.

        Raises:
            NotApplicable: Its parameters can't be had, or these labels don't fit it.
            TimeoutError: As the lesson's `tick`.
        """

    @abstractmethod
    def contributions(self, original: Model, x: Array) -> Array:
        """The mean size of SHAP values (Lundberg et al. 2020) of each feature: [features].

        Args:
            x: [samples, features].
        """


def lesson(context: Context, forest: Forest) -> Lesson:
    """The train data, all features in it.

    Args:
        forest: The original's, or one made of it: says what is a category, and the type of the input.

    Raises:
        NotApplicable: There are too few samples, or there are gaps that the model does not take.
    """
    if context.train is None:
        raise TechniqueError("training needs train data, and none are given")
    (tensor,) = context.original.signature.inputs
    if len(context.train) < FEWEST:
        raise NotApplicable(f"training needs {FEWEST} samples at the least, and there are {len(context.train)}")
    x = context.train.batch(0, len(context.train))[tensor.name].astype(forest.dtype, copy=False)
    if not tensor.missing and not np.isfinite(x).all():
        raise NotApplicable("the train data have NaN or infinity, which the model does not take")
    return Lesson(
        x, np.arange(forest.features), context.train.label_array(), context.train.group_array(), categories(forest),
        len(usable_cores()), context.seed, lambda words: context.progress(0.0, words), _ticking(context),
    )  # fmt: skip


def used(forest: Forest) -> Array:
    """The features that a split looks at, ascending."""
    return np.unique(forest.feature[(forest.tree >= 0) & (forest.feature >= 0)])


def categories(forest: Forest) -> tuple[int, ...]:
    """The features of splits by a subset."""
    return tuple(np.unique(forest.feature[(forest.tree >= 0) & (forest.subset >= 0)]).tolist())


def _ticking(context: Context) -> Callable[[int, int], None]:
    """Tells of progress, and ends what takes longer than the step, or the training settings, allow."""
    seconds = context.training.seconds if context.training else None
    end = min(context.deadline, time.monotonic() + seconds) if seconds else context.deadline

    def tick(done: int, total: int) -> None:
        if time.monotonic() > end and done < total:
            raise TimeoutError(f"the time left did for {done} of {total} rounds. Give a longer {option('budget')}")
        context.progress(done / total, f"round {done} of {total}")

    return tick
