"""A recipe: the type of single layers of a .tflite, by patterns of their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

import tflites
from strop.errors import InvalidPlan, NotApplicable
from strop.formats.tflite import read
from strop.target import Target
from strop.technique import Technique
from strop.techniques import TfliteInt8, TfliteWeights

BOTH = pytest.mark.parametrize("kind", [TfliteInt8, TfliteWeights])


def types(path: Path) -> dict[str, str]:
    """Of the kernels in a file, by layer."""
    found = read(path).all_values
    return {v.name.split("/")[0]: v.dtype for v in found if v.stored and "kernel" in v.name}


@BOTH
@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        ("dense|logits=float", {"first": "int8", "second": "int8", "dense": "float32"}),
        (".*=int4; ^second=float ;first=int8", {"first": "int8", "second": "float32", "dense": "int4"}),
        ("sec=float;.*=int8", {"first": "int8", "second": "int8", "dense": "int8"}),
    ],
)
def test_layers_take_the_types_that_a_recipe_names(
    tmp_path: Path, kind: type[Technique], recipe: str, wanted: dict[str, str]
) -> None:
    example = tflites.logits(tmp_path / "model")
    made = tflites.quantize(replace(kind(), recipe=recipe), example, tmp_path / "made")
    assert types(made.path) == wanted
    right = tflites.answers(example.model, example.data)["scores"]
    assert np.abs(tflites.answers(made, example.data)["scores"] - right).max() < 0.25 * np.abs(right).max()


@BOTH
@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("dense", r"'dense' is not: it names no layers"),
        ("=int8", "'=int8' is not"),
        ("^first;$=int4", r"'\^first' is not"),
        ("dense=int5", "'dense=int5' is not"),
        ("den(se=int8", r"'den\(se=int8' is not: missing \)"),
        ("(?P<a>x)(?P<a>y)=float", "redefinition"),
        (3, "must be text"),
    ],
)
def test_what_is_no_recipe_is_refused_at_once(kind: type[Technique], recipe: object, said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        kind.of({"recipe": recipe})


@BOTH
def test_a_pattern_that_is_in_no_name_is_refused_with_the_names_there_are(
    tmp_path: Path, kind: type[Technique]
) -> None:
    model = tflites.logits(tmp_path).model
    with pytest.raises(NotApplicable, match=r"'conv\.\*' is in the name of no layer .* make int4; there are 'first;'"):
        replace(kind(), recipe="dense|logits=float;conv.*=int4").requires(model, tflites.ONE)
    with pytest.raises(NotApplicable, match="not in int4, as 'first' has it"):
        replace(kind(), recipe="first=int4").requires(model, Target(threads=1, kind="mobile"))
    replace(kind(), recipe="mean=float").requires(model, tflites.ONE)


def test_a_recipe_leaves_inputs_and_outputs_as_they_are(tmp_path: Path) -> None:
    example = tflites.logits(tmp_path / "model")
    made = tflites.quantize(TfliteInt8(recipe=".*=int8"), example, tmp_path / "made")
    graph = read(made.path)
    assert {graph.values[at].dtype for at in (*graph.inputs.values(), *graph.outputs.values())} == {"float32"}
