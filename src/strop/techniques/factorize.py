"""Low rank: a layer becomes two or three thin ones, where that takes fewer operations."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats.counting import cost
from ..learning import Training
from ..model import KERAS, TORCH, Format, Model
from ..settings import span
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training import check_closes, opened, retrain, saved, train_batches
from ._modules import check_torch, kept, with_linear
from ._ranks import Factors, matrix_factors, tucker_factors

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

FEW = 10  # batches from which the second moments of activations are taken
STEP = 8  # ranks that go at once: a vector of floats
FEWEST = 0.02  # of the operations of the whole: layers with less are left alone


@dataclass(frozen=True)
class Factorize(Technique):
    """Write weights as products of thin ones (SVD of linear layers, Tucker-2 of convolutions), and retrain.

    What is cut off is what the activations hardly use: the error is that of the outputs on samples, not of the weights
    (Yuan et al. 2023, ASVD; Kim et al. 2016, Tucker-2). Ranks go where they cost least error an operation.

    Attributes:
        amount: The share of the operations to save.
    """

    amount: float = span(0.3, 0.1, 0.8, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({TORCH, KERAS})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING

    def expects(self, target: Target) -> float:
        return 1 - 0.7 * self.amount  # thin layers reach less of what a core can do

    def requires(self, model: Model, target: Target) -> None:
        check_torch(model)

    def apply(self, model: Model, context: Context) -> Model:
        module = with_linear(opened(model, context))
        batches = train_batches(context)
        few = batches.take(batches.rows[:2]).inputs
        before = cost(module, few)
        stay = kept(module, (context.training or Training()).keep)
        layers = {name: layer for name, layer in module.named_modules() if _fits(layer) and layer not in stay}
        with _seen(layers) as (moments, places), torch.no_grad():
            for batch, _ in zip(batches.epoch(0), range(FEW), strict=False):
                module(**batch.inputs)
        factors = {
            name: _factors(layer, moments[name], places[name])
            for name, layer in layers.items()
            if name in moments and places[name] * layer.weight.numel() > FEWEST * before.operations
        }
        spared = _choose(factors, self.amount * before.operations)
        if spared < self.amount * before.operations / 2:
            raise NotApplicable(
                f"low rank saves {spared / before.operations:.0%} of the operations at the most here, and "
                f"{self.amount:.0%} are asked for"
            )
        for name, factor in factors.items():
            if factor.worth:
                module.set_submodule(name, factor.layers())
        check_closes(module, model, context)
        retrain(module, context)
        return saved(module, model, context)


def _fits(layer: torch.nn.Module) -> bool:
    if isinstance(layer, torch.nn.Linear):
        return True
    return isinstance(layer, torch.nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"


def _factors(layer: torch.nn.Module, moments: torch.Tensor, places: float) -> Factors:
    if isinstance(layer, torch.nn.Conv2d) and layer.weight[0, 0].numel() > 1:
        return tucker_factors(layer, moments, places)
    return matrix_factors(layer, moments, places)


def _choose(factors: dict[str, Factors], wanted: float) -> float:
    """Lower ranks, always where it costs least error an operation, until enough operations are saved.

    Returns:
        The operations that are saved.
    """
    queue = [(factor.price(STEP), name) for name, factor in factors.items()]
    heapq.heapify(queue)
    spared = 0.0
    while queue and spared < wanted:
        price, name = heapq.heappop(queue)
        if price == math.inf:
            break
        factors[name].lower(STEP)
        spared = sum(factor.saved for factor in factors.values() if factor.worth)
        heapq.heappush(queue, (factors[name].price(STEP), name))
    return spared


@contextmanager
def _seen(layers: dict[str, torch.nn.Module]) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, float]]]:
    """Second moments of what each layer is given, by input channel, and the places a sample at which it is applied."""
    moments: dict[str, torch.Tensor] = {}
    places: dict[str, float] = {}
    hooks = []

    def hook(name: str) -> Any:
        def keep(layer: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            given = args[0]
            if isinstance(layer, torch.nn.Conv2d):
                flat = given.transpose(0, 1).flatten(1)
                places[name] = output.shape[2] * output.shape[3]
            else:
                flat = given.reshape(-1, given.shape[-1]).T
                places[name] = given[..., 0].numel() / len(given) if given.ndim > 1 else 1
            moments[name] = moments.get(name, 0) + flat @ flat.T / flat.shape[1]

        return keep

    for name, layer in layers.items():
        hooks.append(layer.register_forward_hook(hook(name)))
    try:
        yield moments, places
    finally:
        for handle in hooks:
            handle.remove()
