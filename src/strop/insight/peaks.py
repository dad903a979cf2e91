"""Peaks: the most that this machine was seen to do (of nine rounds the second best), which a layer is held against."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from .. import _estimator_peaks, jobs
from .._bandwidth import bandwidth, caches, near
from .._cache import own_folder
from .._lazy import installed
from .._plain import restore
from .._products import LIBRARIES, Product, products, start
from .._rounds import waited
from ..disturbance import quiet_cores
from ..errors import RunFailed
from ..rundir import atomic
from ..target import Target
from ..timing import one_at_a_time

T = TypeVar("T")

LIMITS = jobs.Limits(120, 1 << 62)
TRIES = 2  # to measure while nothing else runs
WAITED = 0.05  # of the time, without a core, from which on other work ran
SOON = 3600.0  # seconds for which what other work disturbed is not measured again
FRESH = "3"  # of what is kept: it changes with how peaks are measured
DISTURBED = (
    "other work ran while this machine's peaks were measured: they may be too low, and the shares of them that layers "
    "reach too high. Profile again on an idle machine, an hour from then or later"
)


@dataclass(frozen=True)
class Rated:
    """By what the rates and the start of a runtime are measured.

    Attributes:
        module: That must be importable.
        package: Whose version they are of.
        products: As `_products.products`.
        start: As `_products.start`.
    """

    module: str
    package: str
    products: Callable[[str, Sequence[int]], list[Product]]
    start: Callable[[str, Sequence[int]], float]


RATED = {
    **{name: Rated(one.module, one.module, products, start) for name, one in LIBRARIES.items()},
    "sklearn": Rated("sklearn", "scikit-learn", _estimator_peaks.products, _estimator_peaks.start),
}
"""Of other runtimes there are none, and memory and caches alone are measured."""


@dataclass(frozen=True)
class Peaks:
    """What was measured of a machine through one runtime.

    Attributes:
        runtime: Its name.
        threads: That it had.
        rates: Operations a second by precision, two a multiply-add: the faster of matrix products and convolutions.
            Empty for a runtime that has no products to be timed.
        memory: Bytes a second, read and written, of what no cache holds.
        cache: Of what the cores' own second-level caches hold.
        near: Bytes that these hold.
        last: Bytes that the last-level cache holds.
        start: Seconds that an operator with next to nothing to do takes; 0 for a runtime of which it is not known.
        calm: Whether nothing else ran on the cores meanwhile.
    """

    runtime: str
    threads: int
    rates: Mapping[str, float]
    memory: float
    cache: float
    near: int
    last: int
    start: float
    calm: bool = True

    def rate(self, precision: str) -> float:
        """That of a precision; of one that was not measured, of f32."""
        return self.rates.get(precision) or self.rates.get("f32", 0.0)

    def beside(self, other: Peaks) -> Peaks:
        """The most that was seen in either of two measurements."""
        both = {*self.rates, *other.rates}
        return replace(
            self,
            rates={name: max(self.rates.get(name, 0.0), other.rates.get(name, 0.0)) for name in sorted(both)},
            memory=max(self.memory, other.memory),
            cache=max(self.cache, other.cache),
            start=min(self.start, other.start),
            calm=self.calm or other.calm,
        )


def peaks(runtime: str, target: Target, anew: bool = True) -> Peaks | None:
    """Those of this machine, measured when they are first asked for: some seconds; None for a runtime that is not
    installed.

    They are kept in the user's own cache, by the kind of CPU, the number of threads and the runtime's version. Those
    that other work disturbed are measured again an hour later, and the most of both kept.

    Args:
        runtime: Its name.
        target: Threads.
        anew: Whether to measure what is not kept; else there is None.
    """
    rated = RATED.get(runtime)
    if rated and not installed(rated.module):
        return None
    of = f"{runtime} {metadata.version(rated.package)}" if rated else "any"
    named = f"{FRESH} {of} {target.threads} {len(quiet_cores(target.threads))}"
    with contextlib.suppress(RunFailed, OSError), own_folder("peaks") as folder:
        file = folder / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"
        kept = _kept(file)
        if not anew or (kept and (kept.calm or time.time() - file.stat().st_mtime < SOON)):
            return kept
        found = _measured(runtime, rated, target)
        found = found.beside(kept) if kept else found
        with atomic(file) as part:
            part.write_text(json.dumps(asdict(found)))
        return found
    return _measured(runtime, rated, target) if anew else None


def _kept(file: Path) -> Peaks | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return restore(Peaks, json.loads(file.read_text()))
    return None


def _measured(runtime: str, rated: Rated | None, target: Target) -> Peaks:
    cores = quiet_cores(target.threads)
    disturbed = False

    def job(function: Callable[..., T], *args: object) -> list[T]:
        nonlocal disturbed
        found = []
        for _ in range(TRIES):
            ended = jobs.run(_watched, function, args, limits=LIMITS)
            ended.raise_unless_done("this machine's peaks could not be measured")
            assert ended.value is not None
            value, lost = ended.value
            found.append(value)
            if lost < WAITED:
                return found
        disturbed = True
        return found

    rates: dict[str, float] = {}
    with one_at_a_time():
        for product in itertools.chain(*job(rated.products, runtime, cores)) if rated else ():
            if product.rate is not None:
                rates[product.precision] = max(rates.get(product.precision, 0.0), product.rate.high)
        memory = max(rate[len(cores)].high for rate in job(bandwidth, [cores]))
        cache = max(rate.high for rate in job(near, cores[0])) * len(cores)
        least = min(job(rated.start, runtime, cores)) if rated else 0.0
    known = {own["level"]: own["bytes"] * own["count"] for own in caches(cores)}
    near_by, last = known.get(2, 0), max(known.values(), default=0)
    return Peaks(runtime, target.threads, rates, memory, cache, near_by, last, least, not disturbed)


def _watched(function: Callable[..., T], args: tuple[object, ...]) -> tuple[T, float]:
    """What a function gives, and the share of its time that this process had to wait for a core."""
    begun, before = time.perf_counter(), waited()
    value = function(*args)
    return value, (waited() - before) / (time.perf_counter() - begun)
