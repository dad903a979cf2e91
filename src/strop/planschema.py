"""Plan schema: what an editor is told of `strop.toml`, as JSON Schema, made of the classes that a plan is read into.

It ships as `plan.schema.json`; `python -m strop.planschema` prints it anew.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from . import techniques
from .images import Preprocessing
from .learning import Training
from .planfile import Common, Plan, TunePlan
from .prepare import SEEDS
from .settings import Choice, Domain
from .target import KINDS
from .technique import Technique

SPAN = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|[smh])\s*$"}
ABOVE = {"type": "number", "exclusiveMinimum": 0}
COUNT = {"type": "integer", "minimum": 1}
NOT_BELOW = {"type": "number", "minimum": 0}
UNIT = {"type": "number", "minimum": 0, "maximum": 1}
TEXT = {"type": "string", "pattern": r"\S"}
SIDES = {
    "anyOf": [
        COUNT,
        {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 2},
    ]
}

# What a type does not tell of a key: how it is spelled, and its bounds.
NARROWER: dict[type, dict[str, Any]] = {
    Common: {
        **dict.fromkeys(("threads", "batch", "trials"), COUNT),
        **dict.fromkeys(("budget", "p99"), SPAN),
        **dict.fromkeys(("rate", "price"), ABOVE),
        "seed": {"type": "integer", "minimum": 0, "maximum": SEEDS - 1},
        "target": {"enum": list(KINDS)},
        "set": {"$ref": "#/$defs/settings"},
        "cv": {"type": "integer", "minimum": 2},
        "holdout": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    },
    Training: {
        **dict.fromkeys(("loss", "augment", "student"), TEXT),
        **dict.fromkeys(("batch", "patience"), COUNT),
        **dict.fromkeys(("features", "momentum", "l2", "weight_decay"), NOT_BELOW),
        **dict.fromkeys(("temperature", "epochs", "learning_rate"), ABOVE),
        "seconds": {"anyOf": [ABOVE, SPAN]},
        "teach": UNIT,
        "holdout": {**UNIT, "maximum": 0.5},
    },
    Preprocessing: dict.fromkeys(("resize", "crop"), SIDES),
}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `strop.toml`, of `strop optimize` or of `strop tune`."""
    parts = (("optimize", Plan), ("tune", TunePlan), ("training", Training), ("preprocessing", Preprocessing))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:strop:plan:1",
        "title": "What strop is asked to do: strop.toml",
        "anyOf": [{"$ref": "#/$defs/optimize"}, {"$ref": "#/$defs/tune"}],
        "$defs": {**{name: _table(kind) for name, kind in parts}, "settings": _settings()},
    }


def _settings() -> dict[str, Any]:
    """The settings of strop's own techniques; those of other packages are held to nothing here."""
    tables = {technique.label(): _table_of(technique) for technique in techniques.TECHNIQUES}
    return {"title": "Settings by technique", "type": "object", "properties": tables}


def _table_of(technique: type[Technique]) -> dict[str, Any]:
    told, domains = _told(technique), technique.space()
    keys = {
        name: {
            **({"description": told[name]} if name in told else {}),
            **(_domain(domains[name]) if name in domains else _rule(type(default))),
            "default": default,
        }
        for name, default in technique().settings().items()
    }
    title = (inspect.getdoc(technique) or "").partition("\n")[0]
    return {"title": title, "type": "object", "additionalProperties": False, "properties": keys}


def _domain(domain: Domain) -> dict[str, Any]:
    if isinstance(domain, Choice):
        return {"enum": list(domain.values)}
    whole = isinstance(domain.low, int) and isinstance(domain.high, int)
    return {"type": "integer" if whole else "number", "minimum": domain.low, "maximum": domain.high}


def _table(kind: type[Any]) -> dict[str, Any]:
    """The keys of a table that is read into a class."""
    hints, told = get_type_hints(kind), _told(kind)
    base = Common if issubclass(kind, Common) else kind
    keys: dict[str, Any] = {}
    for field in fields(kind):
        rule = NARROWER[base].get(field.name) or _rule(hints[field.name])
        said = {"description": told[field.name]} if field.name in told else {}
        plain = isinstance(field.default, (bool, int, float, str))
        keys[field.name] = {**said, **rule, **({"default": field.default} if plain else {})}
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    return {
        "title": (inspect.getdoc(kind) or "").partition("\n")[0],
        "type": "object",
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
        "properties": keys,
    }


def _rule(hint: Any) -> dict[str, Any]:
    """What a type allows, as it is spelled in TOML, where null can't be said."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        rules = [_rule(one) for one in inner if one is not NoneType]
        return rules[0] if len(rules) == 1 else {"anyOf": rules}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        one = _rule(inner[0])
        many = {"type": "array", "items": one}
        return {"anyOf": [one, many]} if inner[0] is str else many
    if origin is list:
        return {"type": "array", "items": _rule(inner[0])}
    if isinstance(hint, type) and is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__.lower()}"}
    if hint in (str, Path):
        return TEXT
    if hint is bool:
        return {"type": "boolean"}
    if hint in (int, float):
        return {"type": "integer" if hint is int else "number"}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    raise TypeError(f"a plan's keys are of plain types and of tables, and {hint} is neither; say its rule in NARROWER")


def _told(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class, and of those that it is made of, tell of each attribute."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        section = re.search(r"^Attributes:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(one.__doc__ or ""), re.M | re.S)
        for names, said in re.findall(r"^    ([\w, ]+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.M):
            found |= dict.fromkeys(names.split(", "), " ".join(said.split()))
    return found


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
