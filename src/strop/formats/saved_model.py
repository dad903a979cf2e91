"""SavedModel: TensorFlow's graphs. One is a program, and may read and write files: only what computes is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._lazy import require
from .._plain import told
from .._quiet import hushed, silenced, tensorflow
from ..errors import StropError, UnsupportedModel, UntrustedModel
from ..model import SAVED_MODEL, Model, ModelFormat, Signature
from .tensorflow import Function, numbers

MAIN, KEY = "saved_model.pb", "serving_default"
_CALLS = frozenset({
    "Case", "DisableCopyOnRead", "If", "PartitionedCall", "ReadVariableOp", "ResourceGather", "ResourceGatherNd",
    "StatefulPartitionedCall", "StatelessCase", "StatelessIf", "StatelessWhile", "VarHandleOp", "While",
})  # fmt: skip
"""Operators that call functions of the graph, or read its weights."""
_WORDS = frozenset({
    "align", "bad_indices_policy", "data_format", "equation", "fill_mode", "interpolation", "kernel_type", "message",
    "method", "mode", "padding", "round_mode",
})  # fmt: skip
"""Attributes in which a word chooses how to compute. In others one may be a file, a library or a host."""
_OBJECTS = frozenset({"user_object", "function", "bare_concrete_function", "variable", "constant", "captured_tensor"})
"""What loading makes without running anything of the graph."""
_CONSTANT = "tf.TrackableConstant"
"""Of the classes that a name may stand for: the one that only holds numbers."""
_TEXT = 7  # DT_STRING


class SavedModelFormat(ModelFormat):
    """Folders that TensorFlow 2 or Keras 3 exported, called by their signature `serving_default`.

    TensorFlow's SECURITY.md says of models what is true of programs: run them where you trust them, or in a sandbox.
    Here an operator is taken only where it has no effects, and neither takes text nor is told a name: what reads or
    writes files, runs Python or loads a library is all refused, and named.
    """

    name = SAVED_MODEL

    def detects(self, source: object) -> bool:
        return _folder_of(source) is not None

    def open(self, source: Any) -> Model:
        """Read what goes in and out.

        Raises:
            UnsupportedModel: It is broken, of TensorFlow 1, has no such signature, or takes no numbers.
            UntrustedModel: It holds operators that do more than compute, or files outside of its folder.
        """
        folder = _folder_of(source)
        if folder is None:
            raise UnsupportedModel(f"A SavedModel is a folder with {MAIN}, and {source} is none. Check the path.")
        files = (folder / MAIN, *sorted(file for file in folder.glob("variables/*") if file.is_file()))
        if strange := [file for file in files if not file.resolve().is_relative_to(folder.resolve())]:
            raise UntrustedModel(
                f"The files of a SavedModel must lie in its folder, and {strange[0]} is a link out of it. Copy the "
                "file there."
            )
        function = _function(folder)
        counts = {"parameters": sum(int(v.shape.num_elements() or 0) for v in function.variables)}
        return Model(SAVED_MODEL, folder, function.signature, files, counts=counts)


def function_of(model: Model) -> Function:
    """The model as a function of TensorFlow.

    Raises:
        UnsupportedModel, UntrustedModel: As for `open`.
    """
    return _function(model.path)


def _function(folder: Path) -> Function:
    tensorflow()
    try:
        _check(folder)
        with silenced(), hushed():
            loaded = tensorflow().saved_model.load(str(folder))
        call = loaded.signatures[KEY]
    except StropError:
        raise
    except Exception as error:  # of a large library, on whatever the files hold
        raise UnsupportedModel(
            f"{folder} must be a whole SavedModel, and can't be read ({type(error).__name__}: {told(error)}). Export "
            "or copy it again."
        ) from error
    specs, results = call.structured_input_signature[1], call.structured_outputs
    signature = Signature(*(
        tuple(numbers(name, spec.dtype.name, _sizes(name, spec, folder), str(folder)) for name, spec in side.items())
        for side in (specs, results)
    ))  # fmt: skip

    def flat(*tensors: Any) -> list[Any]:
        outputs = call(**dict(zip(specs, tensors, strict=True)))
        return [outputs[name] for name in results]

    def called(arrays: Any) -> list[Any]:
        return [tensor.numpy() for tensor in flat(*map(tensorflow().constant, arrays))]

    return Function(signature, flat, called, list(call.variables))


def _sizes(name: str, spec: Any, folder: Path) -> list[int | None]:
    if spec.shape.rank is None:
        raise UnsupportedModel(
            f"Inputs and outputs must have a known number of axes, and {name!r} of {folder} does not say. Export it "
            "with an input signature."
        )
    return list(spec.shape)


def _check(folder: Path) -> None:
    """Hold all that loading and calling would run to operators that only compute."""
    saved_model = require("tensorflow.core.protobuf.saved_model_pb2", "tensorflow").SavedModel()
    saved_model.ParseFromString((folder / MAIN).read_bytes())
    graph = next((graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags), None)
    if graph is None or not graph.object_graph_def.nodes or KEY not in graph.signature_def:
        known = ", ".join(sorted(graph.signature_def)) if graph is not None else "none"
        raise UnsupportedModel(
            f"A SavedModel must be one of TensorFlow 2 with the signature {KEY!r}, and {folder} is not (signatures: "
            f"{known}). Export it again: model.export(folder), or tf.saved_model.save(..., signatures=...)."
        )
    if strange := sorted(set(_strange(graph))):
        raise UntrustedModel(
            f"A SavedModel may hold operators that only compute, and {folder} holds {', '.join(strange)}, which could "
            "read or write files or run code. Export it without them, or convert it to ONNX yourself and give that."
        )


def _strange(graph: Any) -> Iterator[str]:
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _OBJECTS:
            yield f"a {kind or 'nameless object'}"
        if node.registered_name not in ("", _CONSTANT):
            yield f"a {node.registered_name}"
        if node.saveable_objects or node.registered_saver:
            yield "what restores it in its own way"
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    ahead, seen = [*graph.object_graph_def.concrete_functions], set[str]()
    while ahead:
        name = ahead.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            if not _only_computes(node):
                yield node.op
            for attribute in node.attr.values():
                ahead += [one.name for one in (attribute.func, *attribute.list.func) if one.name]


def _only_computes(node: Any) -> bool:
    registry = require("tensorflow.python.framework.op_def_registry", "tensorflow")
    known = registry.get(node.op)
    if known is None:
        return False
    if node.op in _CALLS:
        return True
    texts = [a for a in (*known.input_arg, *known.output_arg) if a.type == _TEXT]
    chosen = {a.name for a in known.attr if "string" in a.type}
    typed = any(attribute.type == _TEXT or _TEXT in attribute.list.type for attribute in node.attr.values())
    return not (known.is_stateful or texts or typed or chosen - _WORDS)


def _folder_of(source: object) -> Path | None:
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    return path if path is not None and (path / MAIN).is_file() else None
