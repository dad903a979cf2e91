"""What the tests of techniques share."""

from __future__ import annotations

import pytest

from strop.native import library


@pytest.fixture(autouse=True)
def _compiled_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forests are compiled to be asked a few times. That the optimized code answers alike is for tests of runtimes."""
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-O1"))  # of two levels the last one counts
