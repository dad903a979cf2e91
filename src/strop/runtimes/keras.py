"""Keras and TensorFlow as they are: the model, called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .._plain import told
from .._quiet import silenced, tensorflow
from ..errors import RunFailed, StropError
from ..formats.keras import function_of
from ..formats.tensorflow import Function, set_threads
from ..model import KERAS, SAVED_MODEL, Batch, Format, Model
from ..runtime import Array, Runtime
from ..target import Target


@dataclass(frozen=True)
class Keras(Runtime):
    """`model.predict_on_batch`, which Keras compiles as it does for `predict`; of a SavedModel, its signature."""

    loads: ClassVar[frozenset[Format]] = frozenset({KERAS, SAVED_MODEL})
    as_given: ClassVar[bool] = True
    module: ClassVar[str] = "tensorflow"
    extra: ClassVar[str | None] = "tensorflow"

    def start(self) -> None:
        tensorflow()

    def load(self, model: Model, target: Target) -> _Runner:
        set_threads(target.threads)
        try:
            return _Runner(function_of(model))
        except StropError as error:
            raise RunFailed(str(error)) from error


class _Runner:
    def __init__(self, function: Function):
        self.function = function

    def __call__(self, batch: Batch) -> dict[str, Array]:
        names = [tensor.name for tensor in self.function.signature.outputs]
        return dict(zip(names, self._run(self.function.given(batch)), strict=True))

    def bind(self, batch: Batch) -> Callable[[], object]:
        arrays = self.function.given(batch)
        return lambda: self.function.called(arrays)

    def close(self) -> None:
        del self.function

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            with silenced():
                return self.function.called(arrays)
        except Exception as error:  # whatever a library makes of shapes and values
            shapes = ", ".join(str(list(array.shape)) for array in arrays)
            raise RunFailed(f"TensorFlow can't run the model on {shapes}: {told(error)}") from error
