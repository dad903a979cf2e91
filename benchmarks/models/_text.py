"""Words, and pictures of words, to read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ._fetch import from_deb
from ._packages import DEJAVU, WORDS

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


def words(rng: np.random.Generator, count: int) -> list[str]:
    """English words of 3 to 9 letters, some of them capitalized, some upper case, and numbers between."""
    (listed,) = (content for path, content in from_deb(WORDS(), "american-english-small").items() if "dict" in path)
    known = [word for word in listed.decode().split() if word.isascii() and word.isalpha() and 3 <= len(word) <= 9]
    forms = [str.lower, str.lower, str.lower, str.capitalize, str.upper, lambda word: str(rng.integers(10, 10**6))]
    return [forms[rng.integers(len(forms))](known[rng.integers(len(known))]) for _ in range(count)]


def fonts() -> list[bytes]:
    """The files of several typefaces."""
    return list(from_deb(DEJAVU(), ".ttf").values())


def font(file: bytes, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(io.BytesIO(file), size)


def noisy(rng: np.random.Generator, picture: Any, noise: float) -> np.ndarray[Any, Any]:
    """A grey picture of uint8 as a noisy one of three channels in [-1, 1]: float32[3, height, width]."""
    grey = np.asarray(picture, np.float32)
    pixels = np.clip(grey + rng.normal(0, noise, (3, *grey.shape)), 0, 255)
    return ((pixels / 255 - 0.5) / 0.5).astype(np.float32)
