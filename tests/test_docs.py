"""The documentation: its code runs, what is not run is told and counted, its figures are measured, no link is dead."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import pages
from strop.cli import app

ROOT = Path(__file__).parents[1]
STORIES = pages.stories()
LEFT_OUT = 10  # blocks that can't run here: they install packages, are about the reader's own model, or take too long
MEMBERS = {  # of the reference, inherited ones too
    "Result": ("save", "to_frame", "plot"),
    "Bundle": ("load", "predict", "runner", "samples", "estimator", "report", "to_frame", "plot", "to_mlflow"),
    **{f"showing.{kind}": ("to_frame", "plot") for kind in ("Profile", "Comparison", "Explanation")},
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_looks: None) -> Path:
    """A folder with the examples of a checkout, the working directory; what strop notes and keeps goes elsewhere."""
    for kind in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_blocks_run(story: list[Path], checkout: Path) -> None:
    for page in story:
        pages.run(page, checkout)


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    left_out = [block for page in pages.PAGES for block in pages.blocks(page) if block.left_out]
    assert len(left_out) == LEFT_OUT, [f"{block}: {block.title}" for block in left_out]
    assert all(len(block.title.removeprefix(pages.NOT_RUN).split()) >= 3 for block in left_out)
    verbs: Any = typer.main.get_command(app)
    for block in left_out:
        if block.language == "python":
            compile(block.code, str(block), "exec")
            continue
        for _, (name, *words) in pages.commands(block):
            if name == "strop":
                verbs.commands[words[0]].make_context(words[0], words[1:])  # which refuses a flag that there is not


def test_figures_are_those_that_were_measured() -> None:
    """Each decimal number of a section that names figures is in one of them."""
    files = [*(ROOT / "benchmarks").glob("*.md"), *(ROOT / "examples").glob("*/*.md")]
    looked_at = 0
    for page in pages.DOCS.rglob("*.md"):
        for section in re.split(r"^## ", page.read_text(), flags=re.M):
            named = set(re.findall(r"\.\./figures/(\w+)\.md", section))
            measured = " ".join(file.read_text() for file in files if file.stem in named)
            prose = re.sub(r"```.*?```|`[^`]*`", "", section, flags=re.S)
            for number in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose) if named else ():
                assert re.search(rf"(?<![\d.]){number}", measured), f"{page}: {number} is in none of {named}"
                looked_at += 1
    assert looked_at > 100


def test_the_site_builds_without_a_dead_link(tmp_path: Path) -> None:
    """In strict mode, which fails for a page, an anchor or a name of the API that is not there."""
    pytest.importorskip("mkdocs", reason="comes with the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    made = {str(page.relative_to(tmp_path / "site")) for page in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "reference/command-line.html", "figures/noise.html"} <= made
    home = (tmp_path / "site" / "index.html").read_text()
    assert "winner / original" in home, "the demo's output is not put in"
    assert "<code></code>" not in (tmp_path / "site" / "reference" / "command-line.html").read_text()
    names = set(re.findall(r'id="strop\.([\w.]+)"', (tmp_path / "site" / "reference" / "python.html").read_text()))
    assert names >= {f"{kind}.{member}" for kind, members in MEMBERS.items() for member in members}


def test_links_of_the_readme_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", (ROOT / name).read_text()):
            assert (ROOT / link).exists(), f"{name} links to {link}"
