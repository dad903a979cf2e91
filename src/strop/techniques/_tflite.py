"""What the steps on .tflite share: the quantizer run in silence, and the signature kept by name."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._lazy import lazy
from .._quiet import hushed, silenced, without_semaphores
from ..errors import NotApplicable
from ..formats._tflite_writing import KEY, append, sign
from ..formats._tflite_writing import content as written
from ..formats.tflite import Graph, Operator, TfliteFormat, has_weights, is_half, is_quantized, read
from ..model import Batch, Model
from ..technique import Context
from ._calibration import Step

litert = lazy("ai_edge_litert.interpreter", "litert")
flatbuffers = lazy("ai_edge_litert.tools.flatbuffer_utils", "litert")
quantizer = lazy("ai_edge_quantizer.quantizer", "litert")
recipes = lazy("ai_edge_quantizer.recipe_manager", "litert")
calibrators = lazy("ai_edge_quantizer.calibrator", "litert")
updates = lazy("ai_edge_quantizer.utils.qsv_utils", "litert")
kinds = lazy("ai_edge_quantizer.qtyping", "litert")

LONGEST = 10_000
"""Characters of an operator's name that the quantizer looks at."""

Recipe: TypeAlias = Callable[[Any], None]
"""Adds to a recipe how operators are quantized."""
ALL = ".*"
"""The pattern of every layer's name."""


@dataclass(frozen=True)
class Source:
    """A model as the quantizer is given it.

    Attributes:
        path: The file.
        content: What it holds, its one signature with the names that strop knows.
        graph: The same as strop reads it.
        scopes: Of all operators, in order: the names by which a recipe finds them.
        layers: Of those with weights, by number, the same.
        ends: The tensors that go in, and those that come out, in the file's order.
    """

    path: Path
    content: bytes
    graph: Graph
    scopes: Sequence[str]
    layers: Mapping[int, str]
    ends: tuple[list[int], list[int]]


def check(model: Model) -> Graph:
    """Refuse what is quantized already, or has nothing that could be.

    Raises:
        NotApplicable: Why not.
    """
    graph = read(model.path)
    if is_quantized(graph):
        raise NotApplicable("is already quantized")
    if is_half(graph):
        raise NotApplicable("has weights in float16, and others are made of float32 ones")
    if not any(has_weights(graph, operator) for operator in graph.operators):
        raise NotApplicable("has no convolution or matrix product with weights to quantize")
    return graph


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, reports and warnings, all of which go to whatever is the terminal."""
    without_semaphores()
    with silenced(), hushed():
        yield


def prepared(model: Model) -> Source:
    """Read a model, and name what goes in and out as strop does."""
    graph = read(model.path)
    live = flatbuffers.read_model_from_bytearray(bytearray(model.path.read_bytes()))
    sign(live, graph.inputs, graph.outputs)
    scopes = [_scope(graph, operator) for operator in graph.operators]
    layers = {n: scopes[n] for n, operator in enumerate(graph.operators) if has_weights(graph, operator)}
    return Source(model.path, written(live), graph, scopes, layers, _ends(live))


def renamed(
    content: bytes, inputs: Mapping[str, str], outputs: Mapping[str, str],
    inner: Callable[[Sequence[str]], Sequence[str]],
) -> bytes:  # fmt: skip
    """A file whose inputs and outputs have other names, in the order given, and whose values do.

    An operator goes by the value that it makes, and one that makes an output by that.

    Args:
        content: The file.
        inputs: What they are called now, each with its new name; likewise `outputs`.
        inner: The new names of all values of a graph.
    """
    graph, live = read(content), flatbuffers.read_model_from_bytearray(bytearray(content))
    given = {new: graph.inputs[old] for old, new in inputs.items()}
    results = {new: graph.outputs[old] for old, new in outputs.items()}
    live.subgraphs[0].inputs, live.subgraphs[0].outputs = list(given.values()), list(results.values())
    sign(live, given, results)
    for place, part in enumerate(live.subgraphs):
        ends = {at: name for name, at in results.items()} if not place else {}
        old = [(tensor.name or b"").decode(errors="replace") for tensor in part.tensors]
        for tensor, name in zip(part.tensors, inner([ends.get(at, name) for at, name in enumerate(old)]), strict=True):
            tensor.name = name.encode()
    return written(live)


def recipe(add: Recipe, kept: Iterable[str] = ()) -> Any:
    """How a model is to be quantized.

    Args:
        add: How operators are.
        kept: Layers that stay in float.
    """
    made = recipes.RecipeManager()
    add(made)
    for name in kept:
        keep(made, f"^{re.escape(name)}$", kinds.TFLOperationName.ALL_SUPPORTED)
    return made


def keep(made: Any, pattern: str, operators: Any) -> None:
    """Leave operators in float."""
    made.add_quantization_config(pattern, operators, None, recipes.AlgorithmName.NO_QUANTIZE)


def ranges(source: Source, add: Recipe, feeds: Iterable[Batch], context: Context, widest: bool) -> Mapping[str, Any]:
    """The range of every activation.

    Args:
        source: The float model.
        add: How operators are to be quantized, which says whose ranges are needed.
        feeds: Single samples.
        context: Says how many threads run them.
        widest: Whether it is that over all samples, not their moving average.
    """
    how = {"qsv_update_func": updates.min_max_update} if widest else {}
    calibrator, made = calibrators.Calibrator(source.content, num_threads=context.target.threads, **how), recipe(add)
    for feed in feeds:
        calibrator.calibrate({KEY: [dict(feed)]}, made)
    found: Mapping[str, Any] = calibrator.get_model_qsvs()
    return found


def quantized(source: Source, add: Recipe, found: Mapping[str, Any] | None = None, kept: Collection[str] = ()) -> bytes:
    """The file that a recipe makes of a model.

    Args:
        source: The float model.
        add: How operators are quantized.
        found: The ranges of activations, where they are.
        kept: Layers that stay in float.
    """
    content, ranged = _parted(source, kept)
    tool = quantizer.Quantizer(content, recipe(add, kept).get_quantization_recipe())
    known = None if found is None else {**found, **{new: found[old] for new, old in ranged.items() if old in found}}
    result = tool.quantize(known, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def save(content: bytes, source: Source, folder: Path, *, half: bool = False) -> Model:
    """Write a quantized file, its inputs and outputs called as before, and open it.

    Raises:
        NotApplicable: Nothing in it is quantized.
    """
    live = flatbuffers.read_model_from_bytearray(bytearray(content))
    sides = []
    # The quantizer puts other tensors at the ends, in the same order, and leaves a signature behind that knows not all.
    for names, before, after in zip((source.graph.inputs, source.graph.outputs), source.ends, _ends(live), strict=True):
        moved = dict(zip(before, after, strict=True))
        sides.append({name: moved[place] for name, place in names.items()})
    sign(live, *sides)
    path = folder / "model.tflite"
    path.write_bytes(written(live))
    append(path, source.path)
    graph = read(path)
    if not (is_half(graph) if half else is_quantized(graph)):
        raise NotApplicable("none of its operators has weights that can be quantized")
    return TfliteFormat().open(path)


def runner(content: bytes, context: Context) -> Step:
    """A call of a model that has a signature."""
    interpreter = litert.Interpreter(model_content=content, num_threads=context.target.threads)
    call = interpreter.get_signature_runner(KEY)

    def step(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        return dict(call(**batch))

    return step


def _parted(source: Source, kept: Collection[str]) -> tuple[bytes, dict[str, str]]:
    """Give layers that stay in float weights of their own where others that do not share them: the quantizer fails to.

    Returns:
        The file, and of each tensor that is new in it the name of the one that it is a copy of.
    """
    floats = {number for number, name in source.layers.items() if name in kept}
    users: dict[int, set[int]] = {}
    for number in source.layers:
        for place in source.graph.operators[number].inputs:
            if place >= 0 and source.graph.values[place].stored:
                users.setdefault(place, set()).add(number)
    shared = {place: who & floats for place, who in users.items() if who & floats and who - floats}
    if not shared:
        return source.content, {}
    live = flatbuffers.read_model_from_bytearray(bytearray(source.content))
    part, copies = live.subgraphs[0], {}
    for place, who in shared.items():
        own, name = copy.copy(part.tensors[place]), source.graph.values[place].name
        own.name = f"{name}/float".encode()
        copies[f"{name}/float"] = name
        part.tensors.append(own)
        for number in who:
            inputs = part.operators[number].inputs
            part.operators[number].inputs = [len(part.tensors) - 1 if at == place else int(at) for at in inputs]
    return written(live), copies


def rename(path: Path, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Call what goes in and out of a file so, in the order in which it has them."""
    live = flatbuffers.read_model_from_bytearray(bytearray(path.read_bytes()))
    sides = (dict(zip(names, ends, strict=True)) for names, ends in zip((inputs, outputs), _ends(live), strict=True))
    sign(live, *sides)
    path.write_bytes(written(live))


def _ends(live: Any) -> tuple[list[int], list[int]]:
    part = live.subgraphs[0]
    return [int(place) for place in part.inputs], [int(place) for place in part.outputs]


def _scope(graph: Graph, operator: Operator) -> str:
    """What the quantizer calls an operator: its outputs."""
    return "".join(f"{name};" for place in operator.outputs if (name := graph.values[place].name))[:LONGEST]
