"""Datasets and loaders of PyTorch, as data to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import _streams
from strop.data import Data, match
from strop.errors import InvalidData
from strop.model import Signature, Tensor
from strop.reading import read

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


@pytest.mark.parametrize(
    ("inputs", "optional", "arrays", "named"),
    [
        (["x", "features"], ["features"], (X, Y), {"x", "labels"}),  # a flag of forward's is no place for labels
        (["ids", "mask", "kinds"], ["ids", "mask", "kinds"], (X, X, Y), {"ids", "mask", "labels"}),
        (["a", "b"], [], (X, X), {"a", "b"}),
        (["a", "b"], [], (X, X, Y), {"a", "b", "labels"}),
        (["a", "b"], ["b"], (X,), {"a"}),
    ],
)
def test_the_last_of_several_is_the_labels(
    inputs: list[str], optional: list[str], arrays: Any, named: set[str]
) -> None:
    data = read(TensorDataset(*arrays), inputs, optional=optional)
    assert {*data.inputs, *(["labels"] if data.labels is not None else [])} == named
    with pytest.raises(InvalidData, match="holds 5 values"):
        read(TensorDataset(X, X, X, X, X), inputs)


@pytest.mark.parametrize("names", [("x", "labels"), ("pixels", "label"), ("pixels", "target"), ("x", "labels", "path")])
def test_the_only_input_may_have_another_name(names: tuple[str, ...], tmp_path: Path) -> None:
    source = [dict(zip(names, (X[place].numpy(), int(Y[place]), place), strict=False)) for place in range(20)]
    data = read(DataLoader(source, batch_size=7), ["pixel_values"], storage=tmp_path)  # type: ignore[arg-type]
    np.testing.assert_array_equal(data.inputs["pixel_values"], X.numpy())
    assert data.labels is not None


@pytest.mark.parametrize("inputs", [["image"], ["ids", "mask"]])
def test_items_by_other_names_are_told_what_names_are_wanted(inputs: list[str]) -> None:
    source = [{"pixels": X[place], "path": place, "target": Y[place]} for place in range(20)]
    with pytest.raises(InvalidData, match=rf"inputs \({', '.join(inputs)}\) by name, and hold pixels, path, target"):
        read(DataLoader(source), inputs)  # type: ignore[arg-type]


def test_labels_go_by_the_name_that_was_asked_for() -> None:
    assert read(TensorDataset(X, Y), ["x"], label="target").labels is not None


class Records(Named):
    """Samples with more than a model takes, text of any length among it."""

    def __getitem__(self, place: int) -> Any:
        return {
            **super().__getitem__(place),
            "id": "n" * place,
            "meta": {"place": place},
            "kind": "abc"[: place % 3 + 1],
        }


@pytest.mark.parametrize("stored", [True, False])
def test_what_is_not_asked_for_is_left_out_and_text_may_be_of_any_length(stored: bool, tmp_path: Path) -> None:
    data = read(Records(), ["x"], slices=["kind"], storage=tmp_path if stored else None)
    assert set(data.inputs) == {"x"} and data.labels is not None
    assert data.slices["kind"].tolist() == ["abc"[: place % 3 + 1] for place in range(20)]


def test_one_that_never_ends_is_told_of_before_the_disk_is_full_or_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Stream):
        def __iter__(self) -> Any:
            while True:
                yield from super().__iter__()

    with pytest.raises(InvalidData, match=r"has not after 1 items and 0 s\. Give fewer samples, or a longer budget="):
        read(Endless(), ["x"], storage=tmp_path, seconds=0.0)
    monkeypatch.setattr(_streams, "LEAST_DISK", 1 << 62)
    with pytest.raises(InvalidData, match="must end, and after"):
        read(Endless(), ["x"], storage=tmp_path)


def test_tensors_with_gradients_or_in_bf16_are_read(tmp_path: Path) -> None:
    data = read(TensorDataset(X.bfloat16().requires_grad_(), Y), ["x"], storage=tmp_path)
    np.testing.assert_array_equal(data.batch(0, 20)["x"], X.numpy())


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    class Ragged(Named):
        def __getitem__(self, place: int) -> Any:
            return np.zeros(place + 1), 0

    class Failing(Named):
        def __getitem__(self, place: int) -> Any:
            raise OSError("gone")

    class Unlabelled(Named):
        def __getitem__(self, place: int) -> Any:
            return X[place], None

    class Leaving(Named):
        def __getitem__(self, place: int) -> Any:
            raise SystemExit(3)

    class Hollow(Named):
        def __getitem__(self, place: int) -> Any:
            return ()

    with pytest.raises(InvalidData, match="failed with SystemExit: 3"):
        read(Leaving(), ["x"], storage=tmp_path)
    with pytest.raises(InvalidData, match="one is an empty tuple"):
        read(Hollow(), ["x"], storage=tmp_path)
    with pytest.raises(InvalidData, match="'labels' in item 0 is neither"):
        read(Unlabelled(), ["x"], storage=tmp_path)
    with pytest.raises(InvalidData, match="in item 1, after"):
        read(Ragged(), ["x"], storage=tmp_path)
    with pytest.raises(InvalidData, match="failed with OSError: gone"):
        read(Failing(), ["x"])
    with pytest.raises(InvalidData, match="holds no samples"):
        read(TensorDataset(X[:0]), ["x"])
