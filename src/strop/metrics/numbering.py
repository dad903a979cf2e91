"""Numbering: labels that call classes by other numbers than the model does."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidData
from ..metric import Metric, Outputs
from .decisions import Array, check_decisions, predicted

FEWEST, MOST = 10, 1000
"""Decisions a class, since with fewer some other numbering fits by luck; and classes, since a table of the words of a
language would fill the memory."""
PART = 0.5  # of what another numbering would have right
NAMED = 3


def misnumbered(metric: Metric, outputs: Outputs, labels: Array | None) -> str:
    """What gives it away, as a sentence; empty where nothing does, or outputs and labels are not those of classes.

    It is that another numbering of the classes would have twice as much right, and more than the most frequent class
    alone: whoever exports a model, or encodes labels, may sort classes anew.

    Args:
        metric: By which labels and outputs are laid out.
        outputs: The original's.
        labels: [n, ...], or None.
    """
    try:
        case = check_decisions(metric, outputs, labels)
    except InvalidData:
        return ""
    found = predicted(case.original, case.probabilities)
    right, decided = float((found == case.labels).mean()), found >= 0
    if right > PART or case.classes > MOST or len(found) < FEWEST * case.classes:
        return ""
    from scipy.optimize import linear_sum_assignment  # seldom needed

    counts = np.zeros((case.classes, case.classes), np.int64)
    np.add.at(counts, (found[decided], case.labels[decided]), 1)
    ours, theirs = linear_sum_assignment(counts, maximize=True)
    could = counts[ours, theirs].sum() / len(found)
    if right > PART * could or could <= np.bincount(case.labels).max() / len(found):
        return ""
    moved = sorted((pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]), key=lambda p: -counts[p])
    named = ", ".join(f"{one} is labelled {other}" for one, other in moved[:NAMED])
    more = f" and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return (
        f"the original is right in {right:.1%} of the decisions, and would be in {could:.1%} if labels were numbered "
        f"otherwise (class {named}{more}): number them as in training"
    )
