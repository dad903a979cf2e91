"""Advice: what would help where no candidate keeps the limits, each way with its figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from . import metrics
from .goal import Goal, Limit
from .judge import Judged, Report
from .plan import Candidate
from .trial import Outcome
from .units import quantity


def binding(goal: Goal, tried: Sequence[tuple[Candidate, Outcome]]) -> str:
    """Which limit stopped how many candidates, as a sentence."""
    counts = Counter(j.limit for _, o in tried if o.cause == "done" for j in o.report.broken)
    measured = sum(1 for _, o in tried if o.cause == "done")
    if not counts:
        return "no candidate could be measured"
    said = [f"{limit} stopped {count} of {measured}" for limit, count in counts.most_common()]
    return "; ".join(said)


def what_would_help(goal: Goal, closest: Report, original: Report) -> list[str]:
    """Ways out, most direct first: a looser limit, more samples, a stronger machine, training data."""
    advice = []
    for judged in closest.judged:
        if judged.verdict == "met":
            continue
        limit = next(limit for limit in goal.limits if str(limit) == judged.limit)
        if judged.verdict == "inconclusive" and judged.needed:
            advice.append(f"about {judged.needed:,} samples in the confirm split would decide {judged.limit}")
        advice.append(f"a looser limit: the closest candidate is proven to keep {_looser(limit, judged, closest)}")
    advice += [said for judged in original.judged if (said := _stronger_machine(goal, judged, original))]
    if any(_is_quality(judged.limit, goal) for judged in closest.broken):
        advice.append(
            "training data: pruning, distillation and quantization-aware training win back quality, and need "
            "labelled samples to train on; this version has techniques without training only"
        )
    return advice


def _looser(limit: Limit, judged: Judged, closest: Report) -> str:
    metric = metrics.find(limit.metric)
    found = closest.figures[metric.name]
    side, _, _ = limit.bound(metric.better)
    sign = ">=" if side == "at_least" else "<="
    if limit.relative:
        share = found.ratio.low if side == "at_least" else found.ratio.high
        return f"{limit.metric} {sign} {share * 100:.4g}% of original"
    if limit.scope == "drop":
        drop = found.original.value - judged.low if metric.better == "higher" else judged.high - found.original.value
        return f"drop({limit.metric}) <= {drop:.4g}"
    bound = judged.low if side == "at_least" else judged.high
    name = f"worst_slice({limit.metric})" if limit.scope == "worst_slice" else limit.metric
    return f"{name} {sign} {quantity(bound, metric.unit)}"


def _stronger_machine(goal: Goal, judged: Judged, original: Report) -> str | None:
    limit = next(limit for limit in goal.limits if str(limit) == judged.limit)
    if judged.verdict == "met" or limit.relative or not limit.metric.startswith("latency"):
        return None
    times = judged.high / limit.value
    return f"a stronger machine: the unchanged original keeps {judged.limit} on one that is {times:.2g} times faster"


def _is_quality(text: str, goal: Goal) -> bool:
    return any(str(limit) == text and metrics.find(limit.metric).quality for limit in goal.limits)
