"""Technique: one step that turns a model into another, and the promises that are enforced around it."""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Flag, IntEnum, StrEnum, auto
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np

from .data import Data
from .dataflow import Dataflow
from .errors import ContractBroken, NotApplicable, StropError, TechniqueError
from .learning import Training
from .model import Batch, Format, Model, Signature
from .runtime import LayerTime
from .settings import Settings
from .target import Target

Array = np.ndarray[Any, Any]


class Phase(IntEnum):
    """Orders the steps within one format; they start again after a converter.

    A COMPILE step ties a model to one runtime, so nothing converts it further.
    """

    SHRINK = 0
    SIMPLIFY = 1
    QUANTIZE = 2
    CONVERT = 3
    COMPILE = 4


class Needs(Flag):
    """What a technique needs besides the model."""

    NOTHING = 0
    SAMPLES = auto()
    LABELS = auto()
    TRAINING = auto()
    STUDENT = auto()


class Work(StrEnum):
    """What the time of a call goes to."""

    OVERHEAD = "overhead"  # the call itself, and layers with so little to do that beginning takes longer
    PREPARATION = "preparation"  # what a pipeline does before its last step
    WEIGHTS = "weights"  # reading those that no cache holds from memory
    CONVOLUTIONS = "convolutions"  # computing them
    PRODUCTS = "products"  # computing those of matrices, and what is made of them
    OTHER = "other"  # layers that do neither
    MODEL = "model"  # the model itself, where no more is known


@dataclass(frozen=True)
class Context:
    """All that a step may use besides the model, and nothing else.

    Attributes:
        calibration: Samples to calibrate with; never those of the search or confirm split. None where no data is given.
        train: Samples to train with, for a technique that needs TRAINING.
        training: How to train, likewise.
        student: A model of the user's own to teach, for one that needs a STUDENT.
        original: The model as given, in the format of the route's first step: the teacher.
        target: Where the result will run.
        seed: Of every random choice.
        folder: An empty folder, the only place to write to.
        deadline: `time.monotonic()` at which the step must be done.
        shared: A folder of the run, for what is costly and the same for all steps.
        kept: A folder for this step alone that outlives a kill, so that it goes on where it was; gone once it is done.
        progress: Called with the share done (0 to 1) and a few words.
        layer_times: What each layer of a model takes in a call on the target, for steps that decide by it.
    """

    calibration: Data | None
    original: Model
    target: Target
    seed: int
    folder: Path
    train: Data | None = None
    training: Training | None = None
    student: Model | None = None
    shared: Path | None = None
    kept: Path | None = None
    deadline: float = float("inf")
    progress: Callable[[float, str], None] = lambda share, words: None
    layer_times: Callable[[Model], Sequence[LayerTime]] | None = None


class Parts(Protocol):
    """A model whose operators are in groups that have one precision each, as a step that mixes precisions sees it.

    Attributes:
        members: By group, the names that its operators have in the model's file, first the one with weights.
        labels: By group, what a person calls it: where it came from, if the model tells.
        borders: Groups between which values pass, and the names of those that steps can tell (see `telling`).
        precisions: That a group may have, the most exact last.
        weights: Precisions in which weights alone are rounded (`int8 weights`, `int4 weights`), and the groups that may
            have these, too: all else is in floats.
        ranged: Groups in which values are rounded within ranges that samples taught, and that are theirs alone.
    """

    members: Mapping[str, Sequence[str]]
    labels: Mapping[str, str]
    borders: Sequence[tuple[str, str, Sequence[str]]]
    precisions: tuple[str, ...]
    weights: Mapping[str, Collection[str]] = MappingProxyType({})
    ranged: Collection[str] = ()

    def step(self, precisions: Mapping[str, str]) -> Callable[[Batch], dict[str, Array]]:
        """What runs the model with these precisions, by group."""
        ...

    def passing(self, group: str) -> Sequence[str]:
        """The names of the values that pass from what comes before a group into it and all groups after it.

        None where the model can't be cut there.
        """
        return ()

    def telling(self, values: Iterable[str]) -> Parts:
        """The same model, whose steps tell values that pass, too: all but those that they are given."""
        ...

    def since(self, group: str) -> Parts:
        """What follows the cut before a group: its steps are given what passes, and tell outputs that hang on it."""
        ...

    def widened(self, widths: Mapping[str, float]) -> Parts:
        """The same model, ranges of groups in int8 being so many times as wide as they were learned."""
        ...

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        """Write the model with these precisions, by group."""
        ...


@dataclass(frozen=True)
class Technique(Settings):
    """One step that turns a model into another. Its fields are its settings.

    A subclass names what it accepts and returns, and implements `apply`. `requires` says no, with the reason, to a
    model or machine that it does not fit.
    """

    accepts: ClassVar[frozenset[Format]]
    returns: ClassVar[Format | None] = None
    """None: the format it was given."""
    phase: ClassVar[Phase]
    quantizes: ClassVar[bool] = False
    chooses: ClassVar[str | None] = None
    """What of a model it settles, such as how many trees there are; of two that settle the same, a route has one."""
    needs: ClassVar[Needs] = Needs.NOTHING
    lossless: ClassVar[bool] = False
    """Whether outputs stay equal to the last bits of float32 arithmetic."""
    for_quantizing: ClassVar[bool] = False
    """Whether it is worth nothing unless a later step quantizes."""
    gentler: ClassVar[type[Technique] | None] = None
    """What loses less as a rule: where that breaks a limit on quality, this waits for all others."""
    mends: ClassVar[bool] = False
    """Whether it is worth nothing unless an earlier step has lost something."""
    whole: ClassVar[type[Technique] | None] = None
    """Of one whose strength is a share of what another technique loses: that one, which is tried first."""
    shrinks: ClassVar[str | None] = None
    """What of a model's counts its `amount` leaves out a share of."""
    simplified: ClassVar[bool] = False
    """Whether what it returns leaves nothing for a step of the phase SIMPLIFY, which then does not follow it."""
    gains: ClassVar[frozenset[str] | None] = None
    """The metrics that it can improve, where they are few; it is left out where the goal speaks of none of them."""

    @classmethod
    def lacks(cls) -> str:
        """What must be made here before it can be used at all, with the command; empty where nothing must."""
        return ""

    def expects(self, target: Target) -> float:
        """The ratio of latency, after over before, to expect of these settings before anything is built: of what the
        model computes.

        It orders the first trials, and says what is worth training. What else a call's time goes to, `apart` tells.
        """
        return 1.0

    def apart(self, target: Target) -> Mapping[Work, float]:
        """The ratios of single kinds of work, where they are known to be others than `expects`."""
        return {}

    def ratio(self, work: Work, target: Target) -> float:
        """The ratio to expect of one kind of work.

        What `apart` does not tell of is as `expects` says, but what a step leaves alone: what comes before the model,
        unless it is converted with it; what a call takes besides; and, of a step that quantizes, all but products.
        """
        told = self.apart(target)
        if work in told:
            return told[work]
        left = {Work.OVERHEAD: True, Work.PREPARATION: self.returns is None, Work.OTHER: self.quantizes}
        return 1.0 if left.get(work) else self.expects(target)

    def takes(self, signature: Signature) -> None:
        """Refuse inputs or outputs that it fits in no format: no step changes them, so no route to it is planned.

        Raises:
            NotApplicable: Why not, in one sentence.
        """

    def requires(self, model: Model, target: Target) -> None:
        """Refuse what this technique does not fit.

        Raises:
            NotApplicable: Why not, in one sentence.
        """

    def doubts(self, model: Model) -> str:
        """What such models are known to lose by it, where that is more than most limits bear, as half a sentence with
        its source; empty where nothing is known. Routes with such a step are tried last."""
        return ""

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        """Which operators of a model that it made these settings left in float, and why, as half a sentence.

        Args:
            made: What the model computes.
        """
        return {}

    def parts(self, model: Model, context: Context) -> Parts:
        """Open a model in groups of operators, for what asks how each of them bears int8.

        Raises:
            NotApplicable: It mixes no precisions, or has none to mix here.
        """
        raise NotApplicable(f"{self.label()} has one precision throughout")

    @abstractmethod
    def apply(self, model: Model, context: Context) -> Model:
        """Write the changed model into `context.folder` and return it.

        Raises:
            NotApplicable: Found out on the way that it does not fit.
            TechniqueError: It failed, with the cause.
        """


def apply(technique: Technique, model: Model, context: Context) -> Model:
    """Run one technique and hold it to what it declares.

    Args:
        technique: The step, settings fixed.
        model: What it is given; its files must not change.
        context: All else that it may use.

    Raises:
        NotApplicable: It does not fit this model.
        TechniqueError: It failed; carries technique, format and cause.
        ContractBroken: It returned another format, changed the signature, or touched its input: a bug in it.
    """
    if model.format not in technique.accepts:
        accepted = " or ".join(sorted(technique.accepts))
        raise ContractBroken(f"{technique.label()} was given a {model.format} model, and accepts {accepted}")
    check(technique, model, context.target)
    before = _stamp(model)
    with _blamed(technique, model):
        result = technique.apply(model, context)
    if _stamp(model) != before:
        raise ContractBroken(f"{technique.label()} changed the model that it was given")
    expected = technique.returns or model.format
    if result.format != expected:
        raise ContractBroken(f"{technique.label()} returned {result.format}, and declares {expected}")
    if not all(file.resolve().is_relative_to(context.folder.resolve()) for file in result.files):
        raise ContractBroken(f"{technique.label()} returned files outside its folder")
    if not result.files or not all(file.exists() for file in result.files):
        raise ContractBroken(f"{technique.label()} returned no file, or one that it did not write")
    if result.signature.names() != model.signature.names():
        raise ContractBroken(
            f"{technique.label()} changed the signature from {model.signature.names()} to {result.signature.names()}"
        )
    signature = _as_tied(model.signature, result.signature)
    history = (*model.history, str(technique))
    kept = {name: getattr(result, name) or getattr(model, name) for name in ("counts", "notes", "groups")}
    return replace(result, signature=signature, history=history, **kept)


def _as_tied(given: Signature, made: Signature) -> Signature:
    """What data told about axes and state stays as it was; a number of samples that a step ties a model to is told."""
    inputs, outputs = (
        tuple(
            replace(old, shape=(new.fixed_batch, *old.shape[1:])) if new.fixed_batch and old.batched else old
            for old, new in zip(before, after, strict=True)
        )
        for before, after in ((given.inputs, made.inputs), (given.outputs, made.outputs))
    )
    return replace(given, inputs=inputs, outputs=outputs)


def check(technique: Technique, model: Model, target: Target) -> None:
    """Ask a technique whether it fits a model of a format that it accepts.

    Raises:
        NotApplicable: It does not.
        TechniqueError: It failed to say.
    """
    with _blamed(technique, model):
        technique.takes(model.signature)
        technique.requires(model, target)


@contextlib.contextmanager
def _blamed(technique: Technique, model: Model) -> Iterator[None]:
    """Turn an unexpected exception into an error that says which technique failed on what."""
    try:
        yield
    except (StropError, MemoryError, OSError):
        raise  # says itself what it is, or is of the machine or its time, which the engine names
    except Exception as error:
        text = str(error).strip().split("\n")[0][:300]
        cause = f"{type(error).__name__}: {text}"
        raise TechniqueError(f"{technique} failed on this {model.format} model: {cause}") from error


def remaining(context: Context) -> float:
    """Seconds left for a step."""
    return context.deadline - time.monotonic()


def _stamp(model: Model) -> tuple[Any, ...]:
    found = ((file, file.stat()) for file in model.files if file.exists())
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in found)
