"""Tune four estimators by `strop.tune.search`, and as others do, on the same folds and cores.

    apt-get update                               # texts: descriptions of Debian's packages
    pip install -e '.[trees]' optuna-integration==5.0.0
    python benchmarks/hpo.py                     # --only digits, --seeds 10

GridSearchCV fits every point of a grid of at least 500. Then `strop.tune.search` and OptunaSearchCV get a tenth of the
seconds that it took, with ten seeds each, and HalvingGridSearchCV what it takes. Random search is had from the grid's
own fits, drawn in random order until their seconds are spent: it has no overhead at all. It is told for that time, and
for as long as `strop.tune.search` took before it found that nothing is to be gained. What each of them chooses is
judged by the grid's scores of that point, fold by fold. Writes `hpo.md`.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hpo_tasks import Task, tasks
from models._fetch import CACHE
from scipy.stats import t
from sklearn.base import clone, is_classifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 it makes the next import work
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, ParameterGrid, check_cv, cross_val_score
from threadpoolctl import threadpool_limits

from strop import Budget, tune
from strop.target import cpu_name, usable_cores

HERE = Path(__file__).parent
FOLDS, SHARE, DRAWS = 5, 0.1, 2000
Point = Mapping[str, Any]


class Grid:
    """All points, fitted: what each scores on each fold, and how long that took."""

    def __init__(self, task: Task):
        self.task = task
        folds = check_cv(FOLDS, task.y, classifier=is_classifier(task.estimator))
        self.folds = list(folds.split(task.x, task.y))
        start = time.perf_counter()
        found = GridSearchCV(
            clone(task.estimator), dict(task.grid), scoring=task.scoring, cv=self.folds, n_jobs=2, refit=False
        ).fit(task.x, task.y)
        self.seconds = time.perf_counter() - start
        results = found.cv_results_
        self.scores = np.stack([results[f"split{fold}_test_score"] for fold in range(FOLDS)], axis=1)
        fits = (results["mean_fit_time"] + results["mean_score_time"]) * FOLDS
        self.each = fits * self.seconds / fits.sum()  # its own wall time, shared out
        self.places = {_key(point): place for place, point in enumerate(ParameterGrid(dict(task.grid)))}
        self.best = int(self.scores.mean(axis=1).argmax())

    def short(self, point: Point) -> tuple[float, float]:
        """By how much a point scores less than the best, and the standard error of that over the folds."""
        place = self.places.get(_key(point))  # the estimator as given need not be in the grid
        apart = self.scores[self.best] - (self._scores(point) if place is None else self.scores[place])
        return float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(FOLDS))

    def _scores(self, point: Point) -> np.ndarray[Any, Any]:
        estimator = clone(self.task.estimator).set_params(**point)
        scored: np.ndarray[Any, Any] = cross_val_score(
            estimator, self.task.x, self.task.y, scoring=self.task.scoring, cv=self.folds
        )
        return scored

    def by_chance(self, seconds: float) -> list[Point]:
        """What random search chooses in that time, drawn again and again."""
        rng, points = np.random.default_rng(0), list(ParameterGrid(dict(self.task.grid)))
        chosen = []
        for _ in range(DRAWS):
            order = rng.permutation(len(points))
            drawn = order[: max(1, int((self.each[order].cumsum() <= seconds).sum()))]
            chosen.append(points[drawn[self.scores[drawn].mean(axis=1).argmax()]])
        return chosen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of tasks")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kept = CACHE / "hpo.json"
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    for task in tasks().values():
        if options.only and not any(word in task.name for word in options.only):
            continue
        with threadpool_limits(1):  # two fits run side by side, each on a core
            rows[task.name] = compared(task, options.seeds)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(rows))
        write(rows)


def compared(task: Task, seeds: int) -> dict[str, Any]:
    """What each way to search comes to: seconds, how short of the grid's best, and whether within a standard error."""
    grid = Grid(task)
    budget = SHARE * grid.seconds
    ways: dict[str, Callable[[int], Point]] = {
        "strop.tune.search": lambda seed: by_strop(task, grid, budget, seed),
        "OptunaSearchCV": lambda seed: by_optuna(task, grid, budget, seed),
    }
    found: dict[str, list[tuple[float, Point]]] = {name: [] for name in ways}
    for seed in range(seeds):
        for name, way in ways.items():  # in turn: the machine is the same for both
            start = time.perf_counter()
            chosen = way(seed)
            found[name].append((time.perf_counter() - start, chosen))
    start = time.perf_counter()
    halved = halving(task, grid)
    found["HalvingGridSearchCV"] = [(time.perf_counter() - start, halved)]
    taken = float(np.mean([seconds for seconds, _ in found["strop.tune.search"]]))
    for name, seconds in (("random search, as long as strop's", taken), ("random search", budget)):
        found[name] = [(seconds, point) for point in grid.by_chance(seconds)]
    row = {name: _judged(grid, runs) for name, runs in found.items()}
    print(task.name, len(grid.scores), f"{grid.seconds:.0f} s", json.dumps(row), flush=True)
    return {
        "machine": f"{cpu_name()}, {len(usable_cores())} cores",
        "points": len(grid.scores),
        "seconds": grid.seconds,
        "best": float(grid.scores.mean(axis=1).max()),
        "ways": row,
    }


def by_strop(task: Task, grid: Grid, seconds: float, seed: int) -> Point:
    found = tune.search(
        clone(task.estimator), dict(task.grid), task.x, task.y, scoring=task.scoring, cv=grid.folds, holdout=0.0,
        budget=Budget(seconds, len(grid.scores)), threads=2, seed=seed, sampler="gp",
    )  # fmt: skip
    return found.params


def by_optuna(task: Task, grid: Grid, seconds: float, seed: int) -> Point:
    from optuna_integration import OptunaSearchCV

    search = OptunaSearchCV(
        clone(task.estimator),
        {name: optuna.distributions.CategoricalDistribution(values) for name, values in task.grid.items()},
        cv=grid.folds, scoring=task.scoring, n_jobs=2, n_trials=None, timeout=seconds, random_state=seed, refit=False,
    )  # fmt: skip
    chosen: Point = search.fit(task.x, task.y).best_params_
    return chosen


def halving(task: Task, grid: Grid) -> Point:
    search = HalvingGridSearchCV(
        clone(task.estimator), dict(task.grid), scoring=task.scoring, cv=FOLDS, n_jobs=2, refit=False, random_state=0
    )
    chosen: Point = search.fit(task.x, task.y).best_params_
    return chosen


def _judged(grid: Grid, runs: list[tuple[float, Point]]) -> dict[str, Any]:
    """Means over the runs, with 95 % by Student's t; of random search the error is that of many draws."""
    short, errors = np.array([grid.short(point) for _, point in runs]).T
    half = float(t.ppf(0.975, len(runs) - 1) * short.std(ddof=1) / np.sqrt(len(runs))) if len(runs) > 1 else 0.0
    return {
        "runs": len(runs), "seconds": float(np.mean([seconds for seconds, _ in runs])), "short": float(short.mean()),
        "half": half, "within": float((short <= errors).mean()),
    }  # fmt: skip


def _key(point: Point) -> str:
    return repr(sorted(point.items()))


def write(rows: Mapping[str, Any]) -> None:
    lines = [
        "# Hyperparameter search", "",
        f"Written by `benchmarks/hpo.py`; {FOLDS} folds that all share. "
        "`strop.tune.search` (by its Gaussian process; it may end before) and OptunaSearchCV had "
        f"{SHARE:.0%} of the seconds of GridSearchCV, and so had random search, which is drawn {DRAWS:,} times "
        "from the grid's own fits and has no overhead. *Short* is by how much what was chosen scores less than the "
        "grid's best point, on the same folds: "
        "the mean over runs, at 95 %. *Within* is the share of runs that are short by no more than one standard error "
        "of the fold differences.", "",
        "| task | search | runs | seconds, of the grid's | short of the grid's best | within |", "| --- " * 6 + "|",
    ]  # fmt: skip
    for task, row in rows.items():
        points, seconds, best = row["points"], row["seconds"], row["best"]
        task = f"{task}; {row['machine']}"
        lines.append(f"| {task} | GridSearchCV, {points} points | 1 | {seconds:.0f} s | 0 (best {best:.4f}) | |")
        for name, way in row["ways"].items():
            short = f"{way['short']:.4f}" + (f" ± {way['half']:.4f}" if way["runs"] > 1 else "")
            lines.append(
                f"| | {name} | {way['runs']} | {way['seconds'] / seconds:.3f} | {short} | {way['within']:.2f} |"
            )
    (HERE / "hpo.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
