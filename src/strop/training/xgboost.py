"""XGBoost: trained anew with the parameters that were kept with it, or that its trees tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.xgboost import PARAMETERS, XgboostFormat
from ..model import Model
from .trees import Changes, Lesson, Library

if TYPE_CHECKING:
    import xgboost
else:
    xgboost = lazy("xgboost", "trees")

_PARAMETERS = frozenset({
    "alpha", "colsample_bylevel", "colsample_bynode", "colsample_bytree", "eta", "gamma", "grow_policy",
    "interaction_constraints", "lambda", "max_bin", "max_cat_threshold", "max_cat_to_onehot", "max_delta_step",
    "max_depth", "max_leaves", "min_child_weight", "monotone_constraints", "normalize_type", "num_parallel_tree",
    "one_drop", "rate_drop", "sample_type", "sampling_method", "skip_drop", "subsample", "tree_method",
})  # fmt: skip
_CLASSES = {"binary:logistic": 2, "binary:logitraw": 2, "multi:softprob": 0, "multi:softmax": 0}
_ALIKE = 0.01  # relative difference of learning rates that are the same
_MOST_CATEGORIES = 1 << 24


class Xgboost(Library):
    """Takes parameters that strop kept with a live model; of a file, what its trees tell, and defaults."""

    module: ClassVar[str] = "xgboost"

    def train(self, original: Model, forest: Forest, lesson: Lesson, changes: Changes) -> Forest:
        booster = xgboost.Booster(model_file=str(original.path))
        content = json.loads(bytes(booster.save_raw("json")))["learner"]
        parameters = _parameters(content, booster.attr(PARAMETERS), forest, lesson.tell)
        objective = str(parameters["objective"])
        if objective == "survival:aft":
            raise NotApplicable("it was trained on bounds of its labels, which the train data do not hold")
        if objective.startswith("rank:"):
            lesson, _ = lesson.by_group()
        labels = lesson.numbers()
        if objective in _CLASSES:
            labels = lesson.classes(_CLASSES[objective] or forest.outputs)
        rounds = max(1, round(booster.num_boosted_rounds() * changes.rounds))
        data = _matrix(lesson, labels, ranked=objective.startswith("rank:"))

        class Tick(xgboost.callback.TrainingCallback):
            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                lesson.tick(epoch + 1, rounds)
                return False

        fixed = {"nthread": lesson.threads, "seed": lesson.seed, "verbosity": 0, "disable_default_eval_metric": True}
        made = xgboost.train({**_changed(parameters, changes), **fixed}, data, rounds, callbacks=[Tick()])
        room = XgboostFormat()
        return room.forest(room.open(made))

    def contributions(self, original: Model, x: Array) -> Array:
        booster = xgboost.Booster(model_file=str(original.path))
        types = booster.feature_types
        data = xgboost.DMatrix(x, feature_names=booster.feature_names, feature_types=types, enable_categorical=True)
        found = booster.predict(data, pred_contribs=True)
        return np.asarray(np.abs(found.reshape(len(x), -1, x.shape[1] + 1)[..., :-1]).mean(axis=(0, 1)))


def _matrix(lesson: Lesson, labels: Array, ranked: bool) -> Any:
    types = ["c" if column in lesson.categorical else "q" for column in range(lesson.x.shape[1])]
    bounds = np.finfo(np.float32)  # XGBoost refuses infinity, which is on the same side of all thresholds as these
    x = np.clip(lesson.x, bounds.min, bounds.max)
    for column in lesson.categorical:
        x[~((x[:, column] >= 0) & (x[:, column] < _MOST_CATEGORIES)), column] = np.nan
    groups = np.unique(np.asarray(lesson.groups), return_inverse=True)[1] if ranked else None
    weights = np.zeros(lesson.x.shape[1])
    weights[lesson.kept] = 1  # where columns are drawn, what is blank is not
    return xgboost.DMatrix(
        x, labels, feature_types=types, enable_categorical=True, qid=groups, feature_weights=weights,
        nthread=lesson.threads,
    )  # fmt: skip


def _changed(parameters: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    depth, leaves = int(float(parameters.get("max_depth", 6))), int(float(parameters.get("max_leaves", 0)))
    return {
        **parameters,
        "max_depth": max(1, round(depth + np.log2(changes.leaves))) if depth else 0,
        "max_leaves": max(2, round(leaves * changes.leaves)) if leaves else 0,
        "eta": min(1.0, float(parameters.get("eta", 0.3)) * changes.rate),
        "min_child_weight": float(parameters.get("min_child_weight", 1)) * changes.least,
    }


def _parameters(
    learner: Mapping[str, Any], kept: str | None, forest: Forest, tell: Callable[[str], None]
) -> dict[str, Any]:
    """What it was trained with.

    A live model that was itself loaded from a file tells defaults for what it does not know; its learning rate gives
    that away, for the trees tell it too.
    """
    booster, settings = learner["gradient_booster"], learner["learner_model_param"]
    inner = booster.get("gbtree", booster)["model"]
    objective = dict(learner["objective"])
    known: dict[str, Any] = {"objective": objective.pop("name"), "booster": booster["name"]}
    for part in objective.values():
        known |= part if isinstance(part, Mapping) else {}
    if settings.get("boost_from_average") == "0":  # given, and not had from the data
        known["base_score"] = settings["base_score"]
    if forest.values.shape[1] > 1:
        known["multi_strategy"] = "multi_output_tree"
    known["num_parallel_tree"] = inner["gbtree_model_param"].get("num_parallel_tree", "1")
    told = _told(inner["trees"])
    stored = {name: value for name, value in json.loads(kept or "{}").items() if name in _PARAMETERS}
    rate = told.get("eta")
    if stored and (rate is None or abs(float(stored.get("eta", "nan")) - rate) < _ALIKE * rate):
        return {**known, **stored}
    tell(f"its file holds no parameters: {', '.join([*told, 'depth'])} as its trees tell, all else XGBoost's default")
    return {**known, **told, "max_depth": max(1, int(forest.depth.max(initial=1)))}


def _told(trees: list[Mapping[str, Any]]) -> dict[str, float]:
    """Learning rate and L2 term that trees were made with, where all is as these two say.

    The sum of gradients in a split is that of its two sides, and a node's weight w = G / (H + lambda) is stored, of a
    leaf times eta (Chen and Guestrin 2016, equation 5): for each split above two leaves,
    w H = -lambda w + a / eta + b lambda / eta, where a = sum of leaf x H, b = sum of leaves.
    """
    rows, values = [], []
    for tree in trees:
        weight, hessian = (np.array(tree[name], np.float64) for name in ("base_weights", "sum_hessian"))
        left, right = (np.array(tree[name], np.int64) for name in ("left_children", "right_children"))
        if not (len(weight) == len(hessian) == len(left) == len(right)):
            return {}  # of vectors
        splits = np.flatnonzero(left >= 0)
        splits = splits[(left[left[splits]] < 0) & (left[right[splits]] < 0)]
        sides = (left[splits], right[splits])
        a = sum(weight[side] * hessian[side] for side in sides)
        b = sum(weight[side] for side in sides)
        rows.append(np.stack([-weight[splits], a, b], axis=1))
        values.append(weight[splits] * hessian[splits])
    x, y = np.concatenate([np.zeros((0, 3)), *rows]), np.concatenate([np.zeros(0), *values])
    if len(y) < 3:
        return {}
    (l2, pace, both), *_ = np.linalg.lstsq(x, y)
    wrong = np.abs(x @ [l2, pace, both] - y).mean() > _ALIKE * np.abs(y).mean()
    if wrong or pace < 1 - _ALIKE or abs(both - l2 * pace) > _ALIKE * max(1.0, abs(both)):
        return {}
    return {"eta": round(min(1.0, 1 / pace), 4), "lambda": round(max(0.0, l2), 3)}
