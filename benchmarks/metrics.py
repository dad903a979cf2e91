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


def note_f1(outputs: dict[str, Array], labels: Array) -> tuple[Array, Array]:
    """F1 of the notes that Basic Pitch hears: of the same key, begun within 50 ms of each other.

    Notes are made of its outputs by its own thresholds (Bittner et al. 2022, arXiv:2203.09893): from a peak of the
    onsets of 0.5 or more, as long as the note stays at 0.3 or above, at least 11 frames.

    Args:
        outputs: float32[windows, frames, 88] of onsets and of notes, as named by the .tflite file or the .onnx file.
        labels: int[windows, most, 2] of frame and key, padded with -1.

    Returns:
        Per window, twice the notes that are right, and those heard with those played.
    """
    onsets, notes = (outputs.get(a, outputs.get(b)) for a, b in (("onset", _GRAPH + "2"), ("note", _GRAPH + "1")))
    assert onsets is not None and notes is not None
    right, both = np.zeros(len(labels)), np.zeros(len(labels))
    for row, (onset, note, written) in enumerate(zip(onsets, notes, labels, strict=True)):
        played = [(int(key), int(frame)) for frame, key in written if frame >= 0]
        heard = _heard(onset, note)
        right[row], both[row] = 2 * _agreeing(heard, played), len(heard) + len(played)
    return right, both


_GRAPH = "StatefulPartitionedCall:"
_SHORTEST = 11  # frames
_NEAR = 0.05 * 22050 / 256  # frames


def _heard(onset: Array, note: Array) -> list[tuple[int, int]]:
    """Key and first frame of every note."""
    before, after = np.pad(onset, ((1, 0), (0, 0)))[:-1], np.pad(onset, ((0, 1), (0, 0)))[1:]
    peaks = (onset >= 0.5) & (onset >= before) & (onset > after)
    found = []
    for frame, key in np.argwhere(peaks):
        below = np.flatnonzero(note[frame:, key] < 0.3)
        if (below[0] if len(below) else len(note) - frame) >= _SHORTEST:
            found.append((int(key), int(frame)))
    return found


def _agreeing(heard: list[tuple[int, int]], played: list[tuple[int, int]]) -> int:
    """How many pairs of notes there are, each note in one at the most; of one key, in order."""
    left, pairs = sorted(played), 0
    for key, frame in sorted(heard):
        near = next((other for other in left if other[0] == key and abs(other[1] - frame) <= _NEAR), None)
        if near is not None:
            left.remove(near)
            pairs += 1
    return pairs


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
