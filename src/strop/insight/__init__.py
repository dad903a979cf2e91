"""Insight: where a model's time goes, and what would help."""

from .counsel import Advice, advise, unfit
from .show import summarize
from .split import PROFILING, UNTOLD, Found, examine

__all__ = ["PROFILING", "UNTOLD", "Advice", "Found", "advise", "examine", "summarize", "unfit"]
