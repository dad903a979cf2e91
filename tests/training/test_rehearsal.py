"""What a user says of training is tried before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinking import Net, bars, nn, stored, torch, trained
from strop import optimize
from strop.data import Data
from strop.errors import InvalidPlan, StropError, UnsupportedModel
from strop.formats.trees import signature
from strop.learning import Training
from strop.model import FOREST, Model
from strop.prepare import Budget
from strop.target import Target
from strop.training import rehearse

DATA = bars(60)


class Wide(Net):
    """Answers five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 5)


class Picky(Net):
    """Takes larger images only."""

    def forward(self, image):  # type: ignore[no-untyped-def]
        if image.shape[-1] < 20:
            raise ValueError("too small")
        return super().forward(image)


def broken_loss(outputs: Mapping[str, Any], labels: Any) -> Any:
    return outputs["logits"].mean()


def no_scalar(outputs: Mapping[str, Any], labels: Any) -> Any:
    return outputs["output"]


def lost_input(batch: dict[str, Any], random: Any) -> dict[str, Any]:
    return {}


def rehearsed(folder: Path, data: Data = DATA, student: Model | None = None, **settings: Any) -> None:
    original = stored(Net(), DATA, folder)
    data.save(folder / "train")
    rehearse(original, Training(**settings), folder / "train", student)


def test_what_works_is_let_through(tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"keep": "hidden"}, {"keep": ("fi*", "norm")}, {"loss": "none"}]
    for place, one in enumerate(settings):
        rehearsed(tmp_path / str(place), **one)
    rehearsed(tmp_path / "student", student=stored(Net(8), DATA, tmp_path / "small"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep": "hiden"}, "'hiden' matches nothing. Near: hidden"),
        ({"loss": broken_loss}, "its first step failed with KeyError: 'logits'"),
        ({"loss": no_scalar}, "must return a scalar tensor"),
        ({"augment": lost_input}, "of 'image'.* it leaves it out"),
    ],
)
def test_what_does_not_work_is_a_plan_that_does_not(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        rehearsed(tmp_path, **settings)


@pytest.mark.parametrize(
    ("student", "said"), [(Wide, "and this one answers output: float32\\[5\\]"), (Picky, "Of the student: .*too small")]
)
def test_a_student_must_fit(tmp_path: Path, student: type[Net], said: str) -> None:
    other = stored(Net(), DATA, tmp_path / "other")
    torch.manual_seed(0)
    made = stored(Wide(), DATA, tmp_path / "wide") if student is Wide else other
    if student is Picky:
        large = Data({"image": np.zeros((4, 1, 20, 20), np.float32)})
        made = stored(Picky(), large, tmp_path / "picky")
    with pytest.raises(UnsupportedModel, match=said):
        rehearsed(tmp_path / "it", student=made)


def test_columns_to_keep_are_those_of_the_table(tmp_path: Path) -> None:
    from forests import grown

    forest = grown(np.random.default_rng(0), names=("age", "sum", "place", "time"))
    DATA.save(tmp_path / "train")
    model = Model(FOREST, tmp_path, signature(forest))
    rehearse(model, Training(keep=("age", "t*")), tmp_path / "train", None)
    with pytest.raises(InvalidPlan, match=r"'agee' matches nothing\. Near: age"):
        rehearse(model, Training(keep="agee"), tmp_path / "train", None)


def test_a_search_ends_before_it_begins(tmp_path: Path) -> None:
    pair = (dict(DATA.inputs), DATA.labels)
    with pytest.raises(StropError, match="'heads' matches nothing"):
        optimize(
            trained(DATA, 1), pair, "minimize latency.p50; accuracy >= 0.1", train=pair, run=tmp_path / "run",
            training=Training(keep="heads"), target=Target(threads=1), budget=Budget(600),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
