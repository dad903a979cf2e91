"""Fit: what quantized weights are, chosen so that samples lose least by them, layer by layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._lazy import lazy
from ..model import Batch
from ..technique import Context, remaining
from ._calibration import Step
from ._onnx_blocks import FEW
from ._rounding import Factored, Grid, bf16, factored, halves, integers, loss, rounded

if TYPE_CHECKING:
    import threadpoolctl
else:
    threadpoolctl = lazy("threadpoolctl")

Array: TypeAlias = np.ndarray[Any, Any]

SAMPLES = 64  # that are looked at
WIDEST = 4608  # inputs of one output (3 x 3 of 512 channels): beyond, equations take longer to solve than they bring
READ = 8  # rows of a layer's inputs, as a multiple of their number: by few, what is rare loses more than it must
FEWEST, MOST = 1024, 8192  # and the least and the most
ROOM = 5e8  # bytes of sums at a time
TIME = 0.5  # of what is left for the step
BLOCK = 32  # weights that share a step of 4 bits
CUT = (1.0, 0.9, 0.8, 0.7)  # of the largest weight of a block, what its steps may reach
LITTLE = 0.05  # of what the integers lose: where bf16 loses no more, it is left as it is


@dataclass(frozen=True)
class Window:
    """What a convolution reads for one output: a number for each dimension of space.

    Attributes:
        pads: Before and behind; None where the size of the output is that of the input over the stride.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: tuple[Sequence[int], Sequence[int]] | None


@dataclass(frozen=True)
class Layer:
    """An operator whose weights are quantized.

    Attributes:
        name: Of its weights.
        value: What it reads.
        weights: [groups, outputs, inputs], as they were.
        scales: [groups, outputs], of one step of the integers.
        most: The largest integer.
        window: None for a product, of rows in the value's last dimension.
        shifts: Whether it has a bias, to which what its outputs lose on the mean can be added.
        bias: [groups, outputs], 0 without one, where weights and bias are wanted in bf16, too.
        smoothed: [inputs], by which what it reads was multiplied, and its weights divided.
        alone: Whether weights are wanted that are rounded alone, too, where they are read for few rows: for what it
            reads before it was multiplied.
    """

    name: str
    value: str
    weights: Array
    scales: Array
    most: float
    window: Window | None
    shifts: bool
    bias: Array | None = None
    smoothed: Array | None = None
    alone: bool = False

    @property
    def bytes(self) -> int:
        groups, count = int(self.weights.shape[0]), int(self.weights.shape[-1])
        return 8 * groups * count * (count + 1)


@dataclass(frozen=True)
class Fit:
    """What the weights of a layer are.

    Attributes:
        integers: [groups, outputs, inputs], int8.
        mean: [groups, inputs], of what it reads.
        halves: [groups, outputs, 1 + inputs], the bias and the weights in bf16; empty for the nearest.
        eight: [groups, outputs, inputs], int8, rounded alone; empty where that is not wanted.
        eight_steps: [groups, outputs, 1], of these.
        four: [groups, outputs, inputs], int8, of 4 bits.
        four_steps: [groups, outputs, blocks], of these.
    """

    integers: Array
    mean: Array
    halves: Array
    eight: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    eight_steps: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    four: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    four_steps: Array = field(default_factory=lambda: np.zeros(0, np.float32))


def fitted(
    layers: Sequence[Layer],
    telling: Callable[[Iterable[str]], Step],
    given: Sequence[Batch],
    context: Context,
) -> dict[str, Fit]:
    """By name of their weights, what is best for layers; those that there was no time for are left out.

    Every second sample chooses the integers, and where the others do not agree that these are better, each weight is
    rounded by itself.

    Args:
        layers: Of the float model.
        telling: Makes what runs the float model and tells these values, too.
        given: Samples.
        context: For the progress and the deadline.
    """
    until = time.monotonic() + TIME * remaining(context)
    able = [layer for layer in layers if layer.weights.shape[-1] <= WIDEST]
    found: dict[str, Fit] = {}

    def fit(layer: Layer, sums: tuple[_Sum, _Sum]) -> Fit | None:
        return _fit(layer, *sums) if time.monotonic() < until else None

    # Layers at once, each on one thread: threads that share a small matrix wait for each other where other work runs.
    with ThreadPoolExecutor(context.target.at_once) as pool, threadpoolctl.threadpool_limits(1):
        for number, part in enumerate(parts := _parts(able)):
            if time.monotonic() > until:
                break
            context.progress(number / len(parts), f"fitting the weights of {len(able)} layers to {len(given)} samples")
            for layer, one in zip(part, pool.map(fit, part, _sums(part, telling, given)), strict=True):
                if one is not None:
                    found[layer.name] = one
    return found


def kept_fits(
    folder: Path, layers: Sequence[Layer], made: Callable[[Sequence[Layer]], dict[str, Fit]]
) -> dict[str, Fit]:
    """What was found of these layers, kept in a folder; what there was no time for is made by the next that asks."""
    file = folder / "fits.npz"
    known = _read(file) if file.exists() else {}
    if fresh := [layer for layer in layers if layer.name not in known]:
        known |= made(fresh)
        part = file.with_name(f".part-{file.name}")
        arrays = {f"{at}{kind}": array for at, fit in enumerate(known.values()) for kind, array in vars(fit).items()}
        np.savez(part, names=np.array(list(known), np.str_), **arrays)
        part.replace(file)
    return known


def _read(file: Path) -> dict[str, Fit]:
    with np.load(file) as known:
        kinds = [field.name for field in fields(Fit)]
        return {str(name): Fit(*(known[f"{at}{kind}"] for kind in kinds)) for at, name in enumerate(known["names"])}


class _Sum:
    """Rows of inputs, summed up: how many, their sums, and those of their products; and the most of one call."""

    def __init__(self, groups: int, count: int):
        self.rows, self.most, self.fresh = 0, 0, list[Array]()
        self.first = np.zeros((groups, count), np.float32)
        self.second = np.zeros((groups, count, count), np.float32)

    def add(self, rows: Array) -> None:
        """Add [groups, rows, inputs]; sums are made of many at once, for they are as large as all of these."""
        self.fresh.append(rows.astype(np.float32))
        self.most = max(self.most, rows.shape[1])
        if sum(rows.shape[1] for rows in self.fresh) >= rows.shape[2]:
            self.sum()

    def sum(self) -> None:
        """Take what was added last into the sums."""
        if self.fresh:
            rows = np.concatenate(self.fresh, axis=1)
            self.rows += rows.shape[1]
            with np.errstate(all="ignore"):  # what is not finite is left out later
                self.first += rows.sum(1)
                self.second += rows.transpose(0, 2, 1) @ rows
            self.fresh = []

    def __add__(self, other: _Sum) -> _Sum:
        made = _Sum(*self.first.shape)
        made.rows, made.first, made.second = (
            self.rows + other.rows, self.first + other.first, self.second + other.second
        )  # fmt: skip
        return made

    @property
    def mean(self) -> Array:
        """[groups, inputs]."""
        return self.first.astype(np.float64) / self.rows

    def beside_ones(self) -> Array:
        """[groups, 1 + inputs, 1 + inputs], the mean of products of inputs, a one being the first of these."""
        groups, count = self.first.shape
        found = np.ones((groups, 1 + count, 1 + count), np.float32)
        found[:, 0, 1:] = found[:, 1:, 0] = self.mean
        found[:, 1:, 1:] = self.moment()
        return found

    def moment(self, around: Array | None = None) -> Array:
        """[groups, inputs, inputs], the mean of products of inputs, from which a mean was taken."""
        found = self.second / np.float32(self.rows)
        if around is not None:
            cross = self.mean[:, :, None] * around[:, None, :]
            found += (around[:, :, None] * around[:, None, :] - cross - cross.transpose(0, 2, 1)).astype(np.float32)
        return found


def _fit(layer: Layer, chooses: _Sum, holds: _Sum) -> Fit | None:
    if not (chooses.rows and holds.rows and np.isfinite(chooses.second).all() and np.isfinite(holds.second).all()):
        return None
    mean = (chooses + holds).mean
    around, grid = mean if layer.shifts else None, integers(layer.scales[..., None], layer.most)
    moments = _factored(chooses.moment(around)), holds.moment(around)
    found, lost = _better(layer.weights, grid, *moments)
    halved = _halves(layer, lost, chooses, holds) if layer.bias is not None else np.zeros(0, np.float32)
    made = Fit(np.rint(found / layer.scales[..., None]).astype(np.int8), mean, halved)
    if not layer.alone or max(chooses.most, holds.most) > FEW or layer.weights.shape[2] % BLOCK:
        return made
    return replace(made, **_alone(layer, *moments))


def _alone(layer: Layer, chooses: Factored | None, holds: Array) -> dict[str, Array]:
    """Integers of 8 and of 4 bits and their steps, for what it reads as it was before it was multiplied."""
    factors = 1.0 if layer.smoothed is None else layer.smoothed
    found: dict[str, Array] = {}
    for name, most, block in (("eight", 127, layer.weights.shape[2]), ("four", 7, BLOCK)):
        steps = _steps(layer.weights * factors, most, block)
        each = np.repeat(steps, block, axis=2) / factors
        weights, _ = _better(layer.weights, integers(each, most), chooses, holds)
        found |= {name: np.rint(weights / each).astype(np.int8), f"{name}_steps": steps.astype(np.float32)}
    return found


def _steps(weights: Array, most: int, block: int) -> Array:
    """[groups, outputs, blocks], by which the squares of what weights are off by are least."""
    blocks = weights.reshape(*weights.shape[:2], -1, block)
    largest = np.abs(blocks).max(axis=3) / most
    steps: Array = np.ones_like(largest)
    least = np.full(largest.shape, np.inf)
    for share in CUT:
        tried = np.where(largest, share * largest, 1.0)
        off = np.clip(np.rint(blocks / tried[..., None]), -most, most) * tried[..., None] - blocks
        lost = np.square(off).sum(axis=3)
        steps, least = np.where(lost < least, tried, steps), np.minimum(lost, least)
    return steps


def _halves(layer: Layer, lost: float, chooses: _Sum, holds: _Sum) -> Array:
    """The bias and the weights in bf16, empty where the nearest lose little; the bias reads ones, and what it loses the
    weights make up for."""
    weights = np.concatenate([np.asarray(layer.bias)[..., None], layer.weights], axis=2)
    plain, held = bf16(weights), holds.beside_ones()
    if loss(weights, plain, held) < LITTLE * lost:
        return np.zeros(0, np.float32)
    return _better(weights, halves, _factored(chooses.beside_ones(), lead=1), held)[0]


def _factored(moment: Array, lead: int = 0) -> Factored | None:
    try:
        return factored(moment, lead)
    except np.linalg.LinAlgError:
        return None


def _better(weights: Array, grid: Grid, chooses: Factored | None, holds: Array) -> tuple[Array, float]:
    """What weights are by one half of the samples, where the other half loses less by it than by the nearest, and what
    that loses.

    Args:
        weights: [groups, outputs, inputs].
        grid: What they may be.
        chooses: Of the inputs of the half that chooses, if their moment has an inverse.
        holds: [groups, inputs, inputs], the mean of the products of inputs, of the other one.
    """
    plain = grid(weights, np.tile(np.arange(weights.shape[2]), (len(weights), 1)))
    known = loss(weights, plain, holds)
    if chooses is None:
        return plain, known
    found = rounded(weights, grid, chooses)
    lost = loss(weights, found, holds)
    return (found, lost) if lost < known else (plain, known)


def _parts(layers: Sequence[Layer]) -> list[list[Layer]]:
    """As many layers at a time as there is room for."""
    found, room = list[list[Layer]](), 0.0
    for layer in layers:
        if not found or layer.bytes > room:
            found.append([])
            room = ROOM
        found[-1].append(layer)
        room -= layer.bytes
    return found


def _sums(
    layers: Sequence[Layer], telling: Callable[[Iterable[str]], Step], given: Sequence[Batch]
) -> list[tuple[_Sum, _Sum]]:
    """Of each layer, those of every second sample and those of the others."""
    found = [(_Sum(*layer.weights.shape[::2]), _Sum(*layer.weights.shape[::2])) for layer in layers]
    step, rng = telling(dict.fromkeys(layer.value for layer in layers)), np.random.default_rng(0)
    for number, feed in enumerate(given):
        known = {**feed, **step(feed)}
        for layer, sums in zip(layers, found, strict=True):
            count = min(MOST, max(FEWEST, READ * layer.weights.shape[-1]))
            rows = _rows(layer, known[layer.value], -(-count // len(given)), rng)
            sums[number % 2].add(rows)
    for half in (half for both in found for half in both):
        half.sum()
    return found


def _rows(layer: Layer, value: Array, most: int, rng: np.random.Generator) -> Array:
    """[groups, rows, inputs]: what goes into outputs here and there."""
    groups, _, count = layer.weights.shape
    if layer.window is None:
        rows = value.reshape(-1, value.shape[-1])
        return rows[None, _some(len(rows), most, rng)]
    window, space = layer.window, len(layer.window.kernel)
    spans = [(size - 1) * apart + 1 for size, apart in zip(window.kernel, window.dilations, strict=True)]
    pads = window.pads or _same(value.shape[2:], window.strides, spans)
    around = [(0, 0), (0, 0), *zip(*pads, strict=True)]
    padded = np.pad(value, around) if np.any(around) else value
    views = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + space)))
    steps: Any = [slice(None, None, step) for step in (*window.strides, *window.dilations)]
    views = views[(..., *steps)]
    outputs = (len(value), *views.shape[2 : 2 + space])
    chosen: Any = np.unravel_index(_some(math.prod(outputs), most, rng), outputs)
    rows = views[(chosen[0], slice(None), *chosen[1:])]  # [rows, channels, *kernel]
    return rows.reshape(len(rows), groups, count).transpose(1, 0, 2)


def _same(sizes: Sequence[int], strides: Sequence[int], spans: Sequence[int]) -> tuple[list[int], list[int]]:
    missing = [
        max(0, (-(-size // stride) - 1) * stride + span - size)
        for size, stride, span in zip(sizes, strides, spans, strict=True)
    ]
    return [one // 2 for one in missing], [one - one // 2 for one in missing]


def _some(count: int, most: int, rng: np.random.Generator) -> Array:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
