"""torch.export, for the techniques that carry a PyTorch module on: a graph for any number of samples, held to it."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._lazy import lazy
from .._quiet import silenced
from ..errors import TechniqueError
from ..formats.torch import as_tensor, load, named, run
from ..model import Model
from ..technique import Context
from ._parity import SAMPLES, Arrays, hold

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

Tensors = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class Exported:
    """A module as a graph.

    Attributes:
        program: Takes the inputs, and returns a mapping of the outputs, by the signature's names and in its order.
        module: What it was made of.
        samples: A few, each input an array of the dtype that the module takes.
        batched: The inputs of which axis 0 is samples.
    """

    program: torch.export.ExportedProgram
    module: torch.nn.Module
    samples: Tensors
    batched: frozenset[str]

    def check(self, answer: Callable[[Tensors], Arrays], fixed: int | None = None) -> None:
        """Hold what was made of the program to what the module answers, for several numbers of samples: a graph may
        be tied to the one that it was exported with.

        Args:
            fixed: The only number that it takes; None for any.

        Raises:
            TechniqueError: It answers otherwise.
        """
        hold(
            self.samples, self.batched, answer,
            lambda few: {name: tensor.numpy() for name, tensor in run(self.module, few).items()}, fixed,
        )  # fmt: skip


def export(model: Model, context: Context) -> Exported:
    """Export a module with a free batch axis.

    Raises:
        TechniqueError: It can't be, or there are no samples to run it on.
    """
    if context.calibration is None:
        raise TechniqueError("exporting needs a few samples, and there are none")
    batch = context.calibration.batch(0, min(SAMPLES, len(context.calibration)))
    samples = {tensor.name: as_tensor(batch[tensor.name]) for tensor in model.signature.inputs}
    batched = frozenset(tensor.name for tensor in model.signature.inputs if tensor.batched)
    free = tuple({0: torch.export.Dim.AUTO} if name in batched else {} for name in samples)
    module = load(model)
    with exporting():
        whole = _ordered(module, list(samples))
        program = torch.export.export(whole, tuple(samples.values()), dynamic_shapes=free)
    return Exported(program, module, samples, batched)


def _ordered(module: torch.nn.Module, names: Sequence[str]) -> torch.nn.Module:
    """The module with its inputs in the signature's order, and a mapping of the tensors that it returns."""

    class Ordered(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *arrays: torch.Tensor) -> dict[str, torch.Tensor]:
            return named(self.module(**dict(zip(names, arrays, strict=True))))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *names)]
    Ordered.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Ordered().eval()


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Export in here: nothing is said, and what goes wrong is told as the user's own line.

    Raises:
        TechniqueError: The module can't be exported.
    """
    try:
        with silenced(), contextlib.redirect_stderr(io.StringIO()), _still(), torch.no_grad():
            yield
    except Exception as error:  # of compilers, on whatever the module does
        raise TechniqueError(_why(error)) from error


def _why(error: BaseException) -> str:
    """Where the export stopped: the user's line, or the operator that ONNX has no word for."""
    text = "\n".join(str(e) for e in _causes(error))
    rule = "A module must be exportable, and this one is not"
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return (
            f"{rule}: ONNX has no {missing[1]}. Replace that operator, or export the model yourself and give the file."
        )
    frames = (frame for cause in _causes(error) for frame in traceback.extract_tb(cause.__traceback__))
    others = ("<", *(str(Path(str(module.__file__)).parent) for module in (torch, os)), str(Path(__file__).parents[1]))
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    where = f" in {own[-1].name} ({own[-1].filename}:{own[-1].lineno}): {own[-1].line}" if own else ""
    said = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return (
        f"{rule}{where} ({said[:200]}). Where control flow depends on values, use torch.where or torch.cond, or take "
        "it out of the module."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _still() -> Iterator[None]:
    """The exporter's progress goes through loggers of its own, set up at import."""
    loggers = [
        logging.getLogger(name) for name in ("torch", "torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
