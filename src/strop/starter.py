"""`strop init`: the first plan file, written after a look at model and data."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from .errors import InvalidPlan
from .options import Json, Trust, Weights
from .planfile import FILENAME
from .rundir import atomic
from .shell import Exit, aside, finish, print_json, say


def init(
    model: Annotated[
        str | None, typer.Argument(help="A file, a folder or module:factory; without it, the only one that lies here.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Samples to judge by: .npz, .npy, .parquet, .csv, folder, module:function.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name of the labels, where it can't be guessed.")] = None,
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="The plan file.")] = Path(FILENAME),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write it anew where it is there already.")] = False,
    trust_pickle: Trust = False,
    as_json: Json = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Look at a model and data, and write the plan file that suits them, with comments; and beside it, for editors,
    strop.schema.json, which tells what its keys may be."""

    def work() -> int:
        _check(out, overwrite)
        from .starting import look
        from .template import SCHEMA, template
        from .terminal import console

        with aside(), console().status("looking at model and data"):
            seen = look(model, data, label=label, weights=weights, trust_pickle=trust_pickle)
            text = template(seen, out)
        schema = resources.files("strop").joinpath("plan.schema.json").read_text()
        for path, content in ((out.with_name(SCHEMA), schema), (out, text)):
            with atomic(path) as temporary:
                temporary.write_text(content)
        if as_json:
            print_json({"file": str(out), "plan": tomllib.loads(text)})
        else:
            run = "strop optimize" if out.name == FILENAME else f"strop optimize {out}"
            say(f"{out} is written. Look at it, change what you know better, and run it: {run}")
        return Exit.MET

    finish(work, debug)


def _check(out: Path, overwrite: bool) -> None:
    """Refuse a place that can't be written, before anything is looked at.

    Raises:
        InvalidPlan: Why not, and the next step.
    """
    if out.is_dir() or (out.exists() and not overwrite):
        how = "Name another with --out." if out.is_dir() else "Name another with --out, or say --overwrite."
        raise InvalidPlan(f"init writes a new file, and {out} is there already. {how}")
    if not out.parent.is_dir():
        raise InvalidPlan(f"init writes into a folder that exists, and {out.parent} does not. Make it first.")
