"""Channels, neurons and attention heads: the least important are taken out, and what is left is trained again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._lazy import lazy
from ..errors import NotApplicable, TechniqueError
from ..formats.counting import Cost, cost
from ..formats.torch import named
from ..learning import Training
from ..model import KERAS, TORCH, Format, Model
from ..settings import choice, span
from ..target import Target, instruction_sets
from ..technique import Context, Needs, Phase, Technique
from ..training import check_closes, gradients, opened, reestimate, retrain, saved, train_batches
from ._modules import check_torch, heads, kept, projections, with_linear

if TYPE_CHECKING:
    import torch
    import torch_pruning
else:
    torch = lazy("torch", "torch")
    torch_pruning = lazy("torch_pruning", "torch")

FINE = 60  # steps in which channels go, until enough operations have
LEAST = 0.05  # of the channels of a layer, that stay
SHORT = 0.3  # share of the epochs that goes to what is between two rounds of pruning
FEW = 20  # batches that statistics and gradients are taken from
WRAPPED = ("LayerNorm", "RMSNorm", "Embedding")
"""What marks the stream that all layers of a transformer read and write: its width is left alone."""


@dataclass(frozen=True)
class PruneChannels(Technique):
    """Take out the channels, neurons and attention heads that matter least, and retrain; the model gets smaller.

    Over the dependency graph of Torch-Pruning (Fang et al. 2023).

    Attributes:
        amount: The share of the operations to take out.
        importance: `taylor`, by gradients of the loss (Molchanov et al. 2019); `magnitude`, by the norm of weights.
        scope: Channels compete with those of all layers (`global`), or each layer loses the same share (`layer`).
        rounds: Of pruning and retraining.
    """

    amount: float = span(0.6, 0.2, 0.96, strength=True)
    importance: str = choice("taylor", "magnitude")
    scope: str = choice("global", "layer")
    rounds: int = choice(1, 3)

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH, KERAS})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return 1 - 0.9 * self.amount  # what is not matrix products and convolutions stays

    def requires(self, model: Model, target: Target) -> None:
        check_torch(model)

    def apply(self, model: Model, context: Context) -> Model:
        module = with_linear(opened(model, context))
        if not any(isinstance(layer, _layers()) for layer in module.modules()):
            raise NotApplicable(
                "has no linear layers or convolutions that could lose channels; an exported program holds operators in "
                "their place, and the module that it was made of has them"
            )
        frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
        batches = train_batches(context)
        few = batches.take(batches.rows[:2]).inputs
        before = cost(module, few)
        shapes = _shapes(module, few)
        for number in range(1, self.rounds + 1):
            left = 1 - self.amount * number / self.rounds
            after = self._prune(module, few, round(before.operations * left), context)
            if after.operations > before.operations * (1 + left) / 2:  # not half of what was asked for; no training yet
                raise NotApplicable(_too_little(before, after))
            if _shapes(module, few) != shapes:
                raise TechniqueError("pruning changed the shapes of the outputs: this architecture can't be pruned")
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(name not in frozen)
            reestimate(module, (batch for batch, _ in zip(batches.epoch(0), range(FEW), strict=False)))
            check_closes(module, model, context)
            last = number == self.rounds
            retrain(module, context, stage=f" {number} of {self.rounds}", share=1.0 if last else SHORT / self.rounds)
        return saved(module, model, context)

    def _prune(self, module: torch.nn.Module, few: dict[str, torch.Tensor], most: int, context: Context) -> Cost:
        """Take channels out, a few at a time, until no more operations are left than asked for."""
        for parameter in module.parameters():  # the graph is that of the gradients
            parameter.requires_grad_(parameter.is_floating_point())
        if self.importance == "taylor":
            gradients(module, context, FEW)
        kinds = {"taylor": "GroupTaylorImportance", "magnitude": "GroupMagnitudeImportance"}
        module.eval()
        attention = heads(module)
        one = max((1 / count for count in attention.values()), default=0.0)  # head of a layer, that stays
        stay = _kept(module, few, context.training or Training())
        with _quiet():
            pruner = torch_pruning.pruner.BasePruner(
                module, few, getattr(torch_pruning.importance, kinds[self.importance])(), output_transform=_flat,
                global_pruning=self.scope == "global", pruning_ratio=1.0, iterative_steps=FINE,
                max_pruning_ratio=1 - max(LEAST, one + 1e-3), ignored_layers=stay, round_to=vector_width(),
                num_heads=dict(attention), prune_num_heads=True, prune_head_dims=False,
                head_pruning_ratio=1 - one - 1e-3 if attention else 0.0,
            )  # fmt: skip
            now = cost(module, few)
            for _ in range(FINE - 1):
                if now.operations <= most:
                    break
                try:
                    pruner.step()
                except UnboundLocalError:  # Torch-Pruning 1.6.1 has no threshold for heads where none is left to take
                    pruner.prune_num_heads = False
                now = cost(module, few)
        for parameter in module.parameters():
            parameter.grad = None
        return now


def _layers() -> tuple[type[torch.nn.Module], ...]:
    return torch.nn.Linear, torch.nn.modules.conv._ConvNd


def vector_width() -> int:
    """The floats that one instruction takes: channels in other numbers are not faster."""
    return 16 if "avx512f" in instruction_sets() else 8 if "avx2" in instruction_sets() else 4


def _kept(module: torch.nn.Module, few: dict[str, torch.Tensor], training: Training) -> list[torch.nn.Module]:
    """What is not pruned: what the user names, what makes the outputs, and what carries the stream of a transformer."""
    stay = [*kept(module, training.keep), *_last(module, few)]
    for layer in module.modules():
        if any(word in type(layer).__name__ for word in WRAPPED) or isinstance(layer, torch.nn.RNNBase):
            stay.append(layer)
        elif projections(layer) == "fused":
            stay += layer.children()
    return stay


def _last(module: torch.nn.Module, few: dict[str, torch.Tensor]) -> list[torch.nn.Module]:
    """The layers whose channels are those of an output: no other layer with weights comes between."""
    graph = torch_pruning.DependencyGraph()
    with _quiet():
        graph.build_dependency(module.eval(), few, output_transform=_flat)
    found, seen = [], set()
    ends = [node for node in graph.module2node.values() if not node.outputs or _joins_unknown(node)]
    while ends:
        node = ends.pop()
        if node in seen:
            continue
        seen.add(node)
        weighted = isinstance(node.module, _layers())
        bare = isinstance(node.module, torch.nn.Parameter)  # one that a module uses without a layer
        if bare or any(True for _ in node.module.parameters(recurse=False)):
            found.append(node.module)
        if not weighted:
            ends += node.inputs
    return found


def _joins_unknown(node: Any) -> bool:
    """Whether it puts channels beside an input, of which the graph knows nothing: it would mistake whose are whose."""
    joins = isinstance(node.module, torch_pruning.ops._ConcatOp)
    return joins and node.module.offsets is None and getattr(node.grad_fn, "_saved_dim", 1) == 1


def _flat(answer: Any) -> list[torch.Tensor]:
    return [tensor for tensor in named(answer).values() if tensor.requires_grad]


def _shapes(module: torch.nn.Module, few: dict[str, torch.Tensor]) -> dict[str, Any]:
    with torch.no_grad():
        return {name: tensor.shape for name, tensor in named(module.eval()(**few)).items()}


def _too_little(before: Cost, after: Cost) -> str:
    return (
        f"only {1 - after.operations / before.operations:.0%} of the operations can be taken out: what is left are "
        "layers that must stay as they are"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
