"""What a machine does at the most is measured once, kept for its kind of CPU, and anew where that is no good."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from strop import jobs
from strop._bandwidth import near
from strop._products import LIBRARIES, start
from strop.insight import Peaks, peaks
from strop.target import Target, usable_cores

room = importlib.import_module("strop.insight.peaks")  # of which the function has the name
TARGET = Target(threads=1)
KNOWN = Peaks("onnxruntime", 1, {"f32": 2e11, "int8": 8e11}, 4e10, 2e11, 1 << 20, 1 << 25, 2e-7)
LIMITS = jobs.Limits(60, 1 << 62)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Peaks]:
    """What the measurements to come find, the last first."""
    found = [KNOWN, KNOWN, KNOWN]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(room, "_measured", lambda runtime, rated, target: found.pop())
    return found


def test_they_are_measured_once_and_kept(measured: list[Peaks], tmp_path: Path) -> None:
    assert peaks("onnxruntime", TARGET) == KNOWN == peaks("onnxruntime", TARGET)
    assert len(measured) == 2
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"runtime": "onnxruntime"}')
    assert peaks("onnxruntime", TARGET) == KNOWN and len(measured) == 1, "broken, so measured anew"


def test_what_other_work_disturbed_is_measured_again_an_hour_later_and_the_most_kept(
    measured: list[Peaks], tmp_path: Path
) -> None:
    first = replace(KNOWN, rates={"f32": 9e10}, memory=5e10, start=4e-7, calm=False)
    second = replace(KNOWN, cache=1e11, calm=False)
    measured[:] = [KNOWN, second, first]
    assert peaks("onnxruntime", TARGET) == first == peaks("onnxruntime", TARGET)
    assert len(measured) == 2
    (file,) = tmp_path.rglob("*.json")
    os.utime(file, (0, 0))
    assert peaks("onnxruntime", TARGET, anew=False) == first, "better than none"
    assert peaks("onnxruntime", TARGET) == replace(KNOWN, memory=5e10, calm=False)
    os.utime(file, (0, 0))
    assert peaks("onnxruntime", TARGET) == replace(KNOWN, memory=5e10) and not measured
    os.utime(file, (0, 0))
    assert peaks("onnxruntime", TARGET) == replace(KNOWN, memory=5e10), "nothing disturbed the last"


def test_runtimes_without_products_of_their_own_share_what_is_known_of_memory(measured: list[Peaks]) -> None:
    assert peaks("gtil", TARGET) == KNOWN and peaks("native", TARGET) == KNOWN and len(measured) == 2
    assert peaks("onnxruntime", TARGET, anew=False) is None, "which has some"


def test_of_scikit_learn_products_loops_and_the_least_step_are_measured() -> None:
    core = usable_cores()[-1]
    rated = room.RATED["sklearn"]
    timed, begun = (jobs.run(one, "sklearn", (core,), limits=LIMITS) for one in (rated.products, rated.start))
    assert timed.value is not None and begun.value is not None
    rates = {product.precision: product.rate.value for product in timed.value if product.rate}
    assert rates.keys() == {"f32", "f64", "f64 loops"} and min(rates.values()) > 1e7
    assert 1e-7 < begun.value < 0.1


def test_a_precision_that_was_not_measured_counts_as_f32() -> None:
    assert KNOWN.rate("int8") == 8e11 and KNOWN.rate("bf16") == KNOWN.rate("") == 2e11


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_caches_and_beginnings_are_measured(runtime: str) -> None:
    pytest.importorskip(LIBRARIES[runtime].module)
    core = usable_cores()[-1]
    copied, begun = jobs.run(near, core, limits=LIMITS), jobs.run(start, runtime, (core,), limits=LIMITS)
    assert copied.value is not None and copied.value.low > 1e8
    assert begun.value is not None and 1e-9 < begun.value < 1e-3
