"""A search that trains, from a plan file to a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import quickly
from engine import check_manifest
from shrinking import bars, torch, trained
from strop import optimize
from strop.errors import InvalidPlan
from strop.learning import Training
from strop.prepare import Budget, prepare
from strop.rundir import RunDir
from strop.target import Target

PLAN = """
model = "own_bars:make"
weights = "weights.pt"
data = "data.npz"
train = "train.npz"
limit = ["drop(accuracy) <= 0.2"]
minimize = "size"
threads = 1
trials = 4
budget = "5m"
formats = ["onnx"]
out = "bundle"
run = "run"

[training]
epochs = 3
batch = 32
augment = "own_bars:mirrored"
"""


@pytest.mark.long
def test_a_plan_with_train_data_is_searched_trained_and_handed_over(tmp_path: Path) -> None:
    """The classes of the user's own files are found by the jobs; what was trained is smaller, and no pickle ships."""
    whole, train = bars(400), bars(300, seed=1)
    torch.save(trained(bars(240, seed=2)).state_dict(), tmp_path / "weights.pt")
    np.savez(tmp_path / "data.npz", image=whole.inputs["image"], labels=whole.labels)
    np.savez(tmp_path / "train.npz", image=train.inputs["image"], labels=train.labels)
    source = Path(__file__).with_name("shrinking.py").read_text()
    net = source[source.index("class Net") : source.index("def bars")]
    (tmp_path / "own_bars.py").write_text(
        f"import torch\nfrom torch import nn\n\n{net}\ndef make():\n    return Net()\n\n"
        "def mirrored(batch, random):\n    return {'image': batch['image'][..., ::-1]}\n"
    )
    (tmp_path / "strop.toml").write_text(PLAN)
    done = subprocess.run(
        [sys.executable, "-m", "quickly", "optimize", "--json"], cwd=tmp_path, capture_output=True, text=True,
        timeout=400, env=quickly.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    check_manifest(manifest)
    assert "prune-channels" in done.stderr
    winner = manifest["winner"]
    assert any(step["technique"] in ("prune-channels", "factorize") for step in winner["route"]), done.stderr
    called = manifest["original"]["called"]
    assert called["runtime"] == "eager" and called["ratios"]["latency.p50"]["value"] > 0
    assert "as called (eager), the original's latency.p50 is" in done.stderr
    assert winner["counts"]["parameters"] < manifest["original"]["counts"]["parameters"]
    assert not list((tmp_path / "bundle").rglob("*.pkl"))
    held = "With 300 samples to train with, no more than 50% is pruned"
    assert held in " ".join(done.stderr.split()) and held in (tmp_path / "bundle" / "report.html").read_text()
    with pytest.raises(InvalidPlan, match="the recipe's route trains, and there are no train data"):
        optimize("m.onnx", tmp_path / "data.npz", recipe=tmp_path / "bundle", run=tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("train =", "# train ="), "training settings need train data"),
        (("own_bars:mirrored", "own_bars:gone"), "own_bars:gone failed"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_spent(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    torch.save(trained(bars(64), 1).state_dict(), tmp_path / "weights.pt")
    for name in ("data", "train"):
        np.savez(tmp_path / f"{name}.npz", image=bars(40).inputs["image"], labels=bars(40).labels)
    (tmp_path / "own_bars.py").write_text("from shrinking import Net\ndef make():\n    return Net()\n")
    (tmp_path / "shrinking.py").write_text(Path(__file__).with_name("shrinking.py").read_text())
    (tmp_path / "strop.toml").write_text(PLAN.replace(*change))
    done = subprocess.run(
        [sys.executable, "-m", "strop", "optimize"], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_student_may_be_a_program_and_what_is_amiss_with_train_data_is_said(tmp_path: Path) -> None:
    data, confirm = bars(120), bars(80, seed=3)
    program = torch.export.export(trained(bars(64), 1), (torch.from_numpy(data.inputs["image"][:4]),))
    torch.export.save(program, tmp_path / "student.pt2")
    run = RunDir(tmp_path / "run")
    pair = (dict(confirm.inputs), confirm.labels)
    try:
        request = prepare(
            run, trained(bars(64), 1), (dict(data.inputs), data.labels), None, metrics=(), label=None, slices=(),
            group=None, calibration=None, confirm=pair, target=Target(threads=1), budget=Budget(), seed=0, recipe=None,
            out=None, train=dict(confirm.inputs), training=Training(student=tmp_path / "student.pt2"),
        )  # fmt: skip
    finally:
        run.close()
    assert any("80 samples of the train data" in note for note in request.notes)
    assert any("The train data have no labels, and the data to judge by have" in note for note in request.notes)
    assert request.student is not None and (run / request.student["path"]).is_file()
    assert not request.student["path"].startswith("..")
