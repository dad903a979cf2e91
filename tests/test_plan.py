"""Plan: routes are well-typed, and what is left out has a reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from strop.burden import UNKNOWN, Burden, of_call
from strop.caution import Caution
from strop.errors import InvalidPlan, NotApplicable
from strop.model import FOREST, LIGHTGBM, NATIVE, ONNX_TREES, TORCH, Format, Model, Signature, Tensor
from strop.plan import CONVERSIONS, Candidate, Route, routes, served
from strop.runtime import Runner, Runtime
from strop.runtimes import Onnxruntime, Openvino
from strop.settings import Span, choice, span
from strop.target import Target
from strop.technique import Context, Needs, Phase, Technique, Work
from strop.techniques import (
    DistillForest,
    DynamicInt8,
    MixedOpenvino,
    OpenvinoInt8,
    Retune,
    Simplify,
    StaticInt8,
    ToOnnx,
    ToOpenvino,
    TruncateRounds,
)
from strop.testing import FakeCalibrate, FakeCompile, FakeFault, FakeRound, FakeRuntime, FakeStrip, fake_model

FORMATS = [Format(name) for name in ("red", "green", "blue")]
SIGNATURE = Signature((Tensor("x", "float32", ("N", 2)),), (Tensor("y", "float32", ("N", 2)),))
ALL = Needs.SAMPLES | Needs.LABELS | Needs.TRAINING
TARGET = Target(threads=1)


class Any_(Technique):
    """Base of the techniques that Hypothesis makes."""

    def apply(self, model: Model, context: Context) -> Model:
        return model


class Loads(Runtime):
    """Base of the runtimes that Hypothesis makes."""

    module: ClassVar[str] = "json"

    def load(self, model: Model, target: Target) -> Runner:
        raise NotImplementedError


@st.composite
def techniques(draw: st.DrawFn) -> list[type[Technique]]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        attributes: dict[str, Any] = {
            "accepts": frozenset(draw(st.sets(st.sampled_from(FORMATS), min_size=1))),
            "returns": draw(st.sampled_from([None, *FORMATS])),
            "phase": draw(st.sampled_from(Phase)),
            "quantizes": draw(st.booleans()),
            "chooses": draw(st.sampled_from([None, "rounds", "leaves"])),
            "needs": draw(st.sampled_from([Needs.NOTHING, Needs.SAMPLES, Needs.LABELS, Needs.TRAINING])),
        }
        made.append(type(f"Step{number}", (Any_,), attributes))
    return made


@given(
    techniques(),
    st.sampled_from(FORMATS),
    st.sets(st.sampled_from(FORMATS), min_size=1),
    st.sets(st.sampled_from(FORMATS)),
    st.sampled_from([Needs.NOTHING, Needs.SAMPLES, Needs.SAMPLES | Needs.LABELS, ALL]),
)
def test_every_planned_route_is_well_typed(
    known: list[type[Technique]], start: Format, loads: set[Format], allowed: set[Format], have: Needs
) -> None:
    runtime = type("Loader", (Loads,), {"loads": frozenset(loads)})
    target = Target(threads=1, formats=tuple(sorted(allowed)))
    found, refused = routes(Model(start, None, SIGNATURE), target, have, known, [runtime])
    for route in found:
        format, phase = start, Phase.SHRINK
        for step in route.steps:
            assert format in step.accepts
            assert step.phase >= phase
            assert not step.needs & ~have
            assert step.label() not in refused
            format, phase = (step.returns, Phase.SHRINK) if step.returns else (format, step.phase)
        assert len(set(route.steps)) == len(route.steps)
        assert sum(step.quantizes for step in route.steps) <= 1
        chosen = [step.chooses for step in route.steps if step.chooses]
        assert len(set(chosen)) == len(chosen)
        assert sum(step.returns is not None for step in route.steps) <= CONVERSIONS
        assert format in loads
        assert not allowed or format in allowed
    assert len(set(found)) == len(found)
    reached = {start}
    for _ in FORMATS:
        reached |= {step.returns for step in known if step.returns and step.accepts & reached}
    for step in known:
        assert (step.label() in refused) == bool(step.needs & ~have and step.accepts & reached)


def labels(found: list[Route]) -> set[str]:
    return {route.label for route in found}


KNOWN = [FakeStrip, FakeRound, FakeCalibrate, FakeFault, FakeCompile]


def test_all_orders_that_make_sense_are_planned_the_most_promising_first(tmp_path: Any) -> None:
    model = fake_model(tmp_path, padding=10)
    found, refused = routes(model, TARGET, Needs.SAMPLES, KNOWN, [FakeRuntime])
    assert labels(found) == {
        " + ".join([*steps, "fake-runtime"])
        for strip in ([], ["fake-strip"])
        for quantize in ([], ["fake-round"], ["fake-calibrate"])
        for compile in ([], ["fake-compile"])
        for steps in [[*strip, *quantize, *compile]]
    }
    expected = [route.expects(TARGET) for route in found]
    assert expected == sorted(expected)
    assert found[0].label == "fake-calibrate + fake-runtime"  # int8 that is carried on has to wait; shorter ones first
    assert refused == {"fake-fault": "has no fault to show"}


def test_what_the_data_do_not_cover_is_refused_with_a_reason(tmp_path: Any) -> None:
    found, refused = routes(fake_model(tmp_path, padding=1), TARGET, Needs.NOTHING, KNOWN, [FakeRuntime])
    assert refused["fake-calibrate"] == "needs samples, which are not given"
    assert not any(FakeCalibrate in route.steps for route in found)


def test_routes_end_in_the_formats_of_the_target(tmp_path: Any) -> None:
    target = Target(threads=1, formats=("fake-compiled",))
    found, _ = routes(fake_model(tmp_path), target, Needs.SAMPLES, KNOWN, [FakeRuntime])
    assert found
    assert all(route.steps[-1] is FakeCompile for route in found)


@pytest.mark.parametrize("format", [LIGHTGBM, ONNX_TREES])
def test_who_says_onnx_means_trees_in_onnx_too(format: Format) -> None:
    ends = [type(f"Of_{loads}", (Loads,), {"loads": frozenset({loads})}) for loads in (ONNX_TREES, NATIVE)]
    for asked, reached in (("onnx", {ends[0]}), (NATIVE, {ends[1]}), ("onn", set()), ("trees", set())):
        target = Target(threads=1, formats=(asked,))
        found, _ = routes(Model(format, None, SIGNATURE, counts={"trees": 1}), target, ALL, available=ends)
        assert {route.runtime for route in found} == reached


def test_a_runtime_that_is_not_installed_ends_no_route(tmp_path: Any) -> None:
    away = type("Away", (FakeRuntime,), {"module": "no_such_module_anywhere", "extra": "away"})
    found, refused = routes(fake_model(tmp_path), TARGET, Needs.SAMPLES, KNOWN, [away])
    assert not found
    assert refused["away"] == "is not installed; pip install 'strop[away]' brings it"


def test_settings_that_the_machine_cannot_serve_are_not_searched() -> None:
    @dataclass(frozen=True)
    class Picky(FakeRuntime):
        lane: int = choice(0, 1, 2)

        def requires(self, target: Target) -> None:
            if self.lane > target.threads:
                raise NotApplicable("too few threads")

    route = Route((FakeRound,), Picky)
    assert route.space(Target(threads=1))["picky.lane"].values == (0, 1)  # type: ignore[union-attr]
    assert set(route.space(Target(threads=1))) == {"fake-round.decimals", "picky.lane", "picky.slack"}
    assert "picky.lane" not in route.space(Target(threads=0))


def test_a_candidate_survives_json_and_keeps_its_key(fakes: None) -> None:
    candidate = Route((FakeStrip, FakeRound), FakeRuntime).candidate({"fake-round.decimals": 1})
    again = Candidate.of(json.loads(json.dumps(candidate.to_json())))
    assert again == candidate
    assert again.key == candidate.key
    assert str(again) == "fake-strip + fake-round(decimals=1) + fake-runtime"
    assert candidate.key != Route((FakeStrip, FakeRound), FakeRuntime).candidate().key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"technique": "fake-strop"}, "fake-strip"),
        ({"settings": {"decimals": 7}}, "decimals"),
    ],
)
def test_a_candidate_of_unknown_parts_is_refused(fakes: None, change: dict[str, Any], said: str) -> None:
    json_ = Candidate((FakeRound(),), FakeRuntime()).to_json()
    json_["route"][0].update(change)
    with pytest.raises(InvalidPlan, match=said):
        Candidate.of(json_)


def test_a_technique_that_fails_to_say_whether_it_fits_is_left_out(tmp_path: Any) -> None:
    class Unsure(FakeStrip):
        def requires(self, model: Model, target: Target) -> None:
            raise ZeroDivisionError("no idea")

    found, refused = routes(fake_model(tmp_path), TARGET, Needs.SAMPLES, [Unsure, FakeRound], [FakeRuntime])
    assert labels(found) == {"fake-runtime", "fake-round + fake-runtime"}
    assert "ZeroDivisionError: no idea" in refused["unsure"]


class Shrinks(Any_):
    """Can be made stronger."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FORMATS[0]})
    phase: ClassVar[Phase] = Phase.SHRINK


@pytest.mark.parametrize(
    ("most", "first", "strongest"), [(1.0, 0.6, 0.9), (0.75, 0.6, 0.75), (0.5, 0.5, 0.5), (0.1, 0.2, 0.2)]
)
def test_strengths_are_held_back(most: float, first: float, strongest: float) -> None:
    @dataclass(frozen=True)
    class Cut(Shrinks):
        amount: float = span(0.6, 0.2, 0.9, strength=True)

    @dataclass(frozen=True)
    class Prune(Shrinks):
        amount: float = span(0.6, 0.2, 0.9, strength=True)
        way: str = choice("global", "layer")

        needs: ClassVar[Needs] = Needs.TRAINING

    loads = type("Red", (Loads,), {"loads": frozenset({FORMATS[0]})})
    assert Route((Cut,), loads, most).at_strength(1) == {"cut.amount": 0.9}, "it does not train"
    route = Route((Prune,), loads, most)
    assert route.candidate().steps == (Prune(first),)
    assert route.at_strength(0) == {"prune.amount": first}
    assert route.at_strength(1) == {"prune.amount": strongest}
    assert route.at_strength(-1) == {"prune.amount": 0.2}
    assert route.space(TARGET)["prune.amount"] == Span(0.2, strongest, strength=True)
    for strength in {-1.0, 0.0, 1.0 if strongest > first else 0.0}:
        candidate = route.candidate(route.at_strength(strength))
        assert route.strength_of(candidate) == pytest.approx(strength if first > 0.2 else 0.0)
    assert route.strength_of(route.candidate({"prune.way": "layer"})) is None


def test_what_trains_is_doubted_where_there_is_little_to_train_with() -> None:
    class Retrain(Shrinks):
        needs: ClassVar[Needs] = Needs.TRAINING

    class Mend(Retrain):
        mends: ClassVar[bool] = True

    class Cut(Shrinks):
        pass

    loads = type("Red", (Loads,), {"loads": frozenset({FORMATS[0]})})
    model, held = Model(FORMATS[0], None, SIGNATURE), Caution(doubts="with 9 rows much is lost")
    found, _ = routes(model, TARGET, ALL, [Retrain, Cut], [loads], held=held)
    assert {route.doubts for route in found if Retrain in route.steps} == {held.doubts}
    assert {route.doubts for route in found if Retrain not in route.steps} == {""}
    assert held.of(Mend) == "", "it trains, and mends what another has made"


def test_what_no_route_reaches_is_not_told_of() -> None:
    class Blue(Any_):
        accepts: ClassVar[frozenset[Format]] = frozenset({FORMATS[2]})
        phase: ClassVar[Phase] = Phase.SHRINK
        needs: ClassVar[Needs] = Needs.TRAINING

    class ToBlue(Blue):
        accepts: ClassVar[frozenset[Format]] = frozenset({FORMATS[1]})
        returns: ClassVar[Format | None] = FORMATS[2]
        needs: ClassVar[Needs] = Needs.NOTHING

    for format, told in ((FORMATS[0], False), (FORMATS[1], True), (FORMATS[2], True)):
        _, refused = routes(Model(format, None, SIGNATURE), TARGET, Needs.NOTHING, [Blue, ToBlue], [])
        assert ("blue" in refused) == told


def test_what_a_step_chooses_is_chosen_once_in_a_route() -> None:
    drop, retune, teach, cut = (
        type(name, (Shrinks,), {"chooses": chooses})
        for name, chooses in (("Drop", None), ("Retune", "rounds"), ("Teach", "rounds"), ("Cut", "leaves"))
    )
    red = type("Red", (Loads,), {"loads": frozenset({FORMATS[0]})})
    found, _ = routes(Model(FORMATS[0], None, SIGNATURE), TARGET, Needs.NOTHING, [drop, retune, teach, cut], [red])
    chains = {(), ("drop",), ("retune",), ("teach",), ("drop", "retune"), ("drop", "teach")}
    assert labels(found) == {" + ".join((*chain, *more, "red")) for chain in chains for more in ((), ("cut",))}


def test_the_rounds_of_a_forest_are_chosen_once() -> None:
    pytest.importorskip("lightgbm")
    steps = [DistillForest, Retune, TruncateRounds]
    red = type("Red", (Loads,), {"loads": frozenset({FOREST})})
    found, _ = routes(Model(FOREST, None, SIGNATURE), TARGET, ALL, steps, [red])
    assert labels(found) == {"red", "distill-forest + red", "retune + red", "truncate-rounds + red"}


def test_what_helps_with_a_part_of_the_work_is_expected_to_gain_there_only() -> None:
    class Part(Any_):
        accepts: ClassVar[frozenset[Format]] = frozenset({FORMATS[0]})
        phase: ClassVar[Phase] = Phase.SHRINK
        needs: ClassVar[Needs] = Needs.NOTHING

        def expects(self, target: Target) -> float:
            return 0.5

        def apart(self, target: Target) -> dict[Work, float]:
            return {Work.PRODUCTS: 1.0}

    class Whole(Part):
        def apart(self, target: Target) -> dict[Work, float]:
            return {}

    red = type("Red", (Loads,), {"loads": frozenset({FORMATS[0]})})
    burden = Burden(((Work.CONVOLUTIONS, 0.1), (Work.PRODUCTS, 0.9)))
    found, _ = routes(Model(FORMATS[0], None, SIGNATURE), TARGET, ALL, [Part, Whole], [red], burden=burden)
    expected = {route.label: route.expects(TARGET) for route in found}
    assert expected["part + red"] == pytest.approx(0.95)
    assert expected["whole + red"] == pytest.approx(0.5)
    assert expected["part + whole + red"] == pytest.approx(0.475)


def test_of_a_tiny_model_int8_is_tried_after_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of one that computes much before it, in the order that it had where nothing is known of the model."""
    pytest.importorskip("openvino")
    monkeypatch.setattr("strop.target.instruction_sets", lambda: frozenset({"avx2"}))  # float32 stands for bf16 as well
    steps = [ToOnnx, Simplify, DynamicInt8, StaticInt8, ToOpenvino, OpenvinoInt8]
    ends: list[type[Runtime]] = [Onnxruntime, Openvino]
    orders = {}
    for operations in (0, 1_000, 40_000, 10_000_000_000):
        model = Model(TORCH, None, SIGNATURE, counts={"operations": operations} if operations else {})
        found, _ = routes(model, TARGET, ALL, steps, ends)
        orders[operations] = [route.label for route in found]
    float32 = "to-onnx + simplify + onnxruntime"
    for tiny in (1_000, 40_000):
        assert orders[tiny][:2] == [float32, "to-onnx + onnxruntime"]
    assert orders[10_000_000_000] == orders[0]
    assert "int8" in orders[0][0] and orders[0].index(float32) > 4
    batched = Target(threads=1, batch=1000)
    found, _ = routes(Model(TORCH, None, SIGNATURE, counts={"operations": 40_000}), batched, ALL, steps, ends)
    assert "int8" in found[0].label, "there is much to compute in a call"


def test_what_is_left_to_compute_after_shrinking_counts() -> None:
    @dataclass(frozen=True)
    class Half(Shrinks):
        amount: float = span(0.9, 0.2, 0.9, strength=True)

        def expects(self, target: Target) -> float:
            return 1 - self.amount

    class Eight(Shrinks):
        phase: ClassVar[Phase] = Phase.QUANTIZE

        def expects(self, target: Target) -> float:
            return 0.25

        def apart(self, target: Target) -> dict[Work, float]:
            return {Work.OVERHEAD: 1.5}

    red = type("Red", (Loads,), {"loads": frozenset({FORMATS[0]})})
    burden = of_call(UNKNOWN, 1_000_000, TARGET)
    whole = Route((Eight,), red, burden=burden)
    assert whole.expects(TARGET) == pytest.approx((150_000 + 250_000) / 1_100_000)
    both = Route((Half, Eight), red, burden=burden)
    assert both.expects(TARGET) == pytest.approx((150_000 + 25_000) / 1_100_000)
    left = burden.after([Half()], TARGET)
    assert both.only((Eight,), left).expects(TARGET) == pytest.approx((150_000 + 25_000) / 200_000)
    assert Route((Eight,), red).expects(TARGET) == 0.25


def test_steps_that_the_signature_forbids_or_that_find_nothing_to_do_are_not_planned() -> None:
    class Wary(Shrinks):
        accepts: ClassVar[frozenset[Format]] = frozenset({FORMATS[1]})

        def takes(self, signature: Signature) -> None:
            if signature.inputs[0].dtype == "float32":
                raise NotApplicable("its input is float32")

    class Tidy(Shrinks):
        accepts: ClassVar[frozenset[Format]] = frozenset({FORMATS[1]})
        phase: ClassVar[Phase] = Phase.SIMPLIFY

    ways = [
        type(name, (Shrinks,), {"returns": FORMATS[1], "simplified": name == "Neat", "phase": Phase.CONVERT})
        for name in ("Neat", "Rough")
    ]
    green = type("Green", (Loads,), {"loads": frozenset({FORMATS[1]})})
    found, refused = routes(Model(FORMATS[0], None, SIGNATURE), TARGET, ALL, [*ways, Wary, Tidy], [green])
    assert labels(found) == {"neat + green", "rough + green", "rough + tidy + green"}
    assert refused == {"wary": "its input is float32"}


def test_a_smaller_type_of_float_is_a_route_where_nothing_quantizes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("strop.target.instruction_sets", lambda: frozenset({"avx512_bf16"}))
    given = models.case("mlp", tmp_path).model
    found, _ = routes(given, TARGET, Needs.SAMPLES, (ToOpenvino, OpenvinoInt8, MixedOpenvino), (Openvino,))
    labels = {route.label for route in found}
    assert "to-openvino + openvino(precision=bf16)" in labels
    assert "to-openvino + openvino-int8 + openvino(precision=bf16)" not in labels
    (lower,) = (route for route in found if route.options)
    plain = next(route for route in found if route.steps == lower.steps and not route.options)
    assert lower.candidate().runtime == Openvino("bf16")
    assert lower.candidate({"openvino.threads": 1}).runtime == Openvino("bf16", 1)
    assert lower.expects(TARGET) < plain.expects(TARGET)
    assert "openvino.precision" not in lower.space(TARGET)
    quantized = next(route for route in found if OpenvinoInt8 in route.steps)
    assert quantized.candidate().runtime == Openvino("bf16")
    assert quantized.candidate({"openvino.precision": "f32"}).runtime == Openvino()
    assert quantized.space(TARGET)["openvino.precision"].values == ("f32", "bf16")
    mix = next(route for route in found if MixedOpenvino in route.steps)
    assert mix.candidate().runtime == Openvino()
    monkeypatch.setattr("strop.target.instruction_sets", frozenset)
    assert not [r for r in routes(given, TARGET, Needs.SAMPLES, (ToOpenvino,), (Openvino,))[0] if r.options]


def test_what_another_machine_served_a_runtime_is_left_out_here(monkeypatch: pytest.MonkeyPatch) -> None:
    two, found = Target(threads=2), Candidate((ToOpenvino(),), Openvino("bf16", 1))
    monkeypatch.setattr("strop.target.instruction_sets", lambda: frozenset({"avx512_bf16"}))
    assert served(found, two) == (found, "")
    monkeypatch.setattr("strop.target.instruction_sets", frozenset)
    plain = Candidate((ToOpenvino(),), Openvino("f32", 1))
    assert served(found, two) == (plain, "this CPU has no bf16 arithmetic"), "what it can serve stays"


def test_a_mix_runs_where_it_was_measured(tmp_path: Any) -> None:
    found, _ = routes(models.case("cnn", tmp_path).model, TARGET, Needs.SAMPLES)
    ends = {(step.label(), route.end.partition("(")[0]) for route in found for step in route.steps if step.whole}
    assert ends == {
        ("mixed-onnx", "onnxruntime"), ("mixed-dynamic", "onnxruntime"), ("mixed-openvino", "openvino"),
    }  # fmt: skip


def test_a_log_strength_is_halved_by_ratio() -> None:
    @dataclass(frozen=True)
    class Cut(Shrinks):
        error: float = span(0.3, 0.003, 1.0, log=True, strength=True)

    route = Route((Cut,), type("Red", (Loads,), {"loads": frozenset({FORMATS[0]})}))
    assert [route.at_strength(s)["cut.error"] for s in (-1, -0.5, 0, 1)] == [0.003, 0.03, 0.3, 1.0]
    for strength in (-1, -0.5, 0, 1):
        assert route.strength_of(route.candidate(route.at_strength(strength))) == pytest.approx(strength, abs=0.02)
