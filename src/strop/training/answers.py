"""The original's answers to the train data, computed once a run where they are always the same."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .batches import Batches, TrainBatch

Array = np.ndarray[Any, Any]
Ask: TypeAlias = Callable[[TrainBatch], Mapping[str, Array]]

MOST = 4e9  # bytes to keep of outputs
SHARE = 0.2  # of the free disk, likewise
PIECE = 128


def recall(
    folder: Path, ask: Ask, batches: Batches, seconds: float, progress: Callable[[float], None]
) -> dict[str, Array] | None:
    """All answers, by output, from what is kept of them; None where that would take too long, or too much room.

    Args:
        folder: Where they are kept for all that a run trains.
        ask: The original: float32 `[samples, ...]`, by output.
        batches: The train data.
        seconds: What asking for all of them may take.
        progress: Told the share of the answers that are there.
    """
    if not (folder / "names.json").exists():
        few = ask(batches.take(np.arange(2)))
        size = sum(array[0].size * 4 for array in few.values()) * len(batches.data)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if size > min(MOST, SHARE * shutil.disk_usage(folder.parent).free):
            return None
        if not _write(folder, few, ask, batches, seconds, progress):
            return None
    names = json.loads((folder / "names.json").read_text())
    return {name: np.load(folder / f"{place}.npy", mmap_mode="r") for place, name in enumerate(names)}


def _write(
    folder: Path, few: Mapping[str, Array], ask: Ask, batches: Batches, seconds: float,
    progress: Callable[[float], None],
) -> bool:  # fmt: skip
    """Keep all answers; false where that takes too long."""
    begun = time.monotonic()
    part, count = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent)), len(batches.data)
    try:
        files = {
            name: np.lib.format.open_memmap(part / f"{place}.npy", "w+", np.float32, (count, *array.shape[1:]))
            for place, (name, array) in enumerate(few.items())
        }
        for start in range(0, count, PIECE):
            rows = np.arange(start, min(start + PIECE, count))
            for name, array in ask(batches.take(rows)).items():
                files[name][rows] = array
            progress(start / count)
            if (time.monotonic() - begun) * count > seconds * (rows[-1] + 1) and start > PIECE:
                return False
        for file in files.values():
            file.flush()
        (part / "names.json").write_text(json.dumps(list(few)))
        part.replace(folder)
        return True
    finally:
        shutil.rmtree(part, ignore_errors=True)
