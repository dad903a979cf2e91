"""The conformance kit on every built-in metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from strop import metrics
from strop.errors import InvalidGoal
from strop.metric import Draw, Metering, Timing
from strop.metrics.regression import Mae
from strop.samples import Samples
from strop.target import Target
from strop.testing import FakeProbe, MetricCase

N = 300


def classified(classes: int) -> FakeProbe:
    """Logits of a classifier, and of one that is unsure of what it is sure of."""
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, N)
    original = rng.normal(size=(N, classes)) + 2 * np.eye(classes)[labels]
    return FakeProbe(original, original + 0.8 * rng.normal(size=(N, classes)), labels)


def regressed() -> FakeProbe:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=N)
    original = truth + 0.3 * rng.normal(size=N)
    return FakeProbe(original, original + 0.2 * rng.normal(size=N), truth)


def run() -> FakeProbe:
    """A candidate that is slower, larger and draws more."""
    rng = np.random.default_rng(0)
    blocks = [[rng.lognormal(0, 0.05, 60) for _ in range(4)] for _ in range(3)]
    times = Timing(*([[scale * block for block in pair] for pair in blocks] for scale in (10e-3, 12e-3)), (4, 4))
    watts = [rng.normal(40, 0.5, 6) for _ in range(3)]
    draws = Metering(
        *([[Draw(0.5 * scale * w, 0.5, 100) for w in pair] for pair in watts] for scale in (1, 1.2)), "RAPL"
    )
    target = Target(threads=1, rate=20.0, p99=0.05, price=0.3)
    nothing = np.zeros(N)
    return FakeProbe(
        nothing, nothing, sizes=(1000, 1200), compressed_sizes=(800, 900), times=times, peaks=([90, 100], [110, 120]),
        draws=draws, target=target,
    )  # fmt: skip


class _OfClasses(MetricCase):
    classes: ClassVar[int] = 3

    def example(self) -> FakeProbe:
        return classified(self.classes)

    def misfit(self) -> FakeProbe | None:
        return FakeProbe(np.ones((4, 3)), np.ones((4, 3)), [0, 1, 2])


class TestAccuracy(_OfClasses):
    metric = metrics.find("accuracy")


class TestTopK(_OfClasses):
    metric, classes = metrics.find("top_2"), 6


class TestF1(_OfClasses):
    metric = metrics.find("f1")


class TestF1OfTwo(_OfClasses):
    """A ratio of sums, where F1 of more classes is none."""

    metric, classes = metrics.find("f1"), 2


class TestAuroc(_OfClasses):
    metric = metrics.find("auroc")


class TestAurocOfTwo(_OfClasses):
    """Estimated by pairs of samples."""

    metric, classes = metrics.find("auroc"), 2


class TestAveragePrecision(_OfClasses):
    metric = metrics.find("average_precision")


class TestLogLoss(_OfClasses):
    metric = metrics.find("log_loss")


class TestPerplexity(_OfClasses):
    metric = metrics.find("perplexity")


class TestAgreement(MetricCase):
    metric = metrics.find("agreement")

    def example(self) -> FakeProbe:
        return classified(3)


class TestFidelity(MetricCase):
    metric = metrics.find("fidelity")

    def example(self) -> FakeProbe:
        return classified(3)

    def misfit(self) -> FakeProbe | None:
        return FakeProbe(np.arange(4), np.arange(4))


class _OfNumbers(MetricCase):
    def example(self) -> FakeProbe:
        return regressed()

    def misfit(self) -> FakeProbe | None:
        return FakeProbe(np.ones(4), np.ones(4), [1.0, 2.0, np.nan, 3.0])


class TestMse(_OfNumbers):
    metric = metrics.find("mse")


class TestMae(_OfNumbers):
    metric = metrics.find("mae")


class TestR2(_OfNumbers):
    metric = metrics.find("r2")


class TestSpearman(_OfNumbers):
    metric = metrics.find("spearman")


class _OfCost(MetricCase):
    def example(self) -> FakeProbe:
        return run()


class TestLatency(_OfCost):
    metric = metrics.find("latency.p95")


class TestThroughput(_OfCost):
    metric = metrics.find("throughput")


class TestSize(_OfCost):
    metric = metrics.find("size")


class TestCompressedSize(_OfCost):
    metric = metrics.find("size.compressed")


class TestMemory(_OfCost):
    metric = metrics.find("memory")


class _OfAsked(_OfCost):
    """What only a target tells."""

    def unmeasurable(self) -> Target | None:
        return Target(threads=1)


class TestCost(_OfAsked):
    metric = metrics.find("cost")


class TestServerP99(_OfAsked):
    metric = metrics.find("server.p99")


class TestServerRate(_OfAsked):
    metric = metrics.find("server.rate")


class _Metered(_OfCost):
    @pytest.fixture(autouse=True)
    def meter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An estimate at least can be had, here too."""
        monkeypatch.setattr("strop.energy.installed", lambda name: True)


class TestEnergy(_Metered):
    metric = metrics.find("energy")


class TestPower(_Metered):
    metric = metrics.find("power")


class Unpaired(Mae):
    """Errors of samples that are not the original's."""

    def measure(self, probe: Any, rows: Any = None) -> Any:
        case, original, candidate = self._errors(probe, rows)
        return Samples(original, candidate[::-1], case.groups, seed=case.seed)


class Upside(Mae):
    """Errors, of which more are said to be better."""

    better = "higher"


class Other(Mae):
    """Scores of samples that are twice the metric."""

    def by_sample(self, probe: Any) -> Any:
        scores = super().by_sample(probe)
        return replace(scores, original=2 * scores.original, candidate=2 * scores.candidate)


class Whole(Mae):
    """Of all samples, whichever were asked for."""

    def measure(self, probe: Any, rows: Any = None) -> Any:
        return super().measure(probe)


class Nameless(Mae):
    """Errors, which no goal can speak of."""

    name = "mean error"


class Careless(Mae):
    """Errors, whatever they are of."""

    def check(self, outputs: Any, labels: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Unpaired, "differences_are_paired"), (Upside, "a_worse_candidate_is_worse"), (Nameless, "says_what_it_is"),
        (Other, "scores_of_samples_are_the_metric"), (Whole, "a_slice_is_judged_by_its_samples"),
        (Careless, "what_it_cannot_judge_is_refused_with_a_reason"),
    ],
)  # fmt: skip
def test_the_kit_tells_a_metric_that_breaks_a_promise(broken: type[Mae], promise: str) -> None:
    case = _OfNumbers()
    case.metric = Mae()
    getattr(case, f"test_{promise}")()
    case.metric = broken()
    with pytest.raises((AssertionError, InvalidGoal)):
        getattr(case, f"test_{promise}")()


def test_every_metric_has_a_case() -> None:
    cases = [case for case in globals().values() if isinstance(case, type) and issubclass(case, MetricCase)]
    assert {type(m) for m in metrics.METRICS} == {type(case.metric) for case in cases if hasattr(case, "metric")}
