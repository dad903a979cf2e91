"""scikit-learn: ensembles of trees, live or in a `.skops` file."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._archives import check_expansion
from .._lazy import lazy, require
from ..errors import StropError, UnsupportedModel, UntrustedModel
from ..forest import Forest
from ..model import SKLEARN, Model, Signature
from ._estimators import check, first_of, forest_of, trees
from .trees import TreeFormat, classes_of, described, file_of, made_by, reading, write

if TYPE_CHECKING:
    from skops import io
else:
    io = lazy("skops.io")

TRUSTED = (
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
"""Types that skops does not trust by itself: the indexes of trees may lead anywhere. `load` looks where they do."""


class SklearnFormat(TreeFormat):
    """scikit-learn's own ensembles of trees.

    A forest gives what `predict_proba` of a classifier gives, and `predict` of a regressor. Classes that are not
    numbered from 0 are told by the signature, in the order of its columns. Categories (of HistGradientBoosting) are
    whole numbers; what lies between two, which scikit-learn does not know, counts as the one below.
    """

    name = SKLEARN

    def detects(self, source: object) -> bool:
        path = file_of(source)
        return made_by(source, "sklearn", "BaseEstimator") if path is None else path.suffix.lower() == ".skops"

    def open(self, source: Any) -> Model:
        """Read the trees.

        Raises:
            UnsupportedModel: It is broken, not fitted, of several targets, or no ensemble of trees.
            UntrustedModel: A file holds what is not scikit-learn's own.
        """
        payload = file_of(source) or source
        if isinstance(payload, str):
            raise UnsupportedModel(f"A scikit-learn model is a .skops file, and {source} is none. Check the path.")
        estimator = load(payload)
        with reading("scikit-learn", payload):
            model = described(SKLEARN, payload, forest_of(estimator))
            (rows,), (result,) = model.signature.inputs, model.signature.outputs
            rows = replace(rows, missing=bool(estimator.__sklearn_tags__().input_tags.allow_nan))
            return replace(model, signature=Signature((rows,), (replace(result, classes=classes_of(estimator)),)))

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live object as model.skops, compressed."""
        if model.files:
            return model
        _import_skops()
        try:
            content = io.dumps(model.payload, compression=zipfile.ZIP_DEFLATED)
        except Exception as error:  # of whatever the estimator holds besides trees
            raise UnsupportedModel(
                f"A scikit-learn model must be something that skops can write, and this {type(model.payload).__name__} "
                f"is not ({error}). Take out of it what is not scikit-learn's own."
            ) from error
        return self.open(write(content, folder / "model.skops"))

    def forest(self, model: Model) -> Forest:
        with reading("scikit-learn", model.payload):
            return forest_of(load(model.payload))

    def shortened(self, model: Model, folder: Path) -> Model:
        return self.store(replace(model, payload=first_of(load(model.path)), files=()), folder)


def load(source: Any) -> Any:
    """The estimator: of a file, made without running any code, and safe to run; a live one as it is.

    Raises:
        UnsupportedModel: The file is broken.
        UntrustedModel: It holds what is not scikit-learn's own.
    """
    if not isinstance(source, Path):
        return source
    try:
        check_expansion(source)
        _import_skops()
        if unknown := sorted(set(io.get_untrusted_types(file=source)) - set(TRUSTED)):
            raise UntrustedModel(
                f"A .skops file may hold what is scikit-learn's own, and {source} holds {', '.join(unknown)}, which "
                "could run any code. Save the ensemble without it; or, where you trust whoever wrote it, give it "
                "pickled, with --trust-pickle (trust_pickle=True)."
            )
        estimator = io.load(source, trusted=list(TRUSTED))
        check(estimator)
        with reading("scikit-learn", source):
            for _ in trees(estimator):
                pass
        return estimator
    except StropError:
        raise
    except Exception as error:  # of two libraries, on whatever the file holds
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise UnsupportedModel(
            f"{source} must be a whole .skops file, and is broken ({type(error).__name__}: {said}). Save or copy it "
            "again."
        ) from error


def _import_skops() -> None:
    """skops imports all of scikit-learn, and by that PyTorch, if it is there: a second and more, for nothing."""
    needless = "sklearn.externals.array_api_compat.torch"
    if "torch" in sys.modules or "skops.io" in sys.modules:
        return
    sys.modules[needless] = None  # type: ignore[assignment]
    try:
        require("skops.io")
    finally:
        del sys.modules[needless]
