"""Measure the latency ratio of real models ten times on a quiet machine and ten times with one core loaded.

python benchmarks/noise.py [--only NAME...] [--times 10]

Takes the bundles that `real_models.py` left, and writes `noise.md`: for each model the ratio of what was handed over to
the original, its spread over the repetitions, and how often the interval of one holds the median of all.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models import CACHE, CASES
from strop import Bundle
from strop.data import match
from strop.decision import Decision
from strop.goal import Goal
from strop.metric import Timing
from strop.prepare import open_model, reference
from strop.reading import read
from strop.server import Hosted
from strop.stats import Interval, bootstrap_timing
from strop.target import Target, cpu_name, usable_cores
from strop.timing import CONFIRMING, Turns, one_at_a_time

HERE = Path(__file__).parent
GOAL = 0.05
CONDITIONS = ("quiet", "one core loaded")


@dataclass(frozen=True)
class Measured:
    """One repetition.

    Attributes:
        ratio: Of the medians, handed over / original.
        original: Median seconds of the original.
        pairs: Pairs of processes that it took.
        repeated: Turns that were disturbed, and taken again.
    """

    ratio: Interval
    original: float
    pairs: int
    repeated: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[case.name for case in CASES])
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    names = [case.name for case in CASES if not options.only or case.name in options.only]
    found: dict[str, dict[str, list[Measured]]] = {name: {c: [] for c in CONDITIONS} for name in names}
    for time in range(options.times):
        for condition in CONDITIONS:  # in turn, so that slow changes of the machine befall both
            with loaded(1 if condition != "quiet" else 0):
                for name in names:
                    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
                        found[name][condition].append(measure(name, Path(scratch)))
                    print(time + 1, condition, name, found[name][condition][-1], flush=True)
    (HERE / "noise.md").write_text(table(found, options.times))


def measure(name: str, scratch: Path) -> Measured:
    folder = CACHE / name
    bundle = Bundle.load(CACHE / "bundles" / name)
    original = open_model(folder / "model.onnx", folder)
    names = [tensor.name for tensor in original.signature.inputs]
    samples, signature = match(read(folder / "data.npz", names, storage=scratch), original.signature)
    samples.save(scratch / "data")
    first = Hosted(replace(original, signature=signature), reference(original.format)[1], bundle.target)
    second = Hosted(bundle.model, bundle.runtime, bundle.target)
    decision = Decision(Goal(()), width=CONFIRMING.width)
    probe = _Seen(bundle.target)
    batch = bundle.target.batch
    turns = Turns(first, second, scratch / "data", (batch, batch), CONFIRMING)
    with one_at_a_time():
        timing = turns.take(lambda so_far: decision.timed_enough(probe.of(so_far), "single_stream"))
    ratio = bootstrap_timing(timing.original, timing.candidate, "p50", 0)
    return Measured(ratio.ratio(), ratio.original_value, len(timing.original), timing.repeated)


class _Seen:
    """The timing so far, as metrics see it."""

    seed = 0

    def __init__(self, target: Target, timing: Timing | None = None):
        self.target, self._timing = target, timing

    def of(self, timing: Timing) -> _Seen:
        return _Seen(self.target, timing)

    def timing(self, scenario: str) -> Timing | None:
        return self._timing


@contextlib.contextmanager
def loaded(processes: int) -> Iterator[None]:
    """Keep cores busy with matrix products, wherever the system puts them."""
    code = "import numpy as np\na = np.ones((256, 256), np.float32)\nwhile True: a @ a"
    running = [
        subprocess.Popen([sys.executable, "-c", code], env={"OPENBLAS_NUM_THREADS": "1"}) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def table(found: dict[str, dict[str, list[Measured]]], times: int) -> str:
    heads = ["model", "handed over", "machine", "ratio, median", "least to greatest", "spread",
             "spread of the original alone", "intervals that hold the median", "pairs",
             "turns taken again"]  # fmt: skip
    lines = [
        "# How much the measured ratio varies", "",
        "Written by `benchmarks/noise.py`: the latency ratio (handed over / original, medians, batch 1, one thread), "
        f"measured {times} times on a quiet machine and {times} times beside a process that keeps one core busy with "
        f"matrix products, in turn. {cpu_name()}, {len(usable_cores())} cores. *Spread* is half of greatest less "
        f"least, over the median; the goal is {GOAL:.0%} at the most. *Of the original alone* is that of its own "
        "latency, which is what a tool would show that takes no turns.", "",
        "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads),
    ]  # fmt: skip
    for name, by_condition in found.items():
        steps = Bundle.load(CACHE / "bundles" / name).candidate.steps
        handed = " + ".join(step.label() for step in steps) or "the original itself"
        for condition, measured in by_condition.items():
            values = [one.ratio.value for one in measured]
            middle = statistics.median(values)
            held = sum(one.ratio.low <= middle <= one.ratio.high for one in measured)
            lines.append("| " + " | ".join([
                name, handed, condition, f"{middle:.3f}", f"{min(values):.3f} to {max(values):.3f}",
                f"{spread(values):.1%}", f"{spread([one.original for one in measured]):.1%}",
                f"{held} of {len(measured)}",
                f"{statistics.mean(one.pairs for one in measured):.1f}",
                f"{statistics.mean(one.repeated for one in measured):.1f}",
            ]) + " |")  # fmt: skip
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / 2 / statistics.median(values)


if __name__ == "__main__":
    main()
