"""Pages of the documentation: the blocks of code in them, and how they are run.

A page is run as a reader would: its blocks in order, in one folder, Python in one namespace; and after it, in the same
folder, the pages that say that they continue it (`continues: PAGE` at their top). That is one test, not one a block (as
in sybil), so that pytest-xdist can't tear it apart; and it mixes Python, files and shell, which mktestdocs and
pytest-examples don't.

A block with a title is a file of that name, and one of TOML must be a plan. One titled `Not run: WHY` is not run, and
says so to the reader too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from strop import planfile
from strop.cli import app
from strop.planfile import Plan, TunePlan

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r'^ *```(?P<language>\w+)(?: +title="(?P<title>[^"]*)")?[^\n]*\n(?P<body>.*?)^ *```$', re.M | re.S)
CONTINUES = re.compile(r"\A---\ncontinues: (.+)\n---\n")
NOT_RUN = "Not run: "
VERDICTS = {0, 3, 4}
SHOWN = ("text", "json", "toml")  # what comes out: told, not compared, for it differs from machine to machine
FILES = ("toml", "yaml", "python")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: Where it begins in the page.
        title: The file that it is, or why it is not run; else empty.
    """

    page: Path
    line: int
    language: str
    title: str
    code: str

    @property
    def left_out(self) -> bool:
        return self.title.startswith(NOT_RUN)

    @property
    def passed_over(self) -> bool:
        """Whether there is nothing to run, nor a file to write."""
        return self.left_out or (self.language in SHOWN and not self.title)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["language"], found["title"] or "", textwrap.dedent(found["body"]))


def stories() -> dict[str, list[Path]]:
    """Pages with blocks to run by the first of them, each followed by those that continue it."""
    after: dict[Path | None, list[Path]] = {}
    for page in (page for page in PAGES if any(not block.passed_over for block in blocks(page))):
        told = CONTINUES.match(page.read_text())
        after.setdefault((page.parent / told[1]).resolve() if told else None, []).append(page)

    def story(page: Path) -> list[Path]:
        return [page, *(later for child in after.get(page, ()) for later in story(child))]

    return {str(page.relative_to(ROOT)): story(page) for page in after[None]}


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a block of the shell, each as it stands there, and its words."""
    for command in block.code.replace("\\\n", " ").splitlines():
        if words := shlex.split(command, comments=True):
            yield command, words


def run(page: Path, folder: Path) -> None:
    """Run the blocks of a page in a folder, which is the working directory.

    Raises:
        AssertionError: One failed, or ended with another exit code than it says.
    """
    known: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.passed_over:
            continue
        if block.title:
            assert block.language in FILES, f"{block}: a file of what kind?"
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.code)
            if block.language == "toml":
                planfile.read(folder / block.title, TunePlan if "[space]" in block.code else Plan)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.code, str(block.page), "exec"), known)
        else:
            assert block.language == "sh", f"{block}: a block is run, a file with a title, or what came out (text)"
            _shell(block, folder)


def _shell(block: Block, folder: Path) -> None:
    """Commands of strop's in this process, which has what they need already; others as the shell has them."""
    for command, words in commands(block):
        if words[0] == "strop":
            ended = CliRunner().invoke(app, words[1:])
            if ended.exception and not isinstance(ended.exception, SystemExit):
                raise ended.exception
            code, said = ended.exit_code, ended.output
        else:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` is the one that tests
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True,
                timeout=600,
            )  # fmt: skip
            code, said = done.returncode, done.stdout + done.stderr
        assert code in _expected(command), f"{block}: `{' '.join(words)}` ended with {code}:\n{said}"


def _expected(command: str) -> set[int]:
    """The exit codes that a command may end with: 0, or what a comment beside it says."""
    comment = command.rpartition("#")[2] if "#" in command else ""
    if "quiet machine" in comment:  # a limit on time, which a busy one may break
        return VERDICTS
    return {int(code) for code in re.findall(r"exits with (\d+)", comment)} or {0}
