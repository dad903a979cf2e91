"""What a module must be for its signature to be learned, and for other processes to be given it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .._lazy import lazy
from ..errors import UnsupportedModel
from ..model import Signature, Tensor

if TYPE_CHECKING:
    import torch
    from torch.nn.utils import parametrize
else:
    torch = lazy("torch", "torch")
    parametrize = lazy("torch.nn.utils.parametrize", "torch")

SAME = 1e-3  # of the largest output: what two calls on the same samples may differ by

Tensors = Mapping[str, "torch.Tensor"]


def check_whole(module: torch.nn.Module) -> None:
    """Refuse a module that is none yet, or none any more.

    Raises:
        UnsupportedModel: It is TorchScript, or has weights without values.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModel(
            "A model of PyTorch must be a module that can be exported, and this is TorchScript, which has lost its "
            "code in Python. Give the module that it was made of, or a program of torch.export (.pt2)."
        )
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
            raise UnsupportedModel(
                f"A module must hold its weights, and {name} of {type(module).__name__} has no values. Run a lazy "
                "module once, or load the weights of one that is on the device 'meta'."
            )


def plain(module: torch.nn.Module) -> torch.nn.Module:
    """A module whose weights are stored as they are used: weight norm and the like, written out. It answers the same.

    PyTorch pickles no parametrizations, and what prunes or factorizes takes weights for what they are.
    """
    if not any(map(parametrize.is_parametrized, module.modules())):
        return module
    module = copy.deepcopy(module).eval()  # in training some change whenever they are looked at
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            kind = type(layer)  # shared with the layer that was copied, from which this would take its weight
            layer.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name in list(layer.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(layer, name)
    return module


def signature(given: Tensors, answers: Tensors, again: Tensors, one: Tensors) -> Signature:
    """The signature that a few samples tell.

    Args:
        given: The samples.
        answers: To these.
        again: To the same, asked once more.
        one: To the first of them.

    Raises:
        UnsupportedModel: What is answered is not what a graph could answer.
    """
    if set(answers) != set(one):
        raise UnsupportedModel(
            f"A module must return the same outputs for any number of samples, and this returns {', '.join(answers)} "
            f"for several and {', '.join(one)} for one. Return all of them always."
        )
    for name, tensor in [*given.items(), *answers.items()]:
        _check_numbers(name, tensor)
    for name, tensor in answers.items():
        if tensor.ndim != one[name].ndim:
            raise UnsupportedModel(
                f"An output must have the same axes for any number of samples, and {name!r} is {list(tensor.shape)} "
                f"for several and {list(one[name].shape)} for one. Where there is a squeeze(), tell it the axis."
            )
        _check_alike(name, tensor, again[name])
    inputs = (
        Tensor(name, _dtype(tensor), (None, *tensor.shape[1:]) if tensor.ndim else (), batched=bool(tensor.ndim))
        for name, tensor in given.items()
    )
    outputs = (
        Tensor(name, _dtype(tensor), _shape(tensor, one[name]), batched=_follows(tensor, one[name]))
        for name, tensor in answers.items()
    )
    return Signature(tuple(inputs), tuple(outputs))


def _check_numbers(name: str, tensor: torch.Tensor) -> None:
    kind, dense = _dtype(tensor), tensor.layout == torch.strided
    if not dense or tensor.is_complex() or not hasattr(np, kind.replace("bool", "bool_")):
        raise UnsupportedModel(
            f"Inputs and outputs must be dense arrays of real numbers or booleans, of a type that NumPy has, and "
            f"{name!r} is {kind if dense else 'sparse'}. Convert it in forward, as with .float() or .to_dense()."
        )


def _check_alike(name: str, first: torch.Tensor, second: torch.Tensor) -> None:
    first, second = first.double(), second.double()  # booleans have neither size nor distance
    most = first[first.isfinite()].abs().max().item() if first.isfinite().any() else 0.0
    if first.shape == second.shape and torch.allclose(first, second, SAME, SAME * most, equal_nan=True):
        return
    raise UnsupportedModel(
        f"A module must answer the same samples alike, and {name!r} differs between two calls: it draws random "
        "numbers, or changes with each call. Take that out of forward, or let it happen in training mode only."
    )


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(more: torch.Tensor, less: torch.Tensor) -> tuple[int | None, ...]:
    return tuple(a if a == b else None for a, b in zip(more.shape, less.shape, strict=True))


def _follows(more: torch.Tensor, less: torch.Tensor) -> bool:
    return bool(more.ndim) and more.shape[0] != less.shape[0]
