"""Batch norms folded into the convolutions and linear layers before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._lazy import lazy

if TYPE_CHECKING:
    import torch
    from torch.nn.utils import fusion
    from torch.utils import _python_dispatch
else:
    torch = lazy("torch", "torch")
    fusion = lazy("torch.nn.utils.fusion", "torch")
    _python_dispatch = lazy("torch.utils._python_dispatch", "torch")


def fold_batch_norms(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Fold each batch norm that alone reads the output of a layer which runs once and has weights of its own.

    Args:
        module: Changed in place; left in evaluation mode.
        inputs: Samples, run once to see what reads what: no tracing, so any module will do.
    """
    names = {layer: name for name, layer in module.named_modules()}
    runs = _watched(module.eval(), inputs)
    once = {layer for layer in names if [found for found, *_ in runs.calls].count(layer) == 1}
    shared = _shared(module)
    made = {id(output): layer for layer, _, output in runs.calls if layer in once and _weighted(layer)}
    for norm, given, _ in runs.calls:
        layer = made.get(id(given))
        if layer is None or not _foldable(norm) or norm not in once or runs.readers.get(id(given), 0) != 1:
            continue
        if layer.weight in shared or type(norm).__name__.lower().find("sync") >= 0:
            continue
        fold: Any = fusion.fuse_linear_bn_eval if isinstance(layer, torch.nn.Linear) else fusion.fuse_conv_bn_eval
        transposed = {"transpose": True} if isinstance(layer, torch.nn.modules.conv._ConvTransposeNd) else {}
        module.set_submodule(names[layer], fold(layer, norm, **transposed))
        module.set_submodule(names[norm], torch.nn.Identity())
    return module.eval()


class _Runs:
    """What one run has shown: each call of a layer, with its input and output, and how many operators read a tensor."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.nn.Module, Any, Any]] = []  # keeps the tensors alive: their ids stay theirs
        self.readers: dict[int, int] = {}


def _watched(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> _Runs:
    runs = _Runs()

    class Mode(_python_dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            for given in torch.utils._pytree.tree_leaves((args, kwargs or {})):
                if isinstance(given, torch.Tensor):
                    runs.readers[id(given)] = runs.readers.get(id(given), 0) + 1
            return func(*args, **(kwargs or {}))

    def hook(layer: torch.nn.Module, args: Any, output: Any) -> None:
        if args:
            runs.calls.append((layer, args[0], output))

    leaves = [layer for layer in module.modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(hook) for layer in leaves]
    try:
        with torch.no_grad(), Mode():  # type: ignore[no-untyped-call]
            module(**inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return runs


def _weighted(layer: torch.nn.Module) -> bool:
    return isinstance(layer, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)) and not hasattr(
        layer, "parametrizations"
    )


def _foldable(norm: torch.nn.Module) -> bool:
    kinds = torch.nn.modules.batchnorm._BatchNorm
    return isinstance(norm, kinds) and norm.running_mean is not None and norm.running_var is not None


def _shared(module: torch.nn.Module) -> set[torch.Tensor]:
    """Parameters that more than one layer holds."""
    seen: set[torch.Tensor] = set()
    twice: set[torch.Tensor] = set()
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            (twice if parameter in seen else seen).add(parameter)
    return twice
