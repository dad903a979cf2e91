"""How far can a network be pruned with few samples to retrain it, or with inputs that are mostly zeros?

    apt-get install dataset-fashion-mnist
    apt-get update                               # the text task: which section a Debian package belongs to
    python benchmarks/thresholds.py [--seeds 2]

Prunes a small convolutional network (Fashion-MNIST) and a multilayer perceptron (bag of words) by several amounts, with
the original as teacher, and tells how much accuracy on test data is lost. First against the number of labelled samples
there are to retrain with, then against the share of zeros in the inputs, for which another original is trained each
time. Writes `thresholds.md`; `caution.py` holds what follows from it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fashion_resnet
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.torch import load
from strop.learning import Training
from strop.model import TORCH, Model
from strop.target import Target, cpu_name
from strop.technique import Context, apply
from strop.techniques.prune_channels import PruneChannels

HERE = Path(__file__).parent
AMOUNTS = (0.3, 0.5, 0.7, 0.9)
LABELS = (100, 300, 1000, 3000, 10_000)
ENOUGH = 5000  # samples to retrain with, where zeros are looked at
BLANKED = (0.0, 0.5, 0.8, 0.9)  # shares of pixels that are made zero
WORDS = (100, 500, 2500, 10_000)  # the more words, the more zeros
TRAINED, TESTED = 30_000, 5_000


@dataclass(frozen=True)
class Task:
    """Samples of one kind, the same ones in the same order at every share of zeros."""

    name: str
    train: Data
    test: Data
    make: Callable[[], nn.Module]
    rate: float

    @property
    def zeros(self) -> float:
        (inputs,) = self.train.batch(0, 2000).values()
        return float((inputs == 0).mean())


class Conv(nn.Module):
    """0.4 million parameters, 5 million multiply-adds an image of 28 x 28."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 24, 1), (24, 48, 2), (48, 96, 2), (96, 192, 2)):
            layers += [*fashion_resnet.conv(inputs, outputs, stride), nn.ReLU()]
        self.body, self.hidden, self.head = nn.Sequential(*layers), nn.Linear(192, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.hidden(self.body(x).mean((2, 3)))))


class Perceptron(nn.Module):
    """Two hidden layers over counts of words."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(parser.parse_args().seeds)
    start = time.monotonic()
    tables = []
    for tasks, usual in ((fashion(), 0), (text(), 2)):
        lines = []
        for place, task in enumerate(tasks):
            with tempfile.TemporaryDirectory() as scratch:
                original = trained(task, Path(scratch))
                whole = accuracy(load(original), task.test)
                if place == usual:
                    for count in LABELS:
                        found = losses(task, original, whole, count, seeds)
                        lines.append((f"{count:,} labels", task.zeros, whole, found))
                        print(task.name, *lines[-1], flush=True)
                found = losses(task, original, whole, ENOUGH, seeds)
                lines.append((f"{task.zeros:.0%} zeros", task.zeros, whole, found))
                print(task.name, *lines[-1], flush=True)
        tables += ["", f"## {tasks[0].name}", "", *table(lines)]
    (HERE / "thresholds.md").write_text("\n".join([
        "# Pruning with few labels, and with inputs that are mostly zeros", "",
        f"Written by `benchmarks/thresholds.py` in {(time.monotonic() - start) / 60:.0f} minutes; {cpu_name()}. "
        f"`prune-channels` at several amounts (of the operations) with training settings as they come, {len(seeds)} "
        "seeds each: accuracy lost on "
        f"{TESTED:,} test samples against the original, mean (least to greatest). Zeros: share of the inputs' values; "
        f"rows that vary them retrain with {ENOUGH:,} labels. A dash: refused, so much can't be taken out.",
        *tables, "",
    ]))  # fmt: skip


def table(lines: Sequence[tuple[str, float, float, Sequence[Sequence[float]]]]) -> Iterator[str]:
    heads = ["", "zeros", "original", *(f"{amount:.0%} pruned" for amount in AMOUNTS)]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for name, zeros, whole, found in lines:
        told = [f"{statistics.mean(one):.3f} ({min(one):.3f} to {max(one):.3f})" if one else "-" for one in found]
        yield "| " + " | ".join([name, f"{zeros:.0%}", f"{whole:.3f}", *told]) + " |"


def losses(task: Task, original: Model, whole: float, count: int, seeds: Sequence[int]) -> list[list[float]]:
    """The accuracy lost, by amount and seed, when so many samples retrain."""
    found: list[list[float]] = [[] for _ in AMOUNTS]
    for seed in seeds:
        rows = np.random.default_rng([seed, count]).permutation(len(task.train))[:count]
        few = task.train.take(np.sort(rows))
        with tempfile.TemporaryDirectory() as scratch:
            for place, amount in enumerate(AMOUNTS):
                folder = Path(scratch) / str(place)
                folder.mkdir()
                context = Context(
                    None, original, Target(), seed, folder, train=few, training=Training(),
                    shared=Path(scratch) / "shared",
                )  # fmt: skip
                try:
                    made = apply(PruneChannels(amount=amount), original, context)
                except NotApplicable as error:
                    print(f"  {count} samples, {amount:.0%}: {error}", flush=True)
                    continue
                found[place].append(whole - accuracy(load(made), task.test))
    return found


def trained(task: Task, folder: Path) -> Model:
    """The original: trained on all there is, with the loss on what is left over to stop by."""
    torch.manual_seed(0)
    module, random = task.make(), np.random.default_rng(0)
    (inputs,), labels = task.train.batch(0, len(task.train)).values(), task.train.label_array()
    optimizer = torch.optim.AdamW(module.parameters(), task.rate, weight_decay=0.01)
    steps = 6 * (len(labels) // 128)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.rate, steps)
    for step in range(steps):
        if step % (len(labels) // 128) == 0:
            order = random.permutation(len(labels))
        rows = np.sort(order[step % (len(labels) // 128) * 128 :][:128])
        loss = functional.cross_entropy(module(torch.from_numpy(inputs[rows])), torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    room = formats.format_of(TORCH)
    return room.fit(room.store(room.open(module.eval()), folder / "original"), task.test.batch(0, 3))


def accuracy(module: nn.Module, test: Data) -> float:
    labels, right = test.label_array(), 0
    for start in range(0, len(test), 500):
        (inputs,) = test.batch(start, start + 500).values()
        with torch.inference_mode():
            right += int((module(torch.from_numpy(inputs)).argmax(1).numpy() == labels[start : start + 500]).sum())
    return right / len(test)


def fashion() -> list[Task]:
    """Images, with some of the pixels made zero: the same ones in every image."""
    train, test = fashion_resnet.samples("train"), fashion_resnet.samples("t10k")
    order = np.random.default_rng(0).random(28 * 28).reshape(28, 28)

    def blanked(data: dict[str, np.ndarray], count: int, share: float) -> Data:
        images = data["pixels"][:count] / np.float32(255)
        return Data({"x": np.where(order < share, np.float32(0), images)}, data["labels"][:count])

    return [
        Task("Fashion-MNIST", blanked(train, TRAINED, share), blanked(test, TESTED, share), Conv, 5e-3)
        for share in BLANKED
    ]


def text() -> list[Task]:
    """One-line descriptions of packages as counts of their most frequent words; the section is the label."""
    shown = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    pairs = sorted({_described(entry) for entry in shown.split("\n\n")})
    counts: dict[str, int] = {}
    for section, _ in pairs:
        counts[section] = counts.get(section, 0) + 1
    common = sorted(counts, key=lambda name: -counts[name])[:12]
    pairs = [pair for pair in pairs if pair[0] in common]
    order = np.random.default_rng(0).permutation(len(pairs))[: TRAINED + TESTED]
    words = [re.findall(r"[a-z]{2,}", pairs[place][1].lower()) for place in order]
    labels = np.array([common.index(pairs[place][0]) for place in order])
    frequency: dict[str, int] = {}
    for row in words:
        for word in set(row):
            frequency[word] = frequency.get(word, 0) + 1
    known = sorted(frequency, key=lambda word: (-frequency[word], word))
    tasks = []
    for size in WORDS:
        place = {word: index for index, word in enumerate(known[:size])}
        bags = np.zeros((len(words), size), np.float32)
        for bag, row in zip(bags, words, strict=True):
            np.add.at(bag, [place[word] for word in row if word in place], 1)
        whole = Data({"x": bags}, labels)
        split = np.arange(len(words))
        train, test = whole.take(split[:-TESTED]), whole.take(split[-TESTED:])
        tasks.append(Task("Sections of packages", train, test, _perceptron(size, len(common)), 1e-3))
    return tasks


def _described(entry: str) -> tuple[str, str]:
    fields = dict(re.findall(r"^([\w-]+): (.+)$", entry, re.MULTILINE))
    return fields.get("Section", "").split("/")[-1], fields.get("Description", fields.get("Description-en", ""))


def _perceptron(inputs: int, outputs: int) -> Callable[[], nn.Module]:
    return lambda: Perceptron(inputs, outputs)


if __name__ == "__main__":
    main()
