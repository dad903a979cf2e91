"""Basic Pitch, one network as .onnx and as .tflite: the same numbers through both, then each made smaller or faster.

    python benchmarks/basic_pitch.py [--budget 10m] [--only parity]

Writes `basic_pitch.md`. The sounds are synthetic chords in noise, so the notes are known.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from models._fetch import CACHE, from_wheel
from models._packages import BASIC_PITCH

from metrics import note_f1
from strop import formats
from strop.data import Data
from strop.plan import Candidate
from strop.runtime import predict
from strop.runtimes import Litert, Onnxruntime
from strop.stats import Interval
from strop.target import Target, cpu_name
from strop.units import share, spread, stored

Array = np.ndarray[Any, Any]

HERE = Path(__file__).parent
FOLDER = CACHE / "basic-pitch"
INSIDE = "basic_pitch/saved_models/icassp_2022/nmp"
RATE, WINDOW, HOP, LOWEST = 22_050, 43_844, 256, 21  # MIDI's number of key 0
WINDOWS, MOST = 500, 16
NAMES = {
    "onset": "StatefulPartitionedCall:2",
    "note": "StatefulPartitionedCall:1",
    "contour": "StatefulPartitionedCall:0",
}
GOALS = {"tflite": "size", "onnx": "latency.p50"}
LIMIT = "metrics:note_f1 >= 99% of original"


def chords(windows: int, seed: int) -> tuple[Array, Array]:
    """Windows of two seconds with two or three chords of decaying harmonic tones in noise, and the notes in them.

    Returns:
        float32[windows, 43844, 1] at 22,050 Hz, and int16[windows, 16, 2] of frame and key, padded with -1.
    """
    random = np.random.default_rng(seed)
    sounds = np.zeros((windows, WINDOW), np.float32)
    notes = np.full((windows, MOST, 2), -1, np.int16)
    for row in range(windows):
        place = 0
        starts = np.cumsum(random.uniform(0.3, 0.6, random.integers(2, 4))) - 0.2
        for start in starts:
            for key in random.choice(np.arange(24, 64), random.integers(2, 5), replace=False):
                first = int(start * RATE)
                sounds[row, first:] += tone(440 * 2 ** ((key + LOWEST - 69) / 12), WINDOW - first, random)
                notes[row, place] = round(first / HOP), key
                place += 1
        sounds[row] *= random.uniform(0.3, 0.9) / np.abs(sounds[row]).max()
        sounds[row] += random.normal(0, 10 ** random.uniform(-3.5, -2), WINDOW).astype(np.float32)
    return sounds[:, :, None], notes


def tone(hertz: float, length: int, random: np.random.Generator) -> Array:
    """A tone that is struck and dies away, its higher harmonics sooner."""
    time = np.arange(length) / RATE
    order = np.arange(1, min(12, int(RATE / 2 / hertz)) + 1)[:, None]
    loud = order ** -random.uniform(0.8, 1.6) * np.exp(-time * order**0.5 / random.uniform(0.3, 0.8))
    waves = np.sin(2 * np.pi * hertz * order * time + random.uniform(0, 2 * np.pi, order.shape))
    return ((loud * waves).sum(0) * np.minimum(1, time / 0.005) * random.uniform(0.5, 1)).astype(np.float32)


def prepare() -> None:
    """Write both files and the data of each into the cache."""
    if FOLDER.exists():
        return
    unfinished = FOLDER.with_name("basic-pitch.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    sounds, notes = chords(WINDOWS, 0)
    for kind in GOALS:
        path = unfinished / f"model.{kind}"
        path.write_bytes(from_wheel(BASIC_PITCH(), f"{INSIDE}.{kind}"))
        name = formats.open(path).signature.inputs[0].name
        np.savez(unfinished / f"{kind}.npz", allow_pickle=False, **{name: sounds, "labels": notes})
    unfinished.rename(FOLDER)


def parity() -> list[str]:
    """How far the outputs of the two files are apart, and the score of each, on windows of their own."""
    sounds, notes = chords(40, 1)
    found = {}
    for kind, runtime in (("onnx", Onnxruntime()), ("tflite", Litert())):
        model = formats.open(FOLDER / f"model.{kind}")
        runner = runtime.load(model, Target(threads=1))
        found[kind] = predict(runner, model.signature, Data({model.signature.inputs[0].name: sounds}), 1)
        runner.close()
    lines = []
    for name, other in NAMES.items():
        one, two = found["tflite"][name], found["onnx"][other]
        lines.append(f"| {name} | {np.abs(one - two).max():.1e} | {np.abs(one).max():.3g} |")
    scores = []
    for outputs in found.values():
        right, both = note_f1(outputs, notes)
        scores.append(right.sum() / both.sum())
    return [
        f"Largest difference over 40 windows, float32; note F1 is {scores[0]:.4f} through ONNX Runtime and "
        f"{scores[1]:.4f} through LiteRT.", "",
        "| output | largest difference | largest value |", "|---|---|---|", *lines,
    ]  # fmt: skip


def optimize(kind: str, budget: str) -> dict[str, Any]:
    """Search one of the two; the manifest."""
    bundle, run = CACHE / "bundles" / f"basic-pitch-{kind}", CACHE / "runs" / f"basic-pitch-{kind}"
    for old in (bundle, run):
        shutil.rmtree(old, ignore_errors=True)
        old.parent.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [Path(sys.executable).with_name("strop"), "optimize", FOLDER / f"model.{kind}"]
    command += ["--data", FOLDER / f"{kind}.npz", "--limit", LIMIT, "--minimize", GOALS[kind], "--threads", "1"]
    command += ["--budget", budget, "--seed", "0", "--out", bundle, "--run", run, "--json"]
    command += ["--target", "mobile"] if kind == "tflite" else []
    print(f"{kind} ...", file=sys.stderr, flush=True)
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    manifest: dict[str, Any] = json.loads(ran.stdout)
    return manifest


def row(kind: str, manifest: dict[str, Any]) -> str:
    made = manifest["winner"] or manifest["closest"]
    before, after = manifest["original"]["metrics"], made["metrics"]
    cells = [f".{kind}", GOALS[kind], manifest["verdict"], str(Candidate.of(made))]
    for name, unit in (("latency.p50", "s"), ("size", "bytes"), ("note_f1", "")):
        ratio = share(Interval(**{key: made["ratios"][name][key] for key in ("value", "low", "high")}))
        cells.append(f"{spread(stored(before[name]), unit)} became {spread(stored(after[name]), unit)}, {ratio}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="10m", help="of each search; 10m by default")
    parser.add_argument("--only", choices=["parity"])
    options = parser.parse_args()
    prepare()
    lines = [
        "# Basic Pitch as .onnx and as .tflite", "",
        f"Written by `benchmarks/basic_pitch.py`; {cpu_name()}, 1 thread. basic-pitch 0.4.0, {WINDOWS} windows of two "
        "seconds of synthetic chords in noise. Notes are right where the key is, and the onset within 50 ms.", "",
        "## The same numbers", "", *parity(),
    ]  # fmt: skip
    if options.only:
        print("\n".join(lines))
        return
    lines += [
        "",
        "## Within 1 % of the note F1",
        "",
        f"`{LIMIT}`, {options.budget} each; .tflite with `--target mobile`.",
        "",
    ]
    lines += ["| file | minimized | verdict | what came of it | latency.p50 | size | note F1 |", "|---" * 7 + "|"]
    manifests = {kind: optimize(kind, options.budget) for kind in GOALS}
    lines += [row(kind, manifest) for kind, manifest in manifests.items()]
    lines += ["", *(f"- .{kind}: {note}." for kind, manifest in manifests.items() for note in manifest["notes"])]
    (HERE / "basic_pitch.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
