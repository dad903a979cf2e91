"""The shell: `strop optimize`, `profile`, `compare`, `explain`, `benchmark`, `verify`, `tune`, `init`, ..."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, planfile
from ._calls import is_call
from .deployer import serve
from .errors import InvalidPlan, StropError
from .fixed import spelled
from .formats import present
from .goal import Goal
from .options import (
    P99,
    Batch,
    Group,
    Json,
    Label,
    Price,
    Protected,
    Rate,
    Seed,
    Set,
    Slice,
    Threads,
    Trust,
    Weights,
    target_of,
)  # fmt: skip
from .planfile import Plan, seconds
from .prepare import Budget, Request
from .rundir import PLAN, RunDir, read_json
from .shell import CODES, Exit, aside, finish, print_json, say
from .starter import init
from .surveyor import doctor, techniques
from .tuner import tune
from .watcher import watch

DEMO = Path("examples/fashion_mnist")
DEMO_GOAL = ("accuracy >= 99% of original", "size < 5 MB")


app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make a trained model smaller and faster within the limits you set, and prove it.",
)  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        say(f"strop {__version__}")
        raise typer.Exit


@app.callback()
def _of_all(
    version: Annotated[bool, typer.Option("--version", help="Show it.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def optimize(
    model: Annotated[
        str | None,
        typer.Argument(help="A file, a folder, module:factory, or a plan (.toml); without it, ./strop.toml."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Samples to judge by: .npz, .npy, .parquet, .csv, folder, module:function.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="A limit, for instance 'accuracy >= 99% of original'.")
    ] = None,
    minimize: Annotated[str | None, typer.Option(help="The metric to make small; latency.p50 by default.")] = None,
    maximize: Annotated[str | None, typer.Option(help="The metric to make large.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric to report, by name or module:function.")] = None,
    weights: Weights = None,
    set: Set = None,
    calibration: Annotated[str | None, typer.Option(help="Samples to calibrate with.")] = None,
    confirm: Annotated[str | None, typer.Option(help="Samples to confirm on; nothing else sees them.")] = None,
    train: Annotated[
        str | None, typer.Option(help="Samples to train with, for what trains; settings go into strop.toml.")
    ] = None,
    label: Label = None,
    slice: Slice = None,
    group: Group = None,
    protected: Protected = None,
    threads: Threads = None,
    batch: Batch = None,
    target: Annotated[
        str | None, typer.Option(help="server (by default) or mobile: a .tflite file for phones.")
    ] = None,
    formats: Annotated[str | None, typer.Option(help="Formats that may be handed over: onnx,openvino.")] = None,
    rate: Rate = None,
    p99: P99 = None,
    price: Price = None,
    budget: Annotated[str | None, typer.Option(help="Time in all: 90s, 10m, 1h; 10m by default.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Candidates, at the most.")] = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes; a new folder.")] = None,
    run: Annotated[Path | None, typer.Option(help="The run directory; a new one under strop-runs/ by default.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the search in that run directory.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A bundle whose route is replayed on this model.")] = None,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Log what was tried, and the model, to MLflow.")] = False,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Find the best model that provably keeps the limits, and write it as a bundle."""
    flags: dict[str, Any] = {
        "model": model, "data": data, "limit": tuple(limit or ()), "minimize": minimize, "maximize": maximize,
        "metric": tuple(metric or ()), "calibration": calibration, "confirm": confirm, "train": train,
        "label": label, "slice": tuple(slice or ()), "group": group, "protected": tuple(protected or ()),
        "threads": threads, "batch": batch, "target": target, "formats": tuple(formats.split(",")) if formats else (),
        "rate": rate, "price": price, "weights": weights, "trials": trials, "seed": seed, "out": out,
        "run": run, "recipe": recipe, "trust_pickle": trust_pickle or None, "mlflow": mlflow or None,
    }  # fmt: skip

    def work() -> int:
        if budget is not None:
            flags["budget"] = seconds(budget)
        if p99 is not None:
            flags["p99"] = seconds(p99)
        if set:
            flags["set"] = spelled(set)
        if resume:
            return _resume(resume, flags, as_json)
        return _run(_plan(flags), as_json)

    finish(work, debug)


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="A model or a bundle.")],
    data: Annotated[str | None, typer.Option(help="Inputs to run; random ones by default.")] = None,
    label: Label = None,
    threads: Threads = None,
    batch: Batch = None,
    seed: Seed = None,
    weights: Weights = None,
    sensitivity: Annotated[
        bool, typer.Option(help="Measure how each layer bears int8, too: two minutes at the most.")
    ] = False,
    metric: Annotated[str, typer.Option(help="Of quality, to tell that in besides.")] = "",
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Take a model apart: what it is made of, where the time of a call goes, and what would help."""

    def work() -> int:
        from shutil import get_terminal_size

        from .insight import WIDTH, summarize
        from .profiling import profile as measure
        from .terminal import telling

        with aside(), telling("measuring") as tell:
            found = measure(
                model, data, label=label, target=target_of(threads, batch), seed=seed or 0, trust_pickle=trust_pickle,
                weights=weights, sensitivity=sensitivity, metric=metric, tell=tell,
            )  # fmt: skip
        print_json(found) if as_json else say(summarize(found, get_terminal_size((WIDTH, 24)).columns))
        return Exit.MET

    finish(work, debug)


@app.command()
def compare(
    original: Annotated[str, typer.Argument(help="A model.")],
    candidate: Annotated[str, typer.Argument(help="Another model, or a bundle.")],
    data: Annotated[str, typer.Option(help="Samples to judge by.")],
    limit: Annotated[list[str] | None, typer.Option(help="A limit to judge.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric to report, by name or module:function.")] = None,
    label: Label = None,
    slice: Slice = None,
    group: Group = None,
    protected: Protected = None,
    threads: Threads = None,
    batch: Batch = None,
    rate: Rate = None,
    p99: P99 = None,
    price: Price = None,
    seed: Seed = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Measure two models side by side, on the same samples and the same cores."""

    def work() -> int:
        from .comparison import compare as measure

        with aside():
            found = measure(
            original, candidate, data, Goal.of(limit or ()), metric=metric or [], label=label, slices=slice or (),
            group=group, protected=protected or (), target=target_of(threads, batch, (), rate, p99, price),
            seed=seed or 0, trust_pickle=trust_pickle, weights=weights,
        )  # fmt: skip
        return _show_comparison(found, as_json)

    finish(work, debug)


@app.command()
def explain(
    original: Annotated[str, typer.Argument(help="A model.")],
    candidate: Annotated[str, typer.Argument(help="What was made of it: a model, or a bundle.")],
    data: Annotated[str, typer.Option(help="Samples to run.")],
    metric: Annotated[
        str | None, typer.Option(help="agreement: the greatest output is a prediction, though no label says so.")
    ] = None,
    label: Label = None,
    threads: Threads = None,
    batch: Batch = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Say where the error of a candidate comes from: which layers, which samples, and what stayed as it was."""

    def work() -> int:
        from shutil import get_terminal_size

        from .explanation import explain as look
        from .insight.printed import WIDEST, printed
        from .terminal import telling

        with aside(), telling("looking into both models") as tell:
            found = look(
                original, candidate, data, metric=metric, label=label, target=target_of(threads, batch),
                trust_pickle=trust_pickle, weights=weights, tell=tell,
            )  # fmt: skip
        print_json(found) if as_json else say(printed(found, get_terminal_size((WIDEST, 24)).columns))
        return Exit.MET

    finish(work, debug)


@app.command()
def benchmark(
    model: Annotated[str, typer.Argument(help="A model or a bundle.")],
    other: Annotated[str | None, typer.Argument(help="Another one, measured in turn with it.")] = None,
    data: Annotated[str | None, typer.Option(help="Inputs to run; random ones by default.")] = None,
    label: Label = None,
    threads: Threads = None,
    batch: Batch = None,
    rate: Rate = None,
    p99: P99 = None,
    price: Price = None,
    seed: Seed = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Measure latency, throughput, size, memory and energy of one model, or of two side by side."""

    def work() -> int:
        from .comparison import benchmark as measure

        with aside():
            found = measure(
                model, other, data, label=label, target=target_of(threads, batch, (), rate, p99, price), seed=seed or 0,
                trust_pickle=trust_pickle, weights=weights,
            )  # fmt: skip
        return _show_comparison(found, as_json)

    finish(work, debug)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    original: Annotated[str | None, typer.Option(help="The original, for limits against it.")] = None,
    data: Annotated[str | None, typer.Option(help="Samples, for limits on quality.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric of your own that a limit speaks of.")] = None,
    label: Label = None,
    slice: Slice = None,
    group: Group = None,
    seed: Seed = None,
    junit: Annotated[
        Path | None,
        typer.Option(help="Write the findings there as JUnit XML too; open ones (exit code 4) count as skipped."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the findings there as a Markdown table too.")] = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Measure a bundle again on this machine: outputs against the stored ones, then its limits."""

    def work() -> int:
        from . import junit as in_xml
        from . import markdown as in_markdown
        from . import summary
        from .bundle import Bundle
        from .terminal import console, show_verified
        from .verification import verify as check

        records = [(path, kind) for path, kind in ((junit, in_xml), (markdown, in_markdown)) if path]
        for path, kind in records:
            summary.check(kind.FLAG, path)
        try:
            opened = Bundle.load(bundle)
            with aside():
                found = check(
                    opened, original, data, metric=metric or (), label=label, slices=slice or (), group=group,
                    seed=seed or 0, trust_pickle=trust_pickle, weights=weights,
                )  # fmt: skip
        except StropError as error:
            for path, kind in records:
                kind.write(path, bundle.name, error)
            raise
        for path, kind in records:
            kind.write(path, bundle.name, found)
        if as_json:
            again = {"verdict": found["verdict"], "reason": "measured again: see `verified`", "verified": found}
            print_json({**opened.manifest, **again})
        show_verified(console(), found)
        return CODES[found["verdict"]]

    finish(work, debug)


@app.command()
def report(
    place: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="A bundle's folder, or a run directory.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; report.html in there by default.")] = None,
    original: Annotated[
        str | None, typer.Option(help="The model that a bundle was made of: time and error of each layer are told too.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Samples to do that with.")] = None,
    label: Label = None,
    weights: Weights = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Write the page of a bundle, or of a run that has ended or was interrupted, anew."""

    def work() -> int:
        from .reporting import report as write

        with aside():
            file = write(
                place, out, original=original, data=data, label=label, weights=weights, trust_pickle=trust_pickle
            )
        print_json({"file": str(file)}) if as_json else say(str(file))
        return Exit.MET

    finish(work, debug)


app.command()(tune)
app.command()(init)
app.command()(watch)
app.command()(serve)


app.command()(techniques)
app.command()(doctor)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the bundle goes.")] = Path("demo"),
    budget: str = "70s",
    threads: Threads = 1,
    seed: Seed = None,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """Run the main job on the model and images that come with the source: a Fashion-MNIST classifier."""

    def work() -> int:
        if not (DEMO / "model.onnx").exists():
            raise InvalidPlan(f"the demo needs {DEMO}/model.onnx, and it is not here. Run it in a checkout of strop.")
        from .bundle import next_free

        plan = Plan(
            model=str(DEMO / "model.onnx"), data=str(DEMO / "test.npz"), limit=DEMO_GOAL, threads=threads,
            budget=seconds(budget), seed=seed, out=next_free(out),
        )  # fmt: skip
        return _run(plan, as_json)

    finish(work, debug)


def _plan(flags: dict[str, Any]) -> Plan:
    if file := planfile.named(flags["model"]):
        return planfile.read(file, Plan).under({**flags, "model": None})
    if flags["data"] is None:
        if not is_call(flags["model"]):
            present(flags["model"], "A model")
        raise InvalidPlan(
            "samples to judge by are needed. Give them with --data FILE (.npz, .npy, .parquet, .csv, module:function)."
        )
    return Plan(model=flags["model"], data=flags["data"]).under(flags)


def _run(plan: Plan, as_json: bool) -> int:
    from .pipeline import optimize as search
    from .terminal import Reporter, console
    from .tracking import check

    check(plan.mlflow)
    goal = Goal.of(plan.limit, plan.minimize, plan.maximize)
    budget = Budget(Budget().seconds if plan.budget is None else plan.budget, plan.trials)
    screen = console()
    with aside(), Reporter(screen, budget.seconds) as reporter:
        result = search(
            plan.model, plan.data, goal, weights=plan.weights, metric=plan.metric, label=plan.label, slices=plan.slice,
            group=plan.group, protected=plan.protected, calibration=plan.calibration, confirm_data=plan.confirm,
            train=plan.train, training=plan.training, preprocessing=plan.preprocessing, settings=plan.set,
            target=target_of(plan.threads, plan.batch, plan.formats, plan.rate, plan.p99, plan.price, plan.target),
            budget=budget,
            seed=plan.seed or 0, run=plan.run, recipe=plan.recipe, out=plan.out, trust_pickle=plan.trust_pickle,
            listener=reporter,
        )  # fmt: skip
    return _hand_over(result, None, screen, as_json, plan.mlflow)


def _resume(run: Path, flags: dict[str, Any], as_json: bool) -> int:
    from .bundle import check_free
    from .pipeline import resume as go_on
    from .terminal import Reporter, console
    from .tracking import check

    given = sorted(key for key, value in flags.items() if value and key not in ("out", "budget", "trials", "mlflow"))
    if given:
        raise InvalidPlan(f"--resume goes on with what the run was started with; leave out {', '.join(given)}.")
    check(flags["mlflow"])
    if flags["out"]:
        check_free(flags["out"])
    screen = console()
    with contextlib.closing(RunDir.existing(run)) as held:
        budget = read_json(held / PLAN, Request.of).budget
    more = {"seconds": flags.get("budget"), "trials": flags["trials"]}
    budget = replace(budget, **{name: value for name, value in more.items() if value})
    with aside(), Reporter(screen, budget.seconds) as reporter:
        result = go_on(run, budget=budget, listener=reporter)
    return _hand_over(result, flags["out"], screen, as_json, bool(flags["mlflow"]))


def _hand_over(result: Any, out: Path | None, screen: Any, as_json: bool, mlflow: bool) -> int:
    from .terminal import show_notes, show_result

    place = None
    if result.handed_over:
        bundle = result.save(out)
        place = str(bundle.folder)
    show_result(screen, result, place, out)
    if mlflow:
        from . import tracking
        from .trial import plain

        def log() -> str:
            root = result.setting.root
            if place:
                return tracking.log(bundle, root / PLAN)
            return tracking.log_run(root, [plain(*tried) for tried in result.tried])

        with aside():
            show_notes(screen, [tracking.logged(log)])
    if as_json:
        print_json(bundle.manifest if place else result.manifest)
    return CODES[result.verdict]


def _show_comparison(found: dict[str, Any], as_json: bool) -> int:
    from .terminal import console, show_comparison

    print_json(found) if as_json else show_comparison(console(), found)
    verdicts = {limit["verdict"] for limit in found["limits"]}
    return next((CODES[v] for v in ("broken", "inconclusive") if v in verdicts), Exit.MET)


def main() -> None:
    """Entry point of the `strop` command."""
    app()
