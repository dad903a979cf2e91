"""XGBoost: a file in JSON or UBJSON, a live `Booster`, or one of the wrappers for scikit-learn."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._lazy import require
from ..errors import NotApplicable, UnsupportedModel
from ..forest import Array, Forest
from ..model import XGBOOST, Model
from . import _ubjson
from ._xgboost_categories import categories
from .trees import MOST_OUTPUTS, TreeFormat, described, file_of, inside, joined, made_by, reading, write

PARAMETERS = "strop parameters"
"""The attribute of a stored model that holds what it was trained with, as JSON: XGBoost's own files do not tell."""

_HEAD = re.compile(rb'\s*\{\s*"(learner|version)"\s*:|\{L\0{7}\x07(learner|version)')
_MOST_CATEGORIES = 1 << 24
_LINKS = {
    **dict.fromkeys(
        ("reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
         "reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map", "binary:logitraw"), "identity",
    ),
    **dict.fromkeys(("binary:logistic", "reg:logistic"), "sigmoid"),
    **dict.fromkeys(
        ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"), "exponential",
    ),
    **dict.fromkeys(("multi:softprob", "multi:softmax"), "softmax"),
}  # fmt: skip


class XgboostFormat(TreeFormat):
    """XGBoost's files and live models, read without loading XGBoost.

    A forest gives what `Booster.predict` gives by default: of all trees, and for a binary classifier the probability of
    the positive class. `inplace_predict` gives the same, but with dart, where it rounds base_score in and out.

    Two things are otherwise. `multi:softmax` gives the probabilities of all classes, of which XGBoost itself only tells
    which is largest. A wrapper whose training stopped early is read, and stored, up to its best iteration, as its own
    `predict` does; a file that it saved holds all trees, and so does its `Booster`.

    Categories are their codes; one between -1 and 0, which XGBoost takes as unknown, counts as 0. What a frame's
    columns held in training is told by the signature where the file does: from XGBoost 3.1 on, and in ASCII. Any other
    value is refused, as XGBoost means to do (3.2 takes one between two that it knows for the next of these).
    """

    name = XGBOOST

    def detects(self, source: object) -> bool:
        path = file_of(source)
        if path is None:
            return made_by(source, "xgboost", "Booster", "XGBModel")
        with path.open("rb") as stream:
            return path.suffix.lower() == ".ubj" or _HEAD.match(stream.read(64)) is not None

    def open(self, source: Any) -> Model:
        """Read the trees.

        Raises:
            UnsupportedModel: It is broken, not fitted, linear, or of an objective that strop does not know.
        """
        payload = source if made_by(source, "xgboost", "Booster", "XGBModel") else file_of(source)
        if payload is None:
            raise UnsupportedModel(f"An XGBoost model is a file in JSON or UBJSON; {source} is none. Check the path.")
        with _parsed(payload) as learner:
            forest = _parse(learner)
            known = categories(_model(learner), forest.names)
        return described(XGBOOST, payload, forest, known, closed=True)

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live object as model.ubj, with what it was trained with; a wrapper up to its best iteration."""
        if model.files:
            return model
        booster = _booster(model.payload).copy()
        booster.set_attr(**{PARAMETERS: json.dumps(_trained_with(model.payload))})
        return self.open(write(bytes(booster.save_raw(raw_format="ubj")), folder / "model.ubj"))

    def forest(self, model: Model) -> Forest:
        return _forest(model.payload)

    def shortened(self, model: Model, folder: Path) -> Model:
        booster = require("xgboost", "trees").Booster(model_file=str(model.path))
        if booster.num_boosted_rounds() < 2:
            raise NotApplicable("it has one round of boosting at the most")
        return self.open(write(bytes(_first(booster, 1).save_raw(raw_format="ubj")), folder / "model.ubj"))


def _content(source: Any) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else bytes(_booster(source).save_raw(raw_format="ubj"))


def _booster(source: Any) -> Any:
    """The `Booster` of a live object, if it is trained."""
    name = type(source).__name__
    try:
        if made_by(source, "xgboost", "XGBModel"):
            if not math.isnan(source.missing):
                raise UnsupportedModel(
                    f"What is missing must be NaN, and this {name} takes {source.missing} for it. Put NaN into the "
                    "data, and give its get_booster() instead."
                )
            source = _until_best(source)
        source.num_boosted_rounds()
        return source
    except ValueError as error:  # what XGBoost's and scikit-learn's own are
        said = str(error).strip().split("\n")[0]
        raise UnsupportedModel(f"A model must be trained, and this {name} is not ({said}). Call fit first.") from error


def _until_best(wrapper: Any) -> Any:
    booster = wrapper.get_booster()
    best = getattr(booster, "best_iteration", None) if wrapper.booster != "gblinear" else None
    return booster if best is None or best + 1 >= booster.num_boosted_rounds() else _first(booster, best + 1)


def _first(booster: Any, rounds: int) -> Any:
    """The first rounds of a `Booster`; XGBoost's own slices forget the categories."""
    part = booster[:rounds]
    if "c" in (booster.feature_types or ()):
        whole, cut = (json.loads(bytes(one.save_raw(raw_format="json"))) for one in (booster, part))
        if known := _model(whole["learner"]).get("cats"):
            _model(cut["learner"])["cats"] = known
            part.load_model(bytearray(json.dumps(cut).encode()))
    return part


def _trained_with(source: Any) -> dict[str, str]:
    """Parameters of a live object's trees, by XGBoost's own names."""
    booster = source.get_booster() if made_by(source, "xgboost", "XGBModel") else source
    found: dict[str, str] = {}
    parts = [json.loads(booster.save_config())["learner"]["gradient_booster"]]
    for part in parts:  # which grows: dart holds a gbtree
        parts += [part[name] for name in part if name == "gbtree"]
        for name in ("gbtree_model_param", "gbtree_train_param", "tree_train_param", "dart_train_param"):
            found |= part.get(name, {})
    return found


def _forest(source: Any) -> Forest:
    with _parsed(source) as learner:
        return _parse(learner)


@contextmanager
def _parsed(source: Any) -> Iterator[Mapping[str, Any]]:
    """What a file or a live object says of its learner; what stumbles over it says that the model is broken."""
    content = _content(source)
    with reading("XGBoost", source), np.errstate(over="ignore", invalid="ignore"):  # beyond float32: refused in the end
        yield (_ubjson.loads(content) if content.startswith(b"{L") else json.loads(content))["learner"]


def _model(learner: Mapping[str, Any]) -> dict[str, Any]:
    booster = learner["gradient_booster"]
    found: dict[str, Any] = booster.get("gbtree", booster)["model"]  # dart holds a gbtree
    return found


def _parse(learner: Mapping[str, Any]) -> Forest:
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        raise UnsupportedModel(
            "An XGBoost model must be of trees, and this one is linear (booster gblinear). Train it with gbtree or "
            "dart."
        )
    inner, model = booster.get("gbtree", booster), _model(learner)
    trees, settings = model["trees"], learner["learner_model_param"]
    size = int(model["gbtree_model_param"]["num_trees"])
    if len(trees) != size or [tree["id"] for tree in trees] != list(range(len(trees))):
        raise ValueError(f"its {len(trees)} trees are not all {size}, or not in order")
    dropped = next((part["weight_drop"] for part in (booster, inner, model) if "weight_drop" in part), None)
    weights = np.ones(len(trees), np.float32) if dropped is None else _numbers(dropped, len(trees), "weight_drop")
    link = _link(learner["objective"]["name"])
    trained = len(trees) or settings.get("boost_from_average") == "0"  # if not, base_score is a stand-in
    base = _base(settings, link if trained else "identity")
    return joined(
        [_tree(tree, weight) for tree, weight in zip(trees, weights, strict=True)],
        _whole(model["tree_info"], len(trees), "tree_info"), base, int(settings["num_feature"]), link=link,
        names=tuple(map(str, learner.get("feature_names", ()))), dtype="float32", sums="float32",
    )  # fmt: skip


def _link(objective: str) -> str:
    if objective not in _LINKS:
        raise UnsupportedModel(
            f"An XGBoost model's objective must be known to strop ({', '.join(sorted(_LINKS))}); this is "
            f"{objective[:40]!r}. Train it with one of these."
        )
    return _LINKS[objective]


def _base(settings: Mapping[str, Any], link: str) -> Array:
    """What the sums begin with: base_score is stored as a result, and becomes a sum as it does in XGBoost."""
    given = json.loads(settings["base_score"])
    given = given if isinstance(given, list) else [given]
    found = _numbers(given, len(given), "base_score")
    outputs = max(int(settings["num_class"]), int(settings.get("num_target", 1)), 1)
    if outputs > MOST_OUTPUTS or len(found) not in (1, outputs):
        raise ValueError(f"base_score has {len(found)} numbers for {outputs} outputs")
    one, least = np.float32(1), np.float32(1e-6)
    if link == "sigmoid":
        found = np.array([-math.log(one / p - one) for p in np.clip(found, least, one - least)], np.float32)
    if link == "exponential":
        found = np.array([math.log(rate) for rate in found], np.float32)
    return found if len(found) == outputs else np.repeat(found, outputs)


def _tree(tree: Mapping[str, Any], weight: np.float32) -> dict[str, Array]:
    size = int(tree["tree_param"]["num_nodes"])
    width = max(int(tree["tree_param"].get("size_leaf_vector", 1)), 1)
    left, right, feature = (
        _whole(tree[name], size, name) for name in ("left_children", "right_children", "split_indices")
    )
    condition, gain, count = (
        _numbers(tree[name], size, name) for name in ("split_conditions", "loss_changes", "sum_hessian")
    )
    default_left = inside(_whole(tree["default_left"], size, "default_left"), 2, "default_left") > 0
    if not size:
        raise ValueError("a tree has no nodes")
    split = left != -1
    subset, members, ends = _categories(tree, size)
    listed = split & (subset >= 0)
    leaf = np.where(split, -1, np.cumsum(~split) - 1)
    values = condition[~split, None]
    if width > 1:  # leaves refer to a table by what is the right child of others
        leaf = np.where(split, -1, right)
        values = _numbers(tree["leaf_weights"], len(tree["leaf_weights"]), "leaf_weights").reshape(-1, width)
    return {
        "feature": np.where(split, feature, -1),
        # x < threshold, as x <= the number before it
        "threshold": np.where(split & ~listed, np.nextafter(condition, np.float32(-np.inf)), 0),
        "left": np.where(listed, right, left),  # a subset goes right in XGBoost
        "right": np.where(listed, left, right),
        "nan_left": split & (default_left ^ listed),
        "zero_missing": np.zeros(size, bool),
        "subset": np.where(listed, subset, -1),
        "leaf": leaf,
        "count": count,
        "gain": np.where(split, gain, np.nan),
        "members": members,
        "member_ends": ends,
        "values": values * weight,
    }


def _categories(tree: Mapping[str, Any], size: int) -> tuple[Array, Array, Array]:
    """The subset of each node, and all subsets' members and ends."""
    subset = np.full(size, -1)
    nodes, starts, sizes, members = (
        _whole(tree.get(name, ()), len(tree.get(name, ())), name)
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    kinds = inside(_whole(tree["split_type"], size, "split_type"), 2, "split_type") if "split_type" in tree else subset
    if not np.array_equal(nodes, np.flatnonzero(kinds == 1)):
        raise ValueError("categories_nodes and split_type differ")
    ends = np.cumsum(sizes)
    if not np.array_equal(starts, ends - sizes) or (sizes < 1).any() or ends.max(initial=0) != len(members):
        raise ValueError("categories are not split up among the nodes")
    inside(members, _MOST_CATEGORIES, "a category")
    first = np.isin(np.arange(1, len(members)), ends)
    if (np.diff(members)[~first] <= 0).any():
        raise ValueError("the categories of a node must ascend")
    subset[nodes] = np.arange(len(nodes))
    return subset, members, ends


def _whole(given: Any, size: int, name: str) -> Array:
    return _listed(given, size, name, "biu").astype(np.int64)


def _numbers(given: Any, size: int, name: str) -> Array:
    return _listed(given, size, name, "iuf").astype(np.float32)


def _listed(given: Any, size: int, name: str, kinds: str) -> Array:
    found = np.asarray(given)
    if found.shape != (size,) or (size and found.dtype.kind not in kinds):
        raise ValueError(f"{name} must be {size} numbers, and is {found.dtype} {found.shape}")
    return found
