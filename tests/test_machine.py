"""Machine: what is timed is what is said, nothing heavy enters the driver, and a failure costs its own line."""

from __future__ import annotations

import fcntl
import math
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from strop import _bandwidth, _products, _rounds, jobs, machine, timing
from strop._multiplying import OPERATORS, given, input_shape, operations_a_layer
from strop._products import LIBRARIES, Product, graph, products
from strop._products_litert import content
from strop._rounds import ROUNDS, in_turn, median
from strop.jobs import Ended
from strop.machine import Measured, alone, measure
from strop.stats import Interval
from strop.target import Target

POINT = Interval(1.0, 1.0, 1.0)


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """Leave this process where it is, and note the cores that it would be kept to."""
    asked: list[Sequence[int]] = []
    for module in (_products, _bandwidth):
        monkeypatch.setattr(module, "pin", asked.append)
    return asked


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time a single call a block."""
    monkeypatch.setattr(_products, "in_turn", lambda calls: in_turn(calls, 0.0))


# rounds


def test_calls_take_turns_and_so_does_who_is_first() -> None:
    log: list[str] = []
    in_turn({name: lambda name=name: log.append(name) for name in ("a", "b")}, 0.0)  # type: ignore[misc]
    assert log[:2] == ["a", "b"], "warm-up"
    rounds = ["".join(log[at : at + 2]) for at in range(2, len(log), 2)]
    assert rounds == [("ba", "ab")[turn % 2] for turn in range(ROUNDS)]


def test_rates_are_calls_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(_rounds.time, "perf_counter", lambda: now[0])

    def taking(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    rates = in_turn({"quick": taking(0.25), "slow": taking(2.0)}, seconds=1.0)
    assert rates["quick"] == pytest.approx(np.full(ROUNDS, 4.0))
    assert rates["slow"] == pytest.approx(np.full(ROUNDS, 0.5))


def test_the_bounds_of_a_median_hold_it() -> None:
    assert median(np.arange(1.0, 10.0)) == Interval(5.0, 2.0, 8.0)
    drawn = np.random.default_rng(0).lognormal(size=(4000, ROUNDS))
    found = [median(values) for values in drawn]
    error = 3 * math.sqrt(0.02 * 0.98 / len(found))
    assert np.mean([interval.low > 1 for interval in found]) <= 10 / 512 + error
    assert np.mean([interval.high < 1 for interval in found]) <= 10 / 512 + error


# products


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_a_graph_computes_what_its_operations_say(operator: str, precision: str) -> None:
    proto = graph(operator, precision, threads=2, layers=3)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(input_shape(operator, 2), np.float32)
    (y,) = session.run(["y"], {"x": x})
    assert y.shape == x.shape
    assert 0.05 < y.std() < 5, "neither fades nor overflows on the way through the layers"


def test_operations_are_those_that_ones_add_up_to() -> None:
    """A graph of ones counts its own multiplications: each adds 1 to the sum of what comes out."""
    for operator in OPERATORS:
        proto = graph(operator, "f32", threads=2, layers=1)
        (weights,) = [tensor for tensor in proto.graph.initializer if tensor.name == "w0"]
        weights.CopyFrom(onnx.numpy_helper.from_array(np.ones(tuple(weights.dims), np.float32), "w0"))
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {"x": np.ones(input_shape(operator, 2), np.float32)})
        assert operations_a_layer(operator, 2) == 2 * y.sum(dtype=np.float64)


def test_int8_is_near_float_where_both_are_non_negative() -> None:
    positive = np.abs(np.random.default_rng(1).standard_normal(input_shape("dense", 1), np.float32))
    exact, rounded = (
        onnxruntime.InferenceSession(graph("dense", precision, 1, layers=1).SerializeToString()).run(
            None, {"x": positive}
        )[0]
        for precision in ("f32", "int8")
    )
    assert np.abs(np.clip(exact, 0, 4) - rounded).mean() < 0.05


def test_onnxruntime_runs_both_precisions_as_asked(unpinned: list[Sequence[int]], brief: None) -> None:
    found = products("onnxruntime", (0, 1))
    assert unpinned == [(0, 1)]
    assert [(p.operator, p.precision) for p in found] == [
        (operator, precision) for operator in OPERATORS for precision in ("f32", "int8")
    ]
    for product in found:
        assert (product.runtime, product.threads, product.ran) == ("onnxruntime", 2, product.precision)
        assert product.rate is not None
        assert 0 < product.rate.low <= product.rate.value <= product.rate.high
        assert (product.ratio is None) == (product.precision == "f32")


def test_openvino_runs_int8_as_asked(unpinned: list[Sequence[int]], brief: None) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    found = {(p.operator, p.precision): p for p in products("openvino", (1,))}
    assert {key: p.ran for key, p in found.items() if key[1] != "bf16"} == {
        (operator, precision): precision for operator in OPERATORS for precision in ("f32", "int8")
    }
    for operator in OPERATORS:
        bf16 = found[operator, "bf16"]
        assert (bf16.rate is not None) == (bf16.ran == "bf16"), "what ran in another precision has no figure"


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("precision", "off"), [("f32", 1e-5), ("int8", 0.2)])
def test_litert_multiplies_what_the_others_do(operator: str, precision: str, off: float) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra litert")
    made = litert.Interpreter(model_content=content(operator, precision, 2), num_threads=1)
    made.allocate_tensors()
    x = np.abs(given(operator, 2))  # int8 has no steps left for one side only: ONNX's ends at 0, this one's does not
    turned = x if x.ndim < 4 else x.transpose(0, 2, 3, 1)
    made.set_tensor(made.get_input_details()[0]["index"], turned)
    made.invoke()
    y = made.get_tensor(made.get_output_details()[0]["index"])
    session = onnxruntime.InferenceSession(graph(operator, "f32", 2).SerializeToString())
    (right,) = session.run(None, {"x": x})
    right = right if right.ndim < 4 else right.transpose(0, 2, 3, 1)
    assert y.shape == right.shape and np.square(y - right).mean() < off * np.square(right).mean()
    kinds = {tensor["dtype"].__name__ for tensor in made.get_tensor_details()}
    assert ("int8" in kinds) == (precision == "int8"), "its kernels are chosen by these"


def test_litert_runs_both_precisions_as_asked(unpinned: list[Sequence[int]], brief: None) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    found = products("litert", (1,))
    assert [(p.operator, p.precision) for p in found] == [
        (operator, precision) for operator in OPERATORS for precision in ("f32", "int8")
    ]
    assert all(product.ran == product.precision and product.rate and product.rate.low > 0 for product in found)


class FakeCore:
    """OpenVINO on a machine of one's choice: says in what its products ran."""

    def __init__(self, *ran: str):
        self.ran, self.options = ran, dict[str, Any]()

    def Core(self) -> FakeCore:
        return self

    def read_model(self, content: bytes) -> bytes:
        return content

    def compile_model(self, model: bytes, device: str, options: dict[str, Any]) -> FakeCore:
        self.options = options
        return self

    def get_runtime_model(self) -> FakeCore:
        return self

    def get_ops(self) -> list[Any]:
        kinds = [("Input", "f32"), *(("FullyConnected", kind) for kind in self.ran)]
        return [SimpleNamespace(get_rt_info=lambda k=kind: {"layerType": Text(k[0]), "runtimePrecision": Text(k[1])})
                for kind in kinds]  # fmt: skip

    def create_infer_request(self) -> FakeCore:
        return self

    def infer(self, feed: object, share_inputs: bool) -> None:
        return None


class Text(str):
    def astype(self, kind: type) -> str:
        return str(self)


@pytest.mark.parametrize(
    ("told", "ran"),
    [(("bf16", "bf16"), "bf16"), (("f32",), "f32"), (("u8", "i8"), "int8"), (("u8", "f32"), "f32 and int8")],
)
def test_openvino_tells_in_what_it_ran(monkeypatch: pytest.MonkeyPatch, told: tuple[str, ...], ran: str) -> None:
    core = FakeCore(*told)
    monkeypatch.setattr(_products, "openvino", lambda: core)
    call, found = _products._openvino("dense", "bf16", 3)
    call()
    assert found == ran
    assert core.options["INFERENCE_PRECISION_HINT"] == "bf16"
    assert core.options["INFERENCE_NUM_THREADS"] == 3


# memory


def test_caches_as_the_system_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = [("Data", 1, "32K", "own"), ("Instruction", 1, "32K", "own"), ("Unified", 2, "1024K", "own"),
            ("Unified", 3, "32M", "0-1"), ("Unified", "?", "", "0")]  # fmt: skip
    for core in range(2):
        for at, (kind, level, size, shared) in enumerate(told):
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{at}"
            folder.mkdir(parents=True)
            shared = str(core) if shared == "own" else shared
            for name, text in {"type": kind, "level": level, "size": size, "shared_cpu_list": shared}.items():
                (folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(_bandwidth, "CPUS", tmp_path)
    assert _bandwidth.caches((0, 1)) == [
        {"level": 1, "bytes": 32 << 10, "count": 2},
        {"level": 2, "bytes": 1 << 20, "count": 2},
        {"level": 3, "bytes": 32 << 20, "count": 1},
    ]
    assert [cache["count"] for cache in _bandwidth.caches((1,))] == [1, 1, 1]
    assert _bandwidth.caches((7,)) == [], "a core that the system tells nothing of"


@pytest.mark.parametrize(
    ("last", "free", "wanted"),
    [
        (32 << 20, 1 << 40, 128 << 20),
        (0, 1 << 40, 64 << 20),
        (384 << 20, 1 << 40, 1 << 30),
        (32 << 20, 80 << 20, 10 << 20),
    ],
)
def test_arrays_outgrow_the_caches_and_leave_memory_free(
    monkeypatch: pytest.MonkeyPatch, last: int, free: int, wanted: int
) -> None:
    monkeypatch.setattr(_bandwidth, "caches", lambda cores: [{"level": 3, "bytes": last, "count": 1}] if last else [])
    monkeypatch.setattr(_bandwidth.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    assert _bandwidth.array_bytes((0, 1)) == wanted


def test_every_thread_copies_its_piece(unpinned: list[Sequence[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bandwidth, "array_bytes", lambda cores: 1 << 16)
    monkeypatch.setattr(_bandwidth, "in_turn", lambda calls: in_turn(calls, 0.0))
    copied: list[int] = []
    monkeypatch.setattr(_bandwidth.np, "copyto", lambda to, of: copied.append(of.nbytes))
    found = _bandwidth.bandwidth([(0, 1), (1,)])
    assert unpinned == [(0, 1), (1,)]
    assert copied == [1 << 15] * 2 * (ROUNDS + 1) + [1 << 16] * (ROUNDS + 1)
    assert all(0 < rate.low <= rate.value <= rate.high for rate in found.values())


# the whole


class Jobs:
    """Stands in for processes: answers by the function's name, or by what it is given."""

    def __init__(self, **answers: Ended[Any]):
        self.answers, self.asked = answers, list[tuple[Any, ...]]()

    def run(self, function: Callable[..., Any], *args: object, limits: jobs.Limits) -> Ended[Any]:
        self.asked.append((function.__name__, *args))
        return self.answers.get(str(args[0]), self.answers.get(function.__name__, Ended("done", value=None)))


ANSWERS = {
    "onnxruntime": Ended("done", value=[Product("onnxruntime", "dense", "f32", 2, "f32", POINT)]),
    "openvino": Ended("done", value=[Product("openvino", "dense", "f32", 2, "f32", POINT)]),
    "litert": Ended("done", value=[Product("litert", "dense", "f32", 2, "f32", POINT)]),
    "bandwidth": Ended("done", value={2: POINT, 1: POINT}),
    "against_itself": Ended("done", value=({"latency.p50": POINT}, ("some turns were disturbed",))),
}


def measured(
    monkeypatch: pytest.MonkeyPatch, folder: Path, threads: int = 2, **answers: Ended[Any]
) -> tuple[Measured, Jobs, list[str]]:
    fake = Jobs(**{**ANSWERS, **answers})
    said: list[str] = []
    monkeypatch.setattr(machine.jobs, "run", fake.run)
    monkeypatch.setattr(machine, "quiet_cores", lambda count: (0, 1)[-count:])
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(timing, "LOCK", folder / "measuring.lock")
    return measure(Target(threads), said.append), fake, said


def test_all_is_measured_on_all_threads_and_on_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: True)
    found, fake, said = measured(monkeypatch, tmp_path)
    assert [p.runtime for p in found.products] == ["onnxruntime"] * 2 + ["openvino"] * 2 + ["litert"] * 2
    assert (found.threads, found.bandwidth, found.noise) == (2, {2: POINT, 1: POINT}, {"latency.p50": POINT})
    assert (found.notes, found.missing) == (("some turns were disturbed",), {})
    assert fake.asked == [
        *[("products", runtime, cores) for runtime in LIBRARIES for cores in ((0, 1), (1,))],
        ("bandwidth", [(0, 1), (1,)]), ("against_itself", Target(2)),
    ]  # fmt: skip
    assert len(said) == len(fake.asked)
    assert measured(monkeypatch, tmp_path, threads=1)[1].asked[-2] == ("bandwidth", [(1,)])


def test_a_runtime_that_is_missing_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: name not in ("openvino", "ai_edge_litert"))
    found, _, _ = measured(monkeypatch, tmp_path)
    assert {p.runtime for p in found.products} == {"onnxruntime"}
    assert found.missing == {}


def test_a_crash_costs_its_line_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: True)
    crash: Ended[Any] = Ended("crashed", reason="its process was killed by SIGILL")
    found, _, _ = measured(monkeypatch, tmp_path, openvino=crash, against_itself=crash)
    assert {p.runtime for p in found.products} == {"onnxruntime", "litert"}
    assert found.bandwidth
    assert (found.noise, found.notes) == ({}, ())
    assert found.missing == dict.fromkeys(
        ["products through openvino (2 threads)", "products through openvino (1 thread)", "the noise floor"],
        crash.reason,
    )


def test_it_waits_for_another_strop_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timing, "LOCK", tmp_path / "measuring.lock")
    monkeypatch.setattr(jobs, "PATIENCE", 0.01)
    told, entered = threading.Event(), threading.Event()

    def enter() -> None:
        with alone(lambda text: told.set()):
            entered.set()

    with timing.LOCK.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert told.wait(30)
        assert not entered.is_set()
    waiting.join(30)
    assert entered.is_set()


def test_nothing_is_said_where_nobody_measures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timing, "LOCK", tmp_path / "measuring.lock")
    said: list[str] = []
    with alone(said.append):
        timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        for timer in timers:
            timer.join(30)
    assert said == []


def test_the_floor_is_the_farther_bound() -> None:
    assert machine.floor(Interval(1.0, 0.97, 1.01)) == pytest.approx(0.03)
    assert machine.floor(Interval(1.01, 0.99, 1.05)) == pytest.approx(0.05)
