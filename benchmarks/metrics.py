"""Metrics of the real models that strop does not have by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def character_error(outputs: dict[str, Array], labels: Array) -> tuple[Array, Array]:
    """Character error rate: edits from what is read to what is written, over the characters written.

    Args:
        outputs: float32[samples, steps, characters] of a CTC recognizer, blank first.
        labels: int[samples, longest], indices of characters, padded with -1.
    """
    written = [row[row >= 0] for row in labels]
    errors = [_edits(read, row) for read, row in zip(_read(outputs), written, strict=True)]
    return np.array(errors, float), np.array([len(row) for row in written], float)


character_error.better = "lower"  # type: ignore[attr-defined]


def characters_right(outputs: dict[str, Array], labels: Array) -> Array:
    """Per sample, 1 - its character error rate."""
    errors, lengths = character_error(outputs, labels)
    return 1 - errors / lengths


def text_f1(outputs: dict[str, Array], labels: Array) -> Array:
    """Per page, F1 of the pixels that a detector takes for text, at PP-OCR's own threshold of 0.3.

    Args:
        outputs: float32[pages, 1, height, width] of probabilities.
        labels: uint8[pages, height, width], 1 in the core of a line of text.
    """
    found = next(iter(outputs.values()))[:, 0] > 0.3
    hits = (found & (labels == 1)).sum((1, 2))
    return 2 * hits / np.maximum(1, found.sum((1, 2)) + (labels == 1).sum((1, 2)))


def _read(outputs: dict[str, Array]) -> list[Array]:
    best = next(iter(outputs.values())).argmax(-1)
    changed = np.diff(best, axis=1, prepend=-1) != 0
    return [row[new & (row > 0)] for row, new in zip(best, changed, strict=True)]


def _edits(read: Array, written: Array) -> int:
    """Levenshtein's distance, a row of the table at a time."""
    row = list(range(len(written) + 1))
    for done, character in enumerate(read, start=1):
        above, row = row, [done]
        for column, wanted in enumerate(written):
            row.append(min(above[column + 1] + 1, row[column] + 1, above[column] + int(character != wanted)))
    return row[-1]
