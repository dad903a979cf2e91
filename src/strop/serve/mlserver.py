"""MLServer: a folder that `mlserver start` serves, with an image and a KServe service around it.

The layout is that of MLServer's documentation (model settings, custom runtimes): `settings.json` for the server, and a
folder a model with `model-settings.json`, whose `implementation` is a class in that folder.
"""

from __future__ import annotations

import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..opened import CANDIDATES, REPORT
from ..runtime import Code
from . import packages
from .kserve import service
from .tensors import datatype, shape

MLSERVER = "1.7.1"  # what benchmarks/serving.py was run with
FOLDER = "model"
SERVER = {"debug": False, "parallel_workers": 0}
"""Calls run in a thread of the server's own process: with its later uvloop, MLServer's worker processes don't start."""

DOCKERFILE = """\
# docker build --tag {name} . && docker run --publish 8080:8080 --publish 8081:8081 {name}
FROM python:{python}-slim
{system}RUN useradd --create-home --uid 1000 served
WORKDIR /served
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt --constraint constraints.txt
COPY settings.json ./
COPY {name} {name}
USER 1000
EXPOSE 8080 8081
CMD ["mlserver", "start", "."]
"""
SYSTEM = """\
RUN apt-get update && apt-get install --yes --no-install-recommends {names} && rm -rf /var/lib/apt/lists/*
"""
RUNS = '''\
"""How the model is run: written by strop."""

import numpy as np


def opened(file):
    """Load the model from its main file; the function that is returned makes named outputs of named inputs."""
{load}

    def run(inputs):
{call}
        return outputs

    return run
'''


def write(bundle: Bundle, name: str, folder: Path) -> None:
    """Write the files. A bundle whose runtime others call without strop needs no strop there, else it does.

    Raises:
        NotApplicable: A tensor has a type that the protocol does not know.
        BundleError: The manifest names what can't be installed.
    """
    code = bundle.runtime.code(bundle.model, bundle.target)
    place = folder / name
    (place / FOLDER).mkdir(parents=True)
    _copy(bundle, code, place / FOLDER)
    (place / "model-settings.json").write_text(json.dumps(model_settings(bundle, name), indent=1) + "\n")
    (place / "runs.py").write_text(runs(code), encoding="utf-8")
    served = importlib.resources.files(__package__).joinpath("served.py").read_text(encoding="utf-8")
    (place / "served.py").write_text(served, encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(SERVER, indent=1) + "\n")
    wanted = (f"mlserver=={MLSERVER}", "numpy", *code.packages)
    (folder / "requirements.txt").write_text(packages.requirements(bundle, wanted))
    (folder / "constraints.txt").write_text(packages.constraints(bundle))
    system = SYSTEM.format(names=" ".join(code.system)) if code.system else ""
    (folder / "Dockerfile").write_text(DOCKERFILE.format(python=packages.python(bundle), system=system, name=name))
    (folder / "inference-service.yaml").write_text(service(name, bundle.target, image=f"{name}:latest"))


def model_settings(bundle: Bundle, name: str) -> dict[str, Any]:
    """What `model-settings.json` says: the inputs and outputs of one call, as the model itself has them."""
    signature = bundle.model.signature
    return {
        "name": name,
        "implementation": "served.Served",
        "parameters": {"uri": f"./{FOLDER}/{bundle.model.path.name}", "version": "1"},
        "inputs": [
            {"name": tensor.name, "datatype": datatype(tensor), "shape": shape(tensor)} for tensor in signature.inputs
        ],
        "outputs": [
            {"name": tensor.name, "datatype": datatype(tensor), "shape": shape(tensor)} for tensor in signature.outputs
        ],
    }


def runs(code: Code) -> str:
    """The module that loads and calls the model."""
    return RUNS.format(load=_indented(code.load, 4), call=_indented(code.call, 8))


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line if line else line for line in text.splitlines())


def _copy(bundle: Bundle, code: Code, folder: Path) -> None:
    """The model; the whole bundle where strop runs it, which checks that it is whole."""
    if any(name.partition("[")[0] == "strop" for name in code.packages):
        shutil.copytree(bundle.folder, folder, ignore=shutil.ignore_patterns(REPORT, CANDIDATES), dirs_exist_ok=True)
    else:
        bundle.model.copy_to(folder)
