"""Deploy: code that runs a model of a bundle from the bundle's folder, and shows that it answers as it did."""

from __future__ import annotations

from pathlib import Path

from .bench import load_arrays
from .model import FLOATS, Model, Tensor
from .runtime import Runtime
from .target import Target

TAIL = """\
for name, was in {{{expected}}}.items():
    same = np.array_equal(outputs[name], was) or np.allclose(outputs[name], was, 1e-3, 1e-3, equal_nan=True)
    print(name, np.shape(outputs[name]), "as it was:", same)
"""


def snippet(model: Model, runtime: Runtime, target: Target, samples: Path) -> str:
    """Python for one call on the first samples of a bundle.

    Args:
        model: As it lies in the bundle.
        runtime: What it was measured on.
        target: Whose threads and batch to use.
        samples: The bundle's own.
    """
    stored = {name: (array.shape, str(array.dtype)) for name, array in load_arrays(samples).items()}
    stateful = bool(model.signature.states)
    given = []
    for tensor in model.signature.inputs:
        if tensor.feedback:
            shape = [size if isinstance(size, int) else 1 for size in tensor.shape]
            given.append((tensor.name, f"np.zeros({shape}, {tensor.dtype!r})"))
        elif f"constant.{tensor.name}" in stored:
            given.append((tensor.name, f"samples[{f'constant.{tensor.name}'!r}]"))
        elif f"input.{tensor.name}" in stored:
            given.append((tensor.name, _first(tensor, stored[f"input.{tensor.name}"], target.batch, stateful)))
    rows = next((_rows(tensor, target.batch) for tensor in model.signature.inputs if tensor.batched), 1)
    whole = all(tensor.batched for tensor in model.signature.inputs if f"input.{tensor.name}" in stored)
    taken = "[:1, 0]" if stateful else f"[:{rows}]" if whole else "[0]"
    expected = ", ".join(
        f"{tensor.name!r}: samples[{f'output.{tensor.name}'!r}]{taken}" for tensor in model.signature.visible_outputs
    )
    inputs = "".join(f"    {name!r}: {value},\n" for name, value in given)
    return (
        f'import numpy as np\n\nsamples = np.load("{samples.name}")\ninputs = {{\n{inputs}}}\n\n'
        f"{runtime.snippet(model, target).strip()}\n\n{TAIL.format(expected=expected)}"
    )


def _first(tensor: Tensor, stored: tuple[tuple[int, ...], str], batch: int, stateful: bool) -> str:
    """The first samples that one call takes; of a sequence, its first step."""
    shape, dtype = stored
    code = f"samples[{f'input.{tensor.name}'!r}]"
    if stateful:
        code += "[:1, 0]" if len(shape) > len(tensor.shape) else "[:1]"
    elif not tensor.batched:
        code += "[0]"
    elif (rows := _rows(tensor, batch)) > shape[0]:
        code = f"np.resize({code}, {(rows, *shape[1:])})"
    else:
        code += f"[:{rows}]"
    wider = dtype != tensor.dtype and {dtype, tensor.dtype} <= set(FLOATS)
    return f"{code}.astype({tensor.dtype!r})" if wider else code


def _rows(tensor: Tensor, batch: int) -> int:
    return tensor.fixed_batch or batch
