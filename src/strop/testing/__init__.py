"""For authors of plug-ins: a conformance kit to subclass, and fakes that need no framework."""

from __future__ import annotations

from .conformance import LOSSLESS, Example, FormatCase, RuntimeCase, TechniqueCase, check_settings
from .fakes import (
    FAKE,
    FAKE_COMPILED,
    FAKE_FORMAT,
    FakeCalibrate,
    FakeCompile,
    FakeFault,
    FakeFormat,
    FakeRound,
    FakeRuntime,
    FakeStrip,
    fake_data,
    fake_model,
    registered,
)

__all__ = [
    "FAKE",
    "FAKE_COMPILED",
    "FAKE_FORMAT",
    "LOSSLESS",
    "Example",
    "FakeCalibrate",
    "FakeCompile",
    "FakeFault",
    "FakeFormat",
    "FakeRound",
    "FakeRuntime",
    "FakeStrip",
    "FormatCase",
    "RuntimeCase",
    "TechniqueCase",
    "check_settings",
    "fake_data",
    "fake_model",
    "registered",
]
