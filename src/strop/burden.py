"""Burden: what the time of a call goes to, and how much of it steps are expected to leave.

A search orders its routes by it, and a profile ranks its advice. A profile measures what binds each layer. A search
knows the file alone, for profiling each model would take it some ten seconds: how much there is to compute in
convolutions and in products, and, by a rule of thumb, which layers take longer to have their weights read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from ._bandwidth import caches
from .structure import Structure
from .target import Target
from .technique import Technique, Work

AROUND = 100_000
"""Multiply-adds that take as long as what a call costs besides: two products of n x n at batch 1 through ONNX Runtime
took 5.8, 6.9, 9.2, 14.6 and 98 us for n = 16, 64, 128, 256 and 512 (VNNI, 1 thread)."""
BALANCE = 2.3
"""Multiply-adds that take as long as a byte that is read from memory: Zen 3 does 46 billion of them a second in float32
and reads 20 GB (`benchmarks/profiles`)."""
TINY = 1e-9  # a share that is only what rounding left


@dataclass(frozen=True)
class Burden:
    """The share of a call's time that each kind of `Work` takes; what is left is the model itself.

    Attributes:
        known: By kind, where anything is.
        least: What is left of the overhead through another runtime, where its converter does not tell.
        runtime: Through which it was measured, by name; empty where it was not.
        base: The ratio that is expected of that runtime itself.
    """

    known: tuple[tuple[Work, float], ...] = ()
    least: float = 1.0
    runtime: str = ""
    base: float = 1.0

    @classmethod
    def of(cls, taken: Mapping[Work, float]) -> Self:
        """By what each kind takes, in any unit."""
        whole = sum(taken.values())
        return cls(tuple((work, value / whole) for work, value in taken.items() if value) if whole else ())

    def shares(self) -> dict[Work, float]:
        """Of the kinds that take something; one together."""
        rest = 1 - sum(share for _, share in self.known)
        return {**dict(self.known), **({Work.MODEL: rest} if rest > TINY else {})}

    def left(
        self, steps: Iterable[Technique], target: Target, runtime: str = "", ratio: float | None = None
    ) -> dict[Work, float]:
        """What is expected of each kind after some steps, as shares of the call's time before them.

        Args:
            steps: With their settings.
            target: Where the model will run.
            runtime: What runs the result, by name; empty for the same.
            ratio: Of latency, that is expected of it; None likewise.
        """
        steps = tuple(steps)
        found = self.shares()
        for step in steps:
            found = {work: share * step.ratio(work, target) for work, share in found.items()}
        told = any(Work.OVERHEAD in step.apart(target) for step in steps)
        if Work.OVERHEAD in found and runtime not in ("", self.runtime) and self.runtime and not told:
            found[Work.OVERHEAD] = min(found[Work.OVERHEAD], self.least)
        inside = 1.0 if ratio is None else ratio / self.base
        return {work: share * (1 if work is Work.OVERHEAD else inside) for work, share in found.items()}

    def after(self, steps: Iterable[Technique], target: Target) -> Burden:
        """Of what is left of a model after some steps in its own format."""
        found = self.left(steps, target)
        known = {work: share for work, share in found.items() if work is not Work.MODEL}
        whole = sum(found.values())
        return replace(self, known=tuple((w, share / whole) for w, share in known.items()), least=self.least / whole)

    def within(self, overhead: float) -> Burden:
        """The same model in a call of which so much is overhead."""
        inside = ((work, share * (1 - overhead)) for work, share in self.known if work is not Work.OVERHEAD)
        return replace(self, known=((Work.OVERHEAD, overhead), *inside))


UNKNOWN = Burden()
"""Of a model of which no more is known than that it takes its time."""


def kind_of(operator: str) -> Work:
    """The kind of work of a layer that multiplies and adds, or of trees, in the words of any format."""
    if "treeensemble" in operator.lower():
        return Work.MODEL
    return Work.CONVOLUTIONS if "conv" in operator.lower() else Work.PRODUCTS


def of_structure(structure: Structure, target: Target) -> Burden:
    """What a file tells: a layer takes what it computes, or longer where its weights have to come from memory.

    Args:
        structure: Of the file.
        target: How many samples a call has, and whose caches hold weights.
    """
    held = max((cache["bytes"] * cache["count"] for cache in caches(target.cores())), default=0)
    far = structure.bytes > held > 0
    taken = dict.fromkeys((Work.WEIGHTS, Work.CONVOLUTIONS, Work.PRODUCTS), 0.0)
    for layer in structure.layers:
        computed, read = (layer.operations or 0.0) * target.batch, BALANCE * layer.weights if far else 0.0
        if computed:
            taken[Work.WEIGHTS if read > computed else kind_of(layer.operator)] += max(computed, read)
    return Burden.of(taken)


def of_call(burden: Burden, operations: int | None, target: Target) -> Burden:
    """With what a call takes besides, where it is known how much there is to compute."""
    return burden if operations is None else burden.within(AROUND / (AROUND + operations * target.batch))
