"""Deploy: code that runs a model of a bundle from the bundle's folder, and shows that it answers as it did."""

from __future__ import annotations

import sys
from itertools import takewhile
from pathlib import Path

from .model import FLOATS, Model, Tensor
from .outputs import load_arrays
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

    def was(name: str) -> str:
        code = f"samples[{name!r}]"
        return f"{code}[:1, 0]" if stateful else _taken(code, stored[name][0], rows) if whole else f"{code}[0]"

    expected = ", ".join(f"{t.name!r}: {was(f'output.{t.name}')}" for t in model.signature.visible_outputs)
    inputs = "".join(f"    {name!r}: {value},\n" for name, value in given)
    code = runtime.code(model, target)
    imports = list(takewhile(lambda line: line.startswith(("import ", "from ")), code.load.splitlines()))
    load = "\n".join(code.load.splitlines()[len(imports) :]).strip()
    head = "\n".join(sorted([*imports, "import numpy as np"], key=lambda line: (not _is_standard(line), line)))
    return (
        f"{head}\n\nfile = {model.path.name!r}\n{load}\n\nsamples = np.load({samples.name!r})\n"
        f"inputs = {{\n{inputs}}}\n{code.call}\n\n{TAIL.format(expected=expected)}{_classes(model)}"
    )


def _is_standard(line: str) -> bool:
    """Whether it imports what comes with Python."""
    return line.split()[1].partition(".")[0] in sys.stdlib_module_names


def _classes(model: Model) -> str:
    """What the columns, or numbers, of outputs stand for."""
    told = ((tensor.name, list(tensor.classes)) for tensor in model.signature.visible_outputs if tensor.classes)
    return "".join(f"print({name!r}, 'stands for', {classes!r})\n" for name, classes in told)


def _first(tensor: Tensor, stored: tuple[tuple[int, ...], str], batch: int, stateful: bool) -> str:
    """The first samples that one call takes; of a sequence, its first step."""
    shape, dtype = stored
    code = f"samples[{f'input.{tensor.name}'!r}]"
    if stateful:
        code += "[:1, 0]" if len(shape) > len(tensor.shape) else "[:1]"
    elif not tensor.batched:
        code += "[0]"
    else:
        code = _taken(code, shape, _rows(tensor, batch))
    wider = dtype != tensor.dtype and {dtype, tensor.dtype} <= set(FLOATS)
    return f"{code}.astype({tensor.dtype!r})" if wider else code


def _taken(code: str, shape: tuple[int, ...], rows: int) -> str:
    """So many rows of an array; where it has fewer, over and over."""
    return f"{code}[:{rows}]" if rows <= shape[0] else f"np.resize({code}, {(rows, *shape[1:])})"


def _rows(tensor: Tensor, batch: int) -> int:
    return tensor.fixed_batch or batch
