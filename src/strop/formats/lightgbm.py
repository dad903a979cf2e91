"""LightGBM: a text file, a live `Booster`, or one of the wrappers for scikit-learn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import NotApplicable, UnsupportedModel
from ..forest import ZERO, Array, Forest
from ..model import LIGHTGBM, Model
from ._lightgbm_categories import categories
from .trees import MOST_OUTPUTS, TreeFormat, classes_of, described, file_of, inside, joined, made_by, reading, write

_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 1, 2, 2  # of decision_type: two bits, and where the kind of missing begins
_ZERO, _NAN = 1, 2
_DECISIONS = 12
_ROOTS = ("regression", "regression_l1", "quantile", "fair", "mape")  # may be trained on the root of their target
_LINKS = {
    **dict.fromkeys((*_ROOTS, "huber", "lambdarank", "rank_xendcg", "custom"), "identity"),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exponential"),
    **dict.fromkeys(("binary", "cross_entropy", "multiclassova"), "sigmoid"),
    "cross_entropy_lambda": "log of one and exponential",
    "multiclass": "softmax",
}


class LightgbmFormat(TreeFormat):
    """LightGBM's text files and live models, read without loading LightGBM.

    A forest gives what `Booster.predict` gives by default: up to the best iteration, where training stopped early; of a
    classifier, the probability of the positive class, or one of every class.

    Categories are their codes. What a frame's columns held in training, in the order of `Booster.pandas_categorical`,
    is told by the signature; a value that is none of these is missing, as it is to `Booster.predict`.
    """

    name = LIGHTGBM

    def detects(self, source: object) -> bool:
        path = file_of(source)
        if path is None:
            return made_by(source, "lightgbm", "Booster", "LGBMModel")
        with path.open("rb") as stream:
            return stream.read(6).split(b"\n")[0].rstrip(b"\r") == b"tree"

    def open(self, source: Any) -> Model:
        """Read the trees.

        Raises:
            UnsupportedModel: It is broken, not fitted, or has linear trees.
        """
        payload = source if made_by(source, "lightgbm", "Booster", "LGBMModel") else file_of(source)
        if payload is None:
            raise UnsupportedModel(f"A LightGBM model is a text file; {source} is none. Check the path.")
        content = _content(payload)
        with reading("LightGBM", payload):
            forest = _parse(content.decode())
            known = categories(content.decode(), forest.names)
        # a file does not hold the labels that a wrapper was trained with
        classes = classes_of(payload) if made_by(payload, "lightgbm", "LGBMClassifier") else ()
        return described(LIGHTGBM, payload, forest, known, classes=classes)

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live object as model.txt, up to its best iteration."""
        if model.files:
            return model
        return replace(self.open(write(_content(model.payload), folder / "model.txt")), signature=model.signature)

    def forest(self, model: Model) -> Forest:
        return _forest(model.payload)

    def shortened(self, model: Model, folder: Path) -> Model:
        return self.open(write(_first_round(model.path.read_text()).encode(), folder / "model.txt"))


def _content(source: Any) -> bytes:
    if isinstance(source, Path):
        return source.read_bytes()
    if made_by(source, "lightgbm", "LGBMModel"):
        if not source.__sklearn_is_fitted__():
            raise UnsupportedModel(f"A model must be trained, and this {type(source).__name__} is not. Call fit first.")
        source = source.booster_
    return bytes(source.model_to_string().encode())


def _forest(source: Any) -> Forest:
    content = _content(source)
    with reading("LightGBM", source):
        return _parse(content.decode())


def _parse(text: str) -> Forest:
    first, *lines = text.replace("\r\n", "\n").split("\n")
    if first != "tree":
        raise ValueError(f"its first line is {first[:20]!r}, and must be 'tree'")
    if "end of trees" not in lines:
        raise ValueError("it does not say 'end of trees'")
    sections: list[dict[str, str]] = [{}]
    for line in lines[: lines.index("end of trees")]:
        if line.startswith("Tree="):
            sections.append({})
        key, _, value = line.partition("=")
        sections[-1][key] = value
    header, *trees = sections
    if "tree_sizes" in header and len(sizes := header["tree_sizes"].split()) != len(trees):
        raise ValueError(f"it lists {len(sizes)} trees, and holds {len(trees)}")
    each = int(header.get("num_tree_per_iteration", header["num_class"]))
    if not 1 <= each <= MOST_OUTPUTS or len(trees) % each:
        raise ValueError(f"it has {len(trees)} trees and num_tree_per_iteration is {each}")
    features = int(header["max_feature_idx"]) + 1
    names = tuple(header["feature_names"].split(" "))
    if len(names) != features:
        raise ValueError(f"it has {features} features and {len(names)} feature_names")
    made_up = all(name == f"Column_{place}" for place, name in enumerate(names))
    link, scale = _link(header.get("objective", "custom").split(), each)
    return joined(
        [_tree(tree) for tree in trees], np.arange(len(trees)) % each, np.zeros(each), features,
        names=() if made_up else names, divisor=len(trees) // each if "average_output" in header else 1.0,
        link=link, scale=scale,
    )  # fmt: skip


def _first_round(text: str) -> str:
    """The same file with the trees of the first round only."""
    head, *trees = re.split(r"^(?=Tree=\d+$)", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    found = re.search(r"^num_tree_per_iteration=(\d+)$", head, re.MULTILINE)
    each = int(found[1]) if found else len(trees)
    if len(trees) <= each:
        raise NotApplicable("it has one round of boosting at the most")
    _, ending, rest = text.partition("end of trees")
    sizes = " ".join(str(len(tree)) for tree in trees[:each])
    head = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", head, flags=re.MULTILINE)
    return "".join([head, *trees[:each], ending, rest])


def _link(objective: list[str], outputs: int) -> tuple[str, float]:
    name = objective[0]
    if name not in _LINKS:
        known = ", ".join(sorted(_LINKS))
        raise UnsupportedModel(
            f"A LightGBM model's objective must be known to strop ({known}); this is {name[:40]!r}. Train it with one "
            "of these, or save it without its objective line if raw scores will do."
        )
    settings = dict(setting.partition(":")[::2] for setting in objective[1:])
    if outputs != (int(settings["num_class"]) if name.startswith("multiclass") else 1) and name != "custom":
        raise ValueError(f"objective {' '.join(objective)!r} does not go with {outputs} trees per iteration")
    scale = float(settings["sigmoid"]) if name in ("binary", "multiclassova") else 1.0
    if not 0 < scale < np.inf:
        raise ValueError(f"sigmoid is {scale}, and must be above 0")
    return "signed square" if name in _ROOTS and "sqrt" in settings else _LINKS[name], scale


def _tree(given: Mapping[str, str]) -> dict[str, Array]:
    if given.get("is_linear", "0") not in ("0", ""):
        raise UnsupportedModel(
            "The leaves of a tree must be numbers, and this LightGBM model has linear trees. Train it with "
            "linear_tree=false."
        )
    leaves = int(given["num_leaves"])
    values = _numbers(given, "leaf_value", leaves)
    if not len(values):
        raise ValueError("a tree has no leaves")
    splits = leaves - 1
    decision = inside(_whole(given, "decision_type", splits, 0), _DECISIONS, "a decision_type")
    kind, default_left = decision >> _MISSING, (decision & _DEFAULT_LEFT) > 0
    categorical = (decision & _CATEGORICAL) > 0
    given_threshold = _numbers(given, "threshold", splits)
    subset, members, ends = _categories(given, given_threshold, categorical)
    threshold = _threshold(np.where(categorical, 0, given_threshold))
    nan_left = np.where(kind == 0, threshold >= 0, default_left) & ~categorical  # without a kind, NaN is zero
    zero_missing = (kind == _ZERO) & ~categorical
    children = {side: _child(_whole(given, f"{side}_child", splits), splits) for side in ("left", "right")}
    nodes = {
        "feature": (_whole(given, "split_feature", splits), -1),
        "threshold": (threshold, 0),
        "left": (children["left"], -1),
        "right": (children["right"], -1),
        "nan_left": (nan_left, False),
        "zero_missing": (zero_missing, False),
        "subset": (subset, -1),
        "leaf": (np.full(splits, -1), np.arange(leaves)),
        "count": (_numbers(given, "internal_count", splits, np.nan), _numbers(given, "leaf_count", leaves, np.nan)),
        "gain": (_numbers(given, "split_gain", splits, np.nan), np.nan),
    }
    joint = {key: np.r_[inner, np.broadcast_to(np.asarray(leaf), leaves)] for key, (inner, leaf) in nodes.items()}
    return {**joint, "members": members, "member_ends": ends, "values": values[:, None]}


def _child(given: Array, splits: int) -> Array:
    """Leaves are numbered from -1 down in the file, and after the splits here."""
    inside(given[given >= 0], splits, "a child")
    return np.where(given < 0, splits - 1 - given, given)


def _threshold(given: Array) -> Array:
    """Move thresholds that LightGBM would compare with zero (it takes all within `ZERO` as zero) out of its reach."""
    near = np.abs(given) <= ZERO
    return np.where(near, np.where(given >= 0, ZERO, np.nextafter(-ZERO, -np.inf)), given)


def _categories(given: Mapping[str, str], place: Array, categorical: Array) -> tuple[Array, Array, Array]:
    """The subset of each split, and all subsets' members and ends, of bits."""
    subset = np.full(len(place), -1)
    if not categorical.any():
        return subset, np.zeros(0, np.int64), np.zeros(0, np.int64)
    bounds = given["cat_boundaries"].split()
    ends = _whole(given, "cat_boundaries", len(bounds))
    subset[categorical] = inside(place[categorical], len(ends) - 1, "the subset of a node")
    words = inside(_whole(given, "cat_threshold", int(ends[-1])), 1 << 32, "cat_threshold")
    if ends[0] != 0 or (np.diff(ends) < 0).any():
        raise ValueError("cat_boundaries must ascend from 0")
    bit = np.flatnonzero(np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little"))
    of = np.searchsorted(ends[1:], bit >> 5, side="right")
    return subset, bit - 32 * ends[of], np.searchsorted(bit, 32 * ends[1:])


def _numbers(given: Mapping[str, str], key: str, size: int, missing: float | None = None) -> Array:
    return _listed(given, key, size, missing, np.float64)


def _whole(given: Mapping[str, str], key: str, size: int, missing: int | None = None) -> Array:
    return _listed(given, key, size, missing, np.int64)


def _listed(given: Mapping[str, str], key: str, size: int, missing: float | None, dtype: type) -> Array:
    """The numbers after a key; `missing` of them where the file may leave them out."""
    if size == 0 or (missing is not None and key not in given):
        return np.full(size, missing or 0, dtype)
    words = given[key].split()
    if len(words) != size:
        raise ValueError(f"{key} holds {len(words)} numbers, and must hold {size}")
    return np.array([*map(int if dtype is np.int64 else float, words)], dtype)
