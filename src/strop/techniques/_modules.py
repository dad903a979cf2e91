"""What techniques on PyTorch modules know of architectures: attention, and layers that are linear by another name."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from .._lazy import installed, lazy
from ..errors import NotApplicable
from ..model import KERAS, Model
from ..training import keras

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

COUNTS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
SETS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))


def heads(module: torch.nn.Module) -> dict[torch.nn.Module, int]:
    """The projections to queries, keys and values, with the heads that each holds now."""
    found = {}
    layer: Any
    for layer in module.modules():
        if projections(layer) != "apart":
            continue
        names = next(names for names in SETS if _linear(layer, names))
        width = _width(layer)
        for name in names:
            projection = getattr(layer, name)
            found[projection] = projection.out_features // width
    return found


def projections(layer: torch.nn.Module) -> Literal["apart", "fused"] | None:
    """Whether a module is attention, and has its projections apart or in one matrix."""
    if not any(isinstance(getattr(layer, name, None), int) for name in COUNTS):
        return None
    if any(_linear(layer, names) for names in SETS):
        return "apart" if _width(layer) else "fused"
    whole = [child for child in layer.children() if isinstance(child, torch.nn.Linear)]
    return "fused" if any(child.out_features == 3 * child.in_features for child in whole) else None


def check_torch(model: Model) -> None:
    """Refuse a model of Keras where PyTorch, in which it is changed, is missing.

    Raises:
        NotApplicable: It is.
    """
    if model.format == KERAS and not installed("torch"):
        raise NotApplicable("needs PyTorch for models of Keras too: pip install 'strop[torch]'")


def kept(module: torch.nn.Module, patterns: Collection[str]) -> set[torch.nn.Module]:
    """The layers that a user names, and all within them; of a model of Keras by the names that they have there."""
    told = {own: name for name, own in getattr(module, "own", {}).items()}

    def is_kept(name: str) -> bool:
        around = itertools.accumulate(told.get(name, name).split("/"), "{}/{}".format)
        return any(keras.is_named(path, given) for path in around for given in patterns)

    named = (layer for name, layer in module.named_modules() if is_kept(name))
    return {part for layer in named for part in layer.modules()}


def _linear(layer: torch.nn.Module, names: tuple[str, ...]) -> bool:
    return all(isinstance(getattr(layer, name, None), torch.nn.Linear) for name in names)


def _width(layer: torch.nn.Module) -> int:
    """Of one head; 0 where the module does not say, and so could not be told of fewer heads."""
    for name in ("attention_head_size", "head_dim", "head_size"):
        if isinstance(found := getattr(layer, name, None), int):
            return found
    return 0


def with_linear(module: torch.nn.Module) -> torch.nn.Module:
    """The module with GPT-2's `Conv1D`, a linear layer that holds its matrix transposed, as linear layers."""
    for parent in list(module.modules()):
        children: list[tuple[str, Any]] = list(parent.named_children())
        for name, child in children:
            if type(child).__name__ == "Conv1D" and child.weight.ndim == 2:
                inside, outside = child.weight.shape
                layer = torch.nn.Linear(inside, outside)
                with torch.no_grad():
                    layer.weight.copy_(child.weight.T)
                    layer.bias.copy_(child.bias)
                setattr(parent, name, layer)
    return module.eval()
