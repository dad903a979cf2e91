"""Ranks: the factors of one layer, what a rank costs in operations, and what its loss costs in error."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .._lazy import lazy

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

DAMPED = 1e-2  # of the mean second moment, added to each: few samples leave directions unseen
LEAST = 8  # ranks that stay
READ = ("in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
"""What a module's own code may read of a layer, as MobileNetV2's does to pad."""


class Factors(ABC):
    """A layer and its factors, at ranks that can be lowered."""

    @property
    @abstractmethod
    def saved(self) -> float:
        """Operations a sample that the factors save at their ranks; below zero where they take more."""

    @property
    def worth(self) -> bool:
        """Whether the factors take fewer operations than the layer."""
        return self.saved > 0

    @abstractmethod
    def price(self, step: int) -> float:
        """The relative squared error of the outputs that the next step adds, for each operation that it saves.

        Infinite where there is no next step.
        """

    @abstractmethod
    def lower(self, step: int) -> None:
        """Take that step."""

    @abstractmethod
    def layers(self) -> torch.nn.Module:
        """The thin layers, in place of the one."""


class _Matrix(Factors):
    """W = (U S) (V' C^-1/2), of W C^1/2 = U S V', C the moments of inputs: cut where the outputs hardly change."""

    def __init__(self, layer: Any, moments: torch.Tensor, places: float):
        self.layer, self.places = layer, places
        weight = layer.weight.detach().flatten(1).double()
        self.root, self.inverse = _roots(moments)
        self.u, self.s, self.v = torch.linalg.svd(weight @ self.root, full_matrices=False)
        self.energy = (self.s**2 / (self.s**2).sum()).tolist()
        self.outside, self.inside = int(weight.shape[0]), int(weight.shape[1])
        self.whole = float(places * self.outside * self.inside)
        self.rank = len(self.s)

    @property
    def saved(self) -> float:
        return float(self.whole - self.places * self.rank * (self.outside + self.inside))

    def _next(self, step: int) -> int:
        """The rank after a step; the first goes to where two factors begin to take less than one matrix."""
        if self.worth:
            return self.rank - step
        even = self.outside * self.inside / (self.outside + self.inside)
        return min(len(self.s), math.ceil(even / step) * step) - step

    def price(self, step: int) -> float:
        after = self._next(step)
        if after < LEAST:
            return math.inf
        gained = self.whole - self.places * after * (self.outside + self.inside) - max(self.saved, 0.0)
        return float(sum(self.energy[after : self.rank]) / gained) if gained > 0 else math.inf

    def lower(self, step: int) -> None:
        self.rank = self._next(step)

    def layers(self) -> torch.nn.Module:
        rank, bias = self.rank, self.layer.bias is not None
        first = (self.v[:rank] @ self.inverse).float()
        second = (self.u[:, :rank] * self.s[:rank]).float()
        if isinstance(self.layer, torch.nn.Conv2d):
            made: list[Any] = [
                torch.nn.Conv2d(self.inside, rank, 1, stride=(self.layer.stride[0], self.layer.stride[1]), bias=False),
                torch.nn.Conv2d(rank, self.outside, 1, bias=bias),
            ]
            parts = first[:, :, None, None], second[:, :, None, None]
        else:
            made = [torch.nn.Linear(self.inside, rank, bias=False), torch.nn.Linear(rank, self.outside, bias=bias)]
            parts = first, second
        return _filled(made, parts, self.layer)


class _Tucker(Factors):
    """A convolution of few channels between two of one pixel (Kim et al. 2016, section 3.1), input moments counted."""

    def __init__(self, layer: Any, moments: torch.Tensor, places: float):
        self.layer, self.places = layer, places
        weight = layer.weight.detach().double()
        self.outside, self.inside, *kernel = weight.shape
        self.taps = kernel[0] * kernel[1]
        self.stretch = layer.stride[0] * layer.stride[1]  # the first of the three sees the input before the stride
        self.root, self.inverse = _roots(moments)
        self.scaled = torch.einsum("oikl,ij->ojkl", weight, self.root)
        self.u_out, s_out, _ = torch.linalg.svd(self.scaled.flatten(1), full_matrices=False)
        self.u_in, s_in, _ = torch.linalg.svd(self.scaled.transpose(0, 1).flatten(1), full_matrices=False)
        total = (s_out**2).sum()
        self.energies = [(s**2 / total).tolist() for s in (s_out, s_in)]
        self.ranks = [len(s_out), len(s_in)]
        self.whole = float(places * self.outside * self.inside * self.taps)

    @property
    def saved(self) -> float:
        return float(self.whole - self._operations(self.ranks))

    def _operations(self, ranks: list[int]) -> float:
        out, into = ranks
        return float(self.places * (self.stretch * self.inside * into + into * out * self.taps + out * self.outside))

    def _next(self, step: int) -> tuple[float, list[int]] | None:
        """The cheaper of the two ranks to lower: its price, and the ranks after it."""
        found = []
        for side, rank in enumerate(self.ranks):
            if rank - step < LEAST:
                continue
            after = [rank - step if at == side else other for at, other in enumerate(self.ranks)]
            error = sum(self.energies[side][rank - step : rank])
            found.append((error / (self._operations(self.ranks) - self._operations(after)), after))
        return min(found, default=None)

    def price(self, step: int) -> float:
        found = self._next(step)
        return found[0] if found else math.inf

    def lower(self, step: int) -> None:
        if found := self._next(step):
            self.ranks = found[1]

    def layers(self) -> torch.nn.Module:
        out, into = self.ranks
        layer, bias = self.layer, self.layer.bias is not None
        core = torch.einsum("oikl,oa,ib->abkl", self.scaled, self.u_out[:, :out], self.u_in[:, :into])
        made: list[Any] = [
            torch.nn.Conv2d(self.inside, into, 1, bias=False),
            torch.nn.Conv2d(into, out, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=False),
            torch.nn.Conv2d(out, self.outside, 1, bias=bias),
        ]
        first = (self.u_in[:, :into].T @ self.inverse).float()[:, :, None, None]
        return _filled(made, (first, core.float(), self.u_out[:, :out].float()[:, :, None, None]), layer)


def matrix_factors(layer: torch.nn.Module, moments: torch.Tensor, places: float) -> Factors:
    """Of a linear layer, or a convolution of one pixel.

    Args:
        moments: Second moments of its inputs, `[channels, channels]`.
        places: How often it is applied to a sample.
    """
    return _Matrix(layer, moments, places)


def tucker_factors(layer: torch.nn.Module, moments: torch.Tensor, places: float) -> Factors:
    """Of a convolution; likewise."""
    return _Tucker(layer, moments, places)


def _roots(moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The square root of a matrix of moments, and its inverse."""
    moments = moments.double()
    scale = moments.diagonal().mean().clamp_min(1e-12)
    values, vectors = torch.linalg.eigh(moments + DAMPED * scale * torch.eye(len(moments), dtype=torch.float64))
    roots = values.clamp_min(1e-12).sqrt()
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _filled(layers: list[Any], weights: tuple[torch.Tensor, ...], instead_of: Any) -> torch.nn.Module:
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
        if instead_of.bias is not None:
            layers[-1].bias.copy_(instead_of.bias)
    made = torch.nn.Sequential(*layers).requires_grad_(instead_of.weight.requires_grad)
    for name in READ:
        if hasattr(instead_of, name):
            setattr(made, name, getattr(instead_of, name))
    return made
