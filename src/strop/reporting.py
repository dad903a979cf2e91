"""Reporting: the page of a bundle or a run, written anew."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from . import report as pages
from .baseline import BASELINE
from .bundle import Bundle
from .diary import Reader
from .errors import BundleError, InvalidPlan
from .events import Planned
from .explanation import explain
from .journal import finished
from .opened import ANATOMY, MANIFEST, REPORT
from .prepare import Request
from .rundir import DIARY, JOURNAL, PLAN, RunDir, as_written, atomic, read_json
from .trial import plain
from .tune import FOUND, is_tuning, so_far


def report(
    place: str | Path, out: str | Path | None = None, *, original: object = None, data: object = None, **how: Any
) -> Path:
    """Write the page of a bundle, or of a run that has ended or was interrupted.

    Args:
        place: The bundle's folder, or the run directory.
        out: The file to write; by default `report.html` in there.
        original: Of a bundle: the model that it was made of, to tell time and error of each layer by.
        data: Samples to do that with.
        how: Further arguments of `explain`.

    Returns:
        The file.

    Raises:
        BundleError: It is neither, or not what strop wrote.
        RunFailed: The run is going on, or was altered.
    """
    place = Path(place)
    if (original is None) != (data is None):
        raise InvalidPlan("layers are told by the original and samples together. Give both, --original and --data.")
    if (place / PLAN).exists():
        if original is not None:
            raise InvalidPlan(f"layers are told of a bundle, and {place} is a run. Name the bundle that it wrote.")
        html = _of_run(place)
    elif (place / MANIFEST).exists():
        bundle = Bundle.load(place)
        html = bundle.report(None if original is None else explain(original, place, data, **how))
    else:
        raise BundleError(
            f"a report is of a bundle ({MANIFEST}) or a run ({PLAN}), and {place} has neither. Name a folder that "
            "strop wrote."
        )
    file = place / REPORT if out is None else Path(out)
    with atomic(file) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return file


def _of_run(place: Path) -> str:
    run = RunDir.existing(place)
    try:
        return _of_tuning(run, place) if is_tuning(run) else _of_search(run, place)
    finally:
        run.close()


def _of_tuning(run: RunDir, place: Path) -> str:
    if (run / FOUND).exists():
        return read_json(run / FOUND, lambda kept: pages.tuning_page(kept["found"], kept["figures"]))
    goal, trials = so_far(run)
    with as_written(run / JOURNAL):
        return pages.unfinished_tuning(goal, f"strop tune --resume {shlex.quote(str(place))}", trials)


def _of_search(run: RunDir, place: Path) -> str:
    with as_written(run / JOURNAL):
        tried = [plain(candidate, outcome) for candidate, outcome in finished(run / JOURNAL)]
    if (run / MANIFEST).exists():
        anatomy = read_json(run / ANATOMY, dict) if (run / ANATOMY).exists() else {}
        return read_json(run / MANIFEST, lambda manifest: pages.page(manifest, tried, anatomy=anatomy))
    request = read_json(run / PLAN, Request.of)
    baseline = read_json(run / BASELINE, lambda kept: kept["report"]) if (run / BASELINE).exists() else None
    resume = f"strop optimize --resume {shlex.quote(str(place))}"
    with as_written(run / PLAN):
        return pages.unfinished(
            Path(request.source).name, request.goal, resume, baseline, tried, _left_out(run / DIARY)
        )


def _left_out(diary: Path) -> dict[str, str]:
    """Techniques and runtimes that are in no route, and why, as the search told last."""
    told = (entry.event for entry in reversed(Reader(diary).new())) if diary.exists() else ()
    return next((event.refused for event in told if isinstance(event, Planned)), {})
