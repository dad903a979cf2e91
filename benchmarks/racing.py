"""Search with and without racing: the same winner, in how much less time?

python benchmarks/racing.py [--trials 12] [--only NAME...]

Racing drops a candidate while its samples are still being run, by bounds that hold at every look. Each model is
searched twice with equal seeds and trials, once as strop does and once with every candidate run over the whole search
split, in turn. Writes `racing.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import CACHE, CASES
from strop.target import cpu_name

HERE = Path(__file__).parent
HOOK = """
import strop.bench
if {whole}:
    strop.bench.FIRST_LOOK = 1 << 62
"""


@dataclass(frozen=True)
class Race:
    """A model to search, and what must be kept of it."""

    name: str
    model: Path
    data: Path
    limit: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=RACES, metavar="NAME")
    options = parser.parse_args()
    table = HERE / "racing.md"
    rows: list[str] = []
    for name, prepare in RACES.items():
        if options.only and name not in options.only:
            rows += kept(name, table, options.trials)
            continue
        race = prepare()
        found = {whole: search(race, whole, options.trials) for whole in (False, True)}
        rows.append(row(race, found[False], found[True]))
        print(rows[-1], flush=True)
    table.write_text(page(rows, options.trials))


def kept(name: str, table: Path, trials: int) -> list[str]:
    """The row of a model that is not run now, where the table is of as many trials on this processor."""
    before = table.read_text() if table.exists() else ""
    same = before.startswith(page([], trials).split("\n|")[0])
    return [line for line in before.splitlines() if same and line.startswith(f"| {name} |")]


def page(rows: list[str], trials: int) -> str:
    heads = ["model", "limit", "samples that search", "samples run, share of all", "winner with racing",
             "winner without", "time on candidates, racing / whole", "whole search, racing / whole"]  # fmt: skip
    return "\n".join([
        "# Racing against full evaluation", "",
        f"Written by `benchmarks/racing.py`: {trials} candidates each, seed 0, one thread; {cpu_name()}. Winners with "
        "the ratio of their median latency to the original's.", "",
        "| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *rows, "",
    ])  # fmt: skip


def magika() -> Race:
    folder = prepared("magika")
    return Race("magika", folder / "model.onnx", folder / "data.npz", "accuracy >= 99% of original")


def fashion() -> Race:
    folder = HERE.parent / "examples" / "fashion_mnist"
    return Race("fashion-mnist", folder / "model.onnx", folder / "test.npz", "accuracy >= 99.5% of original")


def minilm(texts: int = 2400) -> Race:
    """MiniLM with more texts than the table of the real models has: pairs of those that are there."""
    folder, data = prepared("minilm-l6"), CACHE / "minilm-l6-racing.npz"
    if not data.exists():
        from models.sentence import encoded

        ids, mask = encoded(texts)
        np.savez(data, input_ids=ids, attention_mask=mask)
    return Race("minilm-l6", folder / "model.onnx", data, "fidelity >= 0.99")


def prepared(name: str) -> Path:
    """Where a model of the table of real models lies; it is fetched and exported where it is not there yet."""
    case = next(case for case in CASES if case.name == name)
    case.prepare(CACHE / name)
    return CACHE / name


RACES = {"fashion-mnist": fashion, "magika": magika, "minilm-l6": minilm}


def search(race: Race, whole: bool, trials: int) -> dict[str, Any]:
    """The manifest, with the outcomes of the candidates as `tried`."""
    run, hook = CACHE / "runs" / f"racing-{race.name}-{whole}", CACHE / "runs" / f"hook-{whole}"
    shutil.rmtree(run, ignore_errors=True)
    hook.mkdir(parents=True, exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK.format(whole=whole))
    command = [Path(sys.executable).with_name("strop"), "optimize", race.model, "--data", race.data,
               "--limit", race.limit, "--threads", "1", "--budget", "1h", "--trials", str(trials), "--seed", "0",
               "--run", run, "--json"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")])}
    print(f"{race.name}, {'whole' if whole else 'racing'} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    manifest: dict[str, Any] = json.loads(done.stdout)
    lines = [json.loads(line) for line in (run / "journal.log").read_text().splitlines()]
    told = [line["user_attr"]["outcome"] for line in lines if "outcome" in line.get("user_attr", {})]
    return {**manifest, "tried": [json.loads(outcome) for outcome in told]}


def row(race: Race, racing: dict[str, Any], whole: dict[str, Any]) -> str:
    metric = race.limit.split()[0]
    samples = racing["splits"]["search"]
    run = [outcome["report"]["figures"][metric]["n"] for outcome in racing["tried"] if outcome["cause"] == "done"
           and metric in outcome["report"]["figures"]]  # fmt: skip
    spent = [sum(outcome["seconds"] for outcome in one["tried"]) for one in (racing, whole)]
    cells = [
        race.name, f"`{race.limit}`", f"{samples:,}", f"{np.mean(run) / samples:.0%}", _winner(racing), _winner(whole),
        f"{spent[0] / spent[1]:.2f} ({spent[0]:.0f} s / {spent[1]:.0f} s)",
        f"{racing['seconds'] / whole['seconds']:.2f} ({racing['seconds']:.0f} s / {whole['seconds']:.0f} s)",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _winner(manifest: dict[str, Any]) -> str:
    kept = manifest["winner"] or manifest["closest"]
    route = " > ".join(step["technique"] for step in kept["route"]) or "the original"
    ratio = kept["ratios"]["latency.p50"]
    return f"{route}, {kept['runtime']['name']}, {ratio['value']:.3f}"


if __name__ == "__main__":
    main()
