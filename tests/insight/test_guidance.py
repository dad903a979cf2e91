"""What fits a use and the data follows from figures, and from thresholds that experiments have found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from strop import metering
from strop.burden import Burden
from strop.caution import FEW_ROWS
from strop.data import Data
from strop.disturbance import Strain
from strop.energy import Meter
from strop.insight import Advice, Found, Guide, Row, Sensitivity, advise, guide
from strop.insight.sensitivity import Borne, Error
from strop.metering import of_one
from strop.model import KERAS, LIGHTGBM, ONNX, OPENVINO, SKLEARN, TFLITE, TORCH, Format, Model, Signature
from strop.plan import Route
from strop.runtimes import Onnxruntime, Openvino
from strop.server import Block, Hosted
from strop.stats import Interval
from strop.structure import Layer, Structure
from strop.target import Target
from strop.technique import Work
from strop.techniques import StaticInt8, ToOpenvino

TARGET = Target(threads=1)
CALL = Interval(1e-3, 1e-3, 1e-3)
NONE = Interval(0.0, 0.0, 0.0)


def row(bound: str, seconds: float, operations: float = 1.0) -> Row:
    return Row(bound, "", (bound,), seconds, operations, 0, 0.0, "f32", seconds / 4, bound)


def found(*rows: Row, layers: tuple[Layer, ...] = (), facts: dict[str, Any] | None = None) -> Found:
    return Found(Structure(layers, facts or {}), CALL, NONE, NONE, 0, 10, (), rows)


def told(
    seen: Found,
    advice: list[Advice],
    data: Data | None = None,
    format: Format = ONNX,
    bears: Sensitivity | None = None,
    counts: dict[str, int] | None = None,
) -> dict[str, str]:
    model = Model(format, None, Signature((), ()), counts=counts or {})
    guides: list[Guide] = guide(model, TARGET, seen, advice, data, bears)
    assert all(one.said.endswith(".") for one in guides)
    return {one.case: one.said for one in guides}


def samples(count: int, zeros: float = 0.0) -> Data:
    values = np.random.default_rng(0).normal(size=(count, 8, 8)).astype(np.float32)
    values[np.random.default_rng(1).random(values.shape) < zeros] = 0
    return Data({"x": values})


HELPS = [Advice("static-int8", 0.6, "It is fast"), Advice("prune-channels", 0.5, "Less; it needs train data")]


def borne(*alone: float, left: int = 0) -> Sensitivity:
    """Layers in order of the harm that each does alone; with all but one in int8 that much less."""
    groups = (Borne(f"m{at}", (f"m{at}",), Error(error), Error(sum(alone) - error)) for at, error in enumerate(alone))
    return Sensitivity("mixed-onnx", 8, "", Error(0.0), Error(sum(alone)), tuple(groups), left)


def test_few_layers_that_bear_int8_badly_are_told_from_harm_that_is_spread() -> None:
    seen = found(row("compute", 1e-3))
    few = told(seen, HELPS, bears=borne(0.05, *[0.001] * 19))["layers in int8"]
    assert few.startswith("1 of 20 layers does half of what all do") and "mixed-onnx leaves such layers" in few
    assert "6.9e-02 off" in few and "with all but m0 1.9e-02" in few
    spread = told(seen, HELPS, bears=borne(*[0.001] * 19, left=3))["layers in int8"]
    assert spread.startswith("10 of 19 layers that were tried do half") and "The harm is spread" in spread
    for nothing in (None, borne(), borne(0.0, 0.0), borne(math.inf, 0.1)):
        assert "layers in int8" not in told(seen, HELPS, bears=nothing)


def test_little_data_and_much_are_told_apart() -> None:
    seen = found(row("compute", 1e-3))
    little = told(seen, HELPS, samples(100))["your data"]
    assert little.startswith("these samples are to judge by. Should there be no more to train with: with 100 samples")
    assert "no more than 30% is pruned" in little and "benchmarks/thresholds.md" in little
    assert "no more than 50% is pruned" in told(seen, HELPS, samples(500))["your data"]
    many = told(seen, HELPS, samples(2000))["your data"]
    assert many.startswith("2,000 samples are enough to quantize") and many.endswith("(benchmarks/thresholds.md).")
    sparse = told(seen, HELPS, samples(2000, 0.9))
    assert sparse["sparse inputs"].startswith("90% of the inputs' values are zero")
    assert "no more than 50% is pruned" in sparse["your data"]
    assert "your data" not in told(seen, HELPS)


def test_of_trees_and_other_kinds_is_said_what_was_measured_of_them() -> None:
    trees = [Advice("to-native", 0.6, "")]
    said = told(found(), trees, samples(100), LIGHTGBM, counts={"trees": 500})
    assert "with 100 rows what trains a forest anew" in said["your data"] and "truncate-rounds" in said["your data"]
    assert "images" not in said["your data"] and "distill" not in said["real time"]
    many = told(found(), trees, samples(FEW_ROWS), LIGHTGBM, counts={"trees": 500})["your data"]
    assert many.startswith(f"{FEW_ROWS:,} samples are enough to prune, retrain") and "few_rows.md" in many
    assert "for networks and trees only" in told(found(), trees, samples(100), SKLEARN)["your data"]


def test_tables_and_bags_of_words_are_sparse_too() -> None:
    words = np.zeros((500, 40), np.float32)
    words[:, ::10] = 1
    said = told(found(), HELPS, Data({"x": words}))["sparse inputs"]
    assert said.startswith("90% of the inputs' values are zero, and 36 of a sample's 40 are zero in all samples")
    assert "Networks on bags of words bear that" in said
    columns = Data({"a": np.zeros(500), "b": np.zeros(500, np.int64), "c": np.arange(500) % 9, "d": np.zeros(500)})
    said = told(found(), HELPS, columns, LIGHTGBM)["sparse inputs"]
    assert "78% of the inputs' values are zero, and 3 of a sample's 4" in said and "Networks" not in said
    tokens = Data({"tokens": np.zeros((500, 128), np.int64)})
    assert "sparse inputs" not in told(found(), HELPS, tokens), "of which zero says nothing"


def test_each_use_has_its_steps() -> None:
    slow = Advice("mixed-onnx", 0.55, "It takes long to find")
    said = told(found(row("compute", 1e-3)), [HELPS[0], slow, Advice("to-openvino", 0.15, "")], samples(60_000))
    assert said["real time"].startswith("static-int8 first: about 400 µs a call")
    assert "quantize (static-int8, 60%), convert (to-openvino, 15%), and distill" in said["real time"]
    assert said["retrained often"].startswith("steps after training only: static-int8, to-openvino. ")
    assert "for 60,000 samples" in said["retrained often"] and "benchmarks/bound.md" in said["retrained often"]
    assert "nothing fits" not in said
    assert "convert (nothing is expected of it here)" in told(found(row("compute", 1e-3)), HELPS)["real time"]
    assert "prune-channels" not in told(found(row("compute", 1e-3)), HELPS)["retrained often"], "which trains"
    for format in (TFLITE, OPENVINO, TORCH, KERAS):
        assert "and distill" in told(found(row("compute", 1e-3)), HELPS, format=format)["real time"]


@pytest.mark.parametrize(
    "bound, remedy", [("compute", "more arithmetic"), ("memory", "bandwidth"), ("overhead", "Target(batch=...)")]
)
def test_where_nothing_fits_the_original_is_kept_and_figures_say_why(bound: str, remedy: str) -> None:
    said = told(found(row(bound, 8e-4), row("conversion", 2e-4)), [Advice("static-int8", 0.01, "")])["nothing fits"]
    assert "keep the original" in said and f"80% of a call is bound by {bound}" in said and remedy in said
    assert "at this machine's peaks its layers would take 250 µs" in said
    assert f"about 600 µs {'a sample' if bound == 'overhead' else 'a call'}, from 1 ms" in said


def test_what_faster_cores_and_more_of_them_would_bring_is_told_of_every_kind() -> None:
    """By the shares that one thread does, and those that wait for memory."""
    apart = told(found(row("compute", 5e-4), row("memory", 3e-4), row("overhead", 2e-4)), [])["nothing fits"]
    assert "A core twice as fast would bring a call to 650 µs, its waiting for memory aside" in apart
    assert "twice as many cores to 600 µs at the best, for one thread does 20% of it." in apart
    trees = told(found(row("latency", 1e-3)), [])["nothing fits"]
    assert "100% of a call is bound by latency" in trees and "reads that arrive sooner" in trees
    assert "to 500 µs; more cores would not help, for one thread does all of it." in trees
    most = Interval(0.9, 0.9, 0.9)
    around = told(Found(Structure(()), CALL, Interval(9e-4, 9e-4, 9e-4), most, 0, 10, ()), [])["nothing fits"]
    assert "keep the original, and run it on a stronger machine" in around
    assert "A call takes 1 ms, 90% of it around the model." in around
    assert "to 500 µs, if none of it waits for memory; twice as many cores to 950 µs at the best" in around
    nothing = told(Found(Structure(()), CALL, None, None, 0, 10, ()), [])["nothing fits"]
    assert "A call takes 1 ms." in nothing and "whether more cores help, strop benchmark" in nothing


def test_tables_and_zeros_among_the_weights_are_told() -> None:
    layers = (Layer("words", "Gather", 0, 800), Layer("dense", "MatMul", 10, 200))
    said = told(found(row("compute", 1e-3), layers=layers, facts={"zeros": 0.7}), HELPS)
    assert said["tables"].startswith("80% of the weights' bytes")
    assert said["sparse weights"].startswith("70% of the weights are zero")


def test_what_quantizing_leaves_counts_in_routes_and_in_advice(tmp_path: Path) -> None:
    expected = StaticInt8().expects(TARGET)
    burden = Burden(((Work.PRODUCTS, 0.6), (Work.OTHER, 0.4)))
    assert Route((StaticInt8,), Onnxruntime).expects(TARGET) == pytest.approx(expected)
    expected = StaticInt8().apart(TARGET).get(Work.PRODUCTS, expected)
    assert Route((StaticInt8,), Onnxruntime, burden=burden).expects(TARGET) == pytest.approx(0.4 + 0.6 * expected)
    kept = Route((ToOpenvino,), Openvino, burden=burden).expects(TARGET)
    assert kept == pytest.approx(Openvino.expects(TARGET)), "which quantizes nothing"
    model = models.case("mlp", tmp_path).model
    seen = found(row("compute", 6e-4), row("memory", 4e-4, operations=0))
    advice = {one.technique: one for one in advise(model, Hosted(model, Onnxruntime(), TARGET), TARGET, seen)}
    assert advice["static-int8"].gain == pytest.approx(0.6 * (1 - expected))
    assert "layers without convolutions or matrix products (40%) 1x" in advice["static-int8"].why
    assert "to-openvino + openvino-int8" in advice


def test_a_cpu_without_instructions_for_int8_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "int8_saturates", True)
    model = models.case("mlp", tmp_path).model
    advice = advise(model, Hosted(model, Onnxruntime(), TARGET), TARGET, found(row("compute", 1e-3)))
    said = {one.technique: "less than with VNNI" in one.why for one in advice}
    assert said["static-int8"] and said["to-openvino + openvino-int8"]
    assert not said["to-openvino + openvino-int8-weights"], "which computes in floats"
    assert not said["simplify"]
    assert "no instructions for products of 8 bits" in told(found(row("compute", 1e-3)), HELPS)["int8 on this CPU"]
    assert "int8 on this CPU" not in told(found(row("compute", 1e-3)), HELPS, format=LIGHTGBM)


def test_what_a_call_draws_is_told_of_one_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Steady(Meter):
        source = "a steady meter"

        def start(self) -> None:
            pass

        def stop(self) -> float:
            return 10.0

    class Idle:
        def __init__(self, *given: object):
            pass

        def __enter__(self) -> Idle:
            return self

        def __exit__(self, *exc: object) -> None:
            pass

        def prepare(self, data: Path, batch: int) -> int:
            return batch

        def block(self, seconds: float) -> Block:
            return Block(np.ones(5), Strain())

    monkeypatch.setattr(metering.energy, "meter", Steady)
    monkeypatch.setattr(metering, "Server", Idle)
    model = models.case("mlp", tmp_path).model
    spent = of_one(Hosted(model, Onnxruntime(), TARGET), tmp_path)
    assert (spent.joules, spent.source) == (Interval(2.0, 2.0, 2.0), "a steady meter")
    assert spent.watts > 0
