"""Silero VAD: whether someone speaks, step by step; its state is fed back."""

from __future__ import annotations

import io
import wave
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ._case import Case
from ._fetch import from_deb, from_wheel
from ._packages import PROMPTS, SILERO

Array = np.ndarray[Any, Any]

NOT_SPOKEN = ("/silence/", "beep", "monkeys")
RATE, STEP, CONTEXT = 16000, 512, 64
SEQUENCES, STEPS = 240, 60
NOISE = 0.3
"""Standard deviation of the noise, as a share of the speech's own root mean square."""
SPEAKS = 0.05
"""A step holds speech where its root mean square is above this share of the loudest step of its sequence,"""
ECHO = 2
"""or where one of so many steps before it does: a voice fades slowly, and the network waits for that."""


def build(file: str, folder: Path) -> None:
    """Write the model and spoken prompts: input float32[240, 60, 576], labels int64[240, 60], 1 where there is speech.

    Each step holds the last 64 values of the one before it and 512 new ones, at 16 kHz. A model that also asks for the
    sampling rate gets `sr`, an int64 without axes: the same for all sequences.
    """
    content = from_wheel(SILERO(), f"silero_vad/data/{file}")
    (folder / "model.onnx").write_bytes(content)
    rng = np.random.default_rng(0)
    sounds = {path: sound for fetch in PROMPTS.values() for path, sound in from_deb(fetch(), ".wav").items()}
    spoken = [sound for path, sound in sounds.items() if not any(name in path for name in NOT_SPOKEN)]
    prompts = [_upsampled(sound) for sound in spoken if len(sound) > 2 * RATE]
    clips, labels = zip(*(_clip(rng, prompts) for _ in range(SEQUENCES)), strict=True)
    rate = {} if "openvino_16k" in file else {"sr": np.array(RATE)}
    np.savez(folder / "data.npz", input=np.stack(clips), labels=np.stack(labels), **rate)


def _upsampled(sound: bytes) -> Array:
    """Sound of 8 kHz as float32 at 16 kHz, by zeros above the half of its spectrum."""
    with wave.open(io.BytesIO(sound)) as stream:
        samples = np.frombuffer(stream.readframes(stream.getnframes()), np.int16) / 2**15
    factor = RATE // 8000
    return np.fft.irfft(np.fft.rfft(samples) * factor, len(samples) * factor).astype(np.float32)


def _clip(rng: np.random.Generator, prompts: list[Array]) -> tuple[Array, Array]:
    """Prompts with pauses between them, in noise, cut into steps; and which steps hold speech."""
    length = STEPS * STEP
    pieces = [np.zeros(int(rng.uniform(0, 0.8) * RATE), np.float32)]
    while sum(map(len, pieces)) < length:
        pause = np.zeros(int(rng.uniform(0.3, 1) * RATE), np.float32)
        pieces += [prompts[rng.integers(len(prompts))][: 2 * RATE], pause]
    clean = np.concatenate(pieces)[:length]
    loud = np.sqrt(np.mean(clean.reshape(STEPS, STEP) ** 2, axis=1))
    speaks = loud > SPEAKS * loud.max()
    for _ in range(ECHO):
        speaks[1:] |= speaks[:-1]
    level = np.sqrt(np.mean(clean[clean != 0] ** 2))
    heard = np.concatenate([np.zeros(CONTEXT), clean + rng.normal(0, NOISE * level, length)]).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(heard, CONTEXT + STEP)[::STEP], speaks.astype(np.int64)


CASE = Case("silero-vad", partial(build, "silero_vad.onnx"), quality="auroc", limit="auroc >= 99% of original")
FIXED = Case(
    "silero-vad-16k", partial(build, "silero_vad_openvino_16k.onnx"), quality="auroc", limit="auroc >= 99% of original"
)
