"""`strop init`: what it writes suits what it looked at, is a plan, and stays one where its comments are taken off."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from strop.baseline import DISAGREEMENT
from strop.cli import app
from strop.errors import InvalidPlan
from strop.goal import Limit
from strop.planfile import Plan, read
from strop.starting import look
from strop.stats import detectable_drop
from strop.template import template
from strop.testing import fake_data, fake_model, registered

SHIPPED = resources.files("strop").joinpath("plan.schema.json").read_text()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with registered(tmp_path / "plugins"):
        fake_model(folder)
        yield folder


def init(*words: object) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, words)])


def written(*words: object, path: str = "strop.toml") -> Plan:
    """The plan that `init` writes; it is one with every suggestion taken, too."""
    done = init(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    text = Path(path).read_text()
    assert text.startswith("#:schema ./strop.schema.json\n")
    assert Path(path).with_name("strop.schema.json").read_text() == SHIPPED
    eager = Path(path).with_name("eager.toml")
    eager.write_text(re.sub(r'^( *)# (?=\w+ = |\[\w+\]$|")', r"\1", text, flags=re.M))
    assert len(tomllib.loads(eager.read_text())["limit"]) >= len(tomllib.loads(text)["limit"])
    read(eager, Plan)
    eager.unlink()
    return read(path, Plan)


def table(folder: Path, rows: int = 60, name: str = "test.csv", **columns: Any) -> Path:
    """A table of four numbers for the fake model, with further columns."""
    random = np.random.default_rng(0)
    parts = {name: random.normal(size=rows) for name in "abcd"} | columns
    lines = [",".join(parts), *(",".join(str(values[row]) for values in parts.values()) for row in range(rows))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def test_classes_are_held_to_accuracy_and_paths_are_relative_to_the_file(here: Path) -> None:
    data = fake_data(fake_model(here))
    np.savez(here / "test.npz", x=data.inputs["x"], labels=data.labels)
    (here / "plans").mkdir()
    plan = written("model.fake", "--data", "test.npz", "--out", "plans/first.toml", path="plans/first.toml")
    assert plan.limit == ("accuracy >= 93% of original",) and plan.minimize == "latency.p50"
    assert Path(plan.model).resolve() == here / "model.fake" and Path(plan.data).resolve() == here / "test.npz"
    text = (here / "plans" / "first.toml").read_text()
    assert 'model = "../model.fake"' in text and "# 200 samples" in text and "Labels are classes (3)." in text


def test_the_only_model_and_the_data_that_nothing_trains_on_are_found(here: Path) -> None:
    x = np.zeros((40, 4), np.float32)
    np.savez(here / "test.npz", x=x)
    np.savez(here / "train.npz", x=x)
    plan = written("--json")
    assert (plan.model, plan.data) == ("model.fake", "test.npz")
    assert plan.limit == ("fidelity >= 0.99",)
    said = " ".join((here / "strop.toml").read_text().replace("\n#", "").split())
    assert "20 samples to confirm on can prove it of a candidate at 0.993" in said
    (here / "other.fake").write_text((here / "model.fake").read_text())
    assert "model.fake, other.fake" in init("--out", "b.toml").stderr
    (here / "test.npz").unlink(), (here / "train.npz").unlink()
    lonely = init("model.fake", "--out", "b.toml")
    assert lonely.exit_code == 2 and "holds none" in lonely.stderr and "--data" in lonely.stderr


def test_columns_of_a_table_are_suggested_for_what_they_may_be(here: Path) -> None:
    rows = np.arange(600)
    users, notes = ([f"{letter}{row // share}" for row in rows] for letter, share in (("u", 6), ("n", 1)))
    data = table(here, 600, target=rows % 3, sex=np.array(["f", "m"])[rows % 2], user_id=users, note=notes)
    plan = written("model.fake", "--data", data.name, "--label", "target")
    text = (here / "strop.toml").read_text()
    assert plan.label == "target" and plan.limit == ("accuracy >= 97% of original",)
    assert '# slice = ["sex"]' in text and '# protected = ["sex"]' in text and '# group = "user_id"' in text
    assert '"note"' not in text


def test_a_label_is_known_by_its_name(here: Path) -> None:
    assert written("model.fake", "--data", table(here, labels=np.arange(60) % 3).name).label is None  # strop knows it
    assert (
        written("model.fake", "--data", table(here, outcome=np.arange(60) % 3).name, "--overwrite").label == "outcome"
    )


def test_columns_that_may_be_the_label_are_named_where_none_is_sure(here: Path) -> None:
    lightgbm, pandas = pytest.importorskip("lightgbm"), pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=["a", "b"])
    lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(frame, frame.a > 0).booster_.save_model(here / "model.txt")
    known = frame.assign(customer_id=np.arange(300) // 4, fraud=(frame.a > 0).astype(int))
    known.to_parquet(here / "one.parquet")
    assert written("model.txt", "--data", "one.parquet").label == "fraud"  # the other one tells who belongs together
    assert '# group = "customer_id"' in (here / "strop.toml").read_text()
    known.assign(late=1 - known.fraud).to_parquet(here / "two.parquet")
    assert written("model.txt", "--data", "two.parquet", "--overwrite").label is None
    assert '--label.\n# label = "late"' in (here / "strop.toml").read_text()


def test_numbers_are_held_to_their_error(here: Path) -> None:
    fake_model(here, shape=(4, 1))
    np.savez(here / "test.npz", x=np.ones((40, 4), np.float32), y=np.linspace(0, 1, 40))
    assert written("model.fake").limit == ("mse <= 102% of original",)


def test_a_rare_class_is_not_left_to_accuracy(here: Path) -> None:
    fake_model(here, shape=(4, 2))
    np.savez(here / "test.npz", x=np.ones((400, 4), np.float32), labels=(np.arange(400) % 40 == 0).astype(int))
    assert written("model.fake").limit == ("drop(average_precision) <= 0.01",)


def test_the_columns_that_a_forest_names_are_its_own_and_the_one_left_is_the_label(here: Path) -> None:
    lightgbm, pandas = pytest.importorskip("lightgbm"), pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"age": random.normal(size=300), "race": random.integers(0, 3, 300).astype(float)})
    fraud = (frame.age > 0).astype(int)
    lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(frame, fraud).booster_.save_model(here / "model.txt")
    frame.assign(fraud=fraud)[::-1].to_parquet(here / "test.parquet")  # with the numbers of its rows, which are no data
    frame.assign(fraud=fraud).to_parquet(here / "train_2.parquet")
    plan = written("model.txt", "--data", "test.parquet")
    text = (here / "strop.toml").read_text()
    assert plan.label == "fraud" and plan.limit == ("accuracy >= 95% of original",)
    assert '# protected = ["race"]' in text  # though the model takes it
    assert '# train = "train_2.parquet"' in text and "# [training]" in text and "learning_rate" not in text


def test_a_pickled_pipeline_is_looked_at_where_it_is_trusted(here: Path) -> None:
    joblib, sklearn = pytest.importorskip("joblib"), pytest.importorskip("sklearn.linear_model")
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    np.savez(here / "test.npz", x=x, y=(x[:, 0] > 0).astype(int))
    joblib.dump(sklearn.LogisticRegression().fit(x, x[:, 0] > 0), here / "model.joblib")
    plan = written("model.joblib", "--data", "test.npz", "--trust-pickle")
    assert plan.trust_pickle and plan.limit == ("accuracy >= 93% of original",)
    assert re.search(r"A model in sklearn, [\d.,]+ k?B", (here / "strop.toml").read_text())
    refused = init("model.joblib", "--data", "test.npz", "--out", "b.toml")
    assert refused.exit_code == 2 and "skops.io.dump" in refused.stderr


def test_images_get_pre_processing_that_fits_the_input(here: Path) -> None:
    onnx, image = pytest.importorskip("onnx"), pytest.importorskip("PIL.Image")
    from models import cnn

    onnx.save(cnn(), here / "model.onnx")
    for name in "0123456789":
        (here / "photos" / name).mkdir(parents=True)
        image.new("RGB", (20, 20)).save(here / "photos" / name / "a.png")
    plan = written("model.onnx", "--data", "photos")
    assert plan.preprocessing and (plan.preprocessing.resize, plan.preprocessing.crop) == (18, 16)
    assert plan.limit == ("accuracy >= 90% of original",)
    text = (here / "strop.toml").read_text()
    assert '# slice = ["class"]' in text and "too few for the limit below" in text  # of ten samples


@pytest.mark.parametrize("samples", [120, 400, 998, 3000, 3900, 20_000])
@pytest.mark.parametrize("metric", ["accuracy", "agreement"])
def test_the_limit_is_one_that_the_samples_can_prove(here: Path, metric: str, samples: int) -> None:
    """Of a candidate that loses nothing: not always, but in four of five cases, which `detectable_drop` is about."""
    np.savez(here / "test.npz", x=np.ones((40, 4), np.float32), labels=np.arange(40) % 3)
    seen = replace(look("model.fake", "test.npz"), metric=metric, samples=samples)
    text = template(seen, here / "strop.toml")
    (limit,) = (Limit.parse(limit) for limit in tomllib.loads(text)["limit"])
    assert limit.metric == metric and "too few" not in text
    assert 1 - limit.value >= detectable_drop(samples // 2, DISAGREEMENT if metric == "accuracy" else 0) - 1e-9


def test_nothing_is_overwritten_without_being_told(here: Path) -> None:
    np.savez(here / "test.npz", x=np.ones((40, 4), np.float32))
    (here / "strop.toml").write_text("mine")
    refused = init("model.fake")
    assert (
        refused.exit_code == 2 and "strop.toml is there already" in refused.stderr and "--overwrite" in refused.stderr
    )
    assert (here / "strop.toml").read_text() == "mine"
    assert "Make it first" in init("model.fake", "--out", "nowhere/a.toml").stderr
    assert "Name another" in init("model.fake", "--out", ".", "--overwrite").stderr
    assert written("model.fake", "--overwrite").model == "model.fake"


def test_json_is_the_plan(here: Path) -> None:
    np.savez(here / "test.npz", x=np.ones((40, 4), np.float32))
    plan = json.loads(init("model.fake", "--json").stdout)["plan"]
    assert plan["model"] == "model.fake" and plan["limit"] == ["fidelity >= 0.99"]


@pytest.mark.parametrize("name", ['a"b', "a\nmodel = 1\n#", "a\x7f\x1b[2Jb", "ä # ]"])
def test_names_can_not_break_out_of_a_comment_or_a_string(here: Path, name: str) -> None:
    """Of columns: they come from whoever made the table."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    random = np.random.default_rng(0)
    columns = {letter: random.normal(size=60) for letter in "abcd"}
    parquet.write_table(pa.table({**columns, name: ["f", "m"] * 30, "labels": [0, 1] * 30}), here / "test.parquet")
    seen = look("model.fake", "test.parquet")
    assert seen.slices == (name,)
    parsed = tomllib.loads(template(seen, Path("strop.toml")).replace("# slice", "slice"))
    assert parsed["slice"] == [name] and parsed["model"] == "model.fake"


def test_a_path_that_is_no_text_is_refused(here: Path) -> None:
    np.savez(here / "test.npz", x=np.ones((40, 4), np.float32))
    strange = "m\udcff.fake"
    (here / "model.fake").rename(here / strange)
    with pytest.raises(InvalidPlan, match="UTF-8"):
        template(look(strange, "test.npz"), Path("strop.toml"))
