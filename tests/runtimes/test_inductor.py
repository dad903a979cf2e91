"""Programs of PyTorch, compiled by TorchInductor: the same answers, and no code from elsewhere."""

from __future__ import annotations

import os
import re
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest

from strop import formats
from strop._quiet import silenced
from strop.data import Data
from strop.errors import NotApplicable, RunFailed, UntrustedModel
from strop.formats.torch import as_tensor, load, run
from strop.model import TORCH, Model
from strop.outputs import load_outputs
from strop.runtime import Runtime, predict
from strop.runtimes import Inductor, inductor
from strop.server import Hosted, Server
from strop.target import BF16, Target, instruction_sets
from strop.technique import Context, apply
from strop.techniques import ToProgram
from strop.testing import Example, RuntimeCase

torch = pytest.importorskip("torch")
try:
    Inductor().requires(Target(threads=1))
except NotApplicable as reason:
    pytest.skip(str(reason), allow_module_level=True)

IMAGES = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
ONE = Target(threads=1)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 4)

    def forward(self, image):  # type: ignore[no-untyped-def]
        return {"logits": self.head(torch.relu(self.norm(self.conv(image))).mean((2, 3)))}


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is compiled for one test serves the next, and none of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compiled")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def program(module: Any, arrays: dict[str, np.ndarray], folder: Path) -> tuple[Model, Model]:
    """A module on disk, and the program that is made of it."""
    room = formats.format_of(TORCH)
    stored = room.store(room.open(module), folder / "original")
    model = room.fit(stored, {name: array[:3] for name, array in arrays.items()})
    (folder / "program").mkdir(parents=True)
    return model, apply(ToProgram(), model, Context(Data(arrays), model, ONE, 0, folder / "program"))


class TestInductor(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Inductor

    def example(self, folder: Path) -> Example:
        return Example(program(Net(), {"image": IMAGES}, folder)[1], Data({"image": IMAGES}))

    def broken(self, folder: Path) -> Model:
        whole, cut = self.example(folder / "whole").model, folder / "cut.pt2"
        cut.write_bytes(whole.path.read_bytes()[: whole.size // 2])
        return replace(whole, payload=cut, files=(cut,))


def test_it_answers_as_the_module_for_any_number_of_samples(tmp_path: Path) -> None:
    model, made = program(Net(), {"image": IMAGES}, tmp_path)
    expected = run(load(model), {"image": as_tensor(IMAGES)})["logits"].numpy()
    runner = Inductor().load(made, ONE)
    found = predict(runner, made.signature, Data({"image": IMAGES.astype(np.float64)}), 4)  # the last call holds 1
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
    runner.close()


def test_bf16_is_close_and_is_not_float32(tmp_path: Path) -> None:
    model, made = program(Net(), {"image": IMAGES}, tmp_path)
    expected = run(load(model), {"image": as_tensor(IMAGES)})["logits"].numpy()
    runner = Inductor(precision="bf16").load(made, ONE)
    found = predict(runner, made.signature, Data({"image": IMAGES}), 1)["logits"]
    off = np.abs(found - expected).max() / np.abs(expected).max()
    assert found.dtype == np.float32 and 1e-4 < off < 0.05
    if not instruction_sets() & set(BF16):
        with pytest.raises(NotApplicable, match="no bf16 arithmetic"):
            Inductor(precision="bf16").requires(ONE)


def test_a_transformer_answers_as_its_module(tmp_path: Path) -> None:
    with silenced():
        transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    rng = np.random.default_rng(0)
    words = {"input_ids": rng.integers(0, 100, (8, 12), np.int32), "attention_mask": np.ones((8, 12), np.int64)}
    words["attention_mask"][:, 9:] = 0
    model, made = program(transformers.BertModel(config).eval(), words, tmp_path)
    runner = Inductor().load(made, ONE)
    found = runner(words)
    for name, tensor in run(load(model), {name: as_tensor(array) for name, array in words.items()}).items():
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-3, atol=1e-4)
    runner.close()


def test_a_process_of_its_own_is_silent_and_runs_nothing_from_a_common_folder(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "common").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "common"))
    monkeypatch.delenv(inductor.CACHE, raising=False)
    _, made = program(Net(), {"image": IMAGES}, tmp_path)
    Data({"image": IMAGES[:1]}).save(tmp_path / "data")
    with Server(Hosted(made, Inductor(), ONE)) as server:
        server.predict(tmp_path / "data", tmp_path / "out.npz")
    assert load_outputs(tmp_path / "out.npz")["logits"].shape == (1, 4)
    assert not list((tmp_path / "common").iterdir())
    assert capfd.readouterr() == ("", "")
    folders = [kept / "strop", *(kept / "strop").rglob("*/")]
    assert len(folders) > 3 and not any(folder.stat().st_mode & 0o077 for folder in folders[:3])


def test_no_worker_stays_behind(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    _, made = program(Net(), {"image": IMAGES}, tmp_path)
    Inductor().load(made, ONE)({"image": IMAGES[:1]})
    assert {child.pid for child in psutil.Process().children()} <= before
    assert inductor.CACHE not in os.environ or "strop" not in os.environ[inductor.CACHE]


def test_a_folder_that_others_may_write_to_is_not_run_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = program(Net(), {"image": IMAGES}, tmp_path)
    (tmp_path / "cache" / "strop").mkdir(parents=True)
    (tmp_path / "cache" / "strop").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(RunFailed, match="nobody else may write"):
        Inductor().load(made, ONE)


def test_a_program_that_holds_a_pickle_is_refused(tmp_path: Path) -> None:
    _, made = program(Net(), {"image": IMAGES}, tmp_path)
    evil = tmp_path / "evil.pt2"
    with zipfile.ZipFile(made.path) as good, zipfile.ZipFile(evil, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("weights_config.json"):
                content = re.sub(rb'"use_pickle":\s*false', b'"use_pickle": true', content)
            bad.writestr(name, content)
    with pytest.raises(UntrustedModel, match="pickled tensors"):
        Inductor().load(replace(made, payload=evil, files=(evil,)), ONE)


def test_what_the_machine_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        patch.delenv("CXX", raising=False)
        with pytest.raises(NotApplicable, match=r"neither g\+\+ nor clang\+\+"):
            Inductor().requires(ONE)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(NotApplicable, match=r"needs Python\.h"):
        Inductor().requires(ONE)
