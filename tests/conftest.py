"""What all tests share: how Hypothesis runs, and the fakes to test the engine with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine import FakeRun
from strop import jobs
from strop.baseline import lay_out
from strop.prepare import Budget, prepare
from strop.rundir import RunDir
from strop.target import Target, pin, usable_cores
from strop.testing import fake_data, fake_model, registered
from strop.timing import Effort

settings.register_profile(
    "strop", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("strop")


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
    little = Effort(pairs=2, blocks=4, seconds=0.02, runs=8, width=1.0, lock=tmp_path / "measuring.lock")
    for name in (
        "trial.SEARCHING", "trial.CONFIRMING", "comparison.CONFIRMING", "verification.CONFIRMING",
        "profiling.PROFILING", "explanation.EXPLAINING",
    ):  # fmt: skip
        monkeypatch.setattr(f"strop.{name}", little)


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
