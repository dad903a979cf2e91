"""What a fitted scikit-learn estimator, or a pipeline of them, takes and gives; read off its attributes, never run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._lazy import lazy
from ..errors import UnsupportedModel
from ..model import Signature, Tensor
from .trees import classes_of

if TYPE_CHECKING:
    from sklearn import base, exceptions
    from sklearn.utils import validation
else:
    base, exceptions = lazy("sklearn.base"), lazy("sklearn.exceptions")
    validation = lazy("sklearn.utils.validation")

METHODS = {"probability": "predict_proba", "decision": "decision_function", "prediction": "predict"}
"""What gives an output, by its name."""

_SEVERAL = "sklearn.multioutput"


def steps(estimator: Any) -> list[Any]:
    """The fitted steps of a pipeline, those of pipelines within it too; of any other estimator itself."""
    return [step for _, step in named(estimator)]


def named(estimator: Any, before: str = "") -> list[tuple[str, Any]]:
    """The same with their names, those of pipelines within it as scikit-learn spells them (`prepare__scale`); any other
    estimator has that of its class."""
    if type(estimator).__name__ != "Pipeline":
        return [(before or type(estimator).__name__, estimator)]
    return [
        inner for name, part in estimator.steps if part not in (None, "passthrough")
        for inner in named(part, f"{before}__{name}" if before else name)
    ]  # fmt: skip


def walk(thing: Any) -> Iterator[Any]:
    """An estimator and all that it holds: other estimators, scikit-learn's own objects, arrays, containers."""
    seen: set[int] = set()
    left = [thing]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, (str, bytes, int, float, type)) or one is None:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, np.ndarray):
            left += one.ravel().tolist() if one.dtype == object else []
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            left += one
        elif type(one).__module__.startswith(("sklearn.", "scipy.sparse")):
            left += getattr(one, "__dict__", {}).values()


def signature_of(estimator: Any) -> Signature:
    """One matrix, or columns, or a text in; `probability`, else `decision`, else `prediction` out.

    An estimator that was trained on a frame whose columns it picks by name, or that holds text, takes one array
    [samples] a column: those that it looks at.

    Raises:
        UnsupportedModel: It is not fitted, has several targets, or is no classifier, regressor or detector of outliers.
    """
    name = type(estimator).__name__
    if not isinstance(estimator, base.BaseEstimator) or type(estimator).__module__.split(".")[0] != "sklearn":
        raise UnsupportedModel(
            f"A scikit-learn model must be one of its own estimators, and no class derived of one; this is "
            f"{type(estimator).__module__}.{name}. Give what it is made of, or export it to ONNX and give that."
        )
    for one in walk(estimator):
        kind = type(one)
        if isinstance(one, base.BaseEstimator) and kind.__module__.split(".")[0] != "sklearn":
            raise UnsupportedModel(
                f"A pipeline must be made of scikit-learn's own estimators, and this {name} holds a "
                f"{kind.__module__}.{kind.__name__}. Do that step before the model, or export it to ONNX and give that."
            )
    try:
        validation.check_is_fitted(estimator)
    except (exceptions.NotFittedError, TypeError) as error:  # of what has no fit at all, too
        raise UnsupportedModel(f"A model must be trained, and this {name} is not. Call fit first.") from error
    return Signature(_inputs(estimator), (_output(estimator),))


def _output(estimator: Any) -> Tensor:
    name, last = type(estimator).__name__, steps(estimator)[-1]
    if (targets := _targets(last)) != 1:
        raise UnsupportedModel(f"A model must have one target, and this {name} has {targets}. Train one for each.")
    if base.is_regressor(estimator):
        return Tensor("prediction", "float64", (None,))
    if base.is_outlier_detector(estimator) and hasattr(estimator, "decision_function"):
        return Tensor("decision", "float64", (None,))
    if not base.is_classifier(estimator):
        raise UnsupportedModel(
            f"A scikit-learn model must be a classifier, a regressor or a detector of outliers, and {name} is none. "
            "Give the whole pipeline, to its last step."
        )
    count = len(estimator.classes_)
    if hasattr(estimator, "predict_proba"):
        return Tensor("probability", "float64", (None, count), classes=classes_of(estimator))
    if not hasattr(estimator, "decision_function"):
        raise UnsupportedModel(
            f"A classifier must give probabilities or decision values, and this {name} gives neither. Train one that "
            "does."
        )
    if count > 2 and getattr(last, "decision_function_shape", "ovr") != "ovr":
        raise UnsupportedModel(
            f"Decision values must be one a class, and this {name} gives one for each pair of classes. Set its "
            "decision_function_shape to 'ovr', which changes no prediction."
        )
    shape = (None,) if count == 2 else (None, count)
    return Tensor("decision", "float64", shape, classes=classes_of(estimator))


def _targets(last: Any) -> int:
    """How many numbers, or classes, a sample gets; by what the kinds of estimators keep of it."""
    if type(last).__module__.startswith(_SEVERAL):
        return len(getattr(last, "estimators_", ())) or 2
    if isinstance(getattr(last, "classes_", None), list):
        return len(last.classes_)
    encoder = getattr(last, "_label_binarizer", getattr(last, "label_binarizer_", None))
    if encoder is not None and getattr(encoder, "y_type_", "").startswith("multilabel"):
        return len(encoder.classes_)
    sizes = [getattr(last, "n_outputs_", 1) if base.is_regressor(last) else 1]
    if base.is_regressor(last) and not hasattr(last, "support_vectors_"):
        wide = {name: np.asarray(getattr(last, name, 0.0)) for name in ("coef_", "dual_coef_", "_y", "y_train_")}
        sizes += [array.shape[0 if name == "coef_" else 1] for name, array in wide.items() if array.ndim == 2]
    return max(sizes)


def _inputs(estimator: Any) -> tuple[Tensor, ...]:
    chain = steps(estimator)
    if _reads_text(chain[0]):
        return (Tensor("text", "str", (None,)),)
    features = getattr(estimator, "n_features_in_", getattr(chain[0], "n_features_in_", None))
    if features is None:
        raise UnsupportedModel(
            f"An estimator must tell the number of its columns, and this {type(estimator).__name__} does not. Train it "
            "with a scikit-learn that is not older than 1.0."
        )
    names = tuple(map(str, getattr(estimator, "feature_names_in_", getattr(chain[0], "feature_names_in_", ()))))
    found: dict[int, tuple[bool, bool]] = {}
    for column, text, missing in _columns(chain, range(features)):
        before = found.get(column, (False, True))
        found[column] = (text or before[0], missing and before[1])
    words = any(text for text, _ in found.values())
    if not words and not (names and type(chain[0]).__name__ == "ColumnTransformer"):
        missing = bool(found) and all(missing for _, missing in found.values())
        return (Tensor("x", "float64", (None, features), columns=names, missing=missing),)
    if not names:
        raise UnsupportedModel(
            f"Columns of text must have names, and this {type(estimator).__name__} was trained on an array. Train it "
            "on a frame."
        )
    return tuple(
        Tensor(names[column], "str" if text else "float64", (None,), missing=missing and not text)
        for column, (text, missing) in sorted(found.items())
    )


def _columns(chain: Sequence[Any], columns: Sequence[int]) -> Iterator[tuple[int, bool, bool]]:
    """Each column that is looked at, by its number; whether it is text, and whether its numbers may be missing."""
    first, *rest = chain
    if type(first).__name__ == "ColumnTransformer":
        for name, part, _ in first.transformers_:
            chosen = [columns[place] for place in first._transformer_to_input_indices[name]]
            if chosen and part != "drop":
                yield from _columns([*([] if part == "passthrough" else steps(part)), *rest] or [part], chosen)
    elif type(first).__name__ == "FeatureUnion":
        for _, part in first.transformer_list:
            if part != "drop":
                yield from _columns([*([] if part == "passthrough" else steps(part)), *rest], columns)
    else:
        missing = _takes_nan(chain)
        yield from ((column, text, missing) for column, text in zip(columns, _texts(first, len(columns)), strict=True))


def _reads_text(part: Any) -> bool:
    """Whether it takes the samples themselves as text."""
    if type(part).__name__ == "FeatureUnion":
        return any(_reads_text(steps(inner)[0]) for _, inner in part.transformer_list if not isinstance(inner, str))
    return hasattr(part, "build_analyzer")


def _texts(part: Any, count: int) -> list[bool]:
    """Which of its columns hold text."""
    if _reads_text(part):
        return [True] * count
    if isinstance(known := getattr(part, "categories_", None), list) and len(known) == count:
        return [np.asarray(values).dtype.kind in "OUST" for values in known]
    fills = getattr(part, "statistics_", None)
    if isinstance(fills, np.ndarray) and fills.dtype == object and len(fills) == count:
        return [isinstance(value, str) for value in fills]
    return [False] * count


def _takes_nan(chain: Sequence[Any]) -> bool:
    """Whether NaN gets as far as to what fills it in, or knows what to do with it."""
    for part in chain:
        if not part.__sklearn_tags__().input_tags.allow_nan:
            return False
        if type(part).__module__.startswith("sklearn.impute") or hasattr(part, "categories_"):
            return True
    return True
