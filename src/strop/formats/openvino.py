"""OpenVINO's IR: a graph in .xml, its weights in .bin beside it."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._quiet import openvino
from ..dataflow import Dataflow
from ..errors import UnsupportedModel
from ..model import OPENVINO, Batch, Model, ModelFormat, Signature, Tensor
from ..structure import Structure
from ._call import call_shapes
from ._openvino_inside import dataflow_of, tap

_DTYPES = {
    "f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool", "bool": "bool",
    **{f"{sign}{bits}": f"{'u' * (sign == 'u')}int{bits}" for sign in "iu" for bits in (8, 16, 32, 64)},
}  # fmt: skip
_HEAD = 4096


class OpenvinoFormat(ModelFormat):
    """OpenVINO IR, version 10 and later, read without loading OpenVINO."""

    name = OPENVINO

    def detects(self, source: object) -> bool:
        path = _main(source)
        if path is None:
            return False
        with path.open("rb") as stream:
            return b"<net" in stream.read(_HEAD)

    def open(self, source: Any) -> Model:
        """Read the graph's inputs and outputs.

        Raises:
            UnsupportedModel: The .xml is broken or incomplete, or its .bin is missing.
        """
        path = _main(source)
        if path is None:
            raise UnsupportedModel(f"An OpenVINO model is an .xml file with its .bin beside it; {source} is none.")
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise UnsupportedModel(f"An OpenVINO model needs its weights beside it, and {weights} is missing. Copy it.")
        try:
            root = ElementTree.parse(path).getroot()
            _check_weights(root, weights)
            return Model(OPENVINO, path, _signature(root, path), (path, weights))
        except ElementTree.ParseError as error:
            raise UnsupportedModel(f"{path} must be well-formed XML: {error}. Copy or export it again.") from error
        except (
            LookupError,
            ValueError,
        ) as error:  # an unknown encoding, a layer not there, no number
            said = f"{type(error).__name__}: {error}"
            raise UnsupportedModel(f"{path} must be a whole graph, and is broken ({said}). Export it again.") from error

    def dataflow(self, model: Model) -> Dataflow:
        """Of the main graph, read without loading OpenVINO."""
        return dataflow_of(ElementTree.parse(model.path).getroot())

    def tapped(self, model: Model, values: Sequence[str], folder: Path, given: Sequence[Tensor] | None = None) -> Model:
        graph = openvino().Core().read_model(str(model.path))
        names = tap(graph, self.dataflow(model), values, given)
        path = folder / "model.xml"
        openvino().save_model(graph, path, compress_to_fp16=False)
        inner = tuple(Tensor(name, "float32", ()) for name in names)
        own = model.signature.outputs if given is None else ()
        signature = Signature((*model.signature.inputs, *(given or ())), (*own, *inner))
        return replace(model, payload=path, files=(path, path.with_suffix(".bin")), signature=signature)

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        """Operators as they are in the file, with their multiply-adds and the bytes of their weights."""
        from ._openvino_layers import stored_in, structure_of

        shapes, carried = call_shapes(model.signature, samples)
        try:
            return structure_of(model, shapes, carried, stored_in(ElementTree.parse(model.path).getroot()))
        except RuntimeError as error:
            said = str(error).strip().splitlines()[-1][:300]
            raise UnsupportedModel(
                f"{model.path} must be a graph that OpenVINO reads: {said}. Export it again."
            ) from error


def save(model: Any, folder: Path, *, half: bool = False) -> Model:
    """Write a live `openvino.Model` as model.xml and model.bin.

    Args:
        model: The graph.
        folder: Where to write.
        half: Whether to store float32 weights as float16.
    """
    scratch = folder / ".part"
    scratch.mkdir(parents=True)
    openvino().save_model(model, scratch / "model.xml", compress_to_fp16=half)
    for name in ("model.bin", "model.xml"):
        with (scratch / name).open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(scratch / name, folder / name)
    scratch.rmdir()
    return OpenvinoFormat().open(folder / "model.xml")


def _main(source: object) -> Path | None:
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.xml"))
        return found[0] if len(found) == 1 else None
    return path if path.suffix == ".xml" and path.is_file() else None


def _check_weights(root: ElementTree.Element, weights: Path) -> None:
    size = weights.stat().st_size
    ends = [int(d.get("offset", 0)) + int(d.get("size", 0)) for d in root.iter("data") if d.get("offset")]
    if ends and max(ends) > size:
        raise UnsupportedModel(
            f"{weights} must hold {max(ends)} bytes, as its .xml says, and holds {size}: it is truncated. "
            "Copy it again."
        )


def _signature(root: ElementTree.Element, path: Path) -> Signature:
    layers = {layer.get("id"): layer for layer in root.iterfind("layers/layer")}
    edges = {e.get("to-layer"): (e.get("from-layer"), e.get("from-port")) for e in root.iterfind("edges/edge")}
    inputs, outputs = [], []
    for key, layer in layers.items():
        if layer.get("type") == "Parameter":
            inputs.append(_tensor(layer, None, path))
        elif layer.get("type") == "Result":
            source, port = edges[key]
            outputs.append(_tensor(layers[source], port, path))
    if not inputs or not outputs:
        raise UnsupportedModel(f"A model must have inputs and outputs; {path} has {len(inputs)} and {len(outputs)}.")
    return Signature(tuple(inputs), tuple(outputs))


def _tensor(layer: ElementTree.Element, port: str | None, path: Path) -> Tensor:
    ports = layer.findall("output/port")
    found = next((p for p in ports if port is None or p.get("id") == port), None)
    if found is None:
        raise UnsupportedModel(f"{path} is broken: layer {layer.get('name')!r} has no port {port}. Export it again.")
    dtype = _DTYPES.get((found.get("precision") or "").lower().replace("fp", "f"))
    if dtype is None:
        raise UnsupportedModel(
            f"Inputs and outputs must be numbers; {layer.get('name')!r} of {path} is {found.get('precision')}."
        )
    # A tensor may carry several names, one for every layer that was merged into it; the first is OpenVINO's own choice.
    name = (found.get("names") or layer.get("name") or "").split(",")[0]
    sizes = [int(dim.text or -1) for dim in found.findall("dim")]
    return Tensor(name, dtype, tuple(None if size < 0 else size for size in sizes), batched=bool(sizes))


def operators(model: Model) -> frozenset[str]:
    """The types of all operators, in OpenVINO's spelling."""
    root = ElementTree.parse(model.path).getroot()
    return frozenset(layer.get("type", "") for layer in root.iterfind("layers/layer"))


def layer_names(model: Model) -> frozenset[str]:
    """The names of all layers but constants."""
    root = ElementTree.parse(model.path).getroot()
    return frozenset(x.get("name", "") for x in root.iterfind("layers/layer") if x.get("type") != "Const")


def is_quantized(model: Model) -> bool:
    """Whether activations are quantized, or weights stored as 8-bit or smaller integers."""
    root = ElementTree.parse(model.path).getroot()
    return any(
        layer.get("type") == "FakeQuantize"
        or (layer.get("type") == "Const" and (d := layer.find("data")) is not None and _is_weight(d))
        for layer in root.iterfind("layers/layer")
    )


def _is_weight(data: ElementTree.Element) -> bool:
    return data.get("element_type") in ("i8", "u8", "i4", "u4") and "," in data.get("shape", "")


def has_attention(model: Model) -> bool:
    """Whether a softmax weighs values in a matrix product, as in transformers."""
    root = ElementTree.parse(model.path).getroot()
    kinds = {layer.get("id"): layer.get("type") for layer in root.iterfind("layers/layer")}
    if "ScaledDotProductAttention" in kinds.values():
        return True
    after: dict[str | None, list[str | None]] = {}
    for edge in root.iterfind("edges/edge"):
        after.setdefault(edge.get("from-layer"), []).append(edge.get("to-layer"))
    moving = {"Softmax", "SoftMax", "Reshape", "Transpose", "Convert", "Multiply"}
    reached = [key for key, kind in kinds.items() if kind in ("Softmax", "SoftMax")]
    for _ in range(4):
        reached = [to for key in reached for to in after.get(key, ()) if kinds[key] in moving]
        if any(kinds[key] == "MatMul" for key in reached):
            return True
    return False
