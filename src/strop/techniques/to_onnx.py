"""PyTorch to ONNX."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from .._quiet import silenced
from ..errors import TechniqueError
from ..formats.onnx import save
from ..formats.torch import as_tensor, load, named
from ..model import ONNX, TORCH, Batch, Format, Model
from ..technique import Context, Needs, Phase, Technique

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    import torch
else:
    onnx = lazy("onnx")
    onnxruntime = lazy("onnxruntime")
    torch = lazy("torch", "torch")

SAMPLES = 16  # on which the graph must answer as the module does
CLOSE = 1e-3  # of the largest output: sums taken in another order come to less


@dataclass(frozen=True)
class ToOnnx(Technique):
    """Export to ONNX, and hold the graph to what the module answers."""

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    returns: ClassVar[Format | None] = ONNX
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        if context.calibration is None:
            raise TechniqueError("exporting needs a few samples, and there are none")
        batch = context.calibration.batch(0, min(SAMPLES, len(context.calibration)))
        names = [tensor.name for tensor in model.signature.inputs]
        given = [as_tensor(batch[name]) for name in names]
        module = _positional(load(model), names)
        with torch.inference_mode():
            expected = dict(zip(_outputs(model), module(*given), strict=True))
        made = save(_export(module, given, model), context.folder, model)
        _check(made, batch, {name: tensor.numpy() for name, tensor in expected.items()})
        return made


def _positional(module: torch.nn.Module, names: Sequence[str]) -> torch.nn.Module:
    """The module with its inputs in the signature's order, and a tuple of the tensors that it returns."""

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(named(self.module(**dict(zip(names, arrays, strict=True)))).values())

    return Positional().eval()


def _export(module: torch.nn.Module, given: Sequence[torch.Tensor], model: Model) -> onnx.ModelProto:
    free = tuple({0: torch.export.Dim.AUTO} if t.batched else {} for t in model.signature.inputs)
    try:
        with silenced(), _still(), torch.no_grad():
            program = torch.export.export(module, tuple(given), dynamic_shapes=(free,))
            exported = torch.onnx.export(
                program, dynamo=True, verbose=False, optimize=True,
                input_names=[t.name for t in model.signature.inputs], output_names=_outputs(model),
            )  # fmt: skip
    except Exception as error:  # of two compilers, on whatever the module does
        raise TechniqueError(_why(error)) from error
    if exported is None:
        raise TechniqueError("the exporter returned nothing")
    return exported.model_proto


def _outputs(model: Model) -> list[str]:
    return [tensor.name for tensor in model.signature.outputs]


def _why(error: BaseException) -> str:
    """Where the export stopped: the user's line, or the operator that ONNX has no word for."""
    text = "\n".join(str(e) for e in _causes(error))
    rule = "A module must be exportable (torch.export, then ONNX), and this one is not"
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return (
            f"{rule}: ONNX has no {missing[1]}. Replace that operator, or export the model yourself and give the file."
        )
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\w+)\n\s+(.+)', text)
    own = [frame for frame in frames if "/site-packages/" not in frame[0] and "/torch/" not in frame[0]]
    where = f" in {own[-1][2]} ({own[-1][0]}:{own[-1][1]}): {own[-1][3].strip()}" if own else ""
    said = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return (
        f"{rule}{where} ({said[:200]}). Where control flow depends on values, use torch.where or torch.cond, or take "
        "it out of the module."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _check(made: Model, batch: Batch, expected: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Hold the graph to what the module answers.

    Raises:
        TechniqueError: It answers otherwise.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.path, options, providers=["CPUExecutionProvider"])
    answers = session.run(list(expected), {t.name: batch[t.name].astype(t.dtype) for t in made.signature.inputs})
    for (name, wanted), answer in zip(expected.items(), answers, strict=True):
        if answer.shape != wanted.shape:
            raise TechniqueError(
                f"the exported graph answers {list(answer.shape)} for {name!r} where the module answers "
                f"{list(wanted.shape)}: it is tied to the sizes it was exported with"
            )
        off = float(np.abs(answer.astype(np.float64) - wanted).max(initial=0)) if wanted.size else 0.0
        if not off <= CLOSE * max(float(np.abs(wanted).max(initial=0)), 1e-6):
            raise TechniqueError(f"the exported graph answers otherwise than the module: {name!r} is off by {off:.3g}")


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
