"""Findings: the figures of any machine are put into words that are true of it."""

from __future__ import annotations

import json

import pytest

from strop import findings
from strop._products import Product
from strop.findings import conclude, summarize
from strop.machine import Measured
from strop.stats import Interval

QUIET = {"latency.p50": Interval(1.002, 0.995, 1.012), "latency.p95": Interval(0.98, 0.94, 1.03)}


def around(value: float, share: float = 0.05) -> Interval:
    return Interval(value, value * (1 - share), value * (1 + share))


def product(runtime: str, operator: str, precision: str, ratio: float | None, threads: int = 2) -> Product:
    """One that ran, so many times as fast as in f32; or that ran in f32 all the same."""
    rate = around(1e11 * (ratio or 1))
    if precision == "f32":
        return Product(runtime, operator, "f32", threads, "f32", rate)
    if ratio is None:
        return Product(runtime, operator, precision, threads, "f32")
    return Product(runtime, operator, precision, threads, precision, rate, around(ratio))


def both(runtime: str, precision: str, dense: float | None, convolution: float | None) -> tuple[Product, Product]:
    return product(runtime, "dense", precision, dense), product(runtime, "convolution", precision, convolution)


def machine(
    *products: Product,
    noise: dict[str, Interval] = QUIET,
    notes: tuple[str, ...] = (),
    missing: dict[str, str] | None = None,
) -> Measured:
    return Measured(2, products, {2: around(2e10), 1: around(1e10)}, noise, notes, missing or {})


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, {"avx2"}, saturates=True)


def on(monkeypatch: pytest.MonkeyPatch, sets: set[str], saturates: bool = False) -> None:
    monkeypatch.setattr(findings, "instruction_sets", lambda: frozenset(sets))
    monkeypatch.setattr(findings.Target, "int8_saturates", property(lambda self: saturates))


ORT, OV = both("onnxruntime", "int8", 1.94, 1.9), both("openvino", "int8", 0.97, 2.03)


@pytest.mark.parametrize(
    ("products", "words"),
    [
        ((*ORT, *OV), "pays here: against float32, products run at 1.9x (dense) and 1.9x (convolution) through "
                      "onnxruntime, at 0.97x (dense) and 2x (convolution) through openvino. Expect at most that"),
        (OV, "pays here for convolution layers only: against"),
        (both("openvino", "int8", 0.9, 1.12), "does not pay here: against"),
        (both("openvino", "int8", None, 1.5), "at 1.5x (convolution) and in f32 (dense) all the same through openvino"),
        (both("openvino", "int8", None, None), "does not pay here: products run in f32 all the same through openvino."),
        ((), "not measured. Without VNNI"),
    ],
)  # fmt: skip
def test_whether_int8_pays(products: tuple[Product, ...], words: str) -> None:
    assert words in conclude(machine(*products))["int8"]


@pytest.mark.parametrize(
    ("sets", "saturates", "words"),
    [
        ({"avx2"}, True, "which can saturate: weights are kept to 7 bits where that matters."),
        ({"avx2", "avx512_vnni"}, False, "single instructions here (avx512_vnni)."),
        ({"asimd", "asimddp"}, False, "single instructions here (asimddp)."),
        (set(), False, "a quarter of the bytes may bring more."),
    ],
)
def test_the_instructions_say_why(monkeypatch: pytest.MonkeyPatch, sets: set[str], saturates: bool, words: str) -> None:
    on(monkeypatch, sets, saturates)
    assert conclude(machine(*ORT))["int8"].endswith(words)


@pytest.mark.parametrize(
    ("sets", "products", "words"),
    [
        ({"amx_bf16"}, both("openvino", "bf16", 7.2, 6.9),
         "pays here: against float32, products run at 7.2x (dense) and 6.9x (convolution) through openvino."),
        ({"avx512f"}, both("openvino", "bf16", 0.4, 0.5),
         "does not pay here: against float32, products run at 0.4x (dense) and 0.5x (convolution) through openvino. "
         "This CPU has no bfloat16 instructions, so it is emulated."),
        ({"avx2"}, both("openvino", "bf16", None, None),
         "does not pay here: products run in f32 all the same through openvino. This CPU has no bfloat16 "
         "instructions."),
        (set(), both("openvino", "bf16", None, None),
         "does not pay here: products run in f32 all the same through openvino."),
        ({"amx_bf16"}, (), "not measured: no runtime that is installed and runs here computes in it."),
    ],
)  # fmt: skip
def test_whether_bf16_pays(
    monkeypatch: pytest.MonkeyPatch, sets: set[str], products: tuple[Product, ...], words: str
) -> None:
    on(monkeypatch, sets)
    assert conclude(machine(*products))["bf16"] == words


def test_only_what_the_target_runs_on_decides() -> None:
    single = product("onnxruntime", "dense", "int8", 3.0, threads=1), product("onnxruntime", "dense", "int8", 0.9)
    said = conclude(machine(*single))["int8"]
    assert said.startswith("does not pay here")
    assert "3x" not in said


@pytest.mark.parametrize(
    ("median", "tail", "words"),
    [
        (0.012, 0.06, "quiet enough: a small model measured against itself is off by up to 1.2% in latency.p50 and "
                      "6.0% in latency.p95; smaller differences can't be told apart here."),
        (0.012, 0.40, "quiet enough for medians: a small"),
        (0.08, 0.40, "not quiet: a small"),
        (0.08, 0.06, "not quiet: a small"),
    ],
)  # fmt: skip
def test_whether_it_is_quiet(median: float, tail: float, words: str) -> None:
    noise = {"latency.p50": Interval(1, 1 - median, 1), "latency.p95": Interval(1, 1, 1 + tail)}
    said = conclude(machine(noise=noise))["noise"]
    assert said.startswith(words)
    assert ("End what else runs" in said) == ("quiet enough:" not in words)


def test_figures_are_plain_data_in_base_units() -> None:
    found = json.loads(json.dumps(conclude(machine(*both("openvino", "f32", 1, 1), *OV))["measured"]))
    assert [p["rate"]["value"] for p in found["products"][:2]] == [1e11, 1e11]
    assert found["products"][2]["ratio"] == {"value": 0.97, "low": 0.97 * 0.95, "high": 0.97 * 1.05}
    assert [entry["threads"] for entry in found["bandwidth"]] == [2, 1]
    assert found["bandwidth"][0]["value"] == 2e10
    assert found["noise"]["latency.p50"]["floor"] == pytest.approx(0.012)


def test_the_table_has_a_row_an_operator_and_no_column_for_what_never_ran() -> None:
    shown = (*both("openvino", "f32", 1, 1), *OV, *both("openvino", "bf16", None, None))
    lines = summarize(conclude(machine(*shown))).splitlines()
    at = lines.index("Matrix products, 10^9 operations a second")
    assert lines[at + 1].split() == ["f32", "int8", "int8", "/", "f32"]
    assert lines[at + 2].split() == [
        "openvino", "dense", "2", "threads", "100", "±5.0", "97.0", "±4.8", "0.97x", "(0.921", "to", "1.018)"
    ]  # fmt: skip
    assert len(lines) == at + 4


def test_rates_are_shown_with_their_farther_bound() -> None:
    rates = {2: Interval(1.4e12, 0.6e12, 1.5e12), 1: Interval(8.23e10, 8.2e10, 8.72e10)}
    text = summarize(conclude(Measured(2, (), rates, QUIET, (), {})))
    assert "copied at 1400 ±800 GB/s by 2 threads and 82.3 ±4.9 GB/s by 1 thread" in text


def test_what_could_not_be_measured_is_said() -> None:
    lacking = machine(
        noise={},
        notes=("2 turns were disturbed",),
        missing={"products through openvino": "its process was killed by SIGILL"},
    )
    text = summarize(conclude(lacking))
    assert "noise     not measured." in text
    assert "products through openvino could not be measured: its process was killed by SIGILL." in text
    assert "2 turns were disturbed." in text
    assert "Matrix products" not in text


def test_lines_fit_a_terminal() -> None:
    text = summarize(conclude(machine(*both("onnxruntime", "f32", 1, 1), *ORT, *both("openvino", "f32", 1, 1), *OV)))
    assert max(map(len, text.splitlines())) <= findings.WIDTH
    assert len(text.splitlines()) < 25
