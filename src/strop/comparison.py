"""Compare: two given models, or a bundle, measured as a search measures its candidates."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import jobs, metrics
from .baseline import ALWAYS
from .bench import CONFIRMING, Bench
from .bundle import Bundle, run_samples
from .data import Data, match, read
from .errors import InvalidData
from .goal import Goal
from .judge import Judged, Report, judge
from .model import Model, Signature
from .prepare import check_target, open_model, reference_runtime
from .runtime import Runtime
from .server import Hosted
from .target import Target

COSTS = ("latency.p50", "latency.p95", "latency.p99", "latency.mean", "throughput", "size", "memory")
TIME = 3600.0  # seconds that comparing two models may take
CLOSE = 1e-3  # of the largest value: outputs that differ by more are other numerics

Array = np.ndarray[Any, Any]


def compare(
    original: object,
    candidate: object,
    data: object,
    goal: Goal | str | None = None,
    *,
    metric: Sequence[str] = (),
    label: str | None = None,
    slices: Sequence[str] = (),
    group: str | None = None,
    protected: Sequence[str] = (),
    target: Target | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a candidate against an original on the same samples.

    Args:
        original: A file, a folder or a live model; likewise `candidate`, which may also be a bundle's folder.
        data: As for `optimize`.
        goal: Limits to judge, if any.
        metric: Quality metrics; by default the one that fits the data.

    Returns:
        Plain data: `original`, `candidate` (metrics each), `ratios`, `slices`, `worst_drops`, `churn`, `fairness` and
        `limits`.

    Raises:
        StropError: A model or the data can't be used; the message says why.
    """
    target = target or Target()
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        first, second = _host(original, folder / "original", target), _host(candidate, folder / "candidate", target)
        check_target(target, first.model)
        names = [tensor.name for tensor in first.model.signature.inputs]
        given = read(data, names, label=label, slices=slices, group=group, protected=protected, storage=folder)
        fitted, signature = match(given, first.model.signature)
        fitted.save(folder / "data")
        first, second = _with(first, signature), _with(second, _same(signature, second.model.signature))
        outputs = run_samples(first, folder / "data", folder / "outputs.npz")
        parsed = Goal.parse(goal) if isinstance(goal, str) else goal or Goal(())
        parsed.check(metrics.better(), metrics.units())
        labels = Data.load(folder / "data").label_array()
        quality = list(metric) or [metrics.default_quality(outputs, labels)]
        for name in quality:
            metrics.find(name).check(outputs, labels)
        return _measured(first, second, folder, parsed, (*quality, *COSTS), seed)


def benchmark(
    model: object, other: object = None, data: object = None, *, target: Target | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure what one model costs, or two side by side; without data, on random inputs.

    Returns:
        As `compare`; for one model, it is measured against itself, so the ratios are the noise floor.
    """
    target = target or Target()
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        first = _host(model, folder / "original", target)
        second = first if other is None else _host(other, folder / "candidate", target)
        check_target(target, first.model)
        names = [tensor.name for tensor in first.model.signature.inputs]
        given = (
            _random(first.model.signature, target.batch, seed) if data is None else read(data, names, storage=folder)
        )
        fitted, signature = match(given, first.model.signature)
        fitted.save(folder / "data")
        first, second = _with(first, signature), _with(second, _same(signature, second.model.signature))
        run_samples(first, folder / "data", folder / "outputs.npz")
        return _measured(first, second, folder, Goal(()), COSTS, seed)


def verify(
    bundle: Bundle,
    original: object = None,
    data: object = None,
    *,
    metric: Sequence[str] = (),
    label: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a bundle again, on this machine: its outputs against the stored ones, then its limits.

    Limits against the original, and those on quality, need the original and data. A metric of the user's own is run
    only where it is named here: a bundle must not choose what code runs.

    Args:
        metric: The user's own metrics, as `module:function`, that the bundle's limits speak of.

    Returns:
        `outputs` (the largest difference to the stored ones, relative, and whether the numerics are the same),
        `limits`, `verdict`: `met` where nothing differs and every limit is met, `broken` where one is not or the
        outputs differ, else `inconclusive`.
    """
    goal = bundle.goal
    known = [limit for limit in goal.limits if ":" not in limit.metric or limit.metric in metric]
    compared = original is not None and data is not None
    checked = known if compared else [x for x in known if not x.relative and not metrics.find(x.metric).quality]
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        stored, expected = bundle.samples()
        stored.save(folder / "samples")
        hosted = bundle.hosted()
        outputs = run_samples(hosted, folder / "samples", folder / "outputs.npz")
        difference = max(_difference(outputs[name], array) for name, array in expected.items())
        asked = replace(goal, limits=tuple(checked), objective="latency.p50", direction="minimize")
        if compared:
            found = compare(original, bundle.folder, data, asked, label=label, target=bundle.target, seed=seed)
            limits = found["limits"]
        else:
            with Bench(hosted, hosted, folder / "samples", folder / "outputs.npz", folder, CONFIRMING, seed) as bench:
                report = judge(bench, asked, ALWAYS, confidence=0.95, whole=True)
            limits = [_shown(j) for j in report.judged]
    limits += [{"limit": str(x), "verdict": "not checked"} for x in goal.limits if x not in checked]
    same = difference <= CLOSE
    broken = not same or any(x["verdict"] == "broken" for x in limits)
    return {
        "verdict": "broken" if broken else "met" if all(x["verdict"] == "met" for x in limits) else "inconclusive",
        "outputs": {"same": same, "difference": difference, "samples": len(stored), "tolerance": CLOSE},
        "limits": limits,
    }


def _measured(
    first: Hosted, second: Hosted, folder: Path, goal: Goal, also: Sequence[str], seed: int
) -> dict[str, Any]:
    ended = jobs.run(_judge_whole, first, second, folder, goal, tuple(also), seed, limits=jobs.Limits(TIME, 1 << 62))
    ended.raise_unless_done()
    report = ended.value or Report()
    return {
        "original": {"metrics": {n: _figure(f.original, f) for n, f in report.figures.items()}},
        "candidate": {"metrics": {n: _figure(f.candidate, f) for n, f in report.figures.items()}},
        "ratios": {n: asdict(f.ratio) for n, f in report.figures.items()},
        **report.details(),
        "limits": [_shown(j) for j in report.judged],
    }


def _judge_whole(first: Hosted, second: Hosted, folder: Path, goal: Goal, also: tuple[str, ...], seed: int) -> Report:
    with Bench(first, second, folder / "data", folder / "outputs.npz", folder, CONFIRMING, seed) as bench:
        return judge(bench, goal, also, confidence=0.95, whole=True)


def _host(source: object, folder: Path, target: Target) -> Hosted:
    if isinstance(source, (str, Path)) and (Path(source) / "manifest.json").exists():
        bundle = Bundle.load(source)
        return bundle.hosted(target)
    model = open_model(source, folder)
    runtime: Runtime = reference_runtime(model.format)
    return Hosted(model, runtime, target)


def _with(hosted: Hosted, signature: Signature) -> Hosted:
    model: Model = replace(hosted.model, signature=signature)
    return replace(hosted, model=model)


def _same(signature: Signature, other: Signature) -> Signature:
    if signature.names() != other.names():
        raise InvalidData(
            f"both models must have the same inputs and outputs. The original has {_spelled(signature)}; the other has "
            f"{_spelled(other)}."
        )
    return signature


def _spelled(signature: Signature) -> str:
    return f"{', '.join(map(str, signature.inputs))} -> {', '.join(map(str, signature.outputs))}"


def _random(signature: Signature, batch: int, seed: int) -> Data:
    random = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for tensor in signature.inputs:
        free = [d for d in tensor.shape[1:] if not isinstance(d, int)]
        if free:
            raise InvalidData(f"input {tensor} has free sizes, so strop can't make up inputs. Give some with --data.")
        shape = (max(16, 4 * batch), *(int(d or 1) for d in tensor.shape[1:]))
        if np.issubdtype(np.dtype(tensor.dtype), np.floating):
            arrays[tensor.name] = random.standard_normal(shape).astype(tensor.dtype)
        else:
            arrays[tensor.name] = random.integers(0, 2, shape).astype(tensor.dtype)
    return Data(arrays)


def _difference(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(found != expected))
    scale = float(np.max(np.abs(expected), initial=0.0)) or 1.0
    both = np.isnan(found) & np.isnan(expected)
    difference = np.where(both, 0.0, np.abs(found - expected))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)) / scale


def _figure(interval: Any, figure: Any) -> dict[str, Any]:
    return {**asdict(interval), "unit": figure.unit, "n": figure.n}


def _shown(judged: Judged) -> dict[str, Any]:
    return {key: value for key, value in asdict(judged).items() if key != "violation"}
