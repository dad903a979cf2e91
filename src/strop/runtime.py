"""Runtime: what executes a model; Runner: a model loaded by it; and how samples go through one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from .data import Data
from .errors import NotApplicable, RunFailed
from .model import FLOATS, Batch, Format, Model, Signature
from .settings import Settings
from .spelling import option
from .target import Target

Array = np.ndarray[Any, Any]


class Runner(Protocol):
    """A model that is loaded and can be called."""

    def __call__(self, batch: Batch) -> dict[str, Array]:
        """Run one call; the arrays have the model's own shapes."""
        ...

    def bind(self, batch: Batch) -> Callable[[], object]:
        """Prepare an input once, and return the call that is timed."""
        ...

    def close(self) -> None: ...


SECONDS = 2.0
"""That a profile takes calls for."""
EXACT = 1e-9
"""Seconds that a clock tells apart: what is less is what rounding left."""


@dataclass(frozen=True)
class LayerTime:
    """What one part of a call takes, as its runtime's profiler tells it.

    Attributes:
        name: The runtime's own name of what it ran.
        operator: The kind of work, in the runtime's spelling.
        seconds: The median over calls.
        layers: Names of the layers of the model's file that it stands for, several where they were fused; empty where
            it is the runtime's own, such as a reorder or a conversion.
        precision: What it was computed in: `f32`, `bf16`, `f16`, `int8`; empty where that is not known.
        after: Of what stands for no layer, the layer or input of the file whose value it takes; empty where that is not
            known.
    """

    name: str
    operator: str
    seconds: float
    layers: tuple[str, ...]
    precision: str = ""
    after: str = ""


@dataclass(frozen=True)
class Profiled:
    """What a runtime's profiler told.

    Attributes:
        layers: What ran in a call, in order. Together they take less than it does; the rest is overhead.
        calls: Seconds of calls without the profiler, which took turns with those that it told of; those in which other
            work had the cores are not counted.
        waited: The share of the time in which it had.
        step: Seconds that the profiler tells apart.
    """

    layers: tuple[LayerTime, ...]
    calls: Array
    waited: float = 0.0
    step: float = EXACT


@dataclass(frozen=True)
class Code:
    """Python that runs a model where it lies.

    Attributes:
        load: Opens the model, once. `file` is the path of its main file, and `np` is NumPy.
        call: Makes `outputs` of `inputs`, arrays by name, with what `load` made; both have the model's own shapes.
        packages: What must be installed for it besides NumPy, as pip names it.
        system: What Debian must have besides.
    """

    load: str
    call: str
    packages: tuple[str, ...] = ()
    system: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime(Settings):
    """What executes a model. Its fields are its options, searched like settings."""

    loads: ClassVar[frozenset[Format]]
    extra: ClassVar[str | None] = None
    """The extra of strop that installs it; None for core."""
    module: ClassVar[str]
    """The top-level module that must be importable."""
    as_given: ClassVar[bool] = False
    """Whether it is what users call without strop: timed beside the original, and never a candidate's."""

    partial: ClassVar[bool] = False
    """Whether it refuses some models of the formats that it loads, and so is no reference: `load` then raises
    NotApplicable, and the candidate is skipped."""

    apart: ClassVar[frozenset[Format]] = frozenset()
    """The formats that it loads in which a sample's outputs never depend on what else is in the call, as in trees:
    quality is told in large calls there, whatever the target's batch."""

    @classmethod
    def expects(cls, target: Target) -> float:
        """The ratio of latency against the reference runtime to expect before anything is measured."""
        return 1.0

    @classmethod
    def lower(cls, target: Target) -> tuple[Mapping[str, Any], float] | None:
        """Options with which it computes floats in a smaller type on this machine, and the ratio of latency to expect:
        tried with each route that quantizes nothing, as a route of its own; others begin with them, for what they leave
        in floats. None where there are none."""
        return None

    def requires(self, target: Target) -> None:
        """Refuse options that this machine can't serve.

        Raises:
            NotApplicable: Why not, in one sentence.
        """

    def elsewhere(self, model: Model, target: Target) -> str:
        """How a model is measured where it will run, as Markdown for its bundle; empty where that is here."""
        return ""

    def code(self, model: Model, target: Target) -> Code:
        """How a model is run. By default by strop, from its bundle; a runtime that others call without it says how."""
        return Code(
            "import os\n\nimport strop\n\nrunner = strop.Bundle.load(os.path.dirname(file) or os.curdir).runner()",
            "outputs = runner(inputs)",
            (f"strop[{self.extra}]" if self.extra else "strop",),
        )

    def start(self) -> None:
        """Load what any model needs, and no model: memory is told over this. Where libraries come in with the first
        model only, that is an empty one."""
        __import__(self.module)

    def layer_times(
        self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS
    ) -> tuple[LayerTime, ...]:
        """What ran in a call, in the order in which it did, as the runtime's own profiler tells it; see `profiled`."""
        return self.profiled(model, target, batches, seconds).layers

    def profiled(self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS) -> Profiled:
        """Run calls with the runtime's own profiler on and without.

        Args:
            model: On disk.
            target: Whose threads to use.
            batches: Inputs of one call each, which take turns.
            seconds: How long, or so.

        Raises:
            NotApplicable: The runtime has no profiler, in one sentence.
            RunFailed: The runtime refuses the model; the message is the runtime's own.
        """
        raise NotApplicable(f"{self.label()} has no profiler that tells what each layer takes")

    @abstractmethod
    def load(self, model: Model, target: Target) -> Runner:
        """Load a model, with the threads that the target gives. An idle runner must not spin.

        Raises:
            RunFailed: The runtime refuses the model; the message is the runtime's own.
            NotApplicable: It can't express what the model holds (`partial`).
        """


def predict(
    runner: Callable[[Batch], dict[str, Array]], signature: Signature, data: Data, batch: int
) -> dict[str, Array]:
    """Run all samples, `batch` in a call, and return the outputs that are results, axis 0 being samples.

    Where the model has no batch axis, each call holds one sample. A stateful model is run sequence by sequence, its
    state carried from step to step; outputs then are [samples, steps, ...].

    Raises:
        RunFailed: An output has neither a sample axis of the right length nor belongs to a single sample.
    """
    parts: dict[str, list[Array]] = {tensor.name: [] for tensor in signature.visible_outputs}
    batched = all(t.batched for t in signature.inputs if t.name in data.inputs)
    for size, feeds in calls(signature, data, batch):
        steps: dict[str, list[Array]] = {name: [] for name in parts}
        state: dict[str, Array] = {}
        for feed in feeds:
            outputs = runner({**feed, **state})
            state = {t.name: outputs[t.feedback] for t in signature.states if t.feedback}
            for name in parts:
                steps[name].append(outputs[name])
        for name, taken in steps.items():
            if signature.states:
                parts[name].append(np.stack([_single(value) for value in taken])[None])
            else:
                parts[name].append(_per_sample(name, taken[0], size, batched))
    return {name: _join(name, pieces) for name, pieces in parts.items()}


def calls(signature: Signature, data: Data, batch: int) -> Iterator[tuple[int, Iterator[Batch]]]:
    """The calls that carry all samples: for each its number of samples, and its steps (one, unless stateful).

    Floats come in the width that the signature says: of two models that are compared, each gets its own. The first
    step of a sequence holds zeros for each state; the caller feeds the outputs back after that.
    """
    given = {name: data.dtypes.get(name) or array.dtype.name for name, array in data.inputs.items()}
    floats = {t.name: t.dtype for t in signature.inputs if t.dtype in FLOATS and given.get(t.name) in FLOATS}
    data = replace(data, dtypes={**data.dtypes, **floats})
    if signature.states:
        for row in range(len(data)):
            yield 1, _sequence(signature, data.batch(row, row + 1))
        return
    tensors = {t.name: t for t in signature.inputs if t.name in data.inputs}
    if not all(t.batched for t in tensors.values()):
        for row in range(len(data)):
            sample = data.batch(row, row + 1)
            single = {name for name, t in tensors.items() if not t.batched}
            yield 1, iter([{name: np.asarray(v[0]) if name in single else v for name, v in sample.items()}])
        return
    size = next((t.fixed_batch for t in tensors.values() if t.fixed_batch), batch)
    for start in range(0, len(data), size):
        taken = data.batch(start, min(start + size, len(data)))
        count = min(size, len(data) - start)
        full = {t.fixed_batch for t in tensors.values()} != {None}
        yield count, iter([{k: _padded(v, size) if full and k in tensors else v for k, v in taken.items()}])


def _sequence(signature: Signature, sample: Batch) -> Iterator[Batch]:
    streams = [t for t in signature.inputs if not t.feedback and len(sample[t.name].shape) > len(t.shape)]
    steps = sample[streams[0].name].shape[1] if streams else 1
    start = {t.name: np.zeros([d if isinstance(d, int) else 1 for d in t.shape], t.dtype) for t in signature.states}
    for step in range(steps):
        feed = {}
        for tensor in signature.inputs:
            if tensor.feedback:
                continue
            value = sample[tensor.name]
            feed[tensor.name] = value[:, step] if tensor in streams else value
        yield {**start, **feed} if step == 0 else feed


def _padded(array: Array, size: int) -> Array:
    if len(array) == size:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _single(value: Array) -> Array:
    return value[0] if value.ndim and value.shape[0] == 1 else value


def _per_sample(name: str, value: Array, size: int, batched: bool) -> Array:
    if batched and value.ndim and value.shape[0] >= size:
        return value[:size]
    if size == 1:
        return value[None]
    raise RunFailed(
        f"output {name!r} has shape {value.shape} for {size} samples, and must have one row a sample. "
        f"Run it with {option('batch', 1)}, or export the model with a batch axis on that output."
    )


def _join(name: str, pieces: list[Array]) -> Array:
    if len({piece.shape[1:] for piece in pieces}) > 1:
        shapes = sorted({piece.shape[1:] for piece in pieces})
        raise RunFailed(
            f"output {name!r} changes its shape from sample to sample ({shapes[0]}, {shapes[-1]}). "
            "Pad the inputs to one size, so that every sample gives the same."
        )
    return np.concatenate(pieces)
