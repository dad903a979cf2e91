"""Which values of two models are held to each other."""

from __future__ import annotations

from strop.dataflow import Dataflow, Operator
from strop.insight.parts import shared


def flow(*operators: tuple[str, str, str], seen_as: dict[str, str] | None = None) -> Dataflow:
    """A row of operators: kind, what it reads, what it makes."""
    made = tuple(Operator(value, kind, (read,), (value,)) for kind, read, value in operators)
    return Dataflow(made, {}, ("x",), (operators[-1][2],), seen_as or {})


ORIGINAL = flow(("Conv", "x", "a"), ("Clip", "a", "b"), ("Conv", "b", "y"))


def test_what_is_rounded_in_place_of_a_cut_is_held_to_what_is_behind_the_cut() -> None:
    rounded = ("QuantizeLinear", "a", "q"), ("DequantizeLinear", "q", "d")
    left_out = flow(("Conv", "x", "a"), *rounded, ("Conv", "d", "y"), seen_as={"a": "d"})
    assert shared(ORIGINAL, left_out) == [("b", "a"), ("y", "y")]


def test_a_cut_that_is_still_there_under_another_name_counts() -> None:
    rounded = ("QuantizeLinear", "a", "q"), ("DequantizeLinear", "q", "d")
    renamed = flow(("Conv", "x", "a"), *rounded, ("Clip", "d", "c"), ("Conv", "c", "y"), seen_as={"a": "d"})
    assert shared(ORIGINAL, renamed) == [("a", "a"), ("y", "y")]


def test_in_floats_a_value_is_held_to_that_of_its_name() -> None:
    assert shared(ORIGINAL, flow(("Conv", "x", "a"), ("Other", "a", "c"), ("Conv", "c", "y")))[0] == ("a", "a")
    assert shared(ORIGINAL, ORIGINAL) == [("b", "b"), ("y", "y")]
