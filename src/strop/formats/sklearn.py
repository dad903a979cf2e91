"""scikit-learn: classifiers, regressors and pipelines, live or in a `.skops` file."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._archives import check_expansion
from .._lazy import lazy
from ..errors import NotApplicable, StropError, UnsupportedModel, UntrustedModel
from ..forest import Forest
from ..model import SKLEARN, Batch, Model, Signature
from ..spelling import option
from ..structure import Structure
from ._called import Called
from ._estimators import first_of, forest_of, is_ensemble
from ._pipelines import named, signature_of, steps, walk
from ._steps import made_of
from ._trusted import TRUSTED, make_safe
from .trees import TreeFormat, classes_of, described, file_of, made_by, reading, write

if TYPE_CHECKING:
    from skops import io
else:
    io = lazy("skops.io")


__all__ = ["Called", "SklearnFormat", "forest_of", "is_ensemble", "load", "named", "steps", "walk"]


class SklearnFormat(TreeFormat):
    """scikit-learn's own classifiers, regressors and detectors of outliers, and pipelines that end in one.

    The output is what `predict_proba` gives, else `decision_function`, else `predict` of a regressor. Classes that are
    not numbered from 0 are told by the signature, in the order of its columns. Of a search (`GridSearchCV`) it is the
    best estimator.

    An ensemble of trees by itself is read into a forest too. Its categories (of HistGradientBoosting) are whole
    numbers; what lies between two, which scikit-learn does not know, counts as the one below.
    """

    name = SKLEARN

    def detects(self, source: object) -> bool:
        path = file_of(source)
        return made_by(source, "sklearn", "BaseEstimator") if path is None else path.suffix.lower() == ".skops"

    def open(self, source: Any) -> Model:
        """Read what it takes and gives.

        Raises:
            UnsupportedModel: It is broken, not fitted, of several targets, or not made of scikit-learn's own alone.
            UntrustedModel: A file holds what is not scikit-learn's own.
        """
        payload = file_of(source) or source
        if isinstance(payload, str):
            raise UnsupportedModel(f"A scikit-learn model is a .skops file, and {source} is none. Check the path.")
        estimator = load(payload)
        files = (payload,) if isinstance(payload, Path) else ()
        with reading("scikit-learn", payload):
            if not is_ensemble(estimator):
                held = payload if files else estimator
                return Model(SKLEARN, held, signature_of(estimator), files, counts=_counts(estimator))
            model = described(SKLEARN, payload, forest_of(estimator))
            (rows,), (result,) = model.signature.inputs, model.signature.outputs
            rows = replace(rows, missing=bool(estimator.__sklearn_tags__().input_tags.allow_nan))
            return replace(model, signature=Signature((rows,), (replace(result, classes=classes_of(estimator)),)))

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live object as model.skops, compressed.

        Raises:
            UnsupportedModel: It holds what skops can't write, or what could run code when it is read.
        """
        if model.files:
            return model
        try:
            content = io.dumps(model.payload, compression=zipfile.ZIP_DEFLATED)
        except Exception as error:  # of whatever the estimator holds
            raise UnsupportedModel(
                f"A scikit-learn model must be something that skops can write, and this {type(model.payload).__name__} "
                f"is not ({error}). Take out of it what is not scikit-learn's own."
            ) from error
        if unknown := _unknown(data=content):
            raise UnsupportedModel(
                f"A scikit-learn model must be made of its own types, and this {type(model.payload).__name__} holds "
                f"{', '.join(unknown)}. Do that step before the model, or export it to ONNX and give that."
            )
        return self.open(write(content, folder / "model.skops"))

    def forest(self, model: Model) -> Forest:
        with reading("scikit-learn", model.payload):
            return forest_of(load(model.payload))

    def operations(self, model: Model) -> int | None:
        """As many as numbers that were learned, but of trees: each is multiplied with once at the most."""
        return None if "trees" in model.counts else model.counts["parameters"]

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        if "trees" in model.counts:
            return super().structure(model, samples)
        return made_of(load(model.path), model)

    def shortened(self, model: Model, folder: Path) -> Model:
        """The first round of trees."""
        if "trees" not in model.counts:
            raise NotApplicable("its steps are timed one by one, and not by leaving some out")
        made = first_of(load(model.path))
        return replace(self.store(replace(model, payload=made, files=()), folder), signature=model.signature)


def load(source: Any) -> Any:
    """The estimator: of a file, made without running any code, and safe to run; a live one as it is. Of a search, what
    it found.

    Raises:
        UnsupportedModel: The file is broken.
        UntrustedModel: It holds what is not scikit-learn's own.
    """
    if not isinstance(source, Path):
        return getattr(source, "best_estimator_", source)
    try:
        check_expansion(source)
        if unknown := _unknown(file=source):
            raise UntrustedModel(
                f"A .skops file may hold what is scikit-learn's own, and {source} holds {', '.join(unknown)}, which "
                "could run any code. Save the estimator without it; or, where you trust whoever wrote it, give it "
                f"pickled, with {option('trust_pickle')}."
            )
        estimator = io.load(source, trusted=list(TRUSTED))
        with reading("scikit-learn", source):
            make_safe(estimator)
        return getattr(estimator, "best_estimator_", estimator)
    except StropError:
        raise
    except Exception as error:  # of two libraries, on whatever the file holds
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise UnsupportedModel(
            f"{source} must be a whole .skops file, and is broken ({type(error).__name__}: {said}). Save or copy it "
            "again."
        ) from error


def _unknown(**source: Any) -> list[str]:
    """The types in a file, or in the bytes of one, that are not trusted."""
    return sorted(set(io.get_untrusted_types(**source)) - set(TRUSTED))


_SAMPLES = {
    "support_vectors_": "vectors", "X_fit_": "vectors", "X_train_": "vectors", "_fit_X": "neighbours",
}  # fmt: skip


def _counts(estimator: Any) -> dict[str, int]:
    """Numbers in all, and samples that are kept to compare others with."""
    last = steps(estimator)[-1]
    arrays = (one for one in walk(estimator) if isinstance(one, np.ndarray) and one.dtype.kind == "f")
    kept = {name: getattr(last, attribute).shape[0] for attribute, name in _SAMPLES.items() if hasattr(last, attribute)}
    return {"parameters": sum(array.size for array in arrays), **kept}
