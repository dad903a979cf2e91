"""The one training loop: every technique that trains hands it a module, and the original teaches."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._lazy import lazy
from ..data import Data
from ..errors import TechniqueError
from ..formats.torch import copies, named
from ..learning import Training
from ..target import computes, usable_cores
from ..technique import Context, remaining
from .aims import STRETCH, check_taught
from .batches import Batches, TrainBatch, batches_of, data_of, settings_of
from .course import ASKING, FEWEST, LARGEST_NORM, RESERVE, Course, State, stays_zero
from .features import Features
from .losses import Objective
from .opening import asked
from .statistics import norms
from .teacher import Teacher

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


def retrain(
    module: torch.nn.Module, context: Context, *, stage: str = "", share: float = 1.0, sparse: bool = False
) -> torch.nn.Module:
    """Train a module as the user asks, taught by the original; weights with many zeros keep them.

    Goes on from its checkpoint after a kill. The same seed gives the same weights where the epochs end before the time
    does.

    Args:
        module: Changed in place.
        context: With train data and training settings.
        stage: A name for this training, where a technique trains more than once.
        share: Of the epochs, and of the time that is left.
        sparse: Whether every zero is meant to stay.

    Returns:
        The module in evaluation mode, its weights those that did best on what was held out, the first ones included.

    Raises:
        TechniqueError: The loss is no number any more, or can't be had from these outputs and labels.
        TimeoutError: There is no time to learn anything.
    """
    batches = train_batches(context)
    training = settings_of(context)
    left, asked = remaining(context) * share * (1 - RESERVE), (training.seconds or math.inf) * share
    torch.set_num_threads(len(usable_cores()))
    _lay_out(module, torch.channels_last)
    torch.manual_seed(context.seed)
    start = time.monotonic()
    teacher = _teacher(context, training, batches, min(left, asked))
    left -= time.monotonic() - start
    fewest = FEWEST if left < asked else 1
    course = _Course(module, teacher, batches, training, share, min(left, asked), fewest, sparse)
    checkpoint = context.kept / f"checkpoint{stage}.pt" if context.kept else None
    return course.finish(checkpoint, lambda done, words: context.progress(done, f"training{stage}, {words}"))


def train(module: torch.nn.Module, data: Data, training: Training, seed: int) -> Objective:
    """Train a module by its labels alone, as the settings say; nothing teaches, whatever these say of a teacher.

    The same seed gives the same weights on as many threads, which are the caller's to set, and no generator of the
    caller's is moved.

    Args:
        module: Changed in place, and left in evaluation mode; its weights are those that did best on what was held out.
        data: With labels.

    Returns:
        What was minimized, which tells what the outputs are.

    Raises:
        TechniqueError: The loss is no number any more, or can't be had from these outputs and labels.
    """
    training = replace(training, teach=0.0, features=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _lay_out(module, torch.channels_last)
        batches = batches_of(data, training, seed)
        course = _Course(module, None, batches, training, 1.0, training.seconds or math.inf)
        course.finish(None, lambda done, words: None)
    with torch.no_grad():
        first = next(iter(named(module(**batches.take(batches.rows[: batches.size]).inputs)).values()))
    if not torch.isfinite(first).all():
        raise TechniqueError(f"the first output is not finite in the end: {course.astray()}")
    return course.objective


def gradients(module: torch.nn.Module, context: Context, count: int) -> None:
    """Leave in every parameter a gradient that says what it matters, summed over some batches; none is trained.

    It is that of the loss by labels. Without labels it is that of random combinations of the outputs: the distance to
    the original has none at the original.

    Args:
        count: Batches.
    """
    batches = train_batches(context)
    course = _Course(module, None, batches, settings_of(context), 1, 0.0)
    module.eval()
    random = torch.Generator().manual_seed(context.seed)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for batch in itertools.islice(batches.epoch(0), count):
        outputs = named(module(**batch.inputs))
        course.objective.sensitivity(outputs, batch.labels, random).backward()  # type: ignore[no-untyped-call]


def one_step(module: torch.nn.Module, context: Context) -> None:
    """Take the first step as training would: what does not work is told by it."""
    batches, training = train_batches(context), settings_of(context)
    course = _Course(module, _teacher(context, training, batches, math.inf), batches, training, 1, 0.0)
    for batch in itertools.islice(batches.epoch(0), 1):
        course._step(batch, 0.0)


def train_batches(context: Context) -> Batches:
    """The train data in batches, as the settings say."""
    return batches_of(data_of(context), settings_of(context), context.seed)


def _teacher(context: Context, training: Training, batches: Batches, seconds: float) -> Teacher | None:
    if training.teach == 0 and training.features == 0 and batches.labels is not None and training.loss != "none":
        return None
    folder = context.shared / "teacher" if context.shared else None

    def progress(share: float) -> None:
        context.progress(0.0, f"asking the original, {share:.0%}")

    names = {tensor.name for tensor in context.original.signature.outputs if tensor.batched}
    return Teacher(asked(context.original), names, batches, folder, seconds * ASKING, progress)


class _Course(Course):
    """One training of one module."""

    def __init__(
        self,
        module: torch.nn.Module,
        teacher: Teacher | None,
        batches: Batches,
        training: Training,
        share: float,
        seconds: float,
        fewest: int = 1,
        sparse: bool = False,
    ):
        super().__init__(batches, training, share, seconds, fewest)
        self.module, self.teacher = module, teacher
        few = batches.take(batches.rows[: batches.size])
        half = computes("bf16") and _runs_in_half(module, few)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
        with torch.no_grad():
            answer = _floats(module.eval()(**copies(few.inputs)))
        taught = teacher(few) if teacher else {}
        check_taught(answer, taught)
        self.objective = Objective(training, {**answer, **taught}, few.labels, batches.binary)
        if self.objective.probabilities and self.objective.alone:  # or logits that happen to be small
            self.objective.probabilities = _stays_bounded(module, few)
        if batches.labels is not None:
            self.objective.check(next(iter(answer.values())).shape, batches.labels)
        self.features = Features(teacher.module, module) if teacher and training.features else None
        self.weights = [p for p in module.parameters() if p.requires_grad]
        if not self.weights:
            raise TechniqueError("a module that is trained must have weights that learn, and this one has none")
        self.decayed = [p for p in self.weights if p.ndim > 1]
        self.optimizer = _optimizer(training, self.weights)
        shares = [(p == 0).float().mean().item() for p in self.decayed]
        self.masks = [
            (p, p != 0) for p, zeros in zip(self.decayed, shares, strict=True)
            if stays_zero(zeros, sparse)
        ]  # fmt: skip

    def finish(self, checkpoint: Path | None, progress: Any) -> torch.nn.Module:
        """The module in evaluation mode, trained to the end."""
        with _memory(self.batches.size):
            self.run(checkpoint, progress)
        if self.features:
            self.features.close()
        _lay_out(self.module, torch.contiguous_format)
        return self.module.eval()

    def _step(self, batch: TrainBatch, done: float) -> None:
        self.module.train()
        if len(batch.rows) == 1:  # batch norm can't tell a spread from one sample
            for layer in norms(self.module):
                layer.eval()
        rate = self.rate(done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        if self.training.l2:
            loss = loss + self.training.l2 * torch.stack([p.square().sum() for p in self.decayed]).sum()
        if not torch.isfinite(loss):
            raise TechniqueError(f"the loss is {loss.item()} at step {self.state.step + 1}: {self.astray()}")
        if not loss.requires_grad:
            raise TechniqueError(
                "the loss must depend on weights that learn, and does on none. Look in forward for no_grad and detach, "
                "and whether the outputs are whole numbers"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.weights, LARGEST_NORM)
        if self.training.weight_decay:
            with torch.no_grad():
                for parameter in self.decayed:
                    parameter.mul_(1 - rate * self.training.weight_decay)
        self.optimizer.step()
        with torch.no_grad():
            for parameter, mask in self.masks:
                parameter.mul_(mask)

    def loss(self, batch: TrainBatch) -> torch.Tensor:
        taught = None
        if self.teacher is not None:
            taught = self.teacher.ask(batch) if self.features and self.module.training else self.teacher(batch)
        with self.autocast:
            outputs = self.module(**batch.inputs)
        outputs = _floats(outputs)
        loss = self.objective(outputs, batch.labels, taught)
        if self.features and self.module.training:
            loss = loss + self.training.features * self.features.distance()
        return loss

    def _judge(self, batch: TrainBatch) -> float:
        self.module.eval()
        with torch.no_grad():
            return self.loss(batch).item()

    def _weights(self) -> dict[str, Any]:
        return deepcopy(self.module.state_dict())

    def _take_up(self, weights: dict[str, Any]) -> None:
        self.module.load_state_dict(weights)

    def _save(self, checkpoint: Path) -> None:
        content = {
            "state": {**vars(self.state), "weights": self.state.weights or {}},
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        part = checkpoint.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(checkpoint)

    def _restore(self, checkpoint: Path) -> None:
        content = torch.load(checkpoint, weights_only=True)
        if _shapes(content["module"]) != _shapes(self.module.state_dict()):
            return  # pruned otherwise than before: sums taken in another order
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.state = State(**content["state"])
        torch.set_rng_state(content["random"])


def _floats(answer: Any) -> dict[str, torch.Tensor]:
    """What a module answers, by name, in float32 what is in less."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in named(answer).items()}


def _runs_in_half(module: torch.nn.Module, batch: TrainBatch) -> bool:
    """Whether a module takes bf16 where it multiplies; one that puts products into an array of float32 does not."""
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            module.eval()(**copies(batch.inputs))
    except Exception:  # of whatever the module does; what fails otherwise too is told by the next to run it
        return False
    return True


def _stays_bounded(module: torch.nn.Module, batch: TrainBatch) -> bool:
    """Whether a module's first output lies from 0 to 1 whatever its weights, as behind a sigmoid."""
    other = deepcopy(module).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-STRETCH)
        first = next(iter(named(other(**copies(batch.inputs))).values()))
    return bool(first.min() >= 0 and first.max() <= 1)


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.shape for name, value in state.items() if isinstance(value, torch.Tensor)}


@contextlib.contextmanager
def _memory(batch: int) -> Iterator[None]:
    """Tell that memory is short as Python does; PyTorch has no class of error for it."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise MemoryError(f"training takes more memory than there is. Lower batch (it is {batch})") from error


def _lay_out(module: torch.nn.Module, layout: torch.memory_format) -> None:
    """Set the order of axes in memory of convolutions of images: they train a fifth faster with channels last."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.to(memory_format=layout)  # type: ignore[call-overload]


def _optimizer(training: Training, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if training.optimizer == "sgd":
        moving = training.momentum > 0
        return torch.optim.SGD(weights, training.rate, training.momentum, nesterov=moving)
    return torch.optim.AdamW(weights, training.rate, weight_decay=0.0)
