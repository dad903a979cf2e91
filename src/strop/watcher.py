"""`strop watch`: a search of another process, as its own terminal shows it, from what lies in its run directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._lazy import installed
from .errors import MissingDependency, RunFailed
from .events import Trying, Working
from .options import Json
from .pipeline import RUNS
from .prepare import Budget, Request
from .rundir import ASKED, DIARY, JOURNAL, MANIFEST, PLAN, SAVED, read_json
from .shell import CODES, Exit, finish, print_json, say

if TYPE_CHECKING:
    from .diary import Entry
    from .terminal import Reporter

PORT = 8080
TICK = 0.5  # seconds between two looks
SAVING = 10.0  # seconds after the end of a search within which its bundle is waited for


def watch(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="The run directory of a search that works, or has ended; without it, the newest in ./strop-runs."
        ),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Show its trials in a browser instead, by optuna-dashboard.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of --web, on this machine only.")] = PORT,
    as_json: Json = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Follow a search from another terminal: the best so far, what is tried and why, the time left. Ctrl-C leaves."""

    def work() -> int:
        try:
            place = run or _newest()
            return _serve(place, port) if web else _follow(place, as_json)
        except KeyboardInterrupt:  # which leaves; the search goes on
            return Exit.MET

    finish(work, debug)


def _newest() -> Path:
    """The run here whose search told something last.

    Raises:
        RunFailed: There is none.
    """
    runs = sorted(Path(RUNS).glob(f"*/{DIARY}"), key=lambda diary: diary.stat().st_mtime)
    if not runs:
        raise RunFailed(
            f"without a run, the newest in ./{RUNS} is followed, and there is none. Name one, as strop optimize tells "
            "it in its first line, or begin one."
        )
    return runs[-1].parent


def _follow(run: Path, as_json: bool) -> int:
    """Tell all that was told so far, and what is told from now on, until the search ends."""
    from .diary import Reader
    from .terminal import Reporter, console, show_bundle, show_manifest
    from .tune import FOUND, is_tuning

    reader, screen = Reader(run / DIARY), console()
    tuning = is_tuning(run)
    last: dict[str, Entry] = {}
    with Reporter(screen, _seconds(run, tuning)) as reporter:
        while "ended" not in last:
            # asked first: what it wrote before it ended is read then
            alive = "begun" not in last or last["begun"].alive
            for entry in reader.new():
                last = _tell(entry, last, reporter)
            if "ended" not in last and not alive:
                how = f"strop {'tune' if tuning else 'optimize'} --resume {run}"
                raise RunFailed(f"the search in {run} was killed. Go on with it: {how}")
            if "trying" in last and (left := _by_now(last["trying"]).seconds_left) is not None:
                reporter.tick(left)
            time.sleep(0 if "ended" in last else TICK)
    if said := last["ended"].ended:
        raise RunFailed(f"the search in {run} ended early. {said}")
    if tuning:
        found, said = read_json(run / FOUND, lambda kept: (kept["found"], kept["said"]))
        print_json(found) if as_json else screen.print(said, markup=False, soft_wrap=True)
        return CODES[found["verdict"]]
    manifest = read_json(run / MANIFEST, dict)
    if as_json:
        print_json(manifest)
    else:
        show_manifest(screen, manifest)
        if bundle := _bundle(run, last, bool(manifest["winner"] or manifest["closest"])):
            show_bundle(screen, manifest, bundle)
    return CODES[manifest["verdict"]]


def _bundle(run: Path, last: Mapping[str, Entry], awaited: bool) -> str | None:
    """Where the bundle lies, if one was written: who searched does so after the diary has ended, or never."""
    file = run / SAVED
    while awaited and not file.exists() and time.time() - last["ended"].at < SAVING and last["begun"].alive:
        time.sleep(TICK)
    place = read_json(file, lambda kept: Path(kept["bundle"])) if file.exists() else None
    return str(place) if place and place.is_dir() else None


def _seconds(run: Path, tuning: bool) -> float:
    """The time that a search was given, as far as its run tells."""
    if not tuning:
        return read_json(run / PLAN, Request.of).budget.seconds
    asked = read_json(run / ASKED, dict) if (run / ASKED).exists() else {}
    return float(asked.get("budget") or Budget().seconds)


def _tell(entry: Entry, last: dict[str, Entry], reporter: Reporter) -> dict[str, Entry]:
    """Pass an entry on, and keep the last of its kind; a search that goes on has no end yet."""
    if entry.begun:
        reporter.start = time.monotonic() - (time.time() - entry.at)
        return {"begun": entry}
    if entry.event is None:
        return {**last, "ended": entry}
    if isinstance(entry.event, Trying):
        reporter(_by_now(entry))
        return {**last, "trying": entry}
    reporter(entry.event)
    return last if isinstance(entry.event, Working) else {name: kept for name, kept in last.items() if name != "trying"}


def _by_now(entry: Entry) -> Trying:
    """What was said to be tried, with the time that is left now."""
    assert isinstance(entry.event, Trying)
    left = entry.event.seconds_left
    return entry.event if left is None else replace(entry.event, seconds_left=max(0.0, left - (time.time() - entry.at)))


def _serve(run: Path, port: int) -> int:
    """Show the journal in a browser until Ctrl-C.

    Raises:
        MissingDependency: optuna-dashboard is not installed.
        RunFailed: There is no journal, or the port is taken.
    """
    if not installed("optuna_dashboard"):
        raise MissingDependency(
            "--web shows trials by optuna-dashboard, which is not installed. Install it with: pip install "
            "'strop[report]'"
        )
    if not (run / JOURNAL).is_file():
        raise RunFailed(f"{run} holds no trials yet (no {JOURNAL}). Name a run directory, or wait for the first trial.")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna_dashboard import run_server

    say(f"http://127.0.0.1:{port} shows the trials of {run}; Ctrl-C ends that")
    storage = JournalStorage(JournalFileBackend(str(run / JOURNAL)))
    failed: list[OSError] = []

    def serve() -> None:
        try:
            run_server(storage, "127.0.0.1", port)
        except OSError as error:
            failed.append(error)

    # In a thread: wsgiref takes a Ctrl-C that comes while it answers for an error of that answer, and goes on.
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise RunFailed(
            f"--web needs a port of this machine to listen on, and {port} can't be had ({failed[0].strerror}). Name "
            "another with --port."
        )
    return Exit.MET
