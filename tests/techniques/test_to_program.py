"""PyTorch modules as programs: graph and tensors, without code, and the same answers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import formats, prepare
from strop.data import Data
from strop.errors import TechniqueError
from strop.formats import torch_program
from strop.formats.torch import as_tensor, load, run
from strop.model import TORCH, TORCH_PROGRAM, Model
from strop.plan import routes
from strop.runtimes import Inductor, Onnxruntime
from strop.target import Target
from strop.technique import Context, Needs, apply
from strop.techniques import ToOnnx, ToProgram, to_program

torch = pytest.importorskip("torch")
nn = torch.nn
room = formats.format_of(TORCH)
RNG = np.random.default_rng(0)


class Net(nn.Module):
    """Inputs by keyword and under odd names; one weight at two places; one output of several is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(128, 128), nn.Linear(128, 128)
        self.b.weight = self.a.weight

    def forward(self, input, *, scale):  # type: ignore[no-untyped-def]
        hidden = self.a(input)
        hidden.relu_()
        return {"logits": self.b(hidden) * scale[:, None], "none": None, "same": input}


class Fours(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x + 1 if x.shape[0] % 4 == 0 else x - 1


class Branches(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x * 2 if x.sum() > 0 else x - 1


NET = {"input": RNG.normal(size=(24, 128)), "scale": RNG.random(24)}


def known(module: Any, arrays: dict[str, np.ndarray], folder: Path) -> Model:
    stored = room.store(room.open(module), folder / "original")
    return room.fit(stored, {name: array[:3] for name, array in arrays.items()})


def made(model: Model, arrays: dict[str, np.ndarray], folder: Path, technique: Any = ToProgram) -> Model:
    (folder / "made").mkdir(parents=True)
    return apply(technique(), model, Context(Data(arrays), model, Target(threads=1), 0, folder / "made"))


def test_the_program_answers_as_the_module_for_any_number_of_samples(tmp_path: Path) -> None:
    model = known(Net(), NET, tmp_path)
    program = made(model, NET, tmp_path)
    assert program.format == TORCH_PROGRAM and program.signature == model.signature
    graph = torch_program.graph_of(torch_program.load(program))
    for count in (1, 5, 24):
        batch = {name: as_tensor(array[:count]) for name, array in NET.items()}
        for expected, got in zip(run(load(model), batch).values(), graph(*batch.values()), strict=True):
            np.testing.assert_allclose(got.detach(), expected, rtol=1e-5, atol=1e-6)


def test_neither_samples_nor_lines_of_code_are_handed_over(tmp_path: Path) -> None:
    program = made(known(Net(), NET, tmp_path), NET, tmp_path)
    with zipfile.ZipFile(program.path) as archive:
        content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert content["data/sample_inputs/model.pt"] == b""
    assert not [name for name, text in content.items() if b"test_to_program" in text or b"hidden" in text]
    assert program.size < 1.5 * 128 * 128 * 4, "a weight at two places is stored once"


def test_its_file_is_a_pytorch_model_like_any_other(tmp_path: Path) -> None:
    model = known(Net(), NET, tmp_path)
    again = known(made(model, NET, tmp_path).path, NET, tmp_path / "again")
    assert again.format == TORCH and again.signature == model.signature


@pytest.mark.parametrize("technique", [ToProgram, ToOnnx])
def test_a_graph_that_is_tied_to_a_number_of_samples_is_refused(tmp_path: Path, technique: Any) -> None:
    arrays = {"x": RNG.normal(size=(24, 8))}
    with pytest.raises(TechniqueError, match="'output' is off by"):
        made(known(Fours(), arrays, tmp_path), arrays, tmp_path, technique)


def test_what_can_not_be_exported_is_named(tmp_path: Path) -> None:
    arrays = {"x": RNG.normal(size=(24, 8))}
    with pytest.raises(TechniqueError, match=r"test_to_program.py:\d+\): return x \* 2 if x.sum"):
        made(known(Branches(), arrays, tmp_path), arrays, tmp_path)


def test_a_program_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(program: Any, folder: Path, like: Model) -> Model:
        program.state_dict["module.b.bias"] = nn.Parameter(program.state_dict["module.b.bias"] + 0.01)
        return torch_program.save(program, folder, like)

    monkeypatch.setattr(to_program, "save", spoiled)
    with pytest.raises(TechniqueError, match=r"'logits' is off by 0\.0"):
        made(known(Net(), NET, tmp_path), NET, tmp_path)


def test_onnx_runtime_stays_the_reference_and_programs_are_a_route(tmp_path: Path) -> None:
    assert prepare.reference(TORCH) == ((ToOnnx(),), Onnxruntime())
    model = known(Net(), NET, tmp_path)
    found, _ = routes(model, Target(threads=1), Needs.SAMPLES)
    assert [route.steps for route in found if route.runtime is Inductor] == [(ToProgram,)]
    found, _ = routes(model, Target(threads=1, formats=("onnx",)), Needs.SAMPLES)
    assert Inductor not in {route.runtime for route in found}
