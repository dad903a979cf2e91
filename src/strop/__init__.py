"""strop: put the final edge on a trained model, within the limits you set, with proof."""

from __future__ import annotations

from .bundle import Bundle
from .compare import benchmark, compare, verify
from .data import Data
from .errors import (
    Infeasible,
    InvalidData,
    InvalidGoal,
    StropError,
    UnsupportedModel,
)
from .goal import Goal
from .metric import Metric
from .model import Model
from .pipeline import optimize, resume
from .prepare import Budget
from .result import Result
from .runtime import Runtime
from .target import Target
from .technique import Technique

__version__ = "0.1.0.dev0"

__all__ = [
    "Budget",
    "Bundle",
    "Data",
    "Goal",
    "Infeasible",
    "InvalidData",
    "InvalidGoal",
    "Metric",
    "Model",
    "Result",
    "Runtime",
    "StropError",
    "Target",
    "Technique",
    "UnsupportedModel",
    "benchmark",
    "compare",
    "optimize",
    "resume",
    "verify",
]
