"""The ends of a live Keras model: what it takes and gives, and models made around it that take or give otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._quiet import keras
from ..errors import UnsupportedModel
from ..images import Preprocessing
from ..model import Signature


def given(live: Any) -> Any:
    """The structure that a model is called with."""
    return live.inputs[0] if isinstance(live, keras().Sequential) else live.input


def returned(live: Any) -> Any:
    """The structure that it answers."""
    return live.outputs[0] if isinstance(live, keras().Sequential) else live.output


def flat(live: Any) -> Callable[[Sequence[Any], bool], list[Any]]:
    """A live model as a function of flat tensors, in the signature's order, and of whether it is being trained."""
    inputs, tree = given(live), keras().tree

    def call(tensors: Sequence[Any], training: bool) -> list[Any]:
        found: list[Any] = tree.flatten(live(tree.pack_sequence_as(inputs, list(tensors)), training=training))
        return found

    return call


def dressed(student: Any, own: Signature, original: Any, wanted: Signature) -> Any:
    """A live model whose inputs and outputs are called and held together as another's.

    One input or output may have any name, of several all must have the other's.

    Args:
        student: The model.
        own: Its signature.
        original: The other.
        wanted: The other's signature.

    Raises:
        UnsupportedModel: Inputs or outputs are others.
    """
    for side in ("inputs", "outputs"):
        names, others = ([tensor.name for tensor in getattr(one, side)] for one in (own, wanted))
        if len(names) != len(others) or (len(names) > 1 and set(names) != set(others)):
            raise UnsupportedModel(
                f"A student must have the original's {side} ({', '.join(others)}), and this one has "
                f"{', '.join(names)}. Name them so."
            )
    taken = {t.name: keras().Input(t.shape[1:], name=t.name, dtype=t.dtype) for t in wanted.inputs}
    alone = next(iter(taken.values()))
    made = flat(student)([taken.get(tensor.name, alone) for tensor in own.inputs], False)
    found = {tensor.name: value for tensor, value in zip(own.outputs, made, strict=True)}
    results = [found.get(tensor.name, made[0]) for tensor in wanted.outputs]
    return _around(original, wanted, list(taken.values()), results)


def with_pixels(live: Any, signature: Signature, preprocessing: Preprocessing) -> Any:
    """A live model that takes pixels, scales them, and where channels come first, moves these there.

    Raises:
        UnsupportedModel: It has several inputs, or one that is not what images come to.
    """
    inputs, layers = signature.inputs, keras().layers
    if len(inputs) != 1 or inputs[0].dtype != "float32" or len(inputs[0].shape) != 4:
        raise UnsupportedModel(
            "A model takes pre-processing over where its only input is float32 with 4 axes, and this one takes "
            f"{', '.join(map(str, inputs))}. Leave out fold."
        )
    sizes, first = inputs[0].shape[1:], preprocessing.layout == "nchw"
    pixels = keras().Input((*sizes[1:], sizes[0]) if first else sizes, name=inputs[0].name, dtype="uint8")
    factor, offset = (values.tolist() for values in preprocessing.coefficients())
    x = layers.Rescaling(factor, offset)(pixels)
    x = layers.Permute((3, 1, 2))(x) if first else x
    return _around(live, signature, [pixels], flat(live)([x], False))


def _around(like: Any, signature: Signature, inputs: Sequence[Any], results: Sequence[Any]) -> Any:
    """A model from inputs to results, called and held together as another's."""
    tree, ends, identity = keras().tree, returned(like), keras().layers.Identity
    names = [None if isinstance(ends, Mapping) else tensor.name for tensor in signature.outputs]  # else by its keys
    named = [identity(name=name)(value) for name, value in zip(names, results, strict=True)]
    return keras().Model(tree.pack_sequence_as(given(like), list(inputs)), tree.pack_sequence_as(ends, named))
