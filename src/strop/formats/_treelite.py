"""Treelite's model of a forest, built node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..forest import Forest
from ._plain_trees import precision, tree_nodes

if TYPE_CHECKING:
    import treelite
else:
    treelite = lazy("treelite", "trees")

LINKS = {"identity": "identity", "exponential": "exponential", "sigmoid": "sigmoid", "softmax": "softmax"}
"""What treelite computes as strop does, by strop's name."""


def is_linked(forest: Forest) -> bool:
    """Whether treelite makes results of sums; else its model gives the sums.

    Its softmax, and the scale of its sigmoid, are float32 always.
    """
    exact = {"sigmoid": forest.outputs == 1 and float(np.float32(forest.scale)) == forest.scale,
             "softmax": precision(forest) == "float32"}  # fmt: skip
    return forest.divisor == 1 and forest.link in LINKS and bool(exact.get(forest.link, True))


def treelite_model(forest: Forest) -> treelite.Model:
    """The same trees, in their order.

    Args:
        forest: A plain one.
    """
    builder = _builder(forest)
    add_split, add_subset, add_leaf = builder.numerical_test, builder.categorical_test, builder.leaf
    for nodes in tree_nodes(forest):
        builder.start_tree()
        for node in range(nodes.start, nodes.stop):
            builder.start_node(node - nodes.start)
            feature = int(forest.feature[node])
            if feature < 0:
                leaves = forest.values[forest.leaf[node]].tolist()
                add_leaf(leaves if len(leaves) > 1 else leaves[0])
            else:
                sides: dict[str, Any] = {
                    "default_left": bool(forest.nan_left[node]),
                    "left_child_key": int(forest.left[node]) - nodes.start,
                    "right_child_key": int(forest.right[node]) - nodes.start,
                }
                if forest.subset[node] >= 0:
                    members = forest.subset_of(node).tolist()
                    add_subset(feature, category_list=members, category_list_right_child=False, **sides)
                else:
                    add_split(feature, float(forest.threshold[node]), opname="<=", **sides)
            builder.end_node()
        builder.end_tree()
    made: treelite.Model = builder.commit()
    return made


def _builder(forest: Forest) -> Any:
    build = treelite.model_builder
    outputs, kind = forest.outputs, precision(forest)
    vectors = forest.values.shape[1] > 1
    link = LINKS[forest.link] if is_linked(forest) else "identity_multiclass" if outputs > 1 else "identity"
    return build.ModelBuilder(
        threshold_type=kind,
        leaf_output_type=kind,
        metadata=build.Metadata(
            num_feature=forest.features, task_type="kMultiClf" if outputs > 1 else "kRegressor",
            average_tree_output=False, num_target=1, num_class=[outputs],
            leaf_vector_shape=(1, outputs if vectors else 1),
        ),
        tree_annotation=build.TreeAnnotation(
            num_tree=forest.trees, target_id=[0] * forest.trees,
            class_id=[-1] * forest.trees if vectors else forest.output.tolist(),
        ),
        postprocessor=build.PostProcessorFunc(link, sigmoid_alpha=forest.scale),
        base_scores=[0.0] * outputs,
    )  # fmt: skip
