"""PyTorch programs: graph and tensors in one .pt2 file, and no code. What a PyTorch model is handed over as.

Nothing is opened as this format: a .pt2 file that a user gives is a PyTorch model like any other.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._lazy import lazy
from .._quiet import silenced
from ..model import TORCH_PROGRAM, Model
from ._program import read_program

if TYPE_CHECKING:
    import torch
    from torch.fx import graph as fx_graph
else:
    torch = lazy("torch", "torch")
    fx_graph = lazy("torch.fx.graph", "torch")

PROGRAM = "model.pt2"


def save(program: torch.export.ExportedProgram, folder: Path, like: Model) -> Model:
    """Write a program whose inputs and outputs are those of `like`, in that order.

    Neither the samples that it was exported with nor the lines of code that it came from are handed over.
    """
    program.example_inputs = None
    _forget_origin(program)
    part = folder / f".part-{PROGRAM}"
    with silenced(), part.open("wb") as file:
        torch.export.save(program, file)
        file.flush()
        os.fsync(file.fileno())
    path = part.replace(folder / PROGRAM)
    return replace(like, format=TORCH_PROGRAM, payload=path, files=(path,))


def load(model: Model) -> torch.export.ExportedProgram:
    """The program, free for the caller to change. What notes it holds would get into the code that compilers write.

    Raises:
        UntrustedModel: It holds more than a graph and tensors.
        UnsupportedModel: It can't be read.
    """
    program = read_program(model.path)
    _forget_origin(program)
    return program


def graph_of(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    """A new graph, which shares its weights with the program: takes one tensor an input, returns one an output."""
    graph = program.module()
    graph.graph.set_codegen(fx_graph.CodeGen())
    graph.recompile()
    return graph


def _forget_origin(program: torch.export.ExportedProgram) -> None:
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta = {name: node.meta[name] for name in ("val", "unbacked_bindings") if name in node.meta}
