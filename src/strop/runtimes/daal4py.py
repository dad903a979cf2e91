"""oneDAL, through daal4py of scikit-learn-intelex."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable, RunFailed
from ..forest import Forest
from ..formats._plain_trees import precision, rounded_down, tree_nodes
from ..model import FOREST, Format, Model
from ..runtime import Runtime
from ..target import Target
from ._forests import Array, Call, ForestRunner, read

if TYPE_CHECKING:
    import daal4py
else:
    daal4py = lazy("daal4py", "trees")

_TYPES = {"float32": "float", "float64": "double"}


@dataclass(frozen=True)
class Daal4py(Runtime):
    """oneDAL's gradient-boosted trees; a model of its own for each output.

    oneDAL keeps thresholds and leaves as float32. A float64 between a threshold and the float32 below it goes right
    here, and left in the original; float32 inputs go the same way in both.
    """

    loads: ClassVar[frozenset[Format]] = frozenset({FOREST})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "daal4py"
    extra: ClassVar[str | None] = "trees"
    partial: ClassVar[bool] = True

    @classmethod
    def expects(cls, target: Target) -> float:
        return 3.0 if target.batch == 1 else 0.45  # of LightGBM's fastest call, 500 trees of 63 leaves

    def load(self, model: Model, target: Target) -> ForestRunner:
        forest = read(model)
        if (forest.subset >= 0).any():
            raise NotApplicable("oneDAL knows thresholds only, and some splits look up categories")
        if "openvino" in sys.modules and "daal4py" not in sys.modules:
            raise RunFailed("oneDAL can't be loaded where OpenVINO is: import daal4py first, or use another process.")
        daal4py.daalinit(target.threads)
        try:
            models = [_model(forest, output) for output in range(forest.outputs)]
        except (RuntimeError, TypeError) as error:
            raise RunFailed(f"oneDAL can't load {model.path.name}: {str(error)[:300]}") from error
        kind = _TYPES[precision(forest)]

        def prepare(x: Array) -> Call:
            # an algorithm keeps its result, of as many rows as its first call has, and writes the next one over it
            calls = [(daal4py.gbt_regression_prediction(fptype=kind).compute, one) for one in models]
            if len(calls) > 1:
                return lambda: np.concatenate([compute(x, one).prediction for compute, one in calls], axis=1)
            ((compute, only),) = calls
            return lambda: compute(x, only).prediction

        return ForestRunner(model, forest, prepare, linked=False)


def _model(forest: Forest, output: int) -> Any:
    vectors = forest.values.shape[1] > 1
    chosen = [
        nodes for nodes, of in zip(tree_nodes(forest), forest.output.tolist(), strict=True) if vectors or of == output
    ]
    builder = daal4py.gbt_reg_model_builder(n_features=forest.features, n_iterations=max(1, len(chosen)))
    threshold, values = rounded_down(forest.threshold), forest.values[:, output if vectors else 0]
    if not chosen:
        builder.add_leaf(tree_id=builder.create_tree(1), response=0.0, cover=0.0)
    for nodes in chosen:
        tree = builder.create_tree(nodes.stop - nodes.start)
        below: dict[int, dict[str, int]] = {nodes.start: {}}
        for node in range(nodes.start, nodes.stop):  # parents come before their children
            place = below.pop(node)
            if forest.feature[node] < 0:
                builder.add_leaf(tree_id=tree, response=float(values[forest.leaf[node]]), cover=0.0, **place)
                continue
            made = builder.add_split(
                tree_id=tree, feature_index=int(forest.feature[node]), feature_value=float(threshold[node]),
                default_left=int(forest.nan_left[node]), cover=0.0, **place,
            )  # fmt: skip
            below[int(forest.left[node])] = {"parent_id": made, "position": 0}
            below[int(forest.right[node])] = {"parent_id": made, "position": 1}
    return builder.model(base_score=None)
