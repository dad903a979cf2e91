"""ONNX Runtime used as an optimizer: a session that writes the graph it would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .._lazy import lazy
from ..model import Batch
from ._calibration import Step

ort = lazy("onnxruntime")

LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


def optimize(source: Path, result: Path, level: str, *, apart: bool) -> None:
    """Write the graph that ONNX Runtime makes of a model.

    Args:
        source: The model's main file.
        result: Where to write.
        level: `basic` keeps to ONNX's own operators, `extended` and `all` do not.
        apart: Whether weights go to a file of their own, `<name>.data` beside it.
    """
    options = _options()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    options.optimized_model_filepath = str(result)
    # Packing serves running only, and would double the memory.
    options.add_session_config_entry("session.disable_prepacking", "1")
    if apart:
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{result.name}.data"
        )
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "0")
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def runner(source: Path | bytes, threads: int = 0) -> Step:
    """A session that steps through samples, on so many threads; 0 for one a core."""
    options = _options()
    options.intra_op_num_threads = threads
    given = source if isinstance(source, bytes) else str(source)
    session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = {given.name for given in session.get_inputs()}

    def step(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        found = session.run(None, {name: value for name, value in batch.items() if name in wanted})
        return dict(zip(names, found, strict=True))

    return step


def _options() -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    return options
