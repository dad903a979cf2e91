"""Losses of Keras models: what is minimized, from labels and from the original's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._quiet import keras
from ..errors import TechniqueError
from .aims import CERTAIN, IGNORED, LEAST, Aim


class Objective(Aim):
    """The loss of a step of Keras: an `Aim` that tensors are judged by."""

    def __call__(self, outputs: Mapping[str, Any], labels: Any, taught: Mapping[str, Any] | None) -> Any:
        """A scalar, as `losses.Objective` has it."""
        loss: Any = 0.0
        if self.teach < 1:
            loss = loss + (1 - self.teach) * self._by_labels(outputs, labels)
        if taught is not None and self.teach > 0:
            loss = loss + self.teach * self._distance(outputs, taught)
        return loss

    def _by_labels(self, outputs: Mapping[str, Any], labels: Any) -> Any:
        ops = keras().ops
        if self.own:
            made = self.own(dict(outputs), labels)
            if not ops.is_tensor(made) or made.shape.num_elements() != 1:
                raise TechniqueError(
                    "the loss must return a scalar tensor that depends on the outputs, and returned "
                    f"{f'a tensor of shape {list(made.shape)}' if ops.is_tensor(made) else type(made)}"
                )
            return ops.reshape(ops.cast(made, "float32"), ())
        if labels is None:
            raise TechniqueError(f"the loss {self.kind} needs labels, and the train data have none")
        found = self._logits(next(iter(outputs.values())))
        if self.kind == "cross-entropy":
            chances = ops.log_softmax(self._by_class(found))
            wanted = ops.cast(ops.reshape(labels, ops.shape(chances)[:-1]), "int32")
            counts = wanted != IGNORED
            each = -ops.take_along_axis(chances, ops.where(counts, wanted, 0)[..., None], -1)[..., 0]
            weights = ops.cast(counts, "float32")
            return ops.sum(each * weights) / ops.maximum(ops.sum(weights), 1.0)
        wanted = ops.reshape(ops.cast(labels, "float32"), ops.shape(found))
        if self.kind == "binary-cross-entropy":
            return ops.mean(ops.binary_crossentropy(wanted, found, from_logits=True))
        return ops.mean(ops.square(found - wanted))

    def _distance(self, outputs: Mapping[str, Any], taught: Mapping[str, Any]) -> Any:
        """Of classes: the divergence at a temperature; of other outputs: the squared error over the spread."""
        ops, first, total = keras().ops, next(iter(outputs)), 0.0
        for name, wanted in taught.items():
            found = outputs[name]
            if name == first and self.kind == "cross-entropy":
                heat = self.training.temperature
                given, asked = (
                    ops.log_softmax(self._by_class(self._logits(tensor)) / heat) for tensor in (found, wanted)
                )
                total = total + heat**2 * ops.mean(ops.sum(ops.exp(asked) * (asked - given), -1))
            elif name == first and self.kind == "binary-cross-entropy":
                shares = ops.sigmoid(self._logits(wanted))
                total = total + ops.mean(ops.binary_crossentropy(shares, self._logits(found), from_logits=True))
            else:
                total = total + ops.mean(ops.square(found - wanted)) / self.spreads[name]
        return total

    def _by_class(self, logits: Any) -> Any:
        """Classes on the last axis."""
        return logits if self.last else keras().ops.moveaxis(logits, 1, -1)

    def _logits(self, output: Any) -> Any:
        ops = keras().ops
        if self.probabilities and self.kind == "cross-entropy":
            return ops.log(ops.maximum(output, LEAST))
        if self.probabilities and self.kind == "binary-cross-entropy":
            shares = ops.clip(output, CERTAIN, 1 - CERTAIN)
            return ops.log(shares) - ops.log1p(-shares)
        return output
