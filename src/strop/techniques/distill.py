"""A smaller module in place of the original, and taught by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .._lazy import lazy
from ..errors import NotApplicable, TechniqueError
from ..formats.torch import load
from ..model import TORCH, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training import retrain, saved

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

FEWEST = 3  # blocks in a row, for some of them to go


@dataclass(frozen=True)
class Distill(Technique):
    """Teach a student that the user hands over (`student` of the training settings) what the original answers.

    Hinton et al. 2015.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING | Needs.STUDENT

    def expects(self, target: Target) -> float:
        return 0.3

    def requires(self, model: Model, target: Target) -> None:
        if model.history:
            raise NotApplicable("a student takes the place of the original, not of what was made of it")

    def apply(self, model: Model, context: Context) -> Model:
        if context.student is None:
            raise TechniqueError("there is no student")
        return saved(retrain(load(context.student), context), model, context)


@dataclass(frozen=True)
class DropBlocks(Technique):
    """Take blocks out of a row of equal ones, evenly, and retrain: the original's own architecture, less deep.

    Sanh et al. 2019, section 3.

    Attributes:
        amount: The share of the blocks to take out.
    """

    amount: float = span(0.5, 0.15, 0.85, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return 1 - 0.8 * self.amount  # what is no block stays

    def apply(self, model: Model, context: Context) -> Model:
        module = load(model)
        rows, dropped = list(_rows(module)), 0
        if not rows:
            raise NotApplicable(f"has no row of {FEWEST} blocks or more of one shape")
        for parent, name, run in rows:
            stay = max(1, round(len(run) * (1 - self.amount)))
            kept = {run[round(place * (len(run) - 1) / max(stay - 1, 1))] for place in range(stay)}
            blocks = getattr(parent, name)
            for place in reversed(run):
                if place not in kept:
                    del blocks[place]
                    dropped += 1
        if not dropped:
            raise NotApplicable(f"{self.amount:.0%} of its blocks are less than one")
        retrain(module, context)
        return saved(module, model, context)


def _rows(module: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str, list[int]]]:
    """Where equal blocks follow each other: what holds their list, its name there, and their places in it."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, (torch.nn.ModuleList, torch.nn.Sequential)):
                continue
            shapes = [_shape(block) for block in child]
            start = 0
            for place in range(1, len(shapes) + 1):
                if place == len(shapes) or shapes[place] != shapes[start]:
                    if place - start >= FEWEST and shapes[start][1]:
                        yield parent, name, list(range(start, place))
                        break
                    start = place


def _shape(block: torch.nn.Module) -> tuple[type, tuple[tuple[str, tuple[int, ...]], ...]]:
    return type(block), tuple((name, tuple(p.shape)) for name, p in block.named_parameters())
