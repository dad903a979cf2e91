"""The fakes keep the contracts they stand for, and are found in spawned processes too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strop import formats, runtimes, techniques
from strop.errors import NotApplicable, RunFailed
from strop.jobs import spawn_context
from strop.model import Model
from strop.target import Target
from strop.technique import Context, apply
from strop.testing import (
    Example,
    FakeFault,
    FakeRuntime,
    RuntimeCase,
    fake_data,
    fake_model,
    registered,
)


@pytest.fixture
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("fakes")):
        yield


class TestFakeRuntime(RuntimeCase):
    runtime = FakeRuntime

    def example(self, folder: Path) -> Example:
        model = fake_model(folder)
        return Example(model, fake_data(model, 10))

    def broken(self, folder: Path) -> Model:
        return fake_model(folder, fault="load")


def find_fake(label: str) -> str:
    return techniques.find(label).__name__


@pytest.mark.usefixtures("fakes")
def test_fakes_are_found_here_and_in_spawned_processes() -> None:
    assert find_fake("fake-round") == "FakeRound"
    assert runtimes.find("fake-runtime") is FakeRuntime
    with spawn_context().Pool(1) as pool:
        assert pool.apply(techniques.find, ("fake-round",)) is techniques.find("fake-round")


@pytest.mark.usefixtures("fakes")
def test_a_fake_file_is_opened_like_any_other(tmp_path: Path) -> None:
    assert formats.open(fake_model(tmp_path).path).format == "fake"


def test_fakes_are_forgotten_outside(tmp_path: Path) -> None:
    """As far as they were not known before, which a fixture of other tests may see to."""
    before, path = techniques.all_techniques(), list(sys.path)
    with registered(tmp_path):
        assert techniques.find("fake-round") in techniques.all_techniques()
    assert (techniques.all_techniques(), sys.path) == (before, path)


def test_faults_are_real(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "given", build_fault="crash")
    code = f"from pathlib import Path; from strop.testing.fakes import commit; commit('crash', Path({str(tmp_path)!r}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -11
    context = Context(None, model, Target(threads=1), 0, tmp_path)
    with pytest.raises(OSError, match="No space left"):
        apply(FakeFault(), fake_model(tmp_path / "full", build_fault="disk"), context)
    with pytest.raises(NotApplicable, match="no fault"):
        apply(FakeFault(), fake_model(tmp_path / "sound"), context)
    with pytest.raises(RunFailed):
        FakeRuntime().load(replace(fake_model(tmp_path / "bad", fault="load")), Target(threads=1))
