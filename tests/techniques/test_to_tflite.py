"""PyTorch to TFLite by litert-torch: run where its environment is there, refused with the command where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="comes with the extra litert")
pytest.importorskip("torch", reason="comes with the extra torch")

import torch

from strop._tools import LITERT_TORCH
from strop.data import Data, match
from strop.errors import NotApplicable
from strop.model import TFLITE, Model
from strop.prepare import complete, open_model
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import ToTflite


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 4)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        means = self.body(pixels).mean((2, 3))
        return {"scores": self.head(means), "means": means}


class Scaled(Net):
    """The converter has no free size for what spreads over axes here."""

    def forward(self, pixels: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(pixels * scale[:, None, None, None])


def opened(folder: Path, module: torch.nn.Module) -> tuple[Model, Data]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(20, 3, 9, 7)).astype(np.float32)
    data = Data({"pixels": pixels, "scale": rng.normal(size=20).astype(np.float32)})
    model = complete(open_model(module.eval(), folder), data)
    data, signature = match(data, model.signature)
    return replace(model, signature=signature), data


@pytest.mark.skipif(not LITERT_TORCH.ready, reason=f"made by: {LITERT_TORCH.command}")
def test_names_batches_and_answers_are_the_modules(tmp_path: Path) -> None:
    model, data = opened(tmp_path / "model", Net())
    (tmp_path / "made").mkdir()
    made = apply(ToTflite(), model, Context(data, model, Target(threads=1), 0, tmp_path / "made"))
    assert made.format == TFLITE
    assert [str(t) for t in made.signature.inputs] == ["pixels: float32[?, 3, 9, 7]"]
    assert [t.name for t in made.signature.outputs] == ["scores", "means"]
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["model.tflite"]


@pytest.mark.skipif(not LITERT_TORCH.ready, reason=f"made by: {LITERT_TORCH.command}")
def test_what_has_no_free_size_is_made_for_calls_of_the_targets(tmp_path: Path) -> None:
    model, data = opened(tmp_path / "model", Scaled())
    (tmp_path / "made").mkdir()
    made = apply(ToTflite(), model, Context(data, model, Target(threads=1, batch=2), 0, tmp_path / "made"))
    assert [tensor.fixed_batch for tensor in made.signature.inputs] == [2, 2]


def test_without_its_environment_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(NotApplicable, match="strop doctor --install litert-torch"):
        ToTflite().requires(opened(tmp_path / "model", Net())[0], Target())
