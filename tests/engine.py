"""What the engine's tests share: reports and outcomes made by hand, so that no process need be started to have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from strop.bundle import Bundle
from strop.clock import End
from strop.confirm import Finding
from strop.judge import Figure, Judged, Report
from strop.model import Model, digest_files
from strop.plan import Candidate
from strop.prepare import Request, environment, reference
from strop.result import Result, Search, conclude
from strop.rundir import RunDir, finite
from strop.slices import Slice, SliceFigure
from strop.stats import Interval
from strop.target import Target
from strop.testing import FakeCompile, FakeRound, FakeRuntime, FakeStrip
from strop.trial import Outcome, Setting

EXHAUSTED = End("nothing is left that promises more")
ACCURACY, SIZE = "accuracy >= 99% of original", "size < 1 MB"

ROUNDED = Candidate((FakeRound(),), FakeRuntime())
STRIPPED = Candidate((FakeStrip(),), FakeRuntime())
COMPILED = Candidate((FakeStrip(), FakeCompile()), FakeRuntime())
ORIGINAL = Candidate((), FakeRuntime())


@dataclass(frozen=True)
class FakeRun:
    """A run directory that is laid out, what was asked for, and what its trials share."""

    run: RunDir
    request: Request
    setting: Setting


def figure(ratio: float, original: float = 1.0, unit: str = "", half: float = 0.01) -> Figure:
    """Figures of an original and of a candidate that is `ratio` times it, each give or take a share `half`."""

    def around(value: float) -> Interval:
        return Interval(value, value * (1 - half), value * (1 + half))

    return Figure(around(original), around(original * ratio), around(ratio), unit, 100)


def sliced(ratio: float, original: float = 0.9, n: int = 100, flagged: bool = False) -> Slice:
    """A slice on which the candidate's accuracy is `ratio` times the original's."""
    found = figure(ratio, original)
    lost = original * (ratio - 1)
    difference = Interval(lost, lost - 0.02, lost + 0.02)
    shown = SliceFigure(found.original, found.candidate, found.ratio, difference, "", n, flagged)
    return Slice(n, {"accuracy": shown})


def judged(limit: str, verdict: Any = "met", value: float = 1.0, violation: float | None = None, **more: Any) -> Judged:
    """What was found of a limit; a broken one is violated by a tenth."""
    if violation is None:
        violation = 0.1 if verdict == "broken" else 0.0
    return Judged(limit, verdict, value, value * 0.99, value * 1.01, violation, **more)


def bounded(found: Judged, low: float, original: float = 0.9, least: float = 0.891) -> Judged:
    """The same with that lower bound, of an original and what is asked for."""
    allowed = abs(original - least)
    lost, most = (1 - (seen - least) / allowed for seen in (found.value, low))
    return replace(found, low=low, lost=lost, most=most)


def report(latency: float = 0.5, limits: Mapping[str, Any] | None = None, accuracy: float = 1.0) -> Report:
    """A report on a candidate of so many times the original's latency, 10 ms.

    Args:
        latency: Ratio of the medians.
        limits: Limit to verdict; by default both limits of `fake_run` are met.
        accuracy: Ratio of the accuracies.
    """
    figures = {
        "latency.p50": figure(latency, 0.010, "s"),
        "accuracy": figure(accuracy, 0.9),
        "size": figure(0.5, 6000.0, "bytes", half=0.0),
    }
    verdicts = {ACCURACY: "met", SIZE: "met"} if limits is None else limits
    return Report(figures, tuple(judged(limit, verdict) for limit, verdict in verdicts.items()))


def outcome(
    latency: float = 0.5, limits: Mapping[str, Any] | None = None, accuracy: float = 1.0, **more: Any
) -> Outcome:
    """A candidate that was measured."""
    return Outcome("done", report=report(latency, limits, accuracy), seconds=1.0, **more)


def finding(
    candidate: Candidate, model: Mapping[str, Any], report: Report, better: bool = True, problem: str = ""
) -> Finding:
    """What the confirm split said of a candidate."""
    return Finding(candidate, model, report, 0.95, better, problem)


def concluded(
    fake: FakeRun,
    findings: Sequence[Finding],
    original: Report | None = None,
    tried: Sequence[tuple[Candidate, Outcome]] | None = None,
    end: End = EXHAUSTED,
) -> Result:
    """The result of a run that came to these findings; the original keeps all limits unless told otherwise."""
    model = fake.setting.original.model.to_json(fake.run.root)
    baseline = Finding(ORIGINAL, model, original or report(1.0), 0.95, False)
    if tried is None:
        tried = [(found.candidate, outcome(0.5, model=found.model)) for found in findings]
    search = Search.of([ROUNDED, STRIPPED, COMPILED], tried, end)
    return conclude(
        fake.request,
        fake.setting,
        tried,
        findings,
        baseline,
        None,
        {"fake-fault": "has no fault to show"},
        search,
        12.0,
    )


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Hold a manifest, as it would be written, against the schema that is shipped."""
    schema = json.loads(resources.files("strop").joinpath("manifest.schema.json").read_text())
    written = json.loads(json.dumps(finite(manifest), allow_nan=False))
    jsonschema.Draft202012Validator(schema).validate(written)


def bundle_of(
    folder: Path, model: Model, inputs: Mapping[str, Any], outputs: Mapping[str, Any], *limits: str, **made: Any
) -> Bundle:
    """A bundle with these stored outputs, made on the machine that `made` tells of (else on this one)."""
    folder.mkdir(parents=True)
    moved = model.copy_to(folder)
    named = {f"input.{name}": array for name, array in inputs.items()}
    np.savez(folder / "samples.npz", **named, **{f"output.{name}": array for name, array in outputs.items()})
    runtime = reference(model.format)[1]
    described = {
        "format": model.format, "runtime": {"name": runtime.label(), "options": runtime.settings()},
        "signature": model.signature.to_json(), "counts": {}, "metrics": {},
    }  # fmt: skip
    names = [file.name for file in moved.files]
    hashes = {name: digest_files([folder / name]) for name in [*names, "samples.npz"]}
    manifest = {
        "schema": 1, "verdict": "met", "reason": "made by hand", "advice": [],
        "goal": {"limits": list(limits), "objective": "latency.p50", "direction": "minimize"},
        "target": vars(Target(threads=1)), "seed": 0, "original": {"source": "m", "called": None, **described},
        "winner": {"file": names[0], "files": names, "route": [], "confidence": 0.95, "ratios": {}, **described},
        "closest": None, "limits": [], "slices": {},
        "without": [],
        "noise": {"metric": "latency.p50", "value": 1.0, "low": 0.99, "high": 1.01},
        "search": {"ended": "it was made by hand", "bound": "", "routes": 1, "tried": 1, "refused": 0, "untried": 0},
        "splits": {"calibration": 1, "search": 1, "confirm": 1}, "candidates": 1, "seconds": 1.0,
        "environment": {**environment(), **made}, "not_tried": {}, "not_measurable": {}, "notes": [],
        "worst_drops": [], "churn": None, "fairness": {}, "confirmed": [],
        "hashes": {"original": "0" * 64, "calibration": "0" * 64, "confirm": "0" * 64, "files": hashes},
    }  # fmt: skip
    check_manifest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.load(folder)


WRONG = (None, [], {}, "x", -1, [None], {"x": "x"})


def mutations(plain: Any) -> Iterator[tuple[str, Any]]:
    """Every way to spoil plain data in one place: a part taken away, or of another kind. Of a list, its first entry.

    Yields:
        What was done, and the data that came of it.
    """
    if isinstance(plain, dict):
        for key, inner in plain.items():
            yield f"{key} is missing", {k: v for k, v in plain.items() if k != key}
            for what, spoiled in mutations(inner):
                yield f"{key}.{what}", {**plain, key: spoiled}
    elif isinstance(plain, list) and plain:
        for what, spoiled in mutations(plain[0]):
            yield f"0.{what}", [spoiled, *plain[1:]]
    for wrong in WRONG:
        if wrong != plain:
            yield f"is {wrong!r}", wrong
