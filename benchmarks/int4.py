"""Weights in 4 bits on this CPU, in OpenVINO and ONNX Runtime, beside 8 bits and floats: writes `int4.md`.

    pip install -e '.[openvino]' && pip install -r benchmarks/requirements.txt
    python benchmarks/int4.py

MiniLM on 128 tokens, which computes much with each weight; and eight products of 2,048 x 2,048 for one row, which do
nothing but read their weights. Fidelity is the mean cosine of outputs with those of float32, on one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from mixed import cosine, flat
from onnx import parser
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from models import CACHE
from strop._quiet import nncf, openvino
from strop.target import cpu_name

HERE = Path(__file__).parent
ROUNDS, SAMPLES = 30, 8
WIDTH, DEEP = 2048, 8
BLOCK = 32  # weights that share a scale

Feeds = list[dict[str, np.ndarray]]
Call = Callable[[Mapping[str, np.ndarray]], Any]


def main() -> None:
    lines = [
        "# Weights in 4 bits", "",
        f"Written by `benchmarks/int4.py`; {cpu_name()}, 1 thread. Latency over float32's in OpenVINO, timed in turns "
        f"({ROUNDS} calls, the median of ten blocks' least, and the least and greatest of these); size of the file; "
        "fidelity.", "",
        "| model | made | latency | size (MB) | fidelity |", "|---|---|---|---|---|",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for name, file, feeds in cases(Path(scratch)):
            for row in measured(file, feeds, Path(scratch)):
                lines.append(f"| {name} | {' | '.join(row)} |")
            (HERE / "int4.md").write_text("\n".join(lines) + "\n")


def cases(scratch: Path) -> list[tuple[str, Path, Feeds]]:
    with np.load(CACHE / "minilm-l6" / "data.npz") as stored:
        given = {name: stored[name][:SAMPLES] for name in ("input_ids", "attention_mask")}
    texts = [{name: array[row : row + 1] for name, array in given.items()} for row in range(SAMPLES)]
    rng = np.random.default_rng(0)
    rows = [{"x": rng.normal(size=(1, WIDTH)).astype(np.float32)} for _ in range(SAMPLES)]
    file = CACHE / "minilm-l6" / "model.onnx"
    return [
        (f"{DEEP} products of {WIDTH} x {WIDTH}", products(scratch / "products.onnx"), rows),
        ("MiniLM, 128 tokens", file, texts),
    ]  # fmt: skip


def products(file: Path) -> Path:
    rng, lines, last = np.random.default_rng(1), [], "x"
    names = [f"w{number}" for number in range(DEEP)]
    for number, name in enumerate(names):
        made = "y" if number == DEEP - 1 else f"h{number}"
        lines.append(f"m{number} = MatMul({last}, {name}) {made} = Relu(m{number})")
        last = made
    text = f"g (float[1, {WIDTH}] x) => (float[1, {WIDTH}] y) {{ {' '.join(lines)} }}"
    graph = parser.parse_graph(text)
    scale = (2 / WIDTH) ** 0.5
    for name in names:
        weights = (rng.normal(size=(WIDTH, WIDTH)) * scale).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, file)
    return file


def measured(file: Path, feeds: Feeds, scratch: Path) -> list[list[str]]:
    calls: dict[str, tuple[Call, int]] = {}
    core = openvino().Core()
    with nncf() as library:
        modes = library.CompressWeightsMode
        made: dict[str, Callable[[Any], Any]] = {
            "float32": lambda graph: graph,
            "int8 weights": lambda graph: library.compress_weights(graph, mode=modes.INT8_ASYM),
            "int4 weights": lambda graph: library.compress_weights(
                graph, mode=modes.INT4_SYM, group_size=BLOCK, ratio=1.0, all_layers=False
            ),
        }
        for name, make in made.items():
            path = scratch / f"{len(calls)}.xml"
            openvino().save_model(make(openvino().convert_model(file)), path, compress_to_fp16=False)
            calls[f"OpenVINO, {name}"] = loaded(core, path, "f32")
            calls[f"OpenVINO in bf16, {name}"] = loaded(core, path, "bf16")
    for name, bits in (("float32", 0), ("int8 weights", 8), ("int4 weights", 4)):
        for level in (0, 4) if bits else (0,):
            path = scratch / f"{name}-{level}.onnx"
            if bits:
                quantizer = MatMulNBitsQuantizer(
                    onnx.load(file), bits=bits, block_size=BLOCK, is_symmetric=True, accuracy_level=level
                )
                quantizer.process()
                onnx.save(quantizer.model.model, path)
            else:
                path.write_bytes(file.read_bytes())
            calls[f"ONNX Runtime, {name}{', int8 products' if level else ''}"] = session(path)
    return timed(calls, feeds)


def loaded(core: Any, path: Path, hint: str) -> tuple[Call, int]:
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(path, "CPU", options).create_infer_request()
    size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
    return lambda feed: list(request.infer(feed).values()), size


def session(path: Path) -> tuple[Call, int]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    run = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run
    return lambda feed: run(None, dict(feed)), path.stat().st_size


def timed(calls: Mapping[str, tuple[Call, int]], feeds: Feeds) -> list[list[str]]:
    first = next(iter(calls))
    outputs = {name: [flat(call(feed)) for feed in feeds] for name, (call, _) in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS):
        for name, (call, _) in calls.items():
            call(feeds[turn % len(feeds)])
            begun = time.perf_counter()
            call(feeds[turn % len(feeds)])
            taken[name].append(time.perf_counter() - begun)
    least = {name: np.array(times).reshape(10, -1).min(axis=1) for name, times in taken.items()}
    rows = []
    for name, (_, size) in calls.items():
        ratios = least[name] / least[first]
        alike = np.mean([cosine(one, right) for one, right in zip(outputs[name], outputs[first], strict=True)])
        rows.append([
            name, f"{np.median(ratios):.2f}x ({ratios.min():.2f} to {ratios.max():.2f})", f"{size / 1e6:.1f}",
            f"{alike:.4f}",
        ])  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
