"""Outputs: what models answer, as .npz files between processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .model import Batch

Array = np.ndarray[Any, Any]


def store_outputs(path: Path, outputs: Batch) -> None:
    """Write outputs as .npz, under `output.NAME`: an output may be called `file`, which `savez` has another use for."""
    np.savez(path, allow_pickle=False, **{f"output.{name}": array for name, array in outputs.items()})


def load_outputs(path: Path) -> dict[str, Array]:
    """Read what `store_outputs` wrote."""
    return {name.removeprefix("output."): array for name, array in load_arrays(path).items()}


def load_arrays(path: Path) -> dict[str, Array]:
    """Read an .npz file that strop wrote."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
