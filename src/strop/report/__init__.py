"""Report: what a bundle, or a search over parameters, says to a person, as one page that opens offline."""

from .page import page
from .tuning import tuning_page

__all__ = ["page", "tuning_page"]
