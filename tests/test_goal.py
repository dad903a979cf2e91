from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import InvalidGoal
from strop.goal import Goal, Limit

METRICS = [
    "accuracy",
    "latency.p95",
    "size",
    "memory",
    "throughput",
    "energy",
    "power",
    "cost",
    "log_loss",
    "top_5",
    "my_module.scores:wer",
]
BETTER = dict.fromkeys(
    ["log_loss", "latency.p50", "latency.p95", "latency.p99", "size", "energy", "cost", "wait"], "lower"
)
BETTER |= {"accuracy": "higher", "throughput": "higher"}
UNITS = {"accuracy": "", "log_loss": "", "size": "bytes", "throughput": "/s", "energy": "J", "cost": "per million"}
UNITS |= {"wait": "s", "shine": "lux"}
BETTER["shine"] = "higher"


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    metric = draw(st.sampled_from(METRICS))
    cost = metric in ("latency.p95", "size", "memory", "throughput", "energy", "power", "cost")
    scope = draw(st.sampled_from(["whole", "drop"] if cost else ["whole", "drop", "worst_slice"]))
    relative = draw(st.booleans())
    positive = scope != "drop" and (relative or cost)
    bounds = {"min_value": 1e-300 if positive else -1e300, "max_value": 1e300}
    op = draw(st.sampled_from(["<", "<="] if scope == "drop" else ["<", "<=", ">", ">="]))
    support = draw(st.integers(0, 10**6)) if scope == "worst_slice" else 0
    return Limit(metric, op, draw(st.floats(**bounds)), relative, scope, support=support)


@given(limits())
def test_a_limit_reads_back_from_its_text(limit: Limit) -> None:
    assert Limit.parse(str(limit)) == limit


@given(st.sampled_from(["ms", "GiB", "kB"]), st.integers(1, 10**6))
def test_a_custom_metric_keeps_its_unit(unit: str, number: int) -> None:
    read = Limit.parse(f"a.b:f < {number} {unit}")
    assert Limit.parse(str(read)) == read and read.unit


@given(st.lists(limits(), max_size=3), st.sampled_from(METRICS), st.sampled_from(["minimize", "maximize"]))
def test_a_goal_reads_back_from_text_and_json(found: list[Limit], metric: str, direction: str) -> None:
    found = [limit for limit in found if limit.side == found[0].side]  # can't contradict each other
    goal = Goal(tuple(found), metric, direction)
    assert Goal.parse(str(goal)) == goal
    assert Goal.of_json(json.loads(json.dumps(goal.to_json()))) == goal


@pytest.mark.parametrize(("text", "canonical", "value", "relative"), [
    ("size < 20 MB", "size < 20 MB", 20_000_000, False),
    ("size<20971520B", "size < 20.97152 MB", 20_971_520, False),
    ("memory <= 1.5GiB", "memory <= 1.610612736 GB", 1_610_612_736, False),
    ("size < 5 KB", "size < 5 kB", 5000, False),
    ("latency.p95 < 10 ms", "latency.p95 < 10 ms", 0.01, False),
    ("latency.mean < 0.25 us", "latency.mean < 250 ns", 2.5e-7, False),
    ("energy <= 0.2 mJ", "energy <= 200 uJ", 2e-4, False),
    ("energy < 80% of original", "energy < 80% of original", 0.8, True),
    ("power < 1500 mW", "power < 1.5 W", 1.5, False),
    ("cost < 0.25", "cost < 0.25", 0.25, False),
    ("throughput >= 100/s", "throughput >= 100 /s", 100, False),
    ("throughput >= 100", "throughput >= 100 /s", 100, False),
    ("accuracy >= 99% of original", "accuracy >= 99% of original", 0.99, True),
    ("accuracy >= 0.99x", "accuracy >= 99% of original", 0.99, True),
    ("accuracy >= 0.99x  of  original", "accuracy >= 99% of original", 0.99, True),
    ("perplexity<=102 % of original", "perplexity <= 102% of original", 1.02, True),
    ("latency.p50 <= 0.5x", "latency.p50 <= 50% of original", 0.5, True),
    ("worst_slice( accuracy ) >= 98% of original", "worst_slice(accuracy) >= 98% of original", 0.98, True),
    ("worst_slice(auroc , 300 ) >= 0.9", "worst_slice(auroc, 300) >= 0.9", 0.9, False),
    ("drop(accuracy) <= 1e-2", "drop(accuracy) <= 0.01", 0.01, False),
    ("r2 >= -.5", "r2 >= -0.5", -0.5, False),
    ("pkg.mod:f >= 0.5", "pkg.mod:f >= 0.5", 0.5, False),
])  # fmt: skip
def test_spellings(text: str, canonical: str, value: float, relative: bool) -> None:
    limit = Limit.parse(text)
    assert (str(limit), limit.value, limit.relative) == (canonical, value, relative)


@pytest.mark.parametrize(("text", "better", "bound"), [
    ("accuracy >= 99% of original", "higher", ("at_least", 0.99, 0)),
    ("accuracy > 0.9", "higher", ("at_least", 0, 0.9)),
    ("log_loss <= 102% of original", "lower", ("at_most", 1.02, 0)),
    ("latency.p95 < 10 ms", "lower", ("at_most", 0, 0.01)),
    ("worst_slice(accuracy) >= 0.8", "higher", ("at_least", 0, 0.8)),
    ("drop(accuracy) <= 0.01", "higher", ("at_least", 1, -0.01)),
    ("drop(log_loss) <= 0.01", "lower", ("at_most", 1, 0.01)),
    ("drop(accuracy) <= 2% of original", "higher", ("at_least", 0.98, 0)),
    ("drop(log_loss) <= 2% of original", "lower", ("at_most", 1.02, 0)),
])  # fmt: skip
def test_what_a_limit_asks_of_the_candidate(text: str, better: str, bound: tuple[str, float, float]) -> None:
    assert Limit.parse(text).bound(better) == bound


@pytest.mark.parametrize(("text", "says"), [
    ("accuracy >= 99%", ["`accuracy >= 99% of original`", "`accuracy >= 0.99`"]),
    ("drop(accuracy) <= 1%", ["`drop(accuracy) <= 0.01`", "`drop(accuracy) <= 1% of original`"]),
    ("size < 50%", ["`size < 50% of original`", "`size < 20 MB`"]),
    ("size < 5", ["no unit", "`size < 20 MB`"]),
    ("latency.p95 < 10", ["no unit", "`latency.p95 < 10 ms`"]),
    ("latency.p95 < 10 MB", ["'MB'", "`latency.p95 < 10 ms`"]),
    ("throughput > 10 ms", ["'ms'", "/s"]),
    ("energy < 5", ["no unit", "`energy < 5 mJ`"]),
    ("energy < 5 W", ["'W'", "in J"]),
    ("power < 50%", ["`power < 50% of original`", "`power < 20 W`"]),
    ("cost < 50%", ["`cost < 50% of original`", "`cost < 0.5`"]),
    ("cost < 0", ["above zero"]),
    ("worst_slice(cost) < 1", ["is a cost"]),
    ("drop(accuracy, 300) <= 0.1", ["`drop(accuracy, 300) <= 0.1`", "only worst_slice has"]),
    ("size < 5 parsecs", ["'parsecs'", "KiB"]),
    ("size < -5 MB", ["above zero"]),
    ("accuracy >= 0% of original", ["above zero"]),
    ("accuracy >= 1e999", ["finite"]),
    ("accuracy >= 1e99999999999", ["finite"]),
    ("drop(accuracy) >= 0.1", ["from above"]),
    ("worst_slice(size) < 1 MB", ["is a cost"]),
    ("accuracy", ["`accuracy`", "METRIC OP VALUE"]),
    ("accuracy => 3", ["METRIC OP VALUE"]),
    ("accuracy >= high", ["METRIC OP VALUE"]),
    ("median(accuracy) >= 3", ["METRIC OP VALUE"]),
    ("", ["empty clause"]),
    ("size < 1 MB;; accuracy > 0.5", ["empty clause"]),
    ("minimize size; maximize accuracy", ["`minimize size`", "`maximize accuracy`"]),
    ("minimize", ["`minimize latency.p95`"]),
    ("minimize size and memory", ["name one metric"]),
    ("size < 10 MB; size > 20 MB", ["contradict", "`size < 10 MB`", "`size > 20 MB`"]),
    ("accuracy > 0.9; accuracy <= 0.9", ["contradict"]),
])  # fmt: skip
def test_what_is_refused(text: str, says: list[str]) -> None:
    with pytest.raises(InvalidGoal) as caught:
        Goal.parse(text)
    assert all(part in str(caught.value) for part in says) and "\n" not in str(caught.value)


def test_a_goal_of_many_clauses() -> None:
    goal = Goal.parse("minimize latency.p95; accuracy >= 99% of original;\n\nsize < 20 MB; size < 20 MB\n")
    assert (goal.objective, goal.direction, len(goal.limits)) == ("latency.p95", "minimize", 3)
    assert Goal.parse("accuracy >= 0.9; accuracy <= 0.9; accuracy >= 99% of original").objective == "latency.p50"


def test_a_goal_of_flags() -> None:
    goal = Goal.of(["size < 20 MB; accuracy >= 0.9"], maximize="throughput")
    assert str(goal) == "maximize throughput; size < 20 MB; accuracy >= 0.9"
    assert Goal.of([]) == Goal()
    with pytest.raises(InvalidGoal, match="improves one metric"):
        Goal.of([], minimize="size", maximize="accuracy")
    with pytest.raises(InvalidGoal, match="empty clause"):
        Goal.of([" "])


@pytest.mark.parametrize(("text", "says"), [
    ("acuracy >= 0.9", "Did you mean accuracy"),
    ("minimize latency", "latency.p"),
    ("zzz > 3", "Known are accuracy, cost"),
    ("accuracy <= 0.9", "Turn it round: `accuracy >= 0.9`"),
    ("latency.p95 >= 5 ms", "Turn it round: `latency.p95 <= 5 ms`"),
    ("minimize accuracy", "Write `maximize accuracy`"),
    ("maximize size", "Write `minimize size`"),
    ("accuracy >= 5 ms", "as a plain number"),
    ("shine > 5 MB", "as a plain number"),
    ("cost < 5 ms", "as a plain number"),
    ("wait < 5", "with a unit, as in `10 ms`"),
])  # fmt: skip
def test_what_does_not_fit_the_metrics(text: str, says: str) -> None:
    with pytest.raises(InvalidGoal) as caught:
        Goal.parse(text).check(BETTER, UNITS)
    assert says in str(caught.value)


def test_what_fits_the_metrics() -> None:
    Goal.parse(
        "maximize throughput; drop(accuracy) <= 0.01; drop(log_loss) <= 0.1; accuracy >= 99% of original; size < 2 MB; "
        "throughput >= 10 /s; wait < 5 s; energy < 3 J; cost < 3; shine > 3; unseen.module:function >= 3 ms"
    ).check(BETTER, UNITS)
    Goal.parse("minimize unseen:f").check(BETTER, UNITS)


@pytest.mark.parametrize("misused", [5, ["size < 5 MB"], 0])
def test_a_goal_that_is_no_text_is_refused(misused: Any) -> None:
    for read in (Goal.parse, Goal.given):
        with pytest.raises(InvalidGoal, match="A goal is text"):
            read(misused)
    assert Goal.given(None) == Goal()
