"""What the converters of TensorFlow models share: samples, the operators that they lack, and the check."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from .._quiet import hushed, silenced
from ..errors import TechniqueError
from ..formats.tensorflow import Function
from ..model import Model
from ..runtime import calls
from ..technique import Context
from ._parity import SAMPLES, Arrays, hold

SHOWN = 5  # operators that a message names


@contextlib.contextmanager
def converting() -> Iterator[None]:
    """Without a word of the converter's, which logs in Python and in C++; its errors are told as strop's own."""
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with silenced(), hushed():
        yield


def check(function: Function, made: Model, context: Context, answer: Callable[[Arrays], Arrays]) -> None:
    """Hold what was made of a function to what that answers.

    Args:
        function: The original.
        made: What was made of it.
        context: Holds the samples.
        answer: Runs what was made.

    Raises:
        TechniqueError: It answers otherwise, its inputs or outputs are others, or there are no samples.
    """
    before, after = function.signature.names(), made.signature.names()
    if before != after:
        raise TechniqueError(f"the converter changed inputs and outputs from {before} to {after}")
    if context.calibration is None or not len(context.calibration):
        raise TechniqueError("converting needs a few samples to be checked on, and there are none")
    tensors = made.signature.inputs
    _, fed = next(calls(made.signature, context.calibration, SAMPLES))
    batch = next(fed)
    samples = {tensor.name: np.asarray(batch[tensor.name], tensor.dtype) for tensor in tensors}
    fixed = next((tensor.fixed_batch for tensor in tensors if tensor.fixed_batch), None)
    with silenced():
        hold(samples, {tensor.name for tensor in tensors if tensor.batched}, answer, function, fixed)


def named(graph: Any, kinds: Collection[str]) -> dict[str, list[str]]:
    """Of some kinds of operators: their names, which begin with those of their layers.

    Args:
        graph: A GraphDef, whose functions are looked through too.
        kinds: Of operators, in TensorFlow's spelling.
    """
    found: dict[str, list[str]] = {}
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        if node.op in kinds:
            found.setdefault(node.op, []).append(node.name)
    return found


def listed(found: Mapping[str, list[str]]) -> str:
    """Kinds of operators, each with the names of its own."""
    return "; ".join(f"{kind} ({_some(names)})" for kind, names in sorted(found.items()))


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
