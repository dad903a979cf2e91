"""Optimize a 1.2 GB ONNX model whose weights lie in files of their own, and tell the peak memory of every process.

    python benchmarks/large_model.py [BUDGET]

The bound: twice the model's size plus 300 MB for each process. Prints the search's own lines, then one line a process
that used more than 300 MB; exits with 1 where one used more than the bound.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper

WIDTH, LAYERS = 4096, 18  # 18 matrices of 67 MB
SAMPLES = 60


def build(folder: Path) -> None:
    """Residual products of random matrices, scaled to keep the values in range; weights go straight to their file."""
    random = np.random.default_rng(0)
    nodes, initializers, last, offset = [], [], "x", 0
    with (folder / "weights.bin").open("wb") as stream:
        for layer in range(LAYERS):
            weights = random.standard_normal((WIDTH, WIDTH), np.float32) * (0.5 / WIDTH**0.5)
            stream.write(weights.tobytes())
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=weights.shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", weights.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            offset += weights.nbytes
            initializers.append(tensor)
            nodes += [
                helper.make_node("MatMul", [last, tensor.name], [f"p{layer}"], name=f"product{layer}"),
                helper.make_node("Tanh", [f"p{layer}"], [f"t{layer}"], name=f"tanh{layer}"),
                helper.make_node("Add", [last, f"t{layer}"], [f"y{layer}"], name=f"add{layer}"),
            ]
            last = f"y{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "x.npy", random.standard_normal((SAMPLES, WIDTH), np.float32))


def peaks(search: subprocess.Popen[bytes]) -> dict[int, tuple[int, str]]:
    """The most resident bytes of every process that the search starts, by process number, and what it was doing."""
    found: dict[int, tuple[int, str]] = {}
    while search.poll() is None:
        for process in [psutil.Process(search.pid), *psutil.Process(search.pid).children(recursive=True)]:
            try:
                resident = process.memory_info().rss
                found[process.pid] = max(found.get(process.pid, (0, "")), (resident, process.name()))
            except psutil.Error:
                continue
        time.sleep(0.1)
    return found


def main() -> int:
    budget = sys.argv[1] if len(sys.argv) > 1 else "10m"
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        folder = Path(scratch)
        build(folder)
        size = sum(file.stat().st_size for file in (folder / "model.onnx", folder / "weights.bin"))
        flags = ["--limit", "fidelity >= 0.99", "--threads", "2", "--budget", budget, "--run", folder / "run"]
        command = [sys.executable, "-m", "strop", "optimize", folder / "model.onnx", "--data", folder / "x.npy", *flags]
        search = subprocess.Popen(command)
        found = peaks(search)
        bound = 2 * size + 300e6
        print(f"model {size / 1e9:.2f} GB, bound {bound / 1e9:.2f} GB a process, exit code {search.returncode}")
        for number, (peak, name) in sorted(found.items(), key=lambda entry: -entry[1][0]):
            if peak > 300e6:
                print(f"  process {number} ({name}): {peak / 1e9:.2f} GB")
        return int(max(peak for peak, _ in found.values()) > bound)


if __name__ == "__main__":
    sys.exit(main())
