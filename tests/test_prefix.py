"""Prefix: what follows a cut answers as the whole model does, and there is no cut where it would not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from strop import formats, prefix
from strop.data import Data
from strop.nmse import nmse
from strop.prefix import Prefix
from strop.runtime import Array
from strop.target import Target
from strop.technique import Context, Parts, Technique
from strop.techniques import MixedDynamic, MixedOnnx, MixedOpenvino
from strop.testing import Example
from techniques.test_mixed import LAYERS, converted, deep

Batch = Mapping[str, Array]
INT8 = 0.5  # of what int8 does itself, that roundings may fall otherwise


def branching(folder: Path) -> Example:
    """Two branches that meet again, one of them within a condition; and an output half way."""
    proto = models.build(
        """g (float[N, 8] x) => (float[N, 8] early, float[N, 8] y) {
            early = MatMul(x, w0)
            left = MatMul(early, w1)
            positive = ReduceMax<keepdims = 0>(x)
            zero = Constant<value = float {0.0}>()
            chosen = Greater(positive, zero)
            right = If(chosen) <then_branch = a () => (float[N, 8] kept) { kept = Identity(early) },
                               else_branch = b () => (float[N, 8] other) { other = Neg(early) }>
            both = Add(left, right)
            y = MatMul(both, w2)
        }""",
        [models.weight(f"w{number}", 8, 8) for number in range(3)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, folder / "branching.onnx")
    return Example(formats.open(folder / "branching.onnx"), Data({"x": models.floats(8)}))


def opened(example: Example, folder: Path, technique: Technique = MixedOnnx()) -> tuple[Parts, list[Batch]]:  # noqa: B008
    context = Context(example.data, example.model, Target(threads=1), 0, folder / "made", shared=folder)
    given = [{"x": example.data.inputs["x"][row : row + 1]} for row in range(4)]
    return technique.parts(example.model, context), given


@pytest.mark.parametrize(
    ("kind", "technique", "cuts"),
    [
        (deep, MixedOnnx(), LAYERS - 1), (deep, MixedDynamic(), LAYERS - 1), (converted, MixedOpenvino(), LAYERS - 1),
        (branching, MixedOnnx(), 1), (branching, MixedDynamic(), 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", ["f32", "int8"])
def test_from_each_cut_the_outputs_are_those_of_the_whole_model(
    kind: Callable[[Path], Example], technique: Technique, cuts: int, base: str, tmp_path: Path
) -> None:
    """Before each group but the first; what a condition gives has a type only where that was looked for."""
    parts, given = opened(kind(tmp_path / "example"), tmp_path, technique)
    mix = dict.fromkeys(parts.members, base)
    known = Prefix(parts, mix, given, [parts.step(mix)(feed) for feed in given], INT8)
    assert len(known.passing) == cuts
    for group in parts.members:
        other = {**mix, group: "int8" if base == "f32" else "f32"}
        whole, rest = parts.step(other), known.step(other)
        for feed in given:
            right = whole(feed)
            assert nmse(rest(feed), right) < (1e-9 if base == "f32" else 1e-3), group
            assert right.keys() <= rest(feed).keys()


def test_no_more_than_what_follows_is_run(tmp_path: Path) -> None:
    parts, given = opened(deep(tmp_path / "example"), tmp_path)
    mix = dict.fromkeys(parts.members, "f32")
    *_, last = parts.members
    known = Prefix(parts, mix, given, [parts.step(mix)(feed) for feed in given])
    rest = parts.since(last)
    assert list(rest.members) == [last]
    passed = {name: given[0]["x"] for name in known.passing[last]}
    assert np.isfinite(rest.step({last: "f32"})(passed)["y"]).all(), "its inputs are what passes, and no others"


def test_a_sample_that_was_not_kept_is_run_from_the_beginning(tmp_path: Path) -> None:
    parts, given = opened(deep(tmp_path / "example"), tmp_path)
    mix = dict.fromkeys(parts.members, "f32")
    known = Prefix(parts, mix, given[:1], [parts.step(mix)(given[0])])
    *_, last = parts.members
    other = {**mix, last: "int8"}
    assert nmse(known.step(other)(given[1]), parts.step(other)(given[1])) < 1e-9


def test_where_room_is_short_cuts_are_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, given = opened(deep(tmp_path / "example"), tmp_path)
    mix = dict.fromkeys(parts.members, "f32")
    answers = [parts.step(mix)(feed) for feed in given]
    whole = Prefix(parts, mix, given, answers)
    monkeypatch.setattr(prefix, "ROOM", sum(array.nbytes for array in whole.kept.popitem()[1].values()) * 2)
    few = Prefix(parts, mix, given, answers)
    assert 0 < len(few.passing) < len(whole.passing)
    *_, last = parts.members
    assert nmse(few.step({**mix, last: "int8"})(given[0]), parts.step({**mix, last: "int8"})(given[0])) < 1e-9


def test_a_runtime_that_answers_otherwise_where_it_tells_more_is_not_cut(tmp_path: Path) -> None:
    """As OpenVINO does with int8 whose values in between are asked for."""
    parts, given = opened(deep(tmp_path / "example"), tmp_path)
    mix = dict.fromkeys(parts.members, "f32")
    wrong = [{"y": 1.1 * parts.step(mix)(feed)["y"]} for feed in given]
    known = Prefix(parts, mix, given, wrong)
    assert not known.passing and not known.kept
    assert nmse(known.step(mix)(given[0]), parts.step(mix)(given[0])) < 1e-9
