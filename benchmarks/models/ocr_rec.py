"""PP-OCRv4 text recognition: which characters a picture of a word holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ._case import Case
from ._fetch import from_wheel
from ._packages import RAPIDOCR
from ._text import font, fonts, noisy, words

SAMPLES, HEIGHT, WIDTH, MARGIN, NOISE = 600, 48, 160, 4, 26


def build(folder: Path) -> None:
    """Write the model and rendered words: x float32[600, 3, 48, 160], labels int64[600, 9], padded with -1.

    A label is the index of a character in the model's outputs, where 0 is CTC's blank.
    """
    import onnx

    file = folder / "model.onnx"
    file.write_bytes(from_wheel(RAPIDOCR(), "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"))
    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    indices = {character: index for index, character in enumerate(metadata["character"].split("\n"), start=1)}

    rng = np.random.default_rng(0)
    faces = fonts()
    drawn = words(rng, SAMPLES)
    labels = np.full((SAMPLES, max(map(len, drawn))), -1, np.int64)
    for row, word in enumerate(drawn):
        labels[row, : len(word)] = [indices[character] for character in word]
    np.savez(folder / "data.npz", x=np.stack([_picture(rng, word, faces) for word in drawn]), labels=labels)


def _picture(rng: np.random.Generator, word: str, faces: list[bytes]) -> np.ndarray[Any, Any]:
    """A word cut out closely, scaled to the height of the network's input and padded with zeros, as PP-OCR does."""
    from PIL import Image, ImageDraw

    face, size = faces[rng.integers(len(faces))], int(rng.integers(14, 32))
    box = font(face, size).getbbox(word)
    left, top, right, bottom = box
    width = min(WIDTH, int((right - left) * HEIGHT / (bottom - top + 2 * MARGIN)) + 2 * MARGIN)
    picture = Image.new("L", (right - left + 2 * MARGIN, bottom - top + 2 * MARGIN), int(rng.integers(180, 256)))
    ImageDraw.Draw(picture).text((MARGIN - left, MARGIN - top), word, int(rng.integers(0, 100)), font(face, size))
    padded = np.zeros((3, HEIGHT, WIDTH), np.float32)
    padded[:, :, :width] = noisy(rng, picture.resize((width, HEIGHT), Image.Resampling.BICUBIC), NOISE)
    return padded


CASE = Case(
    "pp-ocrv4-rec",
    build,
    quality="character_error",
    limit="drop(metrics:character_error) <= 0.01",
    peers="metrics:characters_right",
)
