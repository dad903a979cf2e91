"""Harm: what the error of each layer, alone, does to the outputs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import formats
from ..errors import NotApplicable, RunFailed
from ..progress import Tell
from ..runtime import Runner
from .pair import Pair
from .seen import Inside

Array = np.ndarray[Any, Any]

TRIED = 8
"""Samples, at the most, by which is told what the error of one layer does to the outputs."""
BEGUN, ENDED = 0.5, 0.9  # of all that is done, where this begins and ends
TRYING = 60.0
"""Seconds that this may take, if that leaves one sample."""


def harm(pair: Pair, inside: Inside, seconds: float = TRYING, tell: Tell = lambda share, words: None) -> None:
    """Tell what each layer's error does to the outputs: it is added to the original's value, and nothing else.

    The largest errors come first, as far as time allows.
    """
    seconds = min(seconds, TRYING)
    opened = _shifted(pair)
    if opened is None:
        return
    (runner, added), names, begun = opened, list(inside.outputs), time.monotonic()
    harmful = [place for place, seen in enumerate(inside.layers) if seen.own.noise or seen.own.lost]
    harmful.sort(key=lambda place: -inside.layers[place].own.share)
    noise, signal = np.zeros((len(inside.layers), len(names))), np.zeros(len(names))
    tried, counted, samples = set(range(len(inside.layers))) - set(harmful), 0, min(TRIED, pair.count)
    calls = samples * len(harmful)
    for feed, (_, values), _ in pair.runs(samples):
        own = pair.own(feed, values)
        still = {name: np.zeros(value.shape, np.float32) for name, value in zip(added, values, strict=True)}
        results = runner({**feed, **still})
        signal += [_power(results[name]) for name in names]
        for place in harmful:
            shift = _difference(own[place].astype(np.float32), values[place].astype(np.float32))
            moved = runner({**feed, **still, added[place]: shift})
            noise[place] += [_power(_difference(moved[name], results[name])) for name in names]
            tried.add(place)
            counted += 1
            done = max(counted / calls, (time.monotonic() - begun) / max(seconds, 1e-3))
            done = min(1.0, done)  # a sample may take several calls
            tell(BEGUN + (ENDED - BEGUN) * done, f"errors of {len(harmful)} layers tried, one by one")
            if not inside.tried and time.monotonic() - begun > seconds:
                break
        inside.tried += 1
        if (time.monotonic() - begun) * (inside.tried + 1) / inside.tried > seconds:
            break
    runner.close()
    if left := len(inside.layers) - len(tried):
        inside.notes.append(f"what they do to the outputs was not tried of the {left:,} layers of the least errors")
    known = signal > 0
    for place in tried if known.any() else ():
        inside.layers[place].harm = float((noise[place][known] / signal[known]).mean())


def _shifted(pair: Pair) -> tuple[Runner, tuple[str, ...]] | None:
    """The original, loaded so that something can be added to each value, and the names of what is added."""
    folder = pair.folder / "shifted"
    folder.mkdir()
    room = formats.format_of(pair.original.model.format)
    try:
        model, added = room.shifted(pair.original.model, [value for value, _ in pair.values], folder)
        return pair.original.runtime.load(model, pair.original.target), added
    except (NotApplicable, RunFailed) as error:
        pair.notes.append(f"what the error of a single layer does to the outputs can't be told: {error}")
        return None


def _difference(first: Array, second: Array) -> Array:
    """What two arrays are apart where both are finite, and 0 elsewhere."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart: Array = np.asarray(first - second)  # of single numbers, numpy makes no array
    apart[~np.isfinite(apart)] = 0
    return apart


def _power(values: Array) -> float:
    flat = values.reshape(-1).astype(np.float64)
    flat = flat[np.isfinite(flat)]
    return float(flat @ flat)
