"""Markdown of `verify`: a table whatever the texts in it, read by a parser."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from engine import bundle_of
from strop import markdown
from strop.cli import app
from strop.errors import BundleError
from strop.testing import fake_model, registered
from test_junit import LIMITS
from test_junit import found as of_verify

OBJECTIVE = {"metric": "latency.p50", "ratio": None, "bundle": None, "why": "give --original MODEL"}


def found(outputs: str = "same", verdict: str = "broken", **more: Any) -> dict[str, Any]:
    return {**of_verify(outputs, verdict), "objective": OBJECTIVE, "judged_on": "80 samples of --data", **more}


def read(path: Path) -> tuple[str, list[list[str]], str]:
    """The head, the cells of the tables row by row, and all of it as HTML."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    text = path.read_text(encoding="utf-8")
    tokens = parser.parse(text)
    assert tokens[0].type == "heading_open"
    rows: list[list[str]] = []
    for before, token in itertools.pairwise(tokens):
        rows += [[]] if token.type == "tr_open" else []
        if before.type in ("td_open", "th_open"):
            assert {child.type for child in token.children or []} <= {
                "text",
                "text_special",
                "strong_open",
                "strong_close",
            }
            rows[-1].append("".join(child.content for child in token.children or []))
    return "".join(child.content for child in tokens[1].children or []), rows, parser.render(text)


def test_each_limit_is_a_row(tmp_path: Path) -> None:
    markdown.write(tmp_path / "v.md", "my_bundle", found("different"))
    head, rows, html = read(tmp_path / "v.md")
    assert head == "my_bundle: broken"
    assert rows[0] == ["what", "verdict", "found"] and rows[1] == ["outputs", "different", "they are different"]
    assert [row[:2] for row in rows[2:6]] == [[limit["limit"], limit["verdict"]] for limit in LIMITS]
    assert rows[2][2] == "4 MB" and "0.8x (0.75 to 0.85) of the original's" in rows[3][2]
    assert "in sex=f" in rows[4][2] and rows[5][2] == "give --original MODEL and --data DATA"
    assert rows[7] == ["cpu", "Old CPU", "Some CPU"]
    assert "latency.p50 was not compared" in html and "Judged on 80 samples" in html
    assert "<li>Likely cause: this CPU saturates</li>" in html


def test_an_error_is_told(tmp_path: Path) -> None:
    markdown.write(tmp_path / "v.md", "b", BundleError("the model is <gone> & away."))
    head, rows, html = read(tmp_path / "v.md")
    assert head == "b: not verified" and not rows
    assert "<strong>BundleError</strong>: the model is &lt;gone&gt; &amp; away." in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "a|b", "a`b`", "**a** _b_ ~~c~~", "![x](http://x.y)", "[x](javascript:y)", "a\\",
        "a\nb", "a\\|b", "$a$", "\x1b[2J", "a\udcffb", "&lt;", "# a", "- a", "模型 \U0001f980",
    ],
)  # fmt: skip
def test_any_text_stays_text(tmp_path: Path, text: str) -> None:
    shown = " ".join(text.split()).replace("\x1b", "\\x1b").replace("\udcff", "\\udcff")
    environment = {"here": {}, "differences": [{"what": text, "bundle": None, "here": text}]}
    markdown.write(tmp_path / "v.md", text, found(limits=[{**LIMITS[1], "limit": text}], environment=environment))
    head, rows, html = read(tmp_path / "v.md")
    assert head == f"{shown}: broken"
    assert rows[2][0] == shown and rows[4] == [shown, "none", shown]
    assert "<script" not in html and "<img" not in html and "<a " not in html


def test_the_shell_writes_it_beside_junit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def verify(path: str) -> Any:
        return CliRunner().invoke(app, ["verify", "b", "--markdown", path, "--junit", "j.xml"])

    with registered(tmp_path / "plugins"):
        model = fake_model(tmp_path / "given", shape=(6, 4))
        weights = np.asarray(json.loads(model.path.read_text())["weights"], np.float32)
        x = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
        bundle_of(tmp_path / "b", model, {"x": x}, {"y": x @ weights}, "size < 1 MB", "accuracy >= 0.5")
        assert verify("v.md").exit_code == 4 and (tmp_path / "j.xml").exists()
        head, rows, _ = read(tmp_path / "v.md")
        assert head == "b: inconclusive"
        assert [row[1] for row in rows[1:4]] == ["same", "met", "not checked"]
        refused = verify("no/v.md")
        assert refused.exit_code == 2 and "--markdown names a file" in refused.stderr
        (tmp_path / "b" / "model.fake").write_text("{}")
        assert verify("v.md").exit_code == 2 and read(tmp_path / "v.md")[0] == "b: not verified"
