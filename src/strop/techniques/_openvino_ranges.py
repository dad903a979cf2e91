"""Ranges by channel for OpenVINO: as wide as samples need that they were not learned from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .._quiet import openvino
from ..model import Batch, Model
from ..nmse import nmse
from ..technique import Context, remaining
from ._calibration import feeds
from ._openvino_graph import FAKE, is_weight, runner, telling

Array: TypeAlias = np.ndarray[Any, Any]

SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the width of the widest channel's range, what that of another one has at the least."""
SAMPLES, ROWS = 64, 512  # that are looked at, and values of a channel in one of them
FEWEST = 16  # samples by which shares are chosen, where time ends
TIME = 0.3  # of what is left for the step


@dataclass(frozen=True)
class _Rounding:
    """A FakeQuantize whose channels have ranges of their own.

    Attributes:
        name: Its own.
        value: What it rounds.
        low: [channels], as learned from all samples.
        high: [channels]
        levels: Integers in a range.
        shape: In which its bounds are stored.
        weight: [channels], how much an error weighs by what reads it: the squares of its weights.
    """

    name: str
    value: str
    low: Array
    high: Array
    levels: int
    shape: tuple[int, ...]
    weight: Array

    def rows(self, value: Array) -> Array:
        """[channels, values]"""
        return np.moveaxis(value, int(np.argmax(self.shape)), 0).reshape(self.low.size, -1)

    def error(self, rows: Array, low: Array, high: Array) -> float:
        """What all that reads it loses by rounding some of its values within these bounds."""
        step = (np.maximum(high - low, 1e-30) / (self.levels - 1)).astype(np.float32)[:, None]
        moved = rows[:, :: -(-rows.shape[1] // ROWS)] - low.astype(np.float32)[:, None]
        lost = np.rint(moved / step)
        lost = np.clip(lost, 0, self.levels - 1, out=lost) * step - moved
        return float(self.weight @ np.einsum("cr,cr->c", lost, lost) / lost.shape[1])


def widen(graph: Any, model: Model, context: Context) -> None:
    """Widen channels' ranges to a share of the widest one's: that by which samples lose least that did not tell them.

    What is largest of a channel in some samples is often larger in others, and is cut off there: of EfficientNet-Lite0
    int8 lost ten times more on new samples than on those its ranges came from. So ranges of every second sample are
    held to the others, and these to them: share by share by what the rounded value loses, and then, against ranges that
    are all as wide as the widest, by what the outputs lose. For what is rounded evens out on the way to a class, as
    what is cut off does not, but hardly on the way to a map.

    Args:
        graph: As quantized by NNCF; changed.
        model: The file that it was made of.
        context: For the samples and the time.
    """
    roundings, until = list(_by_channel(graph)), time.monotonic() + TIME * remaining(context)
    threads = context.target.threads
    given = list(feeds(model.signature, context, SAMPLES, lambda: telling(graph, (), threads))) if roundings else []
    if len(given) < 2:
        return
    step = telling(graph, dict.fromkeys(one.value for one in roundings), threads)
    extremes: dict[str, list[Array]] = {one.name: [] for one in roundings}
    lost = {one.name: np.zeros(len(SHARES)) for one in roundings}
    said = f"learning the ranges of channels from {len(given)} samples"
    for number, feed in enumerate(given):
        context.progress(number / (2 * len(given)), said)
        values = step(feed)
        for one in roundings:
            rows = one.rows(values[one.value])
            extremes[one.name].append(np.maximum(rows.max(1), -rows.min(1)))
    every, *sides = (
        {one.name: _bounds(one, np.array(extremes[one.name]), part) for one in roundings}
        for part in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    for number, feed in enumerate(given):
        if time.monotonic() > until:
            if number < FEWEST:
                return
            break
        context.progress(0.5 + number / (2 * len(given)), said)
        values = step(feed)
        for one in roundings:
            rows, (low, high) = one.rows(values[one.value]), sides[1 - number % 2][one.name]
            lost[one.name] += [one.error(rows, *_widened(low, high, share)) for share in SHARES]
    own = {name: SHARES[int(np.argmin(by_share))] for name, by_share in lost.items()}
    wide = dict.fromkeys(own, SHARES[-1])
    if wide != own and _wider(graph, roundings, given[1::2], sides[0], (own, wide), threads, until):
        own = wide
    _set(graph, roundings, {one.name: _widened(*every[one.name], own[one.name]) for one in roundings})


def _wider(
    graph: Any,
    roundings: Sequence[_Rounding],
    given: Sequence[Batch],
    bounds: Mapping[str, tuple[Array, Array]],
    choices: Sequence[Mapping[str, float]],
    threads: int,
    until: float,
) -> bool:
    """Whether most samples, which the bounds were not learned from, lose less of the outputs by the second choice; not,
    where time ends before all have told."""
    steps, better = [], 0
    for shares in choices:
        tried = graph.clone()
        _set(tried, roundings, {one.name: _widened(*bounds[one.name], shares[one.name]) for one in roundings})
        steps.append(runner(tried, threads))
    plain = telling(graph, (), threads)
    for feed in given:
        if time.monotonic() > until:
            return False
        right = plain(feed)
        first, second = (nmse(step(feed), right) for step in steps)
        better += second < first
    return better > len(given) / 2


def _set(graph: Any, roundings: Iterable[_Rounding], bounds: Mapping[str, tuple[Array, Array]]) -> None:
    nodes = {node.get_friendly_name(): node for node in graph.get_ordered_ops()}
    for one in roundings:
        for place, bound in zip((1, 2, 3, 4), (*bounds[one.name], *bounds[one.name]), strict=True):
            made = openvino().opset13.constant(bound.reshape(one.shape).astype(np.float32))
            nodes[one.name].input(place).replace_source_output(made.output(0))


def _by_channel(graph: Any) -> Iterable[_Rounding]:
    for node in graph.get_ordered_ops():
        if node.get_type_name() != FAKE or is_weight(node.output(0)):
            continue
        low, high, *other = (node.input_value(place).get_node().data for place in (1, 2, 3, 4))
        same = all(np.array_equal(one, two) for one, two in zip((low, high), other, strict=True))
        if not same or low.size != max(low.shape, default=1) or low.size < 2 or low.shape != high.shape:
            continue
        source, levels = node.input_value(0), int(node.get_attributes()["levels"])
        if len(source.get_partial_shape()) != low.ndim:
            continue
        value = f"{source.get_node().get_friendly_name()}:{source.get_index()}"
        name, (lows, highs) = node.get_friendly_name(), (bound.ravel().astype(np.float64) for bound in (low, high))
        yield _Rounding(name, value, lows, highs, levels, low.shape, _weight(node, low.size))


def _weight(node: Any, channels: int) -> Array:
    """By channel, the squares of the weights that read it, of convolutions by channel."""
    readers = [port.get_node() for port in node.output(0).get_target_inputs()]
    if len(readers) != 1 or readers[0].get_type_name() != "GroupConvolution":
        return np.ones(channels)
    value = readers[0].input_value(1)
    shape = tuple(value.get_shape())  # [groups, outputs, inputs, *kernel]
    while value.get_node().get_type_name() != "Constant":
        value = value.get_node().input_value(0)
    weights = value.get_node().data.astype(np.float64).reshape(*shape[:3], -1)
    return np.asarray(np.square(weights).sum((1, 3)).ravel())


def _bounds(one: _Rounding, extremes: Array, part: slice) -> tuple[Array, Array]:
    """The bounds by some samples: as much narrower as their largest values are smaller; 0 where there are none.

    Args:
        one: With the bounds by all.
        extremes: [samples, channels], the largest values.
        part: Those samples.
    """
    whole, largest = extremes.max(0), extremes[part].max(0)
    share = np.divide(largest, whole, out=np.zeros_like(whole, np.float64), where=whole > 0)
    return one.low * share, one.high * share


def _widened(low: Array, high: Array, share: float) -> tuple[Array, Array]:
    """Bounds of all channels where none is narrower than a share of the widest; zero stays an integer.

    Of a channel that was never active nothing is known but what others do.
    """
    width = high - low
    widest = int(np.argmax(width))
    known = width > 0
    factor = np.maximum(1.0, np.divide(share * width[widest], width, out=np.ones_like(width), where=known))
    lows, highs = (np.where(known, bound * factor, bound[widest]) for bound in (low, high))
    return lows, highs
