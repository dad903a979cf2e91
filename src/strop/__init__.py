"""strop: put the final edge on a trained model, within the limits you set, with proof."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Bundle
    from .comparison import benchmark, compare
    from .data import Data
    from .errors import Infeasible, StropError
    from .explanation import explain
    from .goal import Goal
    from .images import Preprocessing
    from .learning import Training
    from .metric import Metric
    from .model import Model
    from .pipeline import optimize, resume
    from .prepare import Budget
    from .profiling import profile
    from .result import Result
    from .runtime import Runtime
    from .target import Target
    from .technique import Technique
    from .verification import verify

__version__ = "0.1.0.dev0"

__all__ = [
    "Budget",
    "Bundle",
    "Data",
    "Goal",
    "Infeasible",
    "Metric",
    "Model",
    "Preprocessing",
    "Result",
    "Runtime",
    "StropError",
    "Target",
    "Technique",
    "Training",
    "benchmark",
    "compare",
    "explain",
    "optimize",
    "profile",
    "resume",
    "verify",
]

# Names are imported when first used: every process that strop starts imports this file, and needs few of them.
_HOMES = {
    "bundle": ("Bundle",),
    "comparison": ("benchmark", "compare"),
    "data": ("Data",),
    "errors": ("Infeasible", "StropError"),
    "explanation": ("explain",),
    "goal": ("Goal",),
    "images": ("Preprocessing",),
    "learning": ("Training",),
    "metric": ("Metric",),
    "model": ("Model",),
    "pipeline": ("optimize", "resume"),
    "prepare": ("Budget",),
    "profiling": ("profile",),
    "result": ("Result",),
    "runtime": ("Runtime",),
    "target": ("Target",),
    "technique": ("Technique",),
    "verification": ("verify",),
}


def __getattr__(name: str) -> Any:
    if name == "tune":  # a module of its own, with names of its own
        return importlib.import_module(".tune", __name__)
    for module, names in _HOMES.items():
        if name in names:
            globals()[name] = found = getattr(importlib.import_module(f".{module}", __name__), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
