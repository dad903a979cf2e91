"""Settings: defaults, search space and JSON are one thing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import InvalidPlan
from strop.settings import Choice, Settings, Span, choice, span


@dataclass(frozen=True)
class FineHone(Settings):
    """All kinds of settings."""

    bits: int = choice(8, 4)
    mode: str = choice("fast", "exact")
    deep: bool = choice(False, True)
    alpha: float = span(0.5, 0.0, 1.0)
    steps: int = span(10, 1, 100, log=True)
    note: str = ""


def drawn(domain: Any) -> st.SearchStrategy[Any]:
    if isinstance(domain, Choice):
        return st.sampled_from(domain.values)
    if isinstance(domain.low, int):
        return st.integers(domain.low, int(domain.high))
    return st.floats(domain.low, domain.high)


@given(st.fixed_dictionaries({}, optional={name: drawn(domain) for name, domain in FineHone.space().items()}))
def test_settings_survive_json(values: dict[str, Any]) -> None:
    made = FineHone.of(values)
    again = FineHone.of(json.loads(json.dumps(made.settings())))
    assert again == made
    assert {name: getattr(again, name) for name in values} == values


def test_what_has_no_domain_is_a_setting_that_is_not_searched() -> None:
    assert FineHone.of({"note": "kept"}).note == "kept"
    assert set(FineHone.space()) == {"bits", "mode", "deep", "alpha", "steps"}
    assert FineHone.space()["steps"] == Span(1, 100, log=True)


def test_an_unknown_setting_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(InvalidPlan, match=r"fine-hone has no setting \['bit'\].*bits"):
        FineHone.of({"bit": 4})


@pytest.mark.parametrize(
    "values",
    [{"bits": 3}, {"bits": True}, {"bits": "8"}, {"mode": "slow"}, {"deep": 1}, {"alpha": 1.01}, {"alpha": "0.5"},
     {"alpha": float("nan")}, {"steps": 0}, {"steps": True}],
)  # fmt: skip
def test_a_value_outside_its_domain_is_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InvalidPlan, match=rf"fine-hone\.{name} must be"):
        FineHone.of(values)


def test_a_whole_number_setting_takes_no_fraction() -> None:
    with pytest.raises(InvalidPlan, match="steps"):
        FineHone.of({"steps": 2.5})


def test_text_names_what_differs_from_the_defaults() -> None:
    assert str(FineHone()) == "fine-hone"
    assert str(FineHone(bits=4, alpha=0.25)) == "fine-hone(bits=4, alpha=0.25)"


@pytest.mark.parametrize(
    ("name", "label"),
    [("StaticInt8", "static-int8"), ("ToOpenvino", "to-openvino"), ("Simplify", "simplify"), ("Int8", "int8")],
)
def test_labels_are_class_names_as_people_write_them(name: str, label: str) -> None:
    assert type(name, (Settings,), {}).label() == label
