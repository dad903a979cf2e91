"""Bundle: written whole or not at all; opened only where every file is the one that was measured."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import ROUNDED, check_manifest, concluded, figure, finding, mutations, outcome, report
from strop import jobs
from strop.baseline import lay_out
from strop.bundle import Bundle, check_free
from strop.errors import BundleError, RunFailed
from strop.model import digest_files
from strop.prepare import Budget, prepare
from strop.result import Result
from strop.rundir import RunDir
from strop.stats import Interval
from strop.target import Target
from strop.testing import fake_data, fake_model, registered


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a result was saved as `bundle`, by real processes, once for all tests here."""
    folder = tmp_path_factory.mktemp("bundles")
    with registered(folder / "plugins"):
        (folder / "parent").mkdir()
        result_in(folder).save(folder / "parent" / "bundle")
        yield folder


def result_in(folder: Path, **model: Any) -> Result:
    from engine import FakeRun

    given = fake_model(folder / "given", padding=3000, **model)
    run = RunDir(folder / "run")
    request = prepare(
        run, given.path, fake_data(given), "minimize latency.p50; accuracy >= 99% of original; size < 1 MB",
        metrics=(), label=None, slices=(), group=None, calibration=None, confirm=None, target=Target(threads=1),
        budget=Budget(60), seed=0, recipe=None, out=None,
    )  # fmt: skip
    fake = FakeRun(run, request, lay_out(run, request, jobs.Limits(60, 1 << 62)))
    run.close()
    made, _ = fake.setting.workshop.build(ROUNDED.steps)
    stored = made.to_json(run.root)
    endless = report(1.0)
    endless.figures["latency.p50"] = dataclasses.replace(figure(1.0, 0.010, "s"), ratio=Interval(1.0, 0.9, math.inf))
    return concluded(
        fake, [finding(ROUNDED, stored, report(0.25))], tried=[(ROUNDED, outcome(0.3, model=stored))],
        original=endless,
    )  # fmt: skip


@pytest.fixture
def bundle(home: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, to be altered."""
    return Path(shutil.copytree(home / "parent" / "bundle", tmp_path / "bundle"))


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_bundle_holds_the_model_and_what_was_found(home: Path) -> None:
    folder = home / "parent" / "bundle"
    assert sorted(file.name for file in folder.iterdir()) == [
        "candidates.json", "manifest.json", "model.fake", "report.html", "samples.npz",
    ]  # fmt: skip
    assert [entry.name for entry in folder.parent.iterdir()] == ["bundle"], "no part stays behind"
    assert folder.stat().st_mode & 0o777 == 0o755
    bundle = Bundle.load(folder)
    check_manifest(bundle.manifest)
    assert bundle.manifest["noise"]["high"] is None, "JSON knows no infinity"
    assert set(bundle.manifest["hashes"]["files"]) == {"model.fake", "samples.npz"}
    assert bundle.candidate == ROUNDED
    assert bundle.runtime == ROUNDED.runtime
    assert bundle.target == Target(threads=1)
    assert bundle.model.signature.inputs[0].name == "x"
    assert "<!doctype html>" in (folder / "report.html").read_text()


def test_a_bundle_predicts_what_it_did_where_it_was_made(bundle: Path) -> None:
    opened = Bundle.load(bundle)
    samples, expected = opened.samples()
    assert len(samples) == 60, "all of the search split, which is small"
    outputs = opened.predict(samples.inputs)
    np.testing.assert_allclose(outputs["y"], expected["y"], rtol=1e-6)
    weights = np.array(json.loads((bundle / "model.fake").read_text())["weights"], np.float32)
    np.testing.assert_allclose(expected["y"], samples.inputs["x"] @ weights, rtol=1e-5)


def test_a_bundle_can_be_moved(bundle: Path) -> None:
    moved = bundle.rename(bundle.with_name("elsewhere"))
    assert Bundle.load(moved).model.path == moved / "model.fake"
    assert Bundle.load(str(moved)).folder == moved


def test_an_altered_file_is_refused(bundle: Path) -> None:
    for name in ("model.fake", "samples.npz"):
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes(whole[:-1] + b"!")
        with pytest.raises(BundleError, match=rf"{name} is not the file that was measured"):
            Bundle.load(bundle)
        (bundle / name).write_bytes(whole)
    Bundle.load(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    for name in ("model.fake", "samples.npz"):
        (bundle / name).rename(bundle / "away")
        with pytest.raises(BundleError, match=rf"{name} is missing"):
            Bundle.load(bundle)
        (bundle / name).mkdir()
        with pytest.raises(BundleError, match=rf"{name} is missing"):
            Bundle.load(bundle)
        (bundle / name).rmdir()
        (bundle / "away").rename(bundle / name)


@pytest.mark.parametrize("name", ["../secret.fake", "/etc/passwd", "deep/../../secret.fake", "link.fake"])
def test_a_manifest_cannot_reach_outside(bundle: Path, name: str) -> None:
    secret = bundle.parent / "secret.fake"
    shutil.copy(bundle / "model.fake", secret)
    (bundle / "link.fake").symlink_to(secret)
    (bundle / "deep").mkdir()

    def reach(manifest: dict[str, Any]) -> None:
        manifest["winner"]["files"] = [name]
        manifest["hashes"]["files"][name] = manifest["hashes"]["files"]["model.fake"]

    rewrite(bundle, reach)
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.load(bundle)


def test_a_newer_bundle_asks_for_a_newer_strop(bundle: Path) -> None:
    rewrite(bundle, lambda manifest: manifest.update(schema=2))
    with pytest.raises(BundleError, match="has schema 2, and this strop reads 1"):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is no JSON"), ("[1]", "has schema None"), ("null", "has schema None"),
     ('{"schema": 1}', "is not what strop wrote"),
     ('{"schema": 1, "winner": null, "closest": null, "hashes": {"files": {}}}', "names no model"),
     ('{"schema": 1, "winner": {"files": ["model.fake"]}, "closest": null, "hashes": {}}', "is not what strop wrote")],
)  # fmt: skip
def test_a_broken_manifest_is_a_named_error(bundle: Path, text: str, said: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=said):
        Bundle.load(bundle)


def test_a_manifest_spoiled_anywhere_is_a_named_error_or_harmless(bundle: Path) -> None:
    whole = json.loads((bundle / "manifest.json").read_text())
    refused = 0
    for what, spoiled in mutations(whole):
        (bundle / "manifest.json").write_text(json.dumps(spoiled))
        try:
            opened = Bundle.load(bundle)
            opened.samples()
            opened.hosted()
            assert opened.candidate
        except BundleError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    assert refused > 100


@pytest.mark.parametrize("spoil", [
    lambda arrays: {}, lambda arrays: {"x": arrays["input.x"]},
    lambda arrays: {**arrays, "input.x": np.array(["a"] * 8)},
    lambda arrays: {**arrays, "input.x": arrays["input.x"][:, :1]},
    lambda arrays: {k: v for k, v in arrays.items() if k != "output.y"}])  # fmt: skip
def test_samples_that_do_not_fit_the_model_are_a_named_error(bundle: Path, spoil: Callable[[Any], Any]) -> None:
    np.savez(bundle / "samples.npz", **spoil(dict(np.load(bundle / "samples.npz"))))
    _rehash(bundle)
    with pytest.raises(BundleError, match="is not what strop wrote"):
        Bundle.load(bundle).samples()


def test_samples_that_are_no_archive_are_a_named_error(bundle: Path) -> None:
    for content in (b"", b"text", (bundle / "samples.npz").read_bytes()[:-40]):
        (bundle / "samples.npz").write_bytes(content)
        _rehash(bundle)
        with pytest.raises(BundleError, match="is not what strop wrote"):
            Bundle.load(bundle).samples()


def _rehash(bundle: Path) -> None:
    hashed = digest_files([bundle / "samples.npz"])
    rewrite(bundle, lambda manifest: manifest["hashes"]["files"].update({"samples.npz": hashed}))


def test_what_is_no_bundle_is_a_named_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"is no bundle: its manifest\.json can't be read"):
            Bundle.load(place)


def test_a_pipe_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match=r"its manifest\.json is no regular file"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("threads", 0), ("threads", -5), ("batch", 0), ("batch", 10**9)])
def test_a_target_that_no_search_takes_is_refused(bundle: Path, name: str, value: int) -> None:
    rewrite(bundle, lambda manifest: manifest["target"].update({name: value}))
    with pytest.raises(BundleError, match=rf"target\.{name} must be .*, not {value}"):
        Bundle.load(bundle)


@pytest.mark.parametrize(("runtime", "said"), [("eager", "no runtime 'eager'"), ("openvino", "openvino does not load")])
def test_a_runtime_that_is_not_for_such_a_model_is_refused(bundle: Path, runtime: str, said: str) -> None:
    """Above all one that would run code of a model's."""
    rewrite(
        bundle, lambda manifest: manifest["winner"].update(format="torch", runtime={"name": runtime, "options": {}})
    )
    with pytest.raises(BundleError, match=said):
        Bundle.load(bundle)


@pytest.mark.parametrize(("fed", "said"), [("y", "none is a result"), ("z", "'z'.*no outputs")])
def test_an_input_that_is_fed_by_no_state_is_refused(bundle: Path, fed: str, said: str) -> None:
    rewrite(bundle, lambda manifest: manifest["winner"]["signature"]["inputs"][0].update(feedback=fed))
    with pytest.raises(BundleError, match=said):
        Bundle.load(bundle)


def test_an_existing_folder_is_left_as_it_is(home: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (bundle, tmp_path / "file"):
        with pytest.raises(BundleError, match=rf"new folder.*exists already.*such as {place}-2, or"):
            check_free(place)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"exists already.*link-2"):
        check_free(tmp_path / "link")
    with pytest.raises(BundleError, match=r"exists already\. Name another, or"):
        check_free(tmp_path / "fresh" / "..")
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    check_free(tmp_path / "deep" / "down" / "new")
    assert not (tmp_path / "deep" / "down" / "new").exists()
    with pytest.raises(BundleError, match="can't be made"):
        check_free(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_model_that_no_longer_runs_leaves_no_half_bundle(fakes: None, tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()
    result = result_in(tmp_path, fault="error")
    with pytest.raises(RunFailed, match="a fault of kind 'error'"):
        result.save(tmp_path / "parent" / "bundle")
    assert not list((tmp_path / "parent").iterdir())
