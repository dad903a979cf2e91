"""A rehearsal: what a user says of training, tried on a few samples before anything is spent."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from .._lazy import lazy
from .._plain import told
from ..data import Data
from ..errors import InvalidPlan, StropError, TechniqueError, UnsupportedModel
from ..formats.keras import layers_of, worn
from ..formats.torch import as_tensor, given_to, load, run
from ..learning import Training
from ..model import KERAS, TORCH, Batch, Model
from ..target import Target
from ..technique import Context
from . import keras
from .batches import settings_of
from .loop import one_step

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

FEW = 16  # samples
NAMED = 5  # of what there is, in a message


def rehearse(original: Model, training: Training, data: Path, student: Model | None) -> None:
    """Try what a user says of training, in a job: it may be code of their own.

    Args:
        original: As given.
        training: How to train.
        data: Folder of the train data.
        student: A model of the user's own to teach, or None.

    Raises:
        InvalidPlan: `keep` names nothing, or augment or loss do not work on these samples.
        UnsupportedModel: The student does not run on them, or answers something else than the original.
        InvalidData: The labels are none to train with.
    """
    train = Data.load(data)
    context = Context(None, original, Target(), 0, Path(), train=train, training=training, student=student)
    if original.format == KERAS:
        return _rehearse_keras(context)
    if original.format != TORCH:
        return _check_kept(training, columns(original))
    module = load(original)
    _check_kept(training, [name for name, _ in module.named_modules() if name])
    if student is not None:
        _check_student(original, student, train.batch(0, min(FEW, len(train))))
    first_step(load(student) if student else module, context)


def first_step(module: torch.nn.Module, context: Context) -> None:
    """Take a step of training on a few samples; the module is changed by it.

    Raises:
        InvalidPlan: Module, augment or loss do not work on them.
        InvalidData: The labels are none to train with.
    """
    with _tried(context) as few, torch.random.fork_rng(devices=[]):
        one_step(module, few)


def _rehearse_keras(context: Context) -> None:
    training = settings_of(context)
    live = keras.begin(context.original, context)
    _check_kept(training, [name for path in layers_of(live) for name in {path, path.rpartition("/")[2]}])
    if training.features:
        raise InvalidPlan(
            f"features of the training compares inner layers of PyTorch modules, and is {training.features:g} for a "
            "model of Keras. Leave it out: teach is what the original weighs."
        )
    if context.student is not None:
        live = worn(keras.begin(context.student, context), live)
    with _tried(context) as few:
        keras.one_step(live, few)


@contextlib.contextmanager
def _tried(context: Context) -> Iterator[Context]:
    """A context of a few samples, all that fails on them told as what does not work.

    Raises:
        InvalidPlan: Model, augment or loss do not work on them.
    """
    training = settings_of(context)
    try:
        yield dataclasses.replace(context, training=dataclasses.replace(training, batch=FEW, holdout=0.0))
    except TechniqueError as error:
        raise InvalidPlan(f"The training must work on a few samples: {error}.") from error
    except StropError:
        raise
    except Exception as error:  # whatever a user's own loss or model raises is told as it is
        own = callable(training.loss) or ":" in training.loss
        step = "A loss is given the outputs by name and the labels, as tensors" if own else "Check augment and labels"
        raise InvalidPlan(
            f"The training must work on a few samples, and its first step failed with {type(error).__name__}: "
            f"{told(error).rstrip('.')}. {step}."
        ) from error


def _check_kept(training: Training, names: list[str]) -> None:
    for given in training.keep:
        if names and not any(fnmatch(name, given) for name in names):
            raise InvalidPlan(_unknown(given, names))


def columns(original: Model) -> list[str]:
    """The columns of a table that a model takes."""
    return [name for tensor in original.signature.inputs for name in tensor.columns]


def _unknown(given: str, names: list[str]) -> str:
    near = difflib.get_close_matches(given, names, NAMED, 0.4) or names[:NAMED]
    return f"keep of the training must name what the model has, and {given!r} matches nothing. Near: {', '.join(near)}."


def _check_student(original: Model, student: Model, few: Batch) -> None:
    samples = {name: as_tensor(array) for name, array in few.items()}
    takes, asked = given_to(load(student)), [tensor.name for tensor in original.signature.inputs]
    if not {name for name, optional in takes.items() if not optional} <= set(asked) <= set(takes):
        raise UnsupportedModel(
            f"A student must take the original's inputs by name ({', '.join(asked)}), and this one takes "
            f"{', '.join(takes)}. Name them so in its forward."
        )
    try:
        found = run(load(student), samples)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"Of the student: {error}") from error
    wanted = run(load(original), samples)
    sides = [", ".join(f"{name}: {_told(tensor)}" for name, tensor in side.items()) for side in (found, wanted)]
    if sides[0] != sides[1]:
        raise UnsupportedModel(
            f"A student must answer as the original does, {sides[1]}, and this one answers {sides[0]}. Give its "
            "outputs the same names, shapes and dtypes."
        )


def _told(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape[1:])}"
