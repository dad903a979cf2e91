"""Calibration feeds as NNCF takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._quiet import openvino
from ..model import Batch, Model
from ..technique import Context
from ._calibration import Step, feeds


class Feeds:
    """Calibration feeds that can be gone through again and again, as NNCF does."""

    def __init__(self, model: Model, context: Context, samples: int):
        self.model, self.context, self.samples = model, context, samples

    def __iter__(self) -> Iterator[Batch]:
        return feeds(self.model.signature, self.context, self.samples, self._load)

    def _load(self) -> Step:
        request = openvino().Core().compile_model(str(self.model.path), "CPU").create_infer_request()
        names = [tensor.name for tensor in self.model.signature.outputs]

        def step(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
            request.infer(dict(batch))
            return {name: request.get_tensor(name).data.copy() for name in names}

        return step
