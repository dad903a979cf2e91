"""Frameworks that talk: imported with their telemetry off and their loggers and progress bars silent."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from ._lazy import require
from .errors import RunFailed


def openvino() -> Any:
    """Import OpenVINO without telemetry.

    Raises:
        MissingDependency: It is not installed.
    """
    no_telemetry()
    return require("openvino", "openvino")


@contextlib.contextmanager
def nncf() -> Iterator[Any]:
    """NNCF without telemetry, silent, and without PyTorch.

    It imports PyTorch wherever that is installed, at the first chance, which takes 4 s and 200 MB in every job; for
    OpenVINO's models it has no use for it.

    Raises:
        MissingDependency: It is not installed.
    """
    no_telemetry()
    with silenced(), _hidden("torch"):
        module = require("nncf", "openvino")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        yield module


def keras() -> Any:
    """Import Keras, unless it is there already.

    In a job it runs on TensorFlow, and comes without what it would import only because that is installed, for plots and
    frames: half of its time. Beside the user's own code it is as the user has it.

    Raises:
        MissingDependency: It is not installed.
    """
    if "keras" not in sys.modules:
        own = multiprocessing.parent_process() is not None
        os.environ["KERAS_BACKEND"] = "tensorflow" if own else os.environ.get("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with silenced(), hushed(), without("matplotlib", "pandas", "sklearn"):
            require("tensorflow", "tensorflow")
            require("keras", "tensorflow")
    return sys.modules["keras"]


def tensorflow() -> Any:
    """Import TensorFlow, and Keras on it.

    Raises:
        MissingDependency: It is not installed.
        RunFailed: Keras is there already, on another backend.
    """
    if (backend := keras().config.backend()) != "tensorflow":
        raise RunFailed(
            f"Keras models are run and converted on TensorFlow, and in this process Keras runs on {backend}. Do it in "
            "a process in which KERAS_BACKEND is not set."
        )
    return require("tensorflow", "tensorflow")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep what others print, log below errors, or warn of from standard output, which is for one JSON document."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep what compiled code writes, past Python, from the terminal."""
    kept = {output: os.dup(output) for output in (1, 2)}
    try:
        with open(os.devnull, "w") as nowhere:
            for output in kept:
                os.dup2(nowhere.fileno(), output)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C keeps to write later
        for output, before in kept.items():
            os.dup2(before, output)
            os.close(before)


@contextlib.contextmanager
def without(*needless: str) -> Iterator[None]:
    """Import here what would import other packages only because they are installed, for frames, plots and wrappers:
    most of the time that a library of trees takes. Beside the user's own code it comes as the user has it."""
    with contextlib.ExitStack() as hidden:
        for name in needless if multiprocessing.parent_process() is not None else ():
            hidden.enter_context(_hidden(name))
        yield


def without_semaphores() -> None:
    """Give the progress bars of PyTorch's export a plain lock.

    Their own is a semaphore, which outlives a job that is killed, and Python then warns of it on the user's terminal.
    """
    with contextlib.suppress(ImportError):
        require("tqdm").tqdm.set_lock(threading.RLock())


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let an import of this module fail, unless it is there already."""
    hidden = sys.modules.setdefault(name, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


def no_telemetry() -> None:
    """Switch off what OpenVINO, NNCF and ONNX Runtime would send, in this process and in those it starts."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Both packages treat telemetry as optional: where its import fails they use a stub, which neither sends anything
    # nor writes a client's number to the user's home. An opt-out file would have to be written there.
    loaded = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if loaded is not None:
        loaded.Telemetry.send_event = lambda *args, **kwargs: None
