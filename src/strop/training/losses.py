"""Losses: what is minimized, from labels and from the original's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import TechniqueError
from ..learning import Training
from .aims import CERTAIN, LEAST, Aim

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = lazy("torch", "torch")
    F = lazy("torch.nn.functional", "torch")


class Objective(Aim):
    """The loss of a step of PyTorch: an `Aim` that tensors are judged by."""

    def __init__(
        self, training: Training, outputs: Mapping[str, torch.Tensor], labels: torch.Tensor | None, binary: bool
    ):
        known = {name: _array(output) for name, output in outputs.items()}
        super().__init__(training, known, None if labels is None else _array(labels), binary)

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
            return torch.logit(output.float(), CERTAIN)
        return output.float()


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    made = tensor.detach()
    return (made.float() if made.is_floating_point() else made).numpy()


def _plain(labels: torch.Tensor) -> torch.Tensor:
    """Labels without an axis that holds one number."""
    return labels.squeeze(-1) if labels.ndim > 1 else labels
