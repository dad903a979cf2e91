"""How long does a recipe take? Replays bundles on their models, and writes `replay.md`.

    python benchmarks/mixed.py                   # the bundles of networks
    python benchmarks/replay.py

A model that was retrained is optimized again by `strop optimize --recipe BUNDLE`: the same route, built and proven on
the new weights. How long that takes doesn't depend on what the weights are, so the same model is taken for the new one.
`insight/guidance.py` holds what follows from it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import census_forest
import mixed
import numpy as np
import svc

from models import CACHE
from strop.target import cpu_name
from strop.units import quantity

HERE, FOLDER = Path(__file__).parent, CACHE / "replay"
LIMIT = 0.99  # of the bundles of `mixed.py`
BUDGET = "60s"  # of the searches for the other two
ROWS = 2000  # of the census, to search on and to confirm on each


@dataclass(frozen=True)
class Case:
    """A model, a bundle of it, and the data that both are judged by.

    Attributes:
        kind: Of the model.
        name: For the table.
        given: The model and the data, as `strop optimize` takes them.
        bundle: What is replayed.
        samples: That both models run over, in all.
    """

    kind: str
    name: str
    given: tuple[str | Path, ...]
    bundle: Path
    samples: int


@dataclass(frozen=True)
class Replay:
    """What replaying took, in seconds: in all, and besides running both models over the samples."""

    case: Case
    route: str
    call: float
    taken: float

    @property
    def besides(self) -> float:
        return self.taken - self.case.samples * self.call


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    found = [replayed(case) for case in (*networks(), forest(), estimator())]
    lines = [
        "# How long a recipe takes", "",
        f"Written by `benchmarks/replay.py`; {cpu_name()}, 1 thread. `strop optimize --recipe` of a bundle on its "
        "model: the route is built, measured beside the original in processes of their own, and proven. *Besides*: "
        "what is left when one call of both models for each sample is taken off.", "",
        "| model | route | samples | both models, a sample | seconds | besides |", "|---|---|---|---|---|---|",
        *(f"| {one.case.name} | {one.route} | {one.case.samples:,} | {quantity(one.call, 's')} | {one.taken:.0f} | "
          f"{one.besides:.0f} |" for one in found), "",
        *(f"- {kind}: {min(besides):.0f} to {max(besides):.0f} s besides" for kind, besides in by_kind(found).items()),
    ]  # fmt: skip
    (HERE / "replay.md").write_text("\n".join(lines) + "\n")


def by_kind(found: Sequence[Replay]) -> dict[str, list[float]]:
    kinds: dict[str, list[float]] = {}
    for one in found:
        kinds.setdefault(one.case.kind, []).append(one.besides)
    return kinds


def replayed(case: Case) -> Replay:
    begun = time.monotonic()
    optimize(case, FOLDER / case.name, "--recipe", case.bundle)
    taken = time.monotonic() - begun
    told = json.loads((case.bundle / "manifest.json").read_text())
    call = sum(told[side]["metrics"]["latency.p50"]["value"] for side in ("original", "winner")) / 1e3
    made = Replay(case, " + ".join(step["technique"] for step in told["winner"]["route"]), call, taken)
    print(made, made.besides, flush=True)
    return made


def optimize(case: Case, out: Path, *settings: str | Path) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("strop"), "optimize", *case.given]
    command += ["--threads", "1", "--out", out, "--run", out.with_name(f"{out.name}-run"), "--json", *settings]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if ended.returncode not in (0, 3, 4):
        sys.exit(f"{case.name}: strop ended with {ended.returncode}")


def networks() -> Iterator[Case]:
    """The models of `mixed.py`, each with the bundle that it found."""
    for name in mixed.NAMES:
        folder = CACHE / "mixed" / name
        samples = sum(len(mixed.Samples(folder, part)) for part in ("search", "confirm"))
        given = (folder / "model.onnx", "--calibration", folder / "calibration.npz", *judged_by(folder))
        yield Case("networks", name, given, folder / f"strop-{LIMIT}", samples)


def forest() -> Case:
    test = census_forest.samples("test")
    return searched("forests", "census", census_forest.original(), [
        {name: array[start : start + ROWS] for name, array in test.items()} for start in (0, ROWS)
    ])  # fmt: skip


def estimator() -> Case:
    _, search, confirm = svc.parts()
    parts = [{name: array[:ROWS] for name, array in part.items()} for part in (search, confirm)]
    return searched("estimators", "svc", svc.original(), parts)


def searched(kind: str, name: str, model: Path, parts: Sequence[Mapping[str, np.ndarray]]) -> Case:
    """A model with the bundle that a short search finds."""
    folder = FOLDER / f"{name}-data"
    folder.mkdir(parents=True)
    for part, arrays in zip(("search", "confirm"), parts, strict=True):
        np.savez(folder / f"{part}.npz", **arrays)
    case = Case(kind, name, (model, *judged_by(folder)), folder / "bundle", sum(len(part["x"]) for part in parts))
    optimize(case, case.bundle, "--limit", "drop(accuracy) <= 0.02", "--minimize", "latency.p50", "--budget", BUDGET)
    return case


def judged_by(folder: Path) -> tuple[str | Path, ...]:
    return "--data", folder / "search.npz", "--confirm", folder / "confirm.npz"


if __name__ == "__main__":
    main()
