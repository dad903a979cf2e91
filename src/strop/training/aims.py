"""Aims: which loss fits a model's outputs and the labels, told from arrays alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._calls import function
from ..errors import InvalidData, InvalidPlan, TechniqueError
from ..learning import Training

IGNORED = -100  # the label that cross-entropy leaves out, where a place has none
LEAST = 1e-9  # of a probability whose logarithm is taken
CERTAIN = 1e-7  # of a share, from 0 and from 1, whose odds are taken: what float32 still tells from 1
LEAST_SPREAD = 1e-4  # of an output, as a share of its mean square
STRETCH = 10.0  # of weights, by which logits leave the range from 0 to 1

Array = np.ndarray[Any, Any]


class Aim:
    """What a step is to bring down: the labels' loss and the distance to the original, as `Training` weighs them.

    Args:
        training: How to train.
        outputs: For some samples, by name, as the original answers, or without one, the model: they and the labels
            tell what `auto` is, whether there is a softmax or sigmoid inside, and how far each output spreads.
        labels: Of the same, or None.
        binary: Whether all labels that there are, are 0 or 1.

    Attributes:
        kind: The loss that judges by labels: `cross-entropy`, `binary-cross-entropy`, `mse`, `none` or `own`.
        own: The user's own loss, or None.
        teach: Weight of the distance to the original.
        last: Whether the classes lie on the last axis, not on the second.
        alone: Whether each output stands for itself, and is no one class of several.
        probabilities: Whether a softmax or a sigmoid is inside.
        spreads: By output, its mean squared distance from its mean.

    Raises:
        TechniqueError: The loss can't judge these outputs by these labels, or there is nothing to learn from.
    """

    def __init__(self, training: Training, outputs: Mapping[str, Array], labels: Array | None, binary: bool):
        self.training = training
        self.own: Callable[..., Any] | None = None
        if callable(training.loss):
            self.own = training.loss
        elif ":" in training.loss:
            self.own = function(training.loss, "a function f(outputs, labels)", InvalidPlan)
        first = next(iter(outputs.values()))
        self.kind = "own" if self.own else _kind(training.loss, first, labels, binary)
        self.teach = 1.0 if self.kind == "none" else training.teach
        self.last = self.kind == "cross-entropy" and labels is not None and _plain(labels).shape == first.shape[:-1]
        single = self.kind == "own" and first.ndim > 0 and first.size == len(first)
        self.alone = self.kind == "binary-cross-entropy" or single
        self.probabilities = _are_probabilities(first, self.alone, -1 if self.last else 1)
        self.spreads = {name: _spread(output) for name, output in outputs.items()}

    def check(self, shape: tuple[int, ...], labels: Array) -> None:
        """Hold all labels of the train data to the shape of the first output, which some samples have.

        Raises:
            InvalidData: One is no class of the model's, or no share.
        """
        if self.kind == "cross-entropy":
            classes = shape[-1 if self.last else 1]
            wrong, rule = (labels != IGNORED) & ((labels < 0) | (labels >= classes)), f"classes from 0 to {classes - 1}"
        elif self.kind == "binary-cross-entropy":
            wrong, rule = (labels < 0) | (labels > 1), "from 0 to 1"
        else:
            return
        if wrong.any():
            place = np.argwhere(wrong)[0]
            raise InvalidData(
                f"Labels to train on by {self.kind} must be {rule}, as the model answers them, and that of row "
                f"{place[0]} is {labels[tuple(place)].item()}. Number them so, or name another loss."
            )


def check_taught(outputs: Mapping[str, Any], taught: Mapping[str, Any]) -> None:
    """Hold what a student answers to the shapes of what the original does.

    Raises:
        TechniqueError: They are others.
    """
    shapes = [{k: list(v.shape[1:]) for k, v in part.items() if k in taught} for part in (outputs, taught)]
    if shapes[0] != shapes[1]:
        raise TechniqueError(f"a student must answer as the original, {shapes[1]}, and this one answers {shapes[0]}")


def _kind(asked: str, first: Array, labels: Array | None, binary: bool) -> str:
    if labels is None and asked not in ("auto", "none"):
        raise TechniqueError(f"the loss {asked} needs labels, and the train data have none. Give them, or 'none'")
    classes = labels is not None and (labels.dtype.kind != "f" or bool((labels == labels.round()).all()))
    if asked == "cross-entropy" and labels is not None and not (classes and _by_class(first, labels, 1)):
        what = f"labels are {labels.dtype}" if not classes else f"labels have {_shape(labels)}"
        raise TechniqueError(
            f"cross-entropy needs whole numbers for labels and one output a class; {what}, the first output has "
            f"{_shape(first)}"
        )
    if asked in ("binary-cross-entropy", "mse") and labels is not None and first.size != labels.size:
        raise TechniqueError(
            f"{asked} needs a label for each number of the first output, which has {_shape(first)}, and labels have "
            f"{_shape(labels)}"
        )
    if asked != "auto":
        return asked
    if labels is None:
        return "none"
    if classes and _by_class(first, labels, 2):
        return "cross-entropy"
    if first.size == labels.size:
        return "binary-cross-entropy" if binary else "mse"
    raise TechniqueError(
        f"the loss can't be told from labels of {_shape(labels)} and a first output of {_shape(first)}. Name it: "
        'loss = "none" learns from the original alone, and a function of your own may do anything'
    )


def _by_class(first: Array, labels: Array, least: int) -> bool:
    """Whether an output has an axis of so many classes or more besides those of the labels, the second or the last."""
    if first.ndim < 2:
        return False
    flat: tuple[int, ...] = _plain(labels).shape
    image = bool(first.shape[1] >= least) and (first.shape[0], *first.shape[2:]) == flat
    return image or bool(first.shape[-1] >= least and first.shape[:-1] == flat)


def _plain(labels: Array) -> Array:
    """Labels without an axis that holds one number."""
    return labels[..., 0] if labels.ndim > 1 and labels.shape[-1] == 1 else labels


def _spread(output: Array) -> float:
    """The mean squared distance from the mean of the samples; never next to nothing, of what hardly moves."""
    known = output.astype(np.float64)
    return float(
        np.square(known - (known.mean(0) if known.ndim else known)).mean()
        + LEAST_SPREAD * np.square(known).mean()
        + 1e-12
    )


def _shape(array: Array) -> str:
    return f"shape {list(array.shape)}"


def _are_probabilities(output: Array, alone: bool, axis: int) -> bool:
    """Whether a softmax or a sigmoid is in the model already.

    Args:
        alone: Whether each output stands for itself, so that they need not sum to 1.
        axis: Of the classes.
    """
    if output.dtype.kind != "f" or float(output.min()) < 0 or float(output.max()) > 1:
        return False
    if alone or output.ndim < 2:
        return alone
    sums = np.asarray(output.sum(axis, dtype=np.float64))
    return bool(output.shape[axis] == 1 or np.abs(sums - 1).max() < 1e-3)
