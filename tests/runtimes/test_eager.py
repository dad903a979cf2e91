"""PyTorch as it is: what users call without strop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from shrinking import Net, bars, stored, torch
from strop.errors import RunFailed
from strop.model import TORCH, Model
from strop.plan import routes
from strop.prepare import called, reference
from strop.runtime import Runtime
from strop.runtimes import Eager
from strop.target import Target
from strop.technique import Needs
from strop.testing import Example, RuntimeCase

DATA = bars(12)


class TestEager(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Eager

    def example(self, folder: Path) -> Example:
        return Example(stored(Net(4).eval(), DATA, folder), DATA)

    def broken(self, folder: Path) -> Model:
        whole, cut = self.example(folder / "whole").model, folder / "module.pkl"
        cut.write_bytes(whole.path.read_bytes()[: whole.size // 2])
        cut.chmod(0o600)
        return replace(whole, payload=cut, files=(cut,))


def test_it_stands_beside_the_original_and_is_no_candidate(tmp_path: Path) -> None:
    model = stored(Net(4).eval(), DATA, tmp_path)
    assert called(TORCH) == Eager()
    assert reference(TORCH)[1] != Eager()
    found, _ = routes(model, Target(threads=1), Needs.SAMPLES)
    assert found and Eager not in {route.runtime for route in found}


def test_a_module_that_fails_says_on_what(tmp_path: Path) -> None:
    model = stored(Net(4).eval(), DATA, tmp_path)
    runner = Eager().load(model, Target(threads=1))
    with pytest.raises(RunFailed, match=r"failed on image \[2, 3\]"):
        runner({"image": torch.zeros(2, 3).numpy()})
