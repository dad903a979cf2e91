"""The plan file: it carries the same keys as the flags of `strop optimize`, or of `strop tune`.

In the place of a MODEL, a plan file is run; without one, the `strop.toml` of the working directory. A flag beside it
wins over the file's key. Relative paths in the file are relative to the file, so that it runs the same from anywhere.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from .errors import InvalidGoal, InvalidPlan
from .fixed import Fixed, fixed
from .goal import Goal
from .images import Preprocessing
from .learning import Training
from .target import KINDS

T = TypeVar("T", Training, Preprocessing)

FILENAME = "strop.toml"
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, kw_only=True)
class Common:
    """What the plans of both verbs have; each field is the flag of the same name.

    Attributes:
        limit: Goals to keep, as people write them.
        minimize: The metric to make small; at most one of `minimize` and `maximize` is set.
        maximize: The metric to make large.
        label: The label column of a table.
        group: The column or array that says which samples belong together.
        training: How to train: a table `[training]`, whose keys are those of `Training`.
        threads: Cores that may be used; all where it is not said.
        batch: Samples in one call.
        budget: Seconds that the search may take; spelled as a span, such as `90s`, `10m` or `1h`.
        trials: Candidates, or trials, at the most.
        seed: Of every random choice.
        run: The run directory.
        trust_pickle: Whether a pickle may be read, which runs the code in it.

    Raises:
        InvalidPlan: A name or path holds a NUL byte.
    """

    verb: ClassVar[str]
    without: ClassVar[str]  # what to do where there is no plan file

    limit: tuple[str, ...] = ()
    minimize: str | None = None
    maximize: str | None = None
    label: str | None = None
    group: str | None = None
    training: Training | None = None
    threads: int | None = None
    batch: int | None = None
    budget: float | None = None
    trials: int | None = None
    seed: int | None = None
    out: Path | None = None
    run: Path | None = None
    trust_pickle: bool = False

    def __post_init__(self) -> None:
        if any("\0" in str(value) for value in vars(self).values()):
            raise InvalidPlan("names and paths must be text without NUL bytes. Look at what was given.")

    def under(self, flags: Mapping[str, Any]) -> Self:
        """This plan where flags of a command line win over it; a flag that is None or empty was not given."""
        given = {key: value for key, value in flags.items() if value not in (None, (), [])}
        if "minimize" in given or "maximize" in given:
            given = {"minimize": None, "maximize": None, **given}
        return replace(self, **given)


@dataclass(frozen=True)
class Plan(Common):
    """What `strop optimize` is asked to do.

    Attributes:
        model: A path, or `module:factory`.
        data: Samples to judge by: a path, or `module:function`.
        calibration: Samples to calibrate with.
        confirm: Samples to confirm on, which nothing else sees.
        train: Samples to train with, which are in none of the other data.
        metric: Metrics to report besides those of the goal: names, or `module:function`.
        preprocessing: Of images: a table `[preprocessing]`, whose keys are those of `Preprocessing`.
        set: Settings of techniques that are not to be searched: a table for each, such as `[set.tflite-int8]`.
        slice: Columns or arrays whose values are reported one by one; `sex*race` for the intersections of two.
        protected: Columns or arrays between whose values fairness is reported; they are slices too.
        target: What the model is for: `server` or `mobile`.
        formats: Formats that may be handed over; empty for any that an installed runtime loads.
        rate: Calls a second that arrive at random times, for `server.p99`.
        p99: Seconds within which 99 % of such calls must be answered, for `server.rate`.
        price: What an hour of the machine costs, for `cost`.
        out: Where the bundle is written.
        recipe: A bundle whose route is replayed.
        weights: A file of weights for a PyTorch module.
        mlflow: Whether the search is logged to MLflow when it is over.
    """

    verb: ClassVar[str] = "strop optimize"
    without: ClassVar[str] = (
        "strop init MODEL --data DATA writes one that fits both; or give them: strop optimize MODEL --data DATA."
    )

    model: str
    data: str
    metric: tuple[str, ...] = ()
    calibration: str | None = None
    confirm: str | None = None
    train: str | None = None
    preprocessing: Preprocessing | None = None
    set: Fixed | None = None
    slice: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    target: str | None = None
    formats: tuple[str, ...] = ()
    rate: float | None = None
    p99: float | None = None
    price: float | None = None
    recipe: Path | None = None
    weights: Path | None = None
    mlflow: bool = False

    def under(self, flags: Mapping[str, Any]) -> Self:
        """Of settings, one that is a flag wins over that of the file, and the others stay."""
        kept, given = self.set or {}, flags.get("set") or {}
        merged = {name: {**kept.get(name, {}), **given.get(name, {})} for name in {**kept, **given}}
        return super().under({**flags, "set": merged or None})


@dataclass(frozen=True)
class TunePlan(Common):
    """What `strop tune` is asked to do.

    Attributes:
        model: An estimator: a path, or `module:factory`. Without data, a `module:function` that trains for a trial.
        data: A path, or `module:function`.
        space: What to try: a table `[space]`, several as `[[space]]`, or a file that holds one.
        sampler, rungs, holdout, cv: As of `strop.tune.search`.
        out: Where the chosen estimator is written.
    """

    verb: ClassVar[str] = "strop tune"
    without: ClassVar[str] = "Give strop tune MODEL and --data, or write the file."

    model: str
    data: str | None = None
    space: Path | dict[str, Any] | list[dict[str, Any]] | None = None
    sampler: str | None = None
    rungs: str | None = None
    holdout: float | None = None
    cv: int | None = None


P = TypeVar("P", bound=Common)


def read(path: str | Path, kind: type[P]) -> P:
    """Read and validate a plan file.

    Args:
        kind: The plan of which verb it is to be.

    Raises:
        InvalidPlan: The file can't be read, isn't TOML, or holds an unknown key or a wrong value; the message begins
            with file and line.
    """
    path = Path(path)
    text = _text(path, kind.without)
    table = _parse(path, text)
    lines = _Lines(text)
    known = [field.name for field in fields(kind)]
    for key in table:
        if key in known:
            continue
        if other := next((plan for plan in (Plan, TunePlan) if key in plan.__dataclass_fields__), None):
            raise InvalidPlan(f"{path}:{lines.of(key)}: {key} is a key of {other.verb}, and {kind.verb} has none such.")
        near = get_close_matches(key, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The keys are: {', '.join(known)}."
        raise InvalidPlan(f"{path}:{lines.of(key)}: there is no key {key!r}. {hint}")
    for field in fields(kind):
        if field.default is MISSING and field.name not in table:
            raise InvalidPlan(
                f'{path}:1: a plan must name its {field.name}, and has no such key. Add: {field.name} = "PATH"'
            )
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = READERS[key](value, path.parent)
        except _Wrong as wrong:
            raise InvalidPlan(f"{path}:{lines.of(key, wrong.element)}: {key} must be {wrong}.") from None
        except InvalidPlan as error:
            raise InvalidPlan(f"{path}:{lines.of(key)}: {error}") from None
    plan = kind(**values)
    _check_goal(plan, path, lines)
    return plan


def named(model: str | None) -> Path | None:
    """The plan file in the place of a model; the working directory's where nothing is given, None for a model."""
    if model is None:
        return Path(FILENAME)
    return Path(model) if Path(model).suffix.lower() == Path(FILENAME).suffix else None


def read_space(path: Path) -> Any:
    """What a file says may be tried: the `space` of a plan file, or a JSON document that is one.

    Raises:
        InvalidPlan: It can't be read, or holds none.
    """
    text = _text(path, "Name a file that holds a space.")
    if path.suffix.lower() != ".json":
        table = _parse(path, text)
        if "space" not in table:
            raise InvalidPlan(
                f"{path}: a space is a table [space], or several as [[space]], and there is none. Add it."
            )
        return table["space"]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPlan(f"{path}: must be JSON, and can't be read: {error}.") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidPlan(_syntax(path, text, str(error))) from None
    except (ValueError, RecursionError) as error:  # numbers and nesting beyond what Python reads
        raise InvalidPlan(f"{path}: can't be read: {error}") from None
    if "\0" in text:
        raise InvalidPlan(f"{path}: must be text, and holds a NUL byte. Remove it.")
    return table


def _check_goal(plan: Common, path: Path, lines: _Lines) -> None:
    """Read the goal as it grows clause by clause: the first that can't be read, or contradicts, gets the blame."""
    clauses: list[tuple[str, int | None, str]] = [("limit", place, text) for place, text in enumerate(plan.limit)]
    clauses += [(way, None, f"{way} {getattr(plan, way)}") for way in ("minimize", "maximize") if getattr(plan, way)]
    for count, (key, place, _) in enumerate(clauses, 1):
        try:
            Goal.parse("; ".join(text for *_, text in clauses[:count]))
        except InvalidGoal as error:
            raise InvalidPlan(f"{path}:{lines.of(key, place)}: {error}") from None


def seconds(text: str) -> float:
    """Seconds of a span of time as people write it: `20ms`, `90s`, `10m`, `1.5h`.

    Raises:
        InvalidPlan: It is no such span, or is not above zero.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|[smh])\s*", text)
    if not match or float(match[1]) == 0:
        raise InvalidPlan(f"a span of time must be like '20ms', '90s', '10m' or '1.5h', and above zero, not {text!r}")
    return float(match[1]) * UNITS[match[2]]


class _Wrong(Exception):
    """A value that a key can't take; `element` is its place where it stands in an array."""

    def __init__(self, rule: str, value: object, element: int | None = None):
        super().__init__(f"{rule}, not {_shown(value)}")
        self.element = element


def _string(value: object, folder: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong("a string", value)
    return value


def _source(value: object, folder: Path) -> str:
    text = _string(value, folder)
    return text if re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", text) else str(_path(value, folder))


def _path(value: object, folder: Path) -> Path:
    return folder / os.path.expanduser(_string(value, folder))


def _kind(value: object, folder: Path) -> str:
    if not isinstance(value, str) or value not in KINDS:
        raise _Wrong(" or ".join(map(repr, KINDS)), value)
    return value


def _strings(value: object, folder: Path) -> tuple[str, ...]:
    elements = value if isinstance(value, list) else [value]
    for place, element in enumerate(elements):
        if not isinstance(element, str) or not element.strip():
            raise _Wrong("a string or an array of strings", element, place if elements is value else None)
    return tuple(elements)


def _at_least(low: int) -> Callable[[object, Path], int]:
    def read(value: object, folder: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise _Wrong(f"a whole number of at least {low}", value)
        return value

    return read


def _span(value: object, folder: Path) -> float:
    try:
        return seconds(_string(value, folder))
    except (InvalidPlan, _Wrong):
        raise _Wrong("like '20ms', '90s', '10m' or '1.5h', and above zero", value) from None


def _above_zero(value: object, folder: Path) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise _Wrong("a number above zero", value)
    return float(value)


def _true_or_false(value: object, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false", value)
    return value


def _share(value: object, folder: Path) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise _Wrong("a share from 0 to below 1", value)
    return float(value)


def _space(value: object, folder: Path) -> Any:
    if isinstance(value, str):
        return _path(value, folder)
    if not isinstance(value, (dict, list)):
        raise _Wrong("a table, as [space], several, as [[space]], or a file that holds one", value)
    return value


def _training(value: object, folder: Path) -> Training:
    table = value if isinstance(value, dict) else {}
    spans = {"seconds": _span(table["seconds"], folder)} if isinstance(table.get("seconds"), str) else {}
    return _made(Training, {**table, **spans} if table else value, "training")


def _preprocessing(value: object, folder: Path) -> Preprocessing:
    return _made(Preprocessing, value, "preprocessing")


def _made(kind: type[T], value: object, name: str) -> T:
    """What a table's keys make of its class."""
    if not isinstance(value, dict):
        raise _Wrong(f"a table, as [{name}]", value)
    known = list(kind.__dataclass_fields__)
    for key in value:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise _Wrong(f"of the keys {', '.join(known)}" + (f" (did you mean {near[0]}?)" if near else ""), key)
    return kind(**value)


def _settings(value: object, folder: Path) -> Fixed:
    return fixed(value)


READERS: dict[str, Callable[[Any, Path], Any]] = {
    **dict.fromkeys(("model", "data", "calibration", "confirm", "train"), _source),
    **dict.fromkeys(("limit", "metric", "slice", "protected", "formats"), _strings),
    **dict.fromkeys(("minimize", "maximize", "label", "group", "sampler", "rungs"), _string),
    **dict.fromkeys(("threads", "batch", "trials"), _at_least(1)),
    **dict.fromkeys(("out", "run", "recipe", "weights"), _path),
    "seed": _at_least(0),
    "cv": _at_least(2),
    "holdout": _share,
    "space": _space,
    "target": _kind,
    "training": _training,
    "preprocessing": _preprocessing,
    "set": _settings,
    **dict.fromkeys(("trust_pickle", "mlflow"), _true_or_false),
    **dict.fromkeys(("budget", "p99"), _span),
    **dict.fromkeys(("rate", "price"), _above_zero),
}


class _Lines:
    """On which lines the values of a document stand.

    A TOML statement ends where its line ends, so the shortest run of whole lines that parses is one statement.
    """

    def __init__(self, text: str):
        self._found: dict[str, tuple[int, list[str]]] = {}
        table: str | None = None
        for first, lines in _statements(text):
            key = next(iter(_parsed(lines) or ()), None)
            if key and lines[0].lstrip().startswith("["):
                table = key
            if key:
                self._found.setdefault(table or key, (first, lines))

    def of(self, key: str, element: int | None = None) -> int:
        """The line on which a top-level key begins, or on which an element of its array ends."""
        first, lines = self._found[key]
        if element is None:
            return first
        for count in range(1, len(lines)):
            closed = _parsed([*lines[:count], "]"])
            if closed and len(closed[key]) > element:
                return first + count - 1
        return first + len(lines) - 1


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    taken: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        taken.append(line)
        if _parsed(taken) is not None:
            yield number - len(taken) + 1, taken
            taken = []


def _parsed(lines: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return None


def _text(path: Path, otherwise: str) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidPlan(
            f"{path}: a plan file must be a readable file, and this one is not ({error.strerror}). {otherwise}"
        ) from None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidPlan(
            f"{path}:{line}: a plan file must be UTF-8, and this line is not. Save it as UTF-8."
        ) from None


def _syntax(path: Path, text: str, message: str) -> str:
    """tomllib tells the place only inside its message: "... (at line 3, column 5)" or "(at end of document)"."""
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    what = message[: place.start()] if place else message
    line, column = (place[1], place[2]) if place and place[1] else (text.rstrip().count("\n") + 1, "its end")
    return f"{path}:{line}: a plan file must be TOML, and this line is not: {what} (column {column})."


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, default=str) if isinstance(value, (bool, list)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
