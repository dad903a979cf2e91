"""What binds a model, and what single steps do to it then: what is expected beside what is measured. Writes `bound.md`.

    pip install -e '.[openvino]'
    python benchmarks/bound.py

Models that one thing binds: products so small that a call takes its time for itself, products for one row, which do
nothing but read their weights, and products and convolutions that compute much with each weight. Two more tell what
zeros among weights are worth, and one what fewer bits are to tables of which a call looks up a few rows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from strop import formats, jobs
from strop.data import Data
from strop.errors import NotApplicable
from strop.insight import burden_of, observe, peaks
from strop.model import ONNX, Model
from strop.plan import Route, told
from strop.runtimes import Onnxruntime, Openvino
from strop.server import Hosted, first_feeds
from strop.target import Target, cpu_name
from strop.technique import Context, Technique, apply
from strop.techniques import DynamicInt8, OpenvinoInt8, OpenvinoInt8Weights, StaticInt8, ToOpenvino
from strop.timing import one_at_a_time

HERE = Path(__file__).parent
ROUNDS, SAMPLES, ZEROS = 200, 64, 0.7
ONE = Target(threads=1)
LIMITS = jobs.Limits(300, 1 << 62)
ROUTES: tuple[tuple[type[Technique], ...], ...] = (
    (), (DynamicInt8,), (StaticInt8,), (ToOpenvino,), (ToOpenvino, OpenvinoInt8), (ToOpenvino, OpenvinoInt8Weights)
)  # fmt: skip

Case = tuple[onnx.GraphProto, np.ndarray]


def products(width: int, deep: int, rows: int = 1, zeros: float = 0.0) -> Case:
    rng = np.random.default_rng(0)
    given = ["N", str(rows), str(width)] if rows > 1 else ["N", str(width)]
    weights = [(rng.normal(size=(width, width)) * (2 / width) ** 0.5).astype(np.float32) for _ in range(deep)]
    for array in weights:
        array[rng.random(array.shape) < zeros] = 0
    shape = (SAMPLES, *map(int, given[1:]))
    return chain("MatMul", ", ".join(given), weights), rng.normal(size=shape).astype(np.float32)


def convolutions(channels: int, size: int, deep: int) -> Case:
    rng = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    weights = [(rng.normal(size=shape) * (2 / channels / 9) ** 0.5).astype(np.float32) for _ in range(deep)]
    samples = rng.normal(size=(SAMPLES, channels, size, size)).astype(np.float32)
    return chain("Conv <pads = [1, 1, 1, 1]>", f"N, {channels}, {size}, {size}", weights), samples


def chain(operator: str, shape: str, weights: Sequence[np.ndarray]) -> onnx.GraphProto:
    """Operators in a row, a ReLU behind each."""
    last = len(weights) - 1
    lines = [
        f"m{at} = {operator} ({f'h{at - 1}' if at else 'x'}, w{at}) {'y' if at == last else f'h{at}'} = Relu (m{at})"
        for at in range(len(weights))
    ]
    graph = parser.parse_graph(f"g (float[{shape}] x) => (float[{shape}] y) {{ {' '.join(lines)} }}")
    graph.initializer.extend(numpy_helper.from_array(array, f"w{at}") for at, array in enumerate(weights))
    return graph


def tables() -> Case:
    """A table of 50,000 rows, of which a call looks up 64, and a product."""
    rng = np.random.default_rng(0)
    graph = parser.parse_graph(
        "g (int64[N, 64] x) => (float[N, 64, 256] y) { h = Gather (t, x) m = MatMul (h, w) y = Relu (m) }"
    )
    for name, rows in (("t", 50_000), ("w", 256)):
        array = rng.normal(size=(rows, 256)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))
    return graph, rng.integers(0, 50_000, (SAMPLES, 64))


CASES = {
    "overhead": lambda: products(16, 6),
    "reading weights": lambda: products(2048, 8),
    "matrix products": lambda: products(512, 6, rows=128),
    "convolutions": lambda: convolutions(64, 32, 6),
    f"reading weights, {ZEROS:.0%} zeros": lambda: products(2048, 8, zeros=ZEROS),
    f"matrix products, {ZEROS:.0%} zeros": lambda: products(512, 6, rows=128, zeros=ZEROS),
    "tables": tables,
}


def main() -> None:
    lines = [
        "# What binds a model, and what helps then", "",
        f"Written by `benchmarks/bound.py`; {cpu_name()}, 1 thread. Latency over that in float32 through ONNX Runtime: "
        f"the least of {ROUNDS} calls, in turns, which other work on the machine disturbs least (other work ran here). "
        "Beside it what is expected of the step by a profile (which orders the advice) and by the file alone (which "
        "orders a search).",
        "", "| bound by | step | measured | by a profile | by the file | built in |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in CASES.items():
            folder = Path(scratch) / str(len(least))
            rows, least[name] = measured(*make(), folder)
            lines += [f"| {name} | {' | '.join(row)} |" for row in rows]
            print("\n".join(lines[-len(rows) :]), flush=True)
        lines += ["", *sparse(least)]
    (HERE / "bound.md").write_text("\n".join(lines) + "\n")


def measured(graph: onnx.GraphProto, samples: np.ndarray, folder: Path) -> tuple[list[list[str]], float]:
    """A row a step, and the seconds of a call in float32."""
    folder.mkdir()
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(proto, folder / "model.onnx")
    model, data = formats.open(folder / "model.onnx"), Data({"x": samples})
    data.save(folder / "data")
    hosted = Hosted(model, Onnxruntime(), ONE)
    watched = jobs.run(observe, hosted, folder / "data", peaks("onnxruntime", ONE), limits=LIMITS)
    watched.raise_unless_done()
    assert watched.value is not None
    profile = burden_of(watched.value, "onnxruntime", ONE)
    feeds = list(islice(first_feeds(model.signature, data, 1)[1], 4))
    calls, rows = [], []
    for steps in ROUTES:
        begun = time.monotonic()
        try:
            made = build(model, steps, data, folder)
        except NotApplicable:
            continue
        runtime = Onnxruntime if made.format == ONNX else Openvino
        took = time.monotonic() - begun
        calls.append(runtime().load(made, ONE).bind(feeds[0]))
        expected = [
            f"{Route(steps, runtime, burden=burden).expects(ONE):.2f}x" for burden in (profile, told(model, ONE))
        ]
        rows.append([" + ".join(step.label() for step in steps) or "float32", "", *expected, f"{took:.0f} s"])
    taken = [float("inf")] * len(calls)
    with one_at_a_time():
        for _ in range(ROUNDS):
            for place, call in enumerate(calls):
                call()
                begun = time.perf_counter()
                call()
                taken[place] = min(taken[place], time.perf_counter() - begun)
    for row, seconds in zip(rows, taken, strict=True):
        row[1] = f"{seconds / taken[0]:.2f}x"
    return rows, taken[0]


def build(model: Model, steps: Sequence[type[Technique]], data: Data, folder: Path) -> Model:
    for step in steps:
        to = folder / f"{len(list(folder.iterdir()))}"
        to.mkdir()
        model = apply(step(), model, Context(data, model, ONE, 0, to))
    return model


def sparse(least: dict[str, float]) -> list[str]:
    return [
        f"{name}: {least[name] / least[name.partition(',')[0]]:.2f}x of the same without zeros.  "
        for name in least if "zeros" in name
    ]  # fmt: skip


if __name__ == "__main__":
    main()
