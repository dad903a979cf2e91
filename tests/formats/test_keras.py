"""Keras and SavedModel: what is read of a model, and what is refused before any of it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerases
from kerases import keras, layers, tensorflow
from strop import formats
from strop._lazy import installed, require
from strop.data import Data, match
from strop.errors import InvalidData, UnsupportedModel, UntrustedModel
from strop.formats.keras import KerasFormat, function_of, load
from strop.formats.saved_model import SavedModelFormat
from strop.model import KERAS, SAVED_MODEL
from strop.technique import apply
from strop.techniques import PruneKerasWeights
from strop.testing import FormatCase

pytestmark = kerases.QUIET
SavedModel = require("tensorflow.core.protobuf.saved_model_pb2").SavedModel


class TestKeras(FormatCase):
    format = KerasFormat()

    def example(self, folder: Path) -> Path:
        return kerases.stored(kerases.two_ends(), folder).path

    def broken(self, folder: Path) -> Path:
        path = self.example(folder)
        path.write_bytes(path.read_bytes()[:900])
        return path


class TestSavedModel(FormatCase):
    format = SavedModelFormat()

    def example(self, folder: Path) -> Path:
        return kerases.stored(kerases.own(), folder).path

    def broken(self, folder: Path) -> Path:
        path = self.example(folder) / "saved_model.pb"
        path.write_bytes(path.read_bytes()[:900])
        return path.parent


def test_names_types_and_sizes_are_those_that_users_call(tmp_path: Path) -> None:
    live = kerases.two_ends()
    for source in (live, kerases.stored(live, tmp_path).path):
        model = formats.open(source)
        assert [str(t) for t in (*model.signature.inputs, *model.signature.outputs)] == [
            "number: float32[?, 4]", "token: int32[?, 3]", "hidden: float32[?, 6]", "score: float32[?, 2]"
        ]  # fmt: skip
        assert model.counts == {"parameters": 4 * 6 + 6 + 5 * 2 + 12 * 2 + 2}
    model = formats.open(tmp_path / "model.keras")
    batch = kerases.data_of(model).batch(0, 5)
    found, wanted = function_of(model)(batch), kerases.answers(live, batch)
    for value, expected in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert formats.open(kerases.cnn()).signature.inputs[0].name == "image"
    with pytest.raises(InvalidData, match="number"):
        match(Data({"number": np.zeros((5, 3), np.float32), "token": np.zeros((5, 3), np.int32)}), model.signature)


def test_one_layer_called_twice_gives_two_names() -> None:
    first, second = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    shared = layers.Dense(2, name="shared")
    model = formats.open(keras.Model([first, second], [shared(first), shared(second)]))
    assert [tensor.name for tensor in model.signature.outputs] == ["shared", "shared_1"]


def test_layers_of_the_users_own_come_live_and_are_stored_as_a_graph(tmp_path: Path) -> None:
    live = kerases.own()
    assert formats.open(live).format == KERAS
    model = kerases.stored(live, tmp_path)
    assert (model.format, model.path) == (SAVED_MODEL, tmp_path / "model")
    assert model.counts == {"parameters": 4 * 3 + 3 + 3}
    x = kerases.RNG(1).normal(size=(3, 4)).astype(np.float32)
    (name,) = (tensor.name for tensor in model.signature.inputs)
    (found,) = function_of(model)({name: x}).values()
    np.testing.assert_allclose(found, kerases.answers(live, {name: x})[0], rtol=1e-6)


def test_a_file_that_needs_code_is_refused_with_its_layers(tmp_path: Path) -> None:
    kerases.own().save(tmp_path / "own.keras")
    with pytest.raises(UntrustedModel, match=r"Lambda \(more\), Scaled \(scaled\).*weights=FILE"):
        formats.open(tmp_path / "own.keras")


def _as(kind: str, **others: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][1].update(class_name=kind, **others)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_as("TFSMLayer"), "TFSMLayer"),
        (_as("TorchModuleWrapper"), "TorchModuleWrapper"),
        (_as("Popen", module="subprocess"), "Popen"),
        (_as("Dense", module="kerashell.layers"), "Dense"),
        (_as("Dense", registered_name="mine>Dense"), "Dense"),
        (lambda config: config["config"]["layers"][2]["config"].update(activation={
            "module": "builtins", "class_name": "function", "config": "gate", "registered_name": "gate"}), "gate"),
        (lambda config: config["config"]["layers"][2]["config"].update(activation={
            "class_name": "__lambda__", "config": {"value": "4wAAAA=="}}), "__lambda__"),
    ],
)  # fmt: skip
def test_no_configuration_leads_out_of_keras(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = kerases.altered(kerases.stored(kerases.dense(), tmp_path).path, change)
    with pytest.raises(UntrustedModel, match=said):
        formats.open(path)


def test_a_layer_larger_than_its_file_is_refused_before_it_is_built(tmp_path: Path) -> None:
    path = kerases.stored(kerases.dense(), tmp_path).path
    kerases.altered(path, lambda config: config["config"]["layers"][1]["config"].update(units=10**12))
    with pytest.raises(UnsupportedModel, match="1,000,000,000,000 or more, for which the file is too small"):
        formats.open(path)


def test_weights_fill_what_a_function_builds(tmp_path: Path) -> None:
    trained, x = kerases.own(), np.ones((2, 4), np.float32)
    expected = np.asarray(trained(x))
    trained.save_weights(tmp_path / "own.weights.h5")
    trained.save(tmp_path / "own.keras")
    for name in ("own.weights.h5", "own.keras"):
        fresh = kerases.own()
        fresh.set_weights([0 * weight for weight in fresh.get_weights()])
        model = formats.open(fresh, tmp_path / name)
        np.testing.assert_array_equal(model.payload(x), expected)
    with pytest.raises(UnsupportedModel, match="does not fit"):
        formats.open(kerases.dense(), tmp_path / "own.weights.h5")
    (tmp_path / "weights.npz").touch()
    with pytest.raises(UnsupportedModel, match=r"save_weights\('model\.weights\.h5'\)"):
        formats.open(kerases.dense(), tmp_path / "weights.npz")


def test_models_that_are_none_yet_or_remember_are_refused(tmp_path: Path) -> None:
    text, sparse = keras.Input((2,), dtype="string"), keras.Input((2,), sparse=True)
    for live, said in (
        (keras.Sequential([layers.Dense(1)]), "must be built"),
        (keras.Sequential([keras.Input((2, 3), batch_size=1), layers.GRU(2, stateful=True, name="kept")]), "kept of"),
        (keras.Model(text, keras.layers.Identity()(text)), "is string"),
        (
            keras.Sequential([keras.Input((2,)), layers.Dense(1, name="dicht à 1")]),
            r"'dicht à 1' of Sequential is none",
        ),
        (keras.Sequential([keras.Input((2,), name="an input"), layers.Dense(1)], name="My Net"), "'My Net' of"),
        (keras.Model(sparse, layers.Dense(1)(sparse)), "sparse or ragged"),
    ):
        with pytest.raises(UnsupportedModel, match=said):
            formats.open(live)
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnsupportedModel, match=r"HDF5, the format of Keras 2.*save\('model\.keras'\)"):
        formats.open(tmp_path / "model.h5")


def exported(folder: Path, call: Callable[[Any], Any], name: str = "serving_default", **kept: Any) -> Path:
    """A SavedModel of one function of two numbers a sample."""
    module = tensorflow.Module()
    for key, value in kept.items():
        setattr(module, key, value)
    module.call = tensorflow.function(call, [tensorflow.TensorSpec([None, 2], "float32", name="x")])
    tensorflow.saved_model.save(module, str(folder), {name: module.call})
    return folder


def test_a_graph_that_only_computes_is_taken(tmp_path: Path) -> None:
    tf = tensorflow
    kernel = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    def call(x: Any) -> dict[str, Any]:
        grown = tf.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: (y + 1,), (x @ kernel,))[0]
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: grown, lambda: -grown)}

    model = formats.open(exported(tmp_path / "model", call, kernel=kernel))
    assert [str(t) for t in (*model.signature.inputs, *model.signature.outputs)] == [
        "x: float32[?, 2]", "y: float32[?, 2]"
    ]  # fmt: skip
    x = np.array([[1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(function_of(model)({"x": x})["y"], [[4.0, 6.0]])


def _strange(kind: str) -> Callable[[Any], Any]:
    tf, raw = tensorflow, tensorflow.raw_ops

    def added(x: Any) -> Any:
        if kind == "ReadFile":
            return x + tf.cast(tf.strings.length(raw.ReadFile(filename="/etc/passwd")), "float32")
        if kind == "WriteFile":
            with tf.control_dependencies([raw.WriteFile(filename="/tmp/written", contents="x")]):
                return x + 1
        if kind == "PrintV2":
            tf.print("x", output_stream="file:///tmp/written")
            return x + 1
        if kind == "DebugNumericSummary":  # no effects, says its registration; it writes where its attribute says
            summary = raw.DebugNumericSummary(input=x, debug_urls=["file:///tmp/written"])
            return x + tf.cast(tf.reduce_sum(summary), "float32")
        if kind == "ImmutableConst":
            return x + raw.ImmutableConst(dtype="float32", shape=[2], memory_region_name="/etc/passwd")
        if kind == "EagerPyFunc":
            return tf.ensure_shape(tf.py_function(lambda y: y, [x], "float32"), [None, 2])
        return x + tf.random.uniform([2])

    return lambda x: {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: added(x), lambda: x)}  # within a branch


@pytest.mark.parametrize(
    "kind",
    ["ReadFile", "WriteFile", "PrintV2", "DebugNumericSummary", "ImmutableConst", "EagerPyFunc", "RandomUniform"],
)
def test_a_graph_that_does_more_than_compute_is_refused(tmp_path: Path, kind: str) -> None:
    folder = exported(tmp_path / "model", _strange(kind))
    with pytest.raises(UntrustedModel, match=rf"\b{kind}\b.*ONNX"):
        formats.open(folder)


def test_what_runs_as_soon_as_it_is_loaded_is_refused(tmp_path: Path) -> None:
    tf = tensorflow
    pairs = tf.lookup.KeyValueTensorInitializer([1, 2], [3.0, 4.0], "int64", "float32")
    table = tf.lookup.StaticHashTable(pairs, 0.0)
    folder = exported(tmp_path / "table", lambda x: {"y": x + table.lookup(tf.cast(x, "int64"))}, table=table)
    with pytest.raises(UntrustedModel, match=r"a resource, a tf\.StaticHashTable"):
        formats.open(folder)
    content = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for node in content.meta_graphs[0].object_graph_def.nodes:
        if node.WhichOneof("kind") == "resource":
            node.user_object.identifier = "_generic_user_object"  # its registered name alone makes a table of it
    (folder / "saved_model.pb").write_bytes(content.SerializeToString())
    with pytest.raises(UntrustedModel, match=r"holds .*a tf\.StaticHashTable"):
        formats.open(folder)
    with pytest.raises(UnsupportedModel, match=r"'serving_default'.*signatures: .*other"):
        formats.open(exported(tmp_path / "other", lambda x: {"y": x}, "other"))
    linked = exported(tmp_path / "linked", lambda x: {"y": x * kept}, kept=(kept := tf.Variable(2.0)))
    index = (linked / "variables" / "variables.index").rename(tmp_path / "elsewhere")
    (linked / "variables" / "variables.index").symlink_to(index)
    with pytest.raises(UntrustedModel, match="a link out of it"):
        formats.open(linked)


@pytest.mark.skipif(not installed("torch"), reason="comes with the extra torch")
def test_a_live_model_on_pytorch_is_stored_for_tensorflow_and_trained_there(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "for name in ('matplotlib', 'pandas', 'sklearn', 'tensorflow'): sys.modules[name] = None\n"
        "import keras, numpy; from strop import formats\n"
        "live = keras.Sequential([keras.Input((3,), name='x'), keras.layers.Dense(400, activation='gelu')])\n"
        "folder = Path(sys.argv[1]); x = numpy.ones((2, 3), 'float32')\n"
        "numpy.save(folder / 'y.npy', live(x).detach().numpy())\n"
        "model = formats.format_of('keras').store(formats.open(live), folder)\n"
        "assert model.format == 'keras', model\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, check=True)
    model = formats.open(tmp_path / "model.keras")
    found = function_of(model)({"x": np.ones((2, 3), np.float32)})
    np.testing.assert_allclose(next(iter(found.values())), np.load(tmp_path / "y.npy"), rtol=1e-5)
    data = Data({"x": kerases.RNG(0).normal(size=(60, 3)).astype(np.float32)})
    made = apply(PruneKerasWeights(amount=0.5), model, kerases.context(model, data, tmp_path / "made", epochs=1))
    assert np.mean(np.asarray(load(made).layers[0].kernel) == 0) == pytest.approx(0.5, abs=0.01)
