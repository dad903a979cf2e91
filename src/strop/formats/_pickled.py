"""Pickles of models: read only where the user trusts whoever wrote them, since reading runs the code they hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._lazy import lazy
from ..errors import UnsupportedModel, UntrustedModel
from ..spelling import option

if TYPE_CHECKING:
    import joblib
else:
    joblib = lazy("joblib")

_SUFFIXES = {".pkl", ".pickle", ".joblib"}


def is_pickle(path: Path) -> bool:
    """Whether a file is called a pickle, as `model.pkl` or `model.joblib.gz`."""
    return path.is_file() and bool(_SUFFIXES & {suffix.lower() for suffix in path.suffixes[-2:]})


def unpickle(path: Path, trusted: bool) -> Any:
    """The object in a pickle, or in a file of joblib.

    Raises:
        UntrustedModel: It is not trusted.
        UnsupportedModel: It is broken, or of something that is not installed here.
    """
    if not trusted:
        raise UntrustedModel(
            f"{path} is a pickle, and reading it would run any code that it holds. Give the library's own file or one "
            "of skops, written by skops.io.dump(model, 'model.skops'); or, where you trust whoever wrote it, add "
            f"{option('trust_pickle')}."
        )
    try:
        return joblib.load(path)
    except Exception as error:  # whatever code in it does
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise UnsupportedModel(
            f"{path} must be a pickle that can be read here, and can't ({type(error).__name__}: {said}). Save it "
            "again, with the versions that are installed here."
        ) from error
