"""A residual network for Fashion-MNIST, trained and kept in the cache: the original of `shrinking.py`.

    apt-get install dataset-fashion-mnist
    python benchmarks/fashion_resnet.py

3.0 million parameters, 64 million multiply-adds an image; a quarter of an hour on two cores. It takes raw pixels
(0 to 255) as float32 [N, 1, 28, 28].
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from models._fashion import pixels_and_labels
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).parent / ".cache" / "fashion-resnet"
EPOCHS, BATCH, PEAK_RATE, SEED = 5, 128, 0.15, 0


def conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*conv(width, width), nn.ReLU(), *conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv(1, 32), nn.ReLU(),
            *conv(32, 64, 2), nn.ReLU(),
            *conv(64, 128, 2), nn.ReLU(), Residual(128),
            *conv(128, 256, 2), nn.ReLU(), Residual(256), Residual(256),
        )  # fmt: skip
        self.head = nn.Linear(256, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.body((pixels - 72.9) / 90.0)
        return self.head(features.mean((2, 3)))


def augmented(batch: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Mirror half of the images."""
    images = batch["pixels"].copy()
    mirrored = random.random(len(images)) < 0.5
    images[mirrored] = images[mirrored][..., ::-1]
    return {"pixels": images}


def original() -> ResNet:
    """The trained network."""
    module = ResNet()
    module.load_state_dict(torch.load(FOLDER / "weights.pt", weights_only=True))
    return module.eval()


def samples(kind: str) -> dict[str, np.ndarray]:
    """`train` (60,000 images) or `t10k` (10,000)."""
    images, labels = pixels_and_labels(kind)
    return {"pixels": images.astype(np.float32)[:, None], "labels": labels}


def main() -> None:
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    train, test = samples("train"), samples("t10k")
    module, start = ResNet().to(memory_format=torch.channels_last), time.monotonic()
    optimizer = torch.optim.SGD(module.parameters(), PEAK_RATE, 0.9, weight_decay=5e-4, nesterov=True)
    steps = EPOCHS * (len(train["labels"]) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps)
    bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for epoch in range(EPOCHS):
        module.train()
        order = random.permutation(len(train["labels"]))
        for step in range(len(order) // BATCH):
            rows = order[step * BATCH : (step + 1) * BATCH]
            batch = augmented({"pixels": train["pixels"][rows]}, random)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                answer = module(torch.from_numpy(batch["pixels"]))
            loss = functional.cross_entropy(
                answer.float(), torch.from_numpy(train["labels"][rows]), label_smoothing=0.02
            )
            loss.backward()
            optimizer.step()
            rate.step()
            if step % 50 == 0:
                done = epoch + step / (len(order) // BATCH)
                print(f"epoch {done:.2f}, {time.monotonic() - start:.0f} s, {loss.item():.3f}", flush=True)
    module.eval()
    with torch.inference_mode():
        right = sum(
            (
                module(torch.from_numpy(test["pixels"][at : at + 500])).argmax(1).numpy()
                == test["labels"][at : at + 500]
            ).sum()
            for at in range(0, 10_000, 500)
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(module.to(memory_format=torch.contiguous_format).state_dict(), FOLDER / "weights.pt")
    told = {
        "accuracy": right / 1e4,
        "seconds": time.monotonic() - start,
        "parameters": sum(map(math.prod, (p.shape for p in module.parameters()))),
    }
    (FOLDER / "trained.json").write_text(json.dumps(told))
    print(told)


if __name__ == "__main__":
    main()
