"""PP-OCRv4 text detection: where a page holds text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ._case import Case
from ._fetch import from_wheel
from ._packages import RAPIDOCR
from ._text import font, fonts, noisy, words

PAGES, SIDE, NOISE = 108, 320, 20
INSET = 0.3
"""The network marks the core of a line, so far from its edges, in heights of the line (DB, arXiv:1911.08947)."""


def build(folder: Path) -> None:
    """Write the model and rendered pages: x float32[108, 3, 320, 320], labels uint8[108, 320, 320].

    A label is 1 in the core of a line.
    """
    model = from_wheel(RAPIDOCR(), "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx")
    (folder / "model.onnx").write_bytes(model)
    rng = np.random.default_rng(0)
    faces, spoken = fonts(), words(rng, 4000)
    pages, labels = zip(*(_page(rng, spoken, faces) for _ in range(PAGES)), strict=True)
    np.savez(folder / "data.npz", x=np.stack(pages), labels=np.stack(labels))


def _page(rng: np.random.Generator, spoken: list[str], faces: list[bytes]) -> tuple[np.ndarray[Any, Any], ...]:
    from PIL import Image, ImageDraw

    paper = np.linspace(rng.integers(150, 256), rng.integers(150, 256), SIDE)[None].repeat(SIDE, axis=0)
    picture = Image.fromarray(paper.astype(np.uint8))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    face, y = faces[rng.integers(len(faces))], rng.integers(8, 40)
    while True:
        size = int(rng.integers(14, 34))
        line, start = font(face, size), rng.integers(len(spoken) - 4)
        text = " ".join(spoken[start : start + rng.integers(1, 5)])
        x = int(rng.integers(4, 80))
        left, top, right, bottom = line.getbbox(text)
        if y + bottom > SIDE - 4:
            return noisy(rng, picture, NOISE), mask
        if x + right < SIDE - 4:
            ImageDraw.Draw(picture).text((x, y), text, int(rng.integers(0, 90)), line)
            inset = round(INSET * (bottom - top))
            mask[y + top + inset : y + bottom - inset, x + left + inset : x + right - inset] = 1
            y += bottom + int(rng.integers(8, 30))


CASE = Case(
    "pp-ocrv4-det",
    build,
    quality="text_f1",
    limit="metrics:text_f1 >= 99% of original",
    peers="metrics:text_f1",
)
