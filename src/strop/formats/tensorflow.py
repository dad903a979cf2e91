"""A model of TensorFlow's as a function, whatever it was saved as: what converters and runtimes are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._quiet import hushed, tensorflow
from ..errors import UnsupportedModel
from ..model import Batch, Signature, Tensor

Array = np.ndarray[Any, Any]
_CALLED = re.compile(r"_\d+$")
"""The number of a call, behind the name of a scope."""


@dataclass(frozen=True)
class Function:
    """A model as a function of flat tensors, in the signature's order.

    Attributes:
        signature: Names, shapes and types of what goes in and out.
        call: Takes tensors, returns tensors; can be traced.
        called: As users call it: takes arrays, returns arrays.
        variables: Those that it reads, which live as long as somebody holds them.
        scope: What a Keras model is called, within whose scope all that it does is; empty of others.
    """

    signature: Signature
    call: Callable[..., Sequence[Any]]
    called: Callable[[Sequence[Array]], Sequence[Array]]
    variables: Sequence[Any]
    scope: str = ""

    def __call__(self, batch: Batch) -> dict[str, Array]:
        """Run samples, operator by operator."""
        outputs = self.call(*map(tensorflow().constant, self.given(batch)))
        return {tensor.name: value.numpy() for tensor, value in zip(self.signature.outputs, outputs, strict=True)}

    def given(self, batch: Batch) -> list[Array]:
        """The inputs in order, in the types that the model takes."""
        return [np.asarray(batch[tensor.name], tensor.dtype) for tensor in self.signature.inputs]

    def by_layers(self, names: Sequence[str]) -> list[str]:
        """What operators of a traced Keras model are called, by its layers' own names: `mine_1/conv_1/Relu` is
        `conv/Relu`.

        Keras enters the scope of a layer to build it, and again to call it, which TensorFlow numbers. Of operators that
        were made one, all are named.
        """
        return distinct([";".join(map(self._by_layer, name.split(";"))) for name in names]) if self.scope else [*names]

    def _by_layer(self, name: str) -> str:
        whole, *scopes, own = name.split("/") if "/" in name else ("", name)
        if _CALLED.sub("", whole) != self.scope:
            return name
        return "/".join([*(_CALLED.sub("", scope) for scope in scopes), own])

    def traced(self, samples: int | None = None) -> Any:
        """A concrete function from `input_0`, `input_1`, ... to a mapping of `output_0`, ...: names that every
        converter keeps.

        Args:
            samples: The size of the batch axis; None leaves it as it is.
        """
        with hushed():
            return self.function().get_concrete_function(*self.specs(samples))

    def function(self) -> Any:
        """The same, still to be traced."""

        def call(*inputs: Any) -> dict[str, Any]:
            return {output(place): value for place, value in enumerate(self.call(*inputs))}

        return tensorflow().function(call, autograph=False)

    def specs(self, samples: int | None = None) -> list[Any]:
        """What goes in, as TensorFlow spells it."""
        return [
            tensorflow().TensorSpec(_shape(tensor, samples), tensor.dtype, name=given(place))
            for place, tensor in enumerate(self.signature.inputs)
        ]


def given(place: int) -> str:
    """What an input is called in a traced function."""
    return f"input_{place}"


def output(place: int) -> str:
    """What an output is called in one."""
    return f"output_{place}"


def numbers(name: str, dtype: str, shape: Sequence[int | None], model: str) -> Tensor:
    """An input or output that is a dense array.

    Raises:
        UnsupportedModel: It is of a type that NumPy does not have, or text.
    """
    if np.dtype(getattr(np, f"{dtype}_" if dtype == "bool" else dtype, object)).kind not in "fiub":
        raise UnsupportedModel(
            f"Inputs and outputs must be numbers or booleans of a type that NumPy has, and {name!r} of {model} is "
            f"{dtype}. Leave out the layer that makes numbers of it, or cast it within the model."
        )
    return Tensor(name, dtype, tuple(shape), batched=bool(shape))


def distinct(names: Sequence[str]) -> list[str]:
    """Names of which no two are the same: a layer that is called twice gives two outputs."""
    found: list[str] = []
    for name in names:
        again = sum(1 for other in names[: len(found)] if other == name)
        found.append(f"{name}_{again}" if again else name)
    return found


def set_threads(threads: int) -> None:
    """Give TensorFlow its threads. It takes that once: what is measured has a process of its own."""
    settings = tensorflow().config.threading
    try:
        settings.set_intra_op_parallelism_threads(threads)
        settings.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # it runs already
        return


def _shape(tensor: Tensor, samples: int | None) -> list[int | None]:
    sizes = [size if isinstance(size, int) else None for size in tensor.shape]
    return [samples, *sizes[1:]] if samples and tensor.batched else sizes
