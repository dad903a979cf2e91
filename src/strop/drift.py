"""Drift: how far the outputs of a bundle are, on this machine, from the stored ones, and what may be the cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import metrics
from .bench import Bench
from .opened import Environment
from .target import BF16, DOT_PRODUCTS

Array = np.ndarray[Any, Any]

SAME = 1e-3  # of an output's largest value: what another order of summation may come to
GROSS = 0.05  # of it: more than a few activations rounded to the next integer come to


@dataclass(frozen=True)
class Drift:
    """How far outputs are from the stored ones.

    Attributes:
        difference: By output: the largest difference of a value, as a share of the largest stored value; of classes
            and text the share of values that differ. Infinity where NaN, an infinity or a shape is not as stored.
        samples: How many samples were run.
        off: How many of them differ by more than `SAME`.
        changed: Share of predictions that changed; None where the outputs are not known to be scores of classes.
    """

    difference: Mapping[str, float]
    samples: int
    off: int
    changed: float | None

    @property
    def verdict(self) -> Literal["same", "close", "different"]:
        """`close` where more differs than the order of summation explains, but not much, and no prediction."""
        if not self.off:
            return "same"
        return "close" if max(self.difference.values()) <= GROSS and not self.changed else "different"

    def __str__(self) -> str:
        name, most = max(self.difference.items(), key=lambda entry: entry[1])
        if self.verdict == "same":
            how = f"they differ by at most {most:.2g} of the largest value" if most else "they are equal"
            return f"the outputs of {self.samples} samples are as stored: {how} (up to {SAME:g} is the same)"
        how = f"by up to {most:.2g} of its largest value" if np.isfinite(most) else "in shape, or in NaN and infinity"
        said = (
            f"the outputs of {self.off} of {self.samples} samples are not as stored: {name!r} differs {how} (up to "
            f"{SAME:g} is the same)"
        )
        if self.changed is not None:
            said += (
                f", and {self.changed:.0%} of the predictions changed" if self.changed else ", no prediction changed"
            )
        return said


def measure(bench: Bench, classes: bool) -> Drift:
    """Compare outputs.

    Args:
        bench: Its original's outputs are the stored ones; its candidate is what runs here.
        classes: Whether the outputs are scores of classes.

    Raises:
        RunFailed: The model can't be run here.
    """
    stored, found = bench.original_outputs, bench.candidate_outputs
    by_sample = {name: _by_sample(found[name], array) for name, array in stored.items()}
    exact = {name for name, array in stored.items() if array.dtype.kind != "f"}
    off = np.any([each > (0 if name in exact else SAME) for name, each in by_sample.items()], axis=0)
    difference = {n: float(each.mean() if n in exact else each.max(initial=0.0)) for n, each in by_sample.items()}
    comparable = classes and all(found[name].shape == array.shape for name, array in stored.items())
    changed = 1 - metrics.find("agreement").measure(bench).candidate().value if comparable else None
    return Drift(difference, len(off), int(off.sum()), changed)


def causes(then: Environment, now: Environment, runtime: str) -> list[str]:
    """What may make outputs differ between two machines, the likeliest first.

    Args:
        then: Where the bundle was made.
        now: Where it is verified.
        runtime: The package of the runtime.
    """
    said = []
    exact_then, exact_now = (set(DOT_PRODUCTS) & set(machine.instruction_sets) for machine in (then, now))
    if _saturates(now) and exact_then:
        said.append(
            "this CPU sums products of uint8 and int8 in 16 bits, which saturate, and the bundle was made on a CPU "
            f"with {_listed(exact_then)}, which sums them in 32. Search again here: strop then keeps the weights to "
            "7 bits (reduce_range)"
        )
    elif _saturates(then) and exact_now:
        said.append(
            "the bundle was made on a CPU that sums products of uint8 and int8 in 16 bits, which saturate, and this "
            f"one, with {_listed(exact_now)}, sums them in 32. Search again here, with all 8 bits"
        )
    half_then, half_now = (set(BF16) & set(machine.instruction_sets) for machine in (then, now))
    if bool(half_then) != bool(half_now):
        where = "where the bundle was made" if half_then else "here"
        said.append(
            f"runtimes may compute in bfloat16 only {where} ({_listed(half_then or half_now)}). Search again here, or "
            "with the precision f32"
        )
    before, after = then.packages.get(runtime), now.packages.get(runtime)
    if before != after:
        said.append(
            f"the bundle was made with {runtime} {before}, and here is {after}. Install {runtime}=={before}, or search "
            "again with what is here"
        )
    if not differences(then, now):
        said.append(
            "nothing that strop records of CPU and versions differs, so the runtime itself is not deterministic, or "
            "faulty here. Run verify again; if it stays, report it to the runtime's makers"
        )
    return said or ["the CPU or the system differs. Search again here"]


def differences(then: Environment, now: Environment) -> list[dict[str, str | None]]:
    """What differs between two machines: rows of `what`, `bundle` and `here`; None for what is not there."""
    bundle, here = then.flat(), now.flat()
    names = [name for name in {**bundle, **here} if bundle.get(name) != here.get(name)]
    return [{"what": name, "bundle": bundle.get(name), "here": here.get(name)} for name in names]


def _by_sample(found: Array, stored: Array) -> Array:
    """The difference of each sample, [n]: see `Drift.difference`."""
    count = len(stored)
    if found.shape != stored.shape:
        return np.full(count, np.inf)
    if stored.dtype.kind != "f":
        return np.asarray((found != stored).reshape(count, -1).mean(axis=1))
    found, stored = (side.reshape(count, -1).astype(np.float64) for side in (found, stored))
    equal = (found == stored) | (np.isnan(found) & np.isnan(stored))
    scale = float(np.abs(stored[np.isfinite(stored)]).max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):  # infinity less infinity
        away = np.where(equal, 0.0, np.abs(found - stored) / scale)
    return np.asarray(np.where(np.isnan(away), np.inf, away).max(axis=1, initial=0.0))


def _saturates(machine: Environment) -> bool:
    x86 = "avx2" in machine.instruction_sets
    return x86 and not set(DOT_PRODUCTS) & set(machine.instruction_sets)


def _listed(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names))
