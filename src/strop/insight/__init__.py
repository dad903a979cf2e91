"""Insight: where a model's time goes, and what would help."""

from .counsel import Advice, advise
from .show import summarize
from .split import PROFILING, Found, examine

__all__ = ["PROFILING", "Advice", "Found", "advise", "examine", "summarize"]
