"""`python -m strop`."""

from .cli import main

main()
