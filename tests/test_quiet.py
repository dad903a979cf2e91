"""Frameworks are loaded without telemetry, and write nothing to the user's home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import job_functions as work
from strop._lazy import installed
from strop.jobs import spawn_context
from strop.runtime import Runtime
from strop.runtimes import Lightgbm, Sklearn, Xgboost


def test_nothing_is_sent_or_written_to_the_home(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("a connection was attempted")
socket.socket.connect = refuse
from strop._quiet import nncf, openvino
openvino().convert_model
with nncf() as library:
    library.quantize
import sys
assert sys.modules["openvino_telemetry"] is None
assert "torch" not in sys.modules, "NNCF brought in PyTorch"
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(tmp_path), "CI": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_telemetry_that_is_already_loaded_is_switched_off(tmp_path: Path) -> None:
    pytest.importorskip("openvino_telemetry", exc_type=ImportError)
    code = """
import openvino_telemetry
from strop._quiet import openvino
openvino()
openvino_telemetry.Telemetry.send_event(None, "a", "b", "c")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_formats_and_techniques_load_no_framework() -> None:
    code = """
import sys
import strop.formats, strop.techniques, strop.testing
heavy = {"onnx", "onnxruntime", "onnxslim", "openvino", "nncf", "pytest"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("runtime", [Lightgbm(), Xgboost(), Sklearn()], ids=str)
def test_a_process_of_its_own_loads_a_library_without_frames_and_wrappers(runtime: Runtime) -> None:
    """Which LightGBM and XGBoost import where they are installed, and which take four times as long as they do."""
    if not installed(runtime.module):
        pytest.skip("needs the extra trees")
    with spawn_context().Pool(1) as pool:  # a job has PyTorch, too, where its driver has
        started = pool.apply(work.loaded_by, (runtime,))
    assert runtime.module in started
    assert not {"pandas", "pyarrow", "pytest", "torch", "sklearn"} & started - {runtime.module}
