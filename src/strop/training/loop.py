"""The one training loop: every technique that trains hands it a module, and the original teaches."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._calls import function
from .._lazy import lazy
from ..data import Data
from ..errors import InvalidPlan, TechniqueError
from ..formats.torch import copies, load, named
from ..learning import Training
from ..target import BF16, instruction_sets, usable_cores
from ..technique import Context, remaining
from .batches import Batches, TrainBatch
from .features import Features
from .losses import Objective
from .statistics import norms
from .teacher import Teacher

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

WARMING = 0.05  # share of training in which the rate rises
PACE = 3  # steps after which the time of one is known
FEWEST = 20  # steps that the time left must do for, else nothing is learned
CHECKPOINT = 30.0  # seconds between two
LOOK = 20  # steps between two looks at what is held out, at the least
LOOKING = 0.03  # share of the time that one look may take
LARGEST_NORM = 5.0  # of gradients: one bad batch does not undo what was learned
SPARSE = 0.3  # share of exact zeros in a weight, from which on they are meant to stay; all of them are a beginning
ASKING = 0.4  # of the time left, that asking the original for all train data may take
STRETCH = 10.0  # of weights, by which logits leave the range from 0 to 1
RESERVE = 0.1  # share of the time left that is for what comes after training


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
    training = _settings(context)
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
        batches = _batches(data, training, seed)
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
    course = _Course(module, None, batches, _settings(context), 1, 0.0)
    module.eval()
    random = torch.Generator().manual_seed(context.seed)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for batch in itertools.islice(batches.epoch(0), count):
        outputs = named(module(**batch.inputs))
        course.objective.sensitivity(outputs, batch.labels, random).backward()  # type: ignore[no-untyped-call]


def one_step(module: torch.nn.Module, context: Context) -> None:
    """Take the first step as training would: what does not work is told by it."""
    batches, training = train_batches(context), _settings(context)
    course = _Course(module, _teacher(context, training, batches, math.inf), batches, training, 1, 0.0)
    for batch in itertools.islice(batches.epoch(0), 1):
        course._step(batch, 0.0)


def train_batches(context: Context) -> Batches:
    """The train data in batches, as the settings say."""
    return _batches(_data(context), _settings(context), context.seed)


def _batches(data: Data, training: Training, seed: int) -> Batches:
    augment = training.augment
    if isinstance(augment, str):
        augment = function(augment, "a function f(batch, generator)", InvalidPlan)
    return Batches(data, training.batch, training.holdout, seed, augment, training.loss != "none")


def _settings(context: Context) -> Training:
    return context.training or Training()


def _data(context: Context) -> Data:
    if context.train is None:
        raise TechniqueError("training needs train data, and none are given")
    return context.train


def _teacher(context: Context, training: Training, batches: Batches, seconds: float) -> Teacher | None:
    if training.teach == 0 and training.features == 0 and batches.labels is not None and training.loss != "none":
        return None
    folder = context.shared / "teacher" if context.shared else None

    def progress(share: float) -> None:
        context.progress(0.0, f"asking the original, {share:.0%}")

    names = {tensor.name for tensor in context.original.signature.outputs if tensor.batched}
    return Teacher(load(context.original), names, batches, folder, seconds * ASKING, progress)


@dataclass
class _State:
    """Where a course stands; all of it goes into the checkpoint."""

    step: int = 0
    done: float = 0.0
    best: float = math.inf
    waited: int = 0
    weights: dict[str, torch.Tensor] | None = None


class _Course:
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
        self.module, self.teacher, self.batches = module, teacher, batches
        self.training, self.seconds, self.fewest = training, seconds, fewest
        self.total = max(1, round(share * training.steps(batches.steps)))
        self.look = max(batches.steps, LOOK)
        few = batches.take(batches.rows[: batches.size])
        half = bool(instruction_sets() & set(BF16)) and _runs_in_half(module, few)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
        with torch.no_grad():
            answer = _floats(module.eval()(**copies(few.inputs)))
        taught = teacher(few) if teacher else {}
        _check_taught(answer, taught)
        self.objective = Objective(training, {**answer, **taught}, few.labels, batches.binary)
        if self.objective.probabilities and self.objective.alone:  # or logits that happen to be small
            self.objective.probabilities = _stays_bounded(module, few)
        if batches.labels is not None:
            self.objective.check(next(iter(answer.values())), batches.labels)
        self.features = Features(teacher.module, module) if teacher and training.features else None
        self.weights = [p for p in module.parameters() if p.requires_grad]
        if not self.weights:
            raise TechniqueError("a module that is trained must have weights that learn, and this one has none")
        self.decayed = [p for p in self.weights if p.ndim > 1]
        self.optimizer = _optimizer(training, self.weights)
        shares = [(p == 0).float().mean().item() for p in self.decayed]
        self.masks = [
            (p, p != 0) for p, zeros in zip(self.decayed, shares, strict=True)
            if 0 < zeros < 1 and (sparse or zeros > SPARSE)
        ]  # fmt: skip
        self.state = _State()
        self.begun, self.start = 0.0, time.monotonic()  # share done, and when, as this process took it up
        self.looked: int | None = None  # batches of what is held out, that a look takes in

    def finish(self, checkpoint: Path | None, progress: Any) -> torch.nn.Module:
        """The module in evaluation mode, trained to the end."""
        with _memory(self.batches.size):
            self.run(checkpoint, progress)
        _lay_out(self.module, torch.contiguous_format)
        return self.module.eval()

    def run(self, checkpoint: Path | None, progress: Any) -> None:
        self._restore(checkpoint)
        self.begun, self.start, saved = self.state.done, time.monotonic(), time.monotonic()
        if self.state.step == 0:
            self._look_up()  # nothing is kept that is worse than what there was
        for batch in self._left():
            self._step(batch, self.state.done)
            self.state.step += 1
            self.state.done = self._share()
            self._check_pace()
            if (self.state.step % self.look == 0 or self.state.done >= 1) and self._look_up():
                break
            if checkpoint and time.monotonic() - saved > CHECKPOINT:
                self._save(checkpoint)
                saved = time.monotonic()
            progress(self.state.done, f"epoch {1 + self.state.step / self.batches.steps:.1f}")
        if self.state.weights:
            self.module.load_state_dict(self.state.weights)
        if self.features:
            self.features.close()

    def _left(self) -> Iterator[TrainBatch]:
        for epoch in itertools.count(self.state.step // self.batches.steps):
            for batch in self.batches.epoch(epoch, self.state.step % self.batches.steps):
                if self.state.done >= 1:
                    return
                yield batch

    def _share(self) -> float:
        """The share of the course that is behind, by steps or by the time of this process, whichever ends it first."""
        gone = (time.monotonic() - self.start) / max(self.seconds, 1e-9)
        return min(1.0, max(self.state.step / self.total, self.begun + (1 - self.begun) * gone))

    def _check_pace(self) -> None:
        steps, known = self.state.step / self.state.done, self.state.step >= PACE or self.state.done >= 1
        if known and steps < min(self.fewest, self.total):
            raise TimeoutError(
                f"the time left does for {steps:.0f} steps of training, and {self.fewest} are the least that is worth "
                "anything. Give a longer --budget"
            )

    def _step(self, batch: TrainBatch, done: float) -> None:
        self.module.train()
        if len(batch.rows) == 1:  # batch norm can't tell a spread from one sample
            for layer in norms(self.module):
                layer.eval()
        rate = self.training.rate * _schedule(self.training.schedule, done)
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

    def _look_up(self) -> bool:
        """Judge by what is held out and keep the best weights; true where nothing was gained for long."""
        if not len(self.batches.held_out):
            return False
        self.module.eval()
        total, samples, start = 0.0, 0, time.monotonic()
        for place, batch in enumerate(self._quietly()):
            total, samples = total + self.loss(batch).item() * len(batch.rows), samples + len(batch.rows)
            late = self.looked is None and time.monotonic() - start > LOOKING * self.seconds
            if late or place + 1 == self.looked:
                self.looked = place + 1  # so that all looks see the same
                break
        loss = total / samples
        if not math.isfinite(loss):
            raise TechniqueError(f"the loss of what is held out is {loss}: {self.astray()}")
        if loss < self.state.best:
            self.state = replace(self.state, best=loss, waited=0, weights=deepcopy(self.module.state_dict()))
            return False
        self.state.waited += 1
        return self.state.waited >= self.training.patience

    def astray(self) -> str:
        if self.state.step:
            return f"training has gone astray. Lower learning_rate (it is {self.training.rate:g})"
        return "it must be a number before anything is learned. Look at what is answered, the labels, loss and augment"

    def _quietly(self) -> Iterator[TrainBatch]:
        with torch.no_grad():
            yield from self.batches.apart()

    def _save(self, checkpoint: Path) -> None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
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

    def _restore(self, checkpoint: Path | None) -> None:
        """Go on from a checkpoint, where there is one of a module of these shapes."""
        if checkpoint is None or not checkpoint.exists():
            return
        content = torch.load(checkpoint, weights_only=True)
        if _shapes(content["module"]) != _shapes(self.module.state_dict()):
            return  # pruned otherwise than before: sums taken in another order
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.state = _State(**content["state"])
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


def _schedule(kind: str, done: float) -> float:
    """The share of the peak rate."""
    if done < WARMING:
        return max(done / WARMING, 0.02)
    after = (done - WARMING) / (1 - WARMING)
    if kind == "cosine":
        return max(0.5 * (1 + math.cos(math.pi * after)), 1e-3)
    return max(1 - after, 1e-3) if kind == "linear" else 1.0


def _check_taught(outputs: dict[str, torch.Tensor], taught: dict[str, torch.Tensor]) -> None:
    shapes = [{k: list(v.shape[1:]) for k, v in part.items() if k in taught} for part in (outputs, taught)]
    if shapes[0] != shapes[1]:
        raise TechniqueError(f"a student must answer as the original, {shapes[1]}, and this one answers {shapes[0]}")
