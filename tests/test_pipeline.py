"""The whole job on fake models: every ending, faults for real, kills and resumes. No framework is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import quickly
import strop
from strop import pipeline
from strop.clock import TO_TELL, TO_WRITE, Clock
from strop.errors import BundleError, InvalidData, InvalidGoal, InvalidPlan, NotApplicable, RunFailed
from strop.events import Event, Said, Stopped, Tried
from strop.goal import Goal
from strop.plan import Candidate
from strop.prepare import prepare
from strop.rundir import RunDir
from strop.testing import FakeRuntime, fake_data, fake_model, registered
from strop.trial import Outcome


@pytest.fixture(autouse=True)
def _fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_looks: None) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with registered(tmp_path / "plugins"):
        yield


def make(folder: Path, samples: int = 600, **options: object) -> tuple[Path, Path]:
    """A fake model and its samples on disk."""
    model = fake_model(folder, **options)  # type: ignore[arg-type]
    data = fake_data(model, samples)
    np.savez(folder / "data.npz", x=data.inputs["x"], labels=data.labels)
    return model.path, folder / "data.npz"


def optimize(paths: tuple[Path, Path], goal: str, trials: int = 4, **options: object) -> strop.Result:
    return strop.optimize(*paths, goal, target=strop.Target(threads=1), budget=strop.Budget(600, trials), **options)  # type: ignore[arg-type]


def test_winner_is_proven_and_its_bundle_is_what_was_measured(tmp_path: Path) -> None:
    paths = make(tmp_path / "m", seconds=0.002)
    result = optimize(paths, "accuracy >= 95% of original", trials=2)
    assert result.verdict == "met"
    assert result.winner is not None and result.winner.proven
    assert result.winner.report.figures["latency.p50"].ratio.high < 1
    bundle = result.save(tmp_path / "bundle")
    loaded = strop.Bundle.load(bundle.folder)
    data, expected = loaded.samples()
    np.testing.assert_allclose(loaded.predict({"x": data.inputs["x"]})["y"], expected["y"])
    assert loaded.manifest["winner"]["ratios"]["latency.p50"]["high"] < 1
    assert strop.verify(loaded)["verdict"] == "inconclusive"  # a limit against the original is not checked without it
    assert strop.verify(loaded, *paths)["verdict"] == "met"


def test_original_wins_where_nothing_beats_it(tmp_path: Path) -> None:
    result = optimize(make(tmp_path / "m", seconds=0.002), "maximize accuracy", trials=1)
    assert result.verdict == "met"
    assert result.winner is not None and result.winner.candidate.steps == ()
    assert "no candidate is proven better" in result.reason
    assert result.manifest["winner"]["route"] == []


def test_infeasible_names_the_limit_saves_the_closest_and_says_what_would_help(tmp_path: Path) -> None:
    paths = make(tmp_path / "m", seconds=0.002)
    result = optimize(paths, "accuracy >= 90% of original; latency.p50 < 100 us", trials=1)
    assert result.verdict == "infeasible"
    assert result.winner is None and result.closest is not None
    assert "latency.p50 < 100 us" in result.reason
    assert any(line.startswith("a looser limit") and "latency.p50 <=" in line for line in result.advice)
    assert any(line.startswith("a stronger machine") and "times faster" in line for line in result.advice)
    bundle = result.save(tmp_path / "closest")
    assert bundle.manifest["winner"] is None and bundle.content["file"] == "model.fake"
    with pytest.raises(strop.Infeasible):
        result.raise_for_verdict()


def test_inconclusive_says_how_many_samples_would_decide(tmp_path: Path) -> None:
    result = optimize(make(tmp_path / "m", samples=60, seconds=0.002), "accuracy >= 0.999", trials=1)
    assert result.verdict == "inconclusive"
    assert any("samples in the confirm split would decide" in line for line in result.advice)


@pytest.mark.parametrize(
    ("fault", "cause", "words"),
    [
        ("crash", "crashed", "SIGSEGV"),
        ("memory", "memory", "more than the limit"),
        ("disk", "failed", "No space left"),
    ],
)
def test_a_fault_costs_that_candidate_only(tmp_path: Path, fault: str, cause: str, words: str) -> None:
    paths = make(tmp_path / "m", build_fault=fault, seconds=0.002)
    result = strop.optimize(
        *paths, "accuracy >= 90% of original", target=strop.Target(threads=1),
        budget=strop.Budget(600, 2, memory=1_500_000_000),
    )  # fmt: skip
    failed = [outcome for candidate, outcome in result.tried if "fake-fault" in str(candidate)]
    assert failed and all(o.cause == cause and words in o.reason for o in failed), [(o.cause, o.reason) for o in failed]
    assert any(outcome.cause == "done" for _, outcome in result.tried)


def test_a_hang_costs_that_candidate_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.clock.LEAST_SECONDS", 15.0)
    monkeypatch.setattr("strop.clock.SHARE_OF_ONE", 0.01)
    paths = make(tmp_path / "m", build_fault="hang", seconds=0.002)
    result = optimize(paths, "accuracy >= 90% of original", trials=2)
    hung = [outcome for candidate, outcome in result.tried if "fake-fault" in str(candidate)]
    assert hung and all(o.cause == "timeout" and "took longer than 15 s" in o.reason for o in hung)
    assert any(outcome.cause == "done" for _, outcome in result.tried)


@dataclasses.dataclass
class OneCandidate:
    """A searcher that has one."""

    exhausted: ClassVar[str] = "there is one"
    tried: list[Any] = dataclasses.field(default_factory=list)

    def ask(self) -> Any:
        return None if self.tried else SimpleNamespace(candidate=Candidate((), FakeRuntime()), why="")

    def tell(self, proposal: Any, outcome: Outcome) -> None:
        self.tried.append((proposal.candidate, outcome))


@pytest.mark.parametrize(
    ("left", "cause", "kept"), [(300.0, "failed", True), (300.0, "timeout", True), (0.0, "timeout", False)]
)
def test_waiting_for_another_strop_is_told_and_counts_for_the_budget_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, cause: str, kept: bool
) -> None:
    """What waited until the budget was over has not failed: it stays open."""
    clock = Clock(strop.Budget(400), tmp_path / "spent.json")
    assert clock.limits().seconds == pytest.approx(100, abs=1)
    assert clock.limits().waiting == pytest.approx(400 * (1 - TO_TELL - TO_WRITE) - 100, abs=2)

    def tried(*_: Any) -> Outcome:
        clock._start -= clock.left - left
        return Outcome(cause, seconds=1.0, waited=42.0)

    monkeypatch.setattr(pipeline, "try_candidate", tried)
    searcher, told = OneCandidate(), []
    workshop = SimpleNamespace(remember=lambda *_: None, failure=lambda *_: None)
    setting = SimpleNamespace(root=tmp_path, goal=Goal(()), workshop=workshop, narrower=1.0)
    pipeline._explore(searcher, setting, clock, 0.0, told.append)  # type: ignore[arg-type]
    said = [event.text for event in told if isinstance(event, Said)]
    assert len(said) == 1 and "waited 42 s for another strop" in said[0] and "time budget" in said[0]
    assert bool(searcher.tried) is kept


def test_a_model_that_its_runtime_refuses_is_named_before_the_search(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="can't load this model"):
        optimize(make(tmp_path / "m", fault="load"), "accuracy >= 90% of original")


def test_killed_searches_go_on_and_repeat_nothing(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m", seconds=0.001)
    run, dice = tmp_path / "run", random.Random(3)
    script = tmp_path / "search.py"
    script.write_text(
        "import quickly, strop\n"
        "quickly.begin()\n"
        f"run, budget = {str(run)!r}, strop.Budget(600, 5)\n"
        "import pathlib\n"
        "if pathlib.Path(run, 'run.json').exists():\n"
        "    strop.resume(run, budget=budget)\n"
        "else:\n"
        f"    strop.optimize({str(model)!r}, {str(data)!r}, 'accuracy >= 90% of original', run=run, budget=budget,\n"
        "                   target=strop.Target(threads=1))\n"
    )
    before: list[str] = []
    environment = quickly.environment(tmp_path / "plugins")
    for _ in range(3):
        search = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL, env=environment)
        while not (run / "run.json").exists() and search.poll() is None:
            time.sleep(0.05)
        time.sleep(dice.uniform(0.0, 5.0))
        search.send_signal(signal.SIGKILL)
        search.wait()
        now = finished(run)
        assert now[: len(before)] == before, "a finished candidate was lost"
        assert len(set(now)) == len(now), "a finished candidate was repeated"
        before = now
    seen: list[Event] = []
    result = strop.resume(run, budget=strop.Budget(600, len(before) + 2), listener=seen.append)
    assert len([event for event in seen if isinstance(event, Tried)]) == 2
    assert len({candidate.key for candidate, _ in result.tried}) == len(result.tried) == len(before) + 2
    assert not list(run.rglob(".part-*"))


def test_interrupt_keeps_the_best_so_far(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m", seconds=0.002)
    flags = ["--threads", "1", "--limit", "accuracy >= 90% of original", "--budget", "5m", "--json"]
    shell = ["env", "--default-signal=INT", sys.executable, "-m", "quickly"]
    command = [*shell, "optimize", model, "--data", data, *flags, "--out", tmp_path / "b"]
    search = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=quickly.environment(tmp_path / "plugins"),
    )  # fmt: skip
    assert search.stderr is not None
    for line in search.stderr:
        if "best so far" in line:
            break
    os.killpg(search.pid, signal.SIGINT)  # as a terminal does: the whole group gets it
    out, err = search.communicate(timeout=120)
    assert search.returncode == 0, err
    assert json.loads(out)["verdict"] == "met"
    assert "interrupted" in err and "Traceback" not in err


def test_a_recipe_is_replayed_on_a_retrained_model_and_proven_anew(tmp_path: Path) -> None:
    first = optimize(make(tmp_path / "m", seconds=0.002), "accuracy >= 90% of original", trials=1)
    bundle = first.save(tmp_path / "bundle")
    made, goal, seen = make(tmp_path / "m2", seconds=0.002, seed=7), "accuracy >= 90% of original", list[Event]()
    again = optimize(made, goal, recipe=bundle.folder, listener=seen.append)
    assert again.verdict == "met"
    assert Stopped("the recipe was replayed") in seen
    assert [str(candidate) for candidate, _ in again.tried] == [str(first.winner.candidate)]  # type: ignore[union-attr]
    assert again.manifest["hashes"]["original"] != first.manifest["hashes"]["original"]


def test_a_recipe_of_a_machine_with_more_is_replayed_without_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, goal = make(tmp_path / "m", seconds=0.002), "accuracy >= 90% of original"
    bundle = optimize(made, goal, trials=1).save(tmp_path / "bundle").folder
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["winner"]["runtime"]["options"]["slack"] = 2.0
    (bundle / "manifest.json").write_text(json.dumps(manifest))

    def requires(runtime: FakeRuntime, target: strop.Target) -> None:
        if runtime.slack > 1:
            raise NotApplicable("this machine has no slack")

    monkeypatch.setattr(FakeRuntime, "requires", requires)
    seen: list[Event] = []
    again = optimize(made, goal, recipe=bundle, listener=seen.append)
    assert again.verdict == "met"
    said = "the recipe's fake-runtime(slack=2.0) is replayed as fake-runtime: this machine has no slack"
    assert Said(said, warning=True) in seen


def test_a_resume_refuses_another_model_and_a_folder_without_a_run(tmp_path: Path) -> None:
    paths = make(tmp_path / "m", seconds=0.001)
    optimize(paths, "accuracy >= 90% of original", trials=1, run=tmp_path / "run")
    fake_model(tmp_path / "m", seed=9)
    with pytest.raises(RunFailed, match="has changed or gone"):
        strop.resume(tmp_path / "run")
    with pytest.raises(RunFailed, match="holds no run"):
        strop.resume(tmp_path / "nothing")
    with pytest.raises(RunFailed, match="holds a run already"):
        optimize(paths, "accuracy >= 90% of original", run=tmp_path / "run")


def test_what_a_goal_leaves_open_is_filled_in_and_told(tmp_path: Path) -> None:
    seen: list[Event] = []
    result = optimize(make(tmp_path / "m", seconds=0.002), "minimize latency.p50", trials=1, listener=seen.append)
    assert [limit["limit"] for limit in result.manifest["limits"]] == ["accuracy >= 99% of original"]
    assert any("accuracy >= 99% of original is required" in str(event) for event in seen)


def test_what_is_asked_for_without_labels_says_what_it_is(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m", seconds=0.002)
    np.savez(data, x=np.load(data)["x"])
    seen: list[Event] = []
    optimize((model, data), "minimize latency.p50", trials=1, listener=seen.append)
    (said,) = (event.text for event in seen if isinstance(event, Said) and "is required" in event.text)
    assert re.search(
        r"so fidelity >= 0.99 is required \(fidelity: how alike a sample's outputs are to .*\); another", said
    )


def test_labels_that_are_numbered_otherwise_are_told_with_the_result(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m", seconds=0.002)
    arrays = dict(np.load(data))
    np.savez(data, **{**arrays, "labels": (arrays["labels"] + 1) % (arrays["labels"].max() + 1)})
    seen: list[Event] = []
    result = optimize((model, data), "minimize latency.p50; agreement >= 0.5", trials=1, listener=seen.append)
    assert any("would be in 100.0% if labels were numbered otherwise" in str(event) for event in seen)
    assert any("labels were numbered otherwise" in note for note in result.manifest["notes"])


def test_what_nothing_reads_is_told_where_there_are_no_labels(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m", seconds=0.002)
    arrays = dict(np.load(data))
    others = {name: arrays["labels"] for name in ("labl", "b", "c", "d", "e", "f")}
    said = "The data have no labels, and nothing reads 'labl', 'b', 'c', 'd', 'e' and 1 more. If the labels are among "

    def notes(label: str | None = None) -> tuple[str, ...]:
        with contextlib.closing(RunDir(tmp_path / "run")) as run:
            return prepare(
                run, model, data, None, metrics=(), label=label, slices=(), group=None, calibration=None, confirm=None,
                target=strop.Target(threads=1), budget=strop.Budget(), seed=0, recipe=None, out=None,
            ).notes  # fmt: skip

    np.savez(data, x=arrays["x"], **others)
    (note,) = notes()
    assert note == said + "them, say which they are: label=NAME."
    assert notes("labl") == (), "there are labels"
    np.savez(data, x=arrays["x"])
    assert notes() == (), "there is nothing else"


def test_slices_are_reported_and_bound(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m", seconds=0.002)
    arrays = dict(np.load(data))
    np.savez(data, **arrays, part=np.arange(600) % 2)
    goal = "worst_slice(accuracy) >= 80% of original"
    result = optimize((model, data), goal, trials=1, slices=["part"])
    assert set(result.manifest["slices"]) == {"part=0", "part=1"}
    accuracy = result.manifest["slices"]["part=0"]["metrics"]["accuracy"]
    assert accuracy["difference"]["value"] == accuracy["candidate"]["value"] - accuracy["original"]["value"]
    assert result.manifest["churn"]["to_wrong"]["n"] == result.manifest["splits"]["confirm"]
    assert [one["verdict"] for one in result.manifest["confirmed"]] == ["met"]
    (limit,) = result.manifest["limits"]
    assert limit["slice"] in ("part=0", "part=1") and limit["verdict"] == "met"
    with pytest.raises(InvalidGoal, match="needs slices"):
        optimize((model, data), goal)


def test_bad_input_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    model, data = make(tmp_path / "m")
    with pytest.raises(InvalidGoal, match="99% of original"):
        optimize((model, data), "accuracy >= 99%")
    with pytest.raises(InvalidGoal, match="accuracy"):
        optimize((model, data), "acuracy >= 0.9")
    with pytest.raises(InvalidData):
        optimize((model, tmp_path / "nothing.npz"), "accuracy >= 0.9")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(BundleError, match="exists already"):
        optimize((model, data), "accuracy >= 1% of original", out=tmp_path / "there")


def test_a_folder_that_is_taken_loses_nothing(tmp_path: Path) -> None:
    """What was found and confirmed is the run's: also a script that ended there has it again, its budget spent."""
    run = tmp_path / "run"
    result = optimize(make(tmp_path / "m", seconds=0.002), "maximize accuracy", trials=1, run=run)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(BundleError, match=rf"b exists already.*such as .*b-2, or.*strop\.resume\('{run}'\)"):
        result.save(tmp_path / "b")
    heard: list[Event] = []
    again = strop.resume(run, budget=strop.Budget(1e-3, 1), listener=heard.append)
    assert not [event for event in heard if isinstance(event, Tried)]
    assert again.reason == result.reason and again.manifest["winner"] == result.manifest["winner"]
    assert strop.Bundle.load(again.save(tmp_path / "b-2").folder).manifest["winner"] == result.manifest["winner"]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (strop.Budget(1.0), "1 s that budget=strop.Budget(...) allows in all are spent"),
        (strop.Budget(600, 1), "1 candidate tried, as many as budget=strop.Budget(trials=...) allows"),
    ],
)
def test_a_run_whose_budget_is_spent_says_so_when_it_is_resumed(
    tmp_path: Path, budget: strop.Budget, said: str
) -> None:
    run = tmp_path / "run"
    optimize(make(tmp_path / "m", seconds=0.002), "accuracy >= 90% of original", trials=1, run=run)
    heard: list[Event] = []
    result = strop.resume(run, budget=budget, listener=heard.append)
    (reason,) = (event.reason for event in heard if isinstance(event, Stopped))
    assert said in reason and "strop.resume(...) with more goes on" in reason
    assert not [event for event in heard if isinstance(event, Tried)]
    assert result.verdict == "met" and result.winner is not None, "what was tried before is confirmed"


def finished(run: Path) -> list[str]:
    """The candidates whose outcome is in the journal, in order."""
    journal = run / "journal.log"
    found: dict[int, dict[str, str]] = {}
    for line in journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []:
        entry = json.loads(line)
        for name, value in (entry.get("user_attr") or {}).items():
            found.setdefault(entry["trial_id"], {})[name] = value
    return [attrs["candidate"] for attrs in found.values() if "outcome" in attrs]


def test_a_refusal_removes_nothing_but_what_it_made(tmp_path: Path) -> None:
    paths = make(tmp_path / "m")
    for name in ("work", "parent"):
        (tmp_path / name).mkdir()
    for run in ("work/new/..", "work", "fresh"):
        with pytest.raises(InvalidGoal, match="accuracyy"):
            optimize(paths, "accuracyy >= 99% of original", run=run)
    assert (tmp_path / "work").is_dir()
    assert not (tmp_path / "fresh").exists()
    (tmp_path / "parent" / "precious").touch()
    with pytest.raises(RunFailed, match="is none"):
        optimize(paths, "accuracyy >= 99% of original", run=tmp_path / "parent" / "new" / "..")
    assert [path.name for path in (tmp_path / "parent").iterdir()] == ["precious"]


@pytest.mark.parametrize("out", ["same", "same/artifacts", "same/../same"])
def test_a_bundle_does_not_go_where_the_run_keeps_its_files(tmp_path: Path, out: str) -> None:
    with pytest.raises(InvalidPlan, match="where its run keeps its files"):
        optimize(make(tmp_path / "m"), "accuracy >= 90% of original", run="same", out=out)


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_that_not_every_library_takes_is_refused_first(tmp_path: Path, seed: int) -> None:
    with pytest.raises(InvalidPlan, match=rf"seed must be .* to 4294967295, not {seed}"):
        optimize(make(tmp_path / "m"), "accuracy >= 90% of original", seed=seed, run="run")
    assert not (tmp_path / "run").exists()
