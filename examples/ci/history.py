"""One line a bundle: what it measured, so that sizes and latencies can be followed from commit to commit.

python history.py candidate/manifest.json history.jsonl COMMIT

It adds a line to the history, and prints, as Markdown, what changed since the last one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def line(manifest: dict[str, Any], commit: str) -> dict[str, Any]:
    """Of what a manifest hands over: every metric's value with its bounds, and its ratio to the original's."""
    content = manifest["winner"] or manifest["closest"]
    keys = ("value", "low", "high")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "verdict": manifest["verdict"],
        "cpu": manifest["environment"]["cpu"],
        "metrics": {name: {key: found[key] for key in (*keys, "unit")} for name, found in content["metrics"].items()},
        "ratios": {name: {key: found[key] for key in keys} for name, found in content["ratios"].items()},
    }


def changes(now: dict[str, Any], last: dict[str, Any] | None) -> Iterator[str]:
    """Lines of Markdown: each metric beside that of the last line; on another CPU ratios alone tell."""
    yield f"### {now['verdict']}: what changed\n"
    if last is None:
        yield "This is the first line of the history."
        return
    yield f"The last line is of {last['date']}, {last['commit'][:12]}: {last['verdict']}.\n"
    if last["cpu"] != now["cpu"]:
        yield f"It was measured on another CPU ({last['cpu']}): compare the ratios.\n"
    yield "| metric | last | now | | last / its original | now / its original |"
    yield "|---|---|---|---|---|---|"
    for name, found in now["metrics"].items():
        if (before := last["metrics"].get(name)) is None:
            continue
        apart = above(found, before) or above(before, found)
        sides = (told(before), told(found), "differs" if apart else "within the spread")
        ratios = (told(side["ratios"][name]) if name in side["ratios"] else "" for side in (last, now))
        yield f"| {' | '.join((name, *sides, *ratios))} |"


def above(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all of an interval lies above another; a bound that is null is open."""
    return one["low"] is not None and other["high"] is not None and one["low"] > other["high"]


def told(found: dict[str, Any]) -> str:
    """A value with its bounds."""
    value, low, high = ("?" if found[key] is None else f"{found[key]:.4g}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high}) {found.get('unit', '')}".strip()


def last_of(history: Path) -> dict[str, Any] | None:
    lines = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
    return json.loads(lines[-1]) if lines else None


if __name__ == "__main__":
    source, history, commit = sys.argv[1:]
    now = line(json.loads(Path(source).read_text()), commit)
    print("\n".join(changes(now, last_of(Path(history)))))
    with Path(history).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(now) + "\n")
