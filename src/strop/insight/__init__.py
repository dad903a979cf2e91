"""Insight: where a model's time goes, and what would help."""

from .counsel import Advice, advise, burden_of, unfit
from .guidance import WORTH, Guide, guide
from .observe import observe
from .peaks import Peaks, peaks
from .plain import layers
from .roofline import Row, bound_by, shares_of
from .sensitivity import Sensitivity, mixers, sensitivity
from .show import WIDTH, summarize
from .split import PROFILING, UNTOLD, Found, examine

__all__ = [
    "PROFILING", "UNTOLD", "WIDTH", "WORTH", "Advice", "Found", "Guide", "Peaks", "Row", "Sensitivity", "advise",
    "bound_by", "burden_of", "examine", "guide", "layers", "mixers", "observe", "peaks", "sensitivity", "shares_of",
    "summarize",
    "unfit",
]  # fmt: skip
