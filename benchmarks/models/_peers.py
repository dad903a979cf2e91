"""A prepared model in the form that a tool for single steps takes: one input, and its samples as `x`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ._case import Case


def export(case: Case, folder: Path, target: Path) -> None:
    """Write `model.onnx` with one input and `val.npz` (x, and labels where there are any).

    Of two inputs the second must be a mask that is 1 where the first is not 0; it is then computed in the model.
    """
    target.mkdir(parents=True, exist_ok=True)
    with np.load(folder / "data.npz") as stored:
        inputs = {name: stored[name] for name in stored if name not in ("labels", case.group)}
        labels = {"labels": stored["labels"]} if "labels" in stored else {}
    if labels and len(labels["labels"]) <= 400:
        # The tool then judges the samples from the 60th on, and yet looks for their labels from the 300th on.
        labels["labels"] = np.concatenate([np.repeat(labels["labels"][:1], 240, axis=0), labels["labels"]])
    first, *masks = inputs
    np.savez(target / "val.npz", x=inputs[first], **labels)
    if masks:
        _compute_mask(folder / "model.onnx", first, masks[0], target / "model.onnx")
    else:
        shutil.copyfile(folder / "model.onnx", target / "model.onnx")


def _compute_mask(model: Path, given: str, mask: str, file: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    loaded = onnx.load(model)
    graph = loaded.graph
    graph.input.remove(next(one for one in graph.input if one.name == mask))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "padding"))
    nodes = [
        helper.make_node("Equal", [given, "padding"], ["is_padding"]),
        helper.make_node("Not", ["is_padding"], ["is_token"]),
        helper.make_node("Cast", ["is_token"], [mask], to=TensorProto.INT64),
    ]
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    onnx.checker.check_model(loaded)
    onnx.save(loaded, file)
