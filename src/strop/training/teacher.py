"""Teacher: the original's outputs for the train data, computed once a run where they are always the same."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..formats.torch import copies, named
from .batches import Batches, TrainBatch

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, "torch.Tensor"]

MOST = 4e9  # bytes to keep of outputs
SHARE = 0.2  # of the free disk, likewise
PIECE = 128


class Teacher:
    """Answers what the original says to a batch.

    Args:
        module: The original, in evaluation mode.
        names: Its outputs that hold one row a sample.
        batches: The train data.
        folder: Where its answers are kept for all that a run trains; None to ask it every time.
        seconds: What asking for all of them may take; where it would take longer, it is asked every time.
        progress: Told the share of the answers that are there.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        names: Collection[str],
        batches: Batches,
        folder: Path | None,
        seconds: float = math.inf,
        progress: Callable[[float], None] = lambda share: None,
    ):
        self.module, self.names, self.batches = module, names, batches
        self._kept: dict[str, Array] | None = None
        if folder is not None and batches.augment is None:
            self._kept = self._recall(folder, seconds, progress)

    def __call__(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        """Its outputs that are floats and of samples, by name, `[samples, ...]`."""
        if self._kept is None:
            return self.ask(batch)
        return {name: torch.from_numpy(np.array(array[batch.rows])) for name, array in self._kept.items()}

    def ask(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        """The same, from the original itself."""
        with torch.no_grad():
            answer = named(self.module(**copies(batch.inputs)))
        return {name: t.float() for name, t in answer.items() if name in self.names and t.is_floating_point()}

    def _recall(self, folder: Path, seconds: float, progress: Callable[[float], None]) -> dict[str, Array] | None:
        if not (folder / "names.json").exists():
            few = self.ask(self.batches.take(np.arange(2)))
            size = sum(tensor[0].numel() * 4 for tensor in few.values()) * len(self.batches.data)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if size > min(MOST, SHARE * shutil.disk_usage(folder.parent).free):
                return None
            if not self._write(folder, few, seconds, progress):
                return None
        names = json.loads((folder / "names.json").read_text())
        return {name: np.load(folder / f"{place}.npy", mmap_mode="r") for place, name in enumerate(names)}

    def _write(self, folder: Path, few: Outputs, seconds: float, progress: Callable[[float], None]) -> bool:
        """Keep all answers; false where that takes too long."""
        begun = time.monotonic()
        part, count = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent)), len(self.batches.data)
        try:
            files = {
                name: np.lib.format.open_memmap(part / f"{place}.npy", "w+", np.float32, (count, *tensor.shape[1:]))
                for place, (name, tensor) in enumerate(few.items())
            }
            for start in range(0, count, PIECE):
                rows = np.arange(start, min(start + PIECE, count))
                for name, tensor in self.ask(self.batches.take(rows)).items():
                    files[name][rows] = tensor.numpy()
                progress(start / count)
                if (time.monotonic() - begun) * count > seconds * (rows[-1] + 1) and start > PIECE:
                    return False
            for array in files.values():
                array.flush()
            (part / "names.json").write_text(json.dumps(list(few)))
            part.replace(folder)
            return True
        finally:
            shutil.rmtree(part, ignore_errors=True)
