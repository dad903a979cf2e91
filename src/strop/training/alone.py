"""A module by itself, which nothing teaches: built, looked at, asked."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._calls import function
from .._lazy import lazy
from .._plain import told
from ..errors import UnsupportedModel
from ..formats._module import plain, signature
from ..formats.torch import TorchFormat, as_tensor, named, run
from ..model import Model

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

Array = np.ndarray[Any, Any]

PIECE = 512  # samples in one call, at the most
FACTORY = "a function or class that returns a module"


def factory_of(source: object) -> Callable[..., Any] | None:
    """What makes the modules, of a factory or the `module:factory` that names one; None of a live module.

    Raises:
        UnsupportedModel: It can't be found, or can't be called.
    """
    found = function(source, FACTORY, UnsupportedModel) if isinstance(source, str) else source
    if isinstance(found, torch.nn.Module):
        return None
    if not callable(found):
        raise UnsupportedModel(f"A model must be a module of PyTorch or {FACTORY}, and this is {told(found, repr)}.")
    return found


def built(source: object, options: Mapping[str, Any], seed: int) -> Model:
    """A module of one's own to train, on the CPU: a copy of a live one, or what a factory makes.

    Args:
        source: A live module, a factory, or `module:factory`.
        options: What a factory is called with.
        seed: Of the weights that a factory draws.

    Raises:
        UnsupportedModel: The factory fails, or makes something else than a module that holds its weights; or the module
            can't be copied.
    """
    make = factory_of(source)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if make is not None:
                made = make(**options)
            else:
                made = function(source, FACTORY, UnsupportedModel) if isinstance(source, str) else source
        if not isinstance(made, torch.nn.Module):
            raise UnsupportedModel(
                f"A factory must return a module of PyTorch, and {spelled(source)} returned a {type(made).__name__}."
            )
        opened = TorchFormat().open(made)
        assert isinstance(opened.payload, torch.nn.Module)
        own = copy.deepcopy(plain(opened.payload) if make is None else opened.payload)
    except UnsupportedModel:
        raise
    except Exception as error:  # of the user's own code
        what = "be copied" if make is None else f"be made by {spelled(source)}"
        raise UnsupportedModel(
            f"A module must {what}, and that failed with {type(error).__name__}: {told(error)}. Look at its code."
        ) from error
    return Model(opened.format, own.cpu(), opened.signature)


def look(module: torch.nn.Module, samples: Mapping[str, Array]) -> Array:
    """The first output for a few samples, two or more, if a module is one that can be relied on.

    Raises:
        UnsupportedModel: It fails on them, answers the same samples differently, or returns no tensors.
    """
    given = {name: as_tensor(array) for name, array in samples.items()}
    module.eval()
    answers = run(module, given)
    signature(given, answers, run(module, given), run(module, {name: tensor[:1] for name, tensor in given.items()}))
    first: Array = next(iter(answers.values())).float().numpy()
    if len(first) != len(next(iter(given.values()))):
        raise UnsupportedModel(
            f"A module must answer a row a sample, and its first output is {list(first.shape)} for "
            f"{len(next(iter(given.values())))} samples."
        )
    return first


def answer(module: torch.nn.Module, samples: Mapping[str, Array]) -> torch.Tensor:
    """The first output, in pieces where there are many samples."""
    count = len(next(iter(samples.values())))
    with torch.inference_mode():
        if count <= PIECE:
            return _first(module, samples)
        pieces = [
            _first(module, {name: array[start : start + PIECE] for name, array in samples.items()})
            for start in range(0, count, PIECE)
        ]
        return torch.cat(pieces)


def weight_bytes(module: torch.nn.Module) -> bytes:
    """The weights as `torch.save` keeps a state dict."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    return file.getvalue()


def digest(module: torch.nn.Module) -> str:
    """What tells a module from others: layers and weights."""
    return hashlib.sha256(repr(module).encode() + weight_bytes(module)).hexdigest()[:16]


def spelled(value: object) -> str:
    """A value as text that is the same in another process."""
    if isinstance(value, functools.partial):
        return f"{spelled(value.func)} with {value.args} {value.keywords}"
    if not callable(value):
        return told(value, repr)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def _first(module: torch.nn.Module, samples: Mapping[str, Array]) -> torch.Tensor:
    return next(iter(named(module(**{name: as_tensor(array) for name, array in samples.items()})).values())).float()
