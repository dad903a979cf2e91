"""search over how PyTorch modules are trained: live ones, factories, several inputs, and what is refused."""

from __future__ import annotations

import functools
import importlib
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import optuna
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.naive_bayes import GaussianNB

from strop import Budget, StropError, Training, formats
from strop.errors import InvalidData, InvalidPlan, RunFailed, UnsupportedModel
from strop.events import Event, Said
from strop.tune import Tuned, search

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

from strop.tune.modules import of_module  # noqa: E402

DIGITS: tuple[Any, Any] = load_digits(return_X_y=True)
X, y = (DIGITS[0][:360] / 16).astype("float32").reshape(-1, 1, 8, 8), DIGITS[1][:360]
QUICK = Training(epochs=2, learning_rate=1e-2, batch=32)


class Cnn(nn.Module):
    """One convolution and a linear layer."""

    def __init__(self, width: int = 4, classes: int = 10, dropout: float = 0.1):
        super().__init__()
        self.convolve, self.drop = nn.Conv2d(1, width, 3, stride=2), nn.Dropout(dropout)
        self.head = nn.Linear(width * 9, classes)

    def forward(self, image: Any) -> Any:
        return self.head(self.drop(torch.relu(self.convolve(image))).flatten(1))


class Line(nn.Module):
    """A linear layer; one number a sample, or several."""

    def __init__(self, inputs: int = 64, outputs: int = 1, bias: float = 0.5, sigmoid: bool = False):
        super().__init__()
        self.layer, self.sigmoid = nn.Linear(inputs, outputs), sigmoid
        nn.init.normal_(self.layer.weight, std=0.01)
        nn.init.constant_(self.layer.bias, bias)  # at first all outputs are from 0 to 1, as if there were a sigmoid

    def forward(self, x: Any) -> Any:
        found = self.layer(x.flatten(1))
        return torch.sigmoid(found) if self.sigmoid else found


class Two(nn.Module):
    """An image and what is known beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.beside = nn.Linear(64, 10), nn.Embedding(10, 10)

    def forward(self, image: Any, hint: Any, weight: Any = None) -> Any:
        return self.image(image.flatten(1)) + self.beside(hint)


class Noisy(Line):
    """Draws in evaluation mode too."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) + torch.rand(())


def tuned(model: Any, space: Any, data: Any = X, labels: Any = y, **options: Any) -> Tuned:
    options = {
        "threads": 1, "budget": Budget(600, 6), "holdout": 0, "cv": 2, "training": QUICK, "sampler": "random", **options
    }  # fmt: skip
    return search(model, space, data, labels, **options)


def test_a_factory_within_limits_and_by_rungs_of_epochs() -> None:
    space = {
        "learning_rate": scipy.stats.loguniform(1e-4, 0.1), "batch": np.array([16, 32]), "width": [2, 4, 8],
        "schedule": ["cosine", "linear"],
    }  # fmt: skip
    goal = "maximize accuracy; latency.p50 < 1 s; size < 60 kB"
    training = Training(epochs=4.5, loss="cross-entropy")
    found = tuned(Cnn, space, training=training, goal=goal, rungs="epochs", holdout=0.3, budget=Budget(600, 9))
    assert found.figures["accuracy"].candidate.value > max(0.6, found.figures["accuracy"].original.value)
    assert [judged.verdict for judged in found.limits] == ["met", "met"]
    assert found.judged_on == "108 samples that no fold has seen"
    assert any("behind others at" in trial.why for trial in found.trials)
    assert {stage.share for trial in found.trials[1:] for stage in trial.fits} == {1 / 9, 1 / 3, 1}
    module = found.estimator.module
    assert module.convolve.out_channels == found.params["width"] == found.estimator.get_params()["width"]
    assert not module.training
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    assert found.figures["size"].candidate.value == len(file.getvalue())
    assert formats.open(module).format == "torch", "what strop.optimize begins with"
    with torch.no_grad():
        answered = module(torch.from_numpy(X)).argmax(1).numpy()
    assert (found.estimator.predict(X) == answered).all()
    assert json.dumps(found.to_json())


def test_a_live_module_is_trained_on_from_its_weights_and_is_left_as_it_was() -> None:
    torch.manual_seed(3)
    net = Cnn().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    drawn = torch.get_rng_state()
    found = tuned(net, {"learning_rate": [1e-12, 3e-2]}, training=Training(epochs=3, batch=16), budget=Budget(600))
    assert torch.equal(drawn, torch.get_rng_state())
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert found.params == {"learning_rate": 3e-2}
    scores = {trial.params["learning_rate"]: trial.folds("score") for trial in found.trials[1:]}
    with torch.no_grad():
        untrained = (net.eval()(torch.from_numpy(X)).argmax(1).numpy() == y).mean()
    assert scores[1e-12][0] == pytest.approx(untrained, abs=0.07), "of half the samples"
    assert scores[3e-2][0] > untrained + 0.2


def test_a_live_module_with_weight_norm() -> None:
    net = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))
    found = tuned(net, {"learning_rate": [3e-2]}, holdout=0.3)
    assert found.estimator.score(X, y) > 0.5
    assert parametrize.is_parametrized(net[1], "weight")
    assert net(torch.from_numpy(X)).shape == (360, 10)


def test_the_same_seed_trains_the_same_module_and_no_teacher_matters() -> None:
    weights = []
    for teach, seed in ((0.7, 0), (0.0, 0), (0.7, 1)):
        learner, samples, labels = of_module(Cnn, Training(epochs=1, teach=teach), X, y, seed)
        sent = cloudpickle.loads(cloudpickle.dumps(clone(learner).set_params(width=3)))  # as to another process
        weights.append(sent.fit(samples, labels).module.head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_regression() -> None:
    data, labels = load_diabetes(return_X_y=True)
    labels = (labels - labels.mean()) / labels.std()
    network = functools.partial(Line, inputs=10)
    space = {"learning_rate": [1e-9, 3e-2], "outputs": [1], "optimizer": ["sgd"]}
    how: Any = {"training": Training(epochs=20), "goal": "minimize mse", "holdout": 0.3}
    found = tuned(network, space, data, labels, **how)
    assert found.params["learning_rate"] == 3e-2
    assert 0.3 < found.estimate.value < 0.95
    assert found.judged_on == "133 samples that no fold has seen"
    said = found.estimator.predict(data)
    assert said.shape == labels.shape
    pairs = np.stack([labels, -labels], 1)
    network = functools.partial(Line, inputs=10, outputs=2)
    both = tuned(network, {"learning_rate": [3e-2]}, data, pairs, training=Training(epochs=2))
    assert both.estimator.predict(data).shape == pairs.shape


BINARY = "binary-cross-entropy"


@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        (np.array(["no", "yes"])[y % 2], "auto"), (y % 2 == 1, "auto"), (y % 2 * 1.0, "auto"), (y % 2 * 3 + 4, BINARY)
    ],
)  # fmt: skip
def test_two_classes_by_one_number(labels: Any, loss: str) -> None:
    for sigmoid in (False, True):
        how = Training(loss=loss, epochs=20, learning_rate=3e-2)
        learner, samples, told = of_module(functools.partial(Line, sigmoid=sigmoid), how, X, labels, 0)
        fitted = learner.fit(samples, told)
        chances = fitted.predict_proba(X)
        assert (fitted.classes_[chances.argmax(1)] == fitted.predict(X)).all()
        assert fitted.score(X, labels) > 0.8
        with torch.no_grad():
            number = fitted.module(torch.from_numpy(X)).double()[:, 0].numpy()
        assert chances[:, 1] == pytest.approx(number if sigmoid else 1 / (1 + np.exp(-number)), abs=1e-6)


def test_labels_of_text_and_numbers_of_classes() -> None:
    names = np.array([f"digit {number}" for number in range(10)])[y]
    found = tuned(Cnn, {"learning_rate": [3e-2]}, labels=names.astype(object), goal="maximize f1", holdout=0.3)
    assert found.judged_on.startswith("108 samples")
    assert set(found.estimator.predict(X)) <= set(names)
    assert found.estimator.score(X, names) > 0.5
    above = of_module(Cnn, QUICK, X, y + 1, 0)[0]
    assert above.classes_.tolist() == list(range(1, 11))
    few = tuned(Cnn(), {"learning_rate": [3e-2]}, labels=y % 4, goal="minimize log_loss", threads=1)
    assert few.estimator.classes_.tolist() == list(range(10)), "the module's own numbers"
    assert few.figures["log_loss"].candidate.value < np.log(10)


def test_several_inputs_by_name() -> None:
    data = {"image": X, "hint": y}
    found = tuned(Two, {"learning_rate": [1e-3, 0.1]}, data, goal="maximize accuracy; latency.p50 < 1 s")
    assert found.estimator.score(data, y) > 0.8
    with torch.no_grad():
        answered = found.estimator.module(torch.from_numpy(X), torch.from_numpy(y)).argmax(1).numpy()
    assert (found.estimator.predict(data) == answered).all()


@pytest.mark.parametrize("training", [QUICK, Training(epochs=2, batch=32, holdout=0.0)])
def test_what_diverges_costs_that_candidate_only_and_is_told(training: Training) -> None:
    data, labels = load_diabetes(return_X_y=True)
    space = {"learning_rate": [1e30, 1e-1]}
    found = tuned(functools.partial(Line, inputs=10), space, data, labels / 100, training=training, budget=Budget(600))
    assert found.params == {"learning_rate": 1e-1}
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert [trial.params["learning_rate"] for trial in failed] == [1e30]
    assert "gone astray. Lower learning_rate (it is 1e+30)" in failed[0].why
    assert len(failed[0].fits) == 1
    with pytest.raises(RunFailed, match="gone astray"):
        tuned(Cnn, {"learning_rate": [1e30, 2e30]}, training=Training(learning_rate=1e29, epochs=1, holdout=0.0))


def test_an_interrupt_keeps_what_is_done() -> None:
    ended = 0

    def listener(event: Event) -> None:
        nonlocal ended
        ended += isinstance(event, Said)
        if ended == 3:
            raise KeyboardInterrupt

    space = {"learning_rate": scipy.stats.loguniform(1e-4, 0.1)}
    found = tuned(Cnn, space, budget=Budget(600, 50), training=Training(epochs=0.5), listener=listener)
    assert found.ended == "it was interrupted"
    assert len(found.trials) == 3
    assert found.estimator.predict(X).shape == y.shape


MINE = """
import os, pathlib, signal
import torch
from sklearn.datasets import load_digits
from strop import Budget, Training
from strop.tune import search

def net(width=2):
    with open("built.txt", "a") as file:
        file.write(f"{os.getpid()} {width}\\n")
    if os.environ.get("FATAL") == str(len(pathlib.Path("built.txt").read_text().splitlines())):
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

def loss(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs["output"], labels)

def tuned():
    X, y = load_digits(return_X_y=True)
    space = {"width": [2, 4, 6, 8, 10, 12], "learning_rate": [1e-3, 1e-2]}
    return search(
        "nets_of_mine:net", space, X[:200] / 16, y[:200], training=Training(epochs=1, loss=loss), run="run", threads=1,
        cv=3, holdout=0, budget=Budget(6000, 6),
    )
"""


def test_after_a_kill_it_goes_on_and_repeats_no_finished_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, ''); import nets_of_mine; nets_of_mine.tuned()"]
    killed = subprocess.run(command, env={**_environment(), "FATAL": "10"}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = _fits(tmp_path)
    assert len(kept) == 8, "of ten that were built one was looked at, and one was killed"
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.import_module("nets_of_mine").tuned()
    after = _fits(tmp_path)
    assert after[:8] == kept
    assert len(after) == len(set(after))
    built = (tmp_path / "built.txt").read_text().splitlines()[10:]
    assert len(built) == len(after) - 8 + 2, "one more was looked at, and the winner is fitted on all samples"
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "run/journal.log"))
    study = optuna.load_study(study_name="tune", storage=optuna.storages.JournalStorage(journal))
    assert len(study.trials) == len(found.trials) == 7
    with pytest.raises(RunFailed, match="the estimator changed"):
        data, space = DIGITS[0][:200] / 16, {"width": [2, 4, 6, 8, 10, 12], "learning_rate": [1e-3, 1e-2]}
        tuned("nets_of_mine:net", space, data, y[:200], training=Training(epochs=1), run="run", cv=3, sampler=None)


def _environment() -> dict[str, str]:
    import os

    import strop

    return {**os.environ, "PYTHONPATH": str(Path(strop.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def _fits(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "run/fits.jsonl").read_text().splitlines()
    return [(entry["candidate"], entry["stage"]) for entry in map(json.loads, lines)]


def lazy_one() -> Any:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


def broken() -> Any:
    raise OSError("no such weights")


def needy(width: int) -> Any:
    return Cnn(width)


def locked(lock: Any) -> Any:
    return Cnn()


def modal(momentum: float = 0.1) -> Any:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, momentum=momentum), nn.Linear(64, 10))


def own(outputs: Mapping[str, Any], labels: Any) -> Any:
    return outputs["logits"].sum()


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"space": {"widht": [4]}}, InvalidPlan, "did you mean width"),
        ({"model": Cnn(), "space": {"width": [4]}}, InvalidPlan, "A live module has no width"),
        ({"space": {"teach": [0.5]}}, InvalidPlan, "nothing teaches here"),
        ({"space": {"schedule": ["cosine", "linaer"]}}, InvalidPlan, "schedule of the training must be one of"),
        ({"space": {"batch": scipy.stats.loguniform(8, 64)}}, InvalidPlan, "batch of the training must be"),
        ({"space": {"loss": ["none"]}}, InvalidPlan, "the loss 'none'"),
        ({"model": modal, "space": {"momentum": [0.5]}}, InvalidPlan, "both the training and the factory"),
        ({"training": Training(teach=0.5)}, InvalidPlan, "teach of the training is of being taught"),
        ({"training": Training(student=Line())}, InvalidPlan, "student of the training is of being taught"),
        ({"training": {"epochs": 3}}, InvalidPlan, r"strop\.Training"),
        ({"training": Training(), "rungs": "epochs"}, InvalidPlan, "Name another, or give it a number"),
        ({"training": Training(loss=own)}, InvalidPlan, "its first step failed with KeyError"),
        ({"training": Training(loss="mse")}, InvalidPlan, "mse needs a label for each number"),
        ({"model": lazy_one}, UnsupportedModel, "no values"),
        ({"model": functools.partial(Noisy, outputs=10)}, UnsupportedModel, "draws random numbers"),
        ({"model": broken}, UnsupportedModel, "failed with OSError: no such weights"),
        ({"model": dict}, UnsupportedModel, "must return a module"),
        ({"model": needy}, InvalidPlan, "a value for width"),
        ({"model": "no_such:net"}, UnsupportedModel, "importable from the working directory"),
        ({"model": GaussianNB()}, UnsupportedModel, "a module of PyTorch or a function or class"),
        ({"model": functools.partial(locked, threading.Lock()), "threads": 2}, InvalidPlan, "Give threads=1"),
        ({"model": Cnn, "data": None}, InvalidData, "X is None"),
        ({"model": Cnn(), "data": None, "training": None}, InvalidData, "X is None"),
        ({"labels": None}, InvalidData, "y is None"),
        ({"labels": y[:9]}, InvalidData, "there are 360 samples and labels of"),
        ({"labels": y.astype(str)[:, None, None]}, InvalidData, "Labels of text are classes"),
        ({"labels": [None] * 360}, InvalidData, "numbers, booleans or text"),
        ({"labels": np.where(y == 0, np.nan, y)}, InvalidData, "Labels to train on must be finite"),
        ({"labels": y % 4 + 20}, InvalidData, "as many classes as the module tells apart, 10, and the labels have 4"),
        ({"data": X[:1], "labels": y[:1]}, InvalidData, "2 samples or more"),
        ({"data": np.array(["a"] * 360)}, InvalidData, "must be an array of numbers"),
        ({"data": X.reshape(360, 64)}, UnsupportedModel, r"failed on image \[16, 64\]"),
        ({"data": {"picture": X}}, InvalidData, r"each input of the module \(image\)"),
        ({"model": Two}, InvalidData, "takes image, hint, and X is one array"),
        ({"model": Two, "data": {"image": X, "hint": y[:5]}}, InvalidData, "their lengths are image 360, hint 5"),
        ({"fit_params": {"sample_weight": np.ones(360)}}, RunFailed, "sample_weight"),
    ],
)
def test_what_can_not_be_used_is_refused(options: dict[str, Any], error: type[StropError], why: str) -> None:
    with pytest.raises(error, match=why):
        tuned(**{"model": Cnn, "space": {"learning_rate": [1e-2]}, **options})
