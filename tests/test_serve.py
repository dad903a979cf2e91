"""Serve: what is written for model servers answers as the bundle does, and is what these servers read."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import models
from engine import bundle_of
from estimators import made, matrix, stored
from servers import MODEL_SETTINGS, triton_config
from strop import cli, formats, serve
from strop.bundle import Bundle
from strop.data import Data
from strop.errors import BundleError, InvalidPlan, NotApplicable
from strop.model import Model
from strop.native.library import compiler
from strop.prepare import reference
from strop.runtime import predict
from strop.target import Target
from strop.techniques import ToForest, ToNative, ToOpenvino

HOSTILE = "x\"\n\\{}'#"


def bundled(folder: Path, model: Model, data: Any) -> Bundle:
    """A bundle of a model with its own answers to some samples."""
    runner, few = reference(model.format)[1].load(model, Target(threads=1)), data.take(range(6))
    outputs = predict(runner, model.signature, few, 1)
    runner.close()
    return bundle_of(folder, model, few.inputs, outputs)


def changed(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> Bundle:
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    change(manifest)
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.load(bundle.folder)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A CNN in ONNX, its weights in a file of their own."""
    folder = tmp_path_factory.mktemp("network")
    case = models.case("external", folder / "given")
    return bundled(folder / "My Bundle_1", case.model, case.data)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trees of scikit-learn's as a C library."""
    if compiler() is None:
        pytest.skip("needs a C compiler")
    folder, (x, y) = tmp_path_factory.mktemp("forest"), load_iris(return_X_y=True)
    given = stored(RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y), folder / "given")
    plain = made(ToForest(), given, folder / "plain", matrix(x))
    return bundled(folder / "bundle", made(ToNative(), plain, folder / "native", matrix(x)), matrix(x[::20]))


def ran(place: Path, inputs: Any) -> dict[str, Any]:
    """What the module gives that MLServer's runtime calls."""
    settings = json.loads((place / "model-settings.json").read_text())
    spec = importlib.util.spec_from_file_location("runs", place / "runs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.opened(str(place / settings["parameters"]["uri"]))
    outputs = [run(inputs) for _ in range(2)][1]
    assert outputs.keys() == {tensor["name"] for tensor in settings["outputs"]}
    return outputs


@pytest.mark.parametrize("which", ["network", "forest"])
def test_what_mlserver_loads_answers_as_the_bundle_does_without_strop(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle: Bundle = request.getfixturevalue(which)
    folder = serve.write(bundle, "mlserver", tmp_path / "new" / "served", "mine")
    settings = json.loads((folder / "mine" / "model-settings.json").read_text())
    jsonschema.Draft202012Validator({**MODEL_SETTINGS, "additionalProperties": False}).validate(settings)
    inputs = bundle.samples()[0].batch(0, 3)
    for name, value in bundle.predict(inputs).items():
        np.testing.assert_allclose(ran(folder / "mine", inputs)[name], value, 1e-6, 1e-6)
    packages = bundle.environment.packages
    asked = (folder / "requirements.txt").read_text().splitlines()
    needed = [f"onnxruntime=={packages['onnxruntime']}"] if which == "network" else []
    assert asked == ["mlserver==1.7.1", f"numpy=={packages['numpy']}", *needed]
    assert f"numpy=={packages['numpy']}" in (folder / "constraints.txt").read_text().splitlines()
    docker = (folder / "Dockerfile").read_text().splitlines()
    assert docker[0].startswith("# docker build --tag mine .")
    assert docker[1] == f"FROM python:{bundle.environment.python}-slim"
    assert docker.index("USER 1000") < docker.index('CMD ["mlserver", "start", "."]')
    service = yaml.safe_load((folder / "inference-service.yaml").read_text())
    (container,) = service["spec"]["predictor"]["containers"]
    assert (service["kind"], service["metadata"]["name"]) == ("InferenceService", "mine")
    assert container["image"] == "mine:latest" and container["resources"]["limits"] == {"cpu": "1"}
    assert not list(folder.parent.glob(".part-*")) and not {file.name for file in folder.rglob("manifest.json")}


def test_what_only_strop_runs_is_served_by_strop(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    model = stored(LogisticRegression(max_iter=500).fit(x, y), tmp_path / "given")
    bundle = bundled(tmp_path / "bundle", model, matrix(x))
    folder = serve.write(bundle, "mlserver", tmp_path / "served")
    version = bundle.environment.packages["strop"]
    assert f"strop=={version}" in (folder / "requirements.txt").read_text().splitlines()
    inputs = {"x": x[:5]}
    (found,), (expected,) = ran(folder / "bundle", inputs).values(), bundle.predict(inputs).values()
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # five in a call, or one: BLAS sums in another order
    with pytest.raises(NotApplicable, match=r"runs ONNX and OpenVINO.*in sklearn, runs on sklearn\. Serve it with"):
        serve.write(bundle, "triton", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_repository_of_triton_holds_onnx(network: Bundle, tmp_path: Path) -> None:
    folder = serve.write(network, "triton", tmp_path / "served")
    place = folder / "models" / "my-bundle-1"
    config = triton_config((place / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("my-bundle-1", "onnxruntime", 0)
    assert sorted(file.name for file in (place / "1").iterdir()) == ["external.bin", "external.onnx"]
    assert config.default_model_filename == "external.onnx"
    (given,), (rows,) = config.input, network.model.signature.inputs
    assert (given.name, given.data_type, [*given.dims]) == (rows.name, 11, [-1, *rows.shape[1:]])  # TYPE_FP32
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert not config.HasField("dynamic_batching")
    docker = (folder / "Dockerfile").read_text()
    assert "USER 1000" in docker and f"onnxruntime=={network.environment.packages['onnxruntime']}" in docker
    service = yaml.safe_load((folder / "inference-service.yaml").read_text())
    assert service["spec"]["predictor"]["model"]["modelFormat"] == {"name": "triton"}


def test_a_batch_that_was_measured_is_gathered(tmp_path: Path) -> None:
    case = models.case("external", tmp_path / "given")
    bundle = bundled(tmp_path / "bundle", case.model, case.data)
    bundle = changed(bundle, lambda m: (m["target"].update(batch=2), m["splits"].update(confirm=9)))
    config = triton_config(serve.triton.config(bundle, "m"))
    assert config.max_batch_size == 2 and config.HasField("dynamic_batching")
    assert [*config.input[0].dims] == [*bundle.model.signature.inputs[0].shape[1:]]


def test_openvino_goes_to_triton_where_its_backend_can_do_what_was_measured(tmp_path: Path) -> None:
    case = models.case("external", tmp_path / "given")
    bundle = bundled(tmp_path / "bundle", made(ToOpenvino(), case.model, tmp_path, case.data), case.data)
    config = triton_config(serve.triton.config(bundle, "m"))
    assert (config.backend, config.parameters["PERFORMANCE_HINT"].string_value) == ("openvino", "LATENCY")
    assert "HINT_BF16" not in config.parameters
    half = changed(bundle, lambda m: m["winner"]["runtime"]["options"].update(precision="bf16"))
    assert triton_config(serve.triton.config(half, "m")).parameters["HINT_BF16"].string_value == "YES"
    other = changed(bundle, lambda m: m["winner"]["runtime"]["options"].update(precision="f16"))
    with pytest.raises(NotApplicable, match=r"can't be told to compute in f16\. Serve it with --for mlserver"):
        serve.triton.config(other, "m")


def test_names_of_any_kind_stay_names(tmp_path: Path) -> None:
    graph = models.cnn()
    for node in graph.graph.node:
        node.input[:] = [HOSTILE if name == graph.graph.input[0].name else name for name in node.input]
    data = models.data_for("external")
    (x,) = data.inputs.values()
    graph.graph.input[0].name = HOSTILE
    onnx.save(graph, tmp_path / "model.onnx")
    bundle = bundled(tmp_path / "bundle", formats.open(tmp_path / "model.onnx"), type(data)({HOSTILE: x}))
    assert triton_config(serve.triton.config(bundle, "m")).input[0].name == HOSTILE
    folder = serve.write(bundle, "mlserver", tmp_path / "served", "m")
    settings = json.loads((folder / "m" / "model-settings.json").read_text())
    assert settings["inputs"][0]["name"] == HOSTILE
    (found,) = ran(folder / "m", {HOSTILE: x[:2]}).values()
    np.testing.assert_allclose(found, next(iter(bundle.predict({HOSTILE: x[:2]}).values())), 1e-6, 1e-6)


def test_sizes_that_were_known_when_it_was_measured_are_remarked(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    for sizes, free in (("H, W", True), ("8, 8", False)):
        text = f"g (float[N, 3, {sizes}] x) => (float[N, 3, {sizes}] y) {{ y = Conv(x, w) }}"
        onnx.save(models.build(text, [models.weight("w", 3, 3, 1, 1)]), tmp_path / "model.onnx")
        model, data = formats.open(tmp_path / "model.onnx"), Data({"x": models.floats(3, 8, 8)})
        bundle = bundled(tmp_path / sizes, made(ToOpenvino(), model, tmp_path / f"ov {sizes}", data), data)
        assert ("where x has free ones" in serve.triton.config(bundle, "m")) is free
        assert triton_config(serve.triton.config(bundle, "m")).input[0].dims


def test_an_input_without_an_axis_is_none_for_triton(tmp_path: Path) -> None:
    case = models.case("lstm", tmp_path / "given")
    runner = reference(case.model.format)[1].load(case.model, Target(threads=1))
    few = case.data.take(range(2))
    bundle = bundle_of(tmp_path / "b", case.model, few.inputs, predict(runner, case.model.signature, few, 1))
    with pytest.raises(NotApplicable, match="no input without an axis"):
        serve.triton.config(bundle, "m")


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", 'a"', "a\nb", "-a", "1a", "a" * 64])
def test_a_name_that_could_be_more_is_refused(network: Bundle, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidPlan, match=r"lower-case letter.*--name"):
        serve.write(network, "mlserver", tmp_path / "served", name)
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["environment"]["packages"].update(numpy="1\nRUN evil"), "packages by name and version"),
        (lambda m: m["environment"]["packages"].update({"a; b": "1"}), "packages by name and version"),
        (lambda m: m["environment"].update(python="3.11\nUSER root"), "a version of Python"),
    ],
)
def test_a_manifest_that_says_more_than_a_version_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    case = models.case("external", tmp_path / "given")
    bundle = changed(bundled(tmp_path / "bundle", case.model, case.data), change)
    with pytest.raises(BundleError, match=said):
        serve.write(bundle, "mlserver", tmp_path / "served")
    assert not (tmp_path / "served").exists() and not list(tmp_path.glob(".part-*"))


def test_the_shell_tells_what_it_wrote_and_overwrites_nothing(network: Bundle, tmp_path: Path) -> None:
    asked = ["serve", str(network.folder), "--for", "triton", "--out", str(tmp_path / "served"), "--name", "net"]
    first = CliRunner().invoke(cli.app, [*asked, "--json"])
    assert first.exit_code == 0, first.output
    assert "models/net/config.pbtxt" in json.loads(first.stdout)["files"]
    again = CliRunner().invoke(cli.app, asked)
    assert again.exit_code == 2 and "exists already" in " ".join(again.output.split())
    unknown = CliRunner().invoke(cli.app, [*asked[:3], "torchserve", *asked[4:5], str(tmp_path / "other")])
    assert unknown.exit_code == 2 and "is not one of 'mlserver', 'triton'" in " ".join(unknown.output.split())
