"""The shapes of inputs in one call, where samples tell what a signature leaves free."""

from __future__ import annotations

from ..model import Batch, Signature, Tensor


def call_shapes(signature: Signature, samples: Batch | None) -> tuple[dict[str, tuple[int, ...]], int]:
    """The shapes of the inputs in a call of one sample, or of as many as the model is tied to, and how many these are.

    An input of free sizes that no samples tell of is left out.
    """
    shapes = {tensor.name: _shape(tensor, samples) for tensor in signature.inputs}
    carried = next((tensor.fixed_batch for tensor in signature.inputs if tensor.fixed_batch), 1)
    return {name: shape for name, shape in shapes.items() if shape is not None}, carried


def _shape(tensor: Tensor, samples: Batch | None) -> tuple[int, ...] | None:
    """Of a sequence, that of a step."""
    if samples is None or tensor.name not in samples:
        own = [1 if at == 0 and tensor.batched and not isinstance(d, int) else d for at, d in enumerate(tensor.shape)]
        free = any(not isinstance(size, int) for size in own)
        return None if free and not tensor.feedback else tuple(d if isinstance(d, int) else 1 for d in own)
    given = samples[tensor.name].shape[1:]
    whole = (tensor.fixed_batch or 1, *given) if tensor.batched else given
    extra = max(0, len(whole) - len(tensor.shape))
    return (*whole[:1], *whole[1 + extra :])
