"""Advice is ranked by what is expected of a technique and by where the time was seen to go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import neighbors, pipeline, preprocessing, svm

import models
from estimators import digits, stored
from forests import grown
from strop.formats.forest import save
from strop.formats.onnx_graph import has_attention
from strop.insight import Advice, Found, Row, advise, unfit
from strop.model import Model
from strop.runtime import Runtime
from strop.runtimes import Gtil, Native, Onnxruntime, Sklearn
from strop.server import Hosted
from strop.stats import Interval
from strop.structure import Structure
from strop.target import Target
from strop.techniques import SklearnToOnnx, ToNative, TruncateRounds

TARGET = Target(threads=1)
Pipe = pipeline.make_pipeline
COMPILED = ToNative().expects(TARGET) / Gtil.expects(TARGET)


def told(tmp_path: Path, share: float | None, trees: int = 50, runtime: Runtime | None = None) -> dict[str, Advice]:
    model: Model = save(grown(np.random.default_rng(0), trees=trees), tmp_path)
    known = None if share is None else Interval(share, share, share)
    overhead = None if share is None else Interval(share * 1e-3, share * 1e-3, share * 1e-3)
    found = Found(Structure(()), Interval(1e-3, 1e-3, 1e-3), overhead, known, 0, 10, ())
    advice = advise(model, Hosted(model, runtime or Gtil(), TARGET), TARGET, found)
    assert [one.gain for one in advice] == sorted((one.gain for one in advice), reverse=True)
    assert len({one.technique for one in advice}) == len(advice)
    return {one.technique: one for one in advice}


def test_where_the_trees_take_the_time_fewer_of_them_are_expected_to_help(tmp_path: Path) -> None:
    advice = told(tmp_path, 0.0)
    rounds = advice["truncate-rounds"]
    assert rounds.gain == pytest.approx(1 - TruncateRounds().expects(TARGET))
    assert (
        "(amount 0.5)" in rounds.why and "Expected of the parts of a call: the model itself (100%) 0.5x" in rounds.why
    )
    assert "needs" not in rounds.why
    assert advice["to-native"].gain == pytest.approx(1 - COMPILED), "against gtil"
    assert "native" in advice["to-native"].why and "overhead" not in advice["to-native"].why


def test_where_overhead_does_another_runtime_is_and_fewer_trees_are_not(tmp_path: Path) -> None:
    advice = told(tmp_path, 0.9)
    assert advice["truncate-rounds"].gain == pytest.approx(0.05)
    assert advice["to-native"].gain == pytest.approx(1 - 0.1 * COMPILED - 0.4e-6 / 1e-3)
    assert "overhead (90%) 0.00044x as long, which is 400 ns for 900 µs" in advice["to-native"].why
    assert advice["truncate-rounds"].rest == "overhead, 90% of a call, 1x as long", "which it leaves as it is"
    assert next(iter(advice)) == "to-native"


def test_what_has_to_be_given_is_said(tmp_path: Path) -> None:
    assert told(tmp_path, 0.1)["retune"].why.endswith("it needs train data")


def test_without_a_split_all_of_a_call_counts_as_the_model_s(tmp_path: Path) -> None:
    assert told(tmp_path, None)["truncate-rounds"].gain == pytest.approx(0.5)


def test_what_does_not_fit_the_model_is_left_out(tmp_path: Path) -> None:
    assert "truncate-rounds" not in told(tmp_path, 0.1, trees=1)
    assert "refit-leaves" not in told(tmp_path, 0.1), "which only mends"
    assert "prune-channels" not in told(tmp_path, 0.1), "which is of another format"


def test_what_it_runs_on_already_is_no_advice(tmp_path: Path) -> None:
    advice = told(tmp_path, 0.0, runtime=Native())
    assert "to-native" not in advice
    assert advice["forest-to-onnx"].gain == 0.0, "of which less is expected than of what is measured"


def test_of_a_pipeline_what_pays_is_told_by_its_samples_and_what_does_not_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx")
    model = stored(Pipe(preprocessing.StandardScaler(), svm.SVC()).fit(*digits()), tmp_path)
    structure = Structure((), {"steps": ["StandardScaler", "SVC"]})
    share = Interval(0.2, 0.2, 0.2)  # between the steps, which goes with what comes before the last one
    rows = tuple(
        Row(kind, kind, (kind,), seconds, 64, 0, 0.0, "f64", 1e-4, "overhead")
        for kind, seconds in (("StandardScaler", 3e-4), ("SVC", 5e-4))
    )
    found = Found(structure, Interval(1e-3, 1e-3, 1e-3), Interval(2e-4, 2e-4, 2e-4), share, 0, 10, (), rows)
    advice = {one.technique: one for one in advise(model, Hosted(model, Sklearn(), TARGET), TARGET, found)}
    assert advice["sklearn-to-onnx"].gain == pytest.approx(1 - SklearnToOnnx().expects(TARGET))
    assert (
        "what comes before the last step (50%) 0.2x as long; the model itself (50%) 0.2x as long"
        in advice["sklearn-to-onnx"].why
    )
    assert "what comes before the last step (50%) 1x" in advice["low-rank-kernel"].why
    count = model.counts["vectors"]
    assert f"with {round(count * 0.03)} of its {count} vectors" in advice["low-rank-kernel"].why
    assert advice["retune-estimator"].why.endswith("it needs train data")
    assert not {"dynamic-int8", "openvino-int8", "truncate-rounds"} & advice.keys(), "which are for what it becomes"
    why = unfit(model, TARGET)
    assert why["to-forest"] == "it is no ensemble of trees"
    assert "no neighbours" in why["condense-neighbors"] and not why.keys() & advice.keys()
    model = stored(Pipe(preprocessing.StandardScaler(), svm.SVC(kernel="linear")).fit(*digits()), tmp_path / "linear")
    assert unfit(model, TARGET)["low-rank-kernel"].startswith("its kernel is linear")
    near = stored(neighbors.KNeighborsClassifier().fit(*digits()), tmp_path / "near")
    advice = {one.technique: one for one in advise(near, Hosted(near, Sklearn(), TARGET), TARGET, found)}
    assert "with 60 of its 600 neighbours" in advice["condense-neighbors"].why


def test_of_a_transformer_what_it_loses_much_by_comes_last_with_the_source(tmp_path: Path) -> None:
    """MiniLM-L6 was advised to take static int8 first, by which 0.41 of its outputs' power is lost."""
    seen = Found(Structure(()), Interval(1e-3, 1e-3, 1e-3), None, None, 0, 10, ())
    for kind, doubted in (("transformer", True), ("cnn", False)):
        model = models.case(kind, tmp_path / kind).model
        advice = advise(model, Hosted(model, Onnxruntime(), TARGET), TARGET, seen)
        said = {one.technique: one.why for one in advice}
        assert ("0.41 of its outputs' power" in said["static-int8"]) == doubted
        last = [one.technique for one in advice if "outputs' power" in one.why]
        assert last == [one.technique for one in advice[len(advice) - len(last) :]]
        assert ("static-int8" in [one.technique for one in advice[:3]]) != doubted


def test_shares_that_are_summed_up_are_no_attention() -> None:
    """As of a distribution over bins, of which a product with stored numbers takes the mean."""
    text = "g (float[N, 4, 16] x) => (float[N, 4, 1] y) { p = Softmax(x) y = MatMul(p, w) }"
    assert not has_attention(models.build(text, [models.weight("w", 16, 1)]))
    assert has_attention(models.transformer())
