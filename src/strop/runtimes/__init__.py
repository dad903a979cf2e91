"""Runtimes: what executes models. A new one is its file, one line here, and one test."""

from __future__ import annotations

import difflib
import functools

from .._plugins import with_plugins
from ..errors import InvalidPlan
from ..runtime import Runtime
from .catboost import Catboost
from .daal4py import Daal4py
from .eager import Eager
from .gtil import Gtil
from .inductor import Inductor
from .keras import Keras
from .lightgbm import Lightgbm
from .litert import Litert
from .lleaves import Lleaves
from .native import Native
from .onnxruntime import Onnxruntime
from .openvino import Openvino
from .sklearn import Sklearn
from .tl2cgen import Tl2cgen
from .xgboost import Xgboost

BUILTIN: tuple[type[Runtime], ...] = (
    Onnxruntime,
    Openvino,
    Litert,
    Inductor,
    Eager,
    Keras,
    Lightgbm,
    Xgboost,
    Catboost,
    Sklearn,
    Native,
    Gtil,
    Tl2cgen,
    Lleaves,
    Daal4py,
)


@functools.cache
def all_runtimes() -> tuple[type[Runtime], ...]:
    """The built-in runtimes and those of installed packages, installed or not."""
    return with_plugins("strop.runtimes", BUILTIN)


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
