"""Shrink a residual network on Fashion-MNIST: what each technique gives by itself, and all of them together.

    apt-get install dataset-fashion-mnist
    python benchmarks/fashion_resnet.py          # once: trains the original
    python benchmarks/shrinking.py [--budget 40m]

Searches with the limit "drop(accuracy) <= 0.01", then builds every part of the winner's route by itself, measures each
beside the original on the samples that confirm, and writes `shrinking.md`. One thread, batch 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import fashion_resnet
import numpy as np

import strop
from strop.planfile import seconds
from strop.terminal import Reporter, console

HERE = Path(__file__).parent
FOLDER = HERE / ".cache" / "shrinking"
GOAL = "minimize latency.p50; drop(accuracy) <= 0.01"
TRAINING = strop.Training(epochs=6, augment=fashion_resnet.augmented, learning_rate=2e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="40m")
    options = parser.parse_args()
    train, test = fashion_resnet.samples("train"), fashion_resnet.samples("t10k")
    order = np.random.default_rng(0).permutation(60_000)
    search = {name: array[order[:3000]] for name, array in train.items()}  # kept out of training
    train = {name: array[order[3000:]] for name, array in train.items()}
    target = strop.Target(threads=1)
    with Reporter(console(), seconds(options.budget)) as reporter:
        result = strop.optimize(
            fashion_resnet.original(), search, GOAL, train=train, training=TRAINING, confirm_data=test, target=target,
            budget=strop.Budget(seconds(options.budget)), run=FOLDER / "run", out=FOLDER / "bundle", listener=reporter,
        )  # fmt: skip
    result.save()
    print(json.dumps(result.manifest["winner"], indent=1)[:2000])


if __name__ == "__main__":
    sys.exit(main())
