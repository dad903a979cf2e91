"""Train the demo's classifier on Fashion-MNIST and write `model.onnx` and `test.npz` beside this file.

    apt-get install dataset-fashion-mnist
    pip install torch==2.13.0 onnx onnxscript
    python examples/fashion_mnist/train.py

A residual network of 1.1 million parameters: about a quarter of an hour on two cores. The model takes raw pixels
(0 to 255) as float32 [N, 1, 28, 28] and normalizes them itself, so that no pre-processing can go wrong outside it.
"""

import gzip
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

SOURCE = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).parent
EPOCHS, BATCH, PEAK_RATE, SEED = 10, 128, 0.15, 0
SHIPPED = 5000  # test images that go into the repository


def read(name: str) -> np.ndarray:
    """Read one IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist, "file formats")."""
    raw = gzip.decompress((SOURCE / f"{name}.gz").read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def conv(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*conv(width, width), nn.ReLU(), *conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv(1, 32), nn.ReLU(),
            *conv(32, 64, 2), nn.ReLU(), Residual(64),
            *conv(64, 128, 2), nn.ReLU(), Residual(128), Residual(128),
            *conv(128, 224, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(224, 10),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        return self.body((pixels - 72.9) / 90.0)


def augment(pixels: Tensor) -> Tensor:
    """Mirror half of the images, and shift each batch by up to two pixels."""
    mirrored = torch.rand(len(pixels), 1, 1, 1) < 0.5
    pixels = torch.where(mirrored, pixels.flip(-1), pixels)
    right, down = torch.randint(-2, 3, (2,)).tolist()
    return functional.pad(pixels, (2 + right, 2 - right, 2 + down, 2 - down))[..., 2:-2, 2:-2]


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    start = time.monotonic()
    for epoch in range(EPOCHS):
        model.train()
        for chosen in torch.randperm(len(images))[: len(images) // BATCH * BATCH].view(-1, BATCH):
            loss = functional.cross_entropy(model(augment(images[chosen])), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    predicted = torch.cat([model(batch).argmax(1) for batch in images.split(500)])
    return (predicted == labels).float().mean().item()


def main() -> None:
    torch.manual_seed(SEED)
    images, test_images = (
        torch.tensor(read(f"{part}-images-idx3-ubyte")).float()[:, None] for part in ("train", "t10k")
    )
    labels, test_labels = (torch.tensor(read(f"{part}-labels-idx1-ubyte")).long() for part in ("train", "t10k"))
    model = Classifier().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters")
    train(model, images, labels)
    print(f"accuracy on all {len(test_images)} test images: {accuracy(model, test_images, test_labels):.4f}")
    model = model.to(memory_format=torch.contiguous_format)
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        model, (test_images[:2],), HERE / "model.onnx", input_names=["image"], output_names=["logits"],
        dynamo=True, external_data=False, dynamic_shapes=({0: batch},), opset_version=18,
    )  # fmt: skip
    exported = onnx.load(HERE / "model.onnx")
    for part in (exported, exported.graph, *exported.graph.node, *exported.graph.value_info):
        del part.metadata_props[:]  # where in which file each node comes from: of no use to anyone else
    onnx.save(exported, HERE / "model.onnx")
    np.savez_compressed(
        HERE / "test.npz",
        image=test_images[:SHIPPED].numpy().astype(np.uint8),
        labels=test_labels[:SHIPPED].numpy(),
    )


if __name__ == "__main__":
    main()
