"""PyTorch: live modules, exported programs (.pt2), Hugging Face model folders."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import sys
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._archives import check_expansion
from .._lazy import lazy, require
from .._pickles import check_own, write
from .._plain import told
from .._quiet import silenced, without_semaphores
from ..errors import UnsupportedModel, UntrustedModel
from ..model import TORCH, Batch, Model, ModelFormat, Signature, Tensor
from ._hugging_face import is_folder, read_folder
from ._module import check_whole, plain, signature
from ._program import read_program
from .counting import cost

if TYPE_CHECKING:
    import cloudpickle
    import torch
else:
    torch = lazy("torch", "torch")
    cloudpickle = lazy("cloudpickle", "torch")

MODULE = "module.pkl"
"""What strop writes into its own run directory: module and weights, pickled by value. Never part of a bundle."""

PROGRAM = "module.pt2"

NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the weights among other things


class TorchFormat(ModelFormat):
    """Live `nn.Module`s and `ExportedProgram`s, `.pt2` files, and folders of `transformers` with safetensors."""

    name = TORCH

    def detects(self, source: object) -> bool:
        return _is_live(source) or _is_program(source) or is_folder(source)

    def open(self, source: Any) -> Model:
        """Read which inputs it takes; shapes are only known once data are there (`fit`).

        Raises:
            UnsupportedModel: It can't be read or exported, is no whole module, or takes no tensors by name.
            UntrustedModel: A `.pt2` that holds pickles.
        """
        files: tuple[Path, ...] = ()
        source = _unwrapped(source)
        if _is_program(source):
            source, files = Path(source), (Path(source),)
        elif is_folder(source):
            source = read_folder(Path(source))
        module = source if isinstance(source, torch.nn.Module) else _module(source)
        check_whole(module)
        inputs = tuple(Tensor(name, "float32", (), optional=optional) for name, optional in given_to(module).items())
        if not inputs:
            raise UnsupportedModel(
                f"A module's forward must take its inputs by name, and {type(module).__name__}.forward takes "
                f"{inspect.signature(module.forward)}. Wrap it in a module whose forward names them."
            )
        return Model(TORCH, source, Signature(inputs, ()), files)

    def fill(self, source: Any, weights: Path) -> Any:
        """Fill a module's parameters from safetensors, or from a state dict that holds tensors only."""
        return load_weights(_module(copy.deepcopy(_unwrapped(source))), weights)

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live module as module.pkl, a live program as module.pt2."""
        if model.files or isinstance(model.payload, torch.nn.Module):
            return model if model.files else _store_live(model, folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / PROGRAM
        with silenced():
            torch.export.save(model.payload, path)
        return replace(model, payload=path, files=(path,))

    def fit(self, model: Model, samples: Batch) -> Model:
        """Run a few samples to learn what goes in and out.

        Raises:
            UnsupportedModel: The module fails on them, or returns no tensors.
        """
        module, given = load(model), {name: as_tensor(array) for name, array in samples.items()}
        one = {name: tensor[:1] if tensor.ndim else tensor for name, tensor in given.items()}
        known = signature(given, run(module, given), run(module, given), run(module, one))
        return replace(model, signature=known, counts=asdict(cost(module, given)))


def load(model: Model) -> torch.nn.Module:
    """The module in evaluation mode, on the CPU, free for the caller to change.

    Raises:
        UntrustedModel: Somebody else may have written the file.
    """
    without_semaphores()
    torch.backends.mha.set_fastpath_enabled(False)  # it reads weights of layers that may have been replaced
    if not isinstance(model.payload, Path) or model.payload.suffix != ".pkl":
        return _module(copy.deepcopy(model.payload))
    check_own(model.payload)
    with silenced():
        module: torch.nn.Module = torch.load(model.payload, map_location="cpu", weights_only=False)
    if not any(parameter.requires_grad for parameter in module.parameters()):  # as it was frozen to be deployed
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return module.eval()


def save(module: torch.nn.Module, folder: Path, like: Model) -> Model:
    """Write a module into a run directory; its outputs are those of `like`."""
    with silenced():
        files = write(folder / MODULE, lambda file: torch.save(module, file, pickle_module=cloudpickle))
    return replace(like, payload=files[0], files=files)


def _store_live(model: Model, folder: Path) -> Model:
    try:
        return save(plain(model.payload), folder, model)
    except OSError:
        raise  # of the disk
    except Exception as error:  # of whatever a module holds besides tensors
        raise UnsupportedModel(
            f"A module must be something that other processes can be given, and {type(model.payload).__name__} can't "
            f"be pickled: {told(error)}. Give module:function, or take out of it what belongs to this process."
        ) from error


def load_weights(module: torch.nn.Module, path: Path) -> torch.nn.Module:
    """Fill a module's parameters from a file of safetensors, or from a state dict that holds tensors only.

    Raises:
        UnsupportedModel: The file can't be read, or doesn't fit the module.
        UntrustedModel: It holds other objects than tensors.
    """
    try:
        if zipfile.is_zipfile(path):
            check_expansion(path)
        if path.suffix == ".safetensors":
            state: Any = require("safetensors.torch").load_file(path)
        else:
            with silenced():
                state = torch.load(path, map_location="cpu", weights_only=True)
    except UnsupportedModel:
        raise
    except pickle.UnpicklingError as error:
        raise UntrustedModel(
            f"A file of weights must hold tensors only, and {path} holds objects that would run code when they are "
            "read. Save module.state_dict() instead."
        ) from error
    except Exception as error:  # of two libraries, on whatever the file holds
        raise UnsupportedModel(f"{path} can't be read as weights ({told(error)}). Write it again.") from error
    if isinstance(state, Mapping):
        state = next((state[name] for name in NESTED if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping):
        raise UnsupportedModel(
            f"A file of weights must hold a state dict, and {path} holds a {type(state).__name__}. "
            "Save module.state_dict() instead."
        )
    try:
        module.load_state_dict(_named_as(state, module.state_dict().keys()))
    except (RuntimeError, AttributeError) as error:
        raise UnsupportedModel(
            f"{path} does not fit the module: {told(error)}. Check that both are of one kind."
        ) from error
    return module


def _named_as(state: Mapping[str, Any], own: Collection[str]) -> Mapping[str, Any]:
    """A state dict without what `torch.compile`, `DataParallel` or a trainer put before all of its names."""
    found = state
    while found and not any(name in own for name in found):
        if len({name.partition(".")[0] for name in found}) > 1 or not all("." in name for name in found):
            return state
        found = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    return found


def run(module: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Call a module and name what it returns: `output`, `output_0`, ..., or the keys of a mapping.

    Raises:
        UnsupportedModel: It fails, or returns no tensors.
    """
    try:
        with torch.inference_mode():
            answer = module(**copies(batch))
    except Exception as error:  # whatever a user's own module raises is told as it is
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in batch.items())
        raise UnsupportedModel(
            f"The module must run on the data, and failed on {shapes} with {type(error).__name__}: "
            f"{told(error)}. Check names, shapes and dtypes of the arrays."
        ) from error
    return {name: tensor.detach() for name, tensor in named(answer).items()}


def copies(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inputs for a call after which the batch is needed again: a module may write into what it is given."""
    return {name: tensor.clone() for name, tensor in batch.items()}


def named(answer: object) -> dict[str, torch.Tensor]:
    """The tensors of what a module returned, by name; what is no tensor (caches, None) is left out.

    Raises:
        UnsupportedModel: There is none.
    """
    if isinstance(answer, torch.Tensor):
        return {"output": answer}
    if isinstance(answer, Mapping):
        found = {str(name): value for name, value in answer.items() if isinstance(value, torch.Tensor)}
    elif isinstance(answer, (tuple, list)):
        found = {f"output_{i}": value for i, value in enumerate(answer) if isinstance(value, torch.Tensor)}
    else:
        found = {}
    if not found:
        raise UnsupportedModel(
            f"A module must return a tensor, or a tuple or mapping of them, and this returned a "
            f"{type(answer).__name__}. Wrap it in a module that does."
        )
    return found


def as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """An array as a module takes it: floats in float32, integers in int64, bytes and booleans as they are."""
    kind = array.dtype.kind
    if kind == "f":
        array = array.astype(np.float32, copy=False)
    elif kind in "iu" and array.dtype != np.uint8:
        array = array.astype(np.int64, copy=False)
    return torch.from_numpy(np.array(array))


def _unwrapped(source: Any) -> Any:
    """The module within what `torch.compile` or `DataParallel` made of it."""
    inner = source.module if isinstance(source, torch.nn.DataParallel) else getattr(source, "_orig_mod", None)
    return _unwrapped(inner) if isinstance(inner, torch.nn.Module) else source


def _module(source: Any) -> torch.nn.Module:
    """A module in evaluation mode, of a live one, a live program, or a program's file."""
    if isinstance(source, torch.nn.Module):
        return source.eval()
    if isinstance(source, Path):
        source = read_program(source)
    return _by_name(source)


def _by_name(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """A program as a module that takes its inputs by name, in the mode it was exported in: programs have no other."""
    graph = program.module()
    signature = inspect.signature(graph.forward)
    count = len(program.call_spec.in_spec.children()[0].children())
    positional = list(signature.parameters)[:count]

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = graph

        def train(self, mode: bool = True) -> Self:
            return self

        def forward(self, **arrays: torch.Tensor) -> Any:
            first = [arrays.pop(name) for name in positional]
            return self.graph(*first, **arrays)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    Program.forward.__signature__ = signature.replace(parameters=[own, *signature.parameters.values()])  # type: ignore[attr-defined]
    return Program()


def given_to(module: torch.nn.Module) -> dict[str, bool]:
    """The names that a module's forward takes, and whether it can do without."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(module.forward).parameters.items()
    # transformers' modules take labels, to compute a loss that nothing here asks for
    known = {name: p.default is not p.empty for name, p in found if p.kind in kinds}
    return {name: optional for name, optional in known.items() if name != "labels" or not optional}


def _is_live(source: object) -> bool:
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(source, (loaded.nn.Module, loaded.export.ExportedProgram))


def _is_program(source: object) -> bool:
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix == ".pt2" and Path(source).is_file()
