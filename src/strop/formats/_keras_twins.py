"""Keras's own layers in PyTorch: what computes the same, with the same weights, channels first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from .._plain import told
from ..errors import NotApplicable
from ._keras_activations import ACTIVATIONS

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
else:
    torch = lazy("torch", "torch")
    F = lazy("torch.nn.functional", "torch")

Shape = tuple[int | None, ...]
Call = Callable[..., Any]


@dataclass(frozen=True)
class Twin:
    """A layer in PyTorch.

    Attributes:
        call: From its module (None where it has none) and what the layer is given to what it answers.
        module: What holds its weights, or is random while it is trained.
        spread: Whether it takes each number for itself, and so in whatever order they come.
    """

    call: Call
    module: torch.nn.Module | None = None
    spread: bool = False


class Value(int):
    """The number under which a value is kept while the module runs."""


Step = tuple[str, Call, tuple[Any, ...], Value]
"""The name of a layer, its call, what it is given (values and plain numbers), and where its answer is kept."""


@dataclass(frozen=True)
class Held:
    """A layer's twin within a model.

    Attributes:
        twin: The twin.
        order: The sizes of the places that what it is given was flattened with, else `()`.
        still: Whether it stays as it is in use while others train, as a batch norm that is not trainable does.
    """

    twin: Twin
    order: tuple[int, ...]
    still: bool


def flattened(operation: Any, shape: Shape) -> tuple[int, ...]:
    """The sizes of the places that a layer flattens with their channels, `()` where it flattens none."""
    sizes = tuple(int(size or 0) for size in shape[1:-1]) if type(operation).__name__ == "Flatten" else ()
    return sizes if math.prod(sizes) > 1 else ()


def twin_of(operation: Any, shapes: Sequence[Shape], order: Sequence[int]) -> Twin:
    """What computes as a Keras layer does, channels on axis 1 of whatever has three axes or more.

    Args:
        operation: The layer, built; or an arithmetic operation between layers.
        shapes: What it is given, as Keras has it: channels last.
        order: The sizes of places that channels were flattened with, empty where they were not.

    Raises:
        NotApplicable: It has none; says which and why.
    """
    name, kind, module = told_of(operation), type(operation).__name__, type(operation).__module__
    make = _TWINS.get(kind) if module.startswith("keras.") else None
    if make is None or (".ops." in module and kind not in _ARITHMETIC):
        raise NotApplicable(f"{name} has no counterpart")
    if any(getattr(variable, "constraint", None) for variable in getattr(operation, "weights", ())):
        raise NotApplicable(f"{name} has weights under a constraint")
    if getattr(operation, "data_format", None) == "channels_first":
        raise NotApplicable(f"{name} has its channels first")
    if getattr(operation, "quantization_mode", None) or getattr(operation, "lora_enabled", False):
        raise NotApplicable(f"{name} is quantized, or adapted at low rank")
    if (numbers := getattr(operation, "compute_dtype", "float32")) != "float32":
        raise NotApplicable(f"{name} computes in {numbers}")
    made: Twin = make(operation, shapes)
    if order and not made.spread and make is not _dense:
        raise NotApplicable(f"{name} mixes what was flattened")
    if made.module is not None:
        _settle(made.module, operation, order)
    return made


def _settle(module: Any, layer: Any, order: Sequence[int]) -> None:
    """Put a twin's weights in the order of what comes, and let those learn that learn in Keras."""
    if order:
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim == 2:
                    tensor.copy_(by_channel(tensor, order))
                elif tensor.ndim == 1 and not isinstance(module, torch.nn.Linear):
                    tensor.copy_(by_channel(tensor[None], order)[0])
    for parameter in module.parameters():
        parameter.requires_grad_(bool(layer.trainable))
    for own, name in (("weight", "gamma"), ("bias", "beta")):
        if hasattr(layer, name) and getattr(layer, name) is None:  # it has none, and PyTorch's stays one or zero
            getattr(module, own).requires_grad_(False)


def told_of(operation: Any) -> str:
    """The name and class of a layer, for people."""
    return f"{told(operation.name)} ({type(operation).__name__})"


def by_channel(weight: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """The columns of a matrix by channel and place, where they are by place and channel, as Keras flattens."""
    return weight.reshape(len(weight), *order, -1).movedim(-1, 1).reshape(weight.shape)


def by_place(weight: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """The other way round."""
    return weight.reshape(len(weight), -1, *order).movedim(1, -1).reshape(weight.shape)


def tensor(value: Any) -> torch.Tensor:
    """A Keras variable, or an array, in float32."""
    return torch.from_numpy(np.array(value, np.float32))


def _dense(layer: Any, shapes: Sequence[Shape]) -> Twin:
    kernel, activation = tensor(layer.kernel), _activation(layer)
    module = _filled(torch.nn.Linear(kernel.shape[0], kernel.shape[1], layer.use_bias), kernel.T, layer)
    if len(shapes[0]) == 2:
        return Twin(lambda module, x: activation(module(x)), module)
    if len(shapes[0]) == 3:  # on four axes Torch-Pruning follows what is flattened after it, on three it does not
        return Twin(
            lambda module, x: activation(module(x.movedim(1, -1).unsqueeze(1)).squeeze(1).movedim(-1, 1)), module
        )
    return Twin(lambda module, x: activation(module(x.movedim(1, -1)).movedim(-1, 1)), module)


def _conv(layer: Any, shapes: Sequence[Shape]) -> Twin:
    kernel, activation = tensor(layer.kernel), _activation(layer)
    *sizes, inside, outside = kernel.shape
    own, pad = _padding(layer.padding, sizes, layer.strides, layer.dilation_rate)
    kind = getattr(torch.nn, f"Conv{len(sizes)}d")
    module = kind(
        inside * layer.groups, outside, sizes, tuple(layer.strides), own, tuple(layer.dilation_rate), layer.groups,
        layer.use_bias,
    )  # fmt: skip
    _filled(module, kernel.movedim((-1, -2), (0, 1)), layer)
    return Twin(lambda module, x: activation(module(pad(x))), module)


def _depthwise(layer: Any, shapes: Sequence[Shape]) -> Twin:
    activation, pad = _activation(layer), _padding(layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate)
    module = _filled(_each_channel(layer, layer.kernel, pad[0], layer.use_bias), None, layer)
    return Twin(lambda module, x: activation(module(pad[1](x))), module)


def _separable(layer: Any, shapes: Sequence[Shape]) -> Twin:
    activation, pad = _activation(layer), _padding(layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate)
    kernel = tensor(layer.pointwise_kernel)
    *sizes, inside, outside = kernel.shape
    point = getattr(torch.nn, f"Conv{len(sizes)}d")(inside, outside, 1, bias=layer.use_bias)
    _filled(point, kernel.movedim((-1, -2), (0, 1)), layer)
    module = torch.nn.Sequential(_each_channel(layer, layer.depthwise_kernel, pad[0], False), point)
    return Twin(lambda module, x: activation(module(pad[1](x))), module)


def _each_channel(layer: Any, weight: Any, padding: tuple[int, ...], bias: bool) -> Any:
    """The convolution of each channel for itself."""
    kernel = tensor(weight)
    *sizes, inside, times = kernel.shape
    kind = getattr(torch.nn, f"Conv{len(sizes)}d")
    module = kind(
        inside, inside * times, sizes, tuple(layer.strides), padding, tuple(layer.dilation_rate), inside, bias
    )
    with torch.no_grad():
        module.weight.copy_(kernel.movedim((-2, -1), (0, 1)).reshape(module.weight.shape))
    return module


def _transposed(layer: Any, shapes: Sequence[Shape]) -> Twin:
    kernel, activation = tensor(layer.kernel), _activation(layer)
    *sizes, outside, inside = kernel.shape
    strides = tuple(layer.strides)
    odd = layer.output_padding is not None or any(k < s for k, s in zip(sizes, strides, strict=True))
    if odd or any(rate > 1 for rate in layer.dilation_rate):
        raise NotApplicable(f"{told_of(layer)} has strides or dilation of its own kind")
    module = getattr(torch.nn, f"ConvTranspose{len(sizes)}d")(inside, outside, sizes, strides, bias=layer.use_bias)
    _filled(module, kernel.movedim((-1, -2), (0, 1)), layer)
    margins = [k - s if layer.padding == "same" else 0 for k, s in zip(sizes, strides, strict=True)]
    sides = [-side for margin in reversed(margins) for side in (margin // 2, margin - margin // 2)]

    def call(module: Any, x: torch.Tensor) -> Any:
        x = module(x)
        return activation(F.pad(x, sides) if any(sides) else x)

    return Twin(call, module)


def _batch_norm(layer: Any, shapes: Sequence[Shape]) -> Twin:
    axis, rank = layer.axis if isinstance(layer.axis, int) else layer.axis[0], len(shapes[0])
    if axis not in (-1, rank - 1):
        raise NotApplicable(f"{told_of(layer)} is over axis {axis}")
    kind = getattr(torch.nn, f"BatchNorm{max(1, rank - 2)}d")
    module = kind(int(shapes[0][-1] or 0), layer.epsilon, 1 - layer.momentum)
    with torch.no_grad():
        for own, name in ((module.weight, "gamma"), (module.bias, "beta")):
            if (value := getattr(layer, name, None)) is not None:
                own.copy_(tensor(value))
        module.running_mean.copy_(tensor(layer.moving_mean))
        module.running_var.copy_(tensor(layer.moving_variance))
    return Twin(lambda module, x: module(x), module, spread=True)


def _layer_norm(layer: Any, shapes: Sequence[Shape]) -> Twin:
    axes, rank = np.atleast_1d(layer.axis).tolist(), len(shapes[0])
    if axes not in ([-1], [rank - 1]) or getattr(layer, "rms_scaling", False):
        raise NotApplicable(f"{told_of(layer)} is over other axes than the last, or has no mean")
    module = torch.nn.LayerNorm(int(shapes[0][-1] or 0), layer.epsilon)
    with torch.no_grad():
        for own, name in ((module.weight, "gamma"), (module.bias, "beta")):
            if (value := getattr(layer, name, None)) is not None:
                own.copy_(tensor(value))
    if rank == 2:
        return Twin(lambda module, x: module(x), module)
    return Twin(lambda module, x: module(x.movedim(1, -1)).movedim(-1, 1), module)


def _embedding(layer: Any, shapes: Sequence[Shape]) -> Twin:
    if layer.mask_zero or len(shapes[0]) != 2:
        raise NotApplicable(f"{told_of(layer)} has a mask, or takes more or fewer than two axes")
    table = tensor(layer.embeddings)
    module = _filled(torch.nn.Embedding(*table.shape), table, layer)
    return Twin(lambda module, x: module(x.long()).movedim(-1, 1), module)


def _normalization(layer: Any, shapes: Sequence[Shape]) -> Twin:
    if layer.invert or len(np.shape(layer.mean)) not in (len(shapes[0]), 0):
        raise NotApplicable(f"{told_of(layer)} is inverted, or over other axes than the last")
    mean, deviation = (_first(np.asarray(value, np.float32)) for value in (layer.mean, layer.variance))
    deviation = deviation.sqrt().clamp_min(1e-7)
    return Twin(lambda _, x: (x - mean) / deviation)


def _rescaling(layer: Any, shapes: Sequence[Shape]) -> Twin:
    rank = len(shapes[0])
    scale, offset = (tensor(value).reshape(1, -1, *[1] * (rank - 2)) for value in (layer.scale, layer.offset))
    return Twin(lambda _, x: x * scale + offset)


def _dropout(layer: Any, shapes: Sequence[Shape]) -> Twin:
    module, shape = torch.nn.Dropout(layer.rate), getattr(layer, "noise_shape", None)
    if shape is None:
        return Twin(lambda module, x: module(x), module, spread=True)
    sizes = [shape[0], shape[-1], *shape[1:-1]]  # of what falls out as one, as a whole sample does in EfficientNets

    def call(module: Any, x: torch.Tensor) -> Any:
        return x * module(x.new_ones([size or whole for size, whole in zip(sizes, x.shape, strict=True)]))

    return Twin(call, module)


def _spatial_dropout(layer: Any, shapes: Sequence[Shape]) -> Twin:
    return Twin(lambda module, x: module(x), getattr(torch.nn, f"Dropout{len(shapes[0]) - 2}d")(layer.rate))


def _pool(layer: Any, shapes: Sequence[Shape]) -> Twin:
    most = type(layer).__name__.startswith("Max")
    sizes, strides = tuple(layer.pool_size), tuple(layer.strides)
    _, pad = _padding(layer.padding, sizes, strides, (1,) * len(sizes), own=False, value=-math.inf if most else 0.0)
    pool = getattr(F, f"{'max' if most else 'avg'}_pool{len(sizes)}d")

    def call(_: None, x: torch.Tensor) -> Any:
        padded = pad(x)
        found = pool(padded, sizes, strides)
        if most or padded is x:
            return found
        return found / pool(pad(torch.ones_like(x[:1, :1])), sizes, strides)  # the edge is no part of a mean

    return Twin(call)


def _pool_all(layer: Any, shapes: Sequence[Shape]) -> Twin:
    axes, keep = tuple(range(2, len(shapes[0]))), bool(layer.keepdims)
    if "Max" in type(layer).__name__:
        return Twin(lambda _, x: x.amax(axes, keep))
    return Twin(lambda _, x: x.mean(axes, keep))


def _flatten(layer: Any, shapes: Sequence[Shape]) -> Twin:
    if None in shapes[0][1:]:
        raise NotApplicable(f"{told_of(layer)} takes places of no fixed number")
    return Twin(lambda _, x: x.flatten(1), spread=True)


def _reshape(layer: Any, shapes: Sequence[Shape]) -> Twin:
    """Only of channels at one place: what a squeeze, and the end of a MobileNet, have."""
    before, after = shapes[0][1:], tuple(layer.compute_output_shape(shapes[0]))[1:]
    if any(size != 1 for size in (*before[:-1], *after[:-1])):
        raise NotApplicable(f"{told_of(layer)} moves channels to other places")
    ones = (None,) * (len(after) - 1)
    return Twin(lambda _, x: x.flatten(1)[(slice(None), slice(None), *ones)])


def _zeros_around(layer: Any, shapes: Sequence[Shape]) -> Twin:
    sides = [size for pair in reversed(_pairs(layer.padding)) for size in pair]
    return Twin(lambda _, x: F.pad(x, sides))


def _cropped(layer: Any, shapes: Sequence[Shape]) -> Twin:
    sides = [-size for pair in reversed(_pairs(layer.cropping)) for size in pair]
    return Twin(lambda _, x: F.pad(x, sides))


def _pairs(sides: Any) -> list[tuple[int, int]]:
    return [tuple(sides)] if isinstance(sides[0], int) else [tuple(pair) for pair in sides]


def _upsampled(layer: Any, shapes: Sequence[Shape]) -> Twin:
    sizes, how = np.atleast_1d(layer.size).tolist(), getattr(layer, "interpolation", "nearest")
    if how not in ("nearest", "bilinear"):
        raise NotApplicable(f"{told_of(layer)} interpolates by {how}")
    even = {"align_corners": False} if how == "bilinear" else {}
    return Twin(lambda _, x: F.interpolate(x, scale_factor=[float(s) for s in sizes], mode=how, **even))


def _concatenate(layer: Any, shapes: Sequence[Shape]) -> Twin:
    rank = len(shapes[0])
    axis = layer.axis % rank
    if axis == 0:
        raise NotApplicable(f"{told_of(layer)} joins samples")
    place = 1 if axis == rank - 1 else axis + 1
    return Twin(lambda _, *given: torch.cat(given, place))


def _merged(merge: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Any:
    def make(layer: Any, shapes: Sequence[Shape]) -> Twin:
        if len({len(shape) for shape in shapes}) > 1:
            raise NotApplicable(f"{told_of(layer)} takes arrays of unlike axes")

        def call(_: None, first: Any, *others: Any) -> Any:
            for other in others:
                first = merge(first, other)
            return first

        return Twin(call, spread=len(shapes) == 1)

    return make


def _average(layer: Any, shapes: Sequence[Shape]) -> Twin:
    made, count = _merged(torch.add)(layer, shapes), len(shapes)
    return Twin(lambda _, *given: made.call(None, *given) / count)


def _by_number(make: Callable[[Any], Call]) -> Any:
    def made(layer: Any, shapes: Sequence[Shape]) -> Twin:
        call = make(layer)
        return Twin(lambda _, x: call(x), spread=True)

    return made


def _softmax(layer: Any, shapes: Sequence[Shape]) -> Twin:
    if layer.axis not in (-1, len(shapes[0]) - 1):
        raise NotApplicable(f"{told_of(layer)} is over axis {layer.axis}")
    return Twin(lambda _, x: x.softmax(1))


def _activated(layer: Any, shapes: Sequence[Shape]) -> Twin:
    call = _activation(layer)
    return Twin(lambda _, x: call(x), spread="softmax" not in layer.activation.__name__)


def _relu(layer: Any) -> Call:
    most, slope, least = layer.max_value, float(layer.negative_slope), float(layer.threshold)

    def call(x: torch.Tensor) -> torch.Tensor:
        found = torch.where(x >= least, x, slope * (x - least)) if slope or least else x.clamp_min(0.0)
        return found if most is None else found.clamp_max(most)

    return call


def _activation(layer: Any) -> Call:
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    if name not in ACTIVATIONS:
        raise NotApplicable(f"{told_of(layer)} has an activation, {name}, without a counterpart")
    return ACTIVATIONS[name]


def _padding(
    mode: str, sizes: Sequence[int], strides: Sequence[int], rates: Sequence[int], *, own: bool = True,
    value: float = 0.0,
) -> tuple[tuple[int, ...], Call]:  # fmt: skip
    """What a convolution pads by itself, and what is done before it.

    TensorFlow's "same" puts what can't be halved behind, and where there are strides goes by the size of what comes.
    """
    spans = [(size - 1) * rate for size, rate in zip(sizes, rates, strict=True)]
    none = (0,) * len(spans)
    if mode == "valid":
        return none, lambda x: x
    if own and mode == "same" and all(s == 1 for s in strides) and not any(span % 2 for span in spans):
        return tuple(span // 2 for span in spans), lambda x: x

    def pad(x: torch.Tensor) -> torch.Tensor:
        sides: list[int] = []
        for size, span, stride in zip(reversed(x.shape[2:]), reversed(spans), reversed(strides), strict=True):
            whole = span if mode == "causal" else max((math.ceil(size / stride) - 1) * stride + span + 1 - size, 0)
            before = whole if mode == "causal" else whole // 2
            sides += [before, whole - before]
        return F.pad(x, sides, value=value) if any(sides) else x

    return none, pad


def _filled(module: Any, weight: torch.Tensor | None, layer: Any) -> Any:
    with torch.no_grad():
        if weight is not None:
            module.weight.copy_(weight)
        if getattr(module, "bias", None) is not None:
            module.bias.copy_(tensor(layer.bias))
    return module


def _first(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """With channels first, where it has several axes."""
    return torch.from_numpy(np.array(np.moveaxis(array, -1, 1) if array.ndim > 2 else array))


_ARITHMETIC = frozenset({"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Concatenate"})
"""What models may hold of Keras's functions, besides layers."""

_TWINS: Mapping[str, Any] = {
    "Dense": _dense,
    **{f"Conv{n}D": _conv for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": _transposed for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": _depthwise for n in (1, 2)},
    **{f"SeparableConv{n}D": _separable for n in (1, 2)},
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Embedding": _embedding,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "Dropout": _dropout,
    **{f"SpatialDropout{n}D": _spatial_dropout for n in (1, 2, 3)},
    **{f"{kind}Pooling{n}D": _pool for kind in ("Max", "Average") for n in (1, 2, 3)},
    **{f"Global{kind}Pooling{n}D": _pool_all for kind in ("Max", "Average") for n in (1, 2, 3)},
    "Flatten": _flatten,
    "Reshape": _reshape,
    **{f"ZeroPadding{n}D": _zeros_around for n in (1, 2, 3)},
    **{f"Cropping{n}D": _cropped for n in (1, 2, 3)},
    **{f"UpSampling{n}D": _upsampled for n in (1, 2, 3)},
    "Concatenate": _concatenate,
    "Add": _merged(lambda a, b: a + b),
    "Subtract": _merged(lambda a, b: a - b),
    "Multiply": _merged(lambda a, b: a * b),
    "Divide": _merged(lambda a, b: a / b),
    "TrueDivide": _merged(lambda a, b: a / b),
    "Maximum": _merged(lambda a, b: torch.maximum(torch.as_tensor(a), torch.as_tensor(b))),
    "Minimum": _merged(lambda a, b: torch.minimum(torch.as_tensor(a), torch.as_tensor(b))),
    "Average": _average,
    "Activation": _activated,
    "Softmax": _softmax,
    "ReLU": _by_number(_relu),
    "LeakyReLU": _by_number(lambda layer: lambda x, slope=float(layer.negative_slope): F.leaky_relu(x, slope)),
    "ELU": _by_number(lambda layer: lambda x, alpha=float(layer.alpha): F.elu(x, alpha)),
    "Identity": _by_number(lambda layer: lambda x: x),
}
