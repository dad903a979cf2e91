"""Would single layers err less in int8 by other ranges of what goes into them? Writes `ranges.md`.

    pip install -e '.[openvino]' && pip install -r benchmarks/requirements.txt
    python benchmarks/ranges.py [NAME ...]

Mixes of precisions (`mixed-onnx`, `mixed-openvino`) take the ranges of activations from one calibration: the greatest
and the least value in ONNX Runtime, the mean over samples of both in OpenVINO (NNCF's default). Here each of the groups
that harm most when they alone are in int8 is tried with ranges that are narrower and wider. Half of the samples choose
the range, the others tell what it did.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mixed import NAMES, Samples, prepare
from onnx import numpy_helper

from models import CACHE
from strop import formats
from strop._quiet import openvino
from strop.data import Data, match
from strop.model import Batch
from strop.nmse import nmse
from strop.target import Target, cpu_name
from strop.technique import Context, Parts
from strop.techniques import MixedOnnx, MixedOpenvino
from strop.techniques._onnx_mix import QUANTIZE

HERE = Path(__file__).parent
TRIED = (0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
GROUPS, SAMPLES = 10, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=(*NAMES, []))
    rows = [row(name, kind) for name in parser.parse_args().names or NAMES for kind in ("onnx", "openvino")]
    lines = [
        "# Ranges of single layers", "",
        f"Written by `benchmarks/ranges.py`; {cpu_name()}. Of each model, the {GROUPS} groups of layers that harm most "
        f"when they alone are in int8, by other ranges of what goes into them ({TRIED[0]} to {TRIED[-1]} times as "
        "wide). Half of the samples choose; errors (NMSE of the outputs) are those of the others.", "",
        "| model | runtime | share of all harm | better by another range | their error then, summed "
        "| the best of them |",
        "|---|---|---|---|---|---|", *rows,
    ]  # fmt: skip
    (HERE / "ranges.md").write_text("\n".join(lines) + "\n")


def row(name: str, kind: str) -> str:
    """A line of the table."""
    folder = CACHE / "mixed" / name
    prepare(name, folder)
    technique = MixedOnnx() if kind == "onnx" else MixedOpenvino()
    model = formats.open(folder / ("model.onnx" if kind == "onnx" else "float/model.xml"))
    samples = Samples(folder, "calibration")
    data, signature = match(Data(samples.arrays), model.signature)
    model = type(model)(**{**vars(model), "signature": signature})
    with tempfile.TemporaryDirectory(prefix="ranges-") as scratch:
        context = Context(data, model, Target(threads=1), 0, Path(scratch, "made"), shared=Path(scratch))
        parts = technique.parts(model, context)
        given = [samples(row) for row in np.linspace(0, len(samples) - 1, SAMPLES).astype(int)]
        exact = parts.step(dict.fromkeys(parts.members, "f32"))
        tried = Tried(parts, given, [exact(feed) for feed in given])
        alone = {group: tried(group, 1.0) for group in parts.members}
        first = sorted(alone, key=lambda group: -alone[group].sum())[:GROUPS]
        found = [chosen({share: tried(group, share) for share in TRIED}) for group in first]
    before, after = (np.array([pair[place] for pair in found]) for place in (0, 1))
    covered = sum(alone[group].sum() for group in first) / sum(errors.sum() for errors in alone.values())
    line = (
        f"| {name} | {kind} | {covered:.0%} | {np.sum(after < 0.95 * before)} of {len(first)} "
        f"| {after.sum() / before.sum():.2f}x | {min(after / before):.2f}x |"
    )
    print(line, flush=True)
    return line


def chosen(errors: dict[float, np.ndarray]) -> tuple[float, float]:
    """The error on the samples that did not choose: by the range as it was, and by the best on the others."""
    best = min(errors, key=lambda share: errors[share][::2].mean())
    return float(errors[1.0][1::2].mean()), float(errors[best][1::2].mean())


class Tried:
    """Errors of each sample where one group is in int8, and what goes into it has ranges so many times as wide."""

    def __init__(self, parts: Parts, given: Sequence[Batch], right: Sequence[Batch]):
        self.parts, self.given, self.right = parts, given, right

    def __call__(self, group: str, share: float) -> np.ndarray:
        mix = {name: "int8" if name == group else "f32" for name in self.parts.members}
        grouped = self.parts.grouped  # type: ignore[attr-defined]
        widened = stretched_onnx if isinstance(grouped.mixed(mix), onnx.ModelProto) else stretched_openvino

        class Stretched(type(grouped)):  # type: ignore[misc]
            def mixed(self, precisions: Any, **how: Any) -> Any:
                return widened(super().mixed(precisions, **how), share)

        own = Stretched(**{name: getattr(grouped, name) for name in grouped.__dataclass_fields__})
        step: Callable[[Batch], dict[str, Any]] = type(self.parts)(own, self.parts.model, self.parts.target).step(mix)  # type: ignore[attr-defined,call-arg]
        return np.array([nmse(step(feed), right) for feed, right in zip(self.given, self.right, strict=True)])


def stretched_onnx(proto: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """All activations that are rounded, by scales so many times as large."""
    scales = {node.input[1] for node in proto.graph.node if node.op_type == QUANTIZE}
    for tensor in proto.graph.initializer:
        if tensor.name in scales:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(share), tensor.name))
    return proto


def stretched_openvino(graph: Any, share: float) -> Any:
    """The same of FakeQuantize of what is not a constant."""
    library = openvino()
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and moving(node.input_value(0).get_node()):
            for port in node.inputs()[1:]:
                bound = port.get_source_output().get_node().data * np.float32(share)
                port.replace_source_output(library.opset13.constant(bound.astype(np.float32)).output(0))
    return graph


def moving(node: Any) -> bool:
    """Whether it hangs on more than constants."""
    while node.get_type_name() in ("Reshape", "Convert"):
        node = node.input_value(0).get_node()
    return node.get_type_name() != "Constant"


if __name__ == "__main__":
    main()
