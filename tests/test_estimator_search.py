"""A search that trains a pipeline of scikit-learn's anew, from the estimator to a bundle that does without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import pipeline, preprocessing, svm

import strop
from engine import check_manifest
from estimators import tumours
from strop import jobs
from strop.metric import Timing
from strop.server import Hosted
from strop.techniques import RetuneEstimator, SklearnToOnnx

pytestmark = pytest.mark.filterwarnings("ignore:The `probability` parameter")


class Clock:
    """In the place of `Turns`: a call takes a nanosecond for each byte of the model."""

    def __init__(self, first: Hosted, second: Hosted, data: Path, batches: tuple[int, int], *_: object):
        self.sizes, self.batches = (first.model.size, second.model.size), batches

    def take(self, enough: object, server: object = None) -> Timing:
        sides = [[[np.full(5, 1e-9 * size)] * 2] * 2 for size in self.sizes]
        return Timing(*sides, self.batches)


def at_once(function: Callable[..., Any], *args: Any, limits: object, waits: object = None) -> jobs.Ended[Any]:
    """A job that is run in this process: each of its own would import scikit-learn anew."""
    return jobs.Ended("done", function(*args))


def test_a_pipeline_is_trained_anew_converted_and_proven(
    tmp_path: Path, quick_looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size falls by what was left out, and its classes keep their names."""
    known = (RetuneEstimator, SklearnToOnnx)
    monkeypatch.setattr("strop.techniques.all_techniques", lambda: known)
    monkeypatch.setattr(jobs, "run", at_once)
    monkeypatch.setattr("strop.bench.Turns", Clock)
    x, y = tumours()
    machine = svm.SVC(C=3.0, probability=True, random_state=0)
    estimator = pipeline.make_pipeline(preprocessing.StandardScaler(), machine).fit(x[:250], y[:250])
    result = strop.optimize(
        estimator, (x[250:], y[250:]), "minimize size; accuracy >= 90% of original", train=(x[:250], y[:250]),
        target=strop.Target(threads=1, formats=("onnx",)), budget=strop.Budget(300, 2), run=tmp_path / "run",
    )  # fmt: skip
    done = {str(candidate): outcome for candidate, outcome in result.tried if outcome.cause == "done"}
    assert any("retune" not in told for told in done), "what is left as it was is measured as well"
    check_manifest(result.manifest)
    assert result.verdict == "met"
    winner = result.manifest["winner"]
    (first, *_) = winner["route"]
    assert first["technique"] == "retune-estimator" and first["settings"]["amount"] > 0
    assert winner["ratios"]["size"]["high"] < 0.7
    assert "StandardScaler and SVC as one graph of ONNX: off by" in " ".join(result.manifest["notes"])
    loaded = strop.Bundle.load(result.save(tmp_path / "bundle").folder)
    assert loaded.content["signature"]["outputs"][0]["classes"] == ["benign", "malignant"]
    found = loaded.predict({"x": x[250:]})["probability"]
    assert (np.asarray(machine.classes_)[found.argmax(axis=1)] == y[250:]).mean() > 0.9
