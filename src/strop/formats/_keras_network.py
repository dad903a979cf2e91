"""The calls of a Keras model as a PyTorch module. Imports PyTorch: only for where a module is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._lazy import require
from ..model import Signature
from ._keras_twins import Held, Step, Value

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "torch")


class Network(torch.nn.Module):
    """A Keras model's layers as children, under their names, and the order in which they are called."""

    def __init__(
        self, signature: Signature, inputs: Sequence[Value], steps: Sequence[Step], outputs: Sequence[Value],
        layers: Mapping[str, Held],
    ):  # fmt: skip
        super().__init__()
        self.signature, self.inputs, self.steps, self.outputs = signature, inputs, steps, outputs
        self.orders = {name: held.order for name, held in layers.items()}
        self.done = _last_uses(steps, outputs)
        self.own: dict[str, str] = {}
        self.still: list[str] = []
        for name, held in layers.items():
            own = name.replace(".", "_")
            while hasattr(self, own):
                own += "_"
            self.add_module(own, held.twin.module)
            self.own[name] = own
            if held.still:
                self.still.append(own)

    def held(self, name: str) -> torch.nn.Module | None:
        """The module of a layer; None where it has none."""
        return self._modules[self.own[name]] if name in self.own else None

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        for own in self.still:
            self.get_submodule(own).eval()
        return self

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        values: dict[int, Any] = {
            number: _channels_first(inputs[tensor.name])
            for number, tensor in zip(self.inputs, self.signature.inputs, strict=True)
        }
        for (name, call, given, found), done in zip(self.steps, self.done, strict=True):
            held = self.held(name)
            taken = [values[v] if isinstance(v, Value) else v for v in given]
            if held is not None and not isinstance(held, torch.nn.Embedding):
                # weights are floats, and Keras makes floats of what they meet
                taken = [x.float() if torch.is_tensor(x) and not x.is_floating_point() else x for x in taken]
            values[found] = call(held, *taken)
            for number in done:
                del values[number]
        return {
            tensor.name: _channels_last(values[number])
            for number, tensor in zip(self.outputs, self.signature.outputs, strict=True)
        }


def _last_uses(steps: Sequence[Step], outputs: Sequence[Value]) -> list[list[Value]]:
    """By step, the values that no later one reads: they need not be kept."""
    seen, found = set(outputs), []
    for _, _, given, result in reversed(steps):
        new = {value for value in (*given, result) if isinstance(value, Value)} - seen
        seen |= new
        found.append(sorted(new))
    return found[::-1]


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(-1, 1) if x.ndim > 2 else x


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1) if x.ndim > 2 else x
