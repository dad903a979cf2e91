"""Statistics are tested as statistics: seeded repetitions, error rates, coverage."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from strop._numerics import mean_bound, midranks
from strop.samples import Samples, bounds_of_counts
from strop.stats import (
    Binary,
    Exact,
    Interval,
    Replicates,
    Statistic,
    bootstrap_timing,
    detectable_drop,
    samples_needed,
    verdict,
)

RNG = np.random.default_rng
Z2 = 1.6448536269514722**2


def binary(neither: int, gained: int, lost: int, both: int) -> Binary:
    cells = [(0, 0, neither), (0, 1, gained), (1, 0, lost), (1, 1, both)]
    original, candidate = (np.repeat([c[side] for c in cells], [c[2] for c in cells]) for side in (0, 1))
    return Binary(original, candidate)


def drawn(probabilities: list[float], n: int, repeats: int, factor: float, seed: int = 0) -> np.ndarray:
    """Bounds [repeats, 2] of the margin, for counts drawn from cell probabilities."""
    counts = RNG(seed).multinomial(n, probabilities, size=repeats)
    contrast = np.array([0, 1, -factor, 1 - factor])
    return np.stack([mean_bound(counts, contrast, 0.95), -mean_bound(counts, -contrast, 0.95)], axis=1)


def cells_of(rate: float, flips: float) -> list[float]:
    """Probabilities of the four cells where the original is right at `rate`, and as many flip up as down."""
    half = min(flips / 2, 1 - rate)
    return [1 - rate - half, half, half, rate - half]


# --- 0/1 scores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gained", "lost", "n"), [(3, 9, 100), (1, 4, 50), (12, 1, 400), (0, 3, 200), (7, 0, 30)])
@pytest.mark.parametrize("factor", [1.0, 0.99])
def test_margin_is_the_quantile_under_dirichlet_weights(gained: int, lost: int, n: int, factor: float) -> None:
    cells = (n // 3, gained, lost, n - n // 3 - gained - lost)
    margin = binary(*cells).margin(factor, 0)
    values = np.array([0, 1, -factor, 1 - factor])
    for bound, cell, share in ((margin.low, 2, 0.05), (margin.high, 1, 0.95)):  # the cell that one more may be in
        weights = RNG(0).dirichlet(np.maximum(np.array(cells) + np.eye(4)[cell], 1e-9), 200_000)
        # three standard errors of the draws, and the 2 % of itself by which the saddlepoint is off
        assert (weights @ values <= bound).mean() == pytest.approx(share, abs=0.0015 + 0.001)
    assert margin.low < margin.value < margin.high


@pytest.mark.parametrize(("gained", "lost", "n"), [(300, 900, 30_000), (1000, 400, 50_000)])
def test_margin_of_a_difference_nears_tangos_score_interval(gained: int, lost: int, n: int) -> None:
    margin = binary(n // 3, gained, lost, n - n // 3 - gained - lost).margin(1, 0)
    for delta in (margin.low, margin.high):  # Tango 1998, equation 5 and the closed form of its restricted estimate
        a = 2 * n
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        assert (gained - lost - n * delta) ** 2 / (n * (2 * q + delta * (1 - delta))) == pytest.approx(Z2, rel=0.1)


def test_margin_against_nothing_is_clopper_and_pearsons_interval() -> None:
    exact = scipy.stats.binomtest(180, 200).proportion_ci(0.9, "exact")
    for interval in (binary(10, 10, 10, 170).candidate(), binary(10, 10, 10, 170).margin(0, 0)):
        assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("n", [10, 100, 1000, 100_000])
def test_no_flip_leaves_three_in_n(n: int) -> None:
    right = n * 9 // 10
    margin = binary(n - right, 0, 0, right).margin(1, 0)
    exact = 1 - 0.05 ** (1 / n)
    assert margin.value == 0
    assert (margin.low, margin.high) == pytest.approx((-exact, exact))
    assert Z2 / (n + Z2) <= -margin.low <= 3.01 / n
    ratio = binary(n - right, 0, 0, right).ratio()
    assert ratio.low < 1 < ratio.high
    assert ratio.value == 1


@pytest.mark.parametrize("both", [0, 50])
def test_all_right_or_all_wrong_is_not_certain(both: int) -> None:
    comparison = binary(50 - both, 0, 0, both)
    candidate = comparison.candidate()
    assert candidate.high - candidate.low == pytest.approx(1 - 0.05 ** (1 / 50))
    assert verdict(comparison, "at_least", 1, 0)[0] == "inconclusive"
    assert verdict(comparison, "at_least", 1, -0.07)[0] == "met"
    assert math.isfinite(comparison.ratio().value)


def test_every_bound_holds_where_all_flip() -> None:
    lost = binary(0, 0, 40, 0)
    assert (lost.margin(1, 0).low, lost.margin(1, 0).value) == (-1, -1)
    assert -1 < lost.margin(1, 0).high < -0.85
    assert lost.ratio().low == 0 < lost.ratio().high < 0.1
    gained = binary(0, 40, 0, 0)
    assert (gained.margin(1, 0).high, gained.ratio().high) == (1, math.inf)


@given(
    st.tuples(*[st.integers(0, 60)] * 4).filter(any),
    st.floats(0.5, 1.5),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_bounds_contain_the_value_and_mirror(cells: tuple[int, ...], factor: float, confidence: float) -> None:
    comparison = binary(*cells)
    margin = comparison.margin(factor, 0.01, confidence)
    assert -factor - 0.01 - 1e-9 <= margin.low <= margin.value + 1e-9
    assert margin.value - 1e-9 <= margin.high <= 1 - 0.01 + 1e-9
    swapped = binary(cells[0], cells[2], cells[1], cells[3])
    assert swapped.margin(1, 0, confidence).low == pytest.approx(-comparison.margin(1, 0, confidence).high, abs=1e-9)
    wider = comparison.margin(factor, 0.01, 0.995)
    assert wider.low <= margin.low + 1e-9 and wider.high >= margin.high - 1e-9


@given(st.tuples(*[st.integers(1, 200)] * 4))
def test_ratio_is_the_factor_whose_margin_reaches_zero(cells: tuple[int, ...]) -> None:
    ratio = binary(*cells).ratio()
    assert binary(*cells).margin(ratio.low, 0).low == pytest.approx(0, abs=1e-7)
    assert binary(*cells).margin(ratio.high, 0).high == pytest.approx(0, abs=1e-7)
    assert ratio.low < ratio.value < ratio.high


def test_a_limit_truly_broken_is_found_broken_and_a_kept_one_met() -> None:
    broken = drawn([0.08, 0.005, 0.035, 0.88], 2000, 300, 0.99)  # three points lost where one is allowed
    assert (broken[:, 1] < 0).mean() > 0.95
    kept = drawn(cells_of(0.9, 0.005), 2000, 300, 0.99)
    assert (kept[:, 0] >= 0).mean() > 0.95
    assert (kept[:, 1] < 0).mean() == 0


# --- bootstrap ----------------------------------------------------------------------------------------------------


def test_samples_cover_the_mean_of_skewed_paired_scores() -> None:
    rng = RNG(1)
    kept = [0, 0]
    for repeat in range(200):
        original = rng.exponential(size=200)
        candidate = original + rng.exponential(size=200) * 0.1 - 0.1
        margin = Samples(original, candidate, seed=repeat).margin(1, 0)
        kept[0] += margin.low <= 0
        kept[1] += margin.high >= 0
    assert min(kept) / 200 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 200) - 0.01


def test_samples_of_few_groups_cover_where_samples_alone_would_not() -> None:
    rng = RNG(2)
    groups = np.repeat(np.arange(6), 30)
    kept, naive = 0, 0
    for repeat in range(200):
        noise = np.repeat(rng.normal(size=6), 30) + 0.1 * rng.normal(size=180)
        kept += Samples(np.zeros(180), noise, groups, seed=repeat).margin(1, 0).low <= 0
        naive += Samples(np.zeros(180), noise, seed=repeat).margin(1, 0).low <= 0
    assert kept / 200 >= 0.93
    assert naive / 200 < 0.75


@pytest.mark.parametrize("groups", [None, 5000, 40])
def test_large_sets_give_the_normal_spread(groups: int | None) -> None:
    rng = RNG(3)
    original = rng.normal(size=50_000)
    candidate = original + 0.1 * rng.normal(size=50_000)
    comparison = Samples(original, candidate, None if groups is None else rng.integers(0, groups, 50_000))
    half = 1.645 * (candidate - original).std() / math.sqrt(50_000)
    margin = comparison.margin(1, 0)
    # with 40 groups only the spread of 40 sums is seen
    assert margin.high - margin.low == pytest.approx(2 * half, rel=0.1 if groups != 40 else 0.35)
    assert comparison.n == 50_000


def test_many_samples_are_merged_by_the_seed_alone() -> None:
    scores = RNG(4).random((2, 3000))
    first, again, other = (Samples(scores[0], scores[1], seed=seed).margin(0.9, 0) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (first.low, first.high) == pytest.approx((other.low, other.high), rel=0.1)


def test_ratios_of_sums_and_transforms() -> None:
    rng = RNG(5)
    errors, lengths = rng.poisson(1, (2, 500)), rng.integers(5, 20, 500)
    rates = Samples(errors[0], errors[1], weights_original=lengths, weights_candidate=lengths)
    assert rates.candidate().value == pytest.approx(errors[1].sum() / lengths.sum())
    perplexity = Samples(errors[0] * 0.1, errors[1] * 0.1, transform=np.exp)
    assert perplexity.original().value == pytest.approx(math.exp(errors[0].mean() * 0.1))
    assert perplexity.original().low < perplexity.original().value < perplexity.original().high
    same = Samples(errors[0], errors[0], weights_original=lengths, weights_candidate=lengths)
    assert verdict(same, "at_most", 1, 0)[0] == "met"


def test_grouped_hits_without_a_flip_leave_three_in_the_number_of_groups() -> None:
    hits = RNG(6).random(200) < 0.9
    comparison = Samples(hits, hits, np.repeat(np.arange(20), 10), bounds=(0, 1))
    rare = 1 - 0.05 ** (1 / 20)
    for factor in (1.0, 0.99):
        margin = comparison.margin(factor, 0)
        assert margin.low == pytest.approx((1 - rare) * (1 - factor) * hits.mean() - rare * factor)
    assert comparison.ratio().low < 1 < comparison.ratio().high
    ones = Samples(np.ones(200), np.ones(200), np.repeat(np.arange(20), 10), bounds=(0, 1))
    assert ones.candidate() == Interval(1, pytest.approx(1 - rare), 1)
    assert ones.margin(0, 0.5).low == pytest.approx(0.5 - rare)


def test_grouped_hits_that_were_only_won_leave_room_for_unseen_losses() -> None:
    original = np.r_[np.zeros(2), np.ones(38)]
    comparison = Samples(original, np.ones(40), np.arange(40) // 2, bounds=(0, 1))
    rare = 1 - 0.05 ** (1 / 20)
    assert comparison.margin(1, 0).low <= (1 - rare) * 0.05 - rare
    assert comparison.margin(1, 0).high < 0.25


def test_edits_on_which_all_agree_leave_three_in_the_number_of_lines() -> None:
    edits, lengths = np.r_[np.zeros(80), np.full(20, 4.0)], np.full(100, 10)

    def compared(*edits: np.ndarray) -> Samples:
        bounds = bounds_of_counts(*((one, lengths) for one in edits))
        return Samples(*edits, None, lengths, lengths, bounds=bounds)

    comparison = compared(edits, edits)
    rare = 1 - 0.05 ** (1 / 100)
    assert comparison.margin(1, 0) == Interval(0, pytest.approx(-rare * 0.4), pytest.approx(rare * 0.4))
    perfect = compared(np.zeros(100), np.zeros(100))
    assert perfect.margin(1, 0).high == pytest.approx(rare)
    assert bounds_of_counts((edits + 0.5, None)) is None
    assert Samples(edits + 0.5, edits + 0.5).margin(1, 0) == Interval(0, 0, 0), (
        "what is measured agrees to the last bit for a reason"
    )


def test_where_few_change_one_more_may_change_as_much() -> None:
    better = np.r_[np.full(10, -2), np.zeros(90)]
    lines = Samples(np.full(100, 5.5), 5.5 + better)
    assert lines.margin(1, 0).high > lines.margin(1, 0).value + 1.645 * better.std() / 10
    everywhere = RNG(8).exponential(size=100)
    assert Samples(np.zeros(100), -everywhere).margin(1, 0).low < -everywhere.mean() - 1.645 * everywhere.std() / 10


def test_ratios_stay_above_zero_and_mirror() -> None:
    losses = RNG(9).exponential(size=(2, 40)) ** 3
    ratio, mirrored = Samples(*losses).ratio(), Samples(*losses[::-1]).ratio()
    assert 0 < ratio.low < ratio.value < ratio.high
    assert (1 / mirrored.high, 1 / mirrored.low) == pytest.approx((ratio.low, ratio.high))
    assert Samples(-losses[0], losses[1]).ratio().high == math.inf


def test_one_group_proves_nothing() -> None:
    scores = RNG(7).random(50)
    comparison = Samples(scores, scores + 0.1, np.zeros(50))
    assert (comparison.margin(1, 0).low, comparison.margin(1, 0).high) == (-math.inf, math.inf)
    assert verdict(comparison, "at_least", 1, 0)[0] == "inconclusive"
    assert samples_needed(comparison, "at_least", 1, 0) is None


def test_statistic_is_paired_and_scales_beyond_the_units_it_draws() -> None:
    rng = RNG(8)
    labels = rng.normal(size=8000)
    original = labels + rng.normal(size=8000)
    candidate = original + 0.05 * rng.normal(size=8000)

    def correlation(values: np.ndarray, truth: np.ndarray) -> float:
        return float(np.corrcoef(values, truth)[0, 1])

    comparison = Statistic(correlation, original, candidate, labels)
    alone, paired = comparison.original(), comparison.margin(1, 0)
    r = alone.value
    assert alone.high - alone.low == pytest.approx(2 * 1.645 * (1 - r**2) / math.sqrt(8000), rel=0.2)
    assert paired.high - paired.low < (alone.high - alone.low) / 4
    grouped = Statistic(correlation, original, candidate, labels, np.arange(8000) // 100)
    assert grouped.original().high - grouped.original().low == pytest.approx(alone.high - alone.low, rel=0.4)


def test_statistic_that_is_mostly_undefined_has_no_bounds() -> None:
    comparison = Statistic(lambda x, y: float("nan") if 0 not in x else 1.0, np.arange(30), np.arange(30), None)
    undefined = Statistic(lambda x, y: float("nan"), np.arange(30), np.arange(30), None)
    assert math.isfinite(comparison.original().low)
    assert undefined.margin(1, 0).low == -math.inf
    assert verdict(undefined, "at_least", 1, 0)[0] == "inconclusive"


def test_comparisons_survive_pickling() -> None:
    for comparison in (binary(1, 2, 3, 40), Samples(np.arange(9.0), np.arange(9.0) ** 2), Exact(4, 2)):
        assert pickle.loads(pickle.dumps(comparison)).margin(0.9, 0) == comparison.margin(0.9, 0)


# --- timing -------------------------------------------------------------------------------------------------------


def timing(rng: np.random.Generator, scale: float, drift: np.ndarray, runs: int = 200) -> list[list[np.ndarray]]:
    return [[scale * factor * rng.lognormal(0, 0.2, runs) for factor in pair] for pair in drift]


@pytest.mark.parametrize("statistic", ["p50", "p95", "p99", "mean"])
def test_timing_ratio_sees_through_the_noise_that_both_share(statistic: str) -> None:
    rng = RNG(9)
    drift = rng.lognormal(0, 0.3, (6, 5))
    comparison = bootstrap_timing(timing(rng, 2e-3, drift), timing(rng, 1e-3, drift), statistic, seed=0)
    ratio, own = comparison.ratio(), comparison.candidate()
    assert ratio.low < 0.5 * 1.05 and ratio.high > 0.5 * 0.95
    assert (ratio.high - ratio.low) / ratio.value < (own.high - own.low) / own.value
    assert verdict(comparison, "at_most", 0.7, 0)[0] == "met"
    assert verdict(comparison, "at_most", 0.4, 0)[0] == "broken"
    assert comparison.n == 6000


def test_timing_quantiles_are_those_of_the_pooled_runs() -> None:
    rng = RNG(10)
    runs = [[rng.lognormal(size=rng.integers(50, 400)) for _ in range(blocks)] for blocks in (3, 7, 5)]
    pooled = np.concatenate([block for pair in runs for block in pair])
    for share in (50, 95, 99):
        found = bootstrap_timing(runs, runs, f"p{share}", seed=0)
        assert found.original().value == np.quantile(pooled, share / 100, method="inverted_cdf")
        assert found.original().low < found.original().value < found.original().high
        assert found.ratio() == Interval(1, 1, 1)
    assert bootstrap_timing(runs, runs, "mean", seed=0).original().value == pytest.approx(pooled.mean())
    one = bootstrap_timing([[np.array([1.0, 2.0])]], [[np.array([2.0, 4.0])]], "p50", seed=0)
    assert one.ratio() == Interval(2, 0, np.inf), "one pair of processes tells nothing of how they differ"


def test_a_against_a_is_seldom_called_faster() -> None:
    rng = RNG(11)
    called = 0
    for repeat in range(100):
        drift = rng.lognormal(0, 0.2, (5, 8))
        comparison = bootstrap_timing(timing(rng, 1, drift, 20), timing(rng, 1, drift, 20), "p50", repeat)
        called += comparison.ratio().high < 1
    assert called / 100 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_verdicts_of_exact_numbers() -> None:
    size = Exact(100, 40)
    assert verdict(size, "at_most", 0.4, 0) == ("met", Interval(0, 0, 0))
    assert verdict(size, "at_most", 0, 39)[0] == "broken"
    assert verdict(size, "at_least", 0, 40)[0] == "met"
    assert (size.n, size.ratio().value) == (1, 0.4)
    assert samples_needed(size, "at_most", 0.5, 0) == 1


def test_bounds_of_times_stay_above_zero_however_they_vary() -> None:
    ours, theirs = ([[np.array([base * k])] for k in (1.0, 9.0)] for base in (1e-3, 4e-4))
    found = bootstrap_timing(ours, theirs, "p50", seed=0)
    for interval in (found.original(), found.candidate(), found.ratio()):
        assert 0 < interval.low <= interval.value <= interval.high
    assert bootstrap_timing(ours[:1], theirs[:1], "p50", seed=0).ratio().low == 0


def test_memory_like_replicates_are_bounded_by_what_was_seen() -> None:
    comparison = Replicates(100, 50, np.repeat([90.0, 100, 120], 3), np.tile([50.0, 49, 60], 3), 3)
    assert comparison.original() == Interval(100, 90, 120)
    assert comparison.ratio() == Interval(0.5, 49 / 120, 60 / 90)
    assert comparison.margin(0.5, 0) == Interval(0, 49 - 60, 60 - 45)


def test_the_number_of_samples_named_decides() -> None:
    few = binary(8, 1, 1, 90)
    assert verdict(few, "at_least", 0.99, 0)[0] == "inconclusive"
    needed = samples_needed(few, "at_least", 0.99, 0)
    assert needed is not None
    times = math.ceil(needed / few.n)
    assert verdict(binary(*(times * count for count in few.cells)), "at_least", 0.99, 0)[0] == "met"
    assert times < 25
    assert samples_needed(binary(5, 1, 1, 5), "at_least", 1, 0) is None


@given(st.tuples(*[st.integers(0, 60)] * 4), st.sampled_from([0.95, 0.99, 1.0, 1.01]), st.booleans())
def test_an_open_limit_needs_more_samples_than_there_are(cells: tuple[int, ...], factor: float, least: bool) -> None:
    comparison, side = binary(*cells[:3], cells[3] + 1), "at_least" if least else "at_most"
    needed = samples_needed(comparison, side, factor, 0)
    if verdict(comparison, side, factor, 0)[0] == "inconclusive" and needed is not None:
        assert needed > comparison.n


def test_an_open_limit_whose_bound_lies_at_zero_needs_one_more() -> None:
    at_zero = Replicates(1.0, 0.9, np.full(9, 1.0), np.linspace(0.8, 1.0, 9), 9)
    assert at_zero.margin(1, 0, 1.0).high == 0
    assert samples_needed(at_zero, "at_least", 1, 0, 1.0) == 10


def test_power_is_as_told() -> None:
    drop = detectable_drop(1000, 0.02)
    proven = drawn(cells_of(0.9, 0.02), 1000, 1000, 1.0)[:, 0] >= -drop
    assert proven.mean() == pytest.approx(0.8, abs=0.06)
    assert detectable_drop(1000, 0) == pytest.approx(3 / 1000, rel=0.01)
    assert detectable_drop(100, 0.02) > drop


@given(st.lists(st.sampled_from([-np.inf, -1.5, 0.0, 1e-300, 2.0, 3.0, np.inf]) | st.floats(allow_nan=True)))
def test_ranks_are_those_of_scipy(values: list[float]) -> None:
    np.testing.assert_array_equal(midranks(np.array(values)), scipy.stats.rankdata(np.array(values)))
