"""Anatomy: what is handed over, layer by layer, beside the original, for its report; in the time that is left, or a
little more."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from . import jobs
from .clock import LEAST_TO_TELL
from .data import Data
from .explanation import explained, spared, within
from .insight import mixers, peaks, sensitivity
from .plan import Candidate
from .profiling import measured, timed
from .report.why import EXPLAINED, SENSITIVITY
from .server import Hosted

SHARE = 0.25  # of what the search took
EXPLAINING = 0.8  # of what is left then, where that is more
BEARING = 0.8  # of what is left then, how layers bear int8 is measured in: a process must begin
TO_MEASURE_PEAKS = 20.0  # seconds, where this machine's are not known yet
SAMPLES = 256
EXPLAIN, PROFILE = "strop report with --original and --data", "strop profile"


def take_apart(original: Hosted, made: Hosted, candidate: Candidate, data: Path, seconds: float) -> dict[str, Any]:
    """Tell of each layer its error, its time before and after, and what binds it.

    Args:
        original: The model as given.
        made: What is handed over.
        candidate: The steps that made it.
        data: Folder of the samples of the search.
        seconds: That it may take.

    Returns:
        Plain data: `explained`, as `strop.explain` tells it; `profile`, as `strop.profile` does, without advice, and
        with the original's names of layers where `explained` knows them;
        `sensitivity`, how the original's layers bear int8, of a format whose precisions can be mixed. Each is None
        where it could not be told, and `why_not` says why. Of a mix of precisions also `mix`, its groups.
    """
    until, why_not = time.monotonic() + seconds, []

    def attempt(what: str, tell: Callable[[], dict[str, Any]], how: str, end: float = until) -> dict[str, Any] | None:
        why, begun = f"{what}: the budget left too little time for it; {how} tells", time.monotonic()
        if until - begun >= LEAST_TO_TELL:
            try:
                return tell()
            except (Exception, KeyboardInterrupt) as error:  # whatever it is, the search has its result
                why = f"{what}: it would have taken longer than the {end - begun:.0f} s that were left; {how} tells"
                if time.monotonic() < end:
                    why = f"{what} could not be told: {str(error).strip() or type(error).__name__}"
        why_not.append(why)
        return None

    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        profile = attempt("where the time of a call goes", lambda: _profile(made, data, folder, until), PROFILE)
        left = until - time.monotonic()
        explaining = until - left + max(LEAST_TO_TELL, EXPLAINING * left)
        origin = attempt(
            EXPLAINED, lambda: _explained(original, made, candidate, data, folder, explaining), EXPLAIN, explaining
        )
        if profile and origin:
            _name(profile["layers"], origin["layers"])
        told: dict[str, Any] = {"explained": origin, "profile": profile, "sensitivity": None}
        if mixers(original.model.format):
            told["sensitivity"] = attempt(
                "how each layer bears int8", lambda: _borne(original, data, folder, until), SENSITIVITY
            )
        mix = {"mix": [asdict(group) for group in made.model.groups]} if made.model.groups else {}
        return {**told, **mix, "why_not": why_not}


def _explained(
    original: Hosted, made: Hosted, candidate: Candidate, data: Path, scratch: Path, until: float
) -> dict[str, Any]:
    reasons = spared(candidate.steps, made.model)
    return explained(original, made, _few(data, scratch), scratch, reasons=reasons, until=until)


def _few(data: Path, scratch: Path) -> Path:
    """As many samples as there is time for."""
    few = scratch / "data"
    if not few.exists():
        samples = Data.load(data)
        samples.take(np.arange(min(len(samples), SAMPLES))).save(few)
    return few


def _profile(made: Hosted, data: Path, scratch: Path, until: float) -> dict[str, Any]:
    known = peaks(made.runtime.label(), made.target, anew=until - time.monotonic() > TO_MEASURE_PEAKS)
    found = measured(made, Data.load(data), data, known, scratch / "beside", until=until)
    return timed(made, found, known)


def _name(profiled: Iterable[dict[str, Any]], told: Iterable[Mapping[str, Any]]) -> None:
    """Name what was profiled as the original's layers are named: of several in one, as that with the most weights."""
    homes = {one["counterpart"]: one for one in told}
    for layer in profiled:
        if found := [homes[name] for name in layer["layers"] if name in homes]:
            layer["name"] = max(found, key=lambda one: one["bytes"]["candidate"])["name"]


def _borne(original: Hosted, data: Path, scratch: Path, until: float) -> dict[str, Any]:
    seconds = BEARING * (until - time.monotonic())
    model, target, progress = original.model, original.target, scratch / "progress.json"
    asked = (model, _few(data, scratch), "", target, 0, progress, seconds, scratch)
    ended = jobs.run(sensitivity, *asked, limits=within(until))
    ended.raise_unless_done("int8 could not be tried layer by layer")
    assert ended.value is not None
    return asdict(ended.value)
