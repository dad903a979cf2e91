"""`strop tune`: from what the shell, or a plan file, says to a search over parameters, and what comes of it."""

from __future__ import annotations

import inspect
import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from . import planfile
from ._calls import function, is_call
from ._plain import restore
from .errors import InvalidPlan, RunFailed
from .events import Said
from .goal import Goal
from .options import Batch, Json, Seed, Trust
from .planfile import TunePlan, seconds
from .prepare import Budget
from .rundir import ASKED, PLAN, RunDir, read_json, write_json
from .shell import CODES, aside, finish, print_json, say

ESTIMATORS = ("label", "group", "rungs", "holdout", "cv", "batch", "out")  # keys that a function has no use for


def tune(
    model: Annotated[
        str | None,
        typer.Argument(
            help="An estimator: .skops, pickle or module:factory; or, without --data, a module:function that trains "
            "for a trial. Without it, ./strop.toml is run."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Samples to fit on: .parquet, .csv, .npz, .npy, folder, module:function.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name of the labels.")] = None,
    group: Annotated[str | None, typer.Option(help="The column that says which samples belong together.")] = None,
    space: Annotated[
        Path | None, typer.Option(help="What to try: a .toml file with a table [space], or a .json file.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="A limit, for instance 'accuracy >= 99% of original'.")
    ] = None,
    minimize: Annotated[str | None, typer.Option(help="The metric to make small.")] = None,
    maximize: Annotated[
        str | None, typer.Option(help="The metric to make large; by default score, the model's own.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="grid, gp, tpe, random, nsga2; by default grid where it fits into the trials.")
    ] = None,
    rungs: Annotated[
        str | None, typer.Option(help="Try with less first: samples, or a parameter that counts iterations.")
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Share of the samples that no fold sees; 0.2 by default.")
    ] = None,
    cv: Annotated[int | None, typer.Option(min=2, help="Folds; 5 by default.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for fits side by side; all by default.")] = None,
    batch: Batch = None,
    budget: Annotated[str | None, typer.Option(help="Time in all: 90s, 10m, 1h; 10m by default.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials, at the most; 100 by default.")] = None,
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the chosen estimator goes, fitted: a new .skops file.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="A directory that keeps every fit, and the report.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the search in that run directory.")] = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Search for the parameters of an estimator, or of a training, that keep a goal best."""
    flags: dict[str, Any] = {
        "model": model, "data": data, "label": label, "group": group, "space": space, "limit": tuple(limit or ()),
        "minimize": minimize, "maximize": maximize, "sampler": sampler, "rungs": rungs, "holdout": holdout, "cv": cv,
        "threads": threads, "batch": batch, "trials": trials, "seed": seed, "out": out, "run": run,
        "trust_pickle": trust_pickle or None,
    }  # fmt: skip

    def work() -> int:
        if budget is not None:
            flags["budget"] = seconds(budget)
        return _run(_resumed(resume, flags) if resume else _plan(flags), as_json)

    finish(work, debug)


def _plan(flags: dict[str, Any]) -> TunePlan:
    if file := planfile.named(flags["model"]):
        return planfile.read(file, TunePlan).under({**flags, "model": None})
    return TunePlan(model=flags["model"]).under(flags)


def _resumed(root: Path, flags: dict[str, Any]) -> TunePlan:
    """The plan that a run was begun with, but for what may change.

    Raises:
        InvalidPlan: A flag would change it.
        RunFailed: The directory holds no run of `strop tune`.
    """
    from .tune import resumable

    given = {name for name, value in flags.items() if value not in (None, ())}
    if changed := sorted(given - {"out", "budget", "trials"}):
        raise InvalidPlan(f"--resume goes on with what the run was started with; leave out {', '.join(changed)}.")
    held = RunDir(resumable(root))  # which refuses one that others may have written: a plan names code to run
    try:
        if not (held / ASKED).exists():
            raise RunFailed(f"{root} was not begun by strop tune. Go on by the call that began it, with the same run.")
        plan = read_json(held / ASKED, lambda plain: restore(TunePlan, plain))
    finally:
        held.close()
    return replace(plan, run=root).under(flags)


def _run(plan: TunePlan, as_json: bool) -> int:
    from .terminal import Reporter, console
    from .tune.trials import INTERRUPTED

    budget = Budget(Budget().seconds if plan.budget is None else plan.budget, plan.trials)
    screen = console()
    with aside(), Reporter(screen, budget.seconds) as reporter:
        chosen = _arguments(plan)
        if plan.run is not None:
            _keep(plan, plan.run)
            reporter(Said(f"strop watch {shlex.quote(str(plan.run))} follows the search; --web shows it in a browser"))
        found = _search(plan, budget, chosen, reporter)
    written = {}
    if plan.out is not None:
        written = {"file": str(plan.out), "trusted": list(found.save(plan.out))}
    if as_json:
        print_json({**found.to_json(), **written})
    else:
        say(str(found))
        if written:
            types = ", ".join(written["trusted"]) or "none"
            say(f"  written to {plan.out}, fitted; types that skops.io.load must be told to trust: {types}")
        if plan.run is not None:
            say(f"  report: {plan.run / 'report.html'}")
            if found.ended == INTERRUPTED:
                say(f"  it goes on with: strop tune --resume {shlex.quote(str(plan.run))}")
    return CODES[found.verdict]


def _arguments(plan: TunePlan) -> dict[str, Any]:
    """What of the plan depends on whether an estimator or a module is fitted, or a function trains.

    Raises:
        StropError: Model, data or space can't be used.
    """
    from .tune.space import Space

    space = planfile.read_space(plan.space) if isinstance(plan.space, Path) else plan.space
    if space is not None:
        space = Space.of(space)
        if not any(space.grids):
            raise InvalidPlan("The space names no parameter. Name some and what to try: C = [0.1, 1, 10].")
    if plan.data is None:
        if plan.training is not None:
            raise InvalidPlan("[training] trains a module of PyTorch on samples, and there are none. Name them: data.")
        if not is_call(plan.model):
            raise InvalidPlan(
                f"{plan.model} needs samples to fit on. Give them with --data FILE (.parquet, .csv, .npz)."
            )
        if unused := [name for name in ESTIMATORS if getattr(plan, name) is not None]:
            raise InvalidPlan(
                f"{plan.model} goes without data, so it is a function that trains for a trial, which has no use for "
                f"{', '.join(unused)}. Leave that out, or give --data for an estimator."
            )
        _check_takes_a_trial(plan.model)
        return {"model": plan.model, "space": space}
    return _of_samples(plan, space)


def _check_takes_a_trial(source: str) -> None:
    """Refuse a factory, which every trial would call in vain."""
    found = function(source, "a function of a trial", InvalidPlan)
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        raise InvalidPlan(
            f"{source} can't be called with a trial. Without --data it must be a function that trains for one; a "
            "factory of estimators goes with --data."
        ) from None
    except ValueError:  # of what is not written in Python
        return


def _of_samples(plan: TunePlan, space: Any) -> dict[str, Any]:
    from . import formats
    from .tune.saving import check_out
    from .tune.tables import read_arrays, read_samples

    if space is None:
        raise InvalidPlan(
            "A search needs a space to search. Name parameters and what to try in a table [space], such as "
            "C = [0.1, 1, 10], in strop.toml or a file given by --space."
        )
    assert plan.data is not None
    if plan.training is not None:
        if not is_call(plan.model):
            raise InvalidPlan(f"[training] trains what module:factory makes, and {plan.model} names none.")
        if plan.out is not None:
            raise InvalidPlan("out takes estimators as .skops, and a module is none. Leave it out; the run keeps all.")
        model: Any = plan.model
        samples = read_arrays(plan.data, plan.label, plan.group)
    else:
        model = formats.estimator(plan.model, plan.trust_pickle)
        if plan.out is not None:
            check_out(plan.out, model)
        samples = read_samples(plan.data, model, plan.label, plan.group)
    options = {
        "cv": plan.cv, "holdout": plan.holdout, "rungs": plan.rungs, "batch": plan.batch, "training": plan.training,
    }  # fmt: skip
    return {
        "model": model, "space": space, "X": samples.X, "y": samples.y, "groups": samples.groups,
        **{name: value for name, value in options.items() if value is not None},
    }  # fmt: skip


def _search(plan: TunePlan, budget: Budget, chosen: dict[str, Any], listener: Any) -> Any:
    from .tune import search

    goal = Goal.of(plan.limit, plan.minimize, plan.maximize if plan.maximize or plan.minimize else "score")
    named: Any = plan.sampler
    return search(
        **chosen, goal=goal, sampler=named, threads=plan.threads, budget=budget, seed=plan.seed or 0, run=plan.run,
        listener=listener,
    )  # fmt: skip


def _keep(plan: TunePlan, root: Path) -> None:
    """Write into the run directory what it was begun with, so that `--resume` needs nothing else."""
    run = RunDir(root)
    try:
        if not (run / PLAN).exists():
            write_json(run / ASKED, _plain(plan))
    finally:
        run.close()


def _plain(plan: TunePlan) -> dict[str, Any]:
    """As JSON has it; paths hold from any folder."""
    found = {name: value for name, value in asdict(plan).items() if value is not None and name != "run"}
    for name in ("model", "data", "space", "out"):
        if name in found and isinstance(found[name], (str, Path)) and not is_call(found[name]):
            found[name] = os.path.abspath(os.path.expanduser(found[name]))
    return found
