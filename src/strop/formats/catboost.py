"""CatBoost: a `.cbm` file, its export in JSON, or a live model."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._lazy import require
from ..errors import NotApplicable, UnsupportedModel
from ..forest import Array, Forest
from ..model import CATBOOST, Model
from . import _catboost_json, _cbm, _cityhash
from ._catboost import Parts, loss_of
from .trees import TreeFormat, described, file_of, joined, made_by, reading, unless_numbers, write

MOST_CATEGORIES = _cityhash.MOST
"""Categories are whole numbers below this."""

_JSON = re.compile(rb'\s*\{\s*"(ctr_data|features_info|oblivious_trees)"\s*:')
_LINKS = {
    **dict.fromkeys(("Logloss", "CrossEntropy", "Focal"), "sigmoid of two"),
    **dict.fromkeys(("MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy"), "sigmoid"),
    "MultiClass": "softmax",
    **dict.fromkeys(("Poisson", "Tweedie"), "exponential"),
    **dict.fromkeys(
        ("RMSE", "MAE", "Quantile", "MultiQuantile", "Expectile", "LogLinQuantile", "MAPE", "Lq", "Huber", "LogCosh",
         "RMSPE", "MultiRMSE", "MultiRMSEWithMissingValues", "SurvivalAft", "Cox", "YetiRank", "YetiRankPairwise",
         "PairLogit", "PairLogitPairwise", "QueryRMSE", "QuerySoftMax", "QueryCrossEntropy", "StochasticRank",
         "StochasticFilter", "LambdaMart", "GroupQuantile", "PythonUserDefinedPerObject",
         "PythonUserDefinedMultiTarget", ""), "identity",
    ),
}  # fmt: skip


class CatboostFormat(TreeFormat):
    """CatBoost's files and live models, read without loading CatBoost.

    A forest gives what `CatBoostClassifier.predict_proba` gives of a model that was trained on a loss of classes: one
    column for each; of any other, what `CatBoostRegressor.predict` gives: for Poisson and Tweedie, the exponential. A
    loss of one's own has its sums as they are. Which class of CatBoost's a live model has does not matter, as its file
    does not tell.

    Categories are whole numbers from 0 up, in the one matrix of all columns. A category that training has not seen, be
    it NaN, is like any other such. Of text, a file only holds hashes, and no table of them: it is refused. Target
    statistics of a column of categories become subsets of these; those that combine columns are more than trees, and
    refused.
    """

    name = CATBOOST

    def detects(self, source: object) -> bool:
        path = file_of(source)
        if path is None:
            return made_by(source, "catboost", "CatBoost")
        with path.open("rb") as stream:
            first = stream.read(64)
        return path.suffix.lower() == ".cbm" or first.startswith(_cbm.MAGIC) or _JSON.match(first) is not None

    def open(self, source: Any) -> Model:
        """Read the trees.

        Raises:
            UnsupportedModel: It is broken, not fitted, of a loss that strop does not know, or more than trees.
        """
        payload = source if made_by(source, "catboost", "CatBoost") else file_of(source)
        if payload is None:
            raise UnsupportedModel(
                f"A CatBoost model is a .cbm file, or one in JSON; {source} is none. Check the path."
            )
        with _parsed(payload) as parts:
            forest = _joined(parts)
            classes = unless_numbers(parts.classes)
        return described(CATBOOST, payload, forest, classes=classes if len(classes) == forest.width else ())

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live object as model.cbm."""
        return model if model.files else self.open(write(_content(model.payload), folder / "model.cbm"))

    def forest(self, model: Model) -> Forest:
        return _forest(model.payload)

    def shortened(self, model: Model, folder: Path) -> Model:
        booster = require("catboost", "trees").CatBoost()
        booster.load_model(str(model.path), "json" if is_json(model.path) else "cbm")
        if booster.tree_count_ < 2:
            raise NotApplicable("it has one tree at the most")
        booster.shrink(1)
        return self.open(write(_content(booster), folder / "model.cbm"))


def prediction_type(info: Mapping[str, Any]) -> str:
    """CatBoost's name of what a forest gives, by the metadata of its model."""
    return {"identity": "RawFormulaVal", "exponential": "Exponent"}.get(_link(loss_of(info)), "Probability")


def is_json(path: Path) -> bool:
    """Whether a model's file is the export in JSON."""
    with path.open("rb") as stream:
        return not stream.read(len(_cbm.MAGIC)).startswith(_cbm.MAGIC)


def with_categories(x: Array, columns: Sequence[int]) -> Array:
    """Rows of objects, as CatBoost takes them: no category may be a fraction, and -1 stands for what is none.

    Args:
        x: [samples, features].
        columns: Those of categories.
    """
    found = np.empty(x.shape, object)
    found[:] = x
    codes = x[:, columns]
    with np.errstate(invalid="ignore"):
        found[:, columns] = np.where(np.abs(codes) < 2**31, np.trunc(codes), -1).astype(np.int64)
    return found


def _content(source: Any) -> bytes:
    if isinstance(source, Path):
        return source.read_bytes()
    if not source.is_fitted():
        raise UnsupportedModel(f"A model must be trained, and this {type(source).__name__} is not. Call fit first.")
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        source.save_model(f"{scratch}/model.cbm")
        return Path(scratch, "model.cbm").read_bytes()


def _forest(source: Any) -> Forest:
    with _parsed(source) as parts:
        return _joined(parts)


@contextmanager
def _parsed(source: Any) -> Iterator[Parts]:
    """What a file or a live object holds; what stumbles over it says that the model is broken."""
    content = _content(source)
    with reading("CatBoost", source), np.errstate(over="ignore", invalid="ignore"):
        yield _cbm.read(content) if content.startswith(_cbm.MAGIC) else _catboost_json.read(json.loads(content))


def _joined(parts: Parts) -> Forest:
    if not parts.trees:
        raise UnsupportedModel(
            "A CatBoost model must have trees, and this one has none: CatBoost can't predict with it."
        )
    features = max(parts.names, default=-1) + 1
    told = range(features if any(parts.names.values()) else 0)
    trees = [{**tree, "values": tree["values"] * parts.scale} for tree in parts.trees]
    return joined(
        trees, np.zeros(len(trees), np.int64), parts.bias, features, link=_link(parts.loss), dtype="float32",
        names=tuple(parts.names.get(column) or str(column) for column in told),
    )  # fmt: skip


def _link(loss: str) -> str:
    if loss not in _LINKS:
        raise UnsupportedModel(
            f"The loss that a CatBoost model is trained on must be known to strop ({', '.join(sorted(_LINKS)[1:])}); "
            f"this is {loss[:40]!r}. Train it on one of these."
        )
    return _LINKS[loss]
