"""Opening a model as the module that is trained: as it is, or made of Keras's layers; and closing it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from .._quiet import silenced
from ..errors import NotApplicable, TechniqueError
from ..formats._keras_ends import flat
from ..formats.keras import function_of
from ..formats.keras_module import live_of, module_of
from ..formats.torch import as_tensor, load
from ..model import KERAS, Batch, Model
from ..technique import Context
from .batches import data_of, settings_of
from .keras import begin

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

Array = np.ndarray[Any, Any]

FEW = 8  # samples that the two are held together on
APART, FLOOR = 1e-3, 1e-5  # of the largest number that they answer, and besides: rounding of what is inside


def opened(model: Model, context: Context) -> torch.nn.Module:
    """A model's module in evaluation mode, free for the caller to change.

    Raises:
        NotApplicable: It is of Keras, and has layers that PyTorch has not, or a loss of the user's own to learn by.
        TechniqueError: The module answers otherwise than Keras does.
        UnsupportedModel, UntrustedModel: It can't be read.
    """
    if model.format != KERAS:
        return load(model)
    if callable(loss := settings_of(context).loss) or ":" in loss:
        raise NotApplicable(
            "trains in PyTorch, and a loss of your own for a model of Keras is given TensorFlow's tensors; the losses "
            "that have names, and what the original teaches, do for both"
        )
    live = begin(model, context)
    said = _answers(live, model, context)  # before its layers are called for the module
    module = module_of(live, model.signature)
    _hold(module, said, context)
    return module


def asked(model: Model) -> Callable[..., Any]:
    """What answers as the original does, tensors by name, for those that it teaches; of Keras, on TensorFlow.

    Raises:
        UnsupportedModel, UntrustedModel: It can't be read.
    """
    if model.format != KERAS:
        return load(model)
    function = function_of(model)

    def ask(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        with silenced():
            answers = function.called(function.given({name: tensor.numpy() for name, tensor in inputs.items()}))
        named = zip(model.signature.outputs, answers, strict=True)
        return {tensor.name: torch.from_numpy(np.array(array)) for tensor, array in named}

    return ask


def closed(module: Any, model: Model, context: Context) -> Any:
    """The live Keras model that a module has become, which was opened from one.

    Raises:
        TechniqueError: It has become something that Keras has no layers for, or answers otherwise.
    """
    live = live_of(module, begin(model, context))
    _hold(module, _answers(live, model, context), context)
    return live


def check_closes(module: Any, model: Model, context: Context) -> None:
    """See to it that a module can be closed again, before it is trained.

    Raises:
        TechniqueError: It can't.
    """
    if model.format == KERAS:
        closed(module, model, context)


def _few(context: Context) -> Batch:
    data = data_of(context)
    return data.batch(0, min(FEW, len(data)))


def _answers(live: Any, model: Model, context: Context) -> dict[str, Array]:
    """What a live model says of a few samples, by the names of the model's outputs."""
    batch = _few(context)
    found = flat(live)([batch[tensor.name] for tensor in model.signature.inputs], False)
    return {tensor.name: np.asarray(value) for tensor, value in zip(model.signature.outputs, found, strict=True)}


def _hold(module: Any, said: Mapping[str, Array], context: Context) -> None:
    """Compare what both answer."""
    with torch.no_grad():
        found = module(**{name: as_tensor(array) for name, array in _few(context).items()})
    for name, wanted in said.items():
        if not np.isfinite(wanted).all():
            raise TechniqueError(f"Keras's {name} holds numbers that are not finite, by which nothing can be held")
        apart = float(np.abs(found[name].numpy() - wanted).max(initial=0.0))
        most = float(np.abs(wanted).max(initial=0.0))
        if not apart <= APART * most + FLOOR:
            raise TechniqueError(
                f"PyTorch's layers and Keras's must answer alike, and {name} is {apart:g} apart where the largest "
                f"number is {most:g}"
            )
