"""Modules that are odd, and go through; and those that are refused, by the rule that they break."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop import formats
from strop._quiet import silenced
from strop.data import Data
from strop.errors import TechniqueError, UnsupportedModel, UntrustedModel
from strop.formats.torch import load, run
from strop.model import TORCH, Model
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import ToOnnx

torch = pytest.importorskip("torch")
nn = torch.nn
room = formats.format_of(TORCH)
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


class Of(nn.Module):
    """A linear layer, and what is made of its input and output."""

    def __init__(self, after: Callable[[Any], Any] = lambda y: y, before: Callable[[Any], Any] = lambda x: x) -> None:
        super().__init__()
        self.layer, self.after, self.before = nn.Linear(4, 3), after, before

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.after(self.layer(self.before(x)))


class Counting(Of):
    """Changes with each call."""

    calls = 0

    def forward(self, x):  # type: ignore[no-untyped-def]
        self.calls += 1
        return super().forward(x) + self.calls


def known(module: nn.Module, folder: Path) -> Model:
    return room.fit(room.store(room.open(module), folder), {"x": X[:3]})


def exported(module: nn.Module, folder: Path) -> Model:
    model = known(module, folder / "original")
    (folder / "onnx").mkdir()
    return apply(ToOnnx(), model, Context(Data({"x": X}), model, Target(threads=1), 0, folder / "onnx"))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Of(lambda y: y.bfloat16()), "'output' is bfloat16"),
        (Of(lambda y: torch.complex(y, y)), "'output' is complex64"),
        (Of(lambda y: y.to_sparse()), "'output' is sparse"),
        (Of(lambda y: y.squeeze()), r"'output' is \[3, 3\] for several and \[3\] for one"),
        (Of(lambda y: {"y": y, "z": y} if len(y) > 1 else {"y": y}), "returns y, z for several and y for one"),
        (Of(lambda y: nn.functional.dropout(y, 0.5, True)), "'output' differs between two calls"),
        (Counting(), "'output' differs between two calls"),
        (nn.Sequential(nn.LazyLinear(3)), "0.weight of Sequential has no values"),
        (nn.Linear(4, 3, device="meta"), "weight of Linear has no values"),
    ],
    ids=["bfloat16", "complex", "sparse", "squeeze", "names", "random", "counting", "lazy", "meta"],
)
def test_what_no_graph_could_answer_is_refused(tmp_path: Path, module: nn.Module, said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        known(module, tmp_path)


def test_torchscript_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        traced = torch.jit.trace(nn.Linear(4, 3), torch.ones(2, 4))
    with pytest.raises(UnsupportedModel, match="this is TorchScript"):
        room.open(traced)


def test_reparametrized_weights_are_written_out(tmp_path: Path) -> None:
    module = Of(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    nn.utils.parametrizations.spectral_norm(module.layer)
    module.eval()
    expected = run(module, {"x": torch.from_numpy(X)})["output"]
    stored = load(known(module, tmp_path))
    assert {name for name, _ in stored.named_parameters()} == {
        f"{layer}.{name}" for layer in ("layer", "after") for name in ("weight", "bias")
    }
    assert torch.allclose(run(stored, {"x": torch.from_numpy(X)})["output"], expected, atol=1e-6)
    assert nn.utils.parametrize.is_parametrized(module.layer), "what the user holds is left as it is"


def zeroed(x):  # type: ignore[no-untyped-def]
    x.mul_(2)[:, 0] = 0
    return x


def masked(y):  # type: ignore[no-untyped-def]
    return y.masked_fill(y < 0, float("-inf"))


def undefined(y):  # type: ignore[no-untyped-def]
    return torch.where(y > 0, y, torch.sqrt(-1 - y * y))


def test_booleans_and_whole_numbers_are_answers_too(tmp_path: Path) -> None:
    signature = known(Of(lambda y: (y > 0, y.argmax(1), y[:, :0])), tmp_path).signature
    assert [str(tensor) for tensor in signature.outputs] == [
        "output_0: bool[?, 3]", "output_1: int64[?]", "output_2: float32[?, 0]"
    ]  # fmt: skip


@pytest.mark.parametrize("module", [Of(masked, zeroed), Of(undefined)], ids=["infinite", "nan"])
def test_infinities_nan_and_operations_on_the_input_itself_are_exported(tmp_path: Path, module: nn.Module) -> None:
    assert exported(module, tmp_path).signature.outputs[0].name == "output"


def chosen(y):  # type: ignore[no-untyped-def]
    positive = y.mean().item() > 0
    return y if positive else -y


def test_the_line_that_can_not_be_exported_is_named_and_nothing_else_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TechniqueError, match=r"in chosen \(.*test_odd_modules.py:\d+\): return y if positive"):
        exported(Of(chosen), tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of transformers, saved."""
    with silenced():
        t = pytest.importorskip("transformers")
    made: Path = tmp_path_factory.mktemp("bert")
    config = t.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20)
    t.BertModel(config).save_pretrained(made)
    return made


@pytest.mark.parametrize(
    ("name", "change", "kind", "said"),
    [
        ("config.json", {"attn_implementation": "somebody/kernel"}, UntrustedModel, "the kernel 'somebody/kernel'"),
        ("config.json", {"text": {"_attn_implementation": {"": "a/b"}}}, UntrustedModel, "the kernel 'a/b'"),
        ("config.json", {"auto_map": {"AutoModel": "evil.M"}, "architectures": ["AutoModel"], "model_type": "evil"},
         UnsupportedModel, "transformers loads"),
        ("config.json", {"architectures": ["BertForMaskedLM"]}, UnsupportedModel, "must hold all weights of BertFor"),
        ("config.json", {"architectures": ["BertTokenizer"]}, UnsupportedModel, "transformers loads"),
        ("config.json", {"architectures": [5]}, UnsupportedModel, "names 5"),
        ("config.json", "[1]", UnsupportedModel, "must be a JSON object, and is a list"),
        ("config.json", "{", UnsupportedModel, "must be JSON"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}, UntrustedModel, "must lie in it"),
    ],
)  # fmt: skip
def test_folders_that_are_odd_are_refused_and_run_nothing(
    folder: Path, name: str, change: dict[str, Any] | str, kind: type[Exception], said: str
) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()")
    file = folder / name
    before = file.read_text() if file.exists() else None
    try:
        file.write_text(change if isinstance(change, str) else json.dumps(json.loads(before or "{}") | change))
        with pytest.raises(kind, match=said):
            formats.open(folder)
        assert not (folder / "ran").exists()
    finally:
        file.write_text(before) if before else file.unlink()
