"""The reports of real runs as a browser shows them; that of the demo is looked at by its own test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_iris
from sklearn.svm import SVC

import quickly
import strop
from browser import CHROMIUM, Browser, browser
from forests import grown
from looks import looked_at
from models import RNG, cnn
from strop.formats.forest import save
from strop.report import page
from strop.techniques import ForestToOnnx, OptimizeOnnx, PruneLeaves, StaticInt8
from strop.tune import search

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
FOREST = "minimize size; fidelity >= 0.5"
NOTHING_KEPT = "size < 1 kB; worst_slice(accuracy) >= 90% of original"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def searched(folder: Path, model: Path, data: Any, goal: str, known: tuple[type, ...], **more: Any) -> Path:
    """The bundle of a search among a few techniques, which times little; its second candidate is its last."""
    target, budget = strop.Target(threads=1, formats=("onnx",)), strop.Budget(600, 2)
    with pytest.MonkeyPatch.context() as patch:
        for effort in quickly.EFFORTS:
            patch.setattr(f"strop.{effort}", quickly.little(folder))
        patch.setattr("strop._forks.Context", quickly.Context)
        patch.setattr("strop.techniques.all_techniques", lambda: known)
        patch.setattr("strop.anatomy.SHARE", 9.0)  # of a search that takes no time
        result = strop.optimize(model, data, goal, target=target, budget=budget, run=folder / "run", **more)
    return result.save(folder / "bundle").folder


def told(bundle: Path, name: str) -> Any:
    return json.loads((bundle / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    given = grown(np.random.default_rng(0), trees=30, features=4, leaves=20)
    (folder / "given").mkdir()
    model = save(given, folder / "given").path
    rows = np.random.default_rng(1).normal(size=(400, 4))
    bundle = searched(folder, model, {"x": rows}, FOREST, (PruneLeaves, ForestToOnnx))
    assert "Tree by tree" in (bundle / "report.html").read_text()
    return bundle / "report.html"


@pytest.fixture(scope="module")
def infeasible(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("infeasible")
    images = RNG(0).normal(size=(400, 3, 16, 16)).astype(np.float32)
    (scores,) = onnxruntime.InferenceSession(cnn().SerializeToString()).run(None, {"image": images})
    onnx.save(cnn(), folder / "model.onnx")
    data = {"image": images, "labels": scores.argmax(1), "half": np.arange(400) % 2}
    known = (StaticInt8, OptimizeOnnx)
    bundle = searched(folder, folder / "model.onnx", data, NOTHING_KEPT, known, slices=["half"])
    assert told(bundle, "manifest")["verdict"] == "infeasible"
    html = (bundle / "report.html").read_text()
    assert "Layer by layer" in html and html.count("worst_slice(accuracy)") > 3
    return bundle / "report.html"


@pytest.fixture(scope="module")
def five_hundred(infeasible: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many as that in place of the few that were tried: each is one of them, a little off."""
    bundle = infeasible.parent
    first, many = next(one for one in told(bundle, "candidates") if one["cause"] == "done"), []
    for number in range(500):
        one = json.loads(json.dumps(first))
        for place, found in enumerate(one["report"]["figures"].values()):
            for side in ("candidate", "ratio"):
                scale = 1 + ((number * (place + 3)) % 97) / 500
                found[side] = {key: value and value * scale for key, value in found[side].items()}
        many.append({**one, "candidate": f"{one['candidate']} {number}", "seconds": one["seconds"] + number})
    file = tmp_path_factory.mktemp("many") / "many.html"
    html = page({**told(bundle, "manifest"), "candidates": 500}, many, "", told(bundle, "anatomy"))
    file.write_text(html, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("tuning") / "run"
    x, y = load_iris(return_X_y=True)
    space = {"C": {"low": 0.01, "high": 100.0, "log": True}, "gamma": [0.01, 0.1, 1.0], "kernel": ["rbf", "linear"]}
    search(SVC(), space, x, y, threads=1, budget=strop.Budget(600, 12), run=run, sampler="random")
    return run / "report.html"


@pytest.mark.long
@pytest.mark.parametrize(("kind", "figures"), [("forest", 2), ("infeasible", 3), ("five_hundred", 3), ("tuning", 6)])
def test_a_report_is_whole_in_a_browser(tab: Browser, request: pytest.FixtureRequest, kind: str, figures: int) -> None:
    looked_at(tab, request.getfixturevalue(kind), figures)
