"""What binds a model decides what helps: in a profile's advice and in a search's order, by one piece of code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from strop import burden as module
from strop import formats
from strop.burden import AROUND, UNKNOWN, Burden, of_call, of_structure
from strop.goal import Goal
from strop.insight import Found, Row, advise, burden_of
from strop.model import Model
from strop.plan import Route, routes, told
from strop.runtimes import Onnxruntime, Openvino
from strop.search import RouteSearch
from strop.server import Hosted
from strop.stats import Interval
from strop.structure import Layer, Structure
from strop.target import Target
from strop.technique import Needs, Work
from strop.techniques import (
    DynamicInt8,
    MixedOpenvino,
    OpenvinoInt8,
    OpenvinoInt8Weights,
    Simplify,
    StaticInt8,
    ToOpenvino,
)

pytest.importorskip("openvino")
TARGET = Target(threads=1)
HALVES = {True: frozenset({"avx2", "avx512f", "avx512_bf16"}), False: frozenset({"avx2"})}
STEPS = [DynamicInt8, StaticInt8, ToOpenvino, OpenvinoInt8, OpenvinoInt8Weights]
BOUND = ("overhead", "memory", "compute")


@pytest.fixture(autouse=True)
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.target.instruction_sets", lambda: HALVES[False])


def constructed(bound: str, folder: Path) -> Model:
    """Products of 16 x 16, of 2,048 x 2,048 for one row, and convolutions."""
    if bound == "compute":
        graph = parser.parse_graph(
            "g (float[N, 64, 32, 32] x) => (float[N, 64, 32, 32] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }"
        )
        weights = np.ones((64, 64, 3, 3), np.float32)
    else:
        width = 16 if bound == "overhead" else 2048
        graph = parser.parse_graph(f"g (float[N, {width}] x) => (float[N, {width}] y) {{ y = MatMul (x, w) }}")
        weights = np.ones((width, width), np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, "w"))
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(proto, folder / "model.onnx")
    return formats.open(folder / "model.onnx")


def seen(bound: str) -> Found:
    """A profile of it: 95 % of a call are bound by one thing."""
    operator = "Conv" if bound == "compute" else "MatMul"
    moved = 0 if bound == "compute" else 1000
    rows = tuple(
        Row(kind, operator, (kind,), seconds, 1.0, moved, moved, "f32", seconds, kind)
        for kind, seconds in ((bound, 9.5e-4), ("compute", 5e-5))
    )
    none = Interval(0.0, 0.0, 0.0)
    return Found(Structure(()), Interval(1e-3, 1e-3, 1e-3), none, none, 0, 10, (), rows)


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("saturates", [True, False])
@pytest.mark.parametrize("bound", BOUND)
def test_advice_and_search_rank_alike_by_what_binds(
    bound: str, saturates: bool, halves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "int8_saturates", saturates)
    monkeypatch.setattr("strop.target.instruction_sets", lambda: HALVES[halves])
    monkeypatch.setattr("strop.insight.counsel.techniques.all_techniques", lambda: STEPS)
    model, found = constructed(bound, tmp_path), seen(bound)
    advice = advise(model, Hosted(model, Onnxruntime(), TARGET), TARGET, found)
    known = burden_of(found, "onnxruntime", TARGET)
    planned, _ = routes(model, TARGET, Needs.SAMPLES, STEPS, [Onnxruntime, Openvino], burden=known)
    labels: dict[str, Route] = {}
    for route in planned:  # the most promising way of running what was made
        labels.setdefault(" + ".join(step.label() for step in route.steps), route)
    ranked = [one.technique for one in advice if one.technique in labels]
    assert ranked == [label for label in labels if label in ranked] and len(ranked) == 5 - (bound == "compute")
    for one in advice:
        assert one.gain == pytest.approx(max(0.0, 1 - labels[one.technique].expects(TARGET)))
    # and a search that is given these routes, in whatever order, tries them so
    search = RouteSearch([*labels.values()][::-1], Goal.of((), minimize="latency.p50"), TARGET, 0, tmp_path / "journal")
    forecast = sorted((search.forecast.predict(labels[name]), name) for name in ranked)
    assert [value for value, _ in forecast] == [labels[name].expects(TARGET) for name in ranked]


def gains(bound: str, folder: Path) -> dict[str, float]:
    model = constructed(bound, folder)
    advice = advise(model, Hosted(model, Onnxruntime(), TARGET), TARGET, seen(bound))
    return {one.technique: one.gain for one in advice}


def test_a_model_that_its_overhead_binds_gains_by_nothing_that_computes_faster(tmp_path: Path) -> None:
    found = gains("overhead", tmp_path)
    assert max(found.values()) < 0.05, found
    assert found["static-int8"] == found["to-openvino + openvino-int8"] == found["dynamic-int8"] == 0


def test_a_model_that_memory_binds_gains_by_smaller_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for saturates in (True, False):
        monkeypatch.setattr(Target, "int8_saturates", saturates)
        found = gains("memory", tmp_path)
        weights = found["to-openvino + openvino-int8-weights"]
        if saturates:
            assert weights == pytest.approx(1 - 0.44, abs=0.03), "as benchmarks/bound.md measured"
        else:
            assert weights > 0.6, "0.28x of OpenVINO's float32 was measured (benchmarks/int4.md)"
        assert weights > found["to-openvino"] + 0.4
        assert found["dynamic-int8"] > 0.6


def test_a_model_that_convolutions_bind_gains_by_int8_throughout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "int8_saturates", True)
    found = gains("compute", tmp_path)
    assert found["static-int8"] > found["to-openvino + openvino-int8"] > found["to-openvino"] + 0.2
    assert found["to-openvino + openvino-int8-weights"] == pytest.approx(found["to-openvino"]), "which stay in floats"
    assert "dynamic-int8" not in found


def test_int8_through_openvino_pays_for_convolutions_and_not_for_products_without_vnni(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Target, "int8_saturates", True)
    step = OpenvinoInt8()
    assert step.ratio(Work.CONVOLUTIONS, TARGET) < 0.7 < 1 <= step.ratio(Work.PRODUCTS, TARGET)
    through = {
        work: Route((ToOpenvino, OpenvinoInt8), Openvino, burden=Burden(((work, 1.0),))).expects(TARGET)
        for work in (Work.CONVOLUTIONS, Work.PRODUCTS)
    }
    assert through[Work.CONVOLUTIONS] < 0.65, "of ONNX Runtime's time in float32; the detector of PP-OCRv4 takes 0.64"
    assert through[Work.PRODUCTS] > 1.1, "MiniLM takes 1.15"
    mix = MixedOpenvino()
    assert step.ratio(Work.CONVOLUTIONS, TARGET) < mix.ratio(Work.CONVOLUTIONS, TARGET) < 1
    assert mix.ratio(Work.OTHER, TARGET) == 1 == mix.ratio(Work.PREPARATION, TARGET)
    assert Simplify().ratio(Work.OTHER, TARGET) == Simplify().expects(TARGET)
    assert Simplify().ratio(Work.OVERHEAD, TARGET) == 1


def layers(*some: tuple[str, float, float]) -> Structure:
    return Structure(tuple(Layer(name, name, work, int(read), weights=read) for name, work, read in some))


def shares(some: Burden) -> dict[Work, float]:
    return {work: pytest.approx(share) for work, share in some.shares().items()}


def test_a_file_tells_what_there_is_to_compute_and_what_has_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    some = layers(("Conv", 3e9, 1e6), ("MatMul", 1e6, 4e6), ("Gather", 0, 1e9))
    monkeypatch.setattr(module, "caches", lambda cores: [{"level": 3, "bytes": 1 << 40, "count": 1}])
    held = of_structure(some, TARGET)
    assert held.shares() == shares(Burden.of({Work.CONVOLUTIONS: 3e9, Work.PRODUCTS: 1e6}))
    monkeypatch.setattr(module, "caches", lambda cores: [{"level": 3, "bytes": 1 << 20, "count": 1}])
    far = of_structure(some, TARGET)
    assert far.shares() == shares(Burden.of({Work.CONVOLUTIONS: 3e9, Work.WEIGHTS: module.BALANCE * 4e6}))
    many = of_structure(some, Target(threads=1, batch=100)).shares()
    assert Work.WEIGHTS not in many, "each is read once for 100 samples"
    assert of_structure(layers(("Gather", 0, 10)), TARGET) == UNKNOWN
    call = of_call(far, AROUND, TARGET)
    assert call.shares()[Work.OVERHEAD] == pytest.approx(0.5)
    assert sum(call.shares().values()) == pytest.approx(1)


def test_what_disturbs_a_call_is_no_overhead_of_it() -> None:
    found = replace(seen("memory"), overhead=Interval(3e-4, 0.0, 5e-4))
    assert Work.OVERHEAD not in burden_of(found, "onnxruntime", TARGET).shares()
    steady = replace(found, overhead=Interval(1e-3, 1e-3, 1e-3))
    assert burden_of(steady, "onnxruntime", TARGET).shares()[Work.OVERHEAD] == pytest.approx(0.5)


@pytest.mark.parametrize("bound, work", [("memory", Work.PRODUCTS), ("compute", Work.CONVOLUTIONS)])
def test_a_search_knows_what_the_file_tells(
    bound: str, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "caches", lambda cores: [])
    known = told(constructed(bound, tmp_path), TARGET).shares()
    assert known[work] == pytest.approx(1 if bound == "memory" else 1 - known[Work.OVERHEAD])
    monkeypatch.setattr(module, "caches", lambda cores: [{"level": 3, "bytes": 1 << 20, "count": 1}])
    known = told(constructed(bound, tmp_path), TARGET).shares()
    assert (Work.WEIGHTS in known) == (bound == "memory")


def test_what_shrinks_leaves_the_overhead(tmp_path: Path) -> None:
    some = Burden(((Work.OVERHEAD, 0.2), (Work.PRODUCTS, 0.8)), least=0.1)
    halved: Sequence[Simplify] = [Simplify()]
    left = some.after(halved, TARGET)
    whole = 0.2 + 0.8 * Simplify().expects(TARGET)
    assert left.shares()[Work.OVERHEAD] == pytest.approx(0.2 / whole) and left.least == pytest.approx(0.1 / whole)
    assert sum(left.shares().values()) == pytest.approx(1)
