"""Decision: when timing is enough, and when a candidate is lost before all of its samples were run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.decision import Decision
from strop.goal import Goal
from strop.metric import Timing
from strop.target import Target

Array = np.ndarray[Any, Any]


@dataclass
class Seen:
    """What a probe has seen so far."""

    original_outputs: dict[str, Array] = field(default_factory=dict)
    candidate_outputs: dict[str, Array] = field(default_factory=dict)
    labels: Array | None = None
    groups: Array | None = None
    times: Timing | None = None
    seed: int = 0
    target: Target = field(default_factory=lambda: Target(threads=1))

    def timing(self, scenario: str) -> Timing:
        assert self.times
        return self.times


def timed(ratio: float, pairs: int = 2, noise: float = 0.01, milliseconds: float = 10.0) -> Seen:
    rng = np.random.default_rng(0)

    def side(scale: float) -> list[list[Array]]:
        return [[scale * 1e-3 * rng.lognormal(0, noise, 40) for _ in range(6)] for _ in range(pairs)]

    return Seen(times=Timing(side(milliseconds), side(milliseconds * ratio)))


@pytest.mark.parametrize(
    ("goal", "seen", "enough"),
    [("minimize latency.p50", timed(0.5), True), ("minimize latency.p50", timed(0.5, pairs=1), False),
     ("minimize latency.p50", timed(9.0, noise=0.9), True), ("minimize latency.p50", timed(0.5, noise=0.9), False),
     ("minimize size; latency.p50 < 8 ms", timed(0.5), True), ("latency.p50 < 5.0 ms", timed(0.5, noise=0.05), False),
     ("latency.p50 < 5.01 ms", timed(0.5, pairs=3, noise=0.0001), True),
     ("latency.p95 < 5.43 ms", timed(0.5, noise=0.05), False), ("size < 1 MB", timed(0.5), True)],
)  # fmt: skip
def test_timing_is_enough_where_every_limit_is_decided_and_the_ratio_is_close(
    goal: str, seen: Seen, enough: bool
) -> None:
    assert Decision(Goal.parse(goal)).timed_enough(seen, "single_stream") is enough  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "pairs", "finalist", "enough"),
    [
        (0.5, 2, True, True), (0.5, 1, True, False), (0.5, 2, False, False), (0.9, 2, True, True),
        (1.0, 2, True, False),
    ],
)  # fmt: skip
def test_a_finalist_that_is_not_proven_to_keep_its_quality_is_timed_no_closer(
    right: float, pairs: int, finalist: bool, enough: bool
) -> None:
    judged = classified(right)
    seen = replace(timed(0.5, pairs=pairs, noise=0.9), original_outputs=judged.original_outputs,
                   candidate_outputs=judged.candidate_outputs, labels=judged.labels)  # fmt: skip
    decision = Decision(Goal.parse("minimize latency.p50; accuracy >= 0.9"), finalist=finalist)
    assert decision.timed_enough(seen, "single_stream") is enough  # type: ignore[arg-type]


def lost_(goal: str, seen: Seen) -> bool:
    """Whether what was seen proves that a limit is broken on samples of which it is all."""
    whole = replace(seen, candidate_outputs=seen.original_outputs)
    return Decision(Goal.parse(goal)).lost(seen, whole)  # type: ignore[arg-type]


def classified(right: float, count: int = 400, group: int = 0) -> Seen:
    """An original that is always right, and a candidate that is so at times: per group, where there are such."""
    rng = np.random.default_rng(0)
    groups = np.arange(count) // group if group else None
    wrong = rng.random(count) >= right if groups is None else (rng.random(count) >= right)[groups]
    outputs = np.stack([1.0 - wrong, wrong], axis=1)
    return Seen({"y": np.tile([1.0, 0.0], (count, 1))}, {"y": outputs}, np.zeros(count, np.int64), groups)


@pytest.mark.parametrize(
    ("goal", "seen", "lost"),
    [("accuracy >= 99% of original", classified(0.7), True), ("accuracy >= 99% of original", classified(0.995), False),
     ("drop(accuracy) <= 0.1", classified(0.7), True), ("drop(accuracy) <= 0.5", classified(0.7), False),
     ("accuracy >= 0.9", classified(0.7), True), ("agreement >= 0.9", classified(0.7), True),
     ("fidelity >= 0.99", classified(0.5), True), ("fidelity >= 0.99", classified(1.0), False),
     ("accuracy >= 99% of original", classified(0.5, 4000, group=10), True),
     ("accuracy >= 99% of original", classified(0.7, 400, group=100), False),
     ("f1 >= 0.99", classified(0.5), True), ("average_precision >= 0.99", classified(0.5), False),
     ("worst_slice(accuracy) >= 0.99", classified(0.5), False),
     ("latency.p50 < 1 ms; size < 1 B", classified(0.5), False)],
)  # fmt: skip
def test_a_candidate_is_lost_where_a_limit_is_surely_broken(goal: str, seen: Seen, lost: bool) -> None:
    assert lost_(goal, seen) is lost  # type: ignore[arg-type]


def test_groups_prove_less_than_as_many_samples() -> None:
    alone, together = classified(0.8, 300), classified(0.8, 300, group=30)
    assert [lost_("accuracy >= 99% of original", seen) for seen in (alone, together)] == [True, False]


def test_a_ratio_of_sums_and_scores_of_ones_own_are_raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raced_metrics.py").write_text(
        "import numpy as np\n"
        "def error_rate(outputs, labels):\n    return outputs['y'], np.full(len(outputs['y']), 10.0)\n"
        "error_rate.better = 'lower'\n"
        "def mean(outputs, labels):\n    return outputs['y']\n"
        "def whole(outputs, labels):\n    return float(outputs['y'].mean())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rng = np.random.default_rng(0)
    errors = rng.poisson(0.3, 600).astype(float)
    seen = Seen({"y": errors}, {"y": errors + rng.poisson(2.0, 600)})
    try:
        lost = {
            goal: lost_(goal, seen)
            for goal in ("drop(raced_metrics:error_rate) <= 0.01", "drop(raced_metrics:error_rate) <= 0.5",
                         "raced_metrics:mean <= 1.0", "raced_metrics:whole <= 1.0")
        }  # fmt: skip
    finally:
        sys.modules.pop("raced_metrics", None)
    assert list(lost.values()) == [True, False, True, False], "one number for the whole is never raced"
