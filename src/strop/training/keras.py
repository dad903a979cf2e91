"""The training loop for Keras models: a course whose steps Keras takes, on TensorFlow."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from .._quiet import keras, silenced, tensorflow
from ..errors import NotApplicable, TechniqueError
from ..formats._keras_ends import flat
from ..formats.keras import KerasFormat, function_of, layers_of, load, save
from ..formats.tensorflow import set_threads
from ..learning import Training
from ..model import Model
from ..target import usable_cores
from ..technique import Context, remaining
from .aims import STRETCH, check_taught
from .answers import Array, recall
from .batches import Batches, TrainBatch, batches_of, data_of, settings_of
from .course import ASKING, FEWEST, LARGEST_NORM, RESERVE, Course, State, stays_zero
from .keras_losses import Objective

PLAIN = ("beta", "bias", "gamma")
"""What is no weight to regularize or prune, however many axes it has."""


def begin(model: Model, context: Context) -> Any:
    """The live model, all that is random in it seeded, on all threads that there are: training is not timed."""
    set_threads(len(usable_cores()))
    keras().utils.set_random_seed(context.seed)
    return load(model)


def retrain(live: Any, context: Context, *, sparse: bool = False) -> Any:
    """Train a live model as the user asks, taught by the original; weights with many zeros keep them.

    As `loop.retrain` does with modules, from its checkpoint after a kill. The same seed gives the same batches and
    dropout, and weights that differ by the order only in which TensorFlow's threads sum.

    Args:
        live: Changed in place; its inputs and outputs have the original's names.
        context: With train data and training settings.
        sparse: Whether every zero is meant to stay.

    Returns:
        The model, its weights those that did best on what was held out, the first ones included.

    Raises:
        NotApplicable: It takes so many samples a call, and no others.
        TechniqueError: The loss is no number any more, or can't be had from these outputs and labels.
        TimeoutError: There is no time to learn anything.
    """
    batches, training = keras_batches(context), settings_of(context)
    left, asked = remaining(context) * (1 - RESERVE), training.seconds or math.inf
    start = time.monotonic()
    teacher = _Teacher.of(context, training, batches, min(left, asked))
    left -= time.monotonic() - start
    course = _Course(live, teacher, batches, training, min(left, asked), FEWEST if left < asked else 1, sparse)
    checkpoint = context.kept / "checkpoint.npz" if context.kept else None
    with silenced():
        course.run(checkpoint, lambda done, words: context.progress(done, f"training, {words}"))
    return live


def one_step(live: Any, context: Context) -> None:
    """Take the first step as training would: what does not work is told by it."""
    batches, training = keras_batches(context), settings_of(context)
    course = _Course(live, _Teacher.of(context, training, batches, math.inf), batches, training, math.inf, 1, False)
    course._step(next(batches.epoch(0)), 0.0)


def keras_batches(context: Context) -> Batches:
    """The train data in batches, as arrays.

    Raises:
        NotApplicable: The model takes so many samples a call, and no others.
    """
    if fixed := next((t.fixed_batch for t in context.original.signature.inputs if t.fixed_batch), None):
        raise NotApplicable(f"takes {fixed} samples a call, and is trained where it takes any number")
    return batches_of(data_of(context), settings_of(context), context.seed, np.asarray)


def saved(live: Any, context: Context) -> Model:
    """Write what was trained."""
    return save(live, context.folder)


def is_kernel(variable: Any) -> bool:
    """Whether a variable is a weight that is regularized and pruned: no bias, and of no norm."""
    return len(variable.shape) > 1 and not any(word in variable.name for word in PLAIN)


def kept(live: Any, patterns: Collection[str]) -> set[str]:
    """The names of the layers that a user names, and of all within them."""
    names = layers_of(live)
    found = [name for name in names if any(is_named(name, given) for given in patterns)]
    return {name for name in names if any(name == one or name.startswith(f"{one}/") for one in found)}


def is_named(layer: str, pattern: str) -> bool:
    """Whether a pattern is that of a layer, by its name within its model or by the whole of `outer/inner`."""
    return fnmatch(layer, pattern) or fnmatch(layer.rpartition("/")[2], pattern)


class _Teacher:
    """Answers what the original says to a batch: float32 `[samples, ...]`, by output."""

    def __init__(self, original: Model, batches: Batches, folder: Path | None, seconds: float, progress: Any):
        self.function, self._kept = function_of(original), None
        if folder is not None and batches.augment is None:
            self._kept = recall(folder, self.ask, batches, seconds, progress)

    @classmethod
    def of(cls, context: Context, training: Training, batches: Batches, seconds: float) -> _Teacher | None:
        """The original as a teacher, where the settings ask for one."""
        if training.teach == 0 and batches.labels is not None and training.loss != "none":
            return None
        folder = context.shared / "teacher" if context.shared else None

        def progress(share: float) -> None:
            context.progress(0.0, f"asking the original, {share:.0%}")

        return cls(context.original, batches, folder, seconds * ASKING, progress)

    def __call__(self, batch: TrainBatch) -> dict[str, Array]:
        if self._kept is None:
            return self.ask(batch)
        return {name: np.array(array[batch.rows]) for name, array in self._kept.items()}

    def ask(self, batch: TrainBatch) -> dict[str, Array]:
        outputs = self.function.signature.outputs
        with silenced():
            answers = self.function.called(self.function.given(batch.inputs))
        return {
            tensor.name: np.asarray(array, np.float32)
            for tensor, array in zip(outputs, answers, strict=True)
            if tensor.batched and "float" in tensor.dtype
        }


class _Course(Course):
    """One training of one live model."""

    def __init__(
        self, live: Any, teacher: _Teacher | None, batches: Batches, training: Training, seconds: float, fewest: int,
        sparse: bool,
    ):  # fmt: skip
        super().__init__(batches, training, 1.0, seconds, fewest)
        self.live, self.teacher, self.call = live, teacher, flat(live)
        self.signature = KerasFormat().open(live).signature
        self.weights = list(live.trainable_variables)
        if not self.weights:
            raise TechniqueError("a model that is trained must have weights that learn, and this one has none")
        few = batches.take(batches.rows[: batches.size])
        answer = {name: np.asarray(value) for name, value in self._outputs(self._given(few), False).items()}
        taught = teacher(few) if teacher else {}
        check_taught(answer, taught)
        self.objective = Objective(training, {**answer, **taught}, few.labels, batches.binary)
        if self.objective.probabilities and self.objective.alone:  # or logits that happen to be small
            self.objective.probabilities = self._stays_bounded(few)
        if batches.labels is not None:
            self.objective.check(next(iter(answer.values())).shape, batches.labels)
        self.decayed = [v for v in self.weights if is_kernel(v)]
        shares = [float(np.mean(np.asarray(v) == 0)) for v in self.decayed]
        self.masks = [
            (v, np.asarray(v) != 0) for v, zeros in zip(self.decayed, shares, strict=True) if stays_zero(zeros, sparse)
        ]  # fmt: skip
        self.optimizer = _optimizer(training)
        self.optimizer.build(self.weights)
        function = tensorflow().function
        self.learned = function(self._learn, autograph=False, reduce_retracing=True)
        self.judged = function(self._loss, autograph=False, reduce_retracing=True)

    def _step(self, batch: TrainBatch, done: float) -> None:
        rate = self.rate(done)
        self.optimizer.learning_rate.assign(rate)
        decay = tensorflow().constant(1 - rate * self.training.weight_decay, "float32")
        loss = float(self.learned(*self._fed(batch), decay))
        if not math.isfinite(loss):
            raise TechniqueError(f"the loss is {loss} at step {self.state.step + 1}: {self.astray()}")

    def _learn(self, inputs: Sequence[Any], labels: Any, taught: Any, decay: Any) -> Any:
        """A step, as TensorFlow traces it."""
        tf, ops = tensorflow(), keras().ops
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, labels, taught, self.batches.size > 1)  # batch norm can't tell a spread from one
            if self.training.l2:
                loss = loss + self.training.l2 * sum(ops.sum(ops.square(v)) for v in self.decayed)
        gradients = tape.gradient(loss, self.weights)
        pairs = [(g, v) for g, v in zip(gradients, self.weights, strict=True) if g is not None]
        if not pairs:
            raise TechniqueError(
                "the loss must depend on weights that learn, and does on none. Look for stop_gradient, and whether the "
                "outputs are whole numbers"
            )
        clipped, _ = tf.clip_by_global_norm([gradient for gradient, _ in pairs], LARGEST_NORM)
        if self.training.weight_decay:
            for variable in self.decayed:
                variable.assign(variable * decay)
        self.optimizer.apply(clipped, [variable for _, variable in pairs])
        for variable, mask in self.masks:
            variable.assign(variable * ops.cast(mask, variable.dtype))
        return loss

    def _loss(self, inputs: Sequence[Any], labels: Any, taught: Any, learning: bool = False) -> Any:
        return self.objective(self._outputs(inputs, learning), labels, taught)

    def _judge(self, batch: TrainBatch) -> float:
        return float(self.judged(*self._fed(batch)))

    def _fed(self, batch: TrainBatch) -> tuple[list[Any], Any, Any]:
        tensor = tensorflow().constant
        taught = {name: tensor(array) for name, array in self.teacher(batch).items()} if self.teacher else None
        return self._given(batch), None if batch.labels is None else tensor(batch.labels), taught

    def _given(self, batch: TrainBatch) -> list[Any]:
        return [tensorflow().constant(batch.inputs[t.name], t.dtype) for t in self.signature.inputs]

    def _outputs(self, inputs: Sequence[Any], learning: bool) -> dict[str, Any]:
        """By name; what is in less than float32 in float32."""
        names, ops = [tensor.name for tensor in self.signature.outputs], keras().ops
        return {
            name: ops.cast(value, "float32") if "float" in str(value.dtype) else value
            for name, value in zip(names, self.call(inputs, learning), strict=True)
        }

    def _stays_bounded(self, few: TrainBatch) -> bool:
        """Whether the first output lies from 0 to 1 whatever the weights, as behind a sigmoid."""
        before = self._weights()
        for variable in self.weights:
            variable.assign(variable * -STRETCH)
        first = np.asarray(next(iter(self._outputs(self._given(few), False).values())))
        self._take_up(before)
        return bool(first.min() >= 0 and first.max() <= 1)

    def _weights(self) -> dict[str, Array]:
        return {str(place): np.array(variable) for place, variable in enumerate(self.live.variables)}

    def _take_up(self, weights: Mapping[str, Array]) -> None:
        for place, variable in enumerate(self.live.variables):
            variable.assign(weights[str(place)])

    def _save(self, checkpoint: Path) -> None:
        parts = {"best": self.state.weights or {}, "model": self._weights(), "optimizer": self._moments()}
        arrays = {f"{part}/{name}": array for part, held in parts.items() for name, array in held.items()}
        state = json.dumps(asdict(replace(self.state, weights=None)))
        part = checkpoint.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, state=np.array(state), **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(checkpoint)

    def _restore(self, checkpoint: Path) -> None:
        with np.load(checkpoint, allow_pickle=False) as content:
            parts: dict[str, dict[str, Array]] = {"best": {}, "model": {}, "optimizer": {}}
            for key in set(content.files) - {"state"}:
                part, _, name = key.partition("/")
                parts[part][name] = content[key]
            state = json.loads(str(content["state"]))
        if {k: v.shape for k, v in parts["model"].items()} != {k: v.shape for k, v in self._weights().items()}:
            return
        self._take_up(parts["model"])
        for place, variable in enumerate(self.optimizer.variables):
            variable.assign(parts["optimizer"][str(place)])
        self.state = State(**{**state, "weights": parts["best"] or None})

    def _moments(self) -> dict[str, Array]:
        return {str(place): np.array(variable) for place, variable in enumerate(self.optimizer.variables)}


def _optimizer(training: Training) -> Any:
    kinds = keras().optimizers
    if training.optimizer == "sgd":
        return kinds.SGD(training.rate, training.momentum, nesterov=training.momentum > 0)
    return kinds.Adam(training.rate, epsilon=1e-8)
