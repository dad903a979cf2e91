"""Shrink a residual network on Fashion-MNIST: what each technique gives by itself, and all of them together.

    apt-get install dataset-fashion-mnist
    python benchmarks/fashion_resnet.py          # once: trains the original
    python benchmarks/shrinking.py [--budget 40m]

Searches with the limit "drop(accuracy) <= 0.01", then measures the parts of the winner's route beside the original and
beside each other on the test images, trains the route once more without the original as teacher, and writes
`shrinking.md`. One thread, batch 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fashion_resnet
import numpy as np

import strop
from strop.model import Model
from strop.planfile import seconds
from strop.target import cpu_name
from strop.technique import Needs
from strop.terminal import Reporter, console

HERE = Path(__file__).parent
FOLDER = HERE / ".cache" / "shrinking"
GOAL = "minimize latency.p50; drop(accuracy) <= 0.01"
TARGET = strop.Target(threads=1)
TRAINING = strop.Training(epochs=6)
FIGURES = ("size", "latency.p50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="40m")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    train, test = fashion_resnet.samples("train"), fashion_resnet.samples("t10k")
    order = np.random.default_rng(0).permutation(10_000)  # the original has seen all of the train images
    search, test = ({name: array[rows] for name, array in test.items()} for rows in (order[:3000], order[3000:]))
    given = {"train": train, "confirm_data": test, "target": TARGET}
    budget = strop.Budget(seconds(options.budget))
    with Reporter(console(), budget.seconds) as reporter:
        result = strop.optimize(
            fashion_resnet.original(), search, GOAL, **given, training=TRAINING, budget=budget, run=FOLDER / "run",
            out=FOLDER / "bundle", listener=reporter,
        )  # fmt: skip
        result.save()
        alone = strop.optimize(
            fashion_resnet.original(), search, GOAL, **given, training=dataclasses.replace(TRAINING, teach=0.0),
            budget=strop.Budget(budget.seconds / 2), run=FOLDER / "untaught", recipe=FOLDER / "bundle",
            listener=reporter,
        )  # fmt: skip
    write(result, alone, test)


def write(result: strop.Result, alone: strop.Result, test: Mapping[str, np.ndarray]) -> None:
    """Measure the parts, and write the table."""
    winner, workshop = result.winner.candidate, result.setting.workshop
    place = next(i for i, step in enumerate(winner.steps) if step.returns)
    shrunk, _ = workshop.build(winner.steps[: place + 1])
    int8, _ = workshop.build([step for step in winner.steps if not step.needs & Needs.TRAINING])
    original, whole = result.setting.original.model, result.setting.model(result.winner.model)
    rows = [
        ("int8 alone", beside(original, int8, test)),
        ("shrunk and distilled, float", beside(original, shrunk, test)),
        ("shrunk, distilled and int8", beside(original, whole, test)),
    ]
    against = beside(int8, whole, test)["ratios"]["latency.p50"]
    manifest = result.manifest
    lines = [
        "# Shrinking a residual network on Fashion-MNIST", "",
        f"Written by `benchmarks/shrinking.py`. {cpu_name()}, one thread, batch 1; the original in float32 on ONNX "
        "Runtime, each row measured in turn with it on the 7,000 test images that the search has not seen. Limit: "
        f"{GOAL.split('; ')[1]}. The search took {manifest['seconds'] / 60:.0f} minutes and tried "
        f"{manifest['candidates']} candidates.", "",
        f"Handed over, {manifest['verdict']}: `{winner}`; {manifest['reason']}.", "",
        "| | accuracy | latency.p50, ms | latency, ratio | faster | size, MB | smaller |", "| --- " * 7 + "|",
        row("original", rows[0][1]["original"]["metrics"], None),
        *(row(name, found["candidate"]["metrics"], found["ratios"]) for name, found in rows), "",
        f"Together against int8 alone: latency {spread(against)}, {1 / against['value']:.2f} times faster.", "",
        *(f"- {name}: {told}" for name, told in counts(manifest)),
        f"- Trained without the original as teacher: {limit(alone.manifest)}; with it: {limit(manifest)}.",
    ]  # fmt: skip
    (HERE / "shrinking.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def beside(first: Model, second: Model, test: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return strop.compare(str(first.path), str(second.path), dict(test), target=TARGET, metric="accuracy")


def row(name: str, metrics: Mapping[str, Any], ratios: Mapping[str, Any] | None) -> str:
    accuracy, latency, size = (metrics[key] for key in ("accuracy", "latency.p50", "size"))
    lowest, highest = accuracy["low"], accuracy["high"]
    told = [name, f"{accuracy['value']:.4f} ({lowest:.4f} to {highest:.4f})", f"{latency['value'] * 1e3:.3f}"]
    if ratios is None:
        return "| " + " | ".join([*told, "1", "1", f"{size['value'] / 1e6:.2f}", "1"]) + " |"
    taken, left = ratios["latency.p50"], ratios["size"]["value"]
    told += [spread(taken), f"{1 / taken['value']:.1f}x", f"{size['value'] / 1e6:.2f}", f"{1 / left:.1f}x"]
    return "| " + " | ".join(told) + " |"


def spread(interval: Mapping[str, float]) -> str:
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def counts(manifest: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    before, after = manifest["original"]["counts"], manifest["winner"]["counts"]
    return [(name, f"{before[name] / 1e6:.2f} M became {after[name] / 1e6:.2f} M") for name in before]


def limit(manifest: Mapping[str, Any]) -> str:
    found = manifest["limits"][0]
    return f"accuracy {found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f}), {found['verdict']}"


if __name__ == "__main__":
    main()
