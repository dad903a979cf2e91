"""An SVC of more than 5,000 support vectors on KDD census: scikit-learn beside what `strop optimize` makes of it.

    python benchmarks/svc.py                     # --only search, --only measure; --budget 20m

Trains on 16,000 rows of which half are positive (`census_forest.py` has the data), searches with the limit
"drop(accuracy) <= 0.01", without train data, on rows that the original has not seen, half of them positive too; then
measures both in turn on one core, by the calls of their own users, and writes `svc.md`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import skops.io
from census_forest import FOLDER, samples

import strop
from strop.formats.sklearn import load
from strop.planfile import seconds
from strop.target import cpu_name, instruction_sets
from strop.terminal import Reporter, console

HERE = Path(__file__).parent
GOAL = "minimize latency.p50; drop(accuracy) <= 0.01"
TRAINED, SEARCHED = 8_000, 2_000  # rows of each class
ROUNDS, SINGLES, MANY = 40, 50, 1000
Array = np.ndarray
Rows = dict[str, Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("search", "measure"))
    parser.add_argument("--budget", default="20m", help="of the search")
    parser.add_argument("--recipe", type=Path, help="a bundle, whose route is proven in place of a search")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.only != "measure":
        search(seconds(options.budget), options.recipe)
    if options.only != "search":
        measure(options.rounds)


def parts() -> tuple[Rows, Rows, Rows]:
    """To train, to search and to confirm on: rows of the census, classes of equal size."""
    train = samples("train")
    ends = (0, TRAINED, TRAINED + SEARCHED, int(train["labels"].sum()))
    trained, searched, confirmed = (balanced(train, start, end) for start, end in itertools.pairwise(ends))
    return trained, searched, confirmed


def balanced(whole: Rows, start: int, end: int) -> Rows:
    """Some rows of each class, mixed."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(whole["labels"] == of))[start:end] for of in (0, 1)])
    mixed = rng.permutation(rows)
    return {name: array[mixed] for name, array in whole.items()}


def original() -> Path:
    """The trained model."""
    file = FOLDER / "svc.skops"
    if not file.exists():
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        train, _, _ = parts()
        skops.io.dump(make_pipeline(StandardScaler(), SVC(cache_size=1000)).fit(train["x"], train["labels"]), file)
    return file


def search(budget: float, recipe: Path | None) -> None:
    _, data, confirm = parts()
    for name in ("svc-run", "svc-bundle"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    with Reporter(console(), budget) as reporter:
        result = strop.optimize(
            original(), data, GOAL, confirm_data=confirm, target=strop.Target(threads=1), budget=strop.Budget(budget),
            run=FOLDER / "svc-run", out=FOLDER / "svc-bundle", listener=reporter, recipe=recipe,
        )  # fmt: skip
        result.save()


def measure(rounds: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    _, _, rows = parts()
    estimator, bundle = load(original()), strop.Bundle.load(FOLDER / "svc-bundle")
    runner = bundle.runtime.load(bundle.model, strop.Target(threads=1))
    (name,) = (tensor.name for tensor in bundle.model.signature.inputs)
    calls: dict[str, Callable[[Array], object]] = {
        "scikit-learn": estimator.decision_function, "strop": lambda x: runner({name: x}),
    }  # fmt: skip
    start = time.monotonic()
    ways = {"one row": timed(calls, rows["x"], rounds, 1), f"{MANY:,} rows": timed(calls, rows["x"], rounds, MANY)}
    taken = time.monotonic() - start
    vectors = len(estimator[-1].support_vectors_)
    scores = {
        who: ((np.concatenate([np.ravel(_values(call(part))) for part in np.array_split(rows["x"], 10)]) > 0)
              == rows["labels"]).mean() for who, call in calls.items()
    }  # fmt: skip
    manifest = bundle.manifest
    route = " > ".join(f"{step['technique']} {step['settings'] or ''}".strip() for step in bundle.content["route"])
    limits = "; ".join(
        f"`{one['limit']}` {one['verdict']}, accuracy {one['value']:.5f} ({one['low']:.5f} to {one['high']:.5f})"
        for one in manifest["limits"]
    )
    lines = [
        "# A support vector machine", "",
        f"Written by `benchmarks/svc.py`. {cpu_name()} ({', '.join(sorted(instruction_sets()))}), Python "
        f"{platform.python_version()}, strop {strop.__version__}; one thread, in turn, {rounds} rounds in {taken:.0f} "
        f"s. StandardScaler and SVC (RBF, C=1) with {vectors:,} support vectors, trained on {2 * TRAINED:,} rows of "
        f"KDD census, classes of equal size; accuracy on {len(rows['x']):,} rows that neither it nor the search saw. "
        "scikit-learn by `decision_function`, strop by the runtime of its bundle; medians.", "",
        "| | accuracy | " + " | ".join(ways) + " |", "| --- " * (2 + len(ways)) + "|",
        *(f"| {who} | {scores[who]:.5f} | " + " | ".join(_time(np.median(way[who])) for way in ways.values()) + " |"
          for who in calls), "",
        *(f"- {way}: {ratio(found)}" for way, found in ways.items()),
        f"- Proven by `strop optimize`, candidates: {manifest['candidates']}"
        f"{' (a recipe)' * (manifest['candidates'] == 1)}, {manifest['seconds'] / 60:.0f} minutes, without train data: "
        f"{route}; {limits}. In its own fresh processes, latency.p50 is "
        f"{manifest['winner']['ratios']['latency.p50']['value']:.4f} of the original's.",
    ]  # fmt: skip
    (HERE / "svc.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _values(answer: object) -> Array:
    return next(iter(answer.values())) if isinstance(answer, Mapping) else np.asarray(answer)


def timed(calls: Mapping[str, Callable[[Array], object]], x: Array, rounds: int, size: int) -> dict[str, Array]:
    """Seconds a call, [rounds]: the median of a block of calls of one row, or one call of many."""
    found: dict[str, list[float]] = {who: [] for who in calls}
    for turn in range(rounds if size == 1 else max(5, rounds // 4)):
        for who in sorted(calls, reverse=bool(turn % 2)):
            taken = []
            for block in range(SINGLES if size == 1 else 1):
                start = (turn * SINGLES + block) * size % (len(x) - size)
                rows = x[start : start + size]
                begun = time.perf_counter()
                calls[who](rows)
                taken.append(time.perf_counter() - begun)
            found[who].append(float(np.median(taken)))
    return {who: np.array(taken) for who, taken in found.items()}


def ratio(found: Mapping[str, Array]) -> str:
    """scikit-learn's time over strop's, round by round: the median, and a bootstrap's 95 % of it."""
    each = found["scikit-learn"] / found["strop"]
    drawn = np.median(np.random.default_rng(0).choice(each, (2000, len(each))), axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{np.median(each):.1f} times as fast ({low:.1f} to {high:.1f})"


def _time(taken: float) -> str:
    return f"{taken * 1e6:.1f} us" if taken < 1e-3 else f"{taken * 1e3:.2f} ms"


if __name__ == "__main__":
    main()
