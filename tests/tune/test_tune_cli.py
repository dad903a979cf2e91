"""strop tune: estimators, spaces and data as files name them; what can't be used is told in one paragraph."""

from __future__ import annotations

import html
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from pyarrow import csv, parquet
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner, Result

from strop.cli import app
from strop.errors import InvalidPlan, StropError
from strop.planfile import TunePlan, read, read_space
from strop.terminal import Reporter
from strop.tune.space import Space
from strop.tune.tables import read_samples

MINE = """
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

def make():
    return make_pipeline(StandardScaler(), SVC())

def seven():
    return 7

def train(trial):
    return -(trial.params["x"] - 3) ** 2
"""
PLAN = """
model = "own_models:make"
data = "iris.csv"
label = "kind"
maximize = "accuracy"
trials = 4
cv = 3
threads = 1

[[space]]
svc__kernel = ["linear"]
svc__C = {low = 1e-2, high = 10, log = true}

[[space]]
svc__kernel = ["rbf"]
svc__gamma = [0.01, 0.1, 1]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    x, y = load_iris(return_X_y=True)
    columns = {name: x[:, place] for place, name in enumerate("abcd")}
    table = pa.table({**columns, "kind": pa.array(np.array(["one", "two", "three"])[y])})
    csv.write_csv(table, tmp_path / "iris.csv")
    np.savez(tmp_path / "iris.npz", x=x, labels=y)
    skops.io.dump(DecisionTreeClassifier(random_state=0), tmp_path / "tree.skops")
    (tmp_path / "own_models.py").write_text(MINE)
    (tmp_path / "depth.json").write_text('{"max_depth": [1, 2, null], "min_samples_leaf": {"low": 1, "high": 9}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def block(page: Path, name: str) -> str:
    """Code that a report has."""
    (found,) = re.findall(f'aria-label="{name}">(.*?)</pre>', page.read_text(), re.S)
    return html.unescape(found)


def run_code(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def strop(*words: object) -> Result:
    return CliRunner().invoke(app, ["tune", *(str(word) for word in words)])


def test_a_plan_file_is_run_kept_reported_and_gone_on_with(here: Path) -> None:
    (here / "strop.toml").write_text(PLAN)
    first = strop("--run", "run", "--json")
    assert first.exit_code == 0, first.stderr
    assert "strop watch run follows the search" in first.stderr
    found = json.loads(first.stdout)
    assert found["goal"]["objective"] == "accuracy"
    assert len(found["trials"]) == 5
    assert {row["folds"] for row in found["trials"] if row["state"] == "done"} == {3}
    assert {row.get("param_svc__kernel") for row in found["trials"]} <= {None, "linear", "rbf"}
    assert found["how"]["given"] == {"svc__C": 1.0, "svc__kernel": "rbf", "svc__gamma": "scale"}
    page = here / "run" / "report.html"
    assert "svc__gamma" in page.read_text()
    assert block(page, "The command") == "strop tune"
    (here / "again.toml").write_text(block(page, "strop.toml"))
    assert read("again.toml", TunePlan) == read("strop.toml", TunePlan)
    assert "Pipeline" in run_code(block(page, "Python that loads it"), here / "run")
    assert found["how"]["hashes"]["data"] in page.read_text(), "and what the data is known by"

    seen = CliRunner().invoke(app, ["watch", "run"])  # which tells it all again, and what it came to
    assert seen.exit_code == 0 and "optuna" not in seen.stderr
    assert "  4 " in seen.stderr and "met: svc__" in seen.stderr and "judged on" in seen.stderr
    assert json.loads(CliRunner().invoke(app, ["watch", "run", "--json"]).stdout) == found
    told = (here / "run" / "events.jsonl").read_text().splitlines()
    gone = json.dumps({"at": 1.0, "begun": {"pid": os.getpid(), "since": 1.0}})  # a number that another process has now
    (here / "run" / "events.jsonl").write_text("\n".join([gone, *told[1:-1]]) + "\n")
    killed = CliRunner().invoke(app, ["watch", "run"])
    assert killed.exit_code == 2 and "strop tune --resume run" in killed.stderr

    (here / "strop.toml").unlink()  # the run knows what it was begun with
    on = strop("--resume", "run", "--trials", 6, "--json", "--out", "best.skops")
    assert on.exit_code == 0, on.stderr
    again = json.loads(on.stdout)
    assert len(again["trials"]) == 7
    assert [row["seconds"] for row in again["trials"][:5]] == [row["seconds"] for row in found["trials"]]
    assert again["file"] == "best.skops"
    best = skops.io.load("best.skops", trusted=again["trusted"])
    assert {name: best.get_params()[name] for name in again["params"]} == again["params"]
    assert best.predict(load_iris().data).shape == (150,)


def test_the_journal_shows_the_values_of_parameters(here: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    strop("tree.skops", "--data", "iris.npz", "--space", "depth.json", "--trials", 3, "--threads", 1, "--run", "run")
    storage = optuna.storages.JournalStorage(JournalFileBackend("run/journal.log"))
    (study,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
    assert {trial.params["max_depth"] for trial in trials} <= {"1", "2", "None"}
    assert {type(trial.params["min_samples_leaf"]) for trial in trials} == {int}


def test_a_module_is_tuned_by_how_it_is_trained(here: Path) -> None:
    pytest.importorskip("torch", reason="comes with the extra torch")
    (here / "own_nets.py").write_text(
        "import torch\n\ndef net(width=4):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))\n"
    )
    plan = """
model = "own_nets:net"
data = "iris.csv"
label = "kind"
maximize = "accuracy"
trials = 2
cv = 2
threads = 1
run = "run"
[training]
epochs = 2
[space]
learning_rate = {low = 1e-3, high = 1e-1, log = true}
width = [4, 8]
"""
    (here / "strop.toml").write_text(plan)
    said = strop("--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    assert {row["state"] for row in found["trials"]} <= {"done", "dropped"}
    assert any("param_width" in row for row in found["trials"])
    again = strop("--resume", "run", "--trials", 3, "--json")
    assert again.exit_code == 0, again.stderr
    assert len(json.loads(again.stdout)["trials"]) == len(found["trials"]) + 1
    for change, words in (
        (("own_nets:net", "tree.skops"), "trains what module:factory makes, and .*tree.skops names none"),
        (('data = "iris.csv"\nlabel = "kind"\n', ""), "trains a module of PyTorch on samples"),
        (('run = "run"', 'out = "net.skops"'), "out takes estimators as .skops"),
    ):
        (here / "strop.toml").write_text(plan.replace(*change))
        refused = strop()
        assert refused.exit_code == 2
        assert re.search(words, " ".join(refused.stderr.split()))


def test_an_estimator_and_a_space_by_flags(here: Path) -> None:
    said = strop("tree.skops", "--data", "iris.npz", "--space", "depth.json", "--trials", 3, "--threads", 1,
                 "--limit", "size < 1 MB", "--out", "best.skops")  # fmt: skip
    assert said.exit_code == 0, said.stderr
    assert "met" in said.stdout
    assert "best.skops, fitted; types that skops.io.load must be told to trust: sklearn.tree._tree.Tree" in said.stdout
    taken = strop("tree.skops", "--data", "iris.npz", "--space", "depth.json", "--out", "best.skops")
    assert taken.exit_code == 2
    assert "exists already" in taken.stderr


def test_pickles_need_trust(here: Path) -> None:
    (here / "tree.pkl").write_bytes(pickle.dumps(DecisionTreeClassifier()))
    words = ("tree.pkl", "--data", "iris.npz", "--space", "depth.json", "--trials", 1, "--threads", 1)
    assert "--trust-pickle" in strop(*words).stderr
    assert strop(*words, "--trust-pickle").exit_code == 0


def test_a_function_with_a_space(here: Path) -> None:
    (here / "space.toml").write_text("[space]\nx = {low = 1, high = 9, step = 2}\n")
    said = strop("own_models:train", "--space", "space.toml", "--threads", 1, "--json", "--run", "run")
    found = json.loads(said.stdout)
    assert found["params"] == {"x": 3}
    assert len(found["trials"]) == 5
    page = here / "run" / "report.html"
    assert float(run_code(block(page, "Python that trains it"), here)) == 0
    _, *words = shlex.split(block(page, "The command").replace("\\\n", ""))
    again = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(again.stdout)["params"] == found["params"], again.stderr


def test_what_a_function_prints_is_no_result(here: Path) -> None:
    (here / "own_prints.py").write_text(
        "def train(trial):\n    print('loud')\n    return trial.suggest_int('n', 1, 2)\n"
    )
    command = [sys.executable, "-m", "strop", "tune", "own_prints:train", "--trials", "2", "--threads", "2", "--json"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(said.stdout)["verdict"] == "met"
    assert "loud" in said.stderr


def test_an_interrupted_run_says_how_it_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(reporter: Reporter, event: Any) -> None:
        if "x=3" in str(event):
            raise KeyboardInterrupt

    (here / "space.json").write_text('{"x": [1, 2, 3, 4, 5]}')
    words = ["own_models:train", "--space", "space.json", "--sampler", "grid", "--threads", 1]
    with monkeypatch.context() as patched:
        patched.setattr(Reporter, "__call__", interrupt)
        said = strop(*words, "--run", "my run")
    assert said.exit_code == 0, said.stderr
    assert "it goes on with: strop tune --resume 'my run'" in said.stdout
    assert "every point of the space was tried" in strop("--resume", "my run").stdout


def test_a_run_that_was_damaged_goes_on_or_says_so(here: Path) -> None:
    words = ("tree.skops", "--data", "iris.npz", "--space", "depth.json", "--trials", 2, "--threads", 1, "--run", "run")
    first = strop(*words)
    assert first.exit_code == 0, first.stderr
    kept, noise = (here / "run" / "fits.jsonl").read_bytes(), bytes(range(128, 256)) + b"\n\xff"
    (here / "run" / "fits.jsonl").write_bytes(noise + b"\n" + kept)
    assert strop(*words).exit_code == 0
    assert len((here / "run" / "fits.jsonl").read_bytes().splitlines()) == len(kept.splitlines()) + 2, (
        "none is repeated"
    )
    (here / "run" / "journal.log").write_bytes(noise)
    damaged = strop(*words)
    assert damaged.exit_code == 2, damaged.output
    assert re.search(r"journal.log is not what strop wrote .* Remove it: all fits are kept", damaged.stderr)
    (here / "run" / "journal.log").unlink()
    assert strop(*words).exit_code == 0
    train = ("own_models:train", "--space", "x.json", "--threads", 1, "--run", "other")
    (here / "x.json").write_text('{"x": [1, 2]}')
    assert strop(*train).exit_code == 0
    (here / "other" / "journal.log").write_bytes(noise)
    assert "journal.log is not what strop wrote" in strop(*train).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tree.skops", "--data", "iris.npz"], "a table [space], such as C = [0.1, 1, 10]"),
        (["tree.skops", "--data", "iris.npz", "--space", "depth.json", "--rungs", "epochs"], "which it does not have"),
        (["tree.skops", "--data", "iris.npz", "--space", "none.json"], "none.json"),
        (["tree.skops", "--data", "iris.npz", "--space", "empty.json"], "The space names no parameter"),
        (["tree.skops", "--data", "iris.npz", "--space", "bare.toml"], "a table [space]"),
        (["tree.skops", "--data", "iris.npz", "--space", "strange.json"], "the estimator does not know it"),
        (["tree.skops", "--data", "iris.npz", "--space", "down.json"], "must go from a low to a high above it"),
        (["tree.skops", "--data", "none.csv", "--space", "depth.json"], "There is no data at none.csv"),
        (["tree.skops", "--data", "iris.csv", "--space", "depth.json"], "--label NAME"),
        (["own_models:make", "--data", "iris.csv", "--space", "depth.json"], "--label NAME"),
        (["tree.skops", "--data", "iris.csv", "--label", "kin", "--space", "depth.json"], "Did you mean 'kind'?"),
        (["tree.skops", "--data", "iris.npz", "--space", "depth.json", "--out", "best.pkl"], "Name it as best.skops"),
        (["none.skops", "--data", "iris.npz", "--space", "depth.json"], "none.skops does not"),
        (["own_models:seven", "--data", "iris.npz", "--space", "depth.json"], "and gives 7"),
        (["own_models:train", "--space", "depth.json", "--cv", "3"], "has no use for cv"),
        (["tree.skops", "--data", "gaps.npz", "--space", "depth.json"], "gaps.npz has none in row 2"),
        (["tree.skops", "--space", "depth.json"], "needs samples to fit on"),
        (["own_models:seven", "--space", "depth.json"], "can't be called with a trial"),
        (["--resume", "run", "--seed", "3"], "leave out seed"),
        (["--resume", "run"], "holds no run to go on with"),
        ([], "strop.toml"),
    ],
)
def test_what_can_not_be_used_is_told_in_one_paragraph(here: Path, words: list[str], told: str) -> None:
    np.savez(here / "gaps.npz", x=np.eye(4), labels=[0, 1, np.nan, 0])
    (here / "empty.json").write_text("{}")
    (here / "bare.toml").write_text("C = [1, 2]\n")
    (here / "strange.json").write_text('{"depht": [1, 2]}')
    (here / "down.json").write_text('{"max_depth": {"low": 5, "high": 2}}')
    said = strop(*words)
    assert said.exit_code == 2, said.output
    assert said.stdout == ""
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("strop: ")]
    assert told in line
    assert "Traceback" not in said.stderr


def test_plans_know_their_own_keys(tmp_path: Path) -> None:
    path = tmp_path / "strop.toml"
    path.write_text('model = "m.skops"\nslice = "sex"\n')
    with pytest.raises(InvalidPlan, match=r"strop.toml:2: slice is a key of strop optimize, and strop tune has none"):
        read(path, TunePlan)
    path.write_text('model = "m.skops"\nholdout = 1.5\n')
    with pytest.raises(InvalidPlan, match=r":2: holdout must be a share"):
        read(path, TunePlan)
    path.write_text('model = "m.skops"\nspace = "grid.json"\nrungs = "samples"\n')
    assert read(path, TunePlan) == TunePlan(
        model=str(tmp_path / "m.skops"), space=tmp_path / "grid.json", rungs="samples"
    )


def test_a_space_in_a_file_is_one_in_python(tmp_path: Path) -> None:
    path = tmp_path / "strop.toml"
    path.write_text(PLAN)
    space = Space.of(read_space(path))
    assert [list(grid) for grid in space.grids] == [["svc__C", "svc__kernel"], ["svc__gamma", "svc__kernel"]]
    assert space.size == float("inf")


def mixed(folder: Path) -> str:
    """Numbers with gaps, categories, text with gaps, and labels of text."""
    table = pa.table({
        "size": [1.0, None, 3.0, 4.0], "count": [1, 2, None, 4],
        "colour": pa.array(["red", "blue", "red", "green"]).dictionary_encode(), "note": ["a b", None, "b", "a a"],
        "label": ["x", "y", "x", "y"], "who": [1, 1, 2, 2],
    })  # fmt: skip
    parquet.write_table(table, folder / "mixed.parquet")
    return str(folder / "mixed.parquet")


def test_tables_become_frames_where_an_estimator_looks_at_names(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    picks = make_pipeline(ColumnTransformer([("c", OneHotEncoder(), ["colour"])]), LogisticRegression())
    found = read_samples(mixed(tmp_path), picks, group="who")
    assert list(found.X.columns) == ["size", "count", "colour", "note"]
    assert found.X["colour"].dtype == "category"
    assert np.isnan(found.X["size"][1]) and pandas.isna(found.X["note"][1])
    assert found.y.tolist() == ["x", "y", "x", "y"]
    assert found.groups.tolist() == [1, 1, 2, 2]
    assert picks.fit(found.X, found.y).predict(found.X[:2]).tolist() == ["x", "y"]


def test_tables_of_numbers_become_a_matrix_and_one_column_of_text_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("b,a,flag,y\n1,,true,0\n3,4.5,false,1\n")
    found = read_samples(str(path), DecisionTreeClassifier())
    np.testing.assert_array_equal(found.X, [[1, np.nan, 1], [3, 4.5, 0]])
    assert found.y.tolist() == [0, 1]
    path.write_text("said,label\ngood day,1\nbad day,0\n")
    texts = read_samples(str(path), make_pipeline(CountVectorizer(), MultinomialNB()))
    assert texts.X.tolist() == ["good day", "bad day"]


def test_what_a_function_returns_is_taken_as_it_is(here: Path) -> None:
    (here / "own_data.py").write_text(
        "import numpy as np, scipy.sparse as sp\n"
        "def pair():\n    return sp.eye_array(4).tocsr(), np.arange(4)\n"
        "def mapping():\n    return {'x': np.eye(4), 'labels': np.arange(4), 'who': np.arange(4)}\n"
        "def several():\n    return {'a': np.eye(4), 'b': np.eye(4), 'y': np.arange(4)}\n"
    )
    tree: Any = DecisionTreeClassifier()
    assert read_samples("own_data:pair", tree).X.shape == (4, 4)
    assert read_samples("own_data:mapping", tree, group="who").groups.tolist() == [0, 1, 2, 3]
    with pytest.raises(StropError, match="one array, as `x`, and own_data:several has a, b"):
        read_samples("own_data:several", tree)
    with pytest.raises(StropError, match=r"'kind' of .* has none in row 1"):
        (here / "gap.csv").write_text("a,kind\n1,x\n2,\n3,y\n")
        read_samples("gap.csv", tree, label="kind")
