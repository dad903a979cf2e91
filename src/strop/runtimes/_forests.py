"""What the runtimes that load a forest share: rows go in, results come out as the signature says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .. import formats
from ..errors import RunFailed, UnsupportedModel
from ..forest import LINKS, Forest
from ..formats._plain_trees import columns_of_categories, plain, precision
from ..formats.trees import TreeFormat
from ..model import Batch, Model

Array: TypeAlias = np.ndarray[Any, Any]
Call: TypeAlias = Callable[[], Array]

WORTH_A_THREAD = 64  # rows


def read(model: Model) -> Forest:
    """The forest of a model, made plain.

    Raises:
        RunFailed: It is broken.
        NotApplicable: It holds what can't be expressed.
    """
    room = formats.format_of(model.format)
    assert isinstance(room, TreeFormat)
    try:
        return plain(room.forest(model))
    except UnsupportedModel as error:
        raise RunFailed(str(error)) from error


def digest(forest: Forest) -> str:
    """What tells forests apart whose code is compiled."""
    arrays = b"".join(getattr(forest, name).tobytes() for name in Forest.ARRAYS if name not in ("count", "gain"))
    rest = {key: value for key, value in vars(forest).items() if isinstance(value, (int, float, str))}
    return hashlib.sha256(repr(sorted(rest.items())).encode() + arrays).hexdigest()


class ForestRunner:
    """A library's call on rows, between a batch and the outputs.

    Args:
        model: What is run.
        forest: That of it, plain.
        prepare: Takes rows [rows, features], C-contiguous, of the forest's precision, and returns the call that gives
            results, or sums, [rows, outputs].
        linked: Whether they are results; sums are divided and linked here.
        close: Called at the end.
    """

    def __init__(
        self, model: Model, forest: Forest, prepare: Callable[[Array], Call], linked: bool,
        close: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        self.rows, self.result, self.given, self.type = rows.name, result.name, rows.dtype, result.dtype
        self.width = tuple(size for size in result.shape[1:] if isinstance(size, int))
        self.forest, self.prepare, self.linked, self.close = forest, prepare, linked, close
        self.categories = columns_of_categories(forest)

    def __call__(self, batch: Batch) -> dict[str, Array]:
        found = self.bind(batch)()
        return {self.result: found.reshape(len(found), *self.width).astype(self.type, copy=False)}

    def bind(self, batch: Batch) -> Call:
        forest = self.forest
        with np.errstate(over="ignore"):  # too large for float32 is infinite
            x = np.ascontiguousarray(np.asarray(batch[self.rows]).astype(self.given, copy=False), precision(forest))
        if x.ndim != 2 or x.shape[1] != forest.features:
            raise RunFailed(f"rows must have {forest.features} columns, and the input has the shape {list(x.shape)}.")
        if self.categories.any():  # libraries differ in what they make of -0.5, which is category 0
            x = np.where(self.categories, np.trunc(x), x)
        call = self.prepare(x)
        if self.linked:
            return call
        link, divisor, scale = LINKS[forest.link], forest.divisor, forest.scale
        if divisor == 1:
            return lambda: link(call(), scale)
        return lambda: link(call() / divisor, scale)


@dataclass
class Threads:
    """Shares rows out among threads that sleep between calls."""

    count: int
    pool: ThreadPoolExecutor | None = field(default=None, init=False)

    def over(self, rows: int, run: Callable[[int, int], object]) -> Callable[[], object]:
        """The call that does `run(start, stop)` for all rows."""
        parts = min(self.count, rows // WORTH_A_THREAD)
        if parts < 2:
            return lambda: run(0, rows)
        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.count - 1)
        pool, (*others, last) = self.pool, zip(*_bounds(rows, parts), strict=True)

        def call() -> None:
            waiting = [pool.submit(run, *part) for part in others]
            run(*last)
            for one in waiting:
                one.result()

        return call

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()


def _bounds(rows: int, parts: int) -> tuple[list[int], list[int]]:
    ends = [rows * part // parts for part in range(parts + 1)]
    return ends[:-1], ends[1:]
