"""Losses: what is minimized, from labels and from the original's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._calls import function
from .._lazy import lazy
from ..errors import InvalidData, InvalidPlan, TechniqueError
from ..learning import Training

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = lazy("torch", "torch")
    F = lazy("torch.nn.functional", "torch")

IGNORED = -100  # the label that cross-entropy leaves out, where a place has none
LEAST = 1e-9  # of a probability whose logarithm is taken
LEAST_SPREAD = 1e-4  # of an output, as a share of its mean square


class Objective:
    """The loss of a step: the labels' and the distance to the original, as `Training` weighs them.

    Args:
        training: How to train.
        outputs: For some samples, by name, as the original answers, or without one, the module: they and the labels
            tell what `auto` is, whether there is a softmax or sigmoid inside, and how far each output spreads.
        labels: Of the same, or None.
        binary: Whether all labels that there are, are 0 or 1.

    Attributes:
        kind: The loss that judges by labels: `cross-entropy`, `binary-cross-entropy`, `mse`, `none` or `own`.
        teach: Weight of the distance to the original.
        alone: Whether each output stands for itself, and is no one class of several.
        probabilities: Whether a softmax or a sigmoid is inside.

    Raises:
        TechniqueError: The loss can't judge these outputs by these labels, or there is nothing to learn from.
    """

    def __init__(
        self, training: Training, outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None, binary: bool
    ):
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
        single = self.kind == "own" and first.ndim > 0 and first.numel() == len(first)
        self.alone = self.kind == "binary-cross-entropy" or single
        self.probabilities = _are_probabilities(first, self.alone, -1 if self.last else 1)
        self.spreads = {name: _spread(output.float()) for name, output in outputs.items()}

    def __call__(
        self,
        outputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor | None,
        taught: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        """A scalar.

        Args:
            outputs: `[samples, ...]` each, by name.
            labels: `[samples, ...]` or None.
            taught: The original's outputs, where they are learned from.
        """
        loss = torch.zeros(())
        if self.teach < 1:
            loss = loss + (1 - self.teach) * self._by_labels(outputs, labels)
        if taught is not None and self.teach > 0:
            loss = loss + self.teach * self._distance(outputs, taught)
        return loss

    def check(self, first: torch.Tensor, labels: np.ndarray[Any, Any]) -> None:
        """Hold all labels of the train data to the first output, which some samples have.

        Raises:
            InvalidData: One is no class of the model's, or no share.
        """
        if self.kind == "cross-entropy":
            classes = first.shape[-1 if self.last else 1]
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

    def shares(self, first: torch.Tensor) -> torch.Tensor:
        """The first output, from 0 to 1 where it is logits of such numbers."""
        logits = self.kind == "binary-cross-entropy" and not self.probabilities
        return torch.sigmoid(first) if logits else first

    def scores(self, first: torch.Tensor) -> torch.Tensor:
        """Probabilities of classes, `[samples, classes]`, of a first output that has one number a class, or one number
        for the second of two."""
        if first.ndim == 2 and first.shape[1] > 1:
            return first if self.probabilities else torch.softmax(first, 1)
        second = (first if self.probabilities else torch.sigmoid(first)).reshape(-1)
        return torch.stack([1 - second, second], 1)

    def sensitivity(
        self, outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None, random: torch.Generator
    ) -> torch.Tensor:
        """A scalar whose gradient tells what matters: the loss by labels, or where there is none, random outputs."""
        if self.kind != "none":
            return self._by_labels(outputs, labels)
        learned = [tensor for tensor in outputs.values() if tensor.requires_grad]
        signs = [torch.randint(0, 2, tensor.shape, generator=random) * 2 - 1 for tensor in learned]
        parts = [(t.float() * sign).sum() / t.shape[0] for t, sign in zip(learned, signs, strict=True)]
        return torch.stack(parts).sum()

    def _by_labels(self, outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None) -> torch.Tensor:
        if self.own:
            made = self.own(dict(outputs), labels)
            free = torch.is_grad_enabled() and isinstance(made, torch.Tensor) and not made.requires_grad
            if not isinstance(made, torch.Tensor) or made.numel() != 1 or free:
                raise TechniqueError(
                    "the loss must return a scalar tensor that depends on the outputs, and returned "
                    f"{f'a tensor of shape {list(made.shape)}' if isinstance(made, torch.Tensor) else type(made)}"
                )
            return made.reshape(())
        first = self._by_class(self._logits(next(iter(outputs.values()))))
        if labels is None:
            raise TechniqueError(f"the loss {self.kind} needs labels, and the train data have none")
        if self.kind == "cross-entropy":
            return F.cross_entropy(first, _plain(labels).long())
        if self.kind == "binary-cross-entropy":
            wanted = labels.to(first.dtype).reshape(first.shape)
            return F.binary_cross_entropy_with_logits(first, wanted)
        return F.mse_loss(first, labels.to(first.dtype).reshape(first.shape))

    def _distance(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Of classes: the divergence at a temperature; of other outputs: the squared error over the spread."""
        first = next(iter(outputs))
        total = torch.zeros(())
        for name, wanted in taught.items():
            found = outputs[name].float()
            if name == first and self.kind == "cross-entropy":
                heat = self.training.temperature
                given = F.log_softmax(self._by_class(self._logits(found)) / heat, 1)
                asked = F.log_softmax(self._by_class(self._logits(wanted)) / heat, 1)
                per_class = F.kl_div(given, asked, reduction="sum", log_target=True)
                total = total + heat**2 * per_class / (given.numel() / given.shape[1])
            elif name == first and self.kind == "binary-cross-entropy":
                total = total + F.binary_cross_entropy_with_logits(
                    self._logits(found), torch.sigmoid(self._logits(wanted))
                )
            else:
                total = total + (found - wanted).square().mean() / self.spreads[name]
        return total

    def _by_class(self, logits: torch.Tensor) -> torch.Tensor:
        """Classes on axis 1, as losses take them; models that answer a sequence have them on the last."""
        return logits.movedim(-1, 1) if self.last else logits

    def _logits(self, output: torch.Tensor) -> torch.Tensor:
        if self.probabilities and self.kind == "cross-entropy":
            return torch.log(output.float().clamp_min(LEAST))
        if self.probabilities and self.kind == "binary-cross-entropy":
            return torch.logit(output.float(), LEAST)
        return output.float()


def _kind(asked: str, first: torch.Tensor, labels: torch.Tensor | None, binary: bool) -> str:
    if labels is None and asked not in ("auto", "none"):
        raise TechniqueError(f"the loss {asked} needs labels, and the train data have none. Give them, or 'none'")
    classes = labels is not None and (not labels.is_floating_point() or bool((labels == labels.round()).all()))
    if asked == "cross-entropy" and labels is not None and not (classes and _by_class(first, labels, 1)):
        what = f"labels are {labels.dtype}" if not classes else f"labels have {_shape(labels)}"
        raise TechniqueError(
            f"cross-entropy needs whole numbers for labels and one output a class; {what}, the first output has "
            f"{_shape(first)}"
        )
    if asked in ("binary-cross-entropy", "mse") and labels is not None and first.numel() != labels.numel():
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
    if first.numel() == labels.numel():
        return "binary-cross-entropy" if binary else "mse"
    raise TechniqueError(
        f"the loss can't be told from labels of {_shape(labels)} and a first output of {_shape(first)}. Name it: "
        'loss = "none" learns from the original alone, and a function of your own may do anything'
    )


def _by_class(first: torch.Tensor, labels: torch.Tensor, least: int) -> bool:
    """Whether an output has an axis of so many classes or more besides those of the labels, the second or the last."""
    if first.ndim < 2:
        return False
    flat = _plain(labels).shape
    image = first.shape[1] >= least and (first.shape[0], *first.shape[2:]) == flat
    return image or (first.shape[-1] >= least and first.shape[:-1] == flat)


def _plain(labels: torch.Tensor) -> torch.Tensor:
    """Labels without an axis that holds one number."""
    return labels.squeeze(-1) if labels.ndim > 1 else labels


def _spread(output: torch.Tensor) -> float:
    """The mean squared distance from the mean of the samples; never next to nothing, of what hardly moves."""
    return float((output - output.mean(0)).square().mean() + LEAST_SPREAD * output.square().mean() + 1e-12)


def _shape(tensor: torch.Tensor) -> str:
    return f"shape {list(tensor.shape)}"


def _are_probabilities(output: torch.Tensor, alone: bool, axis: int) -> bool:
    """Whether a softmax or a sigmoid is in the module already.

    Args:
        alone: Whether each output stands for itself, so that they need not sum to 1.
        axis: Of the classes.
    """
    if not output.is_floating_point() or output.min() < 0 or output.max() > 1:
        return False
    if alone or output.ndim < 2:
        return alone
    return output.shape[axis] == 1 or bool((output.sum(axis) - 1).abs().max() < 1e-3)
