"""Sensitivity: the layer that harms is found, what is known is kept, and what can't be told is refused by name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import models
from strop.cli import app
from strop.errors import InvalidData, InvalidGoal, TechniqueError, UnsupportedModel
from strop.insight import Sensitivity, sensitivity
from strop.insight.sensitivity import _error
from strop.metric import Outputs
from strop.model import FOREST
from strop.profiling import profile
from strop.target import Target
from strop.techniques import MixedOnnx
from strop.techniques import _harm as harm
from techniques.test_all import run
from techniques.test_mixed import BAD, LAYERS, converted, deep

TARGET = Target(threads=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


NAMES = "?" * 24 + ".json"  # as a digest has


def kept(cache: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in cache.rglob(NAMES)]


def found(kind: object, folder: Path, metric: str = "", seconds: float = 120.0) -> Sensitivity:
    example = kind(folder / "example")  # type: ignore[operator]
    (outputs,) = run(example.model, example.data).values()
    labels = outputs.argmax(1)  # so that each layer's harm shows
    replace(example.data, labels=labels).save(folder / "data")
    return sensitivity(example.model, folder / "data", metric, TARGET, 0, folder / "progress.json", seconds)


@pytest.mark.parametrize("kind", [deep, converted])
def test_the_one_bad_layer_of_twenty_comes_first(kind: object, tmp_path: Path) -> None:
    result = found(kind, tmp_path)
    assert len(result.groups) == LAYERS
    first, *others = result.groups
    assert f"m{BAD}" in first.name
    assert first.alone.error > 20 * max(group.alone.error for group in others)
    assert first.spared.error < 1.5 * sum(group.alone.error for group in others), "what is left is what the others do"
    assert all(group.spared.error > 0.5 * result.whole.error for group in others)
    assert result.original.error < 1e-9


@pytest.mark.parametrize("metric", ["accuracy", "fidelity"])
def test_a_metric_is_told_besides(metric: str, tmp_path: Path) -> None:
    result = found(deep, tmp_path, metric)
    values = {group.name: (group.alone.metric, group.spared.metric) for group in result.groups}
    assert all(0 <= value <= 1 for pair in values.values() for value in pair if value is not None)
    assert result.original.metric == pytest.approx(1)
    assert result.whole.metric is not None
    (bad,) = (pair for name, pair in values.items() if f"m{BAD}" in name)
    assert bad[0] == min(alone for alone, _ in values.values())
    assert bad[1] == max(spared for _, spared in values.values()), "without it most is as it was"
    assert metric == "accuracy" or bad[0] < 1 - 1e-4 < sorted(alone for alone, _ in values.values())[1]  # type: ignore


def test_what_is_known_is_kept_and_so_is_the_number_of_samples(tmp_path: Path, own_cache: Path) -> None:
    """However much time there is the next time: else nothing that is known would count."""
    before = found(deep, tmp_path)
    (file,) = kept(own_cache)
    assert file["samples"] == before.samples and len(file) == 2 * LAYERS + 3
    file["samples"] = 5
    file[f"alone {next(key for key in file if key.startswith('alone'))[6:]}"] = [42.0, None]
    next(own_cache.rglob(NAMES)).write_text(json.dumps(file))
    again = found(deep, tmp_path, seconds=1e6)
    assert (again.samples, again.groups[0].alone.error) == (5, 42.0)


def test_what_there_is_no_time_for_is_left_for_the_next_time(tmp_path: Path, own_cache: Path) -> None:
    found(deep, tmp_path)
    for measured in own_cache.rglob(NAMES):  # it is calibrated by now
        measured.unlink()
    first = found(deep, tmp_path, seconds=0.0)
    assert first.left and len(first.groups) + first.left == LAYERS
    more = found(deep, tmp_path, seconds=0.0)
    assert more.left < first.left or not more.left
    assert {group.name for group in first.groups} <= {group.name for group in more.groups}
    (file,) = kept(own_cache)
    assert file["samples"] == first.samples == more.samples == 4


def test_the_time_holds_for_calibrating_too(tmp_path: Path) -> None:
    with pytest.raises(
        TechniqueError, match=r"told in 0 s, and calibrating took longer \(.*0 of \d+.*Give fewer samples"
    ):
        found(deep, tmp_path, seconds=0.0)


def test_what_it_will_take_is_told_before_anything_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[float, str]] = []
    module = sys.modules["strop.insight.sensitivity"]
    monkeypatch.setattr(module, "Teller", lambda file: lambda share, words: said.append((share, words)))
    found(deep, tmp_path)
    own = [(share, words) for share, words in said if "bear int8" in words]
    assert own[0][0] == 0.0 and own[0][1].endswith("s more") and len(own) == LAYERS


def test_a_format_whose_precisions_nothing_mixes_is_refused(tmp_path: Path) -> None:
    example = deep(tmp_path / "example")
    example.data.save(tmp_path / "data")
    with pytest.raises(UnsupportedModel, match=r"none does for this forest model.*give a network as ONNX"):
        sensitivity(replace(example.model, format=FOREST), tmp_path / "data", "", TARGET, 0, tmp_path / "progress.json")


def test_what_another_version_of_the_technique_measured_is_not_taken_for_known(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(deep, tmp_path / "before")
    monkeypatch.setattr(MixedOnnx, "version", MixedOnnx.version + 1)
    found(deep, tmp_path / "after")
    first, second = kept(own_cache)
    assert first.keys() == second.keys()
    assert len(list(own_cache.rglob("quantized.onnx"))) == 2, "the mixed graph is made anew, too"


def test_what_all_techniques_refuse_is_said_once(tmp_path: Path) -> None:
    case = models.case("quantized", tmp_path)
    case.data.save(tmp_path / "data")
    with pytest.raises(UnsupportedModel, match=r"for this onnx model \(is already quantized\)"):
        sensitivity(case.model, tmp_path / "data", "", TARGET, 0, tmp_path / "progress.json")


@pytest.mark.parametrize(
    ("row", "expected"),
    [((3.0, 4.0, -np.inf), 0.0), ((3.0, 3.5, 0.0), 0.01), ((3.0, np.nan, -np.inf), np.inf)],
)  # fmt: skip
def test_scores_that_are_masked_count_for_nothing_and_those_that_are_lost_for_all(
    row: tuple[float, ...], expected: float
) -> None:
    right, made = {"y": np.array([[3.0, 4.0, -np.inf]], np.float32)}, {"y": np.array([row], np.float32)}
    assert _error(Outputs(made), Outputs(right)) == pytest.approx(expected)
    assert harm.error(lambda _: made, [right], [right]) == pytest.approx(expected)


def test_it_needs_samples(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="Give some: data=DATA"):
        profile(deep(tmp_path).model.path, target=TARGET, sensitivity=True)


def test_a_profile_holds_it(tmp_path: Path) -> None:
    example = deep(tmp_path)
    np.savez(tmp_path / "data.npz", **example.data.inputs)
    said: list[tuple[float, str]] = []
    told = profile(
        example.model.path, tmp_path / "data.npz", target=TARGET, sensitivity=True, metric="fidelity",
        tell=lambda share, words: said.append((share, words)),
    )  # fmt: skip
    assert said[0] == (0.0, f"how some {LAYERS} layers bear int8: 120 s at the most, calibrating included")
    assert f"m{BAD}" in told["sensitivity"]["groups"][0]["name"]
    assert told["sensitivity"]["whole"]["metric"] < told["sensitivity"]["original"]["metric"]
    (said,) = [one["said"] for one in told["guide"] if one["case"] == "layers in int8"]
    assert said.startswith(f"1 of {LAYERS} layers does half") and f"m{BAD}" in said


def test_a_profile_is_told_where_that_is_not(tmp_path: Path) -> None:
    case = models.case("quantized", tmp_path)
    np.savez(tmp_path / "data.npz", **case.data.inputs)
    told = profile(case.model.path, tmp_path / "data.npz", target=TARGET, sensitivity=True)
    assert told["sensitivity"] is None and told["layers"]
    (note,) = [note for note in told["notes"] if "bear int8" in note]
    assert note.startswith("how layers bear int8 is not told: ") and note.endswith("(is already quantized)")


def test_a_metric_that_there_is_not_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    example = deep(tmp_path)
    np.savez(tmp_path / "data.npz", **example.data.inputs)
    with pytest.raises(InvalidGoal, match="no metric 'acuracy'"):
        profile(example.model.path, tmp_path / "data.npz", target=TARGET, sensitivity=True, metric="acuracy")


def test_what_it_may_take_stands_in_a_log_too(tmp_path: Path) -> None:
    example = deep(tmp_path)
    np.savez(tmp_path / "data.npz", **example.data.inputs)
    words = ["profile", example.model.path, "--data", tmp_path / "data.npz", "--sensitivity", "--threads", 1]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0 and "How layers bear int8" in result.stdout
    assert result.stderr.startswith(f"how some {LAYERS} layers bear int8: 120 s at the most, calibrating included\n")
