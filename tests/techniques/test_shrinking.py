"""Pruning, factorizing, dropping blocks, distilling, training under int8: smaller, and as good as can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinking import Net, accuracy, applied, bars, context, stored, torch, trained, transformer_models
from strop.data import Data
from strop.errors import NotApplicable, TechniqueError
from strop.formats.torch import as_tensor, load, run
from strop.model import Model
from strop.runtime import predict
from strop.runtimes import find
from strop.target import Target
from strop.technique import Context, Technique, apply
from strop.techniques import (
    Distill,
    DropBlocks,
    Factorize,
    PruneChannels,
    PruneWeights,
    QuantizeAware,
    StaticInt8,
    ToOnnx,
)
from strop.techniques._fold import fold_batch_norms

nn = torch.nn
DATA = bars()
MODELS = ("bert", "gpt2", "vit", "resnet", "mobilenet")
CASES = [
    *((name, step) for name in MODELS for step in (PruneChannels(amount=0.4), Factorize(amount=0.15))),
    *((name, step) for name in ("bert", "resnet") for step in (DropBlocks(), PruneWeights(), QuantizeAware())),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return stored(trained(DATA), DATA, tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize(("name", "step"), CASES, ids=[f"{name}-{step.label()}" for name, step in CASES])
def test_architectures_of_transformers_shrink_and_are_exported(name: str, step: Technique, tmp_path: Path) -> None:
    build, arrays = transformer_models()[name]
    torch.manual_seed(0)
    data = Data(arrays)
    module = build().eval()
    model = stored(module, data, tmp_path)
    made = applied(step, model, data, tmp_path / "made", epochs=0.3, batch=8)
    given = {t.name: as_tensor(arrays[t.name][:5]) for t in model.signature.inputs}
    before, after = run(load(model), given), run(load(made), given)
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in before.items()}
    if not isinstance(step, (PruneWeights, QuantizeAware)):
        assert made.counts["operations"] < 0.95 * model.counts["operations"]
        assert made.counts["parameters"] < model.counts["parameters"]
        (tmp_path / "onnx").mkdir()
        graph = apply(ToOnnx(), made, Context(data, model, Target(threads=1), 0, tmp_path / "onnx"))
        assert graph.counts == made.counts


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_pruning_takes_out_what_is_asked_for_and_retraining_mends(
    good: Model, tmp_path: Path, importance: str, scope: str
) -> None:
    step = PruneChannels(amount=0.7, importance=importance, scope=scope)
    made = applied(step, good, DATA, tmp_path / "made", epochs=10, learning_rate=5e-3)
    assert made.counts["operations"] <= 0.3 * good.counts["operations"]
    assert accuracy(load(made), bars(seed=5)) > 0.85


def test_channels_are_left_in_whole_vectors_and_named_layers_alone(good: Model, tmp_path: Path) -> None:
    module: Any = load(applied(PruneChannels(amount=0.6), good, DATA, tmp_path / "made", keep=["hid*"]))
    assert module.first.out_channels % 8 == 0 and module.first.out_channels < 32
    assert module.hidden.out_features == 64
    assert module.head.out_features == 3


def test_heads_go_whole(tmp_path: Path) -> None:
    build, arrays = transformer_models()["bert"]
    model = stored(build().eval(), Data(arrays), tmp_path)
    made: Any = load(applied(PruneChannels(amount=0.5), model, Data(arrays), tmp_path / "made", epochs=0.3, batch=8))
    widths = [layer.attention.self.query.out_features for layer in made.bert.encoder.layer]
    assert all(width % 16 == 0 and width >= 16 for width in widths) and min(widths) < 64


def test_importance_by_gradients_spares_what_matters(tmp_path: Path) -> None:
    """Half of the neurons do nothing for the answer, though their weights are large."""
    torch.manual_seed(0)
    module: Any = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 3))
    with torch.no_grad():
        module[0].weight[::2] *= 50
        module[2].weight[:, ::2] = 0
    data = Data({"input": np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32)}, np.arange(80) % 3)
    model = stored(module, data, tmp_path)
    for importance, spared in (("taylor", True), ("magnitude", False)):
        step = PruneChannels(amount=0.5, importance=importance)
        made: Any = load(applied(step, model, data, tmp_path / importance, epochs=0.01, learning_rate=1e-9))
        assert made[0].out_features <= 64
        assert bool((made[2].weight.abs().sum(0) > 1e-6).all()) == spared


def test_what_can_hardly_be_pruned_is_refused(tmp_path: Path) -> None:
    data = Data({"x": np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)})
    model = stored(nn.Linear(16, 4), replace(data, inputs={"input": data.inputs["x"]}), tmp_path)
    with pytest.raises(NotApplicable, match="layers that must stay"):
        applied(PruneChannels(), model, replace(data, inputs={"input": data.inputs["x"]}), tmp_path / "made")


class Bare(nn.Module):
    """Ends in a matrix that belongs to no layer."""

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__()
        self.layers, self.matrix = nn.Sequential(*layers), nn.Parameter(torch.randn(width, 3))

    def forward(self, input):  # type: ignore[no-untyped-def]
        return self.layers(input) @ self.matrix


def test_what_is_no_layer_is_left_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = Data({"input": np.random.default_rng(0).normal(size=(80, 64)).astype(np.float32)}, np.arange(80) % 3)
    module = Bare(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), width=64)
    made: Any = load(
        applied(PruneChannels(amount=0.4), stored(module, data, tmp_path), data, tmp_path / "made", epochs=1)
    )
    assert made.layers[0].out_features < 128 and made.matrix.shape == (64, 3)
    alone = stored(Bare(width=64), data, tmp_path / "alone")
    with pytest.raises(NotApplicable, match="an exported program holds operators in their place"):
        applied(PruneChannels(), alone, data, tmp_path / "none")


def test_low_rank_keeps_what_the_activations_use(tmp_path: Path) -> None:
    """Inputs lie in 8 of 128 directions: at rank 8 the product is exact on them, whatever the weights are."""
    random = np.random.default_rng(0)
    inputs = (random.normal(size=(200, 8)) @ random.normal(size=(8, 128))).astype(np.float32)
    data = Data({"input": inputs})
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 4))
    model = stored(module, data, tmp_path)
    made = load(applied(Factorize(amount=0.6), model, data, tmp_path / "made", epochs=0.01, learning_rate=1e-9))
    before, after = (m(torch.from_numpy(inputs)).detach() for m in (module, made))
    assert (after - before).norm() < 0.05 * before.norm()


def test_only_as_many_layers_are_factorized_as_the_amount_asks_for(tmp_path: Path) -> None:
    """One layer has low rank and can give all of it; the other is left as it is."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
    with torch.no_grad():
        module[2].weight.copy_(torch.randn(128, 8) @ torch.randn(8, 128) / 30)
    data = Data({"input": np.random.default_rng(0).normal(size=(200, 128)).astype(np.float32)})
    model = stored(module, data, tmp_path)
    made: Any = load(applied(Factorize(amount=0.3), model, data, tmp_path / "made", epochs=0.01, learning_rate=1e-9))
    assert isinstance(made[0], nn.Linear) and isinstance(made[2], nn.Sequential)
    x = torch.from_numpy(data.inputs["input"])
    assert (made(x) - module(x)).norm() < 0.05 * module(x).norm()


def test_convolutions_become_three(good: Model, tmp_path: Path) -> None:
    made: Any = load(applied(Factorize(amount=0.4), good, DATA, tmp_path / "made", epochs=6))
    assert [layer.kernel_size for layer in made.second] == [(1, 1), (3, 3), (1, 1)]
    assert accuracy(made, bars(seed=5)) > 0.85


def test_weights_become_zero_and_stay(good: Model, tmp_path: Path) -> None:
    free: Any = load(applied(PruneWeights(amount=0.8), good, DATA, tmp_path / "free", epochs=4))
    zeros = [layer.weight == 0 for layer in (free.second, free.hidden)]
    assert 0.75 < torch.cat([zero.flatten() for zero in zeros]).float().mean() < 0.85
    fours: Any = load(applied(PruneWeights(pattern="2:4"), good, DATA, tmp_path / "fours"))
    left = (fours.second.weight.movedim(1, -1).reshape(-1, 4) != 0).sum(1)
    assert (left == 2).all()
    assert accuracy(free, bars(seed=5)) > 0.85


def test_a_student_takes_the_originals_place(good: Model, tmp_path: Path) -> None:
    torch.manual_seed(3)
    student = stored(Net(8), DATA, tmp_path / "student")
    given = replace(context(good, DATA, tmp_path / "made", epochs=15, learning_rate=0.01), student=student)
    made = apply(Distill(), good, given)
    assert made.counts["parameters"] < 0.3 * good.counts["parameters"]
    assert accuracy(load(made), bars(seed=5)) > 0.8
    with pytest.raises(NotApplicable, match="takes the place of the original"):
        Distill().requires(made, Target())


def test_blocks_are_taken_out_evenly(tmp_path: Path) -> None:
    build, arrays = transformer_models()["bert"]
    model = stored(build().eval(), Data(arrays), tmp_path)
    before: Any = load(model)
    after: Any = load(
        applied(DropBlocks(amount=0.34), model, Data(arrays), tmp_path / "made", epochs=0.01, learning_rate=1e-12)
    )
    kept = [layer.output.dense.weight for layer in after.bert.encoder.layer]
    whole = [layer.output.dense.weight for layer in before.bert.encoder.layer]
    assert len(kept) == 2
    torch.testing.assert_close(kept[0], whole[0])
    torch.testing.assert_close(kept[1], whole[2])


def test_training_under_int8_ends_in_integers_that_are_as_good(good: Model, tmp_path: Path) -> None:
    aware = applied(QuantizeAware(), good, DATA, tmp_path / "aware", epochs=4, learning_rate=2e-3)
    assert not [m for m in load(aware).modules() if isinstance(m, nn.BatchNorm2d)]
    target, graph = Target(threads=1), aware
    for place, step in enumerate((ToOnnx(), StaticInt8())):
        (tmp_path / str(place)).mkdir()
        graph = apply(step, graph, Context(DATA, good, target, 0, tmp_path / str(place)))
    assert graph.size < 0.5 * good.size
    unseen = bars(seed=5)
    runner = find("onnxruntime")().load(graph, target)
    answers = predict(runner, graph.signature, unseen, 16)["output"].argmax(1)
    assert (answers == unseen.label_array()).mean() > 0.85


def test_batch_norms_are_folded_where_nothing_else_reads_what_they_do(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
            self.b, self.m = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):  # type: ignore[no-untyped-def]
            x = self.n(self.a(x))
            y = self.b(x)
            return self.m(y) + y

    torch.manual_seed(0)
    module = Twice()
    for norm in (module.n, module.m):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, 1, 6, 6)
    expected = module.eval()(x)
    folded: Any = fold_batch_norms(module, {"x": x})
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(folded.n, nn.Identity) and isinstance(folded.m, nn.BatchNorm2d)


def test_a_student_that_is_missing_is_named(good: Model, tmp_path: Path) -> None:
    with pytest.raises(TechniqueError, match="no student"):
        apply(Distill(), good, context(good, DATA, tmp_path / "made"))


class Sequence(nn.Module):
    """A convolution, an LSTM, a transformer's layer, and a container that is named as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 32, 3, padding=1)
        self.memory = nn.LSTM(32, 32, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(32, 4, 128, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, signal):  # type: ignore[no-untyped-def]
        seen, _ = self.memory(torch.relu(self.first(signal)).transpose(1, 2))
        return self.head(self.layer(seen).mean(1))


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Data]:
    random = np.random.default_rng(0)
    data = Data({"signal": random.normal(size=(60, 4, 12)).astype(np.float32)}, random.integers(0, 3, 60))
    torch.manual_seed(0)
    return stored(Sequence().eval(), data, tmp_path_factory.mktemp("sequence")), data


@pytest.mark.parametrize("step", [PruneChannels(amount=0.2), Factorize(amount=0.1), PruneWeights(amount=0.35)], ids=str)
def test_layers_that_pytorch_runs_as_one_are_counted_and_shrunk_around(
    sequence: tuple[Model, Data], step: Technique, tmp_path: Path
) -> None:
    model, data = sequence
    recurrent, attention, wide = 12 * 2 * 4 * 32 * 32, 12 * 4 * 32 * 32, 12 * 2 * 32 * 128
    assert model.counts["operations"] > recurrent + attention + wide
    made = applied(step, model, data, tmp_path / "made", keep=["head"])
    after, before = load(made), load(model)
    assert [tuple(p.shape) for p in after.head.parameters()] == [tuple(p.shape) for p in before.head.parameters()]
    if isinstance(step, PruneWeights):
        kept = [layer.weight for layer in (after.first, after.layer.linear1, after.layer.linear2)]
        assert 0.3 < torch.cat([(w == 0).flatten() for w in kept]).float().mean() < 0.4, "also where zeros are few"
        assert not (after.head[0].weight == 0).any()
    else:
        assert made.counts["operations"] < model.counts["operations"]
    (tmp_path / "graph").mkdir()
    apply(ToOnnx(), made, Context(data, model, Target(threads=1), 0, tmp_path / "graph"))


def test_what_was_frozen_stays_frozen(tmp_path: Path) -> None:
    module = trained(DATA)
    module.first.requires_grad_(False)
    model = stored(module, DATA, tmp_path)
    made: Any = load(applied(PruneChannels(amount=0.4), model, DATA, tmp_path / "made", epochs=0.1))
    flags = {name: p.requires_grad for name, p in made.named_parameters()}
    assert {name for name, learned in flags.items() if not learned} == {"first.weight", "first.bias"}
    assert made.first.out_channels < 32


class Row(nn.Sequential):
    """Has a forward of its own."""

    def forward(self, given):  # type: ignore[no-untyped-def]
        return super().forward(given) + given


def test_blocks_go_from_a_container_with_a_forward_of_its_own(tmp_path: Path) -> None:
    data = Data({"input": np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)})
    module = nn.Sequential(Row(*(nn.Linear(8, 8) for _ in range(4)))).eval()
    model = stored(module, data, tmp_path)
    made: Any = load(applied(DropBlocks(amount=0.5), model, data, tmp_path / "made"))
    assert type(made[0]).__name__ == "Row" and len(made[0]) == 2
    with pytest.raises(NotApplicable, match="less than one"):
        applied(DropBlocks(amount=0.1), model, data, tmp_path / "2")


def test_operations_are_counted_at_the_original_s_length_whatever_it_was_trained_on(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv1d(1, 64, 3), nn.ReLU(), nn.Conv1d(64, 64, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 2)
    )
    samples = np.random.default_rng(0).normal(size=(24, 1, 400)).astype(np.float32)
    model = stored(module, Data({"input": samples}), tmp_path)
    short = context(model, Data({"input": samples[..., :40]}), tmp_path / "made", epochs=1, loss="none")
    made = apply(PruneChannels(amount=0.3), model, short)
    shrunk = made.counts["operations"] / model.counts["operations"]
    assert 0.3 < shrunk < 0.8
