"""Settings that the user fixes: read alike through all three doors, never searched, and told wherever a run is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import strop
from engine import FakeRun, outcome
from strop import jobs, pipeline
from strop.baseline import lay_out
from strop.cli import app
from strop.errors import InvalidPlan, RunFailed
from strop.fixed import begun, fixed, spelled, texts
from strop.goal import Goal
from strop.journal import finished
from strop.plan import Candidate, Route, routes
from strop.prepare import resumed
from strop.rundir import JOURNAL, PLAN, write_json
from strop.search import RouteSearch
from strop.settings import Span
from strop.target import Target
from strop.technique import Needs
from strop.techniques import Factorize, MixedOnnx, ToOnnx
from strop.testing import FakeRound, FakeRuntime, FakeStrip, fake_model, registered

ONE = Target(threads=1)
CHOSEN = {"tflite-int8": {"integer_ends": True, "recipe": "den=se=float; a.b=int8", "keep": 0.1, "samples": 50}}


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_is_spelled_is_what_it_was() -> None:
    assert spelled(texts(CHOSEN)) == fixed(CHOSEN) == CHOSEN
    assert spelled(["tflite-int8.keep=0", " tflite-int8.integer_ends = false"]) == {
        "tflite-int8": {"keep": 0.0, "integer_ends": False}
    }


def test_a_strength_apart_a_step_begins_with_what_is_fixed_and_its_defaults() -> None:
    given = {"mixed-onnx": {"samples": 50}}
    assert begun(MixedOnnx(samples=50, error=0.46), given)
    assert not begun(MixedOnnx(error=0.46), given)
    assert not begun(MixedOnnx(samples=50, calibrator="entropy"), given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tflite-int9.keep=0.1", "There is no technique 'tflite-int9'. Did you mean 'tflite-int8'?"),
        ("tflite-int8.kept=0.1", "tflite-int8 has no setting ['kept']. Its settings: activations, integer_ends, keep"),
        ("simplify.kept=0.1", "simplify has no setting ['kept']. It has none at all."),
        ("tflite-int8.keep=0.2", "tflite-int8.keep must be 0.0 or 0.1 or 0.25 or 0.5, not 0.2."),
        ("tflite-int8.keep=much", "not 'much'"),
        ("tflite-int8.integer_ends=1", "tflite-int8.integer_ends must be true or false, not '1'."),
        ("tflite-int8.recipe=dense=int5", "'dense=int5' is not"),
        ("factorize.amount=0.9", "factorize.amount must be a number from 0.1 to 0.8, not 0.9."),
        ("tflite-int8.keep", "--set must be TECHNIQUE.SETTING=VALUE, not 'tflite-int8.keep'"),
        ("keep=0.1", "--set must be TECHNIQUE.SETTING=VALUE, not 'keep=0.1'"),
    ],
)
def test_what_can_t_be_set_is_refused_before_anything_is_read(text: str, said: str) -> None:
    done = run("optimize", "missing.tflite", "--data", "missing.npz", "--set", text)
    assert done.exit_code == 2 and said in done.stderr and "missing" not in done.stderr


@pytest.mark.parametrize("settings", [{"tflite-int8": 3}, 3, {"tflite-int8": {"recipe": 3}}, {"tflite-int8": {3: 3}}])
def test_so_is_what_is_no_table_in_python(settings: Any) -> None:
    with pytest.raises(InvalidPlan, match=r"settings must be given by technique|recipe must be text|no setting"):
        strop.optimize("missing.tflite", "missing.npz", settings=settings)


def test_a_fixed_setting_is_no_strength_and_in_no_space() -> None:
    fixed = (("factorize.amount", 0.8),)
    route, free = (
        Route((Factorize, ToOnnx), FakeRuntime, 0.2, fixed=fixed),
        Route((Factorize, ToOnnx), FakeRuntime, 0.2),
    )
    assert free.space(ONE)["factorize.amount"] == Span(0.1, 0.2, strength=True)
    assert not {"factorize.amount"} & {*route.space(ONE), *route.strengths()}
    assert route.candidate().steps[0].settings()["amount"] == 0.8  # also where others are held back
    assert route.candidate({"factorize.amount": 0.1}) == route.candidate()
    assert route.at_strength(1.0) == {} and route.strength_of(route.candidate()) is None
    assert route.expects(ONE) < free.expects(ONE)


def test_a_search_varies_what_is_left(tmp_path: Path) -> None:
    found, _ = routes(
        fake_model(tmp_path), ONE, Needs.SAMPLES, [FakeStrip, FakeRound], [FakeRuntime],
        fixed={"fake-round": {"decimals": 1}},
    )  # fmt: skip
    searcher = RouteSearch(found, Goal.parse("minimize latency.p50"), ONE, 0, tmp_path / JOURNAL)
    while proposal := searcher.ask():
        searcher.tell(proposal, outcome(0.5))
    rounded = [step for candidate, _ in searcher.tried for step in candidate.steps if isinstance(step, FakeRound)]
    assert len(rounded) > 1 and {step.decimals for step in rounded} == {1}


def test_a_search_that_goes_on_plans_with_the_same(fake_run: FakeRun) -> None:
    write_json(fake_run.run / PLAN, {**fake_run.request.to_json(), "settings": {"fake-round": {"decimals": 1}}})
    again = resumed(fake_run.run)
    setting, said = lay_out(fake_run.run, again, jobs.Limits(60, 1 << 62)), list[Any]()
    _, planned, _ = pipeline._searcher(fake_run.run, again, setting, said.append)
    rounded = [step for candidate in planned for step in candidate.steps if isinstance(step, FakeRound)]
    assert rounded and {step.decimals for step in rounded} == {1}
    write_json(fake_run.run / PLAN, {**fake_run.request.to_json(), "settings": {"fake-round": {"decimals": 9}}})
    with pytest.raises(RunFailed, match="decimals"):
        resumed(fake_run.run)


def test_settings_of_what_no_route_comes_to_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with registered(tmp_path / "plugins"):
        model = fake_model(tmp_path / "given")
        with pytest.raises(InvalidPlan, match="tflite-int8 takes nothing that a model in fake is converted to"):
            strop.optimize(model.path, {"x": [[1.0]]}, settings=CHOSEN)
    assert not (tmp_path / "strop-runs").exists()


def test_a_recipe_and_integer_ends_of_tflite_from_the_shell_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_looks: None
) -> None:
    pytest.importorskip("ai_edge_quantizer", reason="comes with the extra litert")
    import numpy as np

    import tflites
    from strop.formats.tflite import read

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    made = tflites.logits(tmp_path / "given")
    np.savez("data.npz", picture=tflites.images(120).inputs["picture"])
    done = run(
        "optimize", made.model.path, "--data", "data.npz", "--minimize", "size", "--limit", "fidelity >= 0.5",
        "--threads", 1, "--trials", 1, "--run", "run", "--out", "bundle", "--json",
        "--set", "tflite-int8.recipe=dense|logits=float", "--set", "tflite-int8.integer_ends=true",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    chosen = {"tflite-int8": {"recipe": "dense|logits=float", "integer_ends": True}}
    manifest = json.loads(done.stdout)
    assert manifest["settings"] == json.loads(Path("run", PLAN).read_text())["settings"] == chosen
    (step,) = manifest["winner"]["route"]
    assert chosen["tflite-int8"].items() <= step["settings"].items()
    graph = read(Path("bundle/model.tflite"))
    assert {graph.values[at].dtype for at in graph.inputs.values()} == {"int8"}
    kernels = {value.name: value.dtype for value in graph.all_values if value.stored and "kernel" in value.name}
    assert {name.split("/")[0]: dtype for name, dtype in kernels.items()} == {
        "first": "int8", "second": "int8", "dense": "float32",
    }  # fmt: skip
    page = Path("bundle/report.html").read_text()
    assert "--set &#x27;tflite-int8.recipe=dense|logits=float&#x27;" in page
    assert "set.tflite-int8.integer_ends = true" in page

    again = run("optimize", "--resume", "run", "--trials", 2, "--out", "again", "--json")
    said = "given, and not searched: tflite-int8.recipe=dense|logits=float, tflite-int8.integer_ends=true"
    assert said in again.stderr.replace("\n", " ")
    assert json.loads(again.stdout)["settings"] == chosen
    first, second = (candidate for candidate, _ in finished(Path("run", JOURNAL)))
    assert first == Candidate.of(manifest["winner"]) and second != first
    assert run("optimize", "--resume", "run", "--set", "simplify.x=1").exit_code == 2
    replayed = run(
        "optimize", made.model.path, "--data", "data.npz", "--recipe", "bundle", "--set", "tflite-int8.keep=0"
    )
    assert (
        replayed.exit_code == 2 and "a recipe has all settings, and those of tflite-int8 are given" in replayed.stderr
    )
