"""scikit-learn's estimators trained anew: the labels as they know them, and the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable, TechniqueError
from ..formats.sklearn import Called, load
from ..target import usable_cores
from ..technique import Context
from ..training.sklearn import refusing
from ..training.trees import FEWEST

if TYPE_CHECKING:
    import joblib
    import threadpoolctl
    from sklearn import base
else:
    base, joblib, threadpoolctl = lazy("sklearn.base"), lazy("joblib"), lazy("threadpoolctl")

Array = np.ndarray[Any, Any]


def given(context: Context, last: Any) -> tuple[Any, Array | None]:
    """The train data as scikit-learn takes them, and the labels as the estimator was trained with them; a detector of
    outliers has none.

    Raises:
        NotApplicable: There are too few samples, no labels, or other ones than it knows.
    """
    if context.train is None:
        raise TechniqueError("training needs train data, and none are given")
    if len(context.train) < FEWEST:
        raise NotApplicable(f"training needs {FEWEST} samples at the least, and there are {len(context.train)}")
    called = Called(load(context.original.path), context.original.signature)
    x = called.input(context.train.batch(0, len(context.train)))
    return x, None if base.is_outlier_detector(last) else _labels(context.train.label_array(), last)


def _labels(labels: Array | None, last: Any) -> Array:
    if labels is None or labels.ndim != 1:
        raise NotApplicable("training it anew needs one label a sample, and the train data have none")
    if not hasattr(last, "classes_"):
        return labels
    missing = np.setdiff1d(np.arange(len(last.classes_)), labels)
    if labels.dtype.kind not in "iub" or len(missing) or labels.max() >= len(last.classes_) or labels.min() < 0:
        raise NotApplicable(f"labels must be all of its {len(last.classes_)} classes, by number from 0")
    return np.asarray(last.classes_[labels.astype(np.int64)])


def fitted(made: Any, x: Any, labels: Array | None, context: Context) -> Any:
    """Fit a clone; a seed of its own is kept, what has none gets the step's.

    Raises:
        NotApplicable: scikit-learn refuses the data or the parameters.
    """
    cores = len(usable_cores())
    for name, value in made.get_params().items():
        leaf = name.rsplit("__")[-1]
        if leaf == "random_state" and value is None:
            made.set_params(**{name: context.seed})
        elif leaf == "verbose" and value:
            made.set_params(**{name: type(value)()})
    context.progress(0.0, "training it anew")
    threads = joblib.parallel_config("threading", n_jobs=cores)  # processes would outlive the step
    with refusing(), threadpoolctl.threadpool_limits(cores), threads:
        return made.fit(x) if labels is None else made.fit(x, labels)
