"""The shell's manners: what goes where, what the exit code says, and one paragraph for a mistake."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import typer

from ._cache import PART
from .errors import Infeasible, StropError
from .rundir import finite
from .spelling import in_shell
from .units import visible


class Exit(IntEnum):
    """What the exit code says."""

    MET = 0
    FAILED = 1
    USAGE = 2
    INFEASIBLE = 3
    INCONCLUSIVE = 4


CODES = {"met": Exit.MET, "infeasible": Exit.INFEASIBLE, "broken": Exit.INFEASIBLE, "inconclusive": Exit.INCONCLUSIVE}


def aside() -> contextlib.AbstractContextManager[Any]:
    """Send what a user's own functions print to standard error: standard output is for results."""
    return contextlib.redirect_stdout(sys.stderr)


def say(text: str) -> None:
    """A result as text, on standard output."""
    typer.echo(visible(text))


def print_json(value: object) -> None:
    """A result as one JSON document, on standard output."""
    sys.stdout.write(json.dumps(finite(value), indent=1) + "\n")


def finish(work: Callable[[], int], debug: bool) -> None:
    """Run a verb; a user's mistake ends in one paragraph and exit code 2, without a traceback."""
    try:
        with in_shell():
            code = work()
    except KeyboardInterrupt:
        _fail("interrupted. A search that has a run directory goes on with --resume and its name.")
        code = 128 + signal.SIGINT
    except Infeasible as error:
        _fail(str(error))
        code = Exit.INFEASIBLE
    except StropError as error:
        if debug:
            raise
        _fail(str(error))
        code = Exit.USAGE
    except OSError as error:
        if debug:
            raise
        _fail(_refused(error))
        code = Exit.USAGE
    raise typer.Exit(code)


def _fail(text: str) -> None:
    from .terminal import fail  # takes a while, in which one may be interrupted

    fail(text)


def _refused(error: OSError) -> str:
    """What the system refused, at which place of the user's, and what to do."""
    place = Path(error.filename) if isinstance(error.filename, str) else None
    if place and place.name.startswith(PART):  # written beside the file that it replaces
        place = place.parent
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "Make room, or name another place" if full else "Name a place that can be read and written"
    return f"{error.strerror or error}{f' ({place})' if place else ''}. {advice}; a run that had begun can be resumed."
