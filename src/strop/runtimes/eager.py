"""PyTorch as it is: the module, called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import RunFailed, UnsupportedModel
from ..formats.torch import as_tensor, load, run
from ..model import TORCH, Batch, Format, Model
from ..runtime import SECONDS, Profiled, Runtime
from ..target import Target
from ._eager_layers import profiled

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")


@dataclass(frozen=True)
class Eager(Runtime):
    """The module itself, in evaluation mode, without gradients."""

    loads: ClassVar[frozenset[Format]] = frozenset({TORCH})
    as_given: ClassVar[bool] = True
    module: ClassVar[str] = "torch"
    extra: ClassVar[str | None] = "torch"

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            module = load(model)
        except Exception as error:  # whatever a file that is cut off, or a class that is gone, makes of itself
            raise RunFailed(f"PyTorch can't load {model.path.name}: {error}") from error
        torch.set_num_threads(target.threads)
        torch.backends.mha.set_fastpath_enabled(True)  # which is how users call it
        return _Runner(module, model)

    def profiled(self, model: Model, target: Target, batches: Sequence[Batch], seconds: float = SECONDS) -> Profiled:
        plain, watched = self.load(model, target), self.load(model, target)
        bound = ([runner.bind(batch) for batch in batches] for runner in (plain, watched))
        return profiled(next(bound), watched.module, next(bound), target.threads, seconds)


class _Runner:
    def __init__(self, module: torch.nn.Module, model: Model):
        self.module, self.names = module, [tensor.name for tensor in model.signature.inputs]

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            outputs = run(self.module, self._tensors(batch))
        except UnsupportedModel as error:
            raise RunFailed(str(error)) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def bind(self, batch: Batch) -> Callable[[], object]:
        module, tensors = self.module, self._tensors(batch)

        def call() -> object:
            with torch.inference_mode():
                return module(**tensors)

        return call

    def close(self) -> None:
        del self.module

    def _tensors(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {name: as_tensor(batch[name]) for name in self.names}
