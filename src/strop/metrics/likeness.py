"""Metrics without labels: how like the original's the candidate's outputs are. The original itself scores 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidData
from ..metric import Metric, Outputs, Probe, Scores
from ..samples import Samples
from ..stats import Comparison
from .decisions import are_probabilities, decisions, predicted
from .quality import Case, compare, scores, select

Array = np.ndarray[Any, Any]


class Agreement(Metric):
    """Share of decisions in which the candidate's class is the original's.

    The class is the greatest of the last axis; of a single column the side of 0.5 (probabilities) or 0 (logits); of
    integers the value itself. Earlier axes are steps of one sample, which stay together. NaN agrees with nothing.
    """

    name = "agreement"
    meaning = "the share of samples whose class is the original's"
    share = True
    better = "higher"
    rank = 11
    of_classes = True

    def check(self, outputs: Outputs, labels: Array | None) -> None:
        if scores(outputs).dtype.kind not in "fiubUO":
            raise InvalidData(
                f"agreement needs classes or scores, and the output is {scores(outputs).dtype}. Use `fidelity`."
            )

    def by_sample(self, probe: Probe) -> Scores | None:
        same, groups = self._same(select(probe, None))
        return Scores(np.ones(len(same)), same, groups)

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        case = select(probe, rows)
        same, groups = self._same(case)
        return compare(np.ones(len(same)), same, groups, case.seed)

    def _same(self, case: Case) -> tuple[Array, Array | None]:
        same = ~_changed(case)
        return same, _repeated(case.groups, len(case.original), len(same))


class Fidelity(Metric):
    """Cosine between the candidate's and the original's output of a sample, the least over all outputs of floats.

    1 where both are zero. Places where the original is not finite are left out; a candidate that is not finite where
    the original is scores -1.
    """

    name = "fidelity"
    meaning = "how alike a sample's outputs are to the original's, by their cosine: 1 is the same direction"
    better = "higher"
    rank = 11

    def check(self, outputs: Outputs, labels: Array | None) -> None:
        if not any(array.dtype.kind == "f" for array in outputs.values()):
            kinds = ", ".join(f"{name}: {array.dtype}" for name, array in outputs.items())
            raise InvalidData(f"fidelity needs an output of floats, and there is none ({kinds}). Use `agreement`.")

    def by_sample(self, probe: Probe) -> Scores | None:
        least = self._least(probe, None)
        return Scores(np.ones(len(least)), least, probe.groups, -1.0, 1.0)

    def measure(self, probe: Probe, rows: Array | None = None) -> Comparison:
        self.check(probe.original_outputs, None)
        case = select(probe, rows)
        least = self._least(probe, rows)
        return Samples(np.ones(len(least)), least, case.groups, seed=case.seed)

    def _least(self, probe: Probe, rows: Array | None) -> Array:
        case = select(probe, rows)
        least = np.ones(len(case.original))
        for name, original in probe.original_outputs.items():
            if original.dtype.kind == "f":
                candidate = probe.candidate_outputs[name]
                if rows is not None:
                    original, candidate = original[rows], candidate[rows]
                least = np.minimum(least, _cosine(original, candidate))
        return least


def churn(probe: Probe, rows: Array | None = None) -> dict[str, Comparison]:
    """Shares of a classifier's predictions that changed, as the candidate's side of a comparison with 0.

    `changed`; with labels also `to_wrong`, of those that were right and are no more, and `to_right`, the other way
    round. NaN is a changed prediction, and wrong.
    """
    if probe.labels is None:
        case = select(probe, rows)
        shares = {"changed": _changed(case)}
        groups, seed = _repeated(case.groups, len(case.original), len(shares["changed"])), case.seed
    else:
        laid = decisions(Agreement(), probe, rows)
        before, after = (predicted(values, laid.probabilities) for values in (laid.original, laid.candidate))
        groups, seed = laid.groups, laid.seed
        was, now = before == laid.labels, after == laid.labels
        unknown = (after < 0) & (laid.candidate.dtype.kind == "f")
        shares = {"changed": (before != after) | unknown, "to_wrong": was & ~now, "to_right": ~was & now}
    return {name: compare(np.zeros(len(share)), share, groups, seed) for name, share in shares.items()}


def _changed(case: Case) -> Array:
    """Whether the candidate's class is another than the original's, flat; NaN is."""
    if case.original.dtype.kind != "f":
        return np.asarray(case.original != case.candidate).reshape(-1)
    flat = [_columns(values) for values in (case.original, case.candidate)]
    likely = are_probabilities(flat[0])
    before, after = (predicted(values, likely) for values in flat)
    changed: Array = (before != after) | (after < 0)
    return changed


def _repeated(groups: Array | None, samples: int, decisions: int) -> Array | None:
    """The groups of decisions, where each sample holds several."""
    steps = decisions // samples
    if steps <= 1:
        return groups
    return np.repeat(np.arange(samples) if groups is None else groups, steps)


def _columns(values: Array) -> Array:
    if values.ndim == 1:
        return values
    return values.reshape(-1) if values.shape[-1] == 1 else values.reshape(-1, values.shape[-1])


def _cosine(original: Array, candidate: Array) -> Array:
    """[n], of arrays [n, ...] of one shape; in pieces, since float64 copies of outputs may not fit."""
    step = max(1, 4_000_000 // max(1, original[0].size))
    return np.concatenate(
        [_cosine_of(original[at : at + step], candidate[at : at + step]) for at in range(0, len(original), step)]
    )


def _cosine_of(original: Array, candidate: Array) -> Array:
    first, second = (side.reshape(len(side), -1).astype(np.float64) for side in (original, candidate))
    judged = np.isfinite(first)
    lost = (judged & ~np.isfinite(second)).any(axis=1)
    first = np.where(judged, first, 0)
    second = np.where(judged & np.isfinite(second), second, 0)
    # scaled to 1 at the most, so that squares don't overflow
    first, second = (side / np.maximum(abs(side).max(axis=1, initial=0), 1e-300)[:, None] for side in (first, second))
    norms = np.sqrt((first * first).sum(axis=1) * (second * second).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.clip((first * second).sum(axis=1) / norms, -1, 1)
    equal = (first == second).all(axis=1)  # exactly 1, both zero included
    return np.where(lost, -1.0, np.where(equal, 1.0, np.where(norms > 0, cosine, 0.0)))
