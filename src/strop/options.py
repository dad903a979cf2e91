"""Options that several verbs of the shell take alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .planfile import seconds
from .prepare import SEEDS
from .target import Target

Threads = Annotated[int | None, typer.Option(help="Cores that one inference may use; all by default.")]
Batch = Annotated[int | None, typer.Option(help="Samples in one call; 1 by default.")]
Rate = Annotated[float | None, typer.Option(help="Calls a second that arrive at random times: tells server.p99.")]
P99 = Annotated[str | None, typer.Option(help="A time, as 20ms, that 99 % of them must keep: tells server.rate.")]
Price = Annotated[float | None, typer.Option(help="What an hour of the machine costs, in any currency: tells cost.")]
Trust = Annotated[
    bool, typer.Option("--trust-pickle", help="Read pickles, which runs the code in them: only from whom you trust.")
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Weights of an original that is module:factory: .safetensors, a state dict, .weights.h5 or .keras."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="TECHNIQUE.SETTING=VALUE, which is not searched then; strop techniques lists them."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Label = Annotated[str | None, typer.Option(help="Name of the labels; 'labels', 'label', 'y' or 'target' by default.")]
Slice = Annotated[
    list[str] | None, typer.Option(help="A column whose values are reported one by one; 'sex*race' crosses two.")
]
Group = Annotated[str | None, typer.Option(help="The column that says which samples belong together.")]
Protected = Annotated[
    list[str] | None, typer.Option(help="A column between whose values fairness is reported; a slice too.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=SEEDS - 1, help="Of every random choice; 0 by default.")]


def target_of(
    threads: int | None,
    batch: int | None,
    formats: tuple[str, ...] = (),
    rate: float | None = None,
    p99: str | float | None = None,
    price: float | None = None,
    kind: str | None = None,
) -> Target:
    """The target that flags, or a plan's keys, say; a time may be spelled with its unit."""
    default = Target()
    return Target(
        default.threads if threads is None else threads, default.batch if batch is None else batch, tuple(formats),
        rate, seconds(p99) if isinstance(p99, str) else p99, price, kind or default.kind,
    )  # fmt: skip
