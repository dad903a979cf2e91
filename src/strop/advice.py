"""Advice: what would help where no candidate keeps the limits, each way with its figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from . import metrics
from .goal import Goal, Limit
from .judge import Judged, Report
from .spelling import option
from .units import counted, named


def would_decide(limit: str, needed: int | None) -> str:
    """What would decide an open limit: samples for quality; for what is timed or metered, steadier measuring."""
    if needed:
        return f"about {needed:,} samples would decide"
    metric = Limit.parse(limit).metric
    quality = ":" in metric or metrics.find(metric).quality
    return "more samples may decide" if quality else "measuring for longer, on a quiet machine, may decide"


def binding(reports: Collection[Report], ended: str) -> str:
    """Which limit stopped how many candidates, as a sentence.

    Args:
        reports: Of the candidates that were measured, each on the last data that it was seen on.
        ended: Why the search did.
    """
    if not reports:
        return f"no candidate was measured ({ended})"
    counts = Counter(str(judged) for report in reports for judged in report.broken)
    of = [counted(len(reports), "candidate"), *[str(len(reports))] * len(counts)]
    said = [
        f"{limit} stopped {count} of {all_}" for (limit, count), all_ in zip(counts.most_common(), of, strict=False)
    ]
    return "; ".join(said) or "none could be confirmed"


def what_would_help(
    goal: Goal, closest: Report | None, original: Report, trainable: Sequence[str], confirm: int
) -> list[str]:
    """Ways out, most direct first: more samples or a quiet machine, a looser limit, a stronger machine, training data.

    Args:
        closest: Of the closest candidate, on unseen samples; None without one. What the original keeps helps nobody.
        trainable: Techniques that train and fit the original, where there were no data to train with.
        confirm: Samples in the confirm split.
    """
    advice = []
    for judged in (closest or original).judged:
        if judged.verdict == "met":
            continue
        limit = next(limit for limit in goal.limits if str(limit) == judged.limit)
        if judged.verdict == "inconclusive" and judged.needed and judged.needed <= confirm:
            advice.append(
                f"a longer {option('budget')}: {judged} was judged on the search split only, and the confirm split has "
                f"{counted(confirm, 'sample')}, which would decide"
            )
        elif judged.verdict == "inconclusive" and judged.needed:
            advice.append(f"about {judged.needed:,} samples in the confirm split would decide {judged}")
        elif judged.verdict == "inconclusive" and not _is_quality(judged.limit, goal):
            advice.append(f"longer timing (a longer {option('budget')}) on a quiet machine would decide {judged}")
        if closest and (looser := _looser(limit, judged, closest)):
            advice.append(
                f"a looser limit: the closest candidate is proven to keep {named(str(looser), judged.source)}"
            )
    advice += [said for judged in original.judged if (said := _stronger_machine(goal, judged, original))]
    if trainable and closest and any(_is_quality(judged.limit, goal) for judged in closest.broken):
        advice.append(
            f"train data ({option('train')}): {', '.join(trainable)} can then be tried, which make a model smaller or "
            "win back quality"
        )
    return advice


def _looser(limit: Limit, judged: Judged, closest: Report) -> Limit | None:
    """The tightest limit of the same kind, to four digits, that the figures prove; None where they prove none."""
    metric = metrics.find(limit.metric)
    found = closest.figures[metric.name]
    higher = metric.better == "higher"
    paired = limit.relative or (
        limit.scope == "drop" and found.original.value > 0
    )  # by the same samples: it is tighter
    if limit.relative and limit.scope == "worst_slice":
        told = [part.metrics.get(metric.name) for part in closest.slices.values() if part.support >= limit.support]
        bounds = [figure.ratio.low if higher else figure.ratio.high for figure in told if figure]
        bound = (min if higher else max)(bounds) if bounds and all(told) else math.nan
    elif paired:
        bound = found.ratio.low if higher else found.ratio.high
    else:
        bound = judged.low if higher else judged.high
    if limit.scope == "drop":
        start = 1.0 if paired else found.original.value
        bound = start - bound if higher else bound - start
        bound *= found.original.value if paired and not limit.relative else 1.0
    if not math.isfinite(bound) or bound <= 0:
        return None
    rounding = ROUND_FLOOR if limit.side == "at_least" else ROUND_CEILING
    exact = Decimal(bound)
    value = float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 3), rounding))
    return replace(limit, op=">=" if limit.side == "at_least" else "<=", value=value)


def _stronger_machine(goal: Goal, judged: Judged, original: Report) -> str | None:
    limit = next(limit for limit in goal.limits if str(limit) == judged.limit)
    if judged.verdict == "met" or limit.relative or not limit.metric.startswith("latency"):
        return None
    times = judged.high / limit.value
    return f"a stronger machine: the unchanged original keeps {judged.limit} on one that is {times:.2g} times faster"


def _is_quality(text: str, goal: Goal) -> bool:
    return any(str(limit) == text and metrics.find(limit.metric).quality for limit in goal.limits)
