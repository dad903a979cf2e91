"""Verification: a bundle measured again on this machine. Its outputs against the stored ones, then its limits."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import drift, jobs, metrics
from ._plain import restore, texts
from .advice import would_decide
from .bench import Bench
from .bundle import Bundle, run_samples
from .comparison import TIME, fit, host
from .data import Data, split
from .decision import Decision
from .drift import Drift
from .errors import BundleError, InvalidData, InvalidPlan
from .goal import Goal, Limit
from .judge import Report, judge
from .opened import Environment
from .outputs import store_outputs
from .prepare import check_seed, environment, unseen_digest
from .reading import read_for
from .server import Hosted
from .spelling import option
from .stats import Interval
from .target import Target, usable_cores
from .timing import CONFIRMING, Effort
from .units import counted, share, spread, stored


def verify(
    bundle: Bundle,
    original: object = None,
    data: object = None,
    *,
    metric: Sequence[str] = (),
    label: str | None = None,
    slices: Sequence[str] = (),
    group: str | None = None,
    seed: int = 0,
    trust_pickle: bool = False,
    weights: str | Path | None = None,
) -> dict[str, Any]:
    """Measure a bundle again, on this machine: its outputs against the stored ones, then its limits.

    A limit on quality needs data, one against the original needs the original. A metric of the user's own is run only
    where it is named here: a bundle must not choose what code runs.

    Args:
        bundle: What is verified, with the runtime options that it records, and its threads where there are as many.
        original: The model that it was made of.
        data: Samples to judge by, as for `optimize`; costs are measured on the stored ones where there are none.
        metric: The user's own metrics, as `module:function`, that the bundle's limits speak of.
        label: Name of the labels in `data`; `slices` and `group` likewise.
        trust_pickle: Whether the original may be a pickle, which runs the code in it.
        weights: A file of weights for the original, where that is a PyTorch module, as for `optimize`.

    Returns:
        Plain data. `outputs`: how far they are from the stored ones (`same`, `close` or `different`) and, where they
        are not the same, `causes`. `limits`: as judged here; one that is `not checked` says what it `needs`, or `why`
        this machine can't tell. `objective`: its ratio to the original here and in the `bundle`, or `why` it was not
        compared. `judged_on`: which of the samples given the limits were judged on.
        `environment`: this machine, and the `differences` to the one where the bundle was made. `verdict`: `broken`
        where the outputs are different or a limit is broken; `met` where every limit is met, and the outputs are the
        same, or close and quality was judged anew; else `inconclusive`. `seconds` that each part took, without those
        that it waited for others who measure here.

    Raises:
        StropError: The bundle, the original or the data can't be used; the message says why.
    """
    if not isinstance(bundle, Bundle):
        raise BundleError(f"verify takes an opened bundle, not {bundle!r}. Write strop.Bundle.load(FOLDER).")
    check_seed(seed)
    slices, metric = texts(slices, "slices"), texts(metric, "metric")
    if weights is not None and original is None:
        raise InvalidPlan(
            f"weights are those of the original, and none is given. Give it: {option('original', 'MODEL')}."
        )
    start = time.monotonic()
    here = restore(Environment, environment())
    candidate = bundle.hosted(replace(bundle.target, threads=min(bundle.target.threads, len(usable_cores()))))
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        found = _outputs(bundle, candidate, folder, seed)
        compared = time.monotonic()
        needs = {limit: _needs(limit, original, data, metric, slices) for limit in bundle.goal.limits}
        lacks = {limit: _lacks(limit, bundle.target) for limit in bundle.goal.limits}
        checked = tuple(limit for limit in bundle.goal.limits if not needs[limit] and not lacks[limit])
        limits: list[dict[str, Any]] = []
        judged_on, objective, waited = "", None, 0.0
        compares = Limit(bundle.goal.objective, "<=", 1.0, relative=True)  # to know what comparing it takes
        lacking = " and ".join(_needs(compares, original, data, metric, slices))
        why = _lacks(compares, bundle.target) or (lacking and f"give {lacking}")
        compared_by = None if why else bundle.goal
        if checked or compared_by:
            first = candidate
            if original is not None:
                first = host(
                    original, folder / "original", candidate.target, trust_pickle, weights, bundle.preprocessing
                )
            given = (
                enough_for_a_call(Data.load(folder / "samples"), candidate.target)
                if data is None
                else read_for(
                    candidate.model.signature,
                    data,
                    preprocessing=bundle.preprocessing,
                    label=label,
                    slices=tuple(slices),
                    group=group,
                    storage=folder,
                )
            )
            first, second = fit(given, first, candidate, folder / "data")
            judged_on = "" if data is None else _keep_unseen(folder / "data", bundle)
            limits, objective, waited = _limits(first, second, checked, compared_by, folder, seed)
    limits += [
        {"limit": str(limit), "verdict": "not checked", "needs": needs[limit], "why": lacks[limit]}
        for limit in bundle.goal.limits if limit not in checked
    ]  # fmt: skip
    limits.sort(key=lambda found: [str(limit) for limit in bundle.goal.limits].index(found["limit"]))
    requalified = any(metrics.find(limit.metric).quality for limit in checked)
    differences = drift.differences(bundle.environment, here)
    return {
        "verdict": _verdict(found, {limit["verdict"] for limit in limits}, requalified),
        "outputs": {
            "verdict": found.verdict,
            "said": str(found),
            **asdict(found),
            "tolerance": drift.SAME,
            "causes": [] if found.verdict == "same" else drift.causes(bundle.environment, here, bundle.runtime.module),
        },
        "limits": limits,
        "objective": {
            "metric": bundle.goal.objective,
            "ratio": objective,
            "bundle": bundle.content["ratios"].get(bundle.goal.objective),
            "why": why,
        },
        "judged_on": judged_on,
        "environment": {"here": here.flat(), "differences": differences},
        "seconds": {"outputs": compared - start, "limits": time.monotonic() - compared - waited},
    }


def _outputs(bundle: Bundle, hosted: Hosted, folder: Path, seed: int) -> Drift:
    samples, stored = bundle.samples()
    samples.save(folder / "samples")
    store_outputs(folder / "stored.npz", stored)
    known = {metric.name: metric for metric in metrics.METRICS}
    judged = [limit.metric for limit in bundle.goal.limits]
    classes = any(known[name].of_classes for name in judged if name in known)
    with Bench(hosted, hosted, folder / "samples", folder / "stored.npz", folder, CONFIRMING, seed) as bench:
        return drift.measure(bench, classes)


def _lacks(limit: Limit, target: Target) -> str:
    """Why a limit can't be checked on this machine, whatever is given; empty where it can."""
    return "" if ":" in limit.metric else metrics.unmeasurable(limit.metric, target)


def _needs(limit: Limit, original: object, data: object, metric: Sequence[str], slices: Sequence[str]) -> list[str]:
    """The options without which a limit can't be checked."""
    own = ":" in limit.metric
    named = not own or limit.metric in metric
    quality = own or metrics.find(limit.metric).quality
    alone = own or not quality or metrics.find(limit.metric).needs_labels  # it says something without the original
    against = limit.relative or limit.scope == "drop" or not alone
    wanted = {
        option("original", "MODEL"): against and original is None,
        option("data", "DATA"): quality and data is None,
        option("metric", limit.metric): not named,
        option("slice", "NAME"): limit.scope == "worst_slice" and not slices,
    }
    return [asked for asked, lacking in wanted.items() if lacking]


def enough_for_a_call(samples: Data, target: Target) -> Data:
    """The stored samples, from the first on again where a bundle holds fewer than a call carries."""
    return samples.take(np.resize(np.arange(len(samples)), max(len(samples), target.batch)))


def _keep_unseen(folder: Path, bundle: Bundle) -> str:
    """Of the data that the search had, keep the samples that nothing but the confirmation saw; says what was kept."""
    whole, told = Data.load(folder), bundle.manifest["hashes"]["confirm"]
    with contextlib.suppress(InvalidData):  # too few to be split: not what a search had
        confirm = split(whole, bundle.manifest["seed"]).confirm
        if unseen_digest(confirm) == told:
            confirm.save(folder)
            return f"the {len(confirm):,} confirm samples of the search, of the {len(whole):,} given"
    if unseen_digest(whole) == told:
        return f"all {len(whole):,} samples given, which are the confirm data of the search"
    return (
        f"all {counted(len(whole), 'sample')} given, which are not recognized as the data of the search (where they "
        f"are, give {option('label')} and {option('group')} as then: the limits are judged on its confirm samples only)"
    )


def _limits(
    original: Hosted, candidate: Hosted, limits: tuple[Limit, ...], compared_by: Goal | None, folder: Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any] | None, float]:
    """What is found of the limits; the ratio of the objective of `compared_by`, where one is given; and for how many
    seconds others were waited for who measure here."""
    kinds = {str(limit): metrics.find(limit.metric) for limit in limits}
    if compared_by:
        goal = replace(compared_by, limits=limits)
    else:
        objective = kinds[str(limits[0])]  # of a limit, so that nothing is measured but what the limits speak of
        goal = Goal(limits, objective.name, "minimize" if objective.better == "lower" else "maximize")
    goal.check(metrics.better(), metrics.units())
    if judges := [metric for metric in map(metrics.find, goal.metrics) if metric.quality]:
        outputs = run_samples(original, folder / "data", folder / "outputs.npz")
        labels = Data.load(folder / "data").label_array()
        for metric in judges:
            metric.check(outputs, labels)
    ended = jobs.run(_judge, original, candidate, folder, goal, CONFIRMING, seed, limits=jobs.Limits(TIME, 1 << 62))
    ended.raise_unless_done()
    report = ended.value or Report()
    ratios = {str(limit): asdict(report.figures[kinds[str(limit)].name].ratio) for limit in limits if limit.relative}
    found = report.figures.get(metrics.find(goal.objective).name) if compared_by else None
    judged = [{**j.to_json(), "unit": kinds[j.limit].unit, "ratio": ratios.get(j.limit)} for j in report.judged]
    return judged, asdict(found.ratio) if found else None, ended.waited


def _judge(original: Hosted, candidate: Hosted, folder: Path, goal: Goal, effort: Effort, seed: int) -> Report:
    decision = Decision(goal, width=effort.width)
    data, outputs = folder / "data", folder / "outputs.npz"
    with Bench(original, candidate, data, outputs, folder, effort, seed, decision) as bench:
        return judge(bench, goal, confidence=0.95, whole=True)


def _verdict(outputs: Drift, limits: set[str], requalified: bool) -> str:
    if outputs.verdict == "different" or "broken" in limits:
        return "broken"
    told = outputs.verdict == "same" or requalified
    return "met" if told and limits <= {"met"} else "inconclusive"


def compared(objective: Mapping[str, Any]) -> str:
    """What was found of the objective, as `verify` gives it, against the original; a sentence."""
    if not objective["ratio"]:
        return f"{objective['metric']} was not compared with the original's: {objective['why']}"
    then = objective["bundle"]
    before = f"; it was {share(stored(then))} where the bundle was made" if then else ""
    return f"{objective['metric']} is {share(Interval(**objective['ratio']))} of the original's here{before}"


def explain(limit: Mapping[str, Any]) -> str:
    """What was found of a limit, as `verify` gives it, and the next step where it is not met; a sentence."""
    if limit["verdict"] == "not checked":
        return f"not checked: {limit.get('why') or 'give ' + ' and '.join(limit['needs'])}"
    said = f"{limit['verdict']}: {spread(Interval(limit['value'], limit['low'], limit['high']), limit['unit'])}"
    if limit["ratio"]:
        said += f", {share(Interval(**limit['ratio']))} of the original's"
    if limit["slice"]:
        said += f", in {limit['slice']}"
    if limit["verdict"] == "broken":
        said += ". Search again on this machine, or loosen the limit"
    elif limit["verdict"] == "inconclusive":
        said += f"; {limit['why'] or would_decide(limit['limit'], limit['needed'])}"
    return said
