"""Report: what a bundle, or a search over parameters, says to a person, as one page that opens offline."""

from .choices import frontier
from .compared import comparison_figures
from .forest import forest_charts
from .page import page
from .parts import sheet
from .plots import drawn
from .profiled import profile_figures
from .tuning import tuning_figures, tuning_page
from .unfinished import unfinished, unfinished_tuning
from .why import layer_charts

__all__ = [
    "comparison_figures", "drawn", "forest_charts", "frontier", "layer_charts", "page", "profile_figures", "sheet",
    "tuning_figures", "tuning_page", "unfinished", "unfinished_tuning",
]  # fmt: skip
