"""Fashion-MNIST, out of Debian's package dataset-fashion-mnist: 70,000 images of 28 x 28 and ten classes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

SOURCE = Path("/usr/share/datasets/fashion-mnist")


def read(name: str) -> np.ndarray:
    """Read one IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist, "file formats")."""
    raw = gzip.decompress((SOURCE / f"{name}.gz").read_bytes())
    shape = np.frombuffer(raw, ">i4", raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def pixels_and_labels(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """`train` (60,000 images) or `t10k` (10,000): uint8[n, 28, 28] and int64[n]."""
    return read(f"{kind}-images-idx3-ubyte"), read(f"{kind}-labels-idx1-ubyte").astype(np.int64)
