"""Put to use: how what a search over parameters chose is deployed, and how the search is had once more."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import PurePath
from typing import Any

from ..units import counted
from .again import environment, hashes
from .parts import bullets, code

PATHS = ("model", "data", "space")
BARE = re.compile(r"[A-Za-z0-9_-]+")  # a key that TOML takes without quotes
LOAD = """\
import skops.io

model = skops.io.load({file!r}, trusted={trusted!r})
print(model)  # model.predict(X) answers to samples like those of the search
"""
TRAIN = """\
{imports}import optuna

from strop.tune.functions import Training

params = {params!r}
print({name}(Training(optuna.trial.FixedTrial(params), params)))
"""
FIT = """\
model.set_params(**{params!r})  # of the estimator as given
model.fit(X, y)
"""
WEIGHTS = """\
import torch

torch.save(found.estimator.module.state_dict(), "chosen.pt")  # of what the call below returned
"""


def deploy(found: Mapping[str, Any]) -> str:
    """Code that has what was chosen.

    Args:
        found: As `Tuned.to_json` has it.
    """
    how, params = found["how"], found["params"]
    if not how:
        return ""
    if kept := how.get("file"):
        file = kept["name"]
        return (
            f"<p>This runs in the run directory, where <code>{escape(file)}</code> is the chosen estimator, fitted:</p>"
            + code(LOAD.format(file=file, trusted=kept["trusted"]), "Python that loads it")
            + "<p>Types that are listed as trusted are not skops' own: look at them first. <code>strop optimize</code> "
            f"with <code>{escape(file)}</code> makes a smaller and faster bundle of it, which runs without skops.</p>"
        )
    if not params:
        return "<p>There is nothing to deploy but the estimator as given.</p>"
    if how.get("module"):
        return (
            "<p>The result's <code>estimator.module</code> is what was trained. The call below with the same run "
            f"returns it once more, without the fits that are kept there.</p>{code(WEIGHTS, 'Python that writes it')}"
        )
    if "cv" in how:
        return (
            "<p>The result's <code>estimator</code> is it, fitted, and its <code>save</code> writes it as a "
            f"<code>.skops</code> file. Fitted anew:</p>{code(FIT.format(params=params), 'Python')}"
        )
    module, _, name = how.get("function", "").rpartition(":")
    name = name or str(how["model"])
    imports, where = (f"from {module} import {name}\n\n", "") if module else ("", f", where {name} is known")
    return f"<p>A function leaves no model but what it writes itself. This trains once more{escape(where)}:</p>" + code(
        TRAIN.format(imports=imports, params=params, name=name), "Python that trains it"
    )


def once_more(found: Mapping[str, Any]) -> str:
    """The search as a command and a plan, where `strop tune` was asked; as a call; seeds, machine, versions, hashes."""
    how = found["how"]
    if not how:
        return "<p>The search did not say how it was asked.</p>"
    lines = [
        f"model: {how['model']}",
        f"space: {how['space'] or 'drawn by the function itself'}",
        f"{counted(how['threads'], 'thread')}, seed {how['seed']}",
        "on one thread the same call tries the same candidates; on several, what is tried next depends on which fit "
        "ends first",
    ]
    return (
        (_asked(how["asked"]) if how.get("asked") else "")
        + f"<h3>The call</h3>{code(_call(how), 'The call')}{bullets(lines)}"
        + f"<h3>Machine and versions</h3>{environment(how['environment'])}"
        + (f"<h3>Hashes</h3>{hashes(how['hashes'], 'MD5, as joblib.hash')}" if how.get("hashes") else "")
    )


def _asked(plan: Mapping[str, Any]) -> str:
    asked: dict[str, Any] = {name: PurePath(value).name if name in PATHS and isinstance(value, str) else value
             for name, value in plan.items() if name != "out" and value not in (None, [], {}, False)}  # fmt: skip
    if "budget" in asked:
        asked["budget"] = f"{math.ceil(asked['budget'])}s"
    tables = {name: value for name, value in asked.items() if name in ("space", "training") and not _is_flag(value)}
    flags = {name: value for name, value in asked.items() if name not in tables}
    command = code("strop tune" if tables else _command(flags), "The command")
    beside = f"{'With' if tables else 'Or'} <code>strop.toml</code>, which <code>strop tune</code> runs"
    file = code(_plan(flags, tables), "strop.toml")
    return f"<h3>The command</h3>{command}<p>{beside}; folders are left out:</p>{file}"


def _is_flag(value: object) -> bool:
    return isinstance(value, str)


def _command(flags: Mapping[str, Any]) -> str:
    lines = [f"strop tune {shlex.quote(flags['model'])}"]
    for name, value in flags.items():
        if name != "model":
            given = [""] if value is True else [f" {shlex.quote(str(one))}" for one in _several(value)]
            lines += [f"--{name.replace('_', '-')}{one}" for one in given]
    return " \\\n    ".join(lines)


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plan(flags: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    return "\n".join([*_pairs(flags), *(line for name, value in tables.items() for line in _table(name, value))])


def _table(name: str, value: Any) -> Iterator[str]:
    for one in _several(value):
        yield from ["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]", *_pairs(one)]


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{_key(name)} = {_toml(value)}" for name, value in values.items() if value is not None)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(_pairs(value))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _call(how: Mapping[str, Any]) -> str:
    asked = ("sampler", "rungs", "pruner", "holdout", "batch", "threads", "seed")
    words = [f"goal={how['goal']!r}", *(f"{name}={how[name]!r}" for name in asked if how.get(name) is not None)]
    words += [f"cv={how['cv']}"] if how.get("cv", "None") != "None" else []
    words.append(f"budget=strop.Budget({how['seconds']:g}, {how['trials']})")
    given = ["model", "space", *(["X", "y"] if "cv" in how else [])]
    return f"strop.tune.search(\n    {', '.join(given)},\n" + "".join(f"    {word},\n" for word in words) + ")"
