"""The table of a profile: as many rows as make up most of the time, and as many columns as there is room for."""

from __future__ import annotations

from typing import Any

import pytest

from strop.insight import summarize
from strop.insight.show import BARS
from strop.insight.table import layer_table


def layer(name: str, seconds: float | None, share: float = 0.1, **more: Any) -> dict[str, Any]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value, "high": value}

    return {
        "name": name, "operator": "Conv",
        "seconds": seconds and interval(seconds), "share": seconds and interval(share),
        "operations": 25_700_000.0, "bytes": 18_500_000, "parameters": 4_600_000, "attainable": seconds, "reached": 0.5,
        "bound_by": "compute", "layers": [name], "precision": "f32", "intensity": 12.34, **more,
    }  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 95, 110])
@pytest.mark.parametrize("longest", [5, 40])
def test_a_line_holds_what_there_is_room_for(width: int, longest: int) -> None:
    lines = layer_table([layer(f"{at}".rjust(longest, "n"), 1e-3) for at in range(50)], width)
    assert max(map(len, lines)) <= width
    head = lines[2]
    assert {"layer", "operator", "time", "share", "reached", "bound"} <= set(head.split())
    if width == 110:
        assert head.split()[-5:] == ["work", "bytes", "type", "per", "byte"], head
        assert "25.7 M  18.5 MB   f32      12.3" in lines[3]
        assert "work: multiply-adds. bytes: of its weights" in " ".join(" ".join(lines).split())
    if width == 60:
        assert "work" not in head and "work:" not in " ".join(lines)


def test_what_latency_means_is_said_where_it_binds() -> None:
    trees = layer("trees", 1e-3, operator="TreeEnsemble", bound_by="latency", intensity=None)
    assert "reads wait for each other; work is the splits" in " ".join(" ".join(layer_table([trees], 110)).split())
    assert "latency" not in " ".join(layer_table([layer("conv", 1e-3)], 110))


def test_rows_go_on_until_most_of_the_time_is_listed() -> None:
    rows = layer_table([layer(f"l{at}", 1e-3, 1 / 28) for at in range(28)], 110)
    assert sum(" 1 ms " in line for line in rows) == 23 and any("and 5 more" in line for line in rows)
    last = layer_table([layer(f"l{at}", 1e-3 if at < 12 else 1e-5, 1 / 13) for at in range(13)], 110)
    assert any(line.split()[:5] == ["and", "1", "more", "10", "µs"] for line in last), last
    one = layer_table([layer("big", 1.0, 0.9), *(layer(f"l{at}", 1e-3, 1e-3) for at in range(50))], 110)
    assert any("and 39 more" in line for line in one), "a dozen are listed at the least"
    many = layer_table([layer(f"l{at}", 1e-3, 1e-3) for at in range(5000)], 110)
    assert any("and 4,960 more" in line for line in many)


def test_all_rows_are_listed_where_that_is_asked_for() -> None:
    for seconds in (1e-3, None):
        found = layer_table([layer(f"l{at}", seconds, 1e-3) for at in range(50)], 110, whole=True)
        assert {line.split()[0] for line in found if line.strip()} >= {f"l{at}" for at in range(50)}
        assert not any("more" in line.split() and "and" in line.split()[:1] for line in found)


def test_operators_share_the_time_of_the_layers() -> None:
    rows = [layer(f"l{at}", 1e-3, 0.05, operator="Conv" if at % 2 else "Gemm") for at in range(30)]
    said = " ".join(" ".join(layer_table(rows, 80)).split())
    assert "by operator, of the layers' time: 15 Gemm 50%, 15 Conv 50%" in said, "though together they take 1.5 calls"


def test_layers_without_times_are_listed_by_what_they_are_made_of() -> None:
    rows = [layer(f"l{at}", None, operations=1e6 * at, layers=[]) for at in range(20)]
    lines = layer_table(rows, 80)
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["layer", "operator", "parameters", "work", "share", "bytes"]
    assert lines[3].split() == ["l19", "Conv", "4,600,000", "19", "M", "10.0%", "18.5", "MB"]
    assert any("more" in line and "36,800,000" in line for line in lines)
    untold = layer_table([{**row, "operations": row["operations"] or None} for row in rows], 80)
    assert untold[3:] == lines[3:], "of the first, nothing is known"
    held = layer_table([{**row, "operations": 0.0} for row in rows], 80)
    assert "share: of all bytes" in " ".join(held)
    assert layer_table(rows[:1], 80) == []


def test_memory_is_drawn_from_layer_to_layer() -> None:
    found: dict[str, Any] = {
        "model": {"format": "onnx", "size": 10, "batch": 1, "runtime": "onnxruntime", "threads": 1},
        "structure": {}, "told": {}, "layers": [], "advice": [], "unfit": {}, "notes": [], "bound_by": None, "calls": 1,
        "seconds": {"value": 1e-3, "low": 1e-3, "high": 1e-3}, "memory": 100,
        "held": {"weights": 10, "most": 80.0, "at": "b", "largest": "a", "over_time": [10.0, 80.0, 40.0, 0.0]},
    }  # fmt: skip
    said = " ".join(summarize(found).split())
    assert "from layer to layer: ▂█▅▁ (highest: 80 B)" in said and "(the largest of them is made by a)" in said
    found["held"] = {**found["held"], "largest": "", "over_time": [1.0] * 600 + [80.0] * 600}
    said = summarize(found)
    assert BARS[0] * 30 + BARS[-1] * 30 + " " in said and "is an input" in " ".join(said.split())


def test_words_of_the_advice_are_explained_once() -> None:
    advice = [
        {"technique": name, "gain": 0.5, "why": why, "rest": ""}
        for name, why in (
            ("static-int8", "With ranges of activations learned; less than with VNNI"),
            ("mixed-onnx", "The mix (error 0.3); less than with VNNI"),
        )
    ]
    found: dict[str, Any] = {
        "model": {"format": "onnx", "size": 10, "batch": 1, "runtime": "onnxruntime", "threads": 1},
        "structure": {}, "told": {}, "layers": [], "advice": advice, "unfit": {}, "notes": [], "bound_by": None,
        "seconds": {"value": 1e-3, "low": 1e-3, "high": 1e-3}, "memory": 100, "calls": 1,
    }  # fmt: skip
    said = " ".join(summarize(found).split())
    for word in ("activations: the values between layers", "ranges: the least", "error 0.3: the mix", "VNNI: instr"):
        assert said.count(word) == 1, word
    assert "so little is gained" not in said
