"""Tuning: `search`, from an estimator and a space to parameters with proof."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from .._plain import given, told
from ..errors import InvalidData, InvalidPlan
from ..events import Listener
from ..goal import Goal
from ..learning import Training
from ..live import following
from ..prepare import SEEDS, Budget, environment
from ..rundir import ASKED, finite, read_json, write_json
from ..target import usable_cores
from .asking import Asked, Asking, Sampler, default
from .conclusion import conclude
from .folds import COSTS, Case, Stage
from .functions import is_module, read_function, search_function
from .measures import Judge, of_estimator, read_goal
from .race import Race
from .result import Tuned, plain_params
from .samples import Samples, part
from .saving import write
from .space import Space
from .store import FOUND, Store, telling
from .trials import Trial
from .workers import Workers

if TYPE_CHECKING:
    import optuna
else:
    optuna = lazy("optuna")

Array = np.ndarray[Any, Any]

TRIALS = 100  # where the budget names none
RUNGS = (1 / 9, 1 / 3)  # shares of samples or iterations before the whole, with successive halving by 3
REPORT, CHOSEN = "report.html", "chosen.skops"
FIDELITIES = ("halving", "hyperband")


def search(
    model: Any,
    space: Any = None,
    X: Any = None,
    y: Any = None,
    *,
    goal: Goal | str | None = None,
    scoring: Any = None,
    groups: Any = None,
    fit_params: Mapping[str, Any] | None = None,
    cv: Any = None,
    training: Training | None = None,
    sampler: Sampler | None = None,
    rungs: str | None = None,
    pruner: str = "halving",
    holdout: float = 0.2,
    budget: Budget | None = None,
    threads: int | None = None,
    batch: int = 1,
    seed: int = 0,
    run: str | Path | None = None,
    listener: Listener | None = None,
) -> Tuned:
    """Search for the parameters that keep a goal best.

    Candidates are judged fold by fold, in parallel, beside the best so far: one that lags behind on its first folds by
    more than noise explains is dropped. The estimator as given is the original: limits such as `accuracy >= 99% of
    original` are against it, and it comes back where nothing is better. What is chosen is measured on samples that
    were in no fold. An interrupt ends the search, and the best so far is measured.

    Args:
        model: An estimator or pipeline of scikit-learn's kind. Or a PyTorch model: a live module, trained on from its
            weights; or a class or function that makes one, or `module:factory`, trained from its seeded first weights:
            see `strop.tune.modules`. Or, without X, a function, or `module:function`, that trains for a trial and
            returns what it came to: see `strop.tune.functions`. Of the other arguments such a function takes goal,
            sampler, pruner, budget, threads, seed, run and listener, and a space or none.
        space: As of `SearchCV`: a dict of lists, distributions and ranges as plain data, or a list of such dicts.
            Parameters of a module are the settings of `strop.Training` but those of a teacher, and the keyword
            arguments of its factory.
        X: Samples, as the estimator takes them; of a module `[samples, ...]`, or such an array for each input, by name.
        y: Labels, or None.
        goal: As everywhere: an objective and limits, as `maximize auroc; latency.p50 < 1 ms; size < 1 MB`. By default
            `maximize score`, the estimator's own. Metrics are accuracy, f1, auroc, average_precision, log_loss, mse,
            mae, r2 and any scorer of scikit-learn's by name, as means over folds; `latency.p50 .p95 .p99 .mean` of
            `predict`, `fit_time`, and `size`, pickled, or of a module's weights as saved.
        scoring: A scorer, which then is `score`, or several by name, to speak of in the goal.
        groups: [n], for `cv`; samples of one group are held out together.
        fit_params: Further arguments of `fit`, such as `sample_weight`; those with one value a sample go with them.
        cv: Folds, as of scikit-learn's `cross_validate`; 5 by default.
        training: How a PyTorch model is trained, by the one loop of strop's, on one thread a fit; nothing teaches it.
            Trained so, with the defaults of its factory, it is the original.
        sampler: `grid` (exhaustive), `gp` (a Gaussian process over all points of a space that can be enumerated),
            `tpe`, `random` or `nsga2`; by default `grid` where the space has no more points than there are trials,
            `gp` where it has at most 20,000, and there are neither limits nor rungs, else `tpe`.
        rungs: Try candidates with less first: `samples`, or the name of a parameter that counts iterations, such as
            `epochs` of a module; whole numbers stay whole.
        pruner: What decides who climbs a rung: `halving` (asynchronous successive halving, Li et al. 2020) or
            `hyperband`.
        holdout: Share of the samples that no fold sees; where they would be less than 100, or `cv` lists rows, none are
            held out, and the figures are those of the folds, corrected for the choice.
        budget: Seconds and trials; 100 trials where it names none. What still runs when the time is over is cut, once
            something can be told; on one core only between fits.
        threads: Cores to use: fits run side by side, each on one of them. All by default.
        batch: Samples in one call that is timed.
        seed: Of every random choice.
        run: A directory that keeps every fit: a search that was killed goes on there, by the same call, and repeats
            none. optuna-dashboard reads its `journal.log`; at the end it gets `report.html`.
        listener: Is told what is tried; by default a notebook or a terminal shows it.

    Raises:
        InvalidPlan: The space is empty, or an argument can't be used.
        InvalidGoal: The goal can't be read, or speaks of what can't be told here.
        InvalidData: Samples and labels don't fit each other, or the module.
        UnsupportedModel: The module is none to train.
        RunFailed: No candidate could be judged, or the run directory can't be used.
        KeyboardInterrupt: It came before any candidate could be.
    """
    begun = time.monotonic()
    budget = given(Budget, budget, "budget")
    workers = Workers(_checked(threads, batch, seed, holdout))
    parsed = read_goal(goal)
    most = budget.trials or TRIALS
    how: dict[str, Any] = {
        "goal": str(parsed), "trials": most, "seconds": budget.seconds, "threads": workers.count, "seed": seed,
        "environment": environment(),
    }  # fmt: skip
    module = training is not None or is_module(model, X)
    if not module and (function := read_function(model)) is not None:
        read = None if space is None else Space.of(space)
        how |= {
            "model": getattr(function, "__qualname__", function), "function": _importable(function),
            "space": None if read is None else read.spelled(),
            "sampler": sampler, "pruner": checked_pruner(pruner),
        }  # fmt: skip
        return search_function(
            function, read, parsed, sampler=sampler, pruner=pruner, most=most, seconds=budget.seconds,
            workers=workers, seed=seed, run=run, listener=following(listener),
            reported=partial(_reported, how=how, run=run),
        )  # fmt: skip
    if not module and not hasattr(model, "fit"):
        raise InvalidPlan(f"{told(model, repr)} is neither an estimator, with a method fit, nor module or function.")
    if X is None:
        raise InvalidData("A search needs samples to fit on, and X is None. Give X, and y where there are labels.")
    read = Space.of(space)
    if module:
        from .modules import of_module

        model, X, y = of_module(model, training, X, y, seed)
    chosen = sampler or default(read, most, plain=rungs is None and not parsed.limits)
    measures = of_estimator(model, y, parsed, scoring)
    data = Samples.of(model, X, y, groups, fit_params, cv, holdout, seed)
    splits = _stages(model, data, rungs, seed)
    _check_parameters(model, read)
    point = read.locate(model.get_params())
    asking = Asking(
        read, chosen, parsed.direction, seed, [] if point is None else [point], _pruner(pruner, rungs, len(read.grids))
    )
    hashes = {"data": _hash((data.X, data.y, data.arguments)), "folds": _hash(list(splits.values()))}
    with _kept(run, model, read, parsed, hashes, seed, chosen, f"{rungs} {pruner}") as (folder, store):
        if store is not None:
            asking.begin_with(store.points())
        case = Case(
            data.write(folder), model, {name: (m.scorer, m.sign) for name, m in measures.items() if m.scorer},
            tuple(name for name in measures if name in COSTS), batch, None if rungs == "samples" else rungs,
        )  # fmt: skip
        workers.check(case)
        first: Asked | None = None if point is None else asking.ask()
        how |= {
            "model": told(model, repr), "given": _given(model, read), "space": read.spelled(), "sampler": chosen,
            "cv": told(cv), "holdout": holdout, "rungs": rungs, "pruner": pruner, "batch": batch,
            "module": module, "hashes": hashes,
        }  # fmt: skip
        with telling(run, following(listener)) as tell:
            race = Race(
                case, splits, data.ratio, asking, Judge(parsed, measures), most, begun + budget.seconds,
                data.held is not None, chosen == "grid", workers, store, tell,
            )  # fmt: skip
            race.run(Trial({} if first is None else first.params, first))
            return _reported(conclude(race, data, seed, begun), how, run, savable=not module)


def _given(model: Any, space: Space) -> dict[str, Any]:
    """What the estimator as given has for the parameters of a space, as plain data."""
    known = model.get_params()
    return plain_params({name: known.get(name) for grid in space.grids for name in grid})


def _importable(function: Any) -> str:
    """`module:function`, where it can be imported by that; else empty."""
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", "<lambda>")
    return f"{module}:{name}" if module != "__main__" and name.isidentifier() else ""


def _reported(found: Tuned, how: Mapping[str, Any], run: str | Path | None, savable: bool = False) -> Tuned:
    """What was found with how it was, written down where the run is kept, with the estimator, where it can be saved."""
    if run is None:
        return replace(found, how=how)
    folder = Path(run)
    if (folder / ASKED).exists():
        how = {**how, "asked": read_json(folder / ASKED, dict)}
    if savable:
        with contextlib.suppress(InvalidPlan):
            how = {**how, "file": {"name": CHOSEN, "trusted": list(write(folder / CHOSEN, found.estimator))}}
    found = replace(found, how=how)
    write_json(folder / FOUND, finite({**found.shown(), "said": str(found)}))
    found.report(folder / REPORT)
    return found


def _checked(threads: int | None, batch: int, seed: int, holdout: float) -> int:
    """How many cores to use."""
    for name, value, low, high in (
        ("threads", 1 if threads is None else threads, 1, 4096),
        ("batch", batch, 1, 1 << 31),
        ("seed", seed, 0, SEEDS - 1),
    ):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidPlan(f"{name} must be a whole number of at least {low}, not {told(value, repr)}.")
    if isinstance(holdout, bool) or not isinstance(holdout, (int, float)) or not 0 <= holdout < 1:
        raise InvalidPlan(f"holdout must be a share from 0 to below 1, not {told(holdout, repr)}.")
    return len(usable_cores()) if threads is None else threads


def _check_parameters(estimator: Any, space: Space) -> None:
    from sklearn.base import clone

    for grid in space.grids:
        for name, domain in grid.items():
            trying = clone(estimator)
            try:
                for value in domain.examples:
                    trying.set_params(**{name: value})
            except InvalidPlan:
                raise  # of an estimator that says itself what is wrong with a value
            except (ValueError, AttributeError) as error:
                raise InvalidPlan(f"The space names {name!r}, and the estimator does not know it: {error}") from None


def _stages(estimator: Any, data: Samples, rungs: str | None, seed: int) -> dict[Stage, tuple[Array, Array]]:
    """The rungs, on the first fold, then all folds."""
    found: dict[Stage, tuple[Array, Array]] = {}
    if rungs is not None:
        known = estimator.get_params()
        count = known.get(rungs)
        if rungs != "samples" and (isinstance(count, bool) or not isinstance(count, (int, float))):
            it = f"is {told(count, repr)} of it" if rungs in known else "it does not have"
            raise InvalidPlan(
                f"rungs must be `samples`, or a parameter of the estimator that counts iterations, not "
                f"{told(rungs, repr)}, which {it}. Name another, or give it a number."
            )
        train, test = data.splits[0]
        for share in RUNGS:
            found[Stage(0, share)] = (part(train, share, data, seed) if rungs == "samples" else train), test
    return {**found, **{Stage(fold): split for fold, split in enumerate(data.splits)}}


def checked_pruner(name: str) -> str:
    """The name of a pruner, if it is one."""
    if name not in FIDELITIES:
        raise InvalidPlan(f"pruner must be one of {', '.join(FIDELITIES)}, not {told(name, repr)}.")
    return name


def _pruner(name: str, rungs: str | None, grids: int) -> optuna.pruners.BasePruner:
    checked_pruner(name)
    if rungs is None:
        return optuna.pruners.NopPruner()
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)


def _hash(value: Any) -> str:
    import joblib

    return str(joblib.hash(value))


@contextlib.contextmanager
def _kept(
    run: str | Path | None, estimator: Any, space: Space, goal: Goal, hashes: Mapping[str, str], seed: int,
    sampler: str, rungs: str,
) -> Iterator[tuple[Path, Store | None]]:  # fmt: skip
    """Where the search keeps its data, and its fits where that was asked for."""
    if run is None:
        with tempfile.TemporaryDirectory(prefix="strop-tune-") as folder:
            yield Path(folder), None
        return
    store = Store.open(
        run,
        {
            "estimator": repr(estimator), "space": space.spelled(), "goal": str(goal), "seed": str(seed),
            **hashes,
            "sampler": sampler, "fidelity": rungs,
        },
    )  # fmt: skip
    try:
        yield store.run.root, store
    finally:
        store.close()
