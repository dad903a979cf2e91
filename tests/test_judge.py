"""Judge: cheap metrics first, stop at what is proven broken, and a verdict on every limit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import figure, report
from strop.data import Data
from strop.errors import InvalidGoal, NotMeasurable
from strop.goal import Goal
from strop.judge import Report, better_than_original, judge, score
from strop.metric import Draw, Metering, Timing
from strop.slices import SMALLEST_SLICE, Slice

Array = np.ndarray[Any, Any]


def one_hot(classes: Array) -> Array:
    return np.eye(3, dtype=np.float32)[classes]


class Probe:
    """What a metric may see, made up; it notes what was looked at."""

    seed = 0
    groups = None

    def __init__(
        self, samples: int = 2000, wrong: Callable[[Array], Array] | None = None, speed: float = 0.5, size: float = 0.5
    ):
        random = np.random.default_rng(0)
        self.looked: list[str] = []
        self.labels = random.integers(0, 3, samples)
        self._predicted = self.labels.copy()
        if wrong is not None:
            rows = wrong(np.arange(samples))
            self._predicted[rows] = (self.labels[rows] + 1) % 3
        self.data = Data({"x": np.zeros((samples, 1))}, self.labels, {"part": np.arange(samples) % 10 == 0})
        self.speed, self._size = speed, size
        self.meter: str | None = "a guess"

    @property
    def original_outputs(self) -> dict[str, Array]:
        return {"y": one_hot(self.labels)}

    @property
    def candidate_outputs(self) -> dict[str, Array]:
        self.looked.append("outputs")
        return {"y": one_hot(self._predicted)}

    @property
    def sizes(self) -> tuple[int, int]:
        self.looked.append("size")
        return 1000, int(1000 * self._size)

    @property
    def compressed_sizes(self) -> tuple[int, int]:
        self.looked.append("compressed size")
        return 900, int(900 * self._size)

    def notes(self) -> tuple[str, ...]:
        return ()

    def timing(self, scenario: str) -> Timing:
        self.looked.append("timing")
        block = np.full(20, 0.01)
        return Timing([[block] * 4] * 2, [[block * self.speed] * 4] * 2)

    def memory(self) -> tuple[list[int], list[int]]:
        self.looked.append("memory")
        return [100, 110], [50, 60]

    def metering(self) -> Metering:
        self.looked.append("metering")
        if self.meter is None:
            raise NotMeasurable("there is no meter. Buy one.")
        return Metering([[Draw(8.0, 0.5, 10)] * 4] * 2, [[Draw(8.0, 0.5, 20)] * 4] * 2, self.meter)


def judged(probe: Any, goal: str, *also: str, whole: bool = True, confidence: float = 0.95) -> Report:
    return judge(probe, Goal.parse(goal), also, confidence=confidence, whole=whole)


def verdicts(report: Report) -> dict[str, str]:
    return {judged.limit: judged.verdict for judged in report.judged}


ACCURATE, SMALL, QUICK = "accuracy >= 99% of original", "size <= 600 B", "latency.p50 < 6 ms"


def test_cheap_metrics_come_first_and_all_is_measured_where_nothing_is_broken() -> None:
    probe = Probe()
    found = judged(probe, f"minimize latency.p50; {QUICK}; {ACCURATE}; {SMALL}", "memory", whole=False)
    assert list(dict.fromkeys(probe.looked)) == ["size", "outputs", "timing", "memory"]
    assert verdicts(found) == {SMALL: "met", ACCURATE: "met", QUICK: "met"}
    assert set(found.figures) == {"size", "accuracy", "latency.p50", "memory"}
    assert found.figures["latency.p50"].ratio.value == pytest.approx(0.5)
    assert found.figures["size"].ratio == figure(0.5, half=0).ratio


def test_the_first_limit_proven_broken_ends_it() -> None:
    probe = Probe(size=0.9)
    found = judged(probe, f"{QUICK}; {ACCURATE}; {SMALL}", whole=False)
    assert probe.looked == ["size"]
    assert verdicts(found) == {SMALL: "broken"}
    assert found.judged[0].violation == pytest.approx(0.5)


def test_unless_all_is_wanted() -> None:
    found = judged(Probe(size=0.9), f"{QUICK}; {ACCURATE}; {SMALL}")
    assert verdicts(found) == {SMALL: "broken", ACCURATE: "met", QUICK: "met"}
    assert [judged.limit for judged in found.broken] == [SMALL]


def test_an_undecided_limit_does_not_end_it_and_says_what_would_decide() -> None:
    found = judged(Probe(300, wrong=lambda rows: rows[:2]), f"{QUICK}; {ACCURATE}", whole=False)
    assert verdicts(found) == {ACCURATE: "inconclusive", QUICK: "met"}
    (accuracy,) = (one for one in found.judged if one.limit == ACCURATE)
    assert accuracy.violation == 0
    assert accuracy.needed is not None
    assert accuracy.needed > 300


def test_a_drop_is_judged_by_its_own_margin() -> None:
    found = judged(Probe(wrong=lambda rows: rows[:100]), "drop(accuracy) <= 0.01; drop(accuracy) <= 0.1")
    assert verdicts(found) == {"drop(accuracy) <= 0.01": "broken", "drop(accuracy) <= 0.1": "met"}


def test_a_higher_confidence_asks_for_more() -> None:
    probe = Probe(500, wrong=lambda rows: rows[:1])
    assert verdicts(judged(probe, ACCURATE, confidence=0.9)) == {ACCURATE: "met"}
    assert verdicts(judged(probe, ACCURATE, confidence=0.999)) == {ACCURATE: "inconclusive"}


def test_what_can_not_be_measured_is_told_where_it_is_only_reported() -> None:
    probe = Probe()
    probe.meter = None
    found = judged(probe, f"minimize latency.p50; {SMALL}", "energy", "memory")
    assert found.not_measurable == {"energy": "there is no meter. Buy one."}
    assert set(found.figures) == {"size", "latency.p50", "memory"}
    assert Report.of(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("goal", ["energy < 1 J", "minimize power", "energy <= 90% of original; minimize size"])
def test_and_refused_where_the_goal_asks_for_it(goal: str) -> None:
    probe = Probe()
    probe.meter = None
    with pytest.raises(NotMeasurable, match="Buy one"):
        judged(probe, goal)


def test_what_a_figure_is_had_from_goes_with_it_and_with_its_limit() -> None:
    found = judged(Probe(), f"energy < 500 mJ; {SMALL}", "power")
    assert verdicts(found) == {"energy < 500 mJ": "met", SMALL: "met"}
    assert {name: one.source for name, one in found.figures.items() if one.source} == {
        "energy": "a guess", "power": "a guess",
    }  # fmt: skip
    energy = found.figures["energy"].side("candidate")
    assert (energy["unit"], energy["n"], energy["source"]) == ("J", 160, "a guess")
    assert energy["low"] <= energy["value"] == pytest.approx(0.4)
    assert "source" not in found.figures["size"].side("original")
    small, drawn = found.judged
    assert (str(small), str(drawn)) == (SMALL, "energy < 500 mJ (a guess)")
    assert drawn.to_json()["source"] == "a guess"
    assert not {"source", "violation"} & set(small.to_json())


def test_a_metric_that_is_asked_for_twice_is_measured_once() -> None:
    probe = Probe()
    found = judged(probe, "minimize size; size < 800 B; size < 100% of original", "size")
    assert probe.looked == ["size"]
    assert len(found.judged) == 2


WORST = "worst_slice(accuracy) >= 95% of original"


def test_slices_hide_behind_no_average() -> None:
    probe = Probe(wrong=lambda rows: rows[(rows % 10 == 0) & (rows < 400)])  # a fifth of the slice part=True
    found = judged(probe, f"accuracy >= 95% of original; {WORST}")
    assert verdicts(found) == {"accuracy >= 95% of original": "met", WORST: "broken"}
    worst = next(one for one in found.judged if one.limit == WORST)
    assert worst.slice == "part=True"
    assert worst.value == pytest.approx(0.8)
    bad, good = (found.slices[f"part={part}"].metrics["accuracy"] for part in (True, False))
    assert (bad.original.value, bad.candidate.value, bad.n, bad.flagged) == (1, pytest.approx(0.8), 200, True)
    assert (good.original.value, good.candidate.value, good.n, good.flagged) == (1, 1, 1800, False)
    assert bad.difference.value == pytest.approx(-0.2)
    assert -0.3 < bad.difference.low < bad.difference.value < bad.difference.high < -0.1
    (drop,) = found.worst_drops
    assert (drop.metric, drop.slice, drop.flagged) == ("accuracy", "part=True", True)
    assert (drop.value, drop.low, drop.high) == (-bad.difference.value, -bad.difference.high, -bad.difference.low)
    assert found.churn["to_wrong"].value == found.churn["changed"].value == pytest.approx(0.02)
    assert found.slices["part=True"].churn["to_wrong"].value == pytest.approx(0.2)
    assert found.churn["to_right"].value == 0


def test_a_crossing_hides_behind_neither_of_its_columns() -> None:
    probe = Probe(wrong=lambda rows: rows[(rows % 10 == 0) & (rows % 4 == 0)])
    columns = {"part": np.arange(2000) % 10 == 0, "side": np.arange(2000) % 4 == 0}
    probe.data = dataclasses.replace(probe.data, slices=columns)
    assert verdicts(judged(probe, "worst_slice(accuracy) >= 30% of original"))
    probe.data = dataclasses.replace(probe.data, crossings=("part*side",))
    found = judged(probe, "worst_slice(accuracy) >= 30% of original")
    assert (found.judged[0].verdict, found.judged[0].slice) == ("broken", "part=True*side=True")
    assert found.slices["part=True*side=True"].n == 100
    assert found.slices["part=True*side=True"].metrics["accuracy"].candidate.value == 0
    assert set(found.slices) == {
        *(f"part={a}" for a in (True, False)), *(f"side={a}" for a in (True, False)),
        *(f"part={a}*side={b}" for a in (True, False) for b in (True, False)),
    }  # fmt: skip


def test_a_slice_too_small_decides_nothing() -> None:
    probe = Probe(samples=10 * (SMALLEST_SLICE - 1))
    found = judged(probe, WORST)
    assert (found.judged[0].verdict, found.judged[0].slice) == ("inconclusive", "part=True")
    assert found.judged[0].why == f"{SMALLEST_SLICE - 1} samples, and a slice needs {SMALLEST_SLICE}"
    assert dataclasses.replace(found.slices["part=True"], support=0) == Slice(SMALLEST_SLICE - 1)
    assert found.slices["part=False"].metrics


def test_what_would_decide_a_slice_is_more_than_all_samples_that_there_are() -> None:
    """The slice holds a tenth of them, and the samples named are those of the whole split."""
    found = judged(Probe(samples=500), WORST)
    (limit,) = found.judged
    assert (limit.verdict, limit.slice) == ("inconclusive", "part=True")
    assert limit.needed is not None and limit.needed > 500
    larger = judged(Probe(samples=limit.needed), WORST)
    assert verdicts(larger) == {WORST: "met"}


def test_slices_of_too_few_of_the_rarest_class_are_told_and_not_passed() -> None:
    """All wrong in the small slice, whose rarest class has fewer samples than the limit asks for."""
    probe = Probe(wrong=lambda rows: rows[rows % 10 == 0])
    rare = int(np.bincount(probe.labels[::10]).min())
    for least, said in ((rare, "broken"), (rare + 1, "met"), (2000, "inconclusive")):
        limit = f"worst_slice(accuracy, {least}) >= 95% of original"
        found = judged(probe, limit)
        assert verdicts(found) == {limit: said}
        small = [note for note in found.notes if note.startswith(limit)]
        assert bool(small) == (least > rare)
        assert all(f"part=True ({rare})" in note and "undecidable" in note for note in small)
    assert found.judged[0].why == "no slice is large enough to be judged"
    whole = judge(probe, Goal.parse("accuracy >= 0"), confidence=0.95, whole=True)
    assert whole.slices["part=True"].support == rare, "a looser limit is advised by those that are large enough"


def test_a_metric_without_a_value_in_a_slice_says_why_and_decides_nothing() -> None:
    probe = Probe()
    one_class = np.where(probe.labels == 0, "only", "others")
    probe.data = dataclasses.replace(probe.data, slices={"kind": one_class})
    found = judged(probe, "worst_slice(auroc) >= 0.9", "accuracy")
    assert "at least two classes" in found.slices["kind=only"].undefined["auroc"]
    assert set(found.slices["kind=only"].metrics) == {"accuracy"}
    assert set(found.slices["kind=others"].metrics) == {"accuracy", "auroc"}
    (limit,) = found.judged
    assert (limit.verdict, limit.slice) == ("inconclusive", "kind=only")
    assert "at least two classes" in limit.why


def test_outputs_of_nan_are_wrong_in_their_slice() -> None:
    probe = Probe()
    outputs = one_hot(probe.labels)
    outputs[::10] = np.nan
    probe.__class__ = type("Broken", (Probe,), {"candidate_outputs": property(lambda self: {"y": outputs})})
    found = judged(probe, WORST, "auroc")
    assert found.slices["part=True"].metrics["accuracy"].candidate.value == 0
    assert found.slices["part=True"].metrics["auroc"].candidate.value == 0
    assert found.churn["changed"].value == pytest.approx(0.1)
    assert found.churn["to_wrong"].value == pytest.approx(0.1)


def test_fairness_is_told_of_protected_columns() -> None:
    probe = Probe()
    probe.labels = probe.labels % 2
    probe.data = dataclasses.replace(probe.data, labels=probe.labels, protected=("part",))
    binary = {"y": np.eye(2, dtype=np.float32)[probe.labels]}
    changed = {"y": np.where((np.arange(2000) % 10 == 0)[:, None], binary["y"][:, ::-1], binary["y"])}
    sides = {"original_outputs": property(lambda self: binary), "candidate_outputs": property(lambda self: changed)}
    probe.__class__ = type("Binary", (Probe,), sides)
    rates = judged(probe, ACCURATE).fairness["part"]
    gap = rates["true_positive_rate"].gap
    assert gap is not None
    assert (gap.original.value, gap.candidate.value, gap.change.value) == (0, 1, 1)
    assert not judged(Probe(), ACCURATE).fairness


def test_slices_cost_nothing_while_searching() -> None:
    found = judged(Probe(), ACCURATE, whole=False)
    assert not found.slices and not found.churn


def test_a_limit_on_slices_without_any_is_refused() -> None:
    probe = Probe()
    probe.data = dataclasses.replace(probe.data, slices={})
    with pytest.raises(InvalidGoal, match=r"needs slices.*slices=\[NAME\]"):
        judged(probe, WORST)


def test_a_report_survives_json() -> None:
    found = judged(Probe(wrong=lambda rows: rows[:9]), f"{ACCURATE}; {QUICK}; {WORST}", "memory")
    assert Report.of(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("goal", "value", "better"), [("minimize latency.p50", 0.5, True), ("maximize accuracy", -1.02, True)]
)
def test_the_score_is_the_ratio_turned_so_that_less_is_better(goal: str, value: float, better: bool) -> None:
    found = report(latency=0.5, accuracy=1.02)
    assert score(found, Goal.parse(goal)) == value
    assert better_than_original(found, Goal.parse(goal), 0.0) == better


def test_within_the_noise_nothing_is_better() -> None:
    assert not better_than_original(report(latency=0.995), Goal.parse("minimize latency.p50"), 0.0)
    assert not better_than_original(report(accuracy=1.005), Goal.parse("maximize accuracy"), 0.0)


def test_a_gain_under_the_noise_floor_is_none() -> None:
    found, goal = report(latency=0.9), Goal.parse("minimize latency.p50")
    assert better_than_original(found, goal, 0.05)
    assert not better_than_original(found, goal, 0.15)
    assert score(Report(), Goal.parse("minimize latency.p50")) == float("inf")


def regression(original: Array, candidate: Array, truth: Array, part: Array | None = None) -> Probe:
    """A probe of numbers against numbers, latency halved."""

    class Numbers(Probe):
        original_outputs, candidate_outputs = {"y": original}, {"y": candidate}  # type: ignore[assignment]

    probe = Numbers()
    probe.labels = truth
    slices = {} if part is None else {"part": part}
    probe.data = Data({"x": np.zeros((len(truth), 1))}, truth, slices)
    return probe


def test_a_share_of_something_negative_is_refused_with_what_to_write_instead() -> None:
    truth = np.random.default_rng(0).normal(size=500)
    probe = regression(-truth, -0.9 * truth, truth)
    for limit in ("r2 >= 99% of original", "drop(r2) <= 1% of original", "spearman >= 99% of original"):
        with pytest.raises(InvalidGoal, match=r"must not be negative.*is -[13].*`drop\((r2|spearman)\) <= 0.01`"):
            judged(probe, limit)
    found = judged(probe, "r2 >= -4; r2 >= -3; drop(r2) <= 0.01")
    assert verdicts(found) == {"r2 >= -4": "met", "r2 >= -3": "broken", "drop(r2) <= 0.01": "met"} | (
        {"r2 >= -3": "met"} if found.figures["r2"].candidate.low > -3 else {}
    )


def test_a_slice_in_which_the_original_is_negative_leaves_a_share_open() -> None:
    truth = np.random.default_rng(0).normal(size=500)
    part = np.arange(500) % 2 == 0
    output = np.where(part, -truth, truth)
    found = judged(regression(output, output, truth, part), "worst_slice(r2) >= 50% of original")
    assert (found.judged[0].verdict, found.judged[0].slice) == ("inconclusive", "part=True")
    assert found.judged[0].needed is None


@pytest.mark.parametrize(("goal", "sign"), [("maximize r2", 1), ("minimize mse", -1)])
def test_an_objective_without_a_ratio_is_compared_by_its_own_values(goal: str, sign: int) -> None:
    truth = np.random.default_rng(0).normal(size=500)
    if goal == "maximize r2":  # a negative original
        original, better, worse = -truth, -0.5 * truth, -2 * truth
        reports = [judged(regression(original, values, truth), goal) for values in (better, original, worse)]
        assert [better_than_original(found, Goal.parse(goal), 0.0) for found in reports] == [True, False, False]
    else:  # a baseline of exactly zero
        reports = [judged(regression(truth, truth + off, truth), goal) for off in (0, 1e-4, 1e-2)]
        assert not any(better_than_original(found, Goal.parse(goal), 0.0) for found in reports)
    scores = [score(found, Goal.parse(goal)) for found in reports]
    assert scores == sorted(scores)
    assert len(set(scores)) == 3


def test_of_a_baseline_of_zero_nothing_worse_is_within_a_share() -> None:
    truth = np.random.default_rng(0).normal(size=500)
    limit = "mse <= 101% of original"
    assert verdicts(judged(regression(truth, truth, truth), limit)) == {limit: "met"}
    assert verdicts(judged(regression(truth, truth + 1e-4, truth), limit)) == {limit: "broken"}
    wrong = Probe(wrong=lambda rows: rows)
    assert verdicts(judged(wrong, "log_loss <= 101% of original")) == {"log_loss <= 101% of original": "broken"}


@pytest.mark.parametrize("limit", ["accuracy >= 99% of original", "drop(accuracy) <= 0.01", "accuracy >= 0.99"])
def test_what_was_lost_is_told_as_a_share_of_what_is_allowed(limit: str) -> None:
    """The original is always right; a quarter of a per cent of 2,000 samples are five."""
    for every, lost in ((400, 0.25), (50, 2.0)):
        bench = Probe(wrong=lambda rows, every=every: rows[rows % every == 0])
        (found,) = judge(bench, Goal.parse(f"minimize size; {limit}"), confidence=0.95, whole=True).judged
        assert found.lost == pytest.approx(lost) and found.most is not None and found.lost < found.most < 2.1 * lost
    (same,) = judge(Probe(), Goal.parse(f"minimize size; {limit}"), confidence=0.95, whole=True).judged
    assert same.lost == pytest.approx(0, abs=1e-9) and same.most is not None and 0 < same.most < 0.5
    assert not {"lost", "most"} & same.to_json().keys()
