"""TorchInductor, the compiler of PyTorch."""

from __future__ import annotations

import contextlib
import os
import shutil
import sysconfig
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._cache import own_folder
from .._lazy import lazy, require
from .._plain import told
from .._quiet import silenced, without_semaphores
from ..errors import NotApplicable, RunFailed, UnsupportedModel
from ..formats.torch import as_tensor
from ..formats.torch_program import graph_of, load
from ..model import TORCH_PROGRAM, Batch, Format, Model
from ..runtime import Code, Runtime
from ..settings import choice
from ..target import Target, computes

if TYPE_CHECKING:
    import torch
    import torch._inductor as inductor
else:
    torch = lazy("torch", "torch")
    inductor = lazy("torch._inductor", "torch")

CACHE = "TORCHINDUCTOR_CACHE_DIR"
_OWN = threading.Lock()


@dataclass(frozen=True)
class Inductor(Runtime):
    """TorchInductor on the CPU: C++ for what it can fuse, oneDNN for the rest, compiled where it runs.

    Each number of samples in a call is compiled for itself, at the first such call, which takes some ten seconds; what
    the C++ compiler made is kept for the next process.

    Attributes:
        precision: What convolutions and matrix products are computed in.
    """

    precision: str = choice("f32", "bf16")

    loads: ClassVar[frozenset[Format]] = frozenset({TORCH_PROGRAM})
    module: ClassVar[str] = "torch"
    extra: ClassVar[str | None] = "torch"

    @classmethod
    def expects(cls, target: Target) -> float:
        return 1.1  # with AVX2: 1.05 on a ResNet-18, 1.07 on a BERT; but 3.9 on what takes 0.15 ms, oneDNN being called

    def requires(self, target: Target) -> None:
        if _compiler() is None:
            raise NotApplicable("TorchInductor needs a C++ compiler, and there is neither g++ nor clang++")
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            raise NotApplicable("TorchInductor needs Python.h, which the package python3-dev brings")
        if self.precision == "bf16" and not computes("bf16"):
            raise NotApplicable("this CPU has no bf16 arithmetic")

    def code(self, model: Model, target: Target) -> Code:
        inputs = [tensor.name for tensor in model.signature.inputs]
        outputs = [tensor.name for tensor in model.signature.outputs]
        load = f"""\
import torch
import torch._inductor.config

torch.set_num_threads({target.threads})
torch._inductor.config.freezing = True
graph = torch.export.load(file).module()
graph.graph.set_codegen(torch.fx.graph.CodeGen())  # one tensor an input, and one an output
graph.recompile()
run = torch.compile(graph)  # by a C++ compiler, at the first call"""
        call = f"""\
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled={self.precision == "bf16"}):
    found = run(*(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in {inputs}))
outputs = {{name: value.float().numpy() for name, value in zip({outputs}, found)}}"""
        return Code(load, call, ("torch",), ("g++",))

    def start(self) -> None:
        without_semaphores()
        _compiled(torch.fx.symbolic_trace(torch.nn.Identity()), [torch.zeros(1)], self.precision, 1)

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            with _own_cache():
                program = load(model)
        except UnsupportedModel as error:
            raise RunFailed(f"TorchInductor can't load {model.path.name}: {error}") from error
        torch.set_num_threads(target.threads)
        return _Runner(program, model, self.precision, target.threads)


class _Runner:
    def __init__(self, program: torch.export.ExportedProgram, model: Model, precision: str, threads: int):
        self.program, self.signature, self.precision, self.threads = program, model.signature, precision, threads
        self.dtypes = [getattr(torch, tensor.dtype) for tensor in model.signature.outputs]
        self.known: dict[tuple[torch.Size, ...], Callable[..., Sequence[torch.Tensor]]] = {}

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            outputs = self._call(batch)()
        except Exception as error:  # of compiled code, and of a compiler, on whatever the graph holds
            raise RunFailed(f"TorchInductor can't run the model: {told(error)}") from error
        return {t.name: value.numpy() for t, value in zip(self.signature.outputs, outputs, strict=True)}

    def bind(self, batch: Batch) -> Callable[[], object]:
        try:
            return self._call(batch)
        except Exception as error:
            raise RunFailed(f"TorchInductor can't compile the model: {told(error)}") from error

    def close(self) -> None:
        self.known.clear()
        del self.program

    def _call(self, batch: Batch) -> Callable[[], list[torch.Tensor]]:
        tensors = [as_tensor(batch[t.name].astype(t.dtype, copy=False)) for t in self.signature.inputs]
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self.known:
            self.known[shapes] = _compiled(graph_of(self.program), tensors, self.precision, self.threads)
        run, dtypes = self.known[shapes], self.dtypes

        def call() -> list[torch.Tensor]:
            with torch.inference_mode():
                return [value.to(dtype) for value, dtype in zip(run(*tensors), dtypes, strict=True)]

        return call


def _compiled(
    graph: torch.fx.GraphModule, tensors: list[torch.Tensor], precision: str, threads: int
) -> Callable[..., Sequence[torch.Tensor]]:
    """Compile a graph for inputs of exactly these shapes.

    Not by `torch.compile`, which may compile anew at any call: then code would come from wherever its cache lies.
    """
    options = {
        "freezing": True,  # weights are constants: packed once, batch norms folded into them
        "compile_threads": 1,  # else a pool of processes stays behind
        "cpp.cxx": _compiler(),
        "cpp.threads": threads,
        "cpp_cache_precompile_headers": shutil.which("openssl") is not None,  # which it hashes them with
    }
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
    with silenced(), _own_cache(), torch.inference_mode(), half, inductor.config.patch(options):
        compiled: Callable[..., Sequence[torch.Tensor]] = inductor.compile(graph, list(tensors))
        return compiled


def _compiler() -> str | None:
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


@contextlib.contextmanager
def _own_cache() -> Iterator[None]:
    """Let TorchInductor keep what it compiles in a folder of the user's own, and run nothing from elsewhere.

    Its default lies among temporary files, under a name that anybody can guess, and may have put libraries into.
    """
    with own_folder("inductor") as folder, _OWN, _set(os.environ, CACHE, str(folder)):
        codecache = vars(require("torch._inductor.codecache", "torch"))
        headers = f"{folder}/headers"  # which follow the default even where another folder is named
        with _set(codecache, "_HEADER_DIR", headers), _set(codecache, "_HEADER_LOCK_DIR", f"{headers}/locks"):
            yield


@contextlib.contextmanager
def _set(names: MutableMapping[str, Any], name: str, value: str) -> Iterator[None]:
    before = names.get(name)
    names[name] = value
    try:
        yield
    finally:
        del names[name]
        if before is not None:
            names[name] = before
