"""Real models that ship inside packages, and data to judge them by."""

from __future__ import annotations

from . import content_type, ocr_det, ocr_rec, photo, sentence, voice
from ._case import Case
from ._fetch import CACHE

__all__ = ["CACHE", "CASES", "Case"]

CASES = (
    ocr_rec.CASE, ocr_det.CASE, content_type.CASE, sentence.CASE, voice.CASE, voice.FIXED, photo.CASE,
)  # fmt: skip
