"""Features: what inner layers see alike and what apart, taught by the original to what was made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._lazy import lazy

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = lazy("torch", "torch")
    F = lazy("torch.nn.functional", "torch")

MOST = 4  # layers that are compared


class Features:
    """The similarities between the samples of a batch at some layers of two modules (Tung and Mori 2019, equation 4).

    Widths may differ: only layers need the same names.
    """

    def __init__(self, teacher: torch.nn.Module, student: torch.nn.Module):
        first, second = dict(teacher.named_modules()), dict(student.named_modules())
        depth = {
            name: name.count(".")
            for name in first
            if name and name in second and next(second[name].parameters(), None) is not None
        }
        blocks = [name for name in depth if not any(other.startswith(f"{name}.") and other in depth and
                  type(first[other]) is type(first[name]) for other in depth)]  # fmt: skip
        chosen = blocks[:: max(1, len(blocks) // MOST)][-MOST:]
        self._seen: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = ({}, {})
        self._hooks = [
            modules[name].register_forward_hook(_keep(seen, name))
            for modules, seen in zip((first, second), self._seen, strict=True)
            for name in chosen
        ]

    def distance(self) -> torch.Tensor:
        """A scalar, of the batch that both modules ran last."""
        taught, found = self._seen
        parts = [
            (_similarities(taught[name]) - _similarities(found[name])).square().mean()
            for name in taught
            if name in found and taught[name].shape[0] == found[name].shape[0]
        ]
        for seen in self._seen:
            seen.clear()
        return torch.stack(parts).mean() if parts else torch.zeros(())

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _keep(seen: dict[str, torch.Tensor], name: str) -> Any:
    def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Mapping):
            first = next(iter(first.values()), None)
        if isinstance(first, torch.Tensor) and first.ndim > 1:
            seen[name] = first

    return hook


def _similarities(features: torch.Tensor) -> torch.Tensor:
    flat = features.float().flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
