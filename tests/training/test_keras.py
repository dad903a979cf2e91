"""The training loop of Keras models: that it learns what the one of PyTorch does, and stops and goes on alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerases
from kerases import QUIET, accuracy, bars, context, keras, layers, stored, trained
from strop._lazy import installed
from strop.data import Data
from strop.errors import InvalidData, InvalidPlan, NotApplicable, TechniqueError, UnsupportedModel
from strop.formats.keras import load
from strop.learning import Training
from strop.training import course, rehearse, retrain
from strop.training import keras as room
from strop.training.keras_losses import Objective

pytestmark = QUIET
DATA = bars()
SAME = 2e-3  # what sums in another order may come to: TensorFlow's threads keep none


def fresh(softmax: bool = True) -> Any:
    return kerases.classifier(8, softmax)


def flat(live: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([weight.ravel() for weight in live.get_weights()])


@pytest.mark.parametrize(("teach", "softmax"), [(0.0, True), (0.0, False), (0.7, True), (1.0, False)])
def test_a_model_learns_from_labels_and_from_the_original(tmp_path: Path, teach: float, softmax: bool) -> None:
    model, live = stored(trained(softmax=softmax), tmp_path), fresh(softmax)
    assert accuracy(live, DATA) < 0.6
    made = room.retrain(live, context(model, DATA, tmp_path / "out", teach=teach, epochs=12, learning_rate=0.01))
    assert accuracy(made, bars(seed=5)) > 0.8
    assert (tmp_path / "shared" / "teacher").exists() == (teach > 0)


def test_without_labels_the_original_is_enough(tmp_path: Path) -> None:
    model, unlabelled = stored(trained(), tmp_path), replace(DATA, labels=None)
    made = room.retrain(fresh(), context(model, unlabelled, tmp_path / "out", epochs=12, learning_rate=0.01))
    assert accuracy(made, bars(seed=5)) > 0.8


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path: Path) -> None:
    model = stored(fresh(), tmp_path)
    given = replace(context(model, DATA, tmp_path / "out"), kept=None)
    first, again, other = (flat(room.retrain(room.begin(model, g), g)) for g in (given, given, replace(given, seed=1)))
    np.testing.assert_allclose(first, again, atol=SAME)
    assert np.abs(first - other).max() > 2 * SAME


def test_training_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stored(fresh(), tmp_path)
    given = context(model, DATA, tmp_path / "out", epochs=3, teach=0.0)
    whole = room.retrain(room.begin(model, given), replace(given, kept=None))
    monkeypatch.setattr(course, "CHECKPOINT", 0.0)
    steps: list[int] = []
    step = room._Course._step

    def killed(self: Any, *args: Any) -> None:
        if len(steps) == 25:
            raise KeyboardInterrupt
        steps.append(1)
        step(self, *args)

    monkeypatch.setattr(room._Course, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        room.retrain(room.begin(model, given), given)
    monkeypatch.setattr(room._Course, "_step", lambda self, *a: (steps.append(1), step(self, *a))[1])
    resumed = room.retrain(room.begin(model, given), given)
    assert len(steps) == 3 * room.keras_batches(given).steps, "no step was taken twice"
    np.testing.assert_allclose(flat(whole), flat(resumed), atol=SAME)


def test_weights_shrink_by_either_regularization(tmp_path: Path) -> None:
    model = stored(trained(), tmp_path)
    plain = context(
        model, DATA, tmp_path / "out", weight_decay=0.0, epochs=3, optimizer="sgd", learning_rate=0.05, holdout=0.0,
        teach=0.0,
    )  # fmt: skip
    norms = {}
    for name, changed in {"none": {}, "l2": {"l2": 0.02}, "decay": {"weight_decay": 1.0}}.items():
        given = replace(plain, kept=None, training=replace(plain.training, **changed))
        norms[name] = np.linalg.norm(room.retrain(trained(), given).get_layer("hidden").kernel)
    assert norms["l2"] < 0.9 * norms["none"]
    assert norms["decay"] < 0.9 * norms["none"]


def test_nothing_is_kept_that_is_worse_than_what_there_was(tmp_path: Path) -> None:
    before = flat(trained())
    given = context(stored(trained(), tmp_path), DATA, tmp_path / "out", learning_rate=3.0, optimizer="sgd")
    np.testing.assert_array_equal(flat(room.retrain(trained(), given)), before)


def test_a_loss_that_is_no_number_and_time_that_is_too_short_are_said(tmp_path: Path) -> None:
    model = stored(fresh(), tmp_path)
    given = context(model, DATA, tmp_path / "out", optimizer="sgd", learning_rate=1e30, teach=0.0)
    with pytest.raises(TechniqueError, match="Lower learning_rate"):
        room.retrain(fresh(), given)
    late = context(model, DATA, tmp_path / "late", teach=0.0, epochs=10_000)
    with pytest.raises(TimeoutError, match="Give a longer budget="):
        room.retrain(fresh(), replace(late, deadline=0.0))


def test_one_sample_a_batch_and_a_fixed_batch(tmp_path: Path) -> None:
    few = bars(12)
    made = room.retrain(fresh(), context(stored(fresh(), tmp_path), few, tmp_path / "out", batch=1))
    assert np.isfinite(flat(made)).all()
    fixed = keras.Sequential([keras.Input((10, 10, 1), 4, name="image"), layers.Flatten(), layers.Dense(3)])
    with pytest.raises(NotApplicable, match="takes 4 samples a call"):
        room.retrain(fixed, context(stored(fixed, tmp_path / "fixed"), few, tmp_path / "2"))


def probabilities(*shape: int) -> np.ndarray[Any, Any]:
    logits = kerases.RNG(0).normal(size=shape)
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


CASES: dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None, dict[str, Any]]] = {
    "logits": (3 * probabilities(6, 4) - 1, np.array([0, 1, 2, 3, 0, 1]), {}),
    "probabilities": (probabilities(6, 4), np.array([[0], [1], [2], [3], [0], [1]]), {}),
    "a sequence": (probabilities(2, 3, 4), np.array([[0, 1, -100], [3, 0, 1]]), {"temperature": 2.0}),
    "a mask": (3 * probabilities(2, 3, 5), np.zeros((2, 5), int), {}),
    "shares": (probabilities(6, 2), np.eye(2)[[0, 1, 0, 0, 1, 1]].astype(np.float32), {"loss": "binary-cross-entropy"}),
    "odds": (9 * probabilities(6, 1) - 20, np.array([0, 1, 0, 0, 1, 1]), {"loss": "binary-cross-entropy"}),
    "certain shares": (np.array([[0.0], [1.0]], np.float32), np.array([0, 1]), {}),
    "numbers": (9 * probabilities(6, 2), probabilities(6, 2), {}),
    "no labels": (9 * probabilities(6, 2), None, {}),
}


@pytest.mark.skipif(not installed("torch"), reason="comes with the extra torch")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("teach", [0.0, 0.4, 1.0])
def test_losses_are_those_of_pytorch(case: str, teach: float) -> None:
    import torch

    from strop.training.losses import Objective as Reference

    outputs, labels, settings = CASES[case]
    training, binary = Training(teach=teach, **settings), labels is not None and bool(np.isin(labels, (0, 1)).all())
    other = np.roll(outputs, 1, 0)
    known = None if labels is None else torch.from_numpy(labels)
    reference = Reference(training, {"y": torch.from_numpy(other)}, known, binary)
    wanted = reference({"y": torch.from_numpy(outputs)}, known, {"y": torch.from_numpy(other)})
    objective = Objective(training, {"y": other}, labels, binary)
    assert (objective.kind, objective.probabilities) == (reference.kind, reference.probabilities)
    tensor = keras.ops.convert_to_tensor
    found = objective({"y": tensor(outputs)}, None if labels is None else tensor(labels), {"y": tensor(other)})
    assert np.isfinite(float(found))
    np.testing.assert_allclose(float(found), wanted.item(), rtol=1e-4, atol=1e-6)


def no_scalar(outputs: Any, labels: Any) -> Any:
    return next(iter(outputs.values()))


def deaf(outputs: Any, labels: Any) -> Any:
    return keras.ops.sum(keras.ops.stop_gradient(next(iter(outputs.values()))))


def own(outputs: Any, labels: Any) -> Any:
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, outputs["scores"]))


def rehearsed(folder: Path, data: Data = DATA, student: Any = None, **settings: Any) -> None:
    data.save(folder / "train")
    other = stored(student, folder / "student") if student is not None else None
    rehearse(stored(fresh(), folder), Training(**settings), folder / "train", other)


def test_what_works_is_let_through(tmp_path: Path) -> None:
    for place, settings in enumerate(({"keep": ("hid*", "body/second")}, {"loss": own}, {"loss": "none"})):
        rehearsed(tmp_path / str(place), **settings)
    small = keras.Sequential([keras.Input((10, 10, 1)), layers.Flatten(), layers.Dense(3, activation="softmax")])
    rehearsed(tmp_path / "student", student=small)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep": "hiden"}, "'hiden' matches nothing. Near: hidden"),
        ({"features": 0.5}, "features of the training compares inner layers of PyTorch modules, and is 0.5"),
        ({"loss": no_scalar}, "must return a scalar tensor"),
        ({"loss": deaf, "teach": 0.0}, "must depend on weights that learn"),
        ({"loss": lambda outputs, labels: outputs["gone"]}, "failed with KeyError: 'gone'. A loss is given"),
        ({"augment": lambda batch, random: {}}, "of 'image'.* it leaves it out"),
        ({"loss": "mse"}, "mse needs a label for each number"),
    ],
)
def test_what_does_not_work_is_a_plan_that_does_not(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        rehearsed(tmp_path, **settings)


def test_labels_and_students_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"classes from 0 to 2.*row 59 is 7"):
        rehearsed(tmp_path / "labels", replace(bars(60), labels=np.append(bars(60).labels[:59], 7)))
    image = keras.Input((10, 10, 1))
    wide = keras.Model(image, layers.Dense(5)(layers.Flatten()(image)))
    with pytest.raises(InvalidPlan, match="a student must answer as the original"):
        rehearsed(tmp_path / "wide", student=wide)
    twice = keras.Model(image, [layers.Dense(3)(layers.Flatten()(image)), layers.Flatten()(image)])
    with pytest.raises(UnsupportedModel, match=r"must have the original's outputs \(scores\)"):
        rehearsed(tmp_path / "twice", student=twice)


def test_modules_and_models_share_no_state(tmp_path: Path) -> None:
    """What a file holds is read anew each time, and what is trained is not the file."""
    model = stored(trained(), tmp_path)
    before = model.digest()
    given = context(model, DATA, tmp_path / "out", teach=0.0)
    room.retrain(room.begin(model, given), given)
    assert model.digest() == before
    np.testing.assert_array_equal(flat(load(model)), flat(trained()))
    assert retrain is not room.retrain
