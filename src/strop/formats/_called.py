"""An estimator of scikit-learn's as its users call it: which method, and which input it wants."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import RunFailed
from ..model import Batch, Signature
from ._pipelines import METHODS, walk

if TYPE_CHECKING:
    import pandas
else:
    pandas = lazy("pandas", "trees")

Array = np.ndarray[Any, Any]


class Called:
    """Takes batches as they are between rooms.

    Attributes:
        method: Its fastest public call for the output.
    """

    def __init__(self, estimator: Any, signature: Signature):
        self.inputs, (self.result,) = signature.inputs, signature.outputs
        self.framed = self.inputs[0].shape == (None,) and self.inputs[0].name != "text"
        for part in walk(estimator):
            if hasattr(part, "get_params"):
                part.verbose = 0
            if not self.framed and "feature_names_in_" in getattr(part, "__dict__", ()):
                del part.feature_names_in_  # columns come in their order: names would only make scikit-learn warn
        self.method = getattr(estimator, METHODS[self.result.name])

    def input(self, batch: Batch) -> Any:
        """The input as a caller holds it: an array, a frame, or a list of texts."""
        if self.framed:
            return pandas.DataFrame({tensor.name: batch[tensor.name] for tensor in self.inputs})
        x = batch[self.inputs[0].name]
        return x.tolist() if self.inputs[0].dtype == "str" else x

    def __call__(self, batch: Batch) -> Array:
        """The output, of the signature's dtype.

        Raises:
            RunFailed: scikit-learn refuses the input.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unknown categories and the like: what is answered counts
                found = np.asarray(self.method(self.input(batch)), self.result.dtype)
        except ValueError as error:  # what its own checks of the input raise
            raise RunFailed(f"scikit-learn: {str(error).splitlines()[0]}") from error
        if found.shape[1:] != self.result.shape[1:]:
            raise RunFailed(f"scikit-learn gives {self.result.name!r} in the shape {found.shape}, not {self.result}")
        return found
