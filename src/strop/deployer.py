"""`strop serve`: a bundle as the model servers of others take it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Json
from .shell import Exit, aside, finish, print_json, say


def serve(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    server: Annotated[
        Literal["mlserver", "triton"], typer.Option("--for", help="Both come with a service for KServe.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
    name: Annotated[
        str | None, typer.Option(help="Of the model, as requests name it; by default that of the bundle's folder.")
    ] = None,
    as_json: Json = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Write the files from which a model server runs a bundle, with a Dockerfile: strop has no server of its own."""

    def work() -> int:
        from .bundle import Bundle
        from .serve import write

        with aside():
            folder = write(Bundle.load(bundle), server, out, name)
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        if as_json:
            print_json({"folder": str(folder), "server": server, "files": files})
        else:
            head = f"{folder} is written, for {server}; the head of its Dockerfile says how it is built:"
            say("\n".join([head, *(f"  {file}" for file in files)]))
        return Exit.MET

    finish(work, debug)
