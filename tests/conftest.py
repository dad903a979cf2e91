"""What all tests share: their order, how Hypothesis runs, and the fakes to test the engine with."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import quickly
from engine import FakeRun
from strop import jobs
from strop.baseline import lay_out
from strop.prepare import Budget, prepare
from strop.rundir import RunDir
from strop.target import Target, pin, usable_cores
from strop.testing import fake_data, fake_model, registered

settings.register_profile(
    "strop", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("strop")

# Each of the thousands of processes that tests start would compile anew what was not compiled yet.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# OpenMP's threads would spin while they wait for one whose core another worker has: training takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Likewise those that OpenBLAS begins in each process that imports NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """What was imported for all tests stays: no collection need look through a million objects for it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # and what is new is looked through less often


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: one that is begun last holds up the whole, while other workers have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def own_cores() -> Iterator[None]:
    """What a job pins to some cores is the test's own process here: the next test has all of them again."""
    cores = usable_cores()
    yield
    pin(cores)


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[None]:
    """The fake format, techniques and runtime, known here and in every process that is started."""
    with registered(tmp_path / "plugins"):
        yield


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Time as little as tells a model from one of half its speed, and wait for nobody else who measures: what is tested
    is the job around it."""
    for effort in quickly.EFFORTS:
        monkeypatch.setattr(f"strop.{effort}", quickly.little(tmp_path))
    monkeypatch.setattr("strop._forks.Context", quickly.Context)


@pytest.fixture
def fake_run(fakes: None, tmp_path: Path) -> Iterator[FakeRun]:
    """A run that is laid out, with nothing measured yet: a fake model with padding, 200 samples, two limits."""
    model = fake_model(tmp_path / "given", padding=5000)
    data = fake_data(model)
    run = RunDir(tmp_path / "run")
    request = prepare(
        run, model.path, data, "minimize latency.p50; accuracy >= 99% of original; size < 1 MB", metrics=(), label=None,
        slices=(), group=None, calibration=None, confirm=None, target=Target(threads=1), budget=Budget(60), seed=0,
        recipe=None, out=None,
    )  # fmt: skip
    yield FakeRun(run, request, lay_out(run, request, jobs.Limits(60, 1 << 62)))
    run.close()
