"""For authors of plug-ins: a conformance kit to subclass, and fakes that need no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._plugins import Room

if TYPE_CHECKING:
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
    from .metrics import FakeProbe, MetricCase

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
    "FakeProbe",
    "FakeRound",
    "FakeRuntime",
    "FakeStrip",
    "FormatCase",
    "MetricCase",
    "RuntimeCase",
    "TechniqueCase",
    "check_settings",
    "fake_data",
    "fake_model",
    "registered",
]

_KIT = ("LOSSLESS", "Example", "FormatCase", "RuntimeCase", "TechniqueCase", "check_settings")
_FILES = dict.fromkeys(_KIT, "conformance") | dict.fromkeys(("FakeProbe", "MetricCase"), "metrics")
_ROOM: Room[Any] = Room(__name__, (f"{_FILES.get(name, 'fakes')}:{name}" for name in __all__))


def __getattr__(name: str) -> Any:
    """A process that runs a fake needs no kit, which knows most of strop."""
    return _ROOM.member(name)
