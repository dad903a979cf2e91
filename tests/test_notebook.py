"""What a notebook shows of a result and of a bundle, and candidates as a frame."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

import strop
from engine import ACCURACY, COMPILED, ROUNDED, SIZE, FakeRun, bundle_of, concluded, finding, outcome, report
from strop.errors import BundleError, InvalidData, MissingDependency
from strop.notebook import frame, shown
from strop.prepare import reference
from strop.runtime import predict
from strop.showing import Explanation, Profile
from strop.target import Target
from strop.testing import fake_data, fake_model
from strop.trial import Outcome

pytestmark = pytest.mark.usefixtures("fakes")


class Page(HTMLParser):
    """Tags that are opened and closed in turn, and the text in between."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def model(fake_run: FakeRun) -> dict[str, Any]:
    return fake_run.setting.original.model.to_json(fake_run.run.root)


def test_a_result_shows_verdict_figures_and_limits(fake_run: FakeRun, model: dict[str, Any]) -> None:
    page = Page(concluded(fake_run, [finding(COMPILED, model, report(0.25, accuracy=0.999))])._repr_html_())
    assert "met: " in page.text and "Winner: fake-strip + fake-compile" in page.text
    assert "2.5 ms" in page.text and "0.25x (0.247 to 0.253)" in page.text
    assert ACCURACY in page.text and SIZE in page.text


def test_one_without_any_candidate_shows_why(fake_run: FakeRun) -> None:
    result = concluded(fake_run, [], report(1.0, {ACCURACY: "broken"}), [(ROUNDED, Outcome("failed", "no luck"))])
    page = Page(result._repr_html_())
    assert result.verdict == "infeasible" and result.handed_over is None
    assert "infeasible: " in page.text and "Winner" not in page.text and "Closest" not in page.text


def test_names_are_escaped(fake_run: FakeRun, model: dict[str, Any]) -> None:
    manifest = dict(concluded(fake_run, [finding(COMPILED, model, report(0.25))]).manifest)
    attack = "<script>alert(1)</script>\x1b[2J"
    metrics = {attack: manifest["winner"]["metrics"]["latency.p50"]}
    ratios = {attack: manifest["winner"]["ratios"]["latency.p50"]}
    route = [{"technique": attack, "version": 1, "settings": {}}]
    manifest |= {
        "reason": attack, "notes": [attack], "advice": [attack], "original": {**manifest["original"], "metrics": {}},
        "winner": {**manifest["winner"], "metrics": metrics, "ratios": ratios, "files": [attack], "route": route},
        "limits": [{**manifest["limits"][0], "limit": attack, "slice": attack}],
    }  # fmt: skip
    page = shown(manifest, attack)
    assert "\x1b" not in page
    read = Page(page)
    assert "script" not in read.tags and read.text.count("alert(1)") == 9


def test_a_bundle_shows_where_it_lies(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "model")
    data = fake_data(model, 8)
    runner = reference(model.format)[1].load(model, Target(threads=1))
    outputs = predict(runner, model.signature, data, 1)
    bundle = bundle_of(tmp_path / "bundle", model, {"x": np.asarray(data.inputs["x"])}, outputs)
    page = Page(bundle._repr_html_())
    assert f"In {bundle.folder}: model.fake" in page.text and "the original, unchanged" in page.text


def test_candidates_are_a_frame_one_row_each(fake_run: FakeRun, model: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    tried = [(COMPILED, outcome(0.25)), (ROUNDED, Outcome("failed", "no luck"))]
    frame = concluded(fake_run, [finding(COMPILED, model, report(0.25))], tried=tried).to_frame()
    assert frame["candidate"].tolist() == [str(COMPILED), str(ROUNDED)]
    first, second = frame.to_dict("records")
    assert (first["route"], first["cause"], first["limits"]) == ("fake-strip + fake-compile", "done", "met")
    figure = tried[0][1].report.figures["latency.p50"]
    assert first["latency.p50"] == figure.candidate.value and first["latency.p50.low"] == figure.candidate.low
    assert first["latency.p50.ratio"] == 0.25 and first["latency.p50.ratio.high"] == figure.ratio.high
    assert second["reason"] == "no luck" and np.isnan(second["latency.p50"]) and second["limits"] == ""
    assert frame.attrs["units"]["latency.p50"] == "s" and frame.attrs["units"]["size"] == "bytes"
    assert len(concluded(fake_run, [], tried=[]).to_frame()) == 0


@pytest.fixture
def no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installation without extras is."""
    monkeypatch.setattr("strop.notebook.installed", lambda name: name != "pandas")


def test_without_pandas_candidates_are_a_table_of_pyarrow(
    fake_run: FakeRun, model: dict[str, Any], no_pandas: None
) -> None:
    tried = [(COMPILED, outcome(0.25)), (ROUNDED, Outcome("failed", "no luck"))]
    table = concluded(fake_run, [finding(COMPILED, model, report(0.25))], tried=tried).to_frame()
    assert isinstance(table, pyarrow.Table)
    first, second = table.to_pylist()
    assert (first["route"], first["limits"], first["latency.p50.ratio"]) == ("fake-strip + fake-compile", "met", 0.25)
    assert (second["reason"], second["latency.p50"]) == ("no luck", None)
    assert table.schema.field("latency.p50").metadata == {b"unit": b"s"}
    assert concluded(fake_run, [], tried=[]).to_frame().num_rows == 0


def test_a_column_of_several_kinds_is_text_in_a_table(no_pandas: None) -> None:
    """As a parameter is that may be a number or a word."""
    rows = [{"depth": 3, "rate": 1, "of": [1, 2]}, {"depth": "all", "rate": 0.5}, {"depth": None, "huge": 1 << 70}]
    assert frame(rows).to_pylist() == [
        {"depth": "3", "rate": 1.0, "of": [1, 2], "huge": None},
        {"depth": "all", "rate": 0.5, "of": None, "huge": None},
        {"depth": None, "rate": None, "of": None, "huge": str(1 << 70)},
    ]


def test_a_bundle_has_its_candidates_as_the_result_has_them(
    fake_run: FakeRun, model: dict[str, Any], tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    tried = [(COMPILED, outcome(0.25, model=model)), (ROUNDED, Outcome("failed", "no luck"))]
    result = concluded(fake_run, [finding(COMPILED, model, report(0.25))], tried=tried)
    result.save(tmp_path / "bundle")
    bundle = strop.Bundle.load(tmp_path / "bundle")
    pandas.testing.assert_frame_equal(bundle.to_frame(), result.to_frame())
    assert bundle.to_frame().attrs == result.to_frame().attrs
    assert "fake-compile" in bundle.plot().html and bundle.plot() == result.plot()
    kept = bundle.folder / "candidates.json"
    kept.write_text('[{"candidate": 1}]')
    for look in (bundle.to_frame, bundle.plot):
        with pytest.raises(BundleError, match=r"candidates\.json is not what strop wrote"):
            look()
    kept.unlink()  # as an earlier strop left it out
    assert len(bundle.to_frame()) == 0
    with pytest.raises(InvalidData, match="nothing to draw"):
        bundle.plot()


EVIL = "<script>alert(1)</script>"


def layer(name: str, seconds: float, bound_by: str) -> dict[str, Any]:
    around = {"value": seconds, "low": seconds, "high": seconds}
    return {
        "name": name, "operator": "Conv", "seconds": around, "share": {"value": 0.5, "low": 0.4, "high": 0.6},
        "operations": 2e6, "bytes": 100, "bound_by": bound_by, "intensity": 30.0, "reached": 0.5, "precision": "f32",
    }  # fmt: skip


def profile() -> Profile:
    peaks = {"rates": {"f32": 1e11}, "memory": 1e10, "cache": 5e10}
    return Profile(
        seconds={"value": 1e-4, "low": 9e-5, "high": 1.2e-4}, bound_by="compute", peaks=peaks, notes=[EVIL],
        layers=[layer(EVIL, 4e-5, "compute"), layer("relu", 1e-5, "memory")], told={"layers": EVIL},
        advice=[{"technique": EVIL, "gain": 0.4, "why": EVIL}], model={"runtime": "onnxruntime"},
    )  # fmt: skip


def explanation() -> Explanation:
    error = {"sqnr": 20.0, "cosine": 0.99, "error": 0.1, "lost": 0}
    sides = {"original": 1e-5, "candidate": 5e-6}
    told = {"name": EVIL, "operator": "Conv", "precision": "int8", "share": 1.0, "introduced": error, "seconds": sides}
    layers = [{**told, "accumulated": error, "bytes": sides}]
    return Explanation(said=[EVIL], layers=layers, forest=None, notes=[])


def test_profiles_and_explanations_are_plain_data_that_shows_itself() -> None:
    pytest.importorskip("pandas")
    for found, words in ((profile(), "bound by compute"), (explanation(), "share of the error")):
        assert json.loads(json.dumps(found)) == found
        read = Page(found._repr_html_())
        assert "script" not in read.tags and EVIL in read.text and words in read.text
        drawn = found.plot()
        assert (
            EVIL not in drawn.html
            and "srcdoc" in drawn._repr_html_()
            and 'sandbox="allow-scripts"' in drawn._repr_html_()
        )
    first, second = profile().to_frame().to_dict("records")
    assert (first["name"], first["seconds"], first["share.high"], second["bound_by"]) == (EVIL, 4e-5, 0.6, "memory")
    (only,) = explanation().to_frame().to_dict("records")
    assert only["introduced.error"] == 0.1 and only["seconds.candidate"] == 5e-6
    with pytest.raises(InvalidData, match="nothing to draw"):
        Explanation(explanation(), layers=[]).plot()


def test_a_comparison_is_a_frame_and_a_figure(tmp_path: Path, quick_looks: None) -> None:
    pytest.importorskip("pandas")
    model = fake_model(tmp_path / "model")
    found = strop.compare(model.path, model.path, fake_data(model, 60), target=Target(threads=1))
    frame = found.to_frame().set_index("metric")
    assert frame.loc["accuracy", "ratio"] == 1 and frame.loc["size", "unit"] == "bytes"
    assert frame.loc["latency.p50", "original.low"] == found["original"]["metrics"]["latency.p50"]["low"]
    assert "accuracy" in Page(found._repr_html_()).text and "accuracy" in found.plot().html


def test_a_result_draws_its_frontier_and_says_what_it_lacks_to(
    fake_run: FakeRun, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = concluded(fake_run, [finding(COMPILED, model, report(0.25))])
    assert "fake-compile" in result.plot().html and "<select>" in result.plot().html
    monkeypatch.setattr("strop.notebook.installed", lambda name: name != "plotly")
    with pytest.raises(MissingDependency, match="pip install plotly"):
        result.plot()
