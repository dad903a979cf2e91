"""Keras's activations in PyTorch, channels on axis 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._lazy import lazy

if TYPE_CHECKING:
    import torch.nn.functional as F
else:
    F = lazy("torch.nn.functional", "torch")

ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "linear": lambda x: x,
    "relu": lambda x: F.relu(x),
    "relu6": lambda x: F.relu6(x),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x),
    "selu": lambda x: F.selu(x),
    "celu": lambda x: F.celu(x),
    "gelu": lambda x: F.gelu(x),
    "silu": lambda x: F.silu(x),
    "hard_silu": lambda x: F.hardswish(x),
    "mish": lambda x: F.mish(x),
    "sigmoid": lambda x: x.sigmoid(),
    "hard_sigmoid": lambda x: F.hardsigmoid(x),
    "log_sigmoid": lambda x: F.logsigmoid(x),
    "tanh": lambda x: x.tanh(),
    "softplus": lambda x: F.softplus(x),
    "softsign": lambda x: F.softsign(x),
    "exponential": lambda x: x.exp(),
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
}
