"""The schema of plan files: it is made of the classes, and says what the reader says."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from strop.errors import InvalidPlan
from strop.planfile import READERS, Common, Plan, TunePlan, read
from strop.planschema import schema
from test_planfile import FULL

SHIPPED = json.loads(resources.files("strop").joinpath("plan.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SHIPPED)


def test_what_ships_is_what_the_classes_say() -> None:
    assert schema() == SHIPPED, "run: python -m strop.planschema > src/strop/plan.schema.json"
    jsonschema.Draft202012Validator.check_schema(SHIPPED)


@pytest.mark.parametrize(("name", "kind"), [("optimize", Plan), ("tune", TunePlan)])
def test_every_key_is_there_and_explained(name: str, kind: type[Common]) -> None:
    keys = SHIPPED["$defs"][name]["properties"]
    assert set(keys) == {field.name for field in fields(kind)} <= set(READERS)
    assert not [key for key, rule in keys.items() if not rule.get("description")]


def test_a_plan_with_every_key_is_valid() -> None:
    VALIDATOR.validate(tomllib.loads(FULL))


BASE = 'model = "m.onnx"\ndata = "d.npz"\n'


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (BASE, True),
        ('data = "d.npz"', False),
        (BASE + "colour = 1", False),
        (BASE + 'budget = "10m"', True),
        (BASE + 'budget = "10 parsecs"', False),
        (BASE + "budget = 10", False),
        (BASE + "threads = 0", False),
        (BASE + "threads = 1.5", False),
        (BASE + 'limit = "size < 1 MB"', True),
        (BASE + 'limit = ["size < 1 MB", 5]', False),
        (BASE + 'target = "fridge"', False),
        (BASE + "rate = 0", False),
        (BASE + 'trust_pickle = "yes"', False),
        (BASE + "seed = -1", False),
        (BASE + '[training]\noptimizer = "sgd"\nseconds = "2m"\nepochs = 2', True),
        (BASE + '[training]\noptimizer = "lion"', False),
        (BASE + "[training]\nteach = 2", False),
        (BASE + "[training]\nepoch = 2", False),
        (BASE + "[preprocessing]\nresize = [224, 224]\nmean = [1, 2, 3]\nstd = 2", True),
        (BASE + "[preprocessing]\nresize = 0", False),
        (BASE + '[preprocessing]\ncolors = "cmyk"', False),
        (BASE + 'preprocessing = "yes"', False),
        (BASE + '[set.tflite-int8]\nkeep = 0\nrecipe = "dense=float"\n[set.factorize]\namount = 0.5', True),
        (BASE + "set.tflite-int8.integer_ends = true", True),
        (BASE + "set.tflite-int8.integer_ends = 1", False),
        (BASE + "set.tflite-int8.keep = 0.2", False),
        (BASE + "set.tflite-int8.depth = 3", False),
        (BASE + "set.tflite-int8 = 3", False),
        (BASE + "set.factorize.amount = 2", False),
        (BASE + "set = 3", False),
    ],
)
def test_the_schema_and_the_reader_agree(tmp_path: Path, text: str, right: bool) -> None:
    (tmp_path / "strop.toml").write_text(text)
    if right:
        read(tmp_path / "strop.toml", Plan)
    else:
        with pytest.raises(InvalidPlan):
            read(tmp_path / "strop.toml", Plan)
    assert VALIDATOR.is_valid(tomllib.loads(text)) is right


@pytest.mark.parametrize(
    ("keys", "right"),
    [
        ({"space": {"C": [1, 2]}, "cv": 3, "holdout": 0.2}, True),
        ({"space": [{"C": [1]}, {"C": [2]}], "sampler": "tpe"}, True),
        ({"space": "space.json"}, True),
        ({"space": 3}, False),
        ({"cv": 1}, False),
        ({"holdout": 1}, False),
        ({"cv": 3, "formats": ["onnx"]}, False),  # of two verbs
    ],
)
def test_a_plan_to_tune_is_one_too(keys: dict[str, Any], right: bool) -> None:
    assert VALIDATOR.is_valid({"model": "pipeline.skops", **keys}) is right
