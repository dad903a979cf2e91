"""Reading PyTorch models, writing them, and carrying them on to ONNX."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import models
from strop import formats
from strop._pickles import seal_of
from strop._quiet import silenced
from strop.data import Data
from strop.errors import StropError, TechniqueError, UnsupportedModel, UntrustedModel
from strop.formats.torch import as_tensor, load, run
from strop.model import ONNX, TORCH, Model
from strop.runtimes import find
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import ToOnnx, to_onnx

torch = pytest.importorskip("torch")
nn = torch.nn
room = formats.format_of(TORCH)
RNG = np.random.default_rng(0)
IMAGES = {"image": RNG.normal(size=(24, 1, 12, 12))}
WORDS = {"input_ids": RNG.integers(0, 100, (24, 12)), "attention_mask": np.ones((24, 12), np.int32)}
PIXELS = {"pixel_values": RNG.normal(size=(24, 3, 32, 32))}


class Net(nn.Module):
    """Two inputs, one of them optional and by keyword only; a mapping out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, image, *, scale=None, labels=None):  # type: ignore[no-untyped-def]
        hidden = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return {"logits": self.head(hidden if scale is None else hidden * scale[:, None]), "none": None}


class Branches(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x * 2 if x.sum() > 0 else x - 1


class Bessel(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return torch.special.bessel_j0(x)


class Pair(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return x + 1, x.sum(1)


class Nothing(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return None


class Shared(nn.Module):
    """One weight at two places, and operations in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = self.a(x)
        y.relu_()
        y += x
        return self.b(y)


def known(module: object, arrays: Mapping[str, np.ndarray], folder: Path) -> Model:
    """A module on disk with its signature whole."""
    stored = room.store(room.open(module), folder / "original")
    return room.fit(stored, {name: array[:3] for name, array in arrays.items()})


def exported(module: object, arrays: Mapping[str, np.ndarray], folder: Path) -> Model:
    model = known(module, arrays, folder)
    (folder / "onnx").mkdir(parents=True)
    return apply(ToOnnx(), model, Context(Data(arrays), model, Target(threads=1), 0, folder / "onnx"))


def test_inputs_are_named_by_forward_and_the_rest_is_learned_from_samples(tmp_path: Path) -> None:
    opened = room.open(Net())
    assert [t.name for t in opened.signature.inputs] == ["image", "scale"] and not opened.signature.outputs
    model = known(Net(), {**IMAGES, "scale": RNG.random(24)}, tmp_path)
    assert [str(t) for t in model.signature.inputs] == ["image: float32[?, 1, 12, 12]", "scale: float32[?]"]
    assert [str(t) for t in model.signature.outputs] == ["logits: float32[?, 4]"]
    assert [str(t) for t in known(Pair(), {"x": RNG.normal(size=(9, 5))}, tmp_path / "2").signature.outputs] == [
        "output_0: float32[?, 5]", "output_1: float32[?]"
    ]  # fmt: skip


def test_a_stored_module_lives_without_the_file_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_helper_of_net.py").write_text(
        "import torch\ndef twice(x): return 2 * x\ndef main(): torch.backends.cudnn.benchmark = True\n"
    )
    (tmp_path / "own_net.py").write_text(
        "import own_helper_of_net, torch\nclass Own(torch.nn.Module):\n"
        "    def forward(self, x): return own_helper_of_net.twice(x)\ndef make(): return Own()\n"
    )
    monkeypatch.chdir(tmp_path)
    model = formats.open("own_net:make")
    stored = room.store(model, tmp_path / "run")
    monkeypatch.delitem(sys.modules, "own_net")
    monkeypatch.delitem(sys.modules, "own_helper_of_net")
    monkeypatch.chdir("/")
    assert load(stored)(torch.ones(2)).tolist() == [2, 2]
    assert stored.path.stat().st_mode & 0o077 == 0


def test_a_module_that_others_may_write_is_not_run(tmp_path: Path) -> None:
    stored = room.store(room.open(Net()), tmp_path)
    stored.path.chmod(0o666)
    with pytest.raises(UntrustedModel, match="only its owner"):
        load(stored)


def test_a_module_from_elsewhere_is_not_run_whoever_owns_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacking an archive makes its files one's own; the seal of another user, or of other content, does not hold."""
    stored = room.store(room.open(Net()), tmp_path)
    assert load(stored) is not None
    content, seal = stored.path.read_bytes(), seal_of(stored.path).read_bytes()
    stored.path.write_bytes(content + b"\0")
    with pytest.raises(UntrustedModel, match="its seal is wrong"):
        load(stored)
    stored.path.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody else"))
        with pytest.raises(UntrustedModel, match="its seal is wrong"):
            load(stored)
    seal_of(stored.path).unlink()
    with pytest.raises(UntrustedModel, match="its seal is missing"):
        load(stored)
    seal_of(stored.path).write_bytes(seal)
    assert load(stored) is not None


def test_a_module_that_can_not_be_pickled_says_why(tmp_path: Path) -> None:
    module = Net()
    module.lock = threading.Lock()
    with pytest.raises(UnsupportedModel, match="can't be pickled: cannot pickle"):
        room.store(room.open(module), tmp_path)


def test_exported_programs_are_read(tmp_path: Path) -> None:
    free = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(nn.Sequential(nn.Linear(6, 3)).eval(), (torch.ones(2, 6),), dynamic_shapes=free)
    torch.export.save(program, tmp_path / "model.pt2")
    arrays = {"input": RNG.normal(size=(24, 6))}
    for number, source in enumerate((tmp_path / "model.pt2", program)):
        made = exported(source, arrays, tmp_path / str(number))
        assert next(str(t) for t in made.signature.outputs).startswith("output: float32[")


class Evil:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["inputs", "pickled weight", "library", "object", "twice"])
def test_a_program_that_would_run_code_is_refused(tmp_path: Path, kind: str) -> None:
    program = torch.export.export(nn.Linear(6, 3).eval(), (torch.ones(2, 6),))
    torch.export.save(program, tmp_path / "good.pt2")
    torch.save(Evil(tmp_path / "ran"), tmp_path / "x")
    evil = (tmp_path / "x").read_bytes()
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as bad:
        root = good.namelist()[0].partition("/")[0]
        for name in good.namelist():
            content = good.read(name)
            if kind == "inputs" and name.endswith("sample_inputs/model.pt"):
                content = evil
            if kind == "pickled weight" and name.endswith("weights_config.json"):
                content = re.sub(rb'"use_pickle":\s*false', b'"use_pickle"\n:\ttrue', content)
            if kind == "pickled weight" and name.endswith("weight_0"):
                content = evil
            bad.writestr(name, content)
        if kind == "library":
            bad.writestr(f"{root}/data/aotinductor/model/model.so", b"code")
        if kind == "object":
            bad.writestr(f"{root}/data/constants/custom_obj_0", evil)
        if kind == "twice":
            with pytest.warns(UserWarning, match="Duplicate"):
                bad.writestr(f"{root}/models/model.json", good.read(f"{root}/models/model.json"))
    formats.open(tmp_path / "good.pt2")
    with pytest.raises(UntrustedModel, match="could run code"):
        formats.open(tmp_path / "evil.pt2")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no archive")
    with pytest.raises(UnsupportedModel, match="no exported program"):
        formats.open(tmp_path / "text.pt2")


def test_a_live_module_is_left_as_it_is(tmp_path: Path) -> None:
    module, other = Net().train(), Net()
    torch.save(other.state_dict(), tmp_path / "w.pth")
    before = module.head.weight.clone()
    known(module, IMAGES, tmp_path)
    formats.open(module, tmp_path / "w.pth")
    assert module.training and torch.equal(module.head.weight, before)


def test_a_wrapped_module_is_the_one_within() -> None:
    module = Net()
    compiled = torch.compile(module, backend="eager")
    for wrapped in (compiled, nn.DataParallel(module), nn.DataParallel(compiled)):
        assert formats.open(wrapped).payload is module


def test_what_only_looks_like_a_module_is_told_apart() -> None:
    with pytest.raises(UnsupportedModel, match=r"Give an instance: Net\(\)"):
        formats.open(Net)
    with pytest.raises(UnsupportedModel, match="give the module that they were filled into"):
        formats.open(Net().state_dict())


def test_weights_fill_a_module(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    trained = Net()
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    state = trained.state_dict()
    torch.save({"epoch": 3, "model": {f"_orig_mod.module.{name}": t for name, t in state.items()}}, tmp_path / "c.pth")
    for name in ("w.safetensors", "w.pth", "c.pth"):
        module = formats.open(Net(), tmp_path / name).payload
        assert torch.equal(module.head.weight, trained.head.weight)


def test_weights_that_do_not_fit_or_run_code_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    (tmp_path / "text.safetensors").write_text("no tensors")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    for name, kind, words in (
        ("other.pth", UnsupportedModel, "does not fit"), ("evil.pth", UntrustedModel, "tensors only"),
        ("text.safetensors", UnsupportedModel, "can't be read"), ("missing.pth", UnsupportedModel, "can't be read"),
        ("tensor.pth", UnsupportedModel, "state dict"),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            formats.open(Net(), tmp_path / name)
    with pytest.raises(StropError, match="Leave out weights"):
        formats.open(models.case("mlp", tmp_path / "onnx").model.path, tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("module", "arrays", "words"),
    [
        (Net(), {"image": RNG.normal(size=(9, 3, 12, 12))}, "failed on image"),
        (Nothing(), {"x": RNG.normal(size=(9, 3))}, "returned a NoneType"),
    ],
)
def test_what_can_not_be_run_is_told(tmp_path: Path, module: object, arrays: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        known(module, arrays, tmp_path)


def test_a_forward_without_names_is_refused() -> None:
    class Nameless(nn.Module):
        def forward(self, *arrays):  # type: ignore[no-untyped-def]
            return arrays[0]

    with pytest.raises(UnsupportedModel, match="by name"):
        room.open(Nameless())


@pytest.mark.parametrize(
    ("module", "words"),
    [(Branches(), r"test_torch.py:\d+\): return x \* 2 if x.sum"), (Bessel(), r"ONNX has no prims\.bessel_j0")],
)
def test_what_can_not_be_exported_is_named(tmp_path: Path, module: object, words: str) -> None:
    with pytest.raises(TechniqueError, match=words):
        exported(module, {"x": RNG.normal(size=(24, 8))}, tmp_path)


def test_a_graph_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = to_onnx.save

    def spoiled(proto: onnx.ModelProto, folder: Path, like: Model) -> Model:
        head = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [4])
        head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) + 0.01, head.name))
        return save(proto, folder, like)

    monkeypatch.setattr(to_onnx, "save", spoiled)
    with pytest.raises(TechniqueError, match=r"'logits' is off by 0\.01"):
        exported(Net(), IMAGES, tmp_path)


@pytest.mark.parametrize("name", ["net", "pair", "shared", "bert", "gpt2", "vit", "resnet", "mobilenet"])
def test_the_export_answers_as_the_module_for_any_number_of_samples(tmp_path: Path, name: str) -> None:
    module, arrays = made(name)
    graph = exported(module, arrays, tmp_path)
    assert graph.format == ONNX and all(t.batched and t.fixed_batch is None for t in graph.signature.inputs)
    runner = find("onnxruntime")().load(graph, Target(threads=1))
    model = known(module, arrays, tmp_path / "again")
    for count in (1, 5, 24):
        batch = {name: as_tensor(array[:count]) for name, array in arrays.items()}
        expected = run(load(model), batch)
        got = runner({name: tensor.numpy() for name, tensor in batch.items()})
        assert list(got) == list(expected)
        for output, tensor in expected.items():
            np.testing.assert_allclose(got[output], tensor.numpy(), rtol=1e-3, atol=1e-4)
    runner.close()


def test_a_hugging_face_folder_is_opened_without_running_its_code(tmp_path: Path) -> None:
    module, arrays = made("bert")
    module.save_pretrained(tmp_path / "bert")
    model = known(tmp_path / "bert", arrays, tmp_path)
    assert [t.name for t in model.signature.inputs] == ["input_ids", "attention_mask"]
    config = tmp_path / "bert" / "config.json"
    config.write_text(config.read_text().replace('"BertModel"', '"OurOwnModel"'))
    with pytest.raises(UnsupportedModel, match="OurOwnModel"):
        formats.open(tmp_path / "bert")


def made(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """A module with random weights, and samples that fit it."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    match name:
        case "net":
            return Net(), {**IMAGES, "scale": RNG.random(24)}
        case "pair":
            return Pair(), {"x": RNG.normal(size=(24, 5))}
        case "shared":
            return Shared(), {"x": RNG.normal(size=(24, 8))}
    with silenced():
        t = pytest.importorskip("transformers")
    match name:
        case "bert":
            return t.BertModel(t.BertConfig(vocab_size=100, **small)).eval(), WORDS
        case "gpt2":
            config = t.GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=32, use_cache=False,
                                  bos_token_id=0, eos_token_id=0)  # fmt: skip
            return t.GPT2LMHeadModel(config).eval(), {"input_ids": WORDS["input_ids"]}
        case "vit":
            return t.ViTForImageClassification(t.ViTConfig(image_size=32, patch_size=8, **small)).eval(), PIXELS
        case "resnet":
            config = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
            return t.ResNetForImageClassification(config).eval(), PIXELS
    config = t.MobileNetV2Config(image_size=32, depth_multiplier=0.35)
    return t.MobileNetV2ForImageClassification(config).eval(), PIXELS


def test_a_module_that_is_read_leaves_no_semaphore_to_what_exports_it(tmp_path: Path) -> None:
    tqdm = pytest.importorskip("tqdm")
    load(known(Pair(), {"x": RNG.normal(size=(9, 5))}, tmp_path))
    assert "multiprocessing" not in type(tqdm.tqdm.get_lock()).__module__
    assert not hasattr(tqdm.tqdm.get_lock(), "mp_lock")
