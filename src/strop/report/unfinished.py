"""The pages of runs that were interrupted: what was tried so far, and how to go on. Nothing in them is proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .. import details
from ..goal import Goal
from ..units import counted
from .choices import choices, measured
from .frontier import Tried
from .parts import badge, bullets, code, document, spread_text, table

INTERRUPTED = "the search was interrupted, and nothing is confirmed on unseen samples yet."
NONE = "<p>No candidate has come to an end yet.</p>"


def unfinished(
    source: str, goal: str, resume: str, baseline: Mapping[str, Any] | None, tried: Sequence[Tried],
    left_out: Mapping[str, str],
) -> str:  # fmt: skip
    """One self-contained HTML page of a search for a better model.

    Args:
        source: What the original was read from.
        goal: As text.
        resume: The command that goes on with it.
        baseline: What was measured of the original, as plain data.
        tried: Every candidate that came to an outcome.
        left_out: Techniques and runtimes in no route, and why.
    """
    not_tried = [f"{name} {reason}" for name, reason in left_out.items()]
    failed = [f"{o['candidate']}: {o['reason']}" for o in tried if o["cause"] not in ("done", "refused")]
    rows = [[escape(name), spread_text({**found["original"], "unit": found["unit"]})]
            for name, found in (baseline or {}).get("figures", {}).items()]  # fmt: skip
    count = counted(len(measured(tried)), "candidate")
    nothing_yet: dict[str, Any] = {"goal": Goal.parse(goal).to_json(), "winner": None, "closest": None, "confirmed": []}
    return document(f"strop: {source}", _head(goal, resume), [
        ("choices", f"What was tried so far: {count}", choices(tried, nothing_yet) or NONE),
        ("original", "The original", table("The original", ["metric", "original"], rows) if rows else ""),
        ("not", "What was not tried, or failed",
         bullets([*not_tried, *details.refused(tried)], "Not tried") + bullets(failed, "Failed")),
    ])  # fmt: skip


def unfinished_tuning(goal: str, resume: str, trials: Sequence[Mapping[str, Any]]) -> str:
    """One self-contained HTML page of a search over parameters.

    Args:
        goal: As text.
        resume: The command that goes on with it.
        trials: Each with `trial`, `state`, `value` of the objective (None where there is none), `params` and `why`.
    """
    rows = [
        [
            str(one["trial"]), escape(one["state"]), "" if one["value"] is None else f"{one['value']:.6g}",
            f'<div class="long">{escape(one["params"])}</div>', escape(one["why"]),
        ]
        for one in trials
    ]  # fmt: skip
    heads = ["trial", "what came of it", Goal.parse(goal).objective, "parameters", "why"]
    shown = table("Candidates", heads, rows, "wide dense tall", sortable=True) if rows else NONE
    return document("strop tune", _head(goal, resume), [
        ("choices", f"What was tried so far: {counted(len(rows), 'candidate')}", shown),
    ])  # fmt: skip


def _head(goal: str, resume: str) -> str:
    return (
        f'<p class="lead"><strong>{badge("inconclusive")}</strong>: {INTERRUPTED}</p>'
        f"<p>It was asked to: {escape(goal)}. It goes on with:</p>{code(resume, 'The command')}"
    )
