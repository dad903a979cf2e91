"""Spelling: an option as whoever called strop writes it, as a flag of the shell or as a keyword in Python."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator

SHELL = "STROP_SHELL"  # in the environment: processes inherit it, and what they say is for whoever called the first one
KEYWORDS = {
    **{name: f"target=strop.Target({name}={{}})" for name in ("threads", "batch", "formats", "rate", "p99", "price")},
    "budget": "budget=strop.Budget({})",
    "trials": "budget=strop.Budget(trials={})",
    "confirm": "confirm_data={}",
    "limit": "goal={}",
    "resume": "strop.resume({})",
    "set": "settings={}",
    "slice": "slices=[{}]",
    "trust_pickle": "trust_pickle=True",
}
"""Where a keyword is not called, or not given, as its flag is."""


def option(name: str, value: object = None) -> str:
    """An option, for a message that asks for it.

    Args:
        name: As a plan file has it.
        value: To give; a word in capitals stands for what only the user knows.
    """
    if SHELL in os.environ:
        flag = f"--{name.replace('_', '-')}"
        return flag if value is None else f"{flag} {shlex.quote(str(value))}"
    keyword = KEYWORDS.get(name, f"{name}={{}}")
    if value is None:
        return keyword.format("...").removesuffix("=...").removesuffix("=[...]")
    return keyword.format(value if isinstance(value, str) and value.isupper() else repr(value))


@contextlib.contextmanager
def in_shell() -> Iterator[None]:
    """While the shell works: options are flags."""
    before = os.environ.get(SHELL)
    os.environ[SHELL] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SHELL]
