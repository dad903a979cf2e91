"""What each innermost module of a PyTorch model takes, told by hooks before and after its forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NotApplicable
from ..runtime import EXACT, LayerTime, Profiled
from ._profiled import EACH, per_layer, take_turns

if TYPE_CHECKING:
    import torch

WITHIN = 2e-6  # seconds that hooks take within a module, at the most
PRECISIONS = {"torch.float32": "f32", "torch.bfloat16": "bf16", "torch.float16": "f16", "torch.qint8": "int8"}


def profiled(
    plain: Sequence[Callable[[], object]],
    watched: torch.nn.Module,
    calls: Sequence[Callable[[], object]],
    threads: int,
    seconds: float,
) -> Profiled:
    """Time modules; what is computed between them, by functions, counts as overhead.

    Args:
        plain: One call a batch.
        watched: A module of its own, which gets the hooks.
        calls: Likewise, of that.

    Raises:
        NotApplicable: It is not made of modules.
    """
    inner = {name: module for name, module in watched.named_modules() if name and not any(module.children())}
    if not inner:
        raise NotApplicable("it is not made of modules that could be timed: an exported program has operators alone")
    spent, begun = dict.fromkeys(inner, 0.0), dict[str, float]()
    order: dict[str, None] = {}
    logs: list[list[float]] = []

    def before(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            order[name] = None
            begun[name] = time.perf_counter()

        return note

    def after(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            spent[name] += time.perf_counter() - begun[name]

        return note

    def log() -> None:
        logs.append([spent[name] for name in inner])
        spent.update(dict.fromkeys(inner, 0.0))

    for name, module in inner.items():
        module.register_forward_pre_hook(before(name))
        module.register_forward_hook(after(name))
    turns = take_turns(plain, calls, len(inner), threads, seconds, log)
    logged = np.array(logs)[turns.kept] / EACH
    ran = [place for place, name in enumerate(inner) if name in order]
    each = dict(zip([list(inner)[at] for at in ran], per_layer(logged[:, ran], turns, WITHIN, told=EXACT), strict=True))
    layers = tuple(
        LayerTime(name, type(inner[name]).__name__, float(each[name]), (name,), _precision(inner[name]))
        for name in order
    )
    return Profiled(layers, turns.plain, turns.waited)


def _precision(module: torch.nn.Module) -> str:
    weights = next(module.parameters(), None)
    return "" if weights is None else PRECISIONS.get(str(weights.dtype), "")
