"""One line a bundle: what it measured, so that sizes and latencies can be followed from commit to commit.

python history.py candidate/manifest.json history.jsonl COMMIT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def line(manifest: dict[str, Any], commit: str) -> dict[str, Any]:
    """Of what a manifest hands over: every metric's value with its bounds, and its ratio to the original's."""
    content = manifest["winner"] or manifest["closest"]
    keys = ("value", "low", "high")
    return {
        "commit": commit,
        "verdict": manifest["verdict"],
        "cpu": manifest["environment"]["cpu"],
        "metrics": {name: {key: found[key] for key in (*keys, "unit")} for name, found in content["metrics"].items()},
        "ratios": {name: {key: found[key] for key in keys} for name, found in content["ratios"].items()},
    }


if __name__ == "__main__":
    source, history, commit = sys.argv[1:]
    with Path(history).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line(json.loads(Path(source).read_text()), commit)) + "\n")
