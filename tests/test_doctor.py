"""Doctor: it tells the truth about this machine, and what would have to be installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import psutil
import pytest
from packaging.requirements import Requirement

from strop import doctor
from strop.findings import conclude
from strop.machine import Measured
from strop.stats import Interval
from strop.target import usable_cores


def test_it_describes_this_machine() -> None:
    found = json.loads(json.dumps(doctor.examine()))
    assert found["cpu"]["cores"] == len(usable_cores())
    assert found["memory"]["total"] == psutil.virtual_memory().total
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    runtime = next(r for r in found["runtimes"] if r["name"] == "onnxruntime")
    assert (runtime["present"], runtime["loads"], runtime["install"]) == (True, ["onnx", "onnx-trees"], None)
    assert runtime["version"] == metadata.version("onnxruntime")
    text = doctor.describe(found)
    assert found["cpu"]["name"] in text
    assert metadata.version("onnxruntime") in text
    assert "int8" not in found, "what has to be measured is not guessed"


def test_caches_in_the_units_of_who_sells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = [{"level": 2, "bytes": 512 << 10, "count": 2}, {"level": 3, "bytes": 32 << 20, "count": 1}]
    monkeypatch.setattr(doctor, "caches", lambda cores: caches)
    assert "caches    L2 512 KiB x 2, L3 32 MiB\n" in doctor.describe(doctor.examine())
    monkeypatch.setattr(doctor, "caches", lambda cores: [])
    assert "caches    unknown\n" in doctor.describe(doctor.examine())


def test_what_was_measured_stands_before_what_is_installed() -> None:
    noise = {"latency.p50": Interval(1.0, 0.99, 1.01), "latency.p95": Interval(1.0, 0.99, 1.01)}
    found = doctor.examine() | conclude(Measured(1, (), {1: Interval(2e10, 1.9e10, 2.1e10)}, noise, (), {}))
    text = doctor.describe(found)
    assert found["noise"][:40] in text
    assert text.index("bandwidth memory is copied at 20.0 ±1.0 GB/s by 1 thread") < text.index("Runtimes")


def test_it_imports_no_framework() -> None:
    code = "import sys; from strop import doctor; doctor.describe(doctor.examine()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"onnx", "onnxruntime", "openvino", "nncf", "sklearn", "scipy", "optuna"} & set(loaded)


REQUIREMENTS = [
    "numpy>=2",
    'openvino>=2026.4; extra == "openvino"',
    'nncf>=3; extra == "openvino"',
    'strop[openvino]; extra == "wide"',
    'pytest>=9; extra == "dev"',
    "odd>=1; extra == 'odd' and python_version < '3'",
]


class Packages:
    """Stands in for importlib.metadata: what strop asks for, and what is installed."""

    def __init__(self, **versions: str):
        self.versions = {"strop": "1.0", "numpy": "2.4.6", **versions}

    PackageNotFoundError = metadata.PackageNotFoundError

    def requires(self, name: str) -> list[str]:
        self.version(name)
        return REQUIREMENTS

    def metadata(self, name: str) -> Packages:
        return self

    def get_all(self, key: str) -> list[str]:
        assert key == "Provides-Extra"
        return ["openvino", "dev", "odd", "wide"]

    def version(self, name: str) -> str:
        if name not in self.versions:
            raise metadata.PackageNotFoundError(name)
        return self.versions[name]


@pytest.mark.parametrize(
    ("versions", "line"),
    [
        ({"openvino": "2026.4.1", "nncf": "3.4.0"}, "complete"),
        ({"openvino": "2026.4.1"}, "lacks nncf: pip install 'strop[openvino]'"),
        ({"openvino": "2024.1", "nncf": "3.4.0"}, "lacks openvino (is 2024.1): pip install 'strop[openvino]'"),
        ({}, "lacks openvino, nncf: pip install 'strop[openvino]'"),
    ],
)
def test_what_an_extra_lacks(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], line: str) -> None:
    monkeypatch.setattr(doctor, "metadata", Packages(**versions))
    found = doctor.examine()
    extras = {extra["name"]: extra for extra in found["extras"]}
    assert list(extras) == ["core", "openvino", "odd", "wide"]
    assert extras["wide"]["packages"] == extras["openvino"]["packages"], "an extra brings what it builds on"
    assert [p["name"] for p in extras["core"]["packages"]] == ["numpy"]
    assert extras["core"]["present"]
    assert extras["odd"]["present"], "a package for another Python is not lacking here"
    assert extras["openvino"]["present"] == (line == "complete")
    told = doctor.describe(found).split("Extras\n")[1].splitlines()
    assert told[1].split(maxsplit=1) == ["openvino", line]


def test_a_missing_runtime_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda module: module != "openvino")
    found = doctor.examine()
    runtime = next(r for r in found["runtimes"] if r["name"] == "openvino")
    assert runtime["version"] is None
    assert runtime["install"] == "pip install 'strop[openvino]'"
    assert "missing: pip install 'strop[openvino]'" in doctor.describe(found)


def test_the_metadata_of_strop_itself_can_be_read() -> None:
    names = [extra["name"] for extra in doctor.examine()["extras"]]
    assert names[0] == "core"
    assert {"openvino", "torch", "trees"} <= set(names)
    assert "dev" not in names
    assert all(Requirement(text).name for text in metadata.requires("strop") or ())


def test_notes_on_what_spoils_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/sys/fs/cgroup/cpu.max": "150000 100000",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    }
    monkeypatch.setattr(doctor, "_line", files.get)
    monkeypatch.setattr(doctor, "usable_cores", lambda: (0, 1, 2, 3))
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (2.5, 0.0, 0.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KMP_BLOCKTIME", "")
    notes = "\n".join(doctor.examine()["notes"])
    assert "OMP_NUM_THREADS=1 is set" in notes
    assert "KMP_BLOCKTIME" not in notes
    assert "load average is 2.5 on 4 usable cores" in notes
    assert "1.5 cores' time of the 4" in notes
    assert "governor powersave" in notes


def test_a_quiet_machine_has_no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in doctor.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(doctor, "_line", {"/sys/fs/cgroup/cpu.max": "max 100000"}.get)
    monkeypatch.setattr(doctor, "metadata", Packages())
    found = doctor.examine()
    assert found["notes"] == []
    assert "Notes" not in doctor.describe(found)
