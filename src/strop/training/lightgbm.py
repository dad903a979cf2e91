"""LightGBM: trained anew with the parameters that its file holds, or taught by the scores of any forest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.lightgbm import LightgbmFormat
from ..model import Model
from .trees import Changes, Lesson, Library

if TYPE_CHECKING:
    import lightgbm
else:
    lightgbm = lazy("lightgbm", "trees")

_PARAMETERS = frozenset({  # no others are taken from a file: some name files to read, or hosts to call
    "alpha", "bagging_by_query", "bagging_fraction", "bagging_freq", "bin_construct_sample_cnt", "boost_from_average",
    "boosting", "cat_l2", "cat_smooth", "cegb_penalty_feature_coupled", "cegb_penalty_feature_lazy",
    "cegb_penalty_split", "cegb_tradeoff", "data_sample_strategy", "drop_rate", "extra_trees", "fair_c",
    "feature_contri", "feature_fraction", "feature_fraction_bynode", "force_col_wise", "force_row_wise",
    "interaction_constraints", "is_unbalance", "label_gain", "lambda_l1", "lambda_l2", "lambdarank_norm",
    "lambdarank_truncation_level", "learning_rate", "max_bin", "max_bin_by_feature", "max_cat_threshold",
    "max_cat_to_onehot", "max_delta_step", "max_depth", "max_drop", "min_data_in_bin", "min_data_in_leaf",
    "min_data_per_group", "min_gain_to_split", "min_sum_hessian_in_leaf", "monotone_constraints",
    "monotone_constraints_method", "monotone_penalty", "neg_bagging_fraction", "num_class",
    "num_grad_quant_bins", "num_leaves", "objective", "other_rate", "path_smooth", "poisson_max_delta_step",
    "pos_bagging_fraction", "quant_train_renew_leaf", "reg_sqrt", "scale_pos_weight", "sigmoid", "skip_drop",
    "stochastic_rounding", "top_rate", "tweedie_variance_power", "uniform_drop", "use_missing",
    "use_quantized_grad", "xgboost_dart_mode", "zero_as_missing",
})  # fmt: skip
_CLASSES = {"binary": 2, "multiclass": 0, "multiclassova": 0}  # 0: as many as there are outputs


class Lightgbm(Library):
    """Takes parameters from the block at the end of a file; without one, what the trees tell, and defaults."""

    module: ClassVar[str] = "lightgbm"

    def train(self, original: Model, forest: Forest, lesson: Lesson, changes: Changes) -> Forest:
        given = lightgbm.Booster(model_file=str(original.path)).params
        if not given:
            lesson.tell(
                "its file holds no parameters: rate and leaves are as its trees tell, all else LightGBM's default"
            )
            given = _inferred(original.path, forest)
        objective = str(given.get("objective", "custom"))
        if objective in ("custom", "none"):
            raise NotApplicable("it was trained with an objective of its own, which its file does not hold")
        sizes = None
        if objective in ("lambdarank", "rank_xendcg"):
            lesson, sizes = lesson.by_group()
        labels = lesson.numbers()
        if objective in _CLASSES:
            labels = lesson.classes(_CLASSES[objective] or forest.outputs)
        parameters = {name: value for name, value in given.items() if name in _PARAMETERS} | {
            "num_leaves": max(2, round(given.get("num_leaves", 31) * changes.leaves)),
            "learning_rate": min(1.0, given.get("learning_rate", 0.1) * changes.rate),
            "min_data_in_leaf": max(1, round(given.get("min_data_in_leaf", 20) * changes.least)),
        }
        rounds = max(1, round(forest.trees // forest.outputs * changes.rounds))
        return _trained(parameters, lesson, labels, rounds, sizes)

    def contributions(self, original: Model, x: Array) -> Array:
        booster = lightgbm.Booster(model_file=str(original.path))
        found = np.asarray(booster.predict(x, pred_contrib=True))
        return np.asarray(np.abs(found.reshape(len(x), -1, x.shape[1] + 1)[..., :-1]).mean(axis=(0, 1)))


def taught(lesson: Lesson, scores: Array, rounds: int, leaves: int, rate: float) -> list[Forest]:
    """Regression trees on scores [samples, outputs], a forest for each of them."""
    parameters = {
        "objective": "regression", "num_leaves": leaves, "learning_rate": rate,
        "min_data_in_leaf": max(20, len(lesson.x) // 5000), "cat_l2": 0.0, "cat_smooth": 1.0, "min_data_per_group": 20,
    }  # fmt: skip
    outputs = scores.shape[1]

    def one(output: int) -> Forest:
        tick = lambda done, total: lesson.tick(output * total + done, outputs * total)  # noqa: E731
        return _trained(parameters, replace(lesson, tick=tick), scores[:, output], rounds)

    return [one(output) for output in range(outputs)]


def _trained(
    parameters: Mapping[str, Any], lesson: Lesson, labels: Array, rounds: int, sizes: Array | None = None
) -> Forest:
    ways = {"force_col_wise", "force_row_wise"}
    fixed = {
        "num_threads": lesson.threads, "seed": lesson.seed, "deterministic": True, "verbosity": -1, "metric": "None",
        **({} if any(parameters.get(way) for way in ways) else {"force_col_wise": True}),
    }  # fmt: skip
    data = lightgbm.Dataset(
        lesson.x, labels, group=sizes, categorical_feature=list(lesson.categorical), free_raw_data=True
    )

    def after(step: Any) -> None:
        lesson.tick(step.iteration + 1, rounds)

    booster = lightgbm.train({**parameters, **fixed}, data, rounds, callbacks=[after])
    room = LightgbmFormat()
    return room.forest(room.open(booster))


def _inferred(file: Path, forest: Forest) -> dict[str, Any]:
    """What a file without parameters tells: objective, learning rate, leaves."""
    found: dict[str, str] = {}
    with file.open() as stream:
        for line in stream:
            key, _, value = line.strip().partition("=")
            found[key] = value
    name, *settings = found.get("objective", "custom").split()
    told = dict(setting.partition(":")[::2] for setting in settings)
    leaves = np.bincount(forest.tree[(forest.tree >= 0) & (forest.feature < 0)], minlength=1)
    return {
        "objective": name,
        "num_leaves": max(2, int(leaves.max())),
        "learning_rate": float(found.get("shrinkage", 0.1)),  # of the last tree
        "boosting": "rf" if forest.divisor != 1 else "gbdt",
        **({"bagging_freq": 1, "bagging_fraction": 0.632} if forest.divisor != 1 else {}),
        **{key: float(told[key]) for key in ("sigmoid", "alpha") if key in told},
        **({"num_class": int(told["num_class"])} if "num_class" in told else {}),
        **({"reg_sqrt": True} if "sqrt" in told else {}),
    }
