"""Keras: `.keras` files, and live models on any backend. What is strop's to run and convert runs on TensorFlow."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._archives import check_expansion
from .._plain import told
from .._quiet import hushed, keras, silenced, tensorflow
from ..errors import StropError, UnsupportedModel, UntrustedModel
from ..images import Preprocessing
from ..model import KERAS, SAVED_MODEL, Model, ModelFormat, Signature
from ..spelling import option
from . import saved_model
from ._keras_ends import dressed, flat, given, returned, with_pixels
from .tensorflow import Function, distinct, numbers

FILE = "model.keras"
_CODE = frozenset({"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper", "__lambda__", "__typespec__"})
"""Of what Keras defines itself: what holds code, or leads to a file that does."""
_MODULES = re.compile(
    r"builtins|keras|keras\.(src\.)?(activations|constraints|dtype_policies|initializers|layers|models|ops|quantizers|random"
    r"|regularizers)(\.\w+)*"
)
"""Where what models are made of is found. Others of Keras's own functions download and unpack files."""
_SIZES = ("units", "filters", "input_dim", "output_dim", "num_heads", "key_dim")
"""Of a layer's settings: those whose product is no more than the numbers in its weights."""
_OLD = (".h5", ".hdf5")
_ROOT, _SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.>-]*"), re.compile(r"[A-Za-z0-9_.>-]+")
"""The names that TensorFlow lets a model and its layers have in a graph."""


class KerasFormat(ModelFormat):
    """Live `keras.Model`s that are built, and `.keras` files made of Keras's own layers, read in its safe mode.

    A live model that holds other layers is stored as a SavedModel: a graph, which needs none of their code.
    """

    name = KERAS

    def detects(self, source: object) -> bool:
        path = _file_of(source)
        return _is_live(source) or (path is not None and path.suffix.lower() in (".keras", *_OLD))

    def open(self, source: Any) -> Model:
        """Read what goes in and out.

        Raises:
            UnsupportedModel: It is broken, not built, of Keras 2, keeps a state from call to call, or takes no numbers.
            UntrustedModel: A file holds layers that are not Keras's own, or code.
        """
        path = _file_of(source)
        if isinstance(source, (str, os.PathLike)) and path is None:
            raise UnsupportedModel(f"A Keras model is a .keras file, and {source} is none. Check the path.")
        live = source if path is None else _read(path)
        name = str(path or type(live).__name__)
        _check(live, name)
        drawn = getattr(live, "inputs", None)  # a class of the user's own has no graph until it is stored
        signature = _signature(live, name) if drawn else Signature((), ())
        counts = {"parameters": int(live.count_params())}
        return Model(KERAS, path or source, signature, (path,) if path else (), counts=counts)

    def fill(self, source: Any, weights: Path) -> Any:
        """Fill a live model from a `.weights.h5` file, or from the weights in a `.keras` file.

        Raises:
            UnsupportedModel: The file can't be read, or doesn't fit.
        """
        if not _is_live(source):
            return super().fill(source, weights)
        if not weights.name.lower().endswith((".keras", ".weights.h5")):
            raise UnsupportedModel(
                f"Weights of a Keras model come in a .weights.h5 or .keras file, and {weights} is none. Write them "
                "with model.save_weights('model.weights.h5')."
            )
        try:
            with silenced():
                source.load_weights(weights)
        except Exception as error:  # of two libraries, on whatever the file holds
            raise UnsupportedModel(
                f"{weights} must hold the weights of this {type(source).__name__}, and does not fit: {told(error)}. "
                "Check that both are of one kind."
            ) from error
        return source

    def folded(self, model: Model, preprocessing: Preprocessing, folder: Path) -> Model:
        """Write it as a model within one that takes pixels and scales them.

        Raises:
            UnsupportedModel: Its input is not what images come to.
        """
        return save(with_pixels(load(model), model.signature, preprocessing.settled(None, model.signature)), folder)

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live model as model.keras; as a SavedModel where it holds more than Keras's own layers.

        Raises:
            UnsupportedModel: It can't be written.
        """
        if model.files:
            return model
        folder.mkdir(parents=True, exist_ok=True)
        if _foreign_of(model.payload):
            return _exported(model.payload, folder)
        with silenced():
            model.payload.save(folder / FILE)
        return self.open(folder / FILE)


def function_of(model: Model) -> Function:
    """A model, of a file or a SavedModel, as a function of TensorFlow.

    Raises:
        UnsupportedModel, UntrustedModel: As for `open`.
    """
    if model.format == SAVED_MODEL:
        return saved_model.function_of(model)
    live = load(model)
    inputs, tree, call = given(live), keras().tree, flat(live)
    return Function(
        _signature(live, str(model.path)),
        lambda *tensors: call(tensors, False),
        lambda arrays: tree.flatten(live.predict_on_batch(tree.pack_sequence_as(inputs, list(arrays)))),
        [variable.value for variable in live.variables],
        str(live.name),
    )


def load(model: Model) -> Any:
    """The live model of a file, on TensorFlow, free for the caller to change.

    Raises:
        UnsupportedModel, UntrustedModel: As for `open`.
    """
    tensorflow()
    with hushed():
        return _read(model.path)


def save(live: Any, folder: Path) -> Model:
    """Write a live model that holds Keras's own layers only."""
    room = KerasFormat()
    return room.store(room.open(live), folder)


def worn(student: Any, original: Any) -> Any:
    """A live model whose inputs and outputs are called and held together as another's: see `dressed`.

    Raises:
        UnsupportedModel: Inputs or outputs are others.
    """
    own, wanted = _signature(student, "the student"), _signature(original, "the original")
    return dressed(student, own, original, wanted)


def _is_input(layer: Any) -> bool:
    return type(layer).__name__ == "InputLayer"


def layers_of(live: Any) -> dict[str, Any]:
    """All layers by name; those of a model within the model as `outer/inner`."""
    found = {}
    for layer in getattr(live, "layers", ()):
        found[layer.name] = layer
        found |= {f"{layer.name}/{name}": inner for name, inner in layers_of(layer).items()}
    return found


def _read(path: Path) -> Any:
    if path.suffix.lower() in _OLD:
        raise UnsupportedModel(
            f"A Keras model comes as a .keras file, and {path} is HDF5, the format of Keras 2. Write it again with "
            f"keras.models.load_model({path.name!r}, compile=False).save('model.keras'); or, where it holds weights "
            f"alone, give module:function, which builds the model, and the file with {option('weights', 'FILE')}."
        )
    try:
        check_expansion(path)
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            held = sum(entry.file_size for entry in archive.infolist())
        if foreign := sorted(set(_foreign(config))):
            raise UntrustedModel(
                f"A .keras file may hold Keras's own layers only, and {path} holds {', '.join(foreign)}, whose code "
                f"would have to be run. Build the model in a function of your own: give module:function, and this "
                f"file with {option('weights', 'FILE')}; or, in Python, the live model."
            )
        _check_sizes(config, 2 * held, path)  # four bits a number, at the least
        with silenced():
            return keras().saving.load_model(path, compile=False, safe_mode=True)
    except StropError:
        raise
    except Exception as error:  # of a large library, on whatever the file holds
        raise UnsupportedModel(
            f"{path} must be a whole .keras file, and can't be read ({type(error).__name__}: {told(error)}). Save or "
            "copy it again."
        ) from error


def _foreign_of(live: Any) -> set[str]:
    try:
        return set(_foreign(json.loads(live.to_json())))
    except (NotImplementedError, TypeError, ValueError) as error:  # a class of the user's own that has no config
        return {told(error)}


def _foreign(config: Any) -> Iterator[str]:
    """What of a model's configuration is not Keras's own, or holds code, with the name of its layer."""
    if isinstance(config, list):
        for value in config:
            yield from _foreign(value)
    elif isinstance(config, dict):
        kind, inner = config.get("class_name"), config.get("config")
        if isinstance(kind, str) and (kind in _CODE or _is_foreign(kind, config)):
            layer = inner.get("name") if isinstance(inner, dict) else inner
            yield f"{kind} ({layer})" if isinstance(layer, str) else kind
        for key, value in config.items():
            if key != "compile_config":
                yield from _foreign(value)


def _check_sizes(config: Any, most: int, path: Path) -> None:
    """Refuse a layer with more weights than its file holds before it is built, which takes memory for all of them.

    Raises:
        UnsupportedModel: There is such a one.
    """
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _check_sizes(part, most, path)
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        return
    least = math.prod(inner[name] for name in _SIZES if isinstance(inner.get(name), int))
    if least > most:
        raise UnsupportedModel(
            f"A .keras file must hold the weights of its layers, and {told(inner.get('name'))} of {path} speaks of "
            f"{least:,} or more, for which the file is too small. Save or copy it again."
        )


def _is_foreign(kind: str, config: dict[str, Any]) -> bool:
    module, registered = config.get("module"), config.get("registered_name")
    if kind.startswith("__") and module is None:
        return False  # a tensor, a slice
    if kind == "function" and registered not in (None, "function"):
        return True
    return not _MODULES.fullmatch(str(module)) or ">" in str(registered)


def _exported(live: Any, folder: Path) -> Model:
    backend = keras().config.backend()
    if backend != "tensorflow":
        raise UnsupportedModel(
            f"A Keras model with layers of your own is taken on TensorFlow, and this {type(live).__name__} runs on "
            f"{backend}. Build it with KERAS_BACKEND=tensorflow, and load its weights."
        )
    try:
        with silenced(), hushed():
            live.export(folder / "model", format="tf_saved_model", verbose=False)
    except Exception as error:  # of whatever the layers do
        raise UnsupportedModel(
            f"A Keras model with layers of your own must be one that TensorFlow can trace, and this "
            f"{type(live).__name__} is not: {told(error)}. Call it once on a few samples; where control flow depends "
            "on values, use keras.ops.cond or keras.ops.where."
        ) from error
    return saved_model.SavedModelFormat().open(folder / "model")


def _check(live: Any, name: str) -> None:
    if not live.built:
        raise UnsupportedModel(
            f"A Keras model must be built, and {name} has no weights yet. Call it once on a few samples, or begin it "
            "with keras.Input(shape)."
        )
    names = {live.name: _ROOT, **{layer.name: _SCOPE for layer in layers_of(live).values() if not _is_input(layer)}}
    if odd := next((told(layer, repr) for layer, rule in names.items() if not rule.fullmatch(layer)), None):
        raise UnsupportedModel(
            f"A Keras model and its layers must have names that TensorFlow runs (letters and digits of English, and "
            f"_ . - > but not first), and {odd} of {told(name)} is none. Give it another: layer.name = '...'."
        )
    if kept := [layer.name for layer in layers_of(live).values() if getattr(layer, "stateful", False)]:
        raise UnsupportedModel(
            f"An answer must depend on its inputs alone, and {', '.join(kept)} of {name} keeps a state from call to "
            "call. Build it with stateful=False, its state as an input and an output."
        )


def _signature(live: Any, name: str) -> Signature:
    return Signature(_tensors(given(live), name), _tensors(returned(live), name))


def _tensors(structure: Any, model: str) -> tuple[Any, ...]:
    """By the keys of a mapping, else by the layers that they come from."""
    found = keras().tree.flatten_with_path(structure)
    names = [
        path[-1] if path and isinstance(path[-1], str) else tensor._keras_history.operation.name
        for path, tensor in found
    ]
    for name, (_, tensor) in zip(names, found, strict=True):
        if tensor.sparse or tensor.ragged:
            raise UnsupportedModel(
                f"Inputs and outputs must be dense arrays, and {name!r} of {model} is sparse or ragged. Pad it."
            )
    return tuple(
        numbers(name, str(tensor.dtype), tensor.shape, model)
        for name, (_, tensor) in zip(distinct(names), found, strict=True)
    )


def _is_live(source: object) -> bool:
    kind = getattr(sys.modules.get("keras"), "Model", None)
    return kind is not None and isinstance(source, kind)


def _file_of(source: object) -> Path | None:
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    return path if path is not None and path.is_file() else None
