"""Case: one real model, its data, and what must be kept of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One real model.

    Attributes:
        name: Its folder in the cache, and its row in the table.
        build: Writes `model.onnx` and `data.npz` into a folder.
        quality: The name of the quality metric.
        limit: The limit to keep; it spells a metric that is none of strop's own as `metrics:NAME`.
        group: The array that says which samples belong together.
        peers: The metric that judges single steps of peers, one score a sample; None where peers can't run the model.
    """

    name: str
    build: Callable[[Path], None]
    quality: str
    limit: str
    group: str | None = None
    peers: str | None = None

    def prepare(self, folder: Path) -> None:
        """Build the folder unless it is there; a build that was interrupted leaves nothing behind that looks whole."""
        if folder.exists():
            return
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self.build(unfinished)
        unfinished.rename(folder)
