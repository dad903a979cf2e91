"""Keras layers made anew of what their twins in PyTorch have become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from .._quiet import keras
from ..errors import TechniqueError
from ._keras_twins import by_place, told_of

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

Array = np.ndarray[Any, Any]


def built_as(layer: Any, module: Any | None) -> Any:
    """A layer of the same settings, as wide as its twin; where the twin is in factors, these in a row.

    Args:
        layer: The Keras layer, or an arithmetic operation.
        module: Its twin, None where it has no weights.

    Raises:
        TechniqueError: The twin is something that Keras has no layer for.
    """
    if not isinstance(layer, keras().layers.Layer):
        return layer  # what has no weights and no name of its own in the file
    config = layer.get_config()
    if type(layer).__name__ == "Reshape":  # of channels at one place, however many are left
        shape = [-1 if size == max(config["target_shape"], key=abs) else size for size in config["target_shape"]]
        config["target_shape"] = shape if shape.count(-1) == 1 else config["target_shape"]
    parts = list(_parts(module)) if module is not None else []
    if len(parts) > (2 if type(layer).__name__.startswith("Separable") else 1):
        row = [_part(layer, config, part, place, len(parts)) for place, part in enumerate(parts)]
        return keras().Sequential(row, name=layer.name)
    if parts:
        config |= _widths(layer, parts)
    return type(layer).from_config(config)


def assign(layer: Any, module: Any, order: Sequence[int]) -> None:
    """Give a layer, or the row of layers in its place, the weights of its twin.

    Args:
        order: The sizes of the places that its input was flattened with, else `()`.
    """
    parts = list(_parts(module))
    if isinstance(layer, keras().Sequential):
        for place, (one, part) in enumerate(zip(layer.layers, parts, strict=True)):
            _assign(one, [part], () if place else order)
    elif parts:
        _assign(layer, parts, order)


def _parts(module: Any) -> Iterator[Any]:
    """What of a module has weights, in the order of its calls."""
    return (part for part in module.modules() if next(part.parameters(recurse=False), None) is not None)


def _widths(layer: Any, parts: Sequence[Any]) -> dict[str, Any]:
    """The settings that follow from the widths of a twin."""
    kind, last = type(layer).__name__, parts[-1]
    if kind == "Dense":
        return {"units": last.out_features}
    if kind.startswith("Depthwise"):
        return {"depth_multiplier": _times(layer, last)}
    if kind.startswith("Separable"):
        return {"filters": last.out_channels, "depth_multiplier": _times(layer, parts[0])}
    if kind.startswith("Conv"):
        return {"filters": last.out_channels} | ({"groups": last.groups} if "groups" in layer.get_config() else {})
    return {}


def _times(layer: Any, part: Any) -> int:
    if part.groups != part.in_channels:
        raise TechniqueError(f"{told_of(layer)} must have a kernel for each channel, and lost some of them only")
    return int(part.out_channels // part.in_channels)


def _part(layer: Any, config: dict[str, Any], part: Any, place: int, count: int) -> Any:
    """One layer of a row that stands for one."""
    layers, last = keras().layers, place == count - 1
    end = {"name": f"{layer.name}_{place + 1}", "use_bias": part.bias is not None, "trainable": layer.trainable}
    if last:
        end |= {"activation": config["activation"]}
    if isinstance(part, torch.nn.Linear):
        return layers.Dense(part.out_features, **end)
    sizes = tuple(part.kernel_size)
    end |= {"strides": tuple(part.stride), "dilation_rate": tuple(part.dilation)}
    end |= {"padding": config["padding"] if math.prod(sizes) > 1 else "valid"}
    if part.groups > 1 and part.groups == part.in_channels:
        return getattr(layers, f"DepthwiseConv{len(sizes)}D")(sizes, depth_multiplier=_times(layer, part), **end)
    return getattr(layers, f"Conv{len(sizes)}D")(part.out_channels, sizes, groups=part.groups, **end)


def _assign(layer: Any, parts: Sequence[Any], order: Sequence[int]) -> None:
    kind, last = type(layer).__name__, parts[-1]
    weight = last.weight.detach()
    if kind == "Dense":
        layer.kernel.assign(_array((by_place(weight, order) if order else weight).T))
    elif kind.startswith("Depthwise"):
        layer.kernel.assign(_each_channel(last))
    elif kind.startswith("Separable"):
        layer.depthwise_kernel.assign(_each_channel(parts[0]))
        layer.pointwise_kernel.assign(_array(weight.movedim((0, 1), (-1, -2))))
    elif kind.startswith("Conv"):
        layer.kernel.assign(_array(weight.movedim((0, 1), (-1, -2))))
    elif kind == "Embedding":
        layer.embeddings.assign(_array(weight))
    else:  # a norm
        told = {"gamma": weight, "beta": last.bias.detach()}
        if kind == "BatchNormalization":
            told |= {"moving_mean": last.running_mean, "moving_variance": last.running_var}
        for name, value in told.items():
            if getattr(layer, name, None) is not None:
                getattr(layer, name).assign(_array(by_place(value[None], order)[0] if order else value))
        return
    if getattr(layer, "use_bias", False):
        layer.bias.assign(_array(last.bias.detach()))


def _each_channel(part: Any) -> Array:
    weight = part.weight.detach()
    return _array(weight.reshape(part.in_channels, -1, *weight.shape[2:]).movedim((0, 1), (-2, -1)))


def _array(value: torch.Tensor) -> Array:
    return np.ascontiguousarray(value.numpy())
