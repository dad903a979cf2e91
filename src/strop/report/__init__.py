"""Report: what a bundle, or a search over parameters, says to a person, as one page that opens offline."""

from .page import page
from .plots import drawn
from .tuning import tuning_page
from .unfinished import unfinished, unfinished_tuning

__all__ = ["drawn", "page", "tuning_page", "unfinished", "unfinished_tuning"]
