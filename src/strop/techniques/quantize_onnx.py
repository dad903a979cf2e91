"""Int8 for ONNX Runtime: weights only beforehand (dynamic), or activations too (static, in QDQ form)."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from .._quiet import silenced
from ..dataflow import Dataflow
from ..errors import NotApplicable
from ..formats.onnx import graph_of, load, save
from ..formats.onnx_graph import has_attention, is_quantized, named, prepared
from ..model import ONNX, Batch, Format, Model
from ..settings import choice
from ..target import Target
from ..technique import Context, Needs, Phase, Technique, Work
from ._calibration import feeds
from ._harm import keep
from ._kept import kept_folder
from ._onnx_fit import fit
from ._onnx_floats import keep_floats
from ._onnxruntime import optimize, runner

if TYPE_CHECKING:
    import onnx

MATRICES = frozenset({"MatMul", "Gemm"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
MOVING = frozenset({
    "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Relu", "Clip", "Concat", "Split", "Slice",
    "Pad", "Resize", "GlobalAveragePool", "AveragePool", "Add",
})  # fmt: skip
"""What passes int8 on between convolutions at no loss, or little."""
APART = 1 << 24
"""Bytes above which weights lie beside the graph while it is worked on, so that they are not in memory each time."""
MASK = 1e9
"""What no number but one of a mask reaches."""
Quantize: TypeAlias = Callable[[Path, Path, bool], None]
"""Makes of a file a quantized one; told whether weights lie beside it."""
_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


@dataclass(frozen=True)
class DynamicInt8(Technique):
    """Store the weights of matrix products as int8; activations are quantized while it runs.

    Attributes:
        per_channel: One scale a column, not one a matrix.
        convolutions: Quantize convolutions too: a smaller file, and several times slower on x86.
        embeddings: Quantize tables that are looked up.
        weights: `auto` keeps to 7 bits where the CPU's products would saturate; `full` always takes 8.
    """

    per_channel: bool = choice(True, False)
    convolutions: bool = choice(False, True)
    embeddings: bool = choice(True, False)
    weights: str = choice("auto", "full")

    accepts: ClassVar[frozenset[Format]] = frozenset({ONNX})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True

    def expects(self, target: Target) -> float:
        # Zen 3 (AVX2), 1 thread: 1.0 for a net of 7 convolutions, which stay float; 0.68 for 4 layers of BERT at 128.
        return 0.8 if target.int8_saturates else 0.6

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Overhead, with VNNI: two products of 64 x 64 at batch 1, 9.0 us for 6.9 in float32; of 256 x 256, 11.9 for
        # 14.6. Convolutions on the fly, on Zen 3: EfficientNet-Lite0 8.3, Magika 2.9.
        # Bare products there 0.53, and where they only read their weights 0.30 (`benchmarks/bound.md`).
        slower, products = 5.0 if self.convolutions else 1.0, 0.55 if target.int8_saturates else 0.6
        return {Work.OVERHEAD: 1.25, Work.CONVOLUTIONS: slower, Work.PRODUCTS: products, Work.WEIGHTS: 0.3}

    def requires(self, model: Model, target: Target) -> None:
        proto = graph_of(model)
        _check(proto, self.weights, target)
        if not any(node.op_type in self._operators() for node in proto.graph.node):
            raise NotApplicable("has no matrix product, LSTM or embedding to quantize outside of control flow")
        if self.convolutions and not any(node.op_type == "Conv" for node in proto.graph.node):
            raise NotApplicable("has no convolution to quantize")

    def apply(self, model: Model, context: Context) -> Model:
        return _quantized(model, context, self._quantize(context))

    def _quantize(self, context: Context) -> Quantize:
        """What quantizes a file."""
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        def quantize(source: Path, result: Path, large: bool) -> None:
            with _without_copies():
                quantize_dynamic(
                    source,
                    result,
                    op_types_to_quantize=sorted(self._operators() - {"Gemm"}),
                    per_channel=self.per_channel,
                    reduce_range=_reduced(self.weights, context.target),
                    weight_type=QuantType.QInt8,
                    use_external_data_format=large,
                    extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
                )

        return quantize

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        known, both = (
            self._operators(),
            "multiplies two activations, and only products with stored weights are quantized",
        )
        return {
            one.name: both
            if one.kind in known
            else f"{one.kind} is none of the operators that {self.label()} quantizes"
            for one in made.operators
            if one.kind not in known or (one.kind == "MatMul" and not set(one.inputs) & set(made.stored))
        }

    def _operators(self) -> frozenset[str]:
        tables = {"Gather", "EmbedLayerNormalization"} if self.embeddings else set()
        return MATRICES | {"LSTM", "Attention"} | tables | ({"Conv"} if self.convolutions else set())


@dataclass(frozen=True)
class StaticInt8(Technique):
    """Store weights as int8 and compute in int8, with ranges of activations learned from samples.

    The integers of a layer are those by which samples lose least, not each weight's nearest (GPTQ, Frantar et al. 2022,
    section 3), and its bias takes what its outputs lose on the mean (Nagel et al. 2019, section 4.2).

    Attributes:
        calibrator: How the range of an activation is found: its extremes, least loss of information, or a percentile.
        per_channel: One scale an output channel of the weights, not one a tensor.
        operators: Those with `weights` and what passes int8 on between them, or `all` that ONNX Runtime has in int8.
        exclude: `ends` keeps the first and the last operator with weights in float.
        nodes: Names of further nodes to keep in float, separated by commas.
        samples: Calibration samples.
        weights: `auto` keeps to 7 bits where the CPU's products would saturate; `full` always takes 8.
    """

    calibrator: str = choice("minmax", "entropy", "percentile")
    per_channel: bool = choice(True, False)
    operators: str = choice("weights", "all")
    exclude: str = choice("none", "ends")
    nodes: str = ""
    samples: int = choice(100, 50, 300)
    weights: str = choice("auto", "full")

    accepts: ClassVar[frozenset[Format]] = frozenset({ONNX})
    phase: ClassVar[Phase] = Phase.QUANTIZE
    quantizes: ClassVar[bool] = True
    version: ClassVar[int] = 5
    needs: ClassVar[Needs] = Needs.SAMPLES
    gentler: ClassVar[type[Technique] | None] = DynamicInt8  # whose ranges are those of each call

    def expects(self, target: Target) -> float:
        # The same two on Zen 3: 0.41 and 0.52. With VNNI, ResNet-18 and 6 layers of BERT: 0.30 and 0.32.
        return 0.5 if target.int8_saturates else 0.31

    def apart(self, target: Target) -> Mapping[Work, float]:
        # Overhead: 9.4 us for the same 6.9, and 11.3 for 14.6. Products that only read their weights: 0.31 on Zen 3.
        # Bare products there 0.51, and MiniLM-L6 as a whole 0.64 where dynamic int8 took 0.62.
        products = {Work.PRODUCTS: 0.57} if target.int8_saturates else {}
        return {Work.OVERHEAD: 1.35, Work.WEIGHTS: 0.3, **products}

    def requires(self, model: Model, target: Target) -> None:
        proto = graph_of(model)
        _check(proto, self.weights, target)
        if not any(node.op_type in MATRICES | CONVOLUTIONS for node in proto.graph.node):
            raise NotApplicable("has no convolution or matrix product to quantize outside of control flow")
        if through := {value.name for value in proto.graph.input} & {value.name for value in proto.graph.output}:
            raise NotApplicable(f"hands its input {min(through)!r} on as an output, which ONNX Runtime can't quantize")
        known = {node.name for node in proto.graph.node}
        if missing := [name for name in self._named() if name not in known]:
            raise NotApplicable(f"has no node {missing[0]!r} to keep in float")

    def doubts(self, model: Model) -> str:
        if not has_attention(graph_of(model)):
            return ""
        return (
            "transformers lose much by it, for a value's integers have one range here, and some channels are far wider "
            "than others: MiniLM-L6 0.41 of its outputs' power, PP-OCRv4 rec 0.17 (`benchmarks/rounding.md`)"
        )

    def apply(self, model: Model, context: Context) -> Model:
        quantized = self.both(model, context)[1]
        keep_floats(quantized.graph)
        return save(quantized, context.folder, model)

    def both(self, model: Model, context: Context, whole: bool = False) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """What was quantized, and what became of it, its weights and biases fitted to samples.

        Args:
            whole: Whether activations stay whose clipping the range of an int8 value covers.
        """
        original, quantized = both(model, context, self._quantize(model, context, whole))
        settings = {"per_channel": self.per_channel, "weights": self.weights, "version": StaticInt8.version}
        fit(original, quantized, model, context, kept_folder("fitted", model, settings, context))
        return original, quantized

    def _quantize(self, model: Model, context: Context, whole: bool) -> Quantize:
        """What quantizes a file."""
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        def quantize(source: Path, result: Path, large: bool) -> None:
            ranges = source.with_name("ranges.json")
            operators = self._operators()
            _prepare_weights(source)
            masked = self._calibrate(source, ranges, operators, model, context, large)
            quantize_static(
                source,
                result,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=operators,
                per_channel=self.per_channel,
                reduce_range=_reduced(self.weights, context.target),
                activation_type=QuantType.QUInt8 if _x86() else QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=self._excluded(source, masked),
                calibrate_method=CalibrationMethod[_METHODS[self.calibrator]],
                calibration_cache_path=ranges,
                extra_options={"QDQKeepRemovableActivations": whole},
                use_external_data_format=large,
            )

        return quantize

    def spared(self, made: Dataflow) -> Mapping[str, str]:
        known, named = set(self._operators()), self._named()
        weighted = [one.name for one in made.operators if one.kind in MATRICES | CONVOLUTIONS]
        ends = {weighted[0], weighted[-1]} if self.exclude == "ends" and weighted else set()
        found = {
            one.name: f"{one.kind} is none of the operators that {self.label()} quantizes (operators={self.operators})"
            for one in made.operators
            if one.kind not in known
        }
        found |= dict.fromkeys(ends, "the setting exclude=ends keeps the first and the last operator with weights")
        return found | {one.name: "the setting nodes names it" for one in made.operators if _is_named(one.name, named)}

    def _calibrate(
        self, source: Path, ranges: Path, operators: list[str], model: Model, context: Context, large: bool
    ) -> set[str]:
        """Write the range of every activation; what other settings of a run have learned is used again.

        Returns:
            The values that hold a mask: to steps of int8 that span it, all else is nothing.
        """
        settings = {"calibrator": self.calibrator, "operators": operators, "samples": self.samples}
        kept = kept_folder("ranges", model, settings, context)
        if not (kept / "masked.json").exists():
            masked = self._ranges(source, kept / "ranges.json", operators, model, context, large)
            keep(kept / "masked.json", sorted(masked))
        shutil.copyfile(kept / "ranges.json", ranges)
        return set(json.loads((kept / "masked.json").read_text()))

    def _ranges(
        self, source: Path, ranges: Path, operators: list[str], model: Model, context: Context, large: bool
    ) -> set[str]:
        """The same, learned; memory never holds the activations of more than one feed."""
        from onnxruntime.quantization import calibrate

        kind = getattr(calibrate, f"{_METHODS[self.calibrator]}Calibrater")
        calibrator = kind(source, operators, source.with_name("augmented.onnx"), use_external_data_format=large)
        calibrator.augment_graph()
        calibrator.model = None  # the session loads its own
        calibrator.create_inference_session()
        given = feeds(model.signature, context, self.samples, lambda: runner(source))
        if self.calibrator == "minmax":  # keeps two numbers a feed, and can't merge those of separate readers
            calibrator.collect_data(_Reader(given))
        else:
            for feed in given:
                try:
                    calibrator.collect_data(_Reader(iter([feed])))
                except ValueError as error:  # of NumPy's histograms
                    raise NotApplicable(
                        f"an activation has no histogram ({error}), as one with a mask of the lowest number there is; "
                        "calibrator=minmax does without"
                    ) from error
        found = calibrator.compute_data()
        calibrate.save_tensors_data(found, ranges)
        return {name for name, data in found.items() if max(map(np.max, map(np.abs, data.range_value))) > MASK}

    def _operators(self) -> list[str]:
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        if self.operators == "weights":
            return sorted(MATRICES | CONVOLUTIONS | MOVING)
        return sorted({*QDQRegistry, *QLinearOpsRegistry})

    def _named(self) -> list[str]:
        return [name.strip() for name in self.nodes.split(",") if name.strip()]

    def _excluded(self, source: Path, masked: Collection[str]) -> list[str]:
        import onnx

        graph = onnx.load(source, load_external_data=False).graph
        nodes, outputs = graph.node, {value.name for value in graph.output}
        # The quantizer gives what is clipped no range beyond the clip, though it be an output.
        clips = [node.name for node in nodes if node.op_type in ("Relu", "Clip") and node.input[0] in outputs]
        kept = [node.name for node in nodes if _is_named(node.name, self._named())]
        kept += [node.name for node in nodes if not {*node.input, *node.output}.isdisjoint(masked)]
        weighted = [n.name for n in nodes if n.op_type in MATRICES | CONVOLUTIONS]
        return kept + clips + ([weighted[0], weighted[-1]] if self.exclude == "ends" and weighted else [])


def _is_named(node: str, names: Sequence[str]) -> bool:
    # Optimizing appends what it did to a node's name: `/fc/MatMul` becomes `/fc/MatMul/MatMulAddFusion`.
    return any(node == name or node.startswith(f"{name}/") for name in names)


def _prepare_weights(path: Path) -> None:
    """Give each operator a bias of its own, of shape [n], and products that read weights transposed their own weights.

    ONNX Runtime writes some biases of shape [1, n], which its quantizer does not know; of a shared one the quantizer
    makes copies, under names that may be there already; and shared weights get the scales of one of their two axes.
    """
    import onnx

    proto = onnx.load(path, load_external_data=False)
    known = {tensor.name: tensor for tensor in proto.graph.initializer}
    taken, seen = {name for node in proto.graph.node for name in (*node.input, *node.output)}, set[str]()
    straight = {value for node in proto.graph.node if not _transposed(node) for value in node.input[1:2]}

    def separate(node: onnx.NodeProto, place: int) -> None:
        own = proto.graph.initializer.add()
        own.CopyFrom(known[node.input[place]])
        own.name = next(name for n in count() if (name := f"{own.name}/{n}") not in taken)
        taken.add(own.name)
        node.input[place] = own.name

    for node in proto.graph.node:
        if _transposed(node) and node.input[1] in straight & known.keys():
            separate(node, 1)
        if node.op_type in CONVOLUTIONS | {"Gemm"} and len(node.input) > 2 and node.input[2] in known:
            if node.input[2] in seen:
                separate(node, 2)
            seen.add(node.input[2])
    biases = {node.input[2] for node in proto.graph.node if node.op_type == "Gemm" and len(node.input) > 2}
    others = {name for n in proto.graph.node for at, name in enumerate(n.input) if n.op_type != "Gemm" or at != 2}
    for tensor in proto.graph.initializer:
        if tensor.name in biases - others and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]
    onnx.save(proto, path)


def _transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and any(one.name == "transB" and one.i for one in node.attribute)


class _Reader:
    """Feeds in the form that ONNX Runtime's calibrators read."""

    def __init__(self, given: Iterator[Batch]):
        self.given = given

    def get_next(self) -> Batch | None:
        return next(self.given, None)


def _quantized(model: Model, context: Context, quantize: Quantize) -> Model:
    return save(both(model, context, quantize)[1], context.folder, model)


def both(model: Model, context: Context, quantize: Quantize) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Prepare a graph in a scratch folder and quantize it there: what was quantized, and what became of it.

    Raises:
        NotApplicable: There is nothing that can be quantized.
    """
    import onnx

    context.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.folder, prefix=".scratch-") as folder, silenced():
        source, result = Path(folder, "folded", "model.onnx"), Path(folder, "quantized", "model.onnx")
        source.parent.mkdir()
        result.parent.mkdir()
        ready = save(prepared(load(model)), Path(folder), model, one_file=APART)
        large = len(ready.files) > 1
        optimize(ready.path, source, "basic", apart=large)  # as ONNX Runtime's own pre-processing does
        quantize(source, result, large)
        before, proto = onnx.load(source), named(onnx.load(result))  # the quantizer gives names that may be taken
    if not is_quantized(proto):
        raise NotApplicable("none of its operators has weights that can be quantized")
    return before, proto


@contextlib.contextmanager
def _without_copies() -> Iterator[None]:
    """Keep ONNX Runtime's dynamic quantizer from copying the model twice, which takes four times its size.

    It does so to infer once more, after it has split each Gemm into MatMul and Add, the types of the values in between:
    they are float, as `DefaultTensorType` says.
    """
    from onnxruntime.quantization import onnx_quantizer as module

    reload = module.save_and_reload_model_with_shape_infer
    module.save_and_reload_model_with_shape_infer = lambda model: model
    try:
        yield
    finally:
        module.save_and_reload_model_with_shape_infer = reload


def _check(proto: onnx.ModelProto, weights: str, target: Target) -> None:
    if is_quantized(proto):
        raise NotApplicable("is already quantized")
    if any(tensor.data_type == tensor.FLOAT16 and len(tensor.dims) > 1 for tensor in proto.graph.initializer):
        raise NotApplicable("has weights in float16, and int8 is made of float32 ones")
    if weights == "full" and not target.int8_saturates:
        raise NotApplicable("this CPU never saturates, so that `auto` takes 8 bits too")


def _reduced(weights: str, target: Target) -> bool:
    return weights == "auto" and target.int8_saturates


def _x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")
