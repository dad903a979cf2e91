"""What LiteRT's profiler tells of each operator, with the layers of the model's file that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np

from .._quiet import hushed
from ..errors import NotApplicable
from ..formats.tflite import INTEGERS, Graph, TfliteFormat, names, read
from ..model import Model
from ..runtime import Array, LayerTime, Profiled
from ._litert_fusion import Group, Part, grouped
from ._litert_library import Event, Watched
from ._profiled import EACH, TOLD, per_layer, take_turns

OPERATOR, DELEGATED = 2, 8
"""Kinds of events: an operator of the file, and a part of what a delegate runs."""
WITHIN = 1e-6
"""Seconds that the profiler takes for one of these, at the most."""
INNER = 50
"""Times as long it takes for one in the body of a loop, where it asks the delegate for what that ran, every time."""
BACK = 20
"""Operators before an output that are tried in place of it."""
FLOATS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}


def profiled(
    model: Model, plain: Sequence[Callable[[], object]], feeds: Sequence[Mapping[int, Array]],
    threads: int, seconds: float,
) -> Profiled:  # fmt: skip
    """Run a model with the profiler and without.

    Args:
        model: On disk.
        plain: Calls without the profiler, one a batch.
        feeds: What the inputs hold in these, by the numbers of their tensors.
        threads: Of a call.
        seconds: That it may take, or so.

    Raises:
        NotApplicable: The profiler can't run it, or its log is not as it should be.
    """
    graph = read(model.path)
    logs: list[list[Event]] = []
    with TemporaryDirectory(prefix="strop-") as folder:
        path = _taken(model, graph, feeds[0], threads, Path(folder))
        with closing(Watched(path, threads)) as watched:
            calls = [watched.bind(feed) for feed in feeds]
            turns = take_turns(
                plain, calls, len(graph.operators), threads, seconds, lambda: logs.append(_last(watched.events()))
            )
    parts = [_part(event) for event in logs[0]]
    if not parts or any([_part(event) for event in log] != parts for log in logs):
        raise NotApplicable("the log of LiteRT's profiler does not hold the same parts for every call")
    taken = np.array([[event.taken for event in logs[turn]] for turn in turns.kept]) * 1e-6
    groups = grouped(parts, graph)
    told = [place for group in groups for place in group.parts]
    written = _written(parts, told)
    each = dict(zip(told, per_layer(taken[:, told], turns, WITHIN, written), strict=True))
    called = [name for _, name in graph.named_operators()]
    layers = tuple(_layer(group, parts, each, graph, called) for group in groups)
    return Profiled(layers, turns.plain, turns.waited, TOLD)


def _taken(model: Model, graph: Graph, feed: Mapping[int, Array], threads: int, folder: Path) -> Path:
    """The file itself, or a copy that the profiler takes: it refuses outputs whose size only the run tells. The copy
    hands out the others, or else what such an output is computed of. All the same is run: what has no size before is
    run by the interpreter, which runs every operator, and what these read is handed to them by the delegate.

    Raises:
        NotApplicable: No such copy is taken.
    """
    called = names(graph)
    makes = {at: operator for operator in graph.operators for at in operator.outputs}

    def copied(places: Sequence[int]) -> Path:
        made = Path(mkdtemp(dir=folder))
        return TfliteFormat().tapped(model, [called[place] for place in places], made, ()).path

    why = _refused(model.path, feed, threads)
    if not why:
        return model.path
    outputs = list(graph.outputs.values())
    known = [place for place in outputs if len(outputs) > 1 and not _refused(copied([place]), feed, threads)]
    place = outputs[0]
    for _ in range(BACK):
        if known:
            return copied(known)
        if place not in makes or not makes[place].inputs:
            break
        place = makes[place].inputs[0]
        if place in makes and not _refused(copied([place]), feed, threads):
            known = [place]
    raise NotApplicable(why)


def _refused(path: Path, feed: Mapping[int, Array], threads: int) -> str:
    """Why the profiler does not run a file; empty where it does."""
    try:
        with closing(Watched(path, threads)) as watched, hushed():
            call = watched.bind(feed)
            call()
            call()  # the first is taken in any case
    except NotApplicable as error:
        return str(error)
    return ""


def _last(events: Sequence[Event]) -> list[Event]:
    """Those of the last call of a turn."""
    told = [event for event in events if event.kind in (OPERATOR, DELEGATED)]
    return told[len(told) - len(told) // EACH :]


def _part(event: Event) -> Part:
    if event.kind == OPERATOR:
        return Part(event.name, event.number, inner=event.graph > 0)
    return Part(event.name, first=not event.number)


def _written(parts: Sequence[Part], told: Sequence[int]) -> Array:
    """How much is written within each part that is told of: what is in the bodies of loops comes after these."""
    times, last = dict.fromkeys(told, 1), 0
    for place, part in enumerate(parts):
        if part.operator is not None and not part.inner:
            last = place
        elif place not in times:
            times[last] += INNER
    return np.array([times[place] for place in told])


def _layer(
    group: Group, parts: Sequence[Part], each: Mapping[int, float], graph: Graph, called: Sequence[str]
) -> LayerTime:
    longest = parts[max(group.parts, key=lambda place: each[place])].name
    seconds = float(sum(each[place] for place in group.parts))
    layers = tuple(called[number] for number in sorted(group.operators))
    return LayerTime(longest, longest.partition(" (")[0], seconds, layers, _precision(longest, group, graph))


def _precision(name: str, group: Group, graph: Graph) -> str:
    """As the name of a part has it, such as `(NC, QS8, QC8W)`; else of the values that come out."""
    types = name.partition("(")[2].partition(")")[0].split(", ")
    if any(kind.startswith("Q") for kind in types):
        return "int8"
    if found := next((kind.lower() for kind in types if kind in ("F16", "F32", "BF16")), ""):
        return found
    dtypes = [graph.values[at].dtype for number in group.operators for at in graph.operators[number].outputs[:1]]
    if any(dtype in INTEGERS for dtype in dtypes):
        return "int8"
    return next((FLOATS[dtype] for dtype in dtypes if dtype in FLOATS), "")
