"""Metrics of energy: joules a sample and watts, of original and candidate that took turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from strop import energy, metrics
from strop.errors import NotMeasurable
from strop.metric import Draw, Metering
from strop.stats import verdict
from strop.target import Target


def metering(seed: int, ratio: float, pairs: int = 3, blocks: int = 6) -> Metering:
    """Draws of 40 W: the machine's own noise comes on top, more of it between pairs than within one.

    The candidate runs `1 / ratio` times as many samples in a block.
    """
    rng = np.random.default_rng(seed)
    sides: tuple[list[list[Draw]], list[list[Draw]]] = ([], [])
    for _ in range(pairs):
        drift = rng.normal(0, 5)
        for side, samples in zip(sides, (100, round(100 / ratio)), strict=True):
            watts = 40 + drift + rng.normal(0, 0.5, blocks)
            side.append([Draw(0.5 * power, 0.5, samples) for power in watts])
    return Metering(*sides, "RAPL")


def test_energy_is_all_joules_over_all_samples(probe: Any) -> None:
    uneven = [[Draw(10, 0.5, 100), Draw(30, 0.5, 50)], [Draw(5, 0.5, 250), Draw(5, 0.5, 100)]]
    found = metrics.find("energy").measure(probe([1], [1], draws=Metering(uneven, uneven[::-1], "RAPL")))
    assert found.original().value == found.candidate().value == pytest.approx(50 / 500)
    assert found.n == 500


def test_the_interval_spans_pairs_and_the_ratio_is_narrower(probe: Any) -> None:
    found = metrics.find("energy").measure(probe([1], [1], draws=metering(0, 0.5)))
    value, ratio = found.candidate(), found.ratio()
    assert ratio.value == pytest.approx(0.5, rel=0.03)
    assert ratio.low < 0.5 < ratio.high
    assert value.value == pytest.approx(0.1, rel=0.3)
    assert (ratio.high - ratio.low) / ratio.value < (value.high - value.low) / value.value, "drift hits both alike"
    assert verdict(found, "at_most", 0.6, 0)[0] == "met"
    assert verdict(found, "at_most", 0.4, 0)[0] == "broken"


def test_power_is_the_mean_while_it_runs(probe: Any) -> None:
    found = metrics.find("power").measure(probe([1], [1], draws=metering(1, 0.25)))
    assert found.original().value == pytest.approx(40, rel=0.3)
    assert found.ratio().value == pytest.approx(1, rel=0.05), "it is as much for a model that is four times as quick"


@pytest.mark.parametrize(("name", "unit"), [("energy", "J"), ("power", "W")])
def test_where_figures_come_from_is_told(name: str, unit: str, probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = metrics.find(name)
    assert (metric.unit, metric.better, metric.quality) == (unit, "lower", False)
    assert metric.rank > metrics.find("memory").rank, "it takes longest"
    assert metric.source(probe([1], [1])) == "RAPL"
    assert metrics.find("latency.p50").source(probe([1], [1])) == ""
    monkeypatch.setattr(energy, "POWERCAP", energy.Path("nowhere"))
    monkeypatch.setattr(energy, "installed", lambda name: False)
    with pytest.raises(NotMeasurable):
        metric.requires(Target())
    assert "no energy counter in nowhere" in metrics.unmeasurable(name, Target())
    monkeypatch.setattr(energy, "installed", lambda name: True)
    assert metrics.unmeasurable(name, Target()) == ""
