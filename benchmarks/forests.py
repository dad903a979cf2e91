"""LightGBM's 500 trees of 63 leaves on KDD census: strop's compiled forest beside all that runs such a model fast.

    python benchmarks/census_forest.py               # once: fetches the data and trains the original
    python benchmarks/forests.py                 # --only peers: measures; --only search: what `strop optimize` finds

Searches with the limit "drop(auroc) <= 0.001" and train data, then measures the peers, the exact forest and what the
search found: in turn, on one core, rows that none has seen, and writes `forests.md`. Measuring takes some minutes, and
as many more the first time, when the peers compile.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
warnings.filterwarnings("ignore")  # of the peers

import daal4py  # noqa: E402, F401 # before all that loads oneTBB
import numpy as np  # noqa: E402
from census_forest import FOLDER, LEAVES, TREES, original, samples  # noqa: E402
from forest_peers import Array, Runner, peers, strop_runner  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

import strop  # noqa: E402
from strop import formats, runtimes, techniques  # noqa: E402
from strop.model import Model  # noqa: E402
from strop.native.library import compiler  # noqa: E402
from strop.planfile import seconds  # noqa: E402
from strop.target import cpu_name, instruction_sets  # noqa: E402
from strop.technique import Context, apply  # noqa: E402
from strop.terminal import Reporter, console  # noqa: E402

HERE = Path(__file__).parent
GOAL = "minimize latency.p50; drop(auroc) <= 0.001"
TARGET = strop.Target(threads=1)
EXACT, FOUND = "strop, exact", "strop, AUROC drop <= 0.001"
ROUNDS, BLOCK, MANY, MANY_EVERY = 60, 100, 10_000, 3
WAYS = {"one": "one row", "bound": "one row, prepared", "many": f"{MANY:,} rows"}

Times = Mapping[str, Mapping[str, Array]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("peers", "search"))
    parser.add_argument("--budget", default="30m", help="of the search")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.only != "peers":
        search(seconds(options.budget))
    if options.only != "search":
        measure(options.rounds)


def held_out() -> tuple[dict[str, Array], dict[str, Array]]:
    """Rows that the original has not seen: a quarter to search with, and three to confirm on."""
    test = samples("test")
    order = np.random.default_rng(0).permutation(len(test["labels"]))
    part = len(order) // 4
    return tuple({name: array[rows] for name, array in test.items()} for rows in (order[:part], order[part:]))


def search(budget: float) -> None:
    data, confirm = held_out()
    for name in ("run", "bundle"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    with Reporter(console(), budget) as reporter:
        result = strop.optimize(
            original(), data, GOAL, train=samples("train"), confirm_data=confirm, target=TARGET,
            budget=strop.Budget(budget), run=FOLDER / "run", out=FOLDER / "bundle", listener=reporter,
        )  # fmt: skip
        result.save()


def exact(folder: Path) -> Model:
    """The original as a library, nothing taken out."""
    shutil.rmtree(folder, ignore_errors=True)
    model = given = formats.open(original())
    for name in ("to-forest", "to-native"):
        (folder / name).mkdir(parents=True)
        model = apply(techniques.find(name)(), model, Context(None, given, TARGET, seed=0, folder=folder / name))
    return model


def measure(rounds: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    runners = peers(original(), FOLDER / "peers")
    models = {EXACT: exact(FOLDER / "exact")}
    bundle = strop.Bundle.load(FOLDER / "bundle") if (FOLDER / "bundle").exists() else None
    runtime_of = {EXACT: runtimes.find("native")()}
    if bundle is not None and bundle.manifest["verdict"] == "met":
        models[FOUND], runtime_of[FOUND] = bundle.model, bundle.runtime
    best = [runner.name for runner in runners]
    runners += [strop_runner(name, model, runtime_of[name]) for name, model in models.items()]
    rows = held_out()[1]
    start = time.monotonic()
    times = timed(runners, rows["x"], rounds)
    taken = time.monotonic() - start
    from_c = {name: timed_from_c(model, rows["x"]) for name, model in models.items() if model.format == "native"}
    lines = [
        "# A forest, and all that runs it fast", "",
        f"Written by `benchmarks/forests.py`. {cpu_name()} ({', '.join(sorted(instruction_sets()))}), Python "
        f"{platform.python_version()}, strop {strop.__version__}; one thread, in turn, {rounds} rounds in {taken:.0f} "
        f"s, every row new to the process. LightGBM, {TREES} trees of {LEAVES} leaves, KDD census "
        f"(`census_forest.py`); AUROC on {len(rows['x']):,} held-out rows. Called from Python, each library by the "
        "fastest public call found for it; *prepared*: input and output are bound before, where the library can. "
        "Medians, with the 99th percentile for one row.", "",
        "| | AUROC | off LightGBM by | " + " | ".join(WAYS.values()) + " |", "| --- " * 6 + "|",
        *table(runners, times, rows), "", *ratios(best, list(models), times), "",
        *(f"- {name}, called from C: one row {one * 1e6:.2f} us, {MANY:,} rows {many * 1e3:.2f} ms"
          for name, (one, many) in from_c.items()),
        *(f"- {name}: {', '.join(f'{file.name} {file.stat().st_size / 1e3:,.0f} kB' for file in model.files)}"
          for name, model in models.items()),
        *(proof(bundle) if bundle is not None else ()),
    ]  # fmt: skip
    (HERE / "forests.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def timed(runners: Sequence[Runner], rows: Array, rounds: int) -> Times:
    """Seconds of calls by runner and way, [rounds, calls]; the runners take turns, and begin with another each time."""
    found: dict[str, dict[str, list[list[float]]]] = {runner.name: {way: [] for way in WAYS} for runner in runners}
    cast = {dtype: rows.astype(dtype) for dtype in {runner.dtype for runner in runners}}
    for turn in range(rounds):
        for place in range(len(runners)):
            runner = runners[(turn + place) % len(runners)]
            x, here = cast[runner.dtype], found[runner.name]
            at = [(2 * BLOCK * turn + k) % (len(x) - 1) for k in range(2 * BLOCK)]
            singles = [x[k : k + 1] for k in at]
            runner.call(singles[-1])
            here["one"].append([clocked(runner.call, one) for one in singles[:BLOCK]])
            here["bound"].append([clocked(call) for call in map(runner.bind, singles[BLOCK:])])
            if turn % MANY_EVERY == 0:
                first = (turn // MANY_EVERY * MANY) % (len(x) - MANY)
                here["many"].append([clocked(runner.call, x[first : first + MANY])])
    return {name: {way: np.array(taken) for way, taken in ways.items()} for name, ways in found.items()}


def clocked(call: Callable[..., object], *given: Array) -> float:
    start = time.perf_counter()
    call(*given)
    return time.perf_counter() - start


def table(runners: Sequence[Runner], times: Times, rows: Mapping[str, Array]) -> list[str]:
    scores = {runner.name: runner.call(rows["x"].astype(runner.dtype)) for runner in runners}
    reference = next(found for name, found in scores.items() if name.startswith("LightGBM"))
    lines = []
    for runner in runners:
        one, bound, many = (times[runner.name][way].ravel() for way in WAYS)
        cells = [
            runner.name, f"{roc_auc_score(rows['labels'], scores[runner.name]):.5f}",
            f"{np.abs(scores[runner.name] - reference).max():.1e}",
            *(f"{np.median(taken) * 1e6:.1f} us ({np.percentile(taken, 99) * 1e6:.1f})" for taken in (one, bound)),
            f"{np.median(many) * 1e3:.1f} ms",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def ratios(names: Sequence[str], ours: Sequence[str], times: Times) -> list[str]:
    """The best peer's time over strop's, round by round: the median, and a bootstrap's 95 % of it."""
    random, lines = np.random.default_rng(0), []
    for name in ours:
        told = []
        for way, words in WAYS.items():
            best = min(names, key=lambda peer: np.median(times[peer][way]))
            each = np.median(times[best][way], axis=1) / np.median(times[name][way], axis=1)
            low, high = np.percentile(np.median(random.choice(each, (2000, len(each))), axis=1), (2.5, 97.5))
            told.append(f"{words} {np.median(each):.2f} times ({low:.2f} to {high:.2f}; {best})")
        lines.append(f"- {name}, faster than the best peer: {'; '.join(told)}.")
    return lines


def timed_from_c(model: Model, rows: Array, rounds: int = 100) -> tuple[float, float]:
    """Seconds a call, of one row and of many."""
    folder = FOLDER / "c"
    folder.mkdir(exist_ok=True)
    rows[:MANY].tofile(folder / "rows")
    command = [
        compiler(),
        "-O2",
        f"-I{model.path.parent}",
        HERE / "forests.c",
        model.path,
        "-lm",
        "-o",
        folder / "timed",
    ]
    subprocess.run([*map(str, command)], check=True)
    said = subprocess.run([folder / "timed", folder / "rows", str(MANY), str(rounds)], check=True, capture_output=True)
    one, many = map(float, said.stdout.split())
    return one, many


def proof(bundle: strop.Bundle) -> list[str]:
    manifest = bundle.manifest
    route = " > ".join(f"{step['technique']} {step['settings'] or ''}".strip() for step in bundle.content["route"])
    limits = "; ".join(
        f"{one['limit']} {one['verdict']}, at {one['value']:.5f} ({one['low']:.5f} to {one['high']:.5f})"
        for one in manifest["limits"]
    )
    return [
        f"- Found by `strop optimize`, {manifest['candidates']} candidates in {manifest['seconds'] / 60:.0f} minutes: "
        f"{route}; {limits}.",
    ]


if __name__ == "__main__":
    main()
