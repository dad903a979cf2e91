"""Target: where the model will run."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path

from ._plain import texts
from .errors import InvalidPlan

DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
"""Instruction sets in which a dot product of int8 is a single instruction."""

BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Those that compute in bfloat16."""

F16 = ("avx512_fp16", "amx_fp16", "fphp")
"""Those that compute in float16."""

KINDS: dict[str, tuple[str, ...]] = {"server": (), "mobile": ("tflite",)}
"""Of what a target can be: the formats that it takes; none for any."""


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def pin(cores: Sequence[int]) -> None:
    """Keep this process, and the threads that it starts from now on, to some cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


@functools.cache
def instruction_sets() -> frozenset[str]:
    """The vector extensions of this CPU that decide what is fast, in the kernel's spelling (`avx2`, `avx512_vnni`)."""
    known = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
             "asimd", "asimddp", "i8mm", "bf16")  # fmt: skip
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text().splitlines():
        if line.lower().startswith(("flags", "features")):
            return frozenset(known) & frozenset(line.split(":", 1)[1].split())
    return frozenset()


@functools.cache
def cpu_name() -> str:
    """The CPU's name as the kernel tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def computes(precision: str) -> bool:
    """Whether this CPU computes in `bf16` or `f16` itself; where it does not, float32 takes the place of both."""
    return bool(instruction_sets() & set(F16 if precision == "f16" else BF16))


def covers(allowed: str, format: str) -> bool:
    """Whether who says the name of a format means another, too: `onnx` covers `onnx-trees`."""
    return format == allowed or format.startswith(f"{allowed}-")


@dataclass(frozen=True)
class Target:
    """Where the model will run.

    Attributes:
        threads: Cores that one inference may use.
        batch: Samples in one call.
        formats: Formats that may be handed over; empty for any that an installed runtime loads. One whose name goes on
            after another's, as `onnx-trees`, is covered by that: it lies in the same kind of file.
        rate: Calls a second that arrive at random times, for `server.p99`.
        p99: Seconds within which 99 % of such calls must be answered, for `server.rate`.
        price: What an hour of the machine costs, in the user's own currency, for `cost`.
        kind: `server`, or `mobile`: a phone, to which .tflite is handed over, in types that phones compute fast.
    """

    threads: int = field(default_factory=lambda: len(usable_cores()))
    batch: int = 1
    formats: tuple[str, ...] = ()
    rate: float | None = None
    p99: float | None = None
    price: float | None = None
    kind: str = "server"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidPlan(f"a target must be {' or '.join(KINDS)}, not {self.kind!r}. Take one of them.")
        formats, only = texts(self.formats, "formats"), KINDS[self.kind]
        if only and (strange := set(formats) - set(only)):
            raise InvalidPlan(
                f"a target that is {self.kind} takes {' or '.join(only)}, not {', '.join(sorted(strange))}. "
                "Leave out the formats."
            )
        object.__setattr__(self, "formats", formats or only)
        for name, value in vars(self).items():
            kind = Integral if name in ("threads", "batch") else Real
            text = name in ("formats", "kind")
            if not text and not (isinstance(value, kind) or (value is None and kind is Real)):
                raise InvalidPlan(f"{name} of a target must be a number, not {value!r}. Write Target({name}=1).")

    def allows(self, format: str) -> bool:
        """Whether a model of that format may be handed over."""
        return not self.formats or any(covers(allowed, format) for allowed in self.formats)

    @property
    def mobile(self) -> bool:
        return self.kind == "mobile"

    def cores(self) -> tuple[int, ...]:
        """The cores to pin to: the last ones, since the first serves most interrupts."""
        return usable_cores()[-self.threads :]

    @property
    def at_once(self) -> int:
        """Inferences for which there are cores at the same time, where none is timed."""
        return max(1, len(usable_cores()) // self.threads)

    @property
    def int8_saturates(self) -> bool:
        """Whether U8S8 products are summed in 16 bits, and so may saturate: x86 without VNNI or AMX."""
        return not self.mobile and platform.machine() in ("x86_64", "AMD64") and not instruction_sets() & {
            "avx512_vnni", "avx_vnni", "amx_int8"}  # fmt: skip

    @property
    def tiles(self) -> bool:
        """Whether int8 is multiplied in tiles (AMX), some four times as fast as by vectors."""
        return "amx_int8" in instruction_sets()
