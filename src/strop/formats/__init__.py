"""Formats: how a model is recognized and read. The lowest room: it knows no technique and no runtime."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._calls import call, is_call
from .._plain import told
from .._plugins import Room, with_plugins
from ..errors import UnsupportedModel
from ..model import Model, ModelFormat
from ..spelling import option
from ._pickled import is_pickle, unpickle

_ROOM: Room[type[ModelFormat]] = Room(
    __name__,
    (
        "onnx_trees:OnnxTreesFormat",
        "onnx:OnnxFormat",
        "openvino:OpenvinoFormat",
        "tflite:TfliteFormat",
        "keras:KerasFormat",  # before PyTorch, on which a live one is a module too
        "saved_model:SavedModelFormat",
        "torch:TorchFormat",
        "lightgbm:LightgbmFormat",
        "xgboost:XgboostFormat",
        "catboost:CatboostFormat",
        "sklearn:SklearnFormat",
        "forest:ForestFormat",
        "forest:NativeFormat",
    ),
)


def __getattr__(name: str) -> Any:
    return _ROOM.member(name)


@functools.cache
def all_formats() -> tuple[ModelFormat, ...]:
    """All known formats: strop's own, then those of installed packages (entry points `strop.formats`)."""
    return with_plugins(__name__, (kind() for kind in _ROOM.own()))


def format_of(name: str) -> ModelFormat:
    """The format of that name.

    Raises:
        UnsupportedModel: There is none.
    """
    for known in all_formats():
        if known.name == name:
            return known
    raise UnsupportedModel(f"There is no model format {name!r}. The formats strop knows: {_known()}.")


def open(source: object, weights: Path | None = None, trust_pickle: bool = False) -> Model:
    """Find the format of a model and read what it is.

    Args:
        source: A live object, `module:function` that returns one, or the path of a file or folder.
        weights: A file of weights for a live object.
        trust_pickle: Whether a file may be unpickled, which runs what code it holds.

    Raises:
        UnsupportedModel: Nothing is there, no format recognizes it, or the one that does can't handle it.
        UntrustedModel: It reaches outside its folder, or could run code.
    """
    if isinstance(source, str) and is_call(source):
        source = call(source, "a model", UnsupportedModel)
    elif isinstance(source, (str, os.PathLike)):
        source = present(source, "A model")
        if is_pickle(source):
            source = unpickle(source, trust_pickle)
    for known in all_formats():
        if known.detects(source):
            return known.open(source if weights is None else known.fill(source, weights))
    seen = f"{source} is none" if isinstance(source, Path) else f"got a {type(source).__name__}"
    raise UnsupportedModel(f"A model must be in a format that strop knows ({_known()}); {seen}.{_hint(source)}")


def estimator(source: str, trust_pickle: bool = False) -> Any:
    """An estimator of scikit-learn's kind, fitted or not: what a search fits anew, not what is run as it is.

    Args:
        source: A `.skops` file, a pickle, or `module:factory` that makes one.
        trust_pickle: Whether a file may be unpickled, which runs what code it holds.

    Raises:
        UnsupportedModel: Nothing is there, or it is no estimator.
        UntrustedModel: It could run code.
    """
    made: Any
    if is_call(source):
        made = call(source, "an estimator or pipeline", UnsupportedModel)
    elif is_pickle(path := present(source, "An estimator")):
        made = unpickle(path, trust_pickle)
    elif path.suffix.lower() == ".skops":
        from .sklearn import load

        made = load(path)
    else:
        raise UnsupportedModel(
            f"An estimator to fit is a .skops file, a pickle, or module:factory, and {path} is none of them. Save it "
            "with skops.io.dump."
        )
    if isinstance(made, type) or not (hasattr(made, "fit") and hasattr(made, "get_params")):
        raise UnsupportedModel(
            f"{source} must give an estimator or pipeline, with the methods fit and get_params, and gives "
            f"{told(made, repr)}. Return one."
        )
    return made


def present(source: str | os.PathLike[str], what: str) -> Path:
    """The path of what must be there.

    Raises:
        UnsupportedModel: Nothing is.
    """
    path = Path(os.path.expanduser(source))  # leaves the name of an unknown user, which is then no path
    if not path.exists():
        raise UnsupportedModel(f"{what} must exist, and {path} does not. Check the path.")
    return path


def _known() -> str:
    return ", ".join(known.name for known in all_formats())


def _hint(source: object) -> str:
    if isinstance(source, Path) and source.is_dir():
        return " A folder is taken when it holds exactly one model; give the path of the model's main file."
    if isinstance(source, Path) and source.suffix in (".pt", ".pth", ".safetensors"):
        return (
            " Weights alone are no model: give module:function, which builds it, and the file with "
            f"{option('weights', 'FILE')}."
        )
    if isinstance(source, Mapping):
        return " Weights alone are no model: give the module that they were filled into."
    if isinstance(source, type):
        return f" Give an instance: {source.__name__}()."
    return ""
