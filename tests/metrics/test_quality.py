"""Quality metrics against scikit-learn and SciPy, on random data and on bad data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics as reference

from strop import metrics
from strop._delong import DeLong
from strop.errors import InvalidData, InvalidGoal
from strop.samples import Samples
from strop.stats import Binary, Statistic, verdict

N = 240
RNG = np.random.default_rng


def classifier(classes: int, seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of an original, of a candidate near it, and labels that both often get right."""
    rng = RNG(seed)
    labels = rng.integers(0, classes, N)
    original = rng.normal(size=(N, classes)) + 1.5 * np.eye(classes)[labels]
    candidate = original + noise * rng.normal(size=(N, classes))
    return original.astype("float32"), candidate.astype("float32"), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.special.softmax(logits, axis=1), "float32")


def normalized(p: np.ndarray) -> np.ndarray:
    double = p.astype("float64")
    return np.asarray(double / double.sum(1, keepdims=True))


def macro(score: Callable[..., float]) -> Callable[..., float]:
    return lambda labels, p: float(np.mean([score(labels == k, p[:, k]) for k in range(p.shape[1])]))


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, p: reference.accuracy_score(labels, p.argmax(1)),
    "top_3": lambda labels, p: reference.top_k_accuracy_score(labels, p, k=3),
    "f1": lambda labels, p: reference.f1_score(labels, p.argmax(1), average="macro"),
    "auroc": lambda labels, p: reference.roc_auc_score(labels, normalized(p), multi_class="ovr", average="macro"),
    "average_precision": macro(reference.average_precision_score),
    "log_loss": lambda labels, p: reference.log_loss(labels, normalized(p)),
    "perplexity": lambda labels, p: math.exp(reference.log_loss(labels, normalized(p))),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_many_classes_as_scikit_learn_has_them(name: str, probe: Any) -> None:
    original, candidate, labels = classifier(6)
    sides = softmax(original), softmax(candidate)
    metric = metrics.find(name)
    metric.check({"y": sides[0]}, labels)
    found = metric.measure(probe(*sides, labels))
    for interval, p in zip((found.original(), found.candidate()), sides, strict=True):
        assert interval.value == pytest.approx(REFERENCES[name](labels, p), rel=1e-5)
        assert interval.low < interval.value < interval.high
    assert found.n == N
    if name in ("accuracy", "top_3", "log_loss", "perplexity", "f1"):
        logits = metric.measure(probe(original, candidate, labels))
        assert logits.candidate().value == pytest.approx(found.candidate().value, rel=1e-5)


BINARY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, p: reference.accuracy_score(labels, p > 0.5),
    "f1": lambda labels, p: reference.f1_score(labels, p > 0.5),
    "auroc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "log_loss": lambda labels, p: reference.log_loss(labels, p.astype("float64")),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("form", ["[n]", "[n, 1]", "[n, 2]", "logits [n]", "logits [n, 2]", "label and probabilities"])
def test_two_classes_in_every_form(name: str, form: str, probe: Any) -> None:
    original, _, labels = classifier(2)
    logits = (original[:, 1] - original[:, 0]).astype("float64").round(2)  # with ties
    p = 1 / (1 + np.exp(-logits))
    outputs = {
        "[n]": {"y": p},
        "[n, 1]": {"y": p[:, None]},
        "[n, 2]": {"y": np.stack([1 - p, p], 1)},
        "logits [n]": {"y": logits},
        "logits [n, 2]": {"y": np.stack([-logits / 2, logits / 2], 1)},
        "label and probabilities": {"label": (p > 0.5).astype("int64"), "p": np.stack([1 - p, p], 1)},
    }[form]
    metric = metrics.find(name)
    metric.check(outputs, labels)
    found = metric.measure(probe(outputs, outputs, labels))
    assert found.original().value == pytest.approx(BINARY[name](labels, p), rel=1e-6)
    assert found.ratio().value == 1
    assert found.ratio().low < 1 < found.ratio().high or name == "log_loss"


REGRESSIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mse": reference.mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
    "spearman": lambda labels, y: float(scipy.stats.spearmanr(labels.ravel(), y.ravel())[0]),
}


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 3)])
def test_numbers_as_scikit_learn_has_them(name: str, shape: tuple[int, ...], probe: Any) -> None:
    rng = RNG(1)
    labels = rng.normal(size=shape)
    original = labels + 0.5 * rng.normal(size=shape)
    candidate = (original + 0.1 * rng.normal(size=shape)).astype("float32")
    metric = metrics.find(name)
    metric.check({"y": original}, labels)
    found = metric.measure(probe(original, candidate, labels.reshape(N) if shape == (N, 1) else labels))
    for interval, values in ((found.original(), original), (found.candidate(), candidate)):
        assert interval.value == pytest.approx(REGRESSIONS[name](labels, values), rel=1e-5)
        assert interval.low < interval.value < interval.high


def test_the_kind_of_comparison_follows_the_scores(probe: Any) -> None:
    original, candidate, labels = classifier(4)
    groups = np.arange(N) // 4
    free, grouped = probe(original, candidate, labels), probe(original, candidate, labels, groups=groups)
    assert isinstance(metrics.find("accuracy").measure(free), Binary)
    assert isinstance(metrics.find("accuracy").measure(grouped), Samples)
    assert isinstance(metrics.find("agreement").measure(free), Binary)
    assert isinstance(metrics.find("log_loss").measure(free), Samples)
    assert isinstance(metrics.find("f1").measure(grouped), Statistic)


@pytest.mark.parametrize("name", ["accuracy", "f1", "auroc", "average_precision", "log_loss", "perplexity", "top_2"])
def test_differences_are_paired(name: str, probe: Any) -> None:
    original, candidate, labels = classifier(4, noise=0.05)
    metric = metrics.find(name)
    found = metric.measure(probe(original, candidate, labels))
    own, paired = found.candidate(), found.margin(1, 0)
    assert paired.high - paired.low < (own.high - own.low) / 2
    worse = metric.measure(probe(original, RNG(2).normal(size=original.shape), labels))
    side, factor = ("at_least", 0.9) if metric.better == "higher" else ("at_most", 1.1)
    assert verdict(worse, side, factor, 0)[0] == "broken"
    assert verdict(found, side, 0.8 if factor < 1 else 1.2, 0)[0] == "met"


def test_delongs_variance(probe: Any) -> None:
    original, candidate, labels = classifier(2, noise=0.6)
    sides = [softmax(side)[:, 1] for side in (original, candidate)]
    found = metrics.find("auroc").measure(probe(sides[0], sides[1], labels)).margin(1, 0)
    components = []
    for score in sides:  # DeLong et al. 1988, by their definition
        wins = np.heaviside(score[labels == 1][:, None] - score[labels == 0][None, :], 0.5)
        components.append((wins.mean(1), wins.mean(0)))
    variance = sum(np.var(b - a, ddof=1) / len(a) for a, b in zip(*components, strict=True))
    assert (found.high - found.low) / 2 == pytest.approx(1.645 * math.sqrt(variance), rel=0.08)


def test_delong_of_ties_classes_and_groups(probe: Any) -> None:
    original, candidate, labels = classifier(4, noise=0.5)
    sides = [softmax(side).round(1) for side in (original, candidate)]  # with many ties
    auroc = metrics.find("auroc")
    found = auroc.measure(probe(sides[0], sides[1], labels))
    alone = auroc.measure(probe(sides[0], sides[1], labels, groups=np.arange(N)))
    assert isinstance(found, DeLong) and isinstance(alone, Samples)
    for ours, theirs in ((found.margin(1, 0), alone.margin(1, 0)), (found.original(), alone.original())):
        assert ours.value == pytest.approx(theirs.value)
        assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.15)
    ratio = found.ratio()
    assert ratio.low < ratio.value < ratio.high
    assert found.margin(ratio.low, 0).low == pytest.approx(0, abs=1e-9)
    assert found.margin(ratio.high, 0).high == pytest.approx(0, abs=1e-9)
    assert found.margin(0, 0.5).low == pytest.approx(found.candidate().low - 0.5)


def test_one_sample_of_a_class_says_little(probe: Any) -> None:
    labels = (np.arange(50) == 7).astype(int)
    scores = RNG(9).random(50)
    found = metrics.find("auroc").measure(probe(scores, scores + 0.1 * RNG(10).random(50), labels))
    margin = found.margin(1, 0)
    assert margin.low < -0.9 and margin.high > 0.9
    assert found.candidate().high - found.candidate().low > 0.9
    same = metrics.find("auroc").measure(probe(scores, scores, labels)).margin(1, 0)
    assert (same.low, same.high) == (-0.95, 0.95)


def test_perfect_separation_is_not_certain(probe: Any) -> None:
    labels = np.arange(60) % 2
    found = metrics.find("auroc").measure(probe(labels * 0.8 + 0.1, labels * 0.7 + 0.1, labels))
    assert found.candidate().value == 1
    assert found.margin(1, 0).low == pytest.approx(-(1 - 0.05 ** (1 / 30)))


def test_slices_are_judged_by_their_rows(probe: Any) -> None:
    original, candidate, labels = classifier(3)
    rows = np.flatnonzero(labels != 1)
    for name in ("accuracy", "f1", "auroc", "average_precision", "log_loss", "perplexity", "agreement", "fidelity"):
        metric = metrics.find(name)
        part = metric.measure(probe(original, candidate, labels), rows)
        alone = metric.measure(probe(original[rows], candidate[rows], labels[rows]))
        assert part.n == len(rows)
        assert part.margin(0.9, 0) == alone.margin(0.9, 0)
    one_class = metrics.find("auroc").measure(probe(original, candidate, labels), np.flatnonzero(labels == 0))
    assert one_class.n == (labels == 0).sum()
    with pytest.raises(InvalidData, match="at least one sample"):
        metrics.find("accuracy").measure(probe(original, candidate, labels), np.array([], "int64"))


def test_a_slice_of_one_class_has_no_auroc(probe: Any) -> None:
    original, candidate, labels = classifier(2)
    for name in ("auroc", "average_precision"):
        found = metrics.find(name).measure(probe(original, candidate, labels), np.flatnonzero(labels == 0))
        assert math.isnan(found.candidate().value)
        assert verdict(found, "at_least", 0.5, 0)[0] == "inconclusive"


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", ["accuracy", "f1", "auroc", "average_precision", "log_loss"])
def test_a_slice_of_one_class_is_right_or_undefined(name: str, label: int, probe: Any) -> None:
    p = RNG(7).random((2, 200))
    metric = metrics.find(name)
    found = metric.measure(probe(p[0], p[1], np.full(200, label)))
    value = {
        "accuracy": np.mean((p[1] > 0.5) == label),
        "f1": reference.f1_score(np.full(200, label), p[1] > 0.5, zero_division=0),
        "auroc": math.nan,
        "average_precision": [math.nan, 1.0][label],
        "log_loss": -np.log(p[1] if label else 1 - p[1]).mean(),
    }[name]
    assert found.candidate().value == pytest.approx(value, nan_ok=True)
    if math.isnan(value):
        assert (found.margin(0.5, 0).low, found.margin(0.5, 0).high) == (-math.inf, math.inf)
        assert math.isnan(found.ratio().value)


@pytest.mark.parametrize(
    ("name", "value"), [("accuracy", 0.75), ("f1", 0), ("auroc", 0.5), ("average_precision", 0.25), ("spearman", 0)]
)
def test_constant_predictions(name: str, value: float, probe: Any) -> None:
    labels = (np.arange(200) % 4 == 0).astype(int)
    constant = np.full(200, 0.2)
    found = metrics.find(name).measure(probe(constant, constant, labels))
    assert found.candidate().value == pytest.approx(value)
    if name != "spearman":  # a change that no sample shows may yet come
        assert verdict(found, "at_least", 1, 0)[0] == "inconclusive"
        assert found.candidate().low <= value < found.candidate().high
    useful = metrics.find(name).measure(probe(constant + 0.7 * labels, constant, labels))
    assert verdict(useful, "at_least", 0.99, 0)[0] == "broken"


def test_a_ratio_to_something_negative_is_unknown(probe: Any) -> None:
    labels = RNG(8).normal(size=200)
    found = metrics.find("r2").measure(probe(-labels, -0.9 * labels, labels))
    assert found.original().value < found.candidate().value < 0
    assert math.isnan(found.ratio().value)
    assert verdict(found, "at_least", 1, 0)[0] == "met"


def test_auroc_of_an_original_that_ranks_all_wrong(probe: Any) -> None:
    labels = np.arange(100) % 2
    found = metrics.find("auroc").measure(probe(1.0 - labels, 1.0 - labels, labels))
    assert (found.original().value, found.original().low) == (0, 0)
    assert found.original().high == pytest.approx(1 - 0.05 ** (1 / 50))
    assert math.isnan(found.ratio().value)
    assert verdict(found, "at_least", 0.99, 0)[0] == "inconclusive"


def test_sequences_are_flattened_and_stay_together(probe: Any) -> None:
    rng = RNG(3)
    labels = rng.integers(0, 3, (20, 12))
    logits = rng.normal(size=(20, 12, 3)) + 2 * np.eye(3)[labels]
    found = metrics.find("accuracy").measure(probe(logits, logits, labels))
    assert isinstance(found, Samples)
    assert found.original().value == pytest.approx((logits.argmax(-1) == labels).mean())
    assert found.margin(1, 0).low == pytest.approx(-(1 - 0.05 ** (1 / 20)))
    speech = rng.random((20, 12, 1)).astype("float32")
    truth = (speech[..., 0] + 0.3 * rng.random((20, 12)) > 0.6).astype("int64")
    auroc = metrics.find("auroc").measure(probe(speech, speech, truth))
    assert auroc.original().value == pytest.approx(reference.roc_auc_score(truth.ravel(), speech.ravel()))
    maps = np.moveaxis(logits.reshape(20, 4, 3, 3), -1, 1)
    assert metrics.find("accuracy").measure(
        probe(maps, maps, labels.reshape(20, 4, 3))
    ).original().value == pytest.approx((logits.argmax(-1) == labels).mean())


@pytest.mark.parametrize("name", ["accuracy", "top_2", "f1", "auroc", "average_precision", "agreement", "fidelity"])
def test_nan_scores_worst(name: str, probe: Any) -> None:
    original, candidate, labels = classifier(4)
    worst = candidate.copy()
    worst[::3, 1] = np.nan
    metric = metrics.find(name)
    clean, broken = (metric.measure(probe(original, side, labels)) for side in (candidate, worst))
    assert broken.candidate().value < clean.candidate().value - 0.1
    assert math.isfinite(broken.margin(1, 0).low)
    all_lost = metric.measure(probe(original, np.full_like(candidate, np.nan), labels))
    assert all_lost.candidate().value <= {"average_precision": 0.3}.get(name, 0)


@pytest.mark.parametrize("name", ["log_loss", "perplexity", "mse", "mae", "r2", "spearman"])
def test_nan_without_a_worst_score_is_named(name: str, probe: Any) -> None:
    labels = RNG(4).integers(0, 2, 50)
    original = RNG(4).random(50)
    candidate = original.copy()
    candidate[[7, 9]] = np.nan
    with pytest.raises(InvalidData, match=r"the candidate gives them in 2 of 50 rows, the first being row 7"):
        metrics.find(name).measure(probe(original, candidate, labels))


def test_agreement(probe: Any) -> None:
    original, candidate, _ = classifier(5)
    agreement = metrics.find("agreement")
    found = agreement.measure(probe(original, candidate))
    assert found.candidate().value == (original.argmax(1) == candidate.argmax(1)).mean()
    assert found.original().value == 1
    for one, other, same in (
        ([0.9, 0.4, 0.6], [0.6, 0.6, 0.7], 2 / 3),
        ([[3.0], [-1.0]], [[0.2], [0.4]], 1 / 2),
        ([1, 2, 3], [1, 2, 4], 2 / 3),
        (["cat", "dog"], ["cat", "cat"], 1 / 2),
    ):
        assert agreement.measure(probe(one, other)).candidate().value == pytest.approx(same)
    steps = RNG(5).random((30, 7, 4))
    assert isinstance(agreement.measure(probe(steps, steps)), Samples)


def test_fidelity(probe: Any) -> None:
    fidelity = metrics.find("fidelity")
    rng = RNG(6)
    original, candidate = rng.normal(size=(2, 30, 4, 5))
    found = fidelity.measure(probe(original, candidate))
    flat = original.reshape(30, -1), candidate.reshape(30, -1)
    cosine = (flat[0] * flat[1]).sum(1) / np.linalg.norm(flat[0], axis=1) / np.linalg.norm(flat[1], axis=1)
    assert found.candidate().value == pytest.approx(cosine.mean())
    ids = np.arange(30)
    two = fidelity.measure(
        probe({"ids": ids, "a": original, "b": original}, {"ids": ids[::-1], "a": original, "b": candidate})
    )
    assert two.candidate().value == pytest.approx(np.minimum(cosine, 1).mean())
    zeros = np.zeros((4, 3))
    assert fidelity.measure(probe(zeros, zeros)).candidate().value == 1
    assert fidelity.measure(probe(zeros, zeros + 1)).candidate().value == 0
    assert fidelity.measure(probe(original, 3 * original)).candidate().value == pytest.approx(1)
    masked = original.copy()
    masked[:, 0] = -np.inf
    same = fidelity.measure(probe(masked, masked.copy()))
    assert same.margin(0.99, 0).low == pytest.approx(0.01)
    huge = (1e30 * original).astype("float32")
    assert fidelity.measure(probe(huge, huge * 0.5)).candidate().value == pytest.approx(1)


def test_lower_is_better_is_known() -> None:
    ways = metrics.better()
    assert {name for name, way in ways.items() if way == "lower"} == {
        "log_loss", "perplexity", "mse", "mae", "size", "size.compressed", "memory",
        "latency.p50", "latency.p95", "latency.p99", "latency.mean", "server.p99",
        "cost", "energy", "power",
    }  # fmt: skip
    assert set(ways) == set(metrics.units()) == {metric.name for metric in metrics.METRICS}
    assert metrics.units()["throughput"] == "1/s"


BAD: dict[str, tuple[str, Any, Any, str]] = {
    "no labels": ("accuracy", np.ones((4, 3)), None, "needs labels"),
    "lengths": ("accuracy", np.ones((4, 3)), [0, 1, 2], "3 labels for 4 outputs"),
    "floats": ("accuracy", np.ones((4, 3)), [0.0, 1.0, 2.0, 0.0], "integer labels"),
    "text": ("accuracy", np.ones((4, 3)), ["a", "b", "c", "a"], "does not tell what these are called"),
    "too great": ("accuracy", np.ones((4, 3)), [0, 1, 3, 0], "from 0 to 2.*label 3 of row 2"),
    "negative": ("log_loss", np.ones((4, 3)), [0, -1, 1, 0], "label -1 of row 1"),
    "one column": ("auroc", np.linspace(0, 1, 4), [0, 1, 2, 0], "from 0 to 1"),
    "shapes": ("accuracy", np.ones((4, 3, 2)), [0, 1, 1, 0], "labels' shape"),
    "one class": ("auroc", np.ones((4, 3)), [1, 1, 1, 1], "at least two classes, and all are 1"),
    "one class ap": ("average_precision", np.ones(4), [0, 0, 0, 0], "at least two classes"),
    "hard": ("auroc", np.array([0, 1, 1, 0]), [0, 1, 1, 0], "only the predicted class"),
    "few classes": ("top_5", np.ones((4, 3)), [0, 1, 2, 0], "more than 5 classes"),
    "words": ("f1", np.array(["a", "b", "a", "b"]), [0, 1, 1, 0], "needs numbers"),
    "regression shape": ("mse", np.ones((4, 3)), np.ones(4), "labels of the output's shape"),
    "regression text": ("mse", np.ones(4), ["a", "b", "c", "a"], "needs numbers"),
    "regression NaN": ("mae", np.ones(4), [1, 2, np.nan, 3], "1 of 4 are NaN, the first in row 2"),
    "missing label": ("accuracy", np.ones((4, 3)), [0, np.nan, 2, np.nan], "2 of 4 are NaN, the first in row 1"),
    "constant": ("r2", np.linspace(0, 1, 4), np.ones(4), "labels that differ"),
    "constant ranks": ("spearman", np.linspace(0, 1, 4), np.ones(4), "labels that differ"),
    "nothing of floats": ("fidelity", np.arange(4), None, "output of floats"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_judged_is_refused_before_the_search(case: str) -> None:
    name, outputs, labels, said = BAD[case]
    with pytest.raises(InvalidData, match=said):
        metrics.find(name).check({"y": np.asarray(outputs)}, None if labels is None else np.asarray(labels))


def test_outputs_of_another_shape_are_refused(probe: Any) -> None:
    with pytest.raises(InvalidData, match=r"\(4, 3\) and \(4, 2\)"):
        metrics.find("accuracy").measure(probe(np.ones((4, 3)), np.ones((4, 2)), [0, 1, 1, 0]))


def test_unknown_metrics_are_answered_with_the_nearest() -> None:
    assert metrics.find("top_5").name == "top_5"
    with pytest.raises(InvalidGoal, match="Did you mean accuracy"):
        metrics.find("acuracy")
    with pytest.raises(InvalidGoal, match=r"latency\.p95"):
        metrics.find("latency")


@pytest.mark.parametrize(
    ("outputs", "labels", "name"),
    [
        (np.ones((4, 3)), [0, 1, 2, 0], "accuracy"),
        (np.ones(4), [0, 1, 1, 0], "accuracy"),
        (np.arange(4), [0, 1, 2, 3], "accuracy"),
        (np.ones(4), [0, 1, 17, 3], "mse"),
        (np.ones(4), [0.5, 1.5, 2, 3], "mse"),
        (np.ones((4, 3)), [True, False, True, False], "accuracy"),
        (np.ones((4, 3)), None, "fidelity"),
        (np.arange(4), None, "agreement"),
    ],
)
def test_default_quality(outputs: np.ndarray, labels: Any, name: str) -> None:
    assert metrics.default_quality({"y": outputs}, None if labels is None else np.array(labels)) == name
