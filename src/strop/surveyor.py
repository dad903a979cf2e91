"""`strop techniques` and `strop doctor`: what there is to work with, and what this machine can do."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Json, Trust
from .shell import Exit, finish, print_json, say
from .target import Target


def techniques(
    model: Annotated[str | None, typer.Argument(help="A model: say which fit it, and what it is converted to.")] = None,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: bool = False,
) -> None:
    """List the techniques with their settings; with a model, which fit it or a conversion of it, and why not others."""

    def work() -> int:
        from .inventory import described
        from .inventory import techniques as listed

        rows = listed(model, trust_pickle)
        print_json(rows) if as_json else say(described(rows, model is not None))
        return Exit.MET

    finish(work, debug)


def doctor(
    install: Annotated[
        str | None, typer.Option(help="Make the environment of a tool that can't live beside strop: litert-torch.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what this machine can do, in some ten seconds, and say what is installed and what is missing."""

    def work() -> int:
        if install is not None:
            from ._tools import find

            tool = find(install)
            say(f"{tool.name}: {tool.gigabytes:g} GB, some minutes")
            tool.install()
            say(f"{tool.name} is ready")
            return Exit.MET
        from .doctor import describe, examine
        from .findings import conclude
        from .machine import measure
        from .terminal import console

        screen = console()
        found = examine()
        with screen.status("measuring") as line:
            found |= conclude(measure(Target(), line.update if screen.is_terminal else screen.print))
        if as_json:
            print_json(found)
        else:
            say(describe(found))
        return Exit.MET

    finish(work, False)
