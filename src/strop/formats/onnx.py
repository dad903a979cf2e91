"""ONNX: a protobuf graph, its weights inside or in files beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._lazy import lazy
from ..dataflow import Dataflow
from ..errors import UnsupportedModel, UntrustedModel
from ..images import Preprocessing
from ..model import ONNX, Batch, Model, ModelFormat, Signature, Tensor
from ..structure import Structure
from ._call import call_shapes
from ._onnx_blocked import unblocked
from ._onnx_inside import dataflow_of
from ._onnx_layers import structure_of
from ._onnx_taps import shift, tap
from ._onnx_tensors import attribute_tensors, stored_bytes, tensors
from ._onnx_unfused import unfused
from ._pixels import with_pixels
from .onnx_graph import named

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

ONE_FILE = 1 << 29
"""Bytes above which weights go to a file of their own: one file is held in memory twice while it is written."""

TINY = 1 << 24
"""Bytes up to which it is worth telling what a graph computes: a larger one computes much."""

_DIGITS = 19
"""Of the largest offset that a file can have."""


class OnnxFormat(ModelFormat):
    """ONNX files, folders that hold one, and live `onnx.ModelProto`s."""

    name = ONNX

    def detects(self, source: object) -> bool:
        return is_proto(source) or file_of(source) is not None

    def open(self, source: Any) -> Model:
        """Read signature and files; weights in files of their own are not loaded.

        Raises:
            UnsupportedModel: It can't be parsed, is incomplete, or has inputs or outputs that are no numeric tensors.
            UntrustedModel: Its external data lie outside its folder.
        """
        proto, path = read(source)
        if path is None:
            return Model(ONNX, proto, _signature(proto, "the model"))
        return Model(ONNX, path, _signature(proto, path.name), (path, *_external_files(proto, path)))

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live proto as model.onnx."""
        return model if model.files else save(load(model), folder, model)

    def folded(self, model: Model, preprocessing: Preprocessing, folder: Path) -> Model:
        """Write it with a cast, a product, a sum and, where channels come first, a transposition before its input.

        Raises:
            UnsupportedModel: Its input is not what images come to, or takes no float32.
        """
        return save(with_pixels(load(model), preprocessing.settled(None, model.signature), model), folder, model)

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        """Nodes as they are in the file, with their multiply-adds and the bytes of their weights."""
        proto = onnx.ModelProto()
        proto.CopyFrom(graph_of(model))
        return structure_of(proto, *call_shapes(model.signature, samples))

    def operations(self, model: Model) -> int | None:
        """Of a graph that is small enough for this to matter; None where a size is free, or a loop hides how many."""
        if model.size > TINY:
            return None
        found = self.structure(model)
        return None if found.missing else round(found.operations)

    def dataflow(self, model: Model) -> Dataflow:
        """Of the main graph; weights in files of their own are not read."""
        return dataflow_of(_plain(graph_of(model) if model.files else load(model)))

    def tapped(self, model: Model, values: Sequence[str], folder: Path, given: Sequence[Tensor] | None = None) -> Model:
        """Write it with values in between as outputs, their types and shapes left open."""
        proto = _plain(load(model))
        added = tap(proto, values, given)
        inner = tuple(Tensor(name, "float32", ()) for name in added)
        own = model.signature.outputs if given is None else ()
        inputs = (*model.signature.inputs, *(given or ()))
        files = write(proto, folder)
        return replace(model, payload=files[0], files=files, signature=Signature(inputs, (*own, *inner)))

    def shifted(self, model: Model, values: Sequence[str], folder: Path) -> tuple[Model, tuple[str, ...]]:
        """Write it with a sum behind each value."""
        proto = _plain(load(model))
        added = shift(proto, values)
        files = write(proto, folder)
        return replace(model, payload=files[0], files=files), added


def read(source: Any) -> tuple[onnx.ModelProto, Path | None]:
    """A live proto as it is, or the one in a file, and that file; weights in files of their own are not loaded.

    Raises:
        UnsupportedModel: It can't be parsed.
    """
    if is_proto(source):
        return source, None
    path = file_of(source)
    if path is None:
        raise UnsupportedModel(f"An ONNX model is a file that ends in .onnx; {source} is none. Check the path.")
    return _parse(path), path


def load(model: Model) -> onnx.ModelProto:
    """The graph with all its weights, free for the caller to change."""
    if is_proto(model.payload):
        proto = onnx.ModelProto()
        proto.CopyFrom(model.payload)
        return proto
    proto = _parse(model.path)
    if len(model.files) > 1:
        onnx.load_external_data_for_model(proto, str(model.path.parent))
    return proto


def save(proto: onnx.ModelProto, folder: Path, like: Model, *, one_file: int | None = None) -> Model:
    """Write a graph as model.onnx, with model.onnx.data beside it where it is large, and read its signature again.

    Args:
        proto: The graph with its weights; large ones leave it for their file.
        folder: Where to write; what is there under these names is replaced at once, or not at all.
        like: The model it was made from, whose knowledge of batch axes and states carries over by name.
        one_file: Bytes above which weights go to a file of their own; None for `ONE_FILE`.
    """
    write(proto, folder, one_file=one_file)
    return reopened(folder / "model.onnx", like)


def write(proto: onnx.ModelProto, folder: Path, *, one_file: int | None = None) -> tuple[Path, ...]:
    """The files that `save` writes, the main one first."""
    scratch = folder / ".part"
    scratch.mkdir(parents=True)
    large = stored_bytes(proto) > (ONE_FILE if one_file is None else one_file)
    onnx.save_model(
        proto, scratch / "model.onnx", save_as_external_data=large, location="model.onnx.data", size_threshold=1024
    )
    for name in ("model.onnx.data", "model.onnx")[not large :]:
        with (scratch / name).open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(scratch / name, folder / name)
    scratch.rmdir()
    return tuple(folder / name for name in ("model.onnx", "model.onnx.data")[: 1 + large])


def reopened(path: Path, like: Model) -> Model:
    """Open a file made from another model, whose knowledge of batch axes and states carries over by name."""
    model = OnnxFormat().open(path)
    known = {t.name: t for t in like.signature.inputs}
    inputs = tuple(
        replace(t, batched=known[t.name].batched, feedback=known[t.name].feedback) if t.name in known else t
        for t in model.signature.inputs
    )
    return replace(model, signature=replace(model.signature, inputs=inputs))


def graph_of(model: Model) -> onnx.ModelProto:
    """The graph without the weights that lie in files of their own: enough to look at its nodes."""
    return model.payload if is_proto(model.payload) else _parse(model.path)


def is_proto(source: object) -> bool:
    """Whether a source is a live `onnx.ModelProto`; onnx is not imported for it."""
    loaded = sys.modules.get("onnx")
    return loaded is not None and isinstance(source, loaded.ModelProto)


def file_of(source: object) -> Path | None:
    """The file that a source names, itself or as the only one in its folder."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.onnx"))
        return found[0] if len(found) == 1 else None
    return path if path.suffix.lower() == ".onnx" and path.is_file() else None


def _parse(path: Path) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise UnsupportedModel(_unreadable(path)) from error
    if not proto.HasField("graph") or not proto.opset_import or not proto.graph.output:
        raise UnsupportedModel(_unreadable(path))
    return proto


def _unreadable(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(64)
    rule = f"An .onnx file must hold one ONNX graph; {path}"
    if not head:
        return f"{rule} is empty. Export or copy it again."
    if head.startswith(b"version https://git-lfs"):
        return f"{rule} is a Git LFS pointer. Fetch the file itself with: git lfs pull"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"{rule} is text that begins with {head[:24].decode()!r}. Check the path."
    return f"{rule} ({path.stat().st_size} bytes) can't be parsed: it is truncated or something else. Copy it again."


def _plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With names for all nodes, and layers apart that ONNX Runtime fused or laid out anew; the graph is used up."""
    return unfused(unblocked(named(proto)))


def _external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    nodes = (node for function in proto.functions for node in function.node)
    stored = [*tensors(proto.graph), *(tensor for node in nodes for tensor in attribute_tensors(node))]
    files: dict[Path, None] = {}
    for tensor in stored:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            files[_external_file(tensor, path)] = None
    return list(files)


def _external_file(tensor: onnx.TensorProto, path: Path) -> Path:
    """The file that holds a tensor.

    Raises:
        UntrustedModel: It lies outside the model's folder.
        UnsupportedModel: It is missing, or too short.
    """
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    file = path.parent / location
    inside = not Path(location).is_absolute() and ".." not in Path(location).parts
    if inside and not os.path.isfile(file):  # false also of a name that no file can have
        raise UnsupportedModel(
            f"{path.name} keeps tensor {tensor.name!r} in {location!r}, and {file} is missing. "
            "Copy it beside the model."
        )
    if not inside or not file.resolve().is_relative_to(path.parent.resolve()):
        raise UntrustedModel(
            f"External data must lie in the model's own folder; {path.name} keeps tensor {tensor.name!r} in "
            f"{location!r}. Copy the data there as a plain file (not a link), and save the model with that location."
        )
    offset = _number(info.get("offset", "0"), tensor, path)
    end = offset + _number(info.get("length", "0"), tensor, path)
    if (size := file.stat().st_size) < max(end, offset + 1):
        raise UnsupportedModel(
            f"{file} must hold at least {end} bytes, as {path.name} says of tensor {tensor.name!r}, and holds {size}: "
            "it is truncated. Copy it again."
        )
    return file


def _number(text: str, tensor: onnx.TensorProto, path: Path) -> int:
    if not text.isdecimal() or len(text) > _DIGITS:
        raise UnsupportedModel(
            f"Offset and length of external data must be whole numbers; {path.name} says {text[:30]!r} of tensor "
            f"{tensor.name!r}. Export it again."
        )
    return int(text)


def _signature(proto: onnx.ModelProto, name: str) -> Signature:
    graph = proto.graph
    made = {output for node in graph.node for output in node.output}
    stored = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    given = {value.name for value in graph.input}
    if not graph.node:
        raise UnsupportedModel(f"A model must compute something, and {name} has no nodes. Export it again.")
    if lost := [value.name for value in graph.output if value.name not in made | stored | given]:
        raise UnsupportedModel(f"Every output must come from a node; {name} has none for {lost}. Export it again.")
    inputs = tuple(_tensor(value, "input", name) for value in graph.input if value.name not in stored)
    if not inputs:
        raise UnsupportedModel(f"A model must have an input, and {name} has none: its outputs never change.")
    return Signature(inputs, tuple(_tensor(value, "output", name) for value in graph.output))


def _tensor(value: onnx.ValueInfoProto, side: str, name: str) -> Tensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedModel(
            f"Inputs and outputs must be tensors; {side} {value.name!r} of {name} is a "
            f"{(kind or 'value without a type').removesuffix('_type')}. "
            "Export the model without it (scikit-learn: options={'zipmap': False})."
        )
    tensor = value.type.tensor_type
    dtype = "str" if (side, tensor.elem_type) == ("input", onnx.TensorProto.STRING) else _dtype(tensor.elem_type)
    if dtype is None:
        names = {number: word.lower() for word, number in onnx.TensorProto.DataType.items()}
        seen = names.get(tensor.elem_type, f"of type {tensor.elem_type}, which this onnx does not know")
        raise UnsupportedModel(
            f"Inputs and outputs must be numbers or booleans; {side} {value.name!r} of {name} is {seen}. "
            "Move what handles it out of the model, and export the rest."
        )
    if not tensor.HasField("shape"):
        if side == "input":
            raise UnsupportedModel(
                f"Inputs must declare their number of axes; {value.name!r} of {name} has no shape. "
                "Add one, sizes left open, with onnx.tools.update_model_dims."
            )
        return Tensor(value.name, dtype, ())
    shape = tuple(_size(dim) for dim in tensor.shape.dim)
    return Tensor(value.name, dtype, shape, batched=bool(shape))


def _dtype(number: int) -> str | None:
    no_numbers = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)
    if number in no_numbers or number not in onnx.TensorProto.DataType.values():
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    return str(dtype) if dtype.kind in "fiub" and dtype.isbuiltin == 1 else None


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value > 0 else None
    return dim.dim_param or None
