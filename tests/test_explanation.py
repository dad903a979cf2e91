"""`strop explain`: two models of many kinds, what is refused, and what a person is shown."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from engine import bundle_of
from forests import grown
from models import RNG, build, case, cnn, data_for, weight
from strop import formats
from strop.bundle import Bundle
from strop.cli import app
from strop.comparison import host
from strop.dataflow import Group
from strop.explanation import explain
from strop.formats.forest import save
from strop.insight.printed import printed
from strop.insight.spare import OF_NO_KIND, kept, lines
from strop.reading import read_for
from strop.target import Target
from strop.technique import Context, apply
from strop.techniques import find

ONE = Target(threads=1)
pytestmark = pytest.mark.usefixtures("quick_looks")


def run(*words: object, **settings: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], **settings)


def made(model: Any, inputs: Any, folder: Path, *steps: tuple[str, dict[str, Any]]) -> Any:
    """What a chain of techniques makes of a model."""
    original, data = model, read_for(model.signature, inputs)
    for place, (name, settings) in enumerate(steps):
        (folder / f"{place}").mkdir(parents=True)
        context = Context(data, original, ONE, 0, folder / f"{place}")
        model = apply(find(name).of(settings), model, context)
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, its int8 and labelled samples."""
    folder = tmp_path_factory.mktemp("pair")
    onnx.save(cnn(), folder / "model.onnx")
    images = RNG(1).normal(size=(64, 3, 16, 16)).astype(np.float32)
    np.savez(folder / "data.npz", image=images, labels=RNG(2).integers(0, 10, 64))
    model = made(formats.open(folder / "model.onnx"), {"image": images}, folder / "made", ("static-int8", {}))
    model.copy_to(folder / "made")
    return folder


def test_a_candidate_is_explained_on_the_command_line(pair: Path) -> None:
    words = ("explain", pair / "model.onnx", pair / "made" / "model.onnx", "--data", pair / "data.npz", "--threads", 1)
    result = run(*words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.stdout)
    assert [one["value"] for one in found["layers"]] == ["r", "p", "s", "f", "scores"]
    first = found["layers"][0]
    assert set(first) == {
        "name", "operator", "node", "counterpart", "others", "value", "precision", "bytes", "introduced",
        "accumulated", "share", "seconds",
    }  # fmt: skip
    assert set(first["introduced"]) == {"sqnr", "cosine", "error", "lost"}
    assert sum(one["share"] for one in found["layers"]) == pytest.approx(1)
    assert all(one["seconds"]["original"] >= 0 for one in found["layers"])
    for side, path in (("original", pair / "model.onnx"), ("candidate", pair / "made" / "model.onnx")):
        assert found[side]["size"] == path.stat().st_size
        assert sum(one["bytes"][side] for one in found["layers"]) + found["rest"][side] == path.stat().st_size
    assert found["looked_at"] == 64 and found["tried"] >= 1 and found["forest"] is None

    import onnxruntime as ort

    images = np.load(pair / "data.npz")["image"]
    before, after = (
        np.concatenate([ort.InferenceSession(str(path)).run(None, {"image": one[None]})[0] for one in images]).argmax(1)
        for path in (pair / "model.onnx", pair / "made" / "model.onnx")
    )
    assert found["samples"]["rows"] == np.flatnonzero(before != after).tolist()
    assert found["samples"]["decisions"] == 64
    for width in (80, 110):
        text = printed(found, width)
        assert all(len(line) <= width for line in text.splitlines()), text
        for words in ("The output is off by", "of the error at the output is introduced in", "Layer by layer (5 layers",
                      "share:", "1 % is 40 dB"):  # fmt: skip
            assert words in " ".join(text.split()), text
        changes, errors = (text.split(head)[1].split("\n")[1].split() for head in ("Layer by layer", "What each does"))
        assert changes == ["layer", "precision", "bytes", "time"]
        assert errors == ["layer", "share", "here", "dB", "cosine", "so", "far", "dB", "cosine"]
        for side in ("introduced", "accumulated"):
            assert f"{first[side]['sqnr']:.1f}  {first[side]['cosine']:.4f}" in text


def test_many_layers_are_cut_to_those_that_matter() -> None:
    layer = {
        "operator": "Gemm", "node": "", "value": "", "precision": "int8", "bytes": {"original": 4096, "candidate": 1}, 
        "introduced": {"error": 0.0, "sqnr": None, "cosine": 1.0, "lost": 0},
        "accumulated": {"error": math.inf, "sqnr": -math.inf, "cosine": -0.25, "lost": 3},
        "seconds": {"original": None, "candidate": 2e-6},
    }  # fmt: skip
    layers = [{**layer, "name": f"blocks.{at}." + "x" * 60, "share": at / 1225} for at in range(50)]
    side = {"format": "onnx", "runtime": "onnxruntime", "size": 5000}
    found = {
        "said": ["All is said."], "layers": layers, "original": side, "candidate": side, "notes": ["it rained"],
        "rest": {"original": 1, "candidate": 2}, "forest": None, "looked_at": 3, "outputs": {},
        "floats": [{"layer": f"l{at}", "operator": "X", "why": f"reason {at % 8}", "known": at > 0, "alone": None}
                   for at in range(12)],
        "samples": {"changed": None, "worst": [{"row": 4, "error": 0.25, "cosine": 0.5}]},
    }  # fmt: skip
    text = printed(found, 80)
    assert all(len(line) <= 80 for line in text.splitlines()), text
    for words in (
        "the 16 that matter most of 50 layers", "and 34 layers more, 46 % of the error together", "4.1 kB -> 1 B",
        "Stayed in floats: 12 layers", "and 2 reasons more", "0 % exact 1.0000 inf % - -0.2500", "25 %",
        "note: it rained",
    ):  # fmt: skip
        assert words in " ".join(text.split()), text
    text = " ".join(printed(found, 80, whole=True).split())
    assert "Layer by layer (50 layers" in text and " more" not in text.replace("more of the", "")
    assert all(f"blocks.{at}." in text and f"reason {at % 8}" in text for at in range(50))
    assert "l0, l8: reason 0" in text


def test_names_from_a_file_can_not_move_the_cursor(tmp_path: Path) -> None:
    nasty = "\x1b[2Jlayer\r\x07[bold]"
    proto = build("g (float[N, 4] x) => (float[N, 3] y) { y = MatMul(x, w) }", [weight("w", 4, 3)])
    proto.graph.node[0].name = nasty
    onnx.save(proto, tmp_path / "a.onnx")
    weights = onnx.numpy_helper.to_array(proto.graph.initializer[0]) * 1.5
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights.astype(np.float32), "w"))
    onnx.save(proto, tmp_path / "b.onnx")
    np.savez(tmp_path / "data.npz", x=RNG(0).normal(size=(12, 4)).astype(np.float32))
    result = run("explain", tmp_path / "a.onnx", tmp_path / "b.onnx", "--data", tmp_path / "data.npz", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout and "\r" not in result.stdout and "\\x1b[2Jlayer" in result.stdout


def test_a_bundle_tells_why_layers_stayed_in_floats_and_runs_with_its_own_options(tmp_path: Path) -> None:
    given = case("transformer", tmp_path / "given")
    inputs = dict(given.data.inputs)
    candidate = made(given.model, inputs, tmp_path / "made", ("dynamic-int8", {}))
    bundle = bundle_of(tmp_path / "bundle", candidate, inputs, {"embedding": np.zeros((24, 32), np.float32)})
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    step = find("dynamic-int8")()
    manifest["winner"]["route"] = [{"technique": step.label(), "version": step.version, "settings": step.settings()}]
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest))
    found = explain(given.model.path, bundle.folder, inputs, target=ONE)
    why = {one["operator"]: one["why"] for one in found["floats"]}
    assert why["Softmax"] == "Softmax is none of the operators that dynamic-int8 quantizes"
    assert why["MatMul"].startswith("multiplies two activations")
    assert {one["precision"] for one in found["layers"]} == {"f32", "dynamic int8", "int8 weights"}
    assert "Stayed in floats" in printed(found)


def mixed(step: Any, folder: Path) -> tuple[Path, Any, Path]:
    """A network with one bad layer of twenty, what a step that mixes precisions made of it, and that as a bundle."""
    from techniques.test_mixed import BAD, context, converted, deep

    given = (converted if step.label() == "mixed-openvino" else deep)(folder / "given")
    candidate = apply(step, given.model, context(given, folder / "made"))
    assert [group.precision for group in candidate.groups if "int" not in group.precision] in (["f32"], ["bf16"])
    inputs = dict(given.data.inputs)
    bundle = bundle_of(folder / "bundle", candidate, inputs, {"y": np.zeros((24, 32), np.float32)})
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    manifest["winner"]["route"] = [{"technique": step.label(), "version": step.version, "settings": step.settings()}]
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest))
    mix = json.loads(json.dumps(candidate.to_json(folder)))["groups"]
    (bundle.folder / "anatomy.json").write_text(json.dumps({"mix": mix}))
    assert bundle.groups == candidate.groups
    (bad,) = (group for group in candidate.groups if f"m{BAD}" in group.name)
    others = [group.alone or 0.0 for group in candidate.groups if group is not bad]
    assert bad.alone is not None and bad.alone > 0.5 > 10 * max(others), "of what all do, nearly all is its own"
    return folder / "given" / "deep.onnx", inputs, bundle.folder


@pytest.mark.parametrize("name", ["mixed-onnx", "mixed-openvino"])
def test_a_mix_tells_why_it_keeps_a_layer_in_floats(name: str, tmp_path: Path) -> None:
    if name == "mixed-openvino":
        pytest.importorskip("openvino")
    model, inputs, bundle = mixed(find(name).of({"error": 0.3}), tmp_path)
    found = explain(model, bundle, inputs, target=ONE)
    (bad,) = (one for one in found["floats"] if one["operator"] == "MatMul")
    assert "m7" in bad["layer"] and bad["known"]
    share = f"{100 * bad['alone']:.0f} %"
    said = rf"the mix keeps it in (f32|bf16): alone in int8 it does {share} of the error; it takes .+s in int8, .+s in "
    assert re.match(said, bad["why"]), bad["why"]
    text = " ".join(printed(found, 80).split())
    assert re.search(said, text.split("Stayed in floats:")[1]), text
    assert found["notes"] == [], "nothing is left to tell"
    anatomy = json.loads((bundle / "anatomy.json").read_text())
    for group in anatomy["mix"]:
        del group["alone"]
    (bundle / "anatomy.json").write_text(json.dumps(anatomy))
    assert Bundle.load(bundle).groups == (), "of an older strop"
    assert "other MatMul are in integers" not in text

    plain = explain(model, Bundle.load(bundle).model.path, inputs, target=ONE)
    (bad,) = (one for one in plain["floats"] if one["operator"] == "MatMul")
    assert bad["why"] == "other MatMul are in integers, and this is not" and not bad["known"]
    assert plain["notes"] == ["why layers stayed in floats is told where the candidate is a bundle, as strop optimize "
                              "writes it"]  # fmt: skip


def test_layers_of_kinds_that_are_nowhere_in_integers_are_told_of_in_one_line() -> None:
    kinds = ["Add"] * 18 + ["Softmax"] * 6 + ["Erf", "Where"]
    found = [{"layer": f"l{at}", "operator": kind, "why": OF_NO_KIND, "known": False, "alone": None}
             for at, kind in enumerate(kinds)]  # fmt: skip
    mix = [{"layer": f"g{at}", "operator": "MatMul", "why": f"reason {at}", "known": True, "alone": at / 10}
           for at in (1, 4)]  # fmt: skip
    assert lines([*found, *mix]) == [
        "g4: reason 4",
        "g1: reason 1",
        f"18 Add, 6 Softmax, 1 Erf and 1 more: {OF_NO_KIND}",
    ]


def test_what_a_mix_did_not_try_is_said_to_be_unknown() -> None:
    assert kept(Group("a", ("a",), "f32", None, {"int8": 0.0, "f32": 0.0})).why == (
        "the mix keeps it in f32: what int8 does to it alone is not known"
    )
    assert kept(Group("a", ("a",), "bf16", 0.41, {"int8": 2e-5, "bf16": 1e-5})).why == (
        "the mix keeps it in bf16: alone in int8 it does 41 % of the error; it takes 20 µs in int8, 10 µs in bf16"
    )


def test_static_int8_tells_what_its_settings_keep(tmp_path: Path) -> None:
    onnx.save(cnn(), tmp_path / "model.onnx")
    settings = {"exclude": "ends", "nodes": "MaxPool:p"}
    flow = formats.format_of("onnx").dataflow(formats.open(tmp_path / "model.onnx"))
    told = find("static-int8").of(settings).spared(flow)
    ends = "the setting exclude=ends keeps the first and the last operator with weights"
    assert told["Conv:c"] == told["Gemm:scores"] == ends
    assert told["MaxPool:p"] == "the setting nodes names it"
    assert "operators=weights" in told["BatchNormalization:n"] and "Conv:d" not in told


def test_int8_of_tflite_tells_what_its_settings_keep(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from tflites import cnn, opened

    flow = formats.format_of("tflite").dataflow(opened(cnn(), tmp_path))
    told = find("tflite-weights").of({"keep": 0.25}).spared(flow)
    assert told["probabilities"] == "SOFTMAX has no weights, which alone are stored as integers"
    assert told["first"].startswith("the setting keep=0.25 leaves that share of the layers in floats")
    assert find("tflite-int8")().spared(flow) == {}
    assert (
        find("tflite-int8").of({"operators": "weights"}).spared(flow)["mean"]
        == "MEAN has no weights (operators=weights)"
    )


def test_bfloat16_of_openvino_is_told(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from strop.errors import NotApplicable
    from strop.runtimes import Openvino

    try:
        Openvino(precision="bf16").requires(ONE)
    except NotApplicable as why:
        pytest.skip(str(why))
    onnx.save(cnn(), tmp_path / "model.onnx")
    inputs = dict(data_for("cnn").inputs)
    candidate = made(formats.open(tmp_path / "model.onnx"), inputs, tmp_path / "made", ("to-openvino", {}))
    bundle = bundle_of(tmp_path / "bundle", candidate, inputs, {"scores": np.zeros((24, 10), np.float32)})
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    manifest["winner"]["runtime"]["options"]["precision"] = "bf16"
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest))
    found = explain(tmp_path / "model.onnx", bundle.folder, inputs, target=ONE)
    assert "bf16" in {one["precision"] for one in found["layers"]}
    assert 30 < found["outputs"]["scores"]["sqnr"] < 80, "errors of 8 bits of mantissa"


def test_a_pytorch_module_and_what_it_became(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("openvino")
    from shrinking import Net, bars

    torch.manual_seed(0)
    module, inputs = Net(8).eval(), {"image": bars(40).inputs["image"]}
    from strop.formats.torch import TorchFormat

    room = TorchFormat()
    (tmp_path / "given").mkdir()
    model = room.fit(room.store(room.open(module), tmp_path / "given"), {"image": inputs["image"][:2]})
    candidate = made(model, inputs, tmp_path / "made", ("to-onnx", {}), ("to-openvino", {"half": True}))
    found = explain(module, candidate.path, inputs, target=ONE, metric="agreement")
    names = [one["name"] for one in found["layers"]]
    assert {"first", "second", "hidden", "head"} <= {name.split()[0] for name in names}, names
    assert found["original"]["format"] == "onnx" and found["candidate"]["format"] == "openvino"
    assert found["samples"]["decisions"] == 40
    assert 40 < found["outputs"]["output"]["sqnr"] < 120, "weights in 16 bits"


def test_a_keras_model_and_its_tflite(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    import kerases

    model = kerases.stored(kerases.cnn(), tmp_path)
    inputs = dict(kerases.data_of(model).inputs)
    candidate = made(model, inputs, tmp_path / "made", ("keras-to-tflite", {}), ("tflite-int8", {}))
    found = explain(model.path, candidate.path, inputs, target=ONE)
    assert found["original"]["format"] == found["candidate"]["format"] == "tflite"
    assert len(found["layers"]) >= 4 and any(one["precision"] == "int8" for one in found["layers"])
    assert found["outputs"]["scores"]["sqnr"] > 10


def test_forests_are_explained_tree_by_tree(tmp_path: Path) -> None:
    forest = grown(RNG(0), trees=6, features=4, names=("age", "income", "city", "sex"))
    (tmp_path / "given").mkdir()
    (tmp_path / "made").mkdir()
    save(forest, tmp_path / "given")
    from dataclasses import replace

    save(replace(forest, roots=forest.roots[:4], output=forest.output[:4]).without_unused_nodes(), tmp_path / "made")
    paths = [tmp_path / name / "forest.npz" for name in ("given", "made")]
    found = explain(*paths, {"x": RNG(1).normal(size=(60, 4))}, target=ONE)
    assert found["forest"]["trees"]["removed"] == [4, 5] and found["layers"] == []
    assert "2 trees left out." in printed(found) and "Trees that matter most, 2 of 2" in printed(found)
    changes = [one["candidate"] - one["original"] for one in found["forest"]["by_column"]]
    _, told = printed(found).split("Columns that changed most, ")
    lines = told.splitlines()
    assert lines[0].startswith(f"{sum(map(bool, changes))} of {sum(map(bool, changes))} that changed, by how often")
    assert lines[2].split()[-1] == f"{min(changes):+,}", "the most first"
    json.dumps(found)


@pytest.mark.parametrize("readable", [True, False])
def test_trees_that_strop_wrote_as_onnx_are_read_again_or_the_samples_told(tmp_path: Path, readable: bool) -> None:
    """Categories become several splits that share what they lead to, which a forest does not."""
    odd = {} if readable else {"subsets": 0.5}
    forest = grown(RNG(0), trees=6, features=4, names=("age", "income", "city", "sex"), link="sigmoid of two", **odd)
    (tmp_path / "given").mkdir()
    x = RNG(1).normal(size=(60, 4))
    steps = (("truncate-rounds", {"amount": 0.5}), ("forest-to-onnx", {}))
    candidate = made(save(forest, tmp_path / "given"), {"x": x}, tmp_path / "made", *steps)
    bundle = bundle_of(tmp_path / "bundle", candidate, {"x": x}, {"probability": np.zeros((60, 2))})
    for one in (bundle.folder, candidate.path):
        found = explain(tmp_path / "given" / "forest.npz", one, {"x": x}, target=ONE, metric="agreement")
        assert found["candidate"]["runtime"].startswith("onnxruntime")
        assert found["samples"]["decisions"] == 60 and "60 predictions changed" in printed(found)
        if readable:
            assert found["forest"]["trees"]["removed"] == [3, 4, 5] and "3 trees left out." in printed(found)
        else:
            (note,) = found["notes"]
            assert found["forest"] is None and note.startswith("only samples are compared: ")
            assert ("share nodes" if one == bundle.folder else "no ensemble of decision trees") in note


def test_of_models_that_can_not_be_looked_into_samples_are_told(tmp_path: Path) -> None:
    svm = pytest.importorskip("sklearn.svm")
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    before, after = svm.SVC().fit(x, y), svm.SVC(C=0.01).fit(x, y)
    found = explain(before, after, {"x": x, "label": y}, target=ONE)
    changed = np.flatnonzero(before.predict(x) != after.predict(x))
    assert len(changed) and found["samples"]["rows"] == changed.tolist()
    (note,) = found["notes"]
    assert "looks into models of ONNX" in note and "sklearn" in note
    assert f"{len(changed)} of 150 predictions changed" in printed(found) and "Layer by layer" not in printed(found)


def test_a_bundle_that_can_not_be_looked_into_is_told_of_too(tmp_path: Path) -> None:
    svm = pytest.importorskip("sklearn.svm")
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    model = host(svm.SVC().fit(x, y), tmp_path / "host", ONE).model
    outputs = {t.name: np.zeros((150, 3)) for t in model.signature.visible_outputs}
    bundle = bundle_of(tmp_path / "bundle", model, {"x": x}, outputs)
    found = explain(svm.SVC().fit(x, y), bundle.folder, {"x": x, "label": y}, target=ONE)
    assert found["samples"]["changed"] == 0 and "looks into models of ONNX" in found["notes"][0]


def test_what_can_not_be_explained_is_refused_in_one_paragraph(tmp_path: Path, pair: Path) -> None:
    result = run("explain", pair / "model.onnx", pair / "missing.onnx", "--data", pair / "data.npz")
    assert result.exit_code == 2 and "missing.onnx" in result.stderr and result.stdout == ""
    np.savez(tmp_path / "narrow.npz", image=np.zeros((12, 3, 16), np.float32))
    result = run("explain", pair / "model.onnx", pair / "made" / "model.onnx", "--data", tmp_path / "narrow.npz")
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("strop: ")]
    assert "image" in line
