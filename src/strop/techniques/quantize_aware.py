"""Training under int8: weights learn to bear what a later step does to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.torch import load
from ..model import TORCH, Format, Model
from ..technique import Context, Needs, Phase, Technique
from ..training import retrain, saved, train_batches
from ._fold import fold_batch_norms

if TYPE_CHECKING:
    import torch
    from torch.nn.utils import parametrize
else:
    torch = lazy("torch", "torch")
    parametrize = lazy("torch.nn.utils.parametrize", "torch")

SLOW = 0.01  # with which the range of an activation follows what is seen
RANGE = "range_of_inputs"
FEW = 10  # batches that it is first taken from


@dataclass(frozen=True)
class QuantizeAware(Technique):
    """Train on with weights and activations rounded as int8 rounds them, the float original as teacher.

    What comes out are float weights, batch norms folded, that lie well on the grid of int8: the step that quantizes for
    a runtime, after conversion, finds its scales from them (Jacob et al. 2018, section 3). So the runtimes execute
    integers, each in its own form.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    needs: ClassVar[Needs] = Needs.TRAINING
    for_quantizing: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        batches = train_batches(context)
        module = fold_batch_norms(load(model), batches.take(batches.rows[:2]).inputs)
        layers = [
            layer for layer in module.modules()
            if isinstance(layer, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)) and layer.weight.requires_grad
        ]  # fmt: skip
        if not layers:
            raise NotApplicable("has no linear layers or convolutions to train")
        top = 63 if context.target.int8_saturates else 127  # as the step that follows keeps to half of the range
        hooks = []
        for layer in layers:
            axis = 1 if isinstance(layer, torch.nn.modules.conv._ConvTransposeNd) else 0
            parametrize.register_parametrization(layer, "weight", _rounded(axis, top))
            rounder = _Rounder(layer)
            hooks.append(layer.register_forward_pre_hook(rounder))
            hooks.append(layer.register_forward_pre_hook(rounder.follow, prepend=True))
        module.train()
        with torch.no_grad():
            for batch, _ in zip(batches.epoch(0), range(FEW), strict=False):
                module(**batch.inputs)
        retrain(module, context)
        for hook in hooks:
            hook.remove()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight")
            delattr(layer, RANGE)
        return saved(module, model, context)


def _rounded(axis: int, top: int) -> torch.nn.Module:
    """A weight on the grid of its channel: symmetric, from -top to top."""

    class Rounded(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            others = [dim for dim in range(weight.ndim) if dim != axis]
            scale = weight.detach().abs().amax(others, keepdim=True).clamp_min(1e-8) / top
            return _through(weight, (weight / scale).round().clamp(-top, top) * scale)

    return Rounded()


class _Rounder:
    """An activation on the grid of 8 bits that its range gives; zero lies on it.

    The range is a buffer of the layer, so that it is among what a checkpoint holds.
    """

    def __init__(self, layer: torch.nn.Module) -> None:
        layer.register_buffer(RANGE, torch.zeros(2))
        self.new = True

    def follow(self, layer: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if not layer.training:
            return
        kept: torch.Tensor = getattr(layer, RANGE)
        with torch.no_grad():
            seen = torch.stack([args[0].amin().clamp(max=0), args[0].amax().clamp(min=0)])
            kept.lerp_(seen.to(kept.dtype), 1.0 if self.new else SLOW)
        self.new = False

    def __call__(self, layer: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> Any:
        low, high = getattr(layer, RANGE).tolist()
        scale = max(high - low, 1e-8) / 255
        zero = round(-low / scale)
        given = args[0]
        grid = ((given / scale + zero).round().clamp(0, 255) - zero) * scale
        return (_through(given, grid.clamp(low, high)), *args[1:])


def _through(value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """The rounded value, its gradient that of the value (Bengio et al. 2013)."""
    return value + (rounded - value).detach()
