"""A fake format with its techniques and runtime, in plain NumPy: the engine is tested with them, and no framework."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data import Data
from ..errors import NotApplicable, RunFailed, UnsupportedModel
from ..model import Batch, Format, Model, ModelFormat, Signature, Tensor
from ..runtime import Runtime
from ..settings import choice
from ..target import Target
from ..technique import Context, Needs, Phase, Technique

FAKE = Format("fake")
FAKE_COMPILED = Format("fake-compiled")

_ENTRY_POINTS = """\
[strop.formats]
fake = strop.testing.fakes:FAKE_FORMAT
[strop.techniques]
fake-strip = strop.testing.fakes:FakeStrip
fake-round = strop.testing.fakes:FakeRound
fake-calibrate = strop.testing.fakes:FakeCalibrate
fake-fault = strop.testing.fakes:FakeFault
fake-compile = strop.testing.fakes:FakeCompile
[strop.runtimes]
fake-runtime = strop.testing.fakes:FakeRuntime
"""
_BLOCK = 1 << 24


@dataclass(frozen=True)
class FakeFormat(ModelFormat):
    """A linear model in a JSON file that ends in .fake; its keys are those of `fake_model`."""

    name: ClassVar[Format] = FAKE

    def detects(self, source: object) -> bool:
        return isinstance(source, (str, os.PathLike)) and Path(source).suffix == ".fake"

    def open(self, source: Any) -> Model:
        path = Path(source)
        try:
            weights = np.asarray(json.loads(path.read_text())["weights"])
        except (ValueError, KeyError) as error:
            raise UnsupportedModel(f"A .fake file holds JSON with weights; {path} does not. Write it again.") from error
        return _opened(path, FAKE, weights)


FAKE_FORMAT = FakeFormat()


@dataclass(frozen=True)
class FakeStrip(Technique):
    """Drop the padding: smaller, and equal."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FAKE})
    phase: ClassVar[Phase] = Phase.SIMPLIFY
    lossless: ClassVar[bool] = True

    def requires(self, model: Model, target: Target) -> None:
        if not _read(model).get("padding"):
            raise NotApplicable("has no padding to drop")

    def apply(self, model: Model, context: Context) -> Model:
        return _written(model, context.folder, padding="")


@dataclass(frozen=True)
class FakeRound(Technique):
    """Round the weights, and run faster for it.

    Attributes:
        decimals: Digits kept after the point; each one less halves the time.
    """

    decimals: int = choice(2, 1, 0)

    accepts: ClassVar[frozenset[Format]] = frozenset({FAKE})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True

    def expects(self, target: Target) -> float:
        return 0.5

    def apply(self, model: Model, context: Context) -> Model:
        given = _read(model)
        rounded = np.round(given["weights"], self.decimals).tolist()
        seconds = given.get("seconds", 0.0) * 0.5 ** (3 - self.decimals)
        return _written(model, context.folder, weights=rounded, seconds=seconds)


@dataclass(frozen=True)
class FakeCalibrate(Technique):
    """Round the weights to steps learned from samples."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FAKE})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs.SAMPLES

    def expects(self, target: Target) -> float:
        return 0.4

    def apply(self, model: Model, context: Context) -> Model:
        if context.calibration is None:
            raise NotApplicable("needs samples to calibrate with, and none are given")
        (samples,) = context.calibration.batch(0, len(context.calibration)).values()
        step = 1e-3 * float(np.abs(samples).max())
        given = _read(model)
        rounded = (np.round(np.asarray(given["weights"]) / step) * step).tolist()
        return _written(model, context.folder, weights=rounded, seconds=given.get("seconds", 0.0) * 0.4)


@dataclass(frozen=True)
class FakeFault(Technique):
    """Fail in a way that the engine must contain; refuses a model that does not ask for it by `build_fault`."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FAKE})
    phase: ClassVar[Phase] = Phase.SHRINK

    def requires(self, model: Model, target: Target) -> None:
        if not _read(model).get("build_fault"):
            raise NotApplicable("has no fault to show")

    def apply(self, model: Model, context: Context) -> Model:
        commit(_read(model)["build_fault"], context.folder)
        return _written(model, context.folder)


@dataclass(frozen=True)
class FakeCompile(Technique):
    """Convert to the compiled fake format, twice as fast."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FAKE})
    returns: ClassVar[Format | None] = FAKE_COMPILED
    phase: ClassVar[Phase] = Phase.CONVERT
    lossless: ClassVar[bool] = True

    def expects(self, target: Target) -> float:
        return 0.5

    def apply(self, model: Model, context: Context) -> Model:
        seconds = _read(model).get("seconds", 0.0) / 2
        return replace(_written(model, context.folder, seconds=seconds), format=FAKE_COMPILED)


@dataclass(frozen=True)
class FakeRuntime(Runtime):
    """Compute with NumPy, as slowly and as faultily as the file says.

    Attributes:
        slack: Multiplies the time of a call.
    """

    slack: float = choice(1.0, 2.0)

    loads: ClassVar[frozenset[Format]] = frozenset({FAKE, FAKE_COMPILED})
    module: ClassVar[str] = "numpy"

    def load(self, model: Model, target: Target) -> _Runner:
        return _Runner(_read(model), self.slack)


class _Runner:
    def __init__(self, given: dict[str, Any], slack: float):
        if given.get("fault") == "load":
            raise RunFailed("the fake runtime can't load this model")
        self.weights = np.asarray(given["weights"], np.float32)
        self.fault, self.seconds = given.get("fault", ""), given.get("seconds", 0.0) * slack

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        if self.fault:
            commit(self.fault, Path.cwd())
        if self.seconds:
            time.sleep(self.seconds)
        with np.errstate(invalid="ignore"):  # NaN and infinity pass through in silence, as in real runtimes
            return {"y": np.asarray(batch["x"], np.float32) @ self.weights}

    def bind(self, batch: Batch) -> Callable[[], object]:
        return lambda: self(batch)

    def close(self) -> None:
        pass


def fake_model(
    folder: Path,
    *,
    shape: tuple[int, int] = (4, 3),
    seconds: float = 0.0,
    fault: str = "",
    build_fault: str = "",
    padding: int = 0,
    seed: int = 0,
) -> Model:
    """Write a model.fake, y = x @ weights, and open it.

    Args:
        folder: Where to write.
        shape: Of the weights: inputs, outputs.
        seconds: Slept in every call.
        fault: What every call does: `crash`, `hang`, `memory`, `error` or `disk`; or `load`, which fails before.
        build_fault: What `FakeFault` does.
        padding: Bytes that serve nothing.
        seed: Of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(seed).normal(size=shape).tolist()
    given = {
        "weights": weights,
        "seconds": seconds,
        "fault": fault,
        "build_fault": build_fault,
        "padding": "." * padding,
    }
    (folder / "model.fake").write_text(json.dumps(given))
    return FAKE_FORMAT.open(folder / "model.fake")


def fake_data(model: Model, samples: int = 200, seed: int = 1) -> Data:
    """Samples that fit a fake model, labelled with its own answers."""
    weights = np.asarray(_read(model)["weights"], np.float32)
    x = np.random.default_rng(seed).normal(size=(samples, len(weights))).astype(np.float32)
    return Data({"x": x}, labels=(x @ weights).argmax(1))


@contextlib.contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Register the fakes as a third party's package would be, in this process and in those that it spawns.

    Args:
        folder: Where the package's metadata are written; it joins `sys.path`, which spawned processes inherit.
    """
    metadata = folder / "strop_fakes-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: strop-fakes\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    sys.path.append(str(folder))
    _forget_plugins()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _forget_plugins()


def commit(fault: str, folder: Path) -> None:
    """Crash, hang, eat memory, fill the disk, or raise, for real."""
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "hang":
        while True:
            time.sleep(1)
    elif fault == "memory":
        kept = []
        while True:
            kept.append(np.ones(_BLOCK))
    elif fault == "disk":
        raise OSError(28, "No space left on device", str(folder))
    else:
        raise RuntimeError(f"a fault of kind {fault!r}")


def _forget_plugins() -> None:
    from .. import formats, runtimes, techniques

    for listing in (formats.all_formats, techniques.all_techniques, runtimes.all_runtimes):
        listing.cache_clear()


def _read(model: Model) -> dict[str, Any]:
    given: dict[str, Any] = json.loads(model.path.read_text())
    return given


def _written(model: Model, folder: Path, **changes: Any) -> Model:
    given = {**_read(model), **changes}
    (folder / "model.fake").write_text(json.dumps(given))
    return _opened(folder / "model.fake", FAKE, np.asarray(given["weights"]))


def _opened(path: Path, format: Format, weights: np.ndarray[Any, Any]) -> Model:
    signature = Signature(
        (Tensor("x", "float32", ("N", weights.shape[0])),), (Tensor("y", "float32", ("N", weights.shape[1])),)
    )
    return Model(format, path, signature, (path,))
