"""The documentation: every block of code runs, what is not run is told and counted, and the site builds with no dead link."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pages

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in pages.DOCS.rglob("*.md") if any(pages.blocks(page)))
LEFT_OUT = 4  # blocks that can't run here: installing, containers, services


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(pages.DOCS)))
def test_blocks_run(page: Path, checkout: Path) -> None:
    pages.run(page, checkout)


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    left_out = [block for page in PAGES for block in pages.blocks(page) if block.left_out]
    assert len(left_out) == LEFT_OUT, [f"{block}: {block.title}" for block in left_out]
    assert all(len(block.title.removeprefix(pages.NOT_RUN).split()) >= 3 for block in left_out)
