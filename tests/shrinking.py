"""Modules to shrink, with data to do it on; the context that a technique on modules is given."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import formats
from strop.data import Data
from strop.learning import Training
from strop.model import TORCH, Model
from strop.target import Target
from strop.technique import Context, Technique, apply

torch = pytest.importorskip("torch")
nn = torch.nn
TARGET = Target(threads=1)


class Net(nn.Module):
    """Convolutions with batch norm, a residual connection, a linear head of three classes."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.hidden, self.head = nn.Linear(width, 64), nn.Linear(64, 3)

    def forward(self, image):  # type: ignore[no-untyped-def]
        x = torch.relu(self.norm(self.first(image)))
        x = (x + torch.relu(self.second(x))).mean((2, 3))
        return self.head(torch.relu(self.hidden(x)))


def bars(count: int = 240, seed: int = 0) -> Data:
    """Images with a horizontal bar, a vertical one, or none; noise over all."""
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.3, (count, 1, 10, 10)).astype(np.float32)
    labels = random.integers(0, 3, count)
    for image, label, place in zip(images, labels, random.integers(0, 10, count), strict=True):
        if label < 2:
            image[0, place if label else slice(None), slice(None) if label else place] += 1.5
    return Data({"image": images}, labels)


def stored(module: object, data: Data, folder: Path) -> Model:
    """A module on disk, its signature whole."""
    room = formats.format_of(TORCH)
    opened = room.store(room.open(module), folder / "original")
    fitted = room.fit(opened, data.batch(0, 3))
    return fitted


def context(model: Model, data: Data, folder: Path, **training: Any) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"epochs": 2, "batch": 16, **training}
    return Context(
        data, model, TARGET, 0, folder, train=data, training=Training(**settings), shared=folder.parent / "shared",
        kept=folder.parent / f"kept-{folder.name}", deadline=time.monotonic() + 300,
    )  # fmt: skip


def applied(step: Technique, model: Model, data: Data, folder: Path, **training: Any) -> Model:
    return apply(step, model, context(model, data, folder, **training))


def trained(data: Data, steps: int = 120) -> nn.Module:
    """A `Net` that knows bars."""
    torch.manual_seed(0)
    module, images = Net(), torch.from_numpy(data.batch(0, len(data))["image"])
    labels = torch.from_numpy(np.asarray(data.label_array()))
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    module.train()
    for step in range(steps):
        rows = torch.arange(step * 32, step * 32 + 32) % len(data)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
        optimizer.step()
    return module.eval()


def accuracy(module: nn.Module, data: Data) -> float:
    with torch.no_grad():
        answer = module(torch.from_numpy(data.batch(0, len(data))["image"])).argmax(1).numpy()
    return float((answer == data.label_array()).mean())


def transformer_models() -> Mapping[str, Any]:
    """Small architectures of transformers with random weights: a builder, and arrays to run them on."""
    import transformers as t

    words = {"input_ids": np.random.default_rng(0).integers(0, 100, (32, 12)), "attention_mask": np.ones((32, 12), int)}
    pixels = {"pixel_values": np.random.default_rng(0).normal(size=(24, 3, 32, 32)).astype(np.float32)}

    def gpt2() -> nn.Module:
        config = t.GPT2Config(
            n_embd=64, n_layer=2, n_head=4, vocab_size=100, n_positions=16, bos_token_id=0, eos_token_id=0
        )
        config.use_cache = False
        return t.GPT2Model(config)

    def mobilenet() -> nn.Module:
        """Its stem and six of its sixteen blocks: of both strides, and some with a way around them."""
        whole = t.MobileNetV2ForImageClassification(t.MobileNetV2Config(image_size=32, num_labels=4))
        body = whole.mobilenet_v2
        body.layer = body.layer[:6]
        last, head = body.layer[-1].reduce_1x1.convolution, body.conv_1x1.convolution
        body.conv_1x1.convolution = nn.Conv2d(last.out_channels, head.out_channels, 1, bias=False)
        return whole

    bert = t.BertConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256, vocab_size=100
    )
    vit = t.ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256, image_size=32,
                      patch_size=8)  # fmt: skip
    resnet = t.ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 4], layer_type="basic", num_labels=4)
    return {
        "bert": (lambda: t.BertForSequenceClassification(bert), words),
        "gpt2": (gpt2, {"input_ids": words["input_ids"]}),
        "vit": (lambda: t.ViTForImageClassification(vit), pixels),
        "resnet": (lambda: t.ResNetForImageClassification(resnet), pixels),
        "mobilenet": (mobilenet, pixels),
    }
