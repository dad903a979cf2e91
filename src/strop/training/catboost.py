"""CatBoost: trained anew with the parameters that its file holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..forest import Array, Forest
from ..formats.catboost import MOST_CATEGORIES, CatboostFormat, is_json, with_categories
from ..formats.trees import PROBABILITIES
from ..model import Model
from .trees import Changes, Lesson, Library

if TYPE_CHECKING:
    import catboost
else:
    catboost = lazy("catboost", "trees")

_PARAMETERS = frozenset({  # no others are taken from a file: some name files to write, or devices
    "approx_on_full_history", "auto_class_weights", "bagging_temperature", "bayesian_matrix_reg", "boost_from_average",
    "boosting_type", "bootstrap_type", "border_count", "class_weights", "combinations_ctr", "counter_calc_method",
    "ctr_leaf_count_limit", "depth", "diffusion_temperature", "feature_border_type",
    "feature_weights", "first_feature_use_penalties", "fold_len_multiplier", "fold_permutation_block", "grow_policy",
    "has_time", "ignored_features", "l2_leaf_reg", "langevin", "leaf_estimation_backtracking",
    "leaf_estimation_iterations", "leaf_estimation_method", "learning_rate", "loss_function", "model_shrink_mode",
    "model_shrink_rate", "model_size_reg", "monotone_constraints", "mvs_reg", "nan_mode", "one_hot_max_size",
    "penalties_coefficient", "per_object_feature_penalties", "permutation_count", "posterior_sampling",
    "random_score_type", "random_strength", "rsm", "sampling_frequency", "score_function", "simple_ctr", "subsample",
})  # fmt: skip
_CLASSES = {"Logloss": 2, "Focal": 2, "MultiClass": 0, "MultiClassOneVsAll": 0}  # 0: as many as there are outputs
_RANKING = ("GroupQuantile", "LambdaMart", "PairLogit", "Query", "Stochastic", "YetiRank")
_DEEPEST = 16
_SYMMETRIC = "SymmetricTree"


class Catboost(Library):
    """Takes parameters from a file's own; columns of categories are those of the original."""

    module: ClassVar[str] = "catboost"

    def train(self, original: Model, forest: Forest, lesson: Lesson, changes: Changes) -> Forest:
        booster = _loaded(original)
        lesson = _of_categories(lesson, booster.get_cat_feature_indices())
        given = booster.get_all_params()
        loss = str(given.get("loss_function", "")).split(":")[0]
        if not loss or loss.startswith("PythonUserDefined"):
            raise NotApplicable("it was trained on a loss of its own, or its file does not tell which")
        if loss == "SurvivalAft":
            raise NotApplicable("it was trained on bounds of its labels, which the train data do not hold")
        ranked = loss.startswith(_RANKING)
        if ranked:
            lesson, _ = lesson.by_group()
        labels = lesson.numbers()
        classes = {}
        if loss in _CLASSES:
            labels = lesson.classes(_CLASSES[loss] or forest.outputs)
            classes = {"classes_count": forest.outputs} if forest.outputs > 1 else {}
        rounds = max(1, round(booster.tree_count_ * changes.rounds))
        fixed = {
            "iterations": rounds, "thread_count": lesson.threads, "random_seed": lesson.seed, "verbose": 0,
            "allow_writing_files": False, "max_ctr_complexity": 1,  # statistics of several columns are more than trees
        }  # fmt: skip
        groups = np.unique(np.asarray(lesson.groups), return_inverse=True)[1] if ranked else None
        tick = _Tick(lesson, rounds)
        with _refusing():
            made = catboost.CatBoost({**_changed(given, forest, changes), **classes, **fixed})
            made.fit(_pool(booster, lesson.x, labels, groups), callbacks=[tick])
        if tick.late:
            raise tick.late
        room = CatboostFormat()
        return room.forest(room.open(made))

    def contributions(self, original: Model, x: Array) -> Array:
        booster = _loaded(original)
        with _refusing():
            found = np.asarray(booster.get_feature_importance(_pool(booster, x), type="ShapValues"))
        return np.asarray(np.abs(found.reshape(len(x), -1, x.shape[1] + 1)[..., :-1]).mean(axis=(0, 1)))


class _Tick:
    """CatBoost's callback, which may not raise: it says whether to go on."""

    def __init__(self, lesson: Lesson, rounds: int):
        self.lesson, self.rounds = lesson, rounds
        self.late: TimeoutError | None = None

    def after_iteration(self, info: Any) -> bool:
        try:
            self.lesson.tick(info.iteration, self.rounds)
        except TimeoutError as error:
            self.late = error
        return self.late is None


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns what CatBoost does not train on into a refusal."""
    try:
        yield
    except catboost.CatBoostError as error:
        raise NotApplicable(f"CatBoost does not train it anew: {str(error).splitlines()[0]}") from error


def _loaded(original: Model) -> Any:
    booster = catboost.CatBoost()
    with _refusing():
        booster.load_model(str(original.path), "json" if is_json(original.path) else "cbm")
    return booster


def _of_categories(lesson: Lesson, columns: Sequence[int]) -> Lesson:
    """The samples whose categories are some: a file of CatBoost's that knows others can't be read."""
    codes = lesson.x[:, columns]
    good = ((codes >= 0) & (codes < MOST_CATEGORIES)).all(axis=1)
    if good.all():
        return lesson
    lesson.tell(f"{(~good).sum():,} samples are left out of training: a category of theirs is no whole number from 0")
    labels, groups = (part if part is None else part[good] for part in (lesson.labels, lesson.groups))
    return replace(lesson, x=lesson.x[good], labels=labels, groups=groups)


def _pool(booster: Any, x: Array, labels: Array | None = None, groups: Array | None = None) -> Any:
    categories = booster.get_cat_feature_indices()
    rows = with_categories(x, categories) if categories else x
    return catboost.Pool(rows, labels, cat_features=categories, group_id=groups)


def _changed(given: Mapping[str, Any], forest: Forest, changes: Changes) -> dict[str, Any]:
    """The parameters that one may give to CatBoost, of all that a model tells it was trained with."""
    found = {name: value for name, value in given.items() if name in _PARAMETERS}
    policy, depth = given.get("grow_policy", _SYMMETRIC), given.get("depth", 6)
    if forest.link in PROBABILITIES:  # whose borders are between classes, and may not be given
        for name in {"simple_ctr", "combinations_ctr"} & found.keys():
            found[name] = [re.sub(r":TargetBorder\w+=\w+", "", one) for one in found[name]]
    if found.get("auto_class_weights", "None") != "None":
        found.pop("class_weights", None)  # which these were
    found["learning_rate"] = min(1.0, given.get("learning_rate", 0.03) * changes.rate)
    if policy == "Lossguide":
        found["max_leaves"] = max(2, round(given.get("max_leaves", 31) * changes.leaves))
    else:
        found["depth"] = min(_DEEPEST, max(1, round(depth + np.log2(changes.leaves))))
    if policy != _SYMMETRIC:
        found["min_data_in_leaf"] = max(1, round(given.get("min_data_in_leaf", 1) * changes.least))
    return found
