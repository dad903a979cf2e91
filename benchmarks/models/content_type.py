"""Magika: of what type a file is."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ._case import Case
from ._fetch import from_wheel
from ._packages import MAGIKA

FOLDERS = ("/usr/share", "/usr/lib", "/usr/include")
PER_TYPE, AT_LEAST = 100, 10
TYPES = {
    "py": "python", "pyc": "pythonbytecode", "pyi": "python", "c": "c", "cc": "cpp", "cpp": "cpp", "hpp": "cpp",
    "js": "javascript", "css": "css", "html": "html", "json": "json", "xml": "xml", "svg": "svg", "png": "png",
    "gif": "gif", "jpg": "jpeg", "gz": "gzip", "zip": "zip", "whl": "zip", "jar": "jar", "md": "markdown",
    "rst": "rst", "sh": "shell", "pl": "perl", "pm": "perl", "rb": "ruby", "java": "java", "php": "php", "so": "elf",
    "ttf": "ttf", "otf": "otf", "woff": "woff", "woff2": "woff2", "wav": "wav", "pdf": "pdf", "m4": "m4",
    "cmake": "cmake", "yaml": "yaml", "yml": "yaml", "toml": "toml", "csv": "csv", "lua": "lua", "sql": "sql",
    "tcl": "tcl", "go": "go", "rs": "rust", "diff": "diff", "patch": "diff", "el": "lisp", "npy": "npy", "npz": "npz",
    "pem": "pem", "ico": "ico", "bmp": "bmp", "tex": "latex", "bib": "bib", "ps": "postscript",
}  # fmt: skip


def build(folder: Path) -> None:
    """Write the model and files of this machine: bytes int32[n, 2048], labels int64[n] by their extensions."""
    root = "magika/models/standard_v3_3"
    (folder / "model.onnx").write_bytes(from_wheel(MAGIKA(), f"{root}/model.onnx"))
    config = json.loads(from_wheel(MAGIKA(), f"{root}/config.min.json"))
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for kind, files in sorted(_files().items()):
        for index in rng.permutation(len(files))[:PER_TYPE]:
            rows.append(_features(files[index], config))
            labels.append(config["target_labels_space"].index(kind))
    order = rng.permutation(len(rows))
    np.savez(folder / "data.npz", bytes=np.array(rows, np.int32)[order], labels=np.array(labels)[order])


def _files() -> dict[str, list[Path]]:
    """Files by type; empty ones, links, and types that are too rare to judge by left out."""
    found = defaultdict(list)
    for folder in FOLDERS:
        for parent, _, names in os.walk(folder):
            for name in names:
                kind, path = TYPES.get(name.rpartition(".")[2]), Path(parent, name)
                if kind and not path.is_symlink() and path.stat().st_size >= 64:
                    found[kind].append(path)
    return {kind: sorted(files) for kind, files in found.items() if len(files) >= AT_LEAST}


def _features(file: Path, config: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The first and last bytes, without the white space around them, padded to fixed lengths: int32[2048]."""
    block = config["block_size"]
    with file.open("rb") as stream:
        start = stream.read(block).lstrip()[: config["beg_size"]]
        stream.seek(max(0, file.stat().st_size - block))
        end = stream.read(block).rstrip()[-config["end_size"] :]
    row = np.full(config["beg_size"] + config["end_size"], config["padding_token"], np.int32)
    row[: len(start)] = np.frombuffer(start, np.uint8)
    row[len(row) - len(end) :] = np.frombuffer(end, np.uint8)
    return row


CASE = Case("magika", build, quality="accuracy", limit="accuracy >= 99% of original", peers="accuracy")
