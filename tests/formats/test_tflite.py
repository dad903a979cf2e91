"""TFLite: what is read of a file, and what is refused before anything runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")

import tflites
from strop import formats
from strop.data import Data
from strop.errors import UnsupportedModel
from strop.formats.tflite import TfliteFormat
from strop.techniques import TfliteInt8
from strop.testing import Example, FormatCase


class TestTflite(FormatCase):
    format = TfliteFormat()

    def example(self, folder: Path) -> Path:
        return tflites.example(folder).model.path

    def broken(self, folder: Path) -> Path:
        path = folder / "model.tflite"
        path.write_bytes(tflites.cnn().bytes()[:3000])
        return path


def test_names_are_those_of_the_signature_else_of_the_tensors(tmp_path: Path) -> None:
    named = tflites.opened(tflites.cnn(), tmp_path / "named")
    assert [str(t) for t in (*named.signature.inputs, *named.signature.outputs)] == [
        "picture: float32[?, 12, 12, 3]", "scores: float32[?, 10]"
    ]  # fmt: skip
    assert named.counts == {"parameters": 1728, "operations": 144 * 27 * 8 + 36 * 72 * 18 + 180}
    bare = tflites.cnn()
    bare.model.signatureDefs = []
    model = tflites.opened(bare, tmp_path / "bare")
    assert [t.name for t in (*model.signature.inputs, *model.signature.outputs)] == ["image", "probabilities"]
    result = tflites.quantize(
        TfliteInt8(), Example(model, Data({"image": tflites.images().inputs["picture"]})), tmp_path / "q"
    )
    assert result.signature.names() == model.signature.names()


def test_bytes_are_a_model_too(tmp_path: Path) -> None:
    content = tflites.cnn().bytes()
    model = formats.open(content)
    stored = formats.format_of(model.format).store(model, tmp_path)
    assert stored.path.read_bytes() == content
    assert stored.signature == model.signature
    with pytest.raises(UnsupportedModel, match="it is broken"):
        formats.open(content[:2000])


def test_one_signature_is_called_and_the_others_are_told(tmp_path: Path) -> None:
    writer = tflites.cnn()
    writer.ends(["image"], ["probabilities"], key="another", x="image", y="probabilities")
    model = tflites.opened(writer, tmp_path)
    assert [t.name for t in model.signature.inputs] == ["picture"]
    assert model.notes == ("of the signatures in the .tflite file, another are not looked at",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: setattr(w.graph.operators[0], "opcodeIndex", 9), "code numbered 9"),
        (lambda w: setattr(w.graph.operators[0], "inputs", [0, 99, 2]), "tensor 99"),
        (lambda w: setattr(w.graph.operators[0], "outputs", [-1]), "tensor -1"),
        (lambda w: setattr(w.graph.tensors[1], "buffer", 77), "buffer 77"),
        (lambda w: setattr(w.graph.tensors[1], "shape", [8, 3, 3, 4]), "864 bytes"),
        (lambda w: setattr(w.graph.tensors[0], "shape", [1, -12, 12, 3]), "sizes"),
        (lambda w: setattr(w.graph.tensors[0], "type", 99), "type 99"),
        (lambda w: setattr(w.graph.tensors[0], "type", 5), "is string"),
        (lambda w: setattr(w.model.operatorCodes[0], "builtinCode", 4000), "code 4000"),
        (lambda w: setattr(w.graph, "outputs", []), "none of what it takes or gives"),
        (lambda w: setattr(w.model, "subgraphs", []), "no subgraph"),
        (lambda w: setattr(w.model.signatureDefs[0].inputs[0], "tensorIndex", 1), "'picture'"),
        (lambda w: w.model.signatureDefs.clear() or setattr(w.graph, "inputs", []), "inputs and outputs"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_before_it_is_run(tmp_path: Path, change, said: str) -> None:
    writer = tflites.cnn()
    change(writer)
    with pytest.raises(UnsupportedModel, match=said):
        tflites.opened(writer, tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.touch()
    with pytest.raises(UnsupportedModel, match="broken"):
        formats.open(path)


def test_damaged_bytes_are_read_or_refused(tmp_path: Path) -> None:
    whole, path, random = tflites.cnn().bytes(), tmp_path / "model.tflite", np.random.default_rng(0)
    opened = 0
    for trial in range(300):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=1 + trial % 3):
            damaged[place] = random.choice([0, 1, 127, 128, 255, random.integers(256)])
        path.write_bytes(damaged[: random.integers(len(whole))] if trial % 4 == 0 else damaged)
        try:
            model = formats.open(path)
        except UnsupportedModel as error:
            assert "\n" not in str(error)
            continue
        opened += 1
        assert formats.format_of("tflite").structure(model).layers
    assert 100 < opened < 300


def test_every_word_of_a_file_may_be_wrong(tmp_path: Path) -> None:
    """Each of the file's 32-bit words but those of weights in turn: places, sizes, types and counts."""
    whole, path = tflites.cnn().bytes(), tmp_path / "model.tflite"
    weights = [np.asarray(b.data).tobytes() for b in tflites.cnn().model.buffers if b.data is not None]
    starts = [(whole.index(data), len(data)) for data in weights if len(data) > 64]
    inside = {at for start, size in starts for at in range(start, start + size)}
    words, refused = [at for at in range(0, len(whole) - 4, 4) if at not in inside], 0
    for number, place in enumerate(words):
        wrong = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, place + 4)[number % 5]
        path.write_bytes(whole[:place] + wrong.to_bytes(4, "little") + whole[place + 4 :])
        try:
            model = formats.open(path)
        except UnsupportedModel as error:
            assert "\n" not in str(error) and len(str(error)) < 500
            refused += 1
            continue
        assert len(formats.format_of("tflite").structure(model).layers) < 100
    assert 0.2 * len(words) < refused < len(words)


def test_a_quantized_end_needs_one_scale(tmp_path: Path) -> None:
    for scales in ([float("nan")], [0.0], [-1.0]):
        writer = tflites.integers()
        writer.graph.tensors[0].quantization.scale = scales
        with pytest.raises(UnsupportedModel, match="one scale above zero"):
            tflites.opened(writer, tmp_path)


def test_a_profile_tells_operators_and_weights(tmp_path: Path) -> None:
    model = tflites.example(tmp_path).model
    found = formats.format_of("tflite").structure(model)
    assert [layer.operator for layer in found.layers] == ["CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert found.operations == model.counts["operations"]
    assert found.facts["weights"] == {"float32": 4 * model.counts["parameters"]}
    assert [layer.bytes for layer in found.layers] == [4 * (216 + 8), 4 * (1296 + 18), 8, 4 * (180 + 10), 0]
