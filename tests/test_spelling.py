"""Options in messages: flags where the shell was called, keywords where Python was, in every process."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import strop
from strop import jobs
from strop.cli import app
from strop.errors import UntrustedModel
from strop.spelling import in_shell, option

ROOT = Path(strop.__file__).parent
SHELL = {  # what Python never calls, or what runs elsewhere
    "cli", "deployer", "doctor", "fixed", "junit", "markdown", "options", "printed", "reporting", "shell", "show",
    "starter", "starting", "table", "template", "tuner", "watcher", "serve", "_tools", "litert",
}  # fmt: skip
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
COMMAND = re.compile(r"(strop|pip) [a-z]|<code>--|^ --data $")  # a line to be typed into a shell, wherever it is read


@pytest.mark.parametrize(
    ("name", "value", "flag", "keyword"),
    [
        ("train", "DATA", "--train DATA", "train=DATA"),
        ("weights", None, "--weights", "weights"),
        ("label", "the label", "--label 'the label'", "label='the label'"),
        ("trust_pickle", None, "--trust-pickle", "trust_pickle=True"),
        ("budget", None, "--budget", "budget=strop.Budget(...)"),
        ("trials", None, "--trials", "budget=strop.Budget(trials=...)"),
        ("price", 0.34, "--price 0.34", "target=strop.Target(price=0.34)"),
        ("slice", "NAME", "--slice NAME", "slices=[NAME]"),
        ("slice", None, "--slice", "slices"),
        ("confirm", "DATA", "--confirm DATA", "confirm_data=DATA"),
        ("resume", "my run", "--resume 'my run'", "strop.resume('my run')"),
        ("resume", None, "--resume", "strop.resume(...)"),
        ("metric", "own:score", "--metric own:score", "metric='own:score'"),
    ],
)
def test_an_option_is_spelled_as_it_is_given(name: str, value: object, flag: str, keyword: str) -> None:
    assert option(name, value) == keyword
    with in_shell():
        assert option(name, value) == flag
        with in_shell():
            pass
        assert option(name, value) == flag
    assert option(name, value) == keyword


def test_what_a_process_of_the_shell_says_has_flags() -> None:
    limits = jobs.Limits(60, 1 << 62)
    assert jobs.run(option, "train", limits=limits).value == "train"
    with in_shell():
        assert jobs.run(option, "train", limits=limits).value == "--train"


def test_an_error_names_what_its_caller_can_give(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"whatever")
    with pytest.raises(UntrustedModel, match=r"add trust_pickle=True\.$"):
        strop.profile(tmp_path / "model.pkl")
    said = CliRunner().invoke(app, ["profile", str(tmp_path / "model.pkl")])
    assert said.exit_code == 2 and said.stderr.rstrip().endswith("add --trust-pickle.")


def test_what_python_may_read_names_no_flag() -> None:
    """Where this fails, say it by `option`."""
    files = [file for file in ROOT.rglob("*.py") if not SHELL & {file.stem, file.parent.name}]
    assert len(files) > 300
    named = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in files for text in _texts(ast.parse(file.read_text()))
        if FLAG.search(text) and not COMMAND.search(text) and "<" not in text and "{ --" not in text
    ]  # fmt: skip
    assert named == []


def _texts(tree: ast.Module) -> Iterator[str]:
    """The strings of a module that are no docstrings."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    firsts = [node.body[0] for node in ast.walk(tree) if isinstance(node, described) and node.body]
    docs = {id(first.value) for first in firsts if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value
