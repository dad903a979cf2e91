"""Sizes: a model whose inputs have free ones is compiled for those that come, since OpenVINO is faster where it knows
them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._quiet import openvino
from ..model import Batch

SIZES = 4
"""Sizes of inputs that have a compiled model each; what comes after them shares one for any."""

Sizes = Mapping[str, tuple[int, ...]]
"""By input, its shape; empty where none is free."""


class Sized:
    """What was compiled of a model, for each size of its inputs.

    Args:
        file: Of the model.
        compiled: Compiles a graph.

    Raises:
        RuntimeError: OpenVINO can't read it, or compile it.
    """

    def __init__(self, file: str, compiled: Callable[[Any], Any]):
        self.file, self.compiled = file, compiled
        graph = openvino().Core().read_model(file)
        # what keeps a state between calls has it in what was compiled
        self.free = [] if graph.get_sinks() else [i.get_names() for i in graph.inputs if i.partial_shape.is_dynamic]
        self.found: dict[tuple[tuple[int, ...], ...] | None, Any] = {}
        if not self.free:
            self.found[None] = compiled(graph)

    def of(self, batch: Batch) -> Any:
        """What is compiled for the sizes of a batch.

        Raises:
            RuntimeError: It can't be.
        """
        sizes = {name: np.shape(batch[name]) for names in self.free for name in names if name in batch}
        key = tuple(sizes.values()) or None
        if key not in self.found and len(self.found) >= SIZES:
            key = None
        if key not in self.found:
            self.found[key] = self._sized(sizes if key else {})
        return self.found[key]

    def _sized(self, sizes: Sizes) -> Any:
        graph = openvino().Core().read_model(self.file)
        try:
            graph.reshape({name: list(shape) for name, shape in sizes.items()})
        except RuntimeError:  # what computes shapes does not allow for it, or it is no size that the model takes
            graph = openvino().Core().read_model(self.file)
        return self.compiled(graph)
