"""Datasets and loaders of PyTorch, as data to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.data import Data, match, read
from strop.errors import InvalidData
from strop.model import Signature, Tensor

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset  # noqa: E402

X, Y = torch.arange(40, dtype=torch.float32).reshape(20, 2), torch.arange(20) % 3
SIGNATURE = Signature((Tensor("x", "float32", (None, 2)),), ())


class Named(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 20

    def __getitem__(self, place: int) -> Any:
        return {"x": X[place].numpy(), "labels": int(Y[place])}


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        yield from zip(X, Y, strict=True)


@pytest.mark.parametrize(
    "source",
    [TensorDataset(X, Y), Named(), Stream(), DataLoader(TensorDataset(X, Y), batch_size=6), DataLoader(Named(), 7)],
    ids=["dataset", "named", "iterable", "loader", "named-loader"],
)
@pytest.mark.parametrize("stored", [True, False])
def test_samples_and_labels_are_those_of_the_source(source: object, stored: bool, tmp_path: Path) -> None:
    data, _ = match(read(source, ["x"], storage=tmp_path if stored else None), SIGNATURE)
    np.testing.assert_array_equal(data.batch(0, 20)["x"], X.numpy())
    np.testing.assert_array_equal(data.label_array(), Y.numpy())
    data.save(tmp_path / "kept")
    again = Data.load(tmp_path / "kept")
    assert again.digest() == data.digest()
    np.testing.assert_array_equal(again.batch(3, 9)["x"], X.numpy()[3:9])


def test_several_inputs_come_in_the_order_of_the_model(tmp_path: Path) -> None:
    data = read(TensorDataset(X, X + 1, Y), ["a", "b"], storage=tmp_path)
    np.testing.assert_array_equal(data.inputs["b"], X.numpy() + 1)
    assert data.labels is not None


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    class Ragged(Named):
        def __getitem__(self, place: int) -> Any:
            return np.zeros(place + 1), 0

    class Failing(Named):
        def __getitem__(self, place: int) -> Any:
            raise OSError("gone")

    with pytest.raises(InvalidData, match="in item 1, after"):
        read(Ragged(), ["x"], storage=tmp_path)
    with pytest.raises(InvalidData, match="failed with OSError: gone"):
        read(Failing(), ["x"])
    with pytest.raises(InvalidData, match="holds no samples"):
        read(TensorDataset(X[:0]), ["x"])
