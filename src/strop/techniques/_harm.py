"""Harm: how far the outputs move where single layers are quantized, each tried by itself."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..model import Batch
from ..nmse import nmse
from ..technique import Context
from ._calibration import Step

LEAST = 1e-3
"""Of a distribution: a share below which all are alike, for it is far from an answer."""
LITTLE = 0.1
"""Of all harm: what the blocks do together that are not looked into."""


def harm(
    names: Sequence[str],
    made: Callable[[Sequence[str]], Step],
    given: Sequence[Batch],
    expected: Sequence[Batch],
    context: Context,
    until: float | None = None,
    kept: Path | None = None,
    at_once: int = 1,
    whole: float = math.inf,
) -> dict[str, float]:
    """How far the outputs are from the float model's, by layer, where that one alone is quantized.

    Such errors of single layers add up to about the whole's, as they are small and not correlated. So blocks of
    neighbours come first, and only those that harm most are looked into; the layers of another, and of one that time
    did not suffice for, have even shares of what it does; where there was none for its block, of what all do.

    Args:
        names: Of the layers, in the order in which they run.
        made: Makes what runs the model in which some layers are quantized.
        given: Samples.
        expected: What the float model answers to them.
        context: For the deadline and the progress.
        until: `time.monotonic()` at which no further layer is tried; the deadline, if None.
        kept: A file for what is known so far, from which it goes on after a kill.
        at_once: Threads that may make and run such models.
        whole: What all do together; infinite where that is not known.
    """
    found: dict[str, float] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    until = context.deadline if until is None else until

    def tried(layers: Sequence[str]) -> float | None:
        return error(made(layers), given, expected) if time.monotonic() < until else None

    def known(several: Sequence[Sequence[str]]) -> Iterator[tuple[Sequence[str], float]]:
        """What these do."""
        fresh = [layers for layers in several if "\0".join(layers) not in found]
        with ThreadPoolExecutor(at_once) as pool:
            for layers, harmed in zip(fresh, pool.map(tried, fresh), strict=True):
                if harmed is not None:
                    found["\0".join(layers)] = harmed
                    if kept:
                        keep(kept, found)
        return ((layers, found[key]) for layers in several if (key := "\0".join(layers)) in found)

    size = max(1, math.isqrt(len(names)))
    blocks = [names[start : start + size] for start in range(0, len(names), size)]
    alone = dict.fromkeys(names, whole / len(names) if names else math.inf)
    for block, together in known(blocks):
        alone.update(dict.fromkeys(block, together / len(block)))
    blocks.sort(key=lambda block: -alone[block[0]])
    for place, block in enumerate(blocks):
        context.progress(place / len(blocks), f"comparing {len(names)} layers on {len(given)} samples")
        rest = sum(alone[name] for later in blocks[place:] for name in later)
        if rest <= LITTLE * sum(filter(math.isfinite, alone.values())):
            break
        alone.update({name: harmed for (name,), harmed in known([[name] for name in block])})
    return alone


def keep(path: Path, value: object) -> None:
    """Write JSON, all of it or nothing."""
    part = path.with_name(f".part-{path.name}")
    part.write_text(json.dumps(value))
    part.replace(path)


def error(step: Step, given: Sequence[Batch], expected: Sequence[Batch]) -> float:
    """The mean over samples of how far the outputs are from what is expected (`distance`)."""
    return float(np.mean([distance(step(feed), right) for feed, right in zip(given, expected, strict=True)]))


def distance(found: Batch, right: Batch) -> float:
    """How far outputs are from the right ones: NMSE, of distributions that of their logarithms.

    What single layers do adds up before a softmax; after it there is next to nothing to see, until an answer is another
    one.
    """
    shares = [name for name, array in right.items() if _is_distribution(array)]
    return nmse({**found, **_logarithms(found, shares)}, {**right, **_logarithms(right, shares)})


def _logarithms(outputs: Batch, names: Sequence[str]) -> Batch:
    """A number that is not finite stays as it is."""
    found = {name: outputs[name] for name in names}
    return {name: np.where(np.isneginf(a), a, np.log(np.maximum(a, LEAST))) for name, a in found.items()}


def _is_distribution(array: np.ndarray[Any, Any]) -> bool:
    """Whether numbers along the last axis are shares of one."""
    several = array.dtype.kind == "f" and array.ndim > 0 and array.shape[-1] > 1 and array.size > 0
    return several and bool(np.all(array >= 0) and np.allclose(array.sum(axis=-1, dtype=np.float64), 1.0, atol=1e-3))
