"""How large a report of 500 candidates is, when a browser first paints it, and what axe-core finds in it.

python benchmarks/report_page.py BUNDLE [--candidates 500] [--axe axe.min.js] [--out page.html]

The candidates are those of a bundle, again and again, each with figures of its own a little off.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from strop import Bundle
from strop.deploy import snippet
from strop.report import page

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import browser

LOADS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--out", type=Path, default=Path("page.html"))
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    known = json.loads((options.bundle / "candidates.json").read_text())
    tried = many(known, options.candidates)
    code = snippet(bundle.model, bundle.runtime, bundle.target, options.bundle / "samples.npz")
    start = time.perf_counter()
    options.out.write_text(page({**bundle.manifest, "candidates": len(tried)}, tried, code), encoding="utf-8")
    print(f"{len(tried)} candidates: {options.out.stat().st_size / 1e6:.2f} MB, made in "
          f"{time.perf_counter() - start:.2f} s")  # fmt: skip
    with browser() as tab:
        paints, drawn = [], []
        for _ in range(LOADS):
            tab.open(options.out)
            paints.append(tab.js("performance.getEntriesByType('paint').at(-1).startTime"))
            drawn.append(tab.js("performance.now()"))
            assert not tab.complaints, tab.complaints
        marks = tab.js("document.querySelectorAll('.plot .point').length")
        print(f"first contentful paint, medians of {LOADS}: {sorted(paints)[LOADS // 2]:.0f} ms; all of it drawn, "
              f"{marks} marks: {sorted(drawn)[LOADS // 2]:.0f} ms")  # fmt: skip
        if options.axe:
            for width, dark in ((1200, False), (1200, True), (360, False)):
                tab.open(options.out, width, dark)
                tab.js(f"{options.axe.read_text()};1")
                found = tab.js("axe.run().then(r => r.violations.map(v => `${v.impact}: ${v.id} (${v.nodes.length})`))")
                print(f"axe-core at {width} px, {'dark' if dark else 'light'}: {', '.join(found) or 'no violation'}")


def many(known: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many candidates, the first as they are."""
    draw = random.Random(0)
    measured = [one for one in known if one["cause"] == "done"]
    made = list(known)
    while len(made) < count:
        one = copy.deepcopy(measured[len(made) % len(measured)])
        one["candidate"] += f" (number {len(made)})"
        one["runtime"] = {**one["runtime"], "number": len(made)}
        for figure in one["report"]["figures"].values():
            off = draw.uniform(0.9, 1.1)
            for side in ("candidate", "ratio"):
                figure[side] = {name: value and value * off for name, value in figure[side].items()}
        made.append(one)
    return made


if __name__ == "__main__":
    main()
