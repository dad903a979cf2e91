"""Modules: a PyTorch model and how it is trained, as an estimator of scikit-learn's kind.

Its parameters are those of `strop.Training` and a factory's own keyword arguments, so that folds, rungs, limits and
what is kept of a run are those of any estimator.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from .. import training as loop
from .._plain import given
from ..data import Data
from ..errors import InvalidPlan, TechniqueError
from ..learning import Training
from ..target import Target
from ..technique import Context
from .lessons import arrays, checked_labels, classes_of, coded, loss_of, named_samples

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]

OTHERS = ("teach", "temperature", "features", "student", "keep")  # settings of what an original teaches
SETTINGS = tuple(field.name for field in fields(Training) if field.name not in OTHERS)
FEW = 16  # samples to look at a module with


class Learner(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A module that `fit` trains; see `of_module`.

    Args:
        source: A live module, a factory, or `module:factory`.
        training: How it is trained.
        options: What a factory is called with.
        inputs: Names of the module's inputs.
        classes: Of the labels, in the order of the module's outputs; None where labels are numbers.
        seed: Of initial weights, order and dropout.
        identity: Tells it from others in the record of a run.

    Attributes:
        module: As trained, in evaluation mode, on the CPU.
        classes_: As of scikit-learn's classifiers.
    """

    module: torch.nn.Module
    _objective: loop.Objective

    def __init__(
        self, source: Any, training: Training, options: Mapping[str, Any], inputs: tuple[str, ...],
        classes: Array | None, seed: int, identity: str,
    ):  # fmt: skip
        self.source, self.training, self.options, self.inputs = source, training, dict(options), inputs
        self.classes, self.seed, self.identity = classes, seed, identity

    def __sklearn_clone__(self) -> Learner:
        return type(self)(
            self.source, self.training, self.options, self.inputs, self.classes, self.seed, self.identity
        )  # fmt: skip

    def __repr__(self) -> str:
        kept = ", ".join(f"{name}={loop.spelled(value)}" for name, value in self.get_params().items())
        return f"{self.identity}({kept})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings of the training, and what the factory is called with."""
        own, _ = keywords(self.source)
        settings = {name: getattr(self.training, name) for name in SETTINGS if name not in own}
        return {**settings, **{name: value for name, value in own.items() if name not in SETTINGS}, **self.options}

    def set_params(self, **params: Any) -> Self:
        """Set some of them.

        Raises:
            ValueError: There is no such parameter.
            InvalidPlan: A setting of the training can't have this value.
        """
        own, more = keywords(self.source)
        for name, value in params.items():
            value = value.item() if isinstance(value, np.generic) else value
            if name in SETTINGS and name in own:
                raise ValueError(f"both the training and the factory have a {name}. Rename that of the factory")
            if name in SETTINGS:
                self.training = replace(self.training, **{name: value})
            elif name in own or (more and name not in OTHERS):
                self.options[name] = value
            elif name in OTHERS:
                raise ValueError(f"{name} is of being taught by an original, and nothing teaches here")
            else:
                raise ValueError(_unknown(name, [*SETTINGS, *own], self.source))
        _check(self.training)
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Train, from the weights of a live module, or from a factory's seeded ones.

        Args:
            X: `[samples, ...]`, records of the inputs, or a mapping of arrays.
            y: `[samples]` or `[samples, ...]`.

        Raises:
            TechniqueError: It went astray, or the loss does not fit.
        """
        module: Any = loop.built(self.source, self.options, self.seed).payload
        data = Data(arrays(X, self.inputs), coded(np.asarray(y), self.classes))
        self._objective = loop.train(module, data, self.training, self.seed)
        self.module = module
        return self

    def saved_size(self) -> int:
        """Bytes of the weights as saved."""
        return len(loop.weight_bytes(self.module))

    def _answer(self, X: Any) -> torch.Tensor:
        found = loop.answer(self.module, arrays(X, self.inputs))
        if not np.isfinite(found.numpy()).all():
            raise TechniqueError("the module's first output is not finite. Look at the samples, or lower learning_rate")
        return found


class LearningClassifier(ClassifierMixin, Learner):  # type: ignore[misc]
    """A module whose labels are classes."""

    @property
    def classes_(self) -> Array:
        assert self.classes is not None
        return self.classes

    def predict(self, X: Any) -> Array:
        """[samples], the likeliest class."""
        first = self._answer(X)
        several = first.ndim == 2 and first.shape[1] > 1
        places = (first if several else self._objective.scores(first)).argmax(1)
        return np.asarray(self.classes_[places.numpy()])

    def predict_proba(self, X: Any) -> Array:
        """[samples, classes]."""
        return self._objective.scores(self._answer(X).double()).numpy()


class LearningRegressor(RegressorMixin, Learner):  # type: ignore[misc]
    """A module whose labels are numbers."""

    def predict(self, X: Any) -> Array:
        """The first output, [samples, ...]; [samples] where it is one number a sample."""
        found: Array = self._objective.shares(self._answer(X)).numpy()
        return found.reshape(-1) if found.size == len(found) else found


def of_module(source: Any, training: Training | None, X: Any, y: Any, seed: int) -> tuple[Learner, Array, Array]:
    """The estimator of a module, and samples and labels as it and scikit-learn take them.

    A module is looked at and takes a first step on a few samples, before anything is spent. Whole numbers from 0 on,
    for which there are outputs, are the module's own numbers of classes; other labels are numbered in their order, and
    must be as many as there are outputs, or two where there is one.

    Args:
        source: A live module, which is trained on from its weights; a class or function that makes one; or
            `module:factory`.
        training: How it is trained; what it says of a teacher must be left as it is.
        X: `[samples, ...]`, or by name of the input.
        y: Classes, numbers or texts, `[samples]`; or numbers, `[samples, ...]`.
        seed: Of every random choice.

    Raises:
        InvalidPlan: The training is none that can be had here.
        InvalidData: Samples and labels fit neither each other nor the module.
        UnsupportedModel: The module is none to train.
    """
    training = _check(given(Training, training, "training"))
    options, _ = keywords(source)
    if missing := [name for name, value in options.items() if value is inspect.Parameter.empty]:
        raise InvalidPlan(
            f"A factory must make the original too, which others are compared with, and {loop.spelled(source)} needs a "
            f"value for {missing[0]}. Give it a default, or functools.partial(factory, {missing[0]}=...)."
        )
    model = loop.built(source, {}, seed)
    module: Any = model.payload
    takes = {tensor.name: tensor.optional for tensor in model.signature.inputs}
    samples, inputs = named_samples(X, takes)
    labels = checked_labels(y, len(samples))
    few = np.arange(min(FEW, len(samples)))
    first = loop.look(module, arrays(samples[few], inputs))
    classes = classes_of(labels, first, training.loss)
    if training.loss == "auto":
        training = replace(training, loss=loss_of(classes, first, labels))
    labels = labels[:, 0] if classes is not None and labels.ndim == 2 else labels
    data = Data(arrays(samples, inputs), coded(labels, classes))
    identity = f"{loop.spelled(source)} {loop.digest(module)}"
    step = replace(training, teach=0.0, features=0.0)
    loop.first_step(module, Context(None, model, Target(), seed, Path(), train=data, training=step))
    kind = LearningRegressor if classes is None else LearningClassifier
    return kind(source, training, {}, inputs, classes, seed, identity), samples, labels


def keywords(source: Any) -> tuple[dict[str, Any], bool]:
    """What a factory may be called with, by name, with its defaults; and whether it takes any other name."""
    make = loop.factory_of(source)
    if make is None:
        return {}, False
    try:
        known = inspect.signature(make).parameters
    except (TypeError, ValueError):  # of what is not written in Python
        return {}, False
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    own = {name: parameter.default for name, parameter in known.items() if parameter.kind in kinds}
    return own, any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())


def _check(training: Training) -> Training:
    plain = Training()
    taught = [name for name in ("features", "student") if getattr(training, name) != getattr(plain, name)]
    if training.teach not in (0, plain.teach):
        taught.insert(0, "teach")
    if taught:
        raise InvalidPlan(
            f"{taught[0]} of the training is of being taught by an original, and nothing teaches in a search for "
            "hyperparameters. Leave it out; strop.optimize has a teacher."
        )
    if training.loss == "none":
        raise InvalidPlan("A search trains by labels, and the loss 'none' has no use for them. Name another loss.")
    return training


def _unknown(name: str, known: list[str], source: Any) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
    return f"{hint}{' A live module has no width to choose: give a factory' if loop.factory_of(source) is None else ''}"
