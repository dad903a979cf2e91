"""Single weights of Keras models: the smallest become zero and stay so while the others are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import NotApplicable
from ..formats.keras import layers_of
from ..learning import Training
from ..model import KERAS, Format, Model
from ..settings import span
from ..technique import Context, Needs, Phase, Technique
from ..training import keras
from ._magnitude import SMALL, largest


@dataclass(frozen=True)
class PruneKerasWeights(Technique):
    """Set the smallest weights to zero and retrain (Han et al. 2015). What shrinks is a compressed file.

    As of PyTorch's modules: it buys no latency, and is tried where the goal asks for `size.compressed`. Zeros stay
    zeros in .tflite, in int8 too.

    Attributes:
        amount: The share of the weights to set to zero, the smallest of all layers together.
    """

    amount: float = span(0.7, 0.3, 0.97, strength=True)

    accepts: ClassVar[frozenset[Format]] = frozenset({KERAS})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING
    gains: ClassVar[frozenset[str] | None] = frozenset({"size.compressed"})

    def apply(self, model: Model, context: Context) -> Model:
        live = keras.begin(model, context)
        stay = keras.kept(live, (context.training or Training()).keep)
        leaves = [layer for name, layer in layers_of(live).items() if name not in stay]
        found = {v.path: v for layer in leaves if not hasattr(layer, "layers") for v in layer.trainable_variables}
        weights = [v for v in found.values() if keras.is_kernel(v) and np.prod(v.shape) >= SMALL]
        if not weights:
            raise NotApplicable(f"has no weight of {SMALL} numbers or more")
        arrays = [np.array(variable) for variable in weights]
        for variable, array, mask in zip(weights, arrays, largest(arrays, self.amount), strict=True):
            variable.assign(array * mask)
        return keras.saved(keras.retrain(live, context, sparse=True), context)
