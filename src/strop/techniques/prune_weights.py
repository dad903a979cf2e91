"""Single weights: the smallest become zero and stay so while the others are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.torch import load
from ..learning import Training
from ..model import TORCH, Format, Model
from ..settings import choice, span
from ..technique import Context, Needs, Phase, Technique
from ..training import retrain, saved
from ._magnitude import SMALL, largest
from ._modules import kept

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


@dataclass(frozen=True)
class PruneWeights(Technique):
    """Set the smallest weights to zero and retrain. It buys no latency here, and no size but that of a compressed file.

    No runtime that strop knows skips single zeros; a matrix with zeros is stored whole. What shrinks is what a download
    takes (`size.compressed`), so it is tried where the goal asks for that.

    Attributes:
        amount: The share of the weights to set to zero; of pattern `2:4`, half.
        pattern: `free`: the smallest of all layers together (Han et al. 2015). `2:4`: two of every four inputs of an
            output (Mishra et al. 2021).
    """

    amount: float = span(0.7, 0.3, 0.97, strength=True)
    pattern: str = choice("free", "2:4")

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING
    gains: ClassVar[frozenset[str] | None] = frozenset({"size.compressed"})

    def apply(self, model: Model, context: Context) -> Model:
        module = load(model)
        stay = kept(module, (context.training or Training()).keep)
        given = (getattr(layer, "weight", None) for layer in module.modules() if layer not in stay)
        layers = [w for w in given if isinstance(w, torch.nn.Parameter) and w.ndim > 1 and w.numel() >= SMALL]
        if not layers:
            raise NotApplicable(f"has no weight of {SMALL} numbers or more")
        with torch.no_grad():
            if self.pattern == "2:4":
                for weight in layers:
                    _two_of_four(weight)
            else:
                masks = largest([weight.float().numpy() for weight in layers], self.amount)
                for weight, mask in zip(layers, masks, strict=True):
                    weight.mul_(torch.from_numpy(mask))
        retrain(module, context, sparse=True)
        return saved(module, model, context)


def _two_of_four(weight: torch.nn.Parameter) -> None:
    """Zero the two smallest of every four inputs; a layer whose inputs are no multiple of four is left alone."""
    flat = weight.movedim(1, -1)
    if flat.shape[-1] % 4:
        return
    fours = flat.reshape(-1, 4)
    least = fours.abs().argsort(1)[:, :2]
    weight.copy_(fours.scatter(1, least, 0.0).reshape(flat.shape).movedim(-1, 1))
