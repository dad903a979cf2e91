"""Start MLServer on bundles, and hold its answers to the bundles' own.

    python benchmarks/serving.py BUNDLE...

Each bundle is written by `strop serve --for mlserver`; what its `requirements.txt` asks for is installed into one
environment for all, under its `constraints.txt`, as the Dockerfile would; the server is started on it, is asked by
HTTP (Open Inference Protocol, v2) for the samples of the bundle, and must give what `Bundle.predict` gives. The schemas
that the tests hold the files to (`tests/servers.py`) are held to those of MLServer and of Triton's client as installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

import strop
from strop import serve

ROOT = Path(__file__).parent.parent
ROWS = 4
PORT = 18080
SETTINGS = """
import json
from mlserver.settings import ModelSettings
print(json.dumps(ModelSettings.model_json_schema()))
"""
MESSAGES = """
import json
from tritonclient.grpc import model_config_pb2
def told(messages):
    for message in messages:
        name = message.full_name.removeprefix("inference.")
        yield name, {field.name: [field.type, field.is_repeated] for field in message.fields}
        yield from told(message.nested_types)
print(json.dumps(dict(told(model_config_pb2.DESCRIPTOR.message_types_by_name.values()))))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for folder in map(Path, sys.argv[1:]):
            bundle = strop.Bundle.load(folder)
            served = serve.write(bundle, "mlserver", Path(scratch, folder.name), "model")
            bins = _environment(served, Path(scratch, "venv"))
            _check_schemas(bins)
            print(f"{folder}: {bundle.model.format} on {bundle.runtime}")
            print((served / "requirements.txt").read_text().strip().replace("\n", ", "))
            for name, worst in _compared(bundle, served, bins).items():
                print(f"  {name}: greatest difference to Bundle.predict {worst:g}")


def _environment(served: Path, place: Path) -> Path:
    if not place.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
    bins, wheels = place / "bin", place / "wheels"
    pip = [bins / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if "strop" in (served / "requirements.txt").read_text():  # as it is here, released or not
        subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, ROOT], check=True)
        pip += ["--find-links", wheels]
    asked = ["-r", served / "requirements.txt", "-c", served / "constraints.txt"]
    subprocess.run([*pip, *asked], check=True)
    return bins


def _compared(bundle: strop.Bundle, served: Path, bins: Path) -> dict[str, float]:
    """The greatest difference, output by output."""
    inputs = bundle.samples()[0].batch(0, ROWS)
    settings = json.loads((served / "model" / "model-settings.json").read_text())
    asked = [_asked(tensor, inputs[tensor["name"]]) for tensor in settings["inputs"]]
    ports = {f"MLSERVER_{name}_PORT": str(PORT + at) for at, name in enumerate(("HTTP", "GRPC", "METRICS"))}
    log = (served / "log").open("w")
    server = subprocess.Popen(
        [bins / "mlserver", "start", "."], cwd=served, env={**os.environ, **ports, "PYTHONPATH": ""}, stdout=log,
        stderr=log,
    )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{PORT}/v2/models/model/ready", server, served / "log")
        answer = _post(f"http://127.0.0.1:{PORT}/v2/models/model/infer", {"inputs": asked})
    finally:
        server.terminate()
        server.wait()
    expected = bundle.predict(inputs)
    found = {one["name"]: np.asarray(one["data"], float).reshape(one["shape"]) for one in answer["outputs"]}
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in expected.items()}
    return {name: float(np.abs(value - expected[name]).max()) for name, value in found.items()}


def _asked(tensor: dict[str, Any], array: np.ndarray) -> dict[str, Any]:
    return {
        "name": tensor["name"],
        "datatype": tensor["datatype"],
        "shape": array.shape,
        "data": array.ravel().tolist(),
    }


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"MLServer is not ready:\n{log.read_text()}")


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"MLServer refuses: {error.read().decode()}") from error


def _check_schemas(bins: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    import servers

    assert servers.bare(_told(bins, SETTINGS)) == servers.MODEL_SETTINGS, "tests/servers.py: MODEL_SETTINGS is old"
    messages = _told(bins, MESSAGES)
    for message, fields in servers.TRITON.items():
        for field, known in fields.items():
            assert messages[message][field] == known, f"tests/servers.py: {message}.{field} is {messages[message]} now"


def _told(bins: Path, code: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": ""}
    told = subprocess.run([bins / "python", "-c", code], check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(told.stdout)


if __name__ == "__main__":
    main()
