"""Report: what a bundle says to a person, as one page that opens offline."""

from .page import page

__all__ = ["page"]
