"""Mixed precision: the layer that harms stays in float, errors keep to what is allowed, programs are solved."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import models
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.openvino import layer_names
from strop.model import ONNX, Batch, Model
from strop.nmse import nmse
from strop.runtime import Array, LayerTime
from strop.target import Target
from strop.technique import Context, Parts, Technique, apply
from strop.techniques import (
    DynamicInt8,
    MixedDynamic,
    MixedOnnx,
    MixedOpenvino,
    OpenvinoInt8,
    StaticInt8,
    ToOpenvino,
    _errors,
    _mixing,
    _times,
)  # fmt: skip
from strop.techniques._harm import distance, harm
from strop.techniques._mix import Costs, fastest
from strop.techniques._mixing import chosen, expected_seconds
from strop.testing import Example, TechniqueCase

LAYERS, BAD, WIDTH = 20, 7, 32
ROUNDING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
TARGET = Target(threads=1)


def deep(folder: Path) -> Example:
    """Twenty layers with residuals; the weights of one have a row 600 times as large, whose input is always 0.

    In float that row adds nothing; in int8 it takes all of the range from the others.
    """
    lines, weights, last = [], [], "x"
    for number in range(LAYERS):
        stored = numpy_helper.to_array(models.weight(f"w{number}", WIDTH, WIDTH)).copy()
        if number == BAD:
            stored[0] *= 600
            lines.append(f"z{number} = Mul({last}, dead)")
        else:
            lines.append(f"z{number} = Identity({last})")
        weights.append(numpy_helper.from_array(stored, f"w{number}"))
        lines += [f"m{number} = MatMul(z{number}, w{number})", f"r{number} = Relu(m{number})"]
        lines.append(f"{'y' if number == LAYERS - 1 else f'h{number}'} = Add({last}, r{number})")
        last = f"h{number}"
    alive = np.ones((1, WIDTH), np.float32)
    alive[0, 0] = 0
    weights.append(numpy_helper.from_array(alive, "dead"))
    proto = models.build(f"g (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{ {chr(10).join(lines)} }}", weights)
    for node in proto.graph.node:
        node.name = f"layer {node.output[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, folder / "deep.onnx")
    return Example(formats.open(folder / "deep.onnx"), Data({"x": models.floats(WIDTH)}))


def converted(folder: Path) -> Example:
    pytest.importorskip("openvino")
    example = deep(folder)
    (folder / "openvino").mkdir()
    made = apply(ToOpenvino(), example.model, Context(None, example.model, TARGET, 0, folder / "openvino"))
    return Example(made, example.data)


def times(model: Model) -> Sequence[LayerTime]:
    """As if each layer took half the time in int8, and rounding none, whatever this machine is doing."""
    if model.format == ONNX:
        graph = onnx.load(model.path).graph
        made = {node.output[0]: node.op_type for node in graph.node}
        quantized = {n.name for n in graph.node if any(made.get(v) == "DequantizeLinear" for v in n.input)}
        quantized |= {node.name for node in graph.node if node.op_type == "MatMulInteger"}
        names = [n.name for n in graph.node if n.op_type not in ROUNDING and "_scale" not in n.name]
    else:
        text = model.path.read_text()
        names = sorted(name for name in layer_names(model) if "/fq_" not in name and not name.startswith("Convert_"))
        quantized = {name for name in names if f"{name}/fq_weights" in text}
    return [LayerTime(name, "", 1e-4 if name in quantized else 2e-4, (name,)) for name in names]


def context(example: Example, folder: Path, shared: Path | None = None) -> Context:
    folder.mkdir(parents=True)
    return Context(example.data, example.model, TARGET, 0, folder, shared=shared, layer_times=times)


def error(made: Model, example: Example) -> float:
    from techniques.test_all import run

    right, found = run(example.model, example.data)["y"], run(made, example.data)["y"]
    return float(np.square(found - right).sum() / np.square(right).sum())


class TestMixedOnnx(TechniqueCase):
    technique = MixedOnnx

    def example(self, folder: Path) -> Example:
        return deep(folder)

    def _context(self, example: Example, folder: Path) -> Context:
        return replace(super()._context(example, folder), layer_times=times)


class TestMixedDynamic(TestMixedOnnx):
    technique = MixedDynamic


class TestMixedOpenvino(TestMixedOnnx):
    technique = MixedOpenvino

    def example(self, folder: Path) -> Example:
        return converted(folder)


@pytest.mark.parametrize(
    ("mixed", "plain", "example"),
    [(MixedOnnx, StaticInt8, deep), (MixedDynamic, DynamicInt8, deep), (MixedOpenvino, OpenvinoInt8, converted)],
)
def test_the_one_bad_layer_of_twenty_stays_in_float(
    mixed: type[Technique], plain: type[Technique], example: object, tmp_path: Path
) -> None:
    given = example(tmp_path / "example")  # type: ignore[operator]
    made = apply(mixed(error=0.3), given.model, context(given, tmp_path / "mixed"))
    whole = apply(plain(), given.model, context(given, tmp_path / "int8"))
    said = made.notes[-1]
    assert f"m{BAD}" in said.partition("in floats: ")[2]
    assert said.startswith(f"Of {LAYERS} groups of layers {LAYERS - 1} in int8, 1 in ")
    assert error(made, given) < 0.3 * error(whole, given)
    assert Model.of(json.loads(json.dumps(made.to_json(tmp_path))), tmp_path).groups == made.groups
    assert [len(made.groups), *{set(group.seconds) >= {"int8", "f32"} for group in made.groups}] == [LAYERS, True]


def test_less_error_is_had_for_more_time_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    example, asked = deep(tmp_path / "example"), []

    def counted(model: Model) -> Sequence[LayerTime]:
        asked.append(model)
        return times(model)

    (tmp_path / "shared").mkdir()
    found = []
    for share in (0.3, 3e-3):
        given = context(example, tmp_path / str(share), tmp_path / "shared")
        made = apply(MixedOnnx(error=share), example.model, replace(given, layer_times=counted))
        found.append((error(made, example), made.size))
    assert found[1][0] < found[0][0]
    assert found[1][1] > found[0][1], "more of the weights are float32"
    assert len(asked) == 2 * 5, "in each precision, weights alone included, and in turns; twice, for that is alike"


def test_a_share_that_no_mix_has_is_refused_with_the_reason(tmp_path: Path) -> None:
    example = deep(tmp_path / "example")
    with pytest.raises(NotApplicable, match=r"the fastest mix within 1x of its error is int8 throughout"):
        apply(MixedOnnx(error=1.0), example.model, context(example, tmp_path / "made"))


def test_comparing_layers_goes_on_where_it_was(tmp_path: Path) -> None:
    kept, tried = tmp_path / "harm.json", []
    kept.write_text(json.dumps({"first": 0.5}))
    sample = {"y": np.ones((1, 2), np.float32)}

    def made(names: Sequence[str]) -> object:
        tried.append(list(names))
        return lambda feed: {"y": np.array([[1, 2]], np.float32)}

    context = Context(None, None, TARGET, 0, tmp_path)  # type: ignore[arg-type]
    found = harm(["first", "second"], made, [sample], [sample], context, kept=kept)  # type: ignore[arg-type]
    assert tried == [["second"]]
    assert found == {"first": 0.5, "second": 0.5}
    assert json.loads(kept.read_text()) == found


def test_of_distributions_the_logarithms_are_compared_for_there_harm_adds_up() -> None:
    """Two layers move scores as far as each other: what both do is four times what one does, as squares of sums are."""

    def softmax(*scores: float) -> dict[str, Any]:
        shares = np.exp(np.array([scores], np.float32))
        return {"y": shares / shares.sum()}

    right = softmax(9.0, 3.0, 0.0)
    moved = [softmax(9.0 - by, 3.0 + by, 0.0) for by in (1.0, 2.0)]
    once, twice = (distance(found, right) for found in moved)
    assert twice / once == pytest.approx(4.0, rel=0.1)
    assert nmse(moved[1], right) / nmse(moved[0], right) > 20
    masked = {"y": np.array([[1.0, 0.0, 0.0]], np.float32)}
    assert distance({"y": np.array([[1.0, 1e-9, 0.0]], np.float32)}, masked) == 0.0
    for odd in (np.nan, np.inf, -np.inf):
        assert distance({"y": np.array([[odd, 1.0, 0.0]], np.float32)}, masked) == math.inf
    for array in (np.ones((4, 1)), np.array([[0.5, 0.6]]), np.array([[1.5, -0.5]]), np.array([[1, 0]]), np.array(1.0)):
        assert distance({"y": array + array}, {"y": array}) == nmse({"y": array + array}, {"y": array})


def test_only_blocks_that_harm_are_looked_into_and_time_that_is_over_leaves_the_rest_unknown(tmp_path: Path) -> None:
    names, tried = [f"n{number}" for number in range(16)], []
    sample = {"y": np.ones((1, 1), np.float32)}

    def made(chosen: Sequence[str]) -> object:
        tried.append(list(chosen))
        off = sum(1.0 if name == "n5" else 0.005 for name in chosen)
        return lambda feed: {"y": np.array([[1 + off**0.5]], np.float32)}

    context = Context(None, None, TARGET, 0, tmp_path)  # type: ignore[arg-type]
    found = harm(names, made, [sample], [sample], context)  # type: ignore[arg-type]
    assert [len(chosen) for chosen in tried] == [4] * 4 + [1] * 4, "of 16, four blocks and what is in one"
    assert found == pytest.approx({name: 1.0 if name == "n5" else 0.005 for name in names}, rel=1e-4)
    none = harm(names, made, [sample], [sample], context, until=0.0)  # type: ignore[arg-type]
    assert set(none.values()) == {math.inf}
    even = harm(names, made, [sample], [sample], context, until=0.0, whole=1.6)  # type: ignore[arg-type]
    assert even == pytest.approx(dict.fromkeys(names, 0.1)), "what all do together is known"


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_mix_is_made_even_where_no_time_is_left_to_compare_layers(tmp_path: Path, share: float) -> None:
    example = converted(tmp_path / "example")
    given = context(example, tmp_path / "made")
    parts = MixedOpenvino().parts(example.model, given)
    samples = [example.data.batch(row, row + 1) for row in range(8)]
    (tmp_path / "kept").mkdir()
    mix, _ = chosen(parts, share, samples, given, tmp_path / "kept", until=0.0)
    if share == 1.0:
        assert set(mix.values()) == {"int8"}, "all of them together are known"
    else:
        right = [parts.step(dict.fromkeys(parts.members, "f32"))(feed) for feed in samples]
        whole, made = (
            _errors.error(parts.step(one), samples, right) for one in (dict.fromkeys(parts.members, "int8"), mix)
        )
        assert made <= 0.3 * whole, "with even shares of what all do together, and tried"


def test_layers_are_compared_by_samples_from_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that lie side by side may be of one photo; and mixes are judged by all of them."""
    example = converted(tmp_path / "example")
    given = context(example, tmp_path / "made")
    parts = MixedOpenvino().parts(example.model, given)
    samples = [example.data.batch(row, row + 1) for row in range(8)]
    seen: dict[str, list[object]] = {}

    def compared(names: object, made: object, feeds: list[object], *rest: object) -> dict[str, float]:
        seen["compared"] = feeds
        return dict.fromkeys(parts.members, 1.0)

    def judged(step: object, feeds: list[object], expected: object) -> float:
        seen["judged"] = feeds
        return 1.0

    monkeypatch.setattr(_errors, "harm", compared)
    monkeypatch.setattr(_errors, "error", judged)
    monkeypatch.setattr(_mixing, "error", judged)
    (tmp_path / "kept").mkdir()
    mix, _ = chosen(parts, 0.3, samples, given, tmp_path / "kept", until=0.0)
    assert set(mix.values()) == {"f32"}, "which is exact"
    assert [id(feed) for feed in seen["compared"]] == [id(samples[row]) for row in (0, 2, 4, 7)]
    assert [id(feed) for feed in seen["judged"]] == [id(sample) for sample in samples]


@pytest.mark.parametrize(("seconds", "count"), [(math.inf, 64), (30.0, 30), (1.0, 16), (-1.0, 16)])
def test_mixes_are_judged_by_as_many_samples_as_there_is_time_for(seconds: float, count: int, tmp_path: Path) -> None:
    given = [{"x": np.full(1, float(row))} for row in range(64)]
    kept = tmp_path / "judging.json"
    first = _errors._judging(given, given[0], 0.1, seconds, kept)
    assert len(first) == count and first[0] is given[0] and first[-1] is given[-1]
    again = _errors._judging(given, given[0], 0.1, math.inf, kept)
    assert [id(one) for one in again] == [id(one) for one in first], "for every share, since their errors are compared"


class Made(Parts):
    """Groups of a layer each, of which it is said what they take and what they do to the output."""

    precisions = ("int8", "f32")

    def __init__(self, errors: Mapping[str, float], together: Mapping[frozenset[str], float] | None = None):
        self.members = {name: (f"{name}.product", f"{name}.sum") for name in errors}
        self.labels = {name: name for name in errors}
        self.borders = [(one, other, (one,)) for one, other in itertools.pairwise(errors)]
        self.told: tuple[str, ...] = ()
        self.errors, self.together = errors, together or {}
        self.tried: list[frozenset[str]] = []

    def error(self, rounded: frozenset[str]) -> float:
        more = sum(error for names, error in self.together.items() if names <= rounded)
        return sum(self.errors[name] for name in rounded) + more

    def step(self, precisions: Mapping[str, str]) -> Callable[[Batch], dict[str, Array]]:
        rounded = frozenset(name for name, precision in precisions.items() if precision == "int8")
        self.tried.append(rounded)
        told = {name: np.zeros((1, 1000 * (place + 1))) for place, name in enumerate(self.told)}
        return lambda batch: {**told, "y": np.array([1.0 + self.error(rounded) ** 0.5])}

    def telling(self, values: Iterable[str]) -> Parts:
        made = copy.copy(self)
        made.told = tuple(values)
        return made

    def save(self, precisions: Mapping[str, str], folder: Path) -> Model:
        return precisions  # type: ignore[return-value]


def timed(parts: Made, unnamed: frozenset[str] = frozenset()) -> Callable[[Model], Sequence[LayerTime]]:
    """A group takes 40 us in int8 and 100 in float, what comes before all of them 50, and a conversion 7; of some the
    runtime does not know which layer it ran where it is in int8."""

    def tell(model: Model) -> Sequence[LayerTime]:
        mix: Mapping[str, str] = model  # type: ignore[assignment]
        found = [LayerTime("input", "Reorder", 5e-5, ())]
        found += [
            LayerTime("convert", "Convert", 7e-6, ()) for one, other, _ in parts.borders if mix[one] != mix[other]
        ]
        for name, precision in mix.items():
            known = () if precision == "int8" and name in unnamed else parts.members[name]
            found.append(LayerTime(name, "MatMul", 4e-5 if precision == "int8" else 1e-4, known))
        return found

    return tell


@pytest.mark.parametrize("unnamed", [(), "ab", "abcdef"])
def test_conversions_cost_what_they_take_and_no_time_is_lost_that_a_runtime_gives_no_name(
    unnamed: Sequence[str], tmp_path: Path
) -> None:
    parts = Made(dict.fromkeys("abcdef", 1e-3))
    given = Context(None, None, TARGET, 0, tmp_path, layer_times=timed(parts, frozenset(unnamed)))  # type: ignore[arg-type]
    found, borders = _times.times(parts, {}, given, tmp_path / "times.json", until=math.inf)
    assert sum(times["int8"] for times in found.values()) == pytest.approx(6 * 4e-5)
    assert [times["f32"] for times in found.values()] == pytest.approx([1e-4] * 6)
    assert sum(seconds for _, _, seconds in borders) == pytest.approx(5 * 7e-6), "and not what comes before all layers"
    assert [seconds for _, _, seconds in borders] == pytest.approx([7e-6 / 3 * place for place in range(1, 6)])
    assert all(times["int8"] > 4e-6 for times in found.values()), "none is free"
    again = _times.times(parts, {}, replace(given, layer_times=None), tmp_path / "times.json", until=math.inf)
    assert again == (found, borders), "and it is measured once"


def test_a_layer_is_timed_for_the_group_that_begins_in_it_and_conversions_are_found_among_light_layers(
    tmp_path: Path,
) -> None:
    """A runtime may fuse the end of one group into the next one's product, or run it with a conversion."""
    parts = Made(dict.fromkeys("abcdef", 1e-3))
    seconds = dict(zip("abcdef", (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4), strict=True))

    def tell(model: Model) -> Sequence[LayerTime]:
        mix: Mapping[str, str] = model  # type: ignore[assignment]
        found, before = [], ()
        for name, precision in mix.items():
            product, light = parts.members[name]
            found.append(
                LayerTime(name, "MatMul", seconds[name] * (0.4 if precision == "int8" else 1), (*before, product))
            )
            following = mix.get(chr(ord(name) + 1), precision)
            before = (light,) if following == precision else ()
            if not before:
                found.append(LayerTime(light, "DequantizeLinear", 7e-6, (light,)))
        return found

    given = Context(None, None, TARGET, 0, tmp_path, layer_times=tell)  # type: ignore[arg-type]
    found, borders = _times.times(parts, {}, given, tmp_path / "times.json", until=math.inf)
    assert {name: known["f32"] for name, known in found.items()} == pytest.approx(seconds)
    assert {name: known["int8"] / 0.4 for name, known in found.items()} == pytest.approx(seconds)
    assert sum(seconds for _, _, seconds in borders) == pytest.approx(5 * 7e-6)


@pytest.mark.parametrize(("slow", "asked"), [("1", 7), ("14", 8), ("147", 8), ("", 6)])
def test_times_are_those_of_a_machine_that_nothing_disturbs(slow: str, asked: int, tmp_path: Path) -> None:
    """Which is as slow as it likes at times, be it that one precision is timed again and again then."""
    parts, rounds = Made(dict.fromkeys("abcdef", 1e-3)), itertools.count()
    tell = timed(parts)

    def disturbed(model: Model) -> Sequence[LayerTime]:
        longer = 1.7 + 0.2 * number if str(number := next(rounds)) in slow else 1.0
        return [replace(layer, seconds=longer * layer.seconds) for layer in tell(model)]

    given = Context(None, None, TARGET, 0, tmp_path, layer_times=disturbed)  # type: ignore[arg-type]
    found, borders = _times.times(parts, {}, given, tmp_path / "times.json", until=math.inf)
    assert [times["f32"] for times in found.values()] == pytest.approx([1e-4] * 6)
    assert sum(times["int8"] for times in found.values()) == pytest.approx(6 * 4e-5)
    assert sum(seconds for _, _, seconds in borders) == pytest.approx(5 * 7e-6)
    assert next(rounds) == asked


def test_what_there_was_time_to_time_but_once_is_timed_again_for_the_next_mix(tmp_path: Path) -> None:
    parts, rounds = Made(dict.fromkeys("abcdef", 1e-3)), itertools.count()
    tell = timed(parts)

    def disturbed(model: Model) -> Sequence[LayerTime]:
        longer = 3.0 if next(rounds) == 0 else 1.0
        return [replace(layer, seconds=longer * layer.seconds) for layer in tell(model)]

    given = Context(None, None, TARGET, 0, tmp_path, layer_times=disturbed)  # type: ignore[arg-type]
    hasty, borders = _times.times(parts, {}, given, tmp_path / "times.json", until=0.0)
    assert next(rounds) == 2 and not borders
    assert all(times["int8"] > times["f32"] for times in hasty.values()), "as int8 was disturbed"
    found, borders = _times.times(parts, {}, given, tmp_path / "times.json", until=math.inf)
    assert next(rounds) == 3 + 5 and sum(seconds for _, _, seconds in borders) == pytest.approx(5 * 7e-6)
    assert sum(times["int8"] for times in found.values()) == pytest.approx(6 * 4e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.3, 0.6]))
def test_errors_that_are_more_than_their_sum_keep_to_what_is_allowed(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    names = [f"g{number}" for number in range(8)]
    errors = dict(zip(names, rng.uniform(1e-4, 1e-2, 8), strict=True))
    pairs = {frozenset(rng.choice(names, 2, replace=False)): float(rng.uniform(0, 5e-2)) for _ in range(6)}
    parts = Made(errors, pairs)
    with TemporaryDirectory() as folder:
        given = Context(None, None, TARGET, 0, Path(folder), layer_times=timed(parts))  # type: ignore[arg-type]
        mix, _ = chosen(parts, share, [{"x": np.ones(1)}], given, Path(folder), until=math.inf)
    rounded = frozenset(name for name, precision in mix.items() if precision == "int8")
    assert parts.error(rounded) <= share * parts.error(frozenset(names)) * (1 + 1e-9)


def test_a_mix_whose_errors_do_not_add_up_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two that harm least alone harm most together: by sums of errors both would be in int8."""
    alone = {"a": 1e-3, "b": 1e-3, "c": 4e-3, "d": 4e-3, "e": 4e-3}
    parts, solved = Made(alone, {frozenset("ab"): 0.1, frozenset("cd"): 0.1}), []

    def spied(costs: Costs, allowed: float) -> dict[str, str] | None:
        solved.append(fastest(costs, allowed))
        return solved[-1]

    monkeypatch.setattr(_mixing, "fastest", spied)
    given = Context(None, None, TARGET, 0, tmp_path, layer_times=timed(parts))  # type: ignore[arg-type]
    mix, _ = chosen(parts, 0.3, [{"x": np.ones(1)}], given, tmp_path, until=math.inf)
    allowed = 0.3 * parts.error(frozenset(alone))
    first, found = (
        frozenset(name for name, precision in one.items() if precision == "int8") for one in (solved[0], mix)
    )
    assert first == frozenset("ab") and parts.error(first) > allowed
    assert found and parts.error(found) <= allowed, "and is still faster than the float model"
    again, _ = chosen(parts, 0.32, [{"x": np.ones(1)}], given, tmp_path, until=0.0)
    assert again == mix, "what is known from another share is there where no time is left to repair"


class Milder(Made):
    """The same with a precision that does a hundredth of what int8 does, one by one and together."""

    precisions = ("int8", "bf16", "f32")  # type: ignore[assignment]

    def step(self, precisions: Mapping[str, str]) -> Callable[[Batch], dict[str, Array]]:
        rounded, halved = (frozenset(n for n, p in precisions.items() if p == kind) for kind in ("int8", "bf16"))
        return lambda batch: {"y": np.array([1.0 + (self.error(rounded) + 0.01 * self.error(halved)) ** 0.5])}


def test_what_bf16_does_is_held_to_what_int8_does_also_where_all_together_do_more_than_each(tmp_path: Path) -> None:
    names = "abcdef"
    parts = Milder(dict.fromkeys(names, 1e-5), {frozenset(names): 0.1})
    given = Context(None, None, TARGET, 0, tmp_path)  # type: ignore[arg-type]
    found = _errors.errors(parts, {}, [{"x": np.ones(1)}], given, tmp_path, math.inf)
    assert sum(known["int8"] for known in found.groups.values()) < 0.01 * found.worst["int8"]
    assert all(known["bf16"] == pytest.approx(0.01 * known["int8"], rel=0.01) for known in found.groups.values())


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(0, 2**32), st.floats(0.05, 1.5))
def test_programs_are_solved_as_trying_all_mixes_does(groups: int, seed: int, allowed: float) -> None:
    """Of some groups weights alone may be rounded, and floats pass to these and from them."""
    rng, precisions = np.random.default_rng(seed), ("int4 weights", "int8 weights", "int8", "bf16", "f32")
    names = [f"g{number}" for number in range(groups)]
    of = {name: precisions[2 * rng.integers(2) :] for name in names}
    seconds = {name: dict(zip(of[name], rng.uniform(1e-6, 1e-4, len(of[name])), strict=True)) for name in names}
    errors = {name: {p: 0.0 if p == "f32" else float(rng.uniform(0, 1)) for p in of[name]} for name in names}
    costs = Costs(seconds, errors, [(a, b, float(rng.uniform(0, 5e-5))) for a, b in itertools.pairwise(names)])
    best = math.inf
    for mix in itertools.product(*of.values()):
        chosen = dict(zip(names, mix, strict=True))
        if sum(errors[name][chosen[name]] for name in names) <= allowed:
            best = min(best, expected_seconds(costs.seconds, costs.borders, chosen))
    found = fastest(costs, allowed)
    assert found is not None
    assert sum(errors[name][found[name]] for name in names) <= allowed + 1e-5
    assert expected_seconds(costs.seconds, costs.borders, found) == pytest.approx(best, rel=1e-3)
