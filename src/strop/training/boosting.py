"""Boosting: trees trained anew with the original's own library and parameters, on some of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from .. import formats
from .._lazy import installed
from ..errors import NotApplicable, TechniqueError, UnsupportedModel
from ..forest import Array, Forest
from ..formats.trees import TreeFormat, signature
from ..model import CATBOOST, LIGHTGBM, SKLEARN, XGBOOST, Format
from ..technique import Context
from .catboost import Catboost
from .lightgbm import Lightgbm
from .sklearn import Sklearn
from .trees import Changes, Library, lesson
from .xgboost import Xgboost

LIBRARIES: Mapping[Format, Library] = {
    CATBOOST: Catboost(), LIGHTGBM: Lightgbm(), SKLEARN: Sklearn(), XGBOOST: Xgboost(),
}  # fmt: skip
"""What trains the originals of a format anew."""


def retrain_forest(context: Context, kept: Array, changes: Changes) -> Forest:
    """The original trained anew: same library, same parameters but for some changes, features numbered as they were.

    The same seed and number of threads give the same trees. Weights of samples that the original may have been trained
    with are not known.

    Args:
        context: With train data.
        kept: Numbers of the features that may be looked at.
        changes: Ratios to the original's parameters.

    Raises:
        NotApplicable: The library is not installed, the original's parameters can't be had, or samples and labels
            don't fit it.
        TimeoutError: The time left does not do for all rounds.
    """
    library = library_of(context)
    forest = teacher(context)
    given = lesson(context, forest).only(kept)
    made = replace(library.train(context.original, forest, given, changes), names=forest.names)
    if signature(made) != signature(forest):
        raise TechniqueError("what was trained anew gives other outputs than the original")
    return made


def library_of(context: Context) -> Library:
    """What trains the original's format; asked for first, before anything is spent.

    Raises:
        NotApplicable: Nothing does, it is not installed, or there are no labels.
    """
    name = context.original.format
    if name not in LIBRARIES:
        raise NotApplicable(f"models in {name} are not trained anew, only those in {', '.join(LIBRARIES)}")
    if not installed(LIBRARIES[name].module):
        raise NotApplicable(f"training it anew needs {LIBRARIES[name].module}, which is not installed")
    if context.train is not None and context.train.labels is None:
        raise NotApplicable("training it anew needs labels, and the train data have none")
    return LIBRARIES[name]


def teacher(context: Context) -> Forest:
    """The original as a forest.

    Raises:
        NotApplicable: It can't be read into one.
    """
    room = formats.format_of(context.original.format)
    if not isinstance(room, TreeFormat):
        raise NotApplicable(f"models in {context.original.format} are not read into trees")
    try:
        return room.forest(context.original)
    except UnsupportedModel as error:
        raise NotApplicable(str(error)) from error


def must_stay(context: Context, forest: Forest) -> Array:
    """The features that the training settings say are to be kept."""
    patterns = context.training.keep if context.training else ()
    names = forest.names or tuple(map(str, range(forest.features)))
    found = [number for number, name in enumerate(names) if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return np.array(found, np.int64)
