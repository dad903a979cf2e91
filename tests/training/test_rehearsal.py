"""What a user says of training is tried before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinking import Net, bars, nn, stored, torch, trained
from strop import optimize
from strop.data import Data
from strop.errors import InvalidData, InvalidPlan, StropError, UnsupportedModel
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


class Otherwise(Net):
    """Calls its input something else."""

    def forward(self, pixels):  # type: ignore[no-untyped-def]
        return super().forward(pixels)


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


def cut(batch: dict[str, Any], random: Any) -> dict[str, Any]:
    return {**batch, "image": batch["image"][..., :0]}


def lost_input(batch: dict[str, Any], random: Any) -> dict[str, Any]:
    return {}


def no_number(outputs: Mapping[str, Any], labels: Any) -> Any:
    return outputs["output"].sum() * float("nan")


def backward_already(outputs: Mapping[str, Any], labels: Any) -> Any:
    outputs["output"].mean().backward(retain_graph=False)
    return outputs["output"].mean()


def twisted(outputs: Mapping[str, Any], labels: Any) -> Any:
    return outputs["output"].sum().to(torch.complex64)


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
        ({"loss": broken_loss}, "its first step failed with KeyError: 'logits'. A loss is given the outputs by name"),
        ({"loss": no_scalar}, "must return a scalar tensor"),
        ({"augment": cut}, "failed with RuntimeError: .*Check augment and labels"),
        ({"augment": lost_input}, "of 'image'.* it leaves it out"),
        ({"loss": no_number}, "the loss is nan at step 1: it must be a number before anything is learned"),
        ({"loss": backward_already}, "its first step failed with RuntimeError: Trying to backward"),
        ({"loss": twisted}, "its first step failed with RuntimeError: grad can be"),
        ({"loss": "mse"}, r"mse needs a label for each number of the first output, which has shape \[16, 3\]"),
    ],
)
def test_what_does_not_work_is_a_plan_that_does_not(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        rehearsed(tmp_path, **settings)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (Wide, "and this one answers output: float32\\[5\\]"),
        (Picky, "Of the student: .*too small"),
        (Otherwise, r"inputs by name \(image\), and this one takes pixels"),
    ],
)
def test_a_student_must_fit(tmp_path: Path, student: type[Net], said: str) -> None:
    other = stored(Net(), DATA, tmp_path / "other")
    torch.manual_seed(0)
    made = stored(Wide(), DATA, tmp_path / "wide") if student is Wide else other
    if student is Picky:
        large = Data({"image": np.zeros((4, 1, 20, 20), np.float32)})
        made = stored(Picky(), large, tmp_path / "picky")
    if student is Otherwise:
        made = stored(Otherwise(), Data({"pixels": DATA.inputs["image"]}), tmp_path / "otherwise")
    with pytest.raises(UnsupportedModel, match=said):
        rehearsed(tmp_path / "it", student=made)


def late(labels: Any, last: Any) -> Data:
    """Labels of which only the last is odd: the first samples do not show it."""
    return replace(DATA, labels=np.array([*labels[:-1], last]))


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (late(DATA.labels, 7), {}, "must be classes from 0 to 2, as the model answers them, and that of row 59 is 7"),
        (late(DATA.labels, -1), {}, "of row 59 is -1"),
        (late(np.ones((60, 3)), [0, 1, 4]), {"loss": "binary-cross-entropy"}, "from 0 to 1, .* of row 59 is 4"),
        (late(DATA.labels, np.nan), {"loss": "none", "teach": 1.0}, ""),
        (late(DATA.labels, np.nan), {}, "must be finite, and row 59 is not in float32"),
        (late(DATA.labels, 1e300), {}, "must be finite, and row 59 is not in float32"),
    ],
)  # fmt: skip
def test_all_labels_are_held_to_what_the_model_answers(
    tmp_path: Path, data: Data, settings: dict[str, Any], said: str
) -> None:
    if not said:
        return rehearsed(tmp_path, data, **settings)
    with pytest.raises(InvalidData, match=said):
        rehearsed(tmp_path, data, **settings)


class Detached(Net):
    def forward(self, image):  # type: ignore[no-untyped-def]
        return super().forward(image).detach()


class Weightless(nn.Module):
    def forward(self, image):  # type: ignore[no-untyped-def]
        return image.mean((2, 3)).repeat(1, 3)


class Scattered(Net):
    """Puts what it multiplied into an array of float32: bf16 does not fit there."""

    def forward(self, image):  # type: ignore[no-untyped-def]
        made = torch.zeros(len(image), 3)
        made[torch.arange(len(image))] = super().forward(image)
        return made


@pytest.mark.parametrize(
    ("module", "said"), [(Detached, "depend on weights that learn"), (Weightless, "must have weights that learn")]
)
def test_what_can_not_learn_is_said(tmp_path: Path, module: type[nn.Module], said: str) -> None:
    DATA.save(tmp_path / "train")
    with pytest.raises(InvalidPlan, match=said):
        rehearse(stored(module(), DATA, tmp_path), Training(), tmp_path / "train", None)


def test_a_module_that_takes_no_bf16_learns_in_float32(tmp_path: Path) -> None:
    DATA.save(tmp_path / "train")
    rehearse(stored(Scattered(), DATA, tmp_path), Training(), tmp_path / "train", None)


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
