"""Runtimes: what executes models. A new one is its file, one line here, and one test."""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Any

from .._plugins import Room, with_plugins
from ..errors import InvalidPlan
from ..runtime import Runtime

_ROOM: Room[type[Runtime]] = Room(
    __name__,
    (
        "onnxruntime:Onnxruntime",
        "openvino:Openvino",
        "litert:Litert",
        "inductor:Inductor",
        "eager:Eager",
        "keras:Keras",
        "lightgbm:Lightgbm",
        "xgboost:Xgboost",
        "catboost:Catboost",
        "sklearn:Sklearn",
        "native:Native",
        "gtil:Gtil",
        "tl2cgen:Tl2cgen",
        "lleaves:Lleaves",
        "daal4py:Daal4py",
    ),
)

if TYPE_CHECKING:
    BUILTIN: tuple[type[Runtime], ...]


def __getattr__(name: str) -> Any:
    return _ROOM.own() if name == "BUILTIN" else _ROOM.member(name)


@functools.cache
def all_runtimes() -> tuple[type[Runtime], ...]:
    """The built-in runtimes and those of installed packages, installed or not."""
    return with_plugins(__name__, _ROOM.own())


def find(label: str) -> type[Runtime]:
    """The runtime of that label, for a candidate: never one that only users call, which may run code of the model's.

    Raises:
        InvalidPlan: There is none; the message names the nearest.
    """
    known = {runtime.label(): runtime for runtime in all_runtimes() if not runtime.as_given}
    if label not in known:
        near = difflib.get_close_matches(label, known, 1)
        guess = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
        raise InvalidPlan(f"there is no runtime {label!r}. {guess}")
    return known[label]


__all__ = ["BUILTIN", "all_runtimes", "find"]
