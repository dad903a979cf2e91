"""The plan file: every key is read, and every mistake is told with its file and line."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from strop import planfile
from strop.cli import app
from strop.errors import InvalidPlan
from strop.images import Preprocessing
from strop.learning import Training
from strop.planfile import Plan, TunePlan, read, seconds

FULL = """\
# every key that there is
model = "model.onnx"
data = "data/test.npz"
limit = ["accuracy >= 99% of original", "size < 20 MB"]
minimize = "latency.p95"
metric = ["f1", "scores:per_word"]
calibration = "/elsewhere/calibration.npz"
confirm = "loaders:confirm"
label = "y"
slice = ["sex", "sex*race"]
group = "photo"
protected = "sex"
threads = 1
batch = 8
target = "server"
formats = ["onnx", "openvino"]
rate = 50
p99 = "20ms"
price = 0.34
budget = "10m"
trials = 40
seed = 7
out = "bundle"
run = "runs/1"
recipe = "../yesterday"
weights = "net.safetensors"
trust_pickle = true
mlflow = true
train = "train.parquet"

[set.tflite-int8]
keep = 0
recipe = "dense_.*=float"

[training]
loss = "cross-entropy"
epochs = 3
seconds = "2m"
keep = ["head*"]

[preprocessing]
resize = 256
crop = [224, 224]
scale = 1
mean = 127
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "strop.toml"
    path.write_bytes(text.encode())
    return path


def test_every_key_is_read_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert read(write(tmp_path, FULL), Plan) == Plan(
        model=str(tmp_path / "model.onnx"),
        data=str(tmp_path / "data/test.npz"),
        limit=("accuracy >= 99% of original", "size < 20 MB"),
        minimize="latency.p95",
        metric=("f1", "scores:per_word"),
        calibration="/elsewhere/calibration.npz",
        confirm="loaders:confirm",
        label="y",
        slice=("sex", "sex*race"),
        group="photo",
        protected=("sex",),
        threads=1,
        batch=8,
        target="server",
        formats=("onnx", "openvino"),
        rate=50.0,
        p99=0.02,
        price=0.34,
        budget=600.0,
        trials=40,
        seed=7,
        out=tmp_path / "bundle",
        run=tmp_path / "runs/1",
        recipe=tmp_path / "../yesterday",
        weights=tmp_path / "net.safetensors",
        trust_pickle=True,
        mlflow=True,
        train=str(tmp_path / "train.parquet"),
        training=Training(loss="cross-entropy", epochs=3, seconds=120.0, keep=("head*",)),
        preprocessing=Preprocessing(256, (224, 224), scale=1, mean=127),
        set={"tflite-int8": {"keep": 0.0, "recipe": "dense_.*=float"}},
    )
    keys = set(tomllib.loads(FULL)) | {"maximize"}
    assert keys == {field.name for field in fields(Plan)}
    assert set(planfile.READERS) == keys | {field.name for field in fields(TunePlan)}


def test_a_single_string_does_where_an_array_may_stand(tmp_path: Path) -> None:
    plan = read(write(tmp_path, 'model = "m"\ndata = "d"\nlimit = "size < 1 MB"\nmaximize = "accuracy"\n'), Plan)
    assert plan.limit == ("size < 1 MB",)
    assert (plan.maximize, plan.minimize, plan.budget, plan.threads, plan.out) == ("accuracy", None, None, None, None)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read(write(tmp_path, 'model = "~/m.onnx"\ndata = "d"\n'), Plan).model == str(tmp_path / "home/m.onnx")


@pytest.mark.parametrize("verb", ["optimize", "tune"])
def test_a_plan_file_in_the_place_of_a_model_is_run(verb: str, tmp_path: Path) -> None:
    """Wherever it lies, whatever it is called."""
    (tmp_path / "mine.toml").write_text('model = "none.onnx"\ndata = "x.npz"\nseed = -1\n')
    done = CliRunner().invoke(app, [verb, str(tmp_path / "mine.toml")])
    assert done.exit_code == 2
    assert "mine.toml:3: seed must be" in done.stderr


def test_such_a_plan_s_paths_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('model = "none.onnx"\ndata = "x.npz"\n')
    done = CliRunner().invoke(app, ["optimize", str(tmp_path / "mine.toml")])
    assert done.exit_code == 2 and f"{tmp_path / 'none.onnx'}" in done.stderr.replace("\n", "")


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    plan = read(write(tmp_path, FULL), Plan)
    flags = {"threads": 2, "limit": (), "slice": [], "seed": 0, "budget": None, "maximize": "throughput"}
    over = plan.under(flags)
    assert (over.threads, over.limit, over.slice, over.seed, over.budget) == (2, plan.limit, plan.slice, 0, 600.0)
    assert (over.minimize, over.maximize) == (None, "throughput")
    assert plan.under({}) == plan


def test_a_setting_that_is_a_flag_wins_and_the_file_s_others_stay(tmp_path: Path) -> None:
    over = read(write(tmp_path, FULL), Plan).under({"set": {"tflite-int8": {"keep": 0.1}, "simplify": {}}})
    assert over.set == {"tflite-int8": {"keep": 0.1, "recipe": "dense_.*=float"}, "simplify": {}}


HEAD = 'model = "m"\ndata = "d"\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            HEAD + "\n# soon\nbudget = 'ten'\n",
            5,
            "budget must be like '20ms', '90s', '10m' or '1.5h', and above zero, not 'ten'",
        ),
        (HEAD + "budget = 600", 3, "budget must be like '20ms', '90s'"),
        (HEAD + "budget = '0m'", 3, "above zero, not '0m'"),
        (HEAD + "threads = 0", 3, "threads must be a whole number of at least 1, not 0"),
        (HEAD + "threads = true", 3, "at least 1, not true"),
        (HEAD + "batch = 1.5", 3, "batch must be a whole number of at least 1, not 1.5"),
        (HEAD + "trials = '40'", 3, "trials must be a whole number of at least 1, not '40'"),
        (HEAD + "seed = -1", 3, "seed must be a whole number of at least 0, not -1"),
        (HEAD + "price = 0", 3, "price must be a number above zero, not 0"),
        (HEAD + "price = inf", 3, "price must be a number above zero, not inf"),
        (HEAD + "price = true", 3, "price must be a number above zero, not true"),
        (HEAD + "price = '0.34'", 3, "price must be a number above zero, not '0.34'"),
        (HEAD + "target = 'phone'", 3, "target must be 'server' or 'mobile', not 'phone'"),
        (HEAD + "target = ['mobile']", 3, "target must be 'server' or 'mobile', not [\"mobile\"]"),
        (HEAD + "label = 3", 3, "label must be a string, not 3"),
        (HEAD + "out = ''", 3, "out must be a string, not ''"),
        (HEAD + "group = ['a']", 3, 'group must be a string, not ["a"]'),
        (HEAD + "minimize = 1979-05-27", 3, "minimize must be a string, not "),
        (HEAD + "limit = 5", 3, "limit must be a string or an array of strings, not 5"),
        (HEAD + 'limit = [ # "]"\n  "a < 1", # ,\n\n  "b\\n < 1"\n, 7,\n ]\n', 7, "array of strings, not 7"),
        (HEAD + 'limit = ["""\na""",\n"""b""", [\n1]\n]', 6, "not [1]"),
        (HEAD + "[limit]\nx = 1", 3, "not a table"),
        (HEAD + 'threads.x = """\n"""\n', 3, "threads must be a whole number of at least 1, not a table"),
        ('"model" = 1\ndata = "d"', 1, "model must be a string, not 1"),
        (HEAD + "\"thre\\u0061ds\" = 'x'", 3, "threads must be"),
        (HEAD + "\r\n\r\nthreads = 'x'\r\n", 5, "threads must be"),
        (HEAD + "label = 'a\u2028b'\nthreads = 'x'\n", 4, "threads must be"),
        (HEAD + "label = '''\nthreads = 0\n[x]\n'''\nthreads = 'x'\n", 7, "threads must be"),
        (HEAD + "thread = 1", 3, "there is no key 'thread'. Did you mean 'threads'?"),
        (HEAD + "limits = []", 3, "Did you mean 'limit'?"),
        (HEAD + "\n[zzz.b]\nthreads = 'x'\n", 4, "there is no key 'zzz'. The keys are: limit"),
        (HEAD + "xyz.a = 1\nxyz.b = 2", 3, "there is no key 'xyz'"),
        (HEAD + "minimize = 'size'\n\nmaximize = 'f1'", 5, "A goal improves one metric, and this has"),
        (HEAD + "limit = 'size < 20'", 3, "size is in bytes"),
        (HEAD + "minimize = 'x y'", 3, "`minimize x y` can't be read"),
        (HEAD + "limit = [\n'size < 20 MB',\n\n'accuracy >= 99%',\n'r2 > 0']", 6, "can be read in two ways"),
        (HEAD + "limit = [\n'size < 20 MB',\n'size > 1 GB',\n]\n", 5, "contradict each other"),
        ('data = "d"\n', 1, "a plan must name its model"),
        ('model = "d"\n', 1, "a plan must name its data"),
        ("", 1, "a plan must name its model"),
        (HEAD + "[set.tflite-int8]\nkeep = 2", 3, "tflite-int8.keep must be 0.0 or 0.1 or 0.25 or 0.5, not 2.0."),
        (HEAD + "[set.tflite8]\nkeep = 2", 3, "There is no technique 'tflite8'. Did you mean 'tflite-int8'?"),
        (HEAD + "set = 3", 3, "settings must be given by technique, not 3"),
        (HEAD + "threads 4", 3, "must be TOML"),
        (HEAD + "seed = 1\nseed = 2", 4, "must be TOML"),
        (HEAD + "limit = [\n'a'\n\n", 4, "must be TOML"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidPlan) as told:
        read(path, Plan)
    assert str(told.value).startswith(f"{path}:{line}: ")
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlan, match=r"strop\.toml: .*No such file"):
        read(tmp_path / "strop.toml", Plan)
    with pytest.raises(InvalidPlan, match="Is a directory"):
        read(tmp_path, Plan)
    (tmp_path / "strop.toml").write_bytes(b'model = "m"\ndata = "\xff"\n')
    with pytest.raises(InvalidPlan, match=r"strop\.toml:2: .*UTF-8"):
        read(tmp_path / "strop.toml", Plan)


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 m ", 120)])
def test_spans_of_time(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-1m", "1d", "1e3s", "1h30m", "10 minutes", "٣m"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(InvalidPlan, match="must be like '20ms', '90s', '10m'"):
        seconds(text)


FILLERS = ["# limit = 1", "", "label = '''\nseed = 'no'\n'''", "slice = [\n 'a', # ]\n\n 'b'\n]", 'group = "a # b"']


@given(st.permutations(FILLERS), st.integers(0, len(FILLERS)))
def test_the_line_is_right_wherever_the_key_stands(fillers: list[str], place: int) -> None:
    parts = ['model = "m"', 'data = "d"', *fillers]
    parts.insert(2 + place, "seed = 'x'")
    text = "\n".join(parts)
    expected = text.count("\n", 0, text.index("seed = 'x'")) + 1
    assert planfile._Lines(text).of("seed") == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("epoch = 3", "did you mean epochs"),
        ("epochs = 0", "epochs of the training must be a number above 0"),
        ('optimizer = "lion"', "one of adamw, sgd"),
        ('loss = "hinge"', "loss of the training must be"),
        ("keep = 3", "keep of the training must be names of layers"),
    ],
)
def test_training_settings_that_are_wrong_are_named(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(InvalidPlan, match=match):
        read(write(tmp_path, f'model = "m"\ndata = "d"\n[training]\n{text}\n'), Plan)
