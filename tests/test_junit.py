"""JUnit XML: of the form that Ant and Jenkins read, whatever the texts in it; written whole, or a named error."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from engine import bundle_of
from strop import junit, summary
from strop.cli import app
from strop.errors import BundleError, InvalidPlan
from strop.testing import fake_model, registered

LIMITS = [
    {"limit": "size < 5 MB", "verdict": "met", "value": 4e6, "low": 4e6, "high": 4e6, "unit": "bytes", "ratio": None,
     "needed": None, "slice": None, "why": ""},
    {"limit": "latency.p50 <= 50% of original", "verdict": "broken", "value": 0.002, "low": 0.0019, "high": 0.0021,
     "unit": "s", "ratio": {"value": 0.8, "low": 0.75, "high": 0.85}, "needed": None, "slice": None, "why": ""},
    {"limit": "accuracy >= 0.9", "verdict": "inconclusive", "value": 0.9, "low": 0.88, "high": 0.92, "unit": "",
     "ratio": None, "needed": 5000, "slice": "sex=f", "why": ""},
    {"limit": "f1 >= 99% of original", "verdict": "not checked", "needs": ["--original MODEL", "--data DATA"]},
]  # fmt: skip


def found(outputs: str = "same", verdict: str = "broken", **more: Any) -> dict[str, Any]:
    """What `verify` may return."""
    causes = [] if outputs == "same" else ["this CPU saturates", "and more"]
    return {
        "verdict": verdict, "limits": LIMITS, "seconds": {"outputs": 1.25, "limits": 6.0},
        "outputs": {"verdict": outputs, "said": f"they are {outputs}", "causes": causes},
        "environment": {"here": {"cpu": "Some CPU", "avx2": "yes", "onnxruntime": "1.32.0"},
                        "differences": [{"what": "cpu", "bundle": "Old CPU", "here": "Some CPU"}]}, **more,
    }  # fmt: skip


def check_form(path: Path) -> ElementTree.Element:
    """Hold a file to what github.com/windyroad/JUnit-Schema says of it, and return its only suite."""
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "testsuites" and not root.attrib
    (suite,) = root
    assert suite.tag == "testsuite"
    needed = {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "package", "id"}
    assert needed <= set(suite.attrib) <= needed | {"skipped"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    assert suite.attrib["id"] == "0" and suite.attrib["name"] and suite.attrib["hostname"]
    tags = [child.tag for child in suite]
    cases = suite.findall("testcase")
    assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
    for held in suite.iter("property"):
        assert set(held.attrib) == {"name", "value"} and held.attrib["name"]
    for case in cases:
        assert set(case.attrib) == {"name", "classname", "time"} and float(case.attrib["time"]) >= 0
        assert re.fullmatch(r"\d+\.\d+", case.attrib["time"])
        assert len(case) <= 1 and {child.tag for child in case} <= {"skipped", "error", "failure"}
        for child in case:
            assert child.attrib["message"] and not len(child)
            assert set(child.attrib) == ({"message"} if child.tag == "skipped" else {"message", "type"})
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[attribute]) == sum(case.find(tag) is not None for case in cases)
    assert int(suite.attrib["tests"]) == len(cases)
    return suite


def states(suite: ElementTree.Element) -> list[str]:
    return [next((child.tag for child in case), "passed") for case in suite.findall("testcase")]


@pytest.mark.parametrize(
    ("outputs", "verdict", "state"),
    [
        ("same", "broken", "passed"),
        ("different", "broken", "failure"),
        ("close", "inconclusive", "skipped"),
        ("close", "met", "passed"),
    ],
)
def test_a_case_for_the_outputs_and_one_for_each_limit(tmp_path: Path, outputs: str, verdict: str, state: str) -> None:
    junit.write(tmp_path / "j.xml", "b", found(outputs, verdict))
    suite = check_form(tmp_path / "j.xml")
    cases = suite.findall("testcase")
    assert [case.attrib["name"] for case in cases] == ["outputs are as stored", *(x["limit"] for x in LIMITS)]
    assert states(suite) == [state, "passed", "failure", "skipped", "skipped"]
    assert {case.attrib["classname"] for case in cases} == {"strop.verify.b"}
    assert sum(float(case.attrib["time"]) for case in cases) == pytest.approx(float(suite.attrib["time"])) == 7.25
    broken, unsure, unchecked = (next(iter(case)).attrib["message"] for case in cases[2:])
    assert broken == (
        "latency.p50 <= 50% of original is broken: 2 (1.9 to 2.1) ms, 0.8x (0.75 to 0.85) of the original's. "
        "Search again on this machine, or loosen the limit"
    )
    assert "cpu: Old CPU where it was made, Some CPU here" in (cases[2][0].text or "")
    assert unsure.endswith("0.9000 (0.8800 to 0.9200), in sex=f; about 5,000 samples would decide")
    assert unchecked == "f1 >= 99% of original is not checked: give --original MODEL and --data DATA"
    assert {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}["onnxruntime"] == "1.32.0"
    if state != "passed":
        assert cases[0][0].attrib["message"] == f"they are {outputs}. Likely cause: this CPU saturates"


def test_an_error_is_a_case_too(tmp_path: Path) -> None:
    junit.write(tmp_path / "j.xml", "b", BundleError("the model is <gone> & away."))
    suite = check_form(tmp_path / "j.xml")
    assert states(suite) == ["error"] and suite[1][0].attrib["type"] == "BundleError"
    assert suite[1][0].attrib["message"] == "the model is <gone> & away."
    assert any(held.attrib["name"] == "python" for held in suite.iter("property"))


@pytest.mark.parametrize(
    "text", ["<&\">'", "]]><!--", "a\x00b\x1b[31mc\ud800d\uffff", "ünïcödé 模型 \U0001f980", "a\nb"]
)
def test_any_text_is_escaped(tmp_path: Path, text: str) -> None:
    limits = [{**LIMITS[1], "limit": text, "slice": text}]
    environment = {"here": {"cpu": text, text: "yes"}, "differences": []}
    junit.write(tmp_path / "j.xml", text, found("different", limits=limits, environment=environment))
    suite = check_form(tmp_path / "j.xml")
    kept = re.sub("[\x00\x1b\ud800\uffff]", "\ufffd", text)
    assert suite.findall("testcase")[1].attrib["name"] == kept
    assert {held.attrib["value"] for held in suite.iter("property")} == {kept, "yes"}


def test_a_path_that_can_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, why in ((tmp_path / "no" / "j.xml", "no does not exist"), (tmp_path, f"{tmp_path} is a folder")):
        with pytest.raises(InvalidPlan, match=rf"--junit names a file.*{why}"):
            summary.check(junit.FLAG, path)
    summary.check(junit.FLAG, tmp_path / "j.xml")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("strop.summary.os.access", lambda *_: False)
    with pytest.raises(InvalidPlan, match="can't be written"):
        summary.check(junit.FLAG, tmp_path / "j.xml")


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.xml"
    path.write_text("old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ElementTree.ElementTree, "write", full)
        with pytest.raises(InvalidPlan, match=r"can't write .*j\.xml \(No space left on device\)"):
            junit.write(path, "b", found())
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    junit.write(path, "b", found())
    check_form(path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_shell_writes_both_json_and_junit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def verify(*words: str) -> Any:
        return CliRunner().invoke(app, ["verify", "b", "--junit", *words])

    with registered(tmp_path / "plugins"):
        model = fake_model(tmp_path / "given", shape=(6, 4))
        weights = np.asarray(json.loads(model.path.read_text())["weights"], np.float32)
        x = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
        bundle_of(tmp_path / "b", model, {"x": x}, {"y": x @ weights}, "size < 1 MB", "accuracy >= 0.5")
        ran = verify("j.xml", "--json")
        assert ran.exit_code == 4 and json.loads(ran.stdout)["verified"]["verdict"] == "inconclusive"
        suite = check_form(tmp_path / "j.xml")
        assert states(suite) == ["passed", "passed", "skipped"]
        assert suite.attrib["name"] == "verify b"

        ran = verify("no/j.xml")
        assert ran.exit_code == 2 and "no does not exist" in ran.stderr and ran.stdout == ""

        (tmp_path / "b" / "model.fake").write_text("{}")
        ran = verify("j.xml")
        assert ran.exit_code == 2 and "hash differs" in ran.stderr
        assert states(check_form(tmp_path / "j.xml")) == ["error"]
