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
from strop.errors import NotApplicable, TechniqueError
from strop.model import TFLITE, Model
from strop.prepare import complete, open_model
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import ToTflite


class Net(torch.nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.tied = tied
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 4)

    def forward(self, pixels: torch.Tensor, shift: torch.Tensor) -> dict[str, torch.Tensor]:
        scale = shift[:, 0, None, None, None] if self.tied else 2.0
        means = self.body(pixels * scale).mean((2, 3)) + shift
        return {"scores": self.head(means), "means": means}


def opened(folder: Path, tied: bool = False) -> tuple[Model, Data]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(20, 3, 9, 7)).astype(np.float32)
    data = Data({"pixels": pixels, "shift": rng.normal(size=(20, 8)).astype(np.float32)})
    model = complete(open_model(Net(tied).eval(), folder), data)
    data, signature = match(data, model.signature)
    return replace(model, signature=signature), data


@pytest.mark.skipif(not LITERT_TORCH.ready, reason=f"made by: {LITERT_TORCH.command}")
def test_names_batches_and_answers_are_the_modules(tmp_path: Path) -> None:
    model, data = opened(tmp_path / "model")
    (tmp_path / "made").mkdir()
    made = apply(ToTflite(), model, Context(data, model, Target(threads=1), 0, tmp_path / "made"))
    assert made.format == TFLITE
    assert [str(t) for t in made.signature.inputs] == ["pixels: float32[?, 3, 9, 7]", "shift: float32[?, 8]"]
    assert [t.name for t in made.signature.outputs] == ["scores", "means"]
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["model.tflite"]


@pytest.mark.skipif(not LITERT_TORCH.ready, reason=f"made by: {LITERT_TORCH.command}")
def test_a_file_that_fits_one_number_of_samples_only_is_refused(tmp_path: Path) -> None:
    model, data = opened(tmp_path / "model", tied=True)
    (tmp_path / "made").mkdir()
    with pytest.raises(TechniqueError, match=r"tied to the sizes that it was made with|answers otherwise"):
        apply(ToTflite(), model, Context(data, model, Target(threads=1), 0, tmp_path / "made"))


def test_without_its_environment_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(NotApplicable, match="strop doctor --install litert-torch"):
        ToTflite().requires(opened(tmp_path / "model")[0], Target())
