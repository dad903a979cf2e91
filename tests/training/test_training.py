"""The training loop: what it learns, that it can be trusted to stop, and that it goes on after a kill."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import job_functions as work
from shrinking import Net, accuracy, bars, context, stored, torch, trained
from strop import jobs
from strop.data import Data
from strop.errors import InvalidData, InvalidPlan, TechniqueError
from strop.formats.torch import load
from strop.learning import Training
from strop.training import course, reestimate, retrain, train_batches
from strop.training import loop as loop_module
from strop.training.batches import Batches, target
from strop.training.losses import Objective
from strop.training.teacher import Teacher

nn = torch.nn
DATA = bars()


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def fresh() -> nn.Module:
    torch.manual_seed(1)
    return Net(8)


@pytest.mark.parametrize("teach", [0.0, 0.7, 1.0])
def test_a_module_learns_from_labels_and_from_the_original(tmp_path: Path, teach: float) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    before = accuracy(fresh(), DATA)
    made = retrain(fresh(), context(model, DATA, tmp_path / "out", teach=teach, epochs=12, learning_rate=0.01))
    assert before < 0.6 < 0.8 < accuracy(made, bars(seed=5))
    assert (tmp_path / "shared" / "teacher").exists() == (teach > 0)


def test_without_labels_the_original_is_enough(tmp_path: Path) -> None:
    model, unlabelled = stored(trained(DATA), DATA, tmp_path), replace(DATA, labels=None)
    made = retrain(fresh(), context(model, unlabelled, tmp_path / "out", epochs=12, learning_rate=0.01))
    assert accuracy(made, bars(seed=5)) > 0.8


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    given = context(model, DATA, tmp_path / "out")
    first, again, other = (
        retrain(fresh(), g) for g in (given, replace(given, kept=None), replace(given, seed=1, kept=None))
    )
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_training_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    whole = retrain(fresh(), replace(context(model, DATA, tmp_path / "whole", epochs=4), kept=None))
    monkeypatch.setattr(course, "CHECKPOINT", 0.0)
    given = context(model, DATA, tmp_path / "out", epochs=4)
    steps: list[int] = []
    step = loop_module._Course._step

    def killed(self: Any, *args: Any) -> None:
        if len(steps) == 25:
            raise KeyboardInterrupt
        steps.append(1)
        step(self, *args)

    monkeypatch.setattr(loop_module._Course, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        retrain(fresh(), given)
    monkeypatch.setattr(loop_module._Course, "_step", lambda self, *a: (steps.append(1), step(self, *a))[1])
    resumed = retrain(fresh(), given)
    assert len(steps) == 4 * train_batches(given).steps, "no step was taken twice"
    assert torch.equal(weights(whole), weights(resumed))


def test_weights_shrink_by_either_regularization_and_biases_do_not(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    plain = context(
        model, DATA, tmp_path / "out", weight_decay=0.0, epochs=3, optimizer="sgd", learning_rate=0.05, holdout=0.0
    )
    norms = {}
    for name, changed in {"none": {}, "l2": {"l2": 0.02}, "decay": {"weight_decay": 1.0}}.items():
        given = replace(plain, kept=None, training=replace(plain.training, **changed))
        norms[name] = retrain(deepcopy(trained(DATA)), given).second.weight.norm().item()
    assert norms["l2"] < 0.9 * norms["none"]
    assert norms["decay"] < 0.9 * norms["none"]


def test_weights_that_begin_with_zeros_only_are_learned(tmp_path: Path) -> None:
    student = fresh()
    nn.init.zeros_(student.head.weight)
    made = retrain(student, context(stored(trained(DATA), DATA, tmp_path), DATA, tmp_path / "out"))
    assert (made.head.weight != 0).any(1).all()


def test_nothing_is_kept_that_is_worse_than_what_there_was(tmp_path: Path) -> None:
    good = trained(DATA)
    before = weights(good)
    made = retrain(
        good, context(stored(good, DATA, tmp_path), DATA, tmp_path / "out", learning_rate=3.0, optimizer="sgd")
    )
    assert torch.equal(weights(made), before)


def test_too_little_time_to_learn_anything_is_said_and_not_taken_for_training(tmp_path: Path) -> None:
    given = context(stored(fresh(), DATA, tmp_path), DATA, tmp_path / "out", teach=0.0, epochs=10_000)
    with pytest.raises(TimeoutError, match="Give a longer budget="):
        retrain(fresh(), replace(given, deadline=time.monotonic() + 0.01))


def test_a_session_that_goes_on_is_given_its_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the killed one took is not held against it."""
    monkeypatch.setattr(course, "CHECKPOINT", 0.0)
    given = context(stored(fresh(), DATA, tmp_path), DATA, tmp_path / "out", teach=0.0, epochs=6)
    step, taken = loop_module._Course._step, []

    def killed(self: Any, *args: Any) -> None:
        taken.append(1)
        step(self, *args)
        if len(taken) == 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop_module._Course, "_step", killed)
    monkeypatch.setattr(course.time, "monotonic", lambda: 0.1 * len(taken))  # a tenth of a second a step
    with pytest.raises(KeyboardInterrupt):
        retrain(fresh(), replace(given, deadline=100.0))
    retrain(fresh(), replace(given, deadline=100.0))
    assert len(taken) == 6 * train_batches(given).steps + 1


def test_one_sample_that_is_held_out_alone_decides_nothing(tmp_path: Path) -> None:
    """The distance to the original is over the spread of its answers, whatever a batch holds."""
    taught = {"output": torch.randn(64, 3, generator=torch.Generator().manual_seed(0))}
    objective = Objective(Training(loss="none"), taught, None, False)
    found = {"output": taught["output"] + 0.1}
    one = [objective({"output": found["output"][:n]}, None, {"output": taught["output"][:n]}).item() for n in (1, 64)]
    assert one[0] == pytest.approx(one[1], rel=1e-4) and 0.001 < one[0] < 0.1


@pytest.mark.parametrize(("classes", "steps"), [(4, 6), (4, 4)])
def test_classes_of_a_sequence_lie_on_the_last_axis(classes: int, steps: int) -> None:
    made = {"output": torch.randn(5, steps, classes, generator=torch.Generator().manual_seed(0))}
    labels = made["output"].argmax(-1)
    objective = Objective(Training(teach=0.0), made, labels, False)
    expected = nn.functional.cross_entropy(made["output"].flatten(0, 1), labels.flatten())
    assert objective(made, labels, None).item() == pytest.approx(expected.item(), rel=1e-5)
    taught = Objective(Training(teach=1.0), made, labels, False)
    assert taught(made, labels, made).item() == pytest.approx(0.0, abs=1e-5)


def test_zeros_of_a_sparse_weight_stay(tmp_path: Path) -> None:
    module = trained(DATA)
    model = stored(module, DATA, tmp_path)
    with torch.no_grad():
        module.second.weight[:, ::2] = 0
    made = retrain(module, context(model, DATA, tmp_path / "out"))
    assert (made.second.weight[:, ::2] == 0).all()
    assert (made.second.weight[:, 1::2] != 0).all()


def test_a_loss_that_is_no_number_stops_training(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    with pytest.raises(TechniqueError, match="Lower learning_rate"):
        retrain(fresh(), context(model, DATA, tmp_path / "out", optimizer="sgd", learning_rate=1e30))


def lost(outputs: Any, labels: Any) -> Any:
    return nn.functional.cross_entropy(outputs["output"], labels) * 2


def test_a_loss_of_the_users_own(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    made = retrain(fresh(), context(model, DATA, tmp_path / "out", loss=lost, teach=0.0, epochs=12, learning_rate=0.01))
    assert accuracy(made, bars(seed=5)) > 0.8
    with pytest.raises(TechniqueError, match="must return a scalar tensor"):
        retrain(
            fresh(), context(model, DATA, tmp_path / "2", loss=lambda outputs, labels: outputs["output"], teach=0.0)
        )


def test_memory_that_ends_in_training_is_told_as_such(tmp_path: Path) -> None:
    def greedy(outputs: Any, labels: Any) -> Any:
        return outputs["output"].sum() * torch.empty(1 << 58).sum()

    model = stored(trained(DATA), DATA, tmp_path)
    with pytest.raises(MemoryError, match=r"Lower batch \(it is 16\)"):
        retrain(fresh(), context(model, DATA, tmp_path / "out", loss=greedy, teach=0.0))
    ended = jobs.run(work.train_hungrily, tmp_path, limits=jobs.Limits(120, 1_500_000_000))
    assert ended.cause == "memory" and "more than the limit" in ended.reason


def test_one_sample_a_batch_and_batch_norm(tmp_path: Path) -> None:
    few = bars(12)
    model = stored(trained(DATA), few, tmp_path)
    assert retrain(fresh(), context(model, few, tmp_path / "out", batch=1)).norm.training is False
    with pytest.raises(InvalidData, match="at least 2 samples"):
        retrain(fresh(), context(model, few.take([0]), tmp_path / "1"))


def test_a_student_with_other_outputs_is_refused(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    other = fresh()
    other.head = nn.Linear(64, 5)
    with pytest.raises(TechniqueError, match="must answer as the original"):
        retrain(other, context(model, DATA, tmp_path / "out"))


def test_training_ends_with_its_time(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    told: list[float] = []
    given = context(model, DATA, tmp_path / "out", epochs=10_000, seconds=1.5)
    retrain(fresh(), replace(given, progress=lambda share, words: told.append(share)))
    assert told == sorted(told) and told[-1] > 0.9


def test_it_stops_early_where_nothing_is_gained(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    told: list[float] = []
    given = context(model, DATA, tmp_path / "out", epochs=1000, learning_rate=1e-12, schedule="constant", patience=2)
    retrain(trained(DATA), replace(given, progress=lambda share, words: told.append(share)))
    assert told[-1] < 0.05


def test_features_and_augmentation_take_part(tmp_path: Path) -> None:
    model = stored(trained(DATA), DATA, tmp_path)
    seen: list[int] = []

    def mirrored(batch: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        seen.append(len(batch["image"]))
        return {"image": batch["image"][..., ::-1]}

    made = retrain(
        fresh(), context(model, DATA, tmp_path / "out", features=1.0, augment=mirrored, epochs=16, learning_rate=0.01)
    )
    assert seen and not (tmp_path / "shared").exists(), "answers to changed samples can't be kept"
    assert accuracy(made, bars(seed=5)) > 0.5


@pytest.mark.parametrize(
    ("augment", "match"),
    [
        (lambda batch, random: {}, "it leaves it out"),
        (lambda batch, random: {"image": batch["image"][1:]}, r"it returns float32\[15, 1, 10, 10\]"),
        (lambda batch, random: {"image": batch["image"].astype(complex)}, "it returns complex"),
        (lambda batch, random: None, "failed with TypeError"),
        (lambda batch, random: batch["gone"], "failed with KeyError"),
    ],
)
def test_what_augments_must_return_such_a_batch(tmp_path: Path, augment: Any, match: str) -> None:
    model = stored(fresh(), DATA, tmp_path)
    with pytest.raises(InvalidPlan, match=match):
        retrain(fresh(), context(model, DATA, tmp_path / "out", augment=augment))


def test_statistics_of_batch_norm_are_those_of_the_data(tmp_path: Path) -> None:
    model, module = stored(trained(DATA), DATA, tmp_path), trained(DATA)
    batches = train_batches(context(model, DATA, tmp_path / "out", holdout=0.0))
    seen: list[torch.Tensor] = []
    module.norm.register_forward_pre_hook(lambda layer, args: seen.append(args[0].detach()))
    module.norm.running_mean.fill_(7.0)
    reestimate(module, batches.epoch(0))
    means = torch.stack([batch.mean((0, 2, 3)) for batch in seen])
    torch.testing.assert_close(module.norm.running_mean, means.mean(0), rtol=1e-3, atol=1e-4)


def test_statistics_stay_where_no_batch_has_two_samples(tmp_path: Path) -> None:
    module, data = trained(DATA), DATA.take(range(6))
    before = module.norm.running_mean.clone()
    batches = train_batches(context(stored(module, DATA, tmp_path), data, tmp_path / "out", holdout=0.0, batch=1))
    reestimate(module, batches.epoch(0))
    assert torch.equal(module.norm.running_mean, before)


def test_a_module_that_was_frozen_to_be_deployed_is_trained(tmp_path: Path) -> None:
    frozen = trained(DATA).requires_grad_(False)
    model = stored(frozen, DATA, tmp_path)
    made = retrain(load(model), context(model, DATA, tmp_path / "out", teach=0.0))
    assert not torch.equal(weights(made), weights(frozen))


def test_an_original_that_takes_too_long_is_asked_batch_by_batch(tmp_path: Path) -> None:
    model, batches = stored(fresh(), DATA, tmp_path), Batches(bars(600), 16, 0.0, 0)
    few = batches.take(np.arange(4))
    hasty, patient = (Teacher(load(model), ["output"], batches, tmp_path / str(s), s) for s in (0.0, 60.0))
    assert not (tmp_path / "0.0").exists() and (tmp_path / "60.0").exists()
    torch.testing.assert_close(hasty(few)["output"], patient(few)["output"])


class Telling(Net):
    """Answers with a number of the whole batch, too, and with two rows that are none of samples."""

    def forward(self, image):  # type: ignore[no-untyped-def]
        logits = super().forward(image)
        return {"logits": logits, "largest": logits.max(), "pair": torch.stack([logits, -logits])}


def test_outputs_that_are_none_of_samples_are_not_taught(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = stored(Telling(8), DATA, tmp_path)
    made = retrain(load(model), context(model, DATA, tmp_path / "out"))
    assert made(torch.zeros(2, 1, 10, 10))["logits"].shape == (2, 3)


@pytest.mark.parametrize(
    ("outputs", "labels", "kind", "expected"),
    [
        ([[0.2], [0.9]], [0.25, 0.75], "mse", 0.0125),  # as they are, though they could be probabilities
        ([[0.2], [0.9]], [0.0, 1.0], "binary-cross-entropy", -(math.log(0.8) + math.log(0.9)) / 2),
        ([[2.0], [9.0]], [3, 7], "mse", 2.5),
        ([[0.2, 0.7], [0.9, 0.4]], [[0, 1], [1, 0]], "binary-cross-entropy", None),
        ([[0.2, 0.8], [0.9, 0.1]], [1.0, 0.0], "cross-entropy", -(math.log(0.8) + math.log(0.9)) / 2),
        ([[0.2, 0.8], [0.9, 0.1]], [[0.1, 0.9], [0.8, 0.2]], "mse", 0.01),
    ],
)
def test_the_loss_is_told_from_outputs_and_labels(outputs: Any, labels: Any, kind: str, expected: float | None) -> None:
    made, given = {"output": torch.tensor(outputs)}, torch.from_numpy(target(np.asarray(labels)))
    binary = bool(np.isin(labels, (0, 1)).all())
    objective = Objective(Training(teach=0.0), made, given, binary)
    assert objective.kind == kind
    if expected is not None:
        assert objective(made, given, None).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "outputs", "match"),
    [
        (np.array(["a", "b"] * 12), 3, "labels that are numbers"),
        (np.zeros((24, 7), np.float32), 3, "the loss can't be told"),
        (np.array([np.nan, 1.0] * 12), 3, "must be finite, and row 0 is not"),
    ],
)
def test_labels_that_no_loss_fits(tmp_path: Path, labels: np.ndarray, outputs: int, match: str) -> None:
    data = Data(dict(bars(24).inputs), labels)
    model = stored(fresh(), bars(24), tmp_path)
    with pytest.raises((InvalidData, TechniqueError), match=match):
        retrain(fresh(), context(model, data, tmp_path / "out"))
