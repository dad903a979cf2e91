"""What all formats of decision trees have in common: one matrix in, and a forest that they are read into."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from ..forest import Forest
from ..model import Model, ModelFormat, Signature, Tensor

PROBABILITIES = frozenset({"sigmoid", "sigmoid of two", "softmax", "shares"})


class TreeFormat(ModelFormat):
    """A format whose models can be read into a `Forest`."""

    @abstractmethod
    def forest(self, model: Model) -> Forest:
        """Read the trees, checked (`Forest.check`), so that `Forest.predict` gives what the library's own call gives.

        Raises:
            UnsupportedModel: The file is broken, or holds what is more than trees (linear leaves, text features).
        """


def signature(forest: Forest) -> Signature:
    """One matrix `x` in, [samples, features]; `probability` or `prediction` out, [samples] or [samples, outputs]."""
    name = "probability" if forest.link in PROBABILITIES else "prediction"
    return Signature(
        (Tensor("x", forest.dtype, (None, forest.features), columns=forest.names, missing=True),),
        (Tensor(name, forest.sums, (None,) if forest.width is None else (None, forest.width)),),
    )


def counts(forest: Forest) -> Mapping[str, int]:
    """How much there is of it."""
    splits = forest.feature[(forest.tree >= 0) & (forest.feature >= 0)]
    return {
        "trees": forest.trees,
        "leaves": int(((forest.tree >= 0) & (forest.feature < 0)).sum()),
        "depth": int(forest.depth.max(initial=0)),
        "features": len(set(splits.tolist())),
    }
