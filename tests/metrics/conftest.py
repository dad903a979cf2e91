"""A probe that holds arrays."""

from __future__ import annotations

import pytest

from strop.testing import FakeProbe


@pytest.fixture
def probe() -> type[FakeProbe]:
    """Makes a probe of two arrays (or dicts of arrays) and labels."""
    return FakeProbe
