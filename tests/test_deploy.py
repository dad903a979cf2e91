"""Deploy: what a report says of how to run a bundle runs, for models of every shape; each runtime's is its kit's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import models
from engine import bundle_of
from strop import formats
from strop.bundle import keep_samples
from strop.data import Data
from strop.deploy import snippet
from strop.opened import SAMPLES
from strop.runtime import predict
from strop.runtimes import Onnxruntime, Sklearn
from strop.target import Target


@pytest.mark.parametrize(
    ("kind", "batch"), [("external", 2), ("external", 20), ("lstm", 1), ("several_inputs", 1), ("no_batch", 1)]
)
def test_models_of_every_shape_answer_as_they_did(kind: str, batch: int, tmp_path: Path) -> None:
    given, target = models.case(kind, tmp_path / "given"), Target(threads=1, batch=batch)
    folder = tmp_path / "bundle"
    folder.mkdir()
    runner = Onnxruntime().load(given.model, target)
    few = given.data.take(range(8))
    keep_samples(folder / SAMPLES, few, predict(runner, given.model.signature, few, target.batch))
    runner.close()
    ran = _ran(snippet(given.model.copy_to(folder), Onnxruntime(), target, folder / SAMPLES), folder)
    assert ran and all(line.endswith("True") for line in ran), ran


def test_what_only_strop_runs_is_run_by_strop(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(x, y), tmp_path / "model.skops")
    model, few = formats.open(tmp_path / "model.skops"), Data({"x": x[:8]})
    runner = Sklearn().load(model, Target(threads=1))
    bundle = bundle_of(tmp_path / "bundle", model, few.inputs, predict(runner, model.signature, few, 1))
    code = snippet(bundle.model, bundle.runtime, bundle.target, bundle.folder / SAMPLES)
    assert "strop.Bundle.load" in code
    ran = _ran(code, bundle.folder)
    assert ran and all(line.endswith("True") for line in ran), ran


def _ran(code: str, folder: Path) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()
