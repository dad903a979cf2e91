"""What int8 and bf16 throughout lose: as ONNX Runtime, NNCF and OpenVINO make them, and as strop does. Writes
`rounding.md`.

    pip install -e '.[openvino]' && pip install -r benchmarks/requirements.txt
    python benchmarks/rounding.py [NAME ...]

Some ten minutes. The models and samples are those of `mixed.py`: a quarter of the samples calibrates, and errors (NMSE
of the outputs) are those on another quarter. Peers are told what strop decides by itself: ranges of ONNX Runtime are
its least and greatest values, its weights by channel, and where products saturate, weights keep to 7 bits. That is what
they have on a CPU without VNNI; where this one has it, both are told, and bf16 where it computes in that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mixed import NAMES, Samples, prepare

from models import CACHE
from strop import formats, runtimes
from strop._quiet import nncf, openvino, silenced
from strop.data import Data, match
from strop.formats.onnx_graph import prepared
from strop.formats.openvino import has_attention
from strop.model import Batch, Model
from strop.nmse import nmse
from strop.target import Target, computes, cpu_name
from strop.technique import Context, Technique, apply
from strop.techniques import MixedOpenvino, OpenvinoInt8, StaticInt8, ToOpenvino
from strop.techniques._onnxruntime import optimize, runner
from strop.techniques._openvino_graph import runner as openvino_runner

HERE = Path(__file__).parent
SAMPLES, CALIBRATED = 64, 100
Step = Callable[[Batch], dict[str, Any]]


class Saturating(Target):
    """As a CPU without VNNI: weights keep to 7 bits."""

    int8_saturates = True  # type: ignore[assignment]


PLAIN = Target(threads=1)
TARGETS = [Saturating(threads=1), *([] if PLAIN.int8_saturates else [PLAIN])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=(*NAMES, []))
    rows = [row for name in parser.parse_args().names or NAMES for row in rows_of(name)]
    lines = [
        "# Rounding", "",
        f"Written by `benchmarks/rounding.py`; {cpu_name()}. Int8 throughout, made with {CALIBRATED} samples, its "
        "weights in 7 bits as where products saturate (no VNNI), or in all 8; and bf16, where the CPU has it. What the "
        f"outputs lose (NMSE, the mean over {SAMPLES} samples that no tool has seen, and the median), and the seconds "
        "that making it took.", "",
        "| model | runtime | weights | the tool's own: mean | median | seconds | strop: mean | median | seconds "
        "| error |",
        "|---|---|---|---|---|---|---|---|---|---|", *rows,
    ]  # fmt: skip
    (HERE / "rounding.md").write_text("\n".join(lines) + "\n")


def rows_of(name: str) -> list[str]:
    """The lines of a model."""
    folder = CACHE / "mixed" / name
    prepare(name, folder)
    samples, model = Samples(folder, "search"), formats.open(folder / "model.onnx")
    data, signature = match(Data(Samples(folder, "calibration").arrays), model.signature)
    model = type(model)(**{**vars(model), "signature": signature})
    calibration = [data.batch(row, row + 1) for row in spread(len(data))]
    given = [samples(row) for row in np.linspace(0, len(samples) - 1, SAMPLES).astype(int)]
    lines = []
    with tempfile.TemporaryDirectory(prefix="rounding-") as scratch:
        base = converted(model, data, Path(scratch, "openvino"))
        cases: list[tuple[str, str, Model, Maker, Maker]] = []
        for target in TARGETS:
            bits = "7 bits" if target.int8_saturates else "8 bits"
            cases += [
                ("onnxruntime", bits, model, by_onnxruntime(calibration, target), by_static(data, target)),
                ("openvino", bits, base, by_nncf(calibration, target), by_openvino(data, target)),
            ]
        if computes("bf16"):
            cases.append(("openvino", "bf16", base, as_loaded, by_mix(data)))
        for number, (runtime, weights, source, *makers) in enumerate(cases):
            exact = onnx_step(source) if runtime == "onnxruntime" else openvino_step(source)
            right, told = [exact(feed) for feed in given], []
            for who, maker in zip(("own", "strop"), makers, strict=True):
                begun = time.perf_counter()
                step = maker(source, Path(scratch, f"{number}-{who}"))
                seconds = time.perf_counter() - begun
                errors = [nmse(step(feed), one) for feed, one in zip(given, right, strict=True)]
                told.append((float(np.mean(errors)), float(np.median(errors)), seconds))
            shown = " | ".join(f"{mean:.4f} | {median:.4f} | {seconds:.0f}" for mean, median, seconds in told)
            lines.append(f"| {name} | {runtime} | {weights} | {shown} | {told[1][0] / told[0][0]:.2f}x |")
            print(lines[-1], flush=True)
    return lines


Maker = Callable[[Model, Path], Step]
"""Makes something of a model in a folder of its own."""


def converted(model: Model, data: Data, folder: Path) -> Model:
    folder.mkdir()
    return apply(ToOpenvino(), model, Context(data, model, PLAIN, 0, folder / "made"))


def by_static(data: Data, target: Target) -> Maker:
    return lambda model, folder: onnx_step(applied(StaticInt8(samples=CALIBRATED), model, data, target, folder))


def by_openvino(data: Data, target: Target) -> Maker:
    return lambda model, folder: openvino_step(applied(OpenvinoInt8(samples=CALIBRATED), model, data, target, folder))


def by_mix(data: Data) -> Maker:
    """Every layer in bf16, as mixes have it."""

    def made(model: Model, folder: Path) -> Step:
        folder.mkdir()
        parts = MixedOpenvino(samples=CALIBRATED).parts(model, Context(data, model, PLAIN, 0, folder / "made"))
        return parts.step(dict.fromkeys(parts.members, "bf16"))

    return made


def as_loaded(model: Model, folder: Path) -> Step:
    """OpenVINO's own bf16."""
    return runtimes.find("openvino").of({"precision": "bf16"}).load(model, PLAIN)


def applied(technique: Technique, model: Model, data: Data, target: Target, folder: Path) -> Model:
    folder.mkdir()
    return apply(technique, model, Context(data, model, target, 0, folder / "made"))


def spread(count: int) -> np.ndarray[Any, Any]:
    return np.linspace(0, count - 1, min(count, CALIBRATED)).astype(int)


def onnx_step(model: Model) -> Step:
    return runner(model.path, 1)


def openvino_step(model: Model) -> Step:
    return openvino_runner(openvino().Core().read_model(str(model.path)), 1)


def by_onnxruntime(given: list[Batch], target: Target) -> Maker:
    """As its own `quantize_static` does, of a graph that its pre-processing made."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    class Reader:
        def __init__(self) -> None:
            self.feeds = iter(given)

        def get_next(self) -> Batch | None:
            return next(self.feeds, None)

    def made(model: Model, folder: Path) -> Step:
        folder.mkdir()
        onnx.save(prepared(onnx.load(model.path)), folder / "ready.onnx")
        optimize(folder / "ready.onnx", folder / "folded.onnx", "basic", apart=False)
        with silenced():
            quantize_static(
                folder / "folded.onnx", folder / "int8.onnx", Reader(), per_channel=True,  # type: ignore[arg-type]
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=target.int8_saturates,
            )  # fmt: skip
        return runner(folder / "int8.onnx", 1)

    return made


def by_nncf(given: list[Batch], target: Target) -> Maker:
    """As its `quantize` does."""
    from nncf.quantization import advanced_parameters as advanced

    def made(model: Model, folder: Path) -> Step:
        with nncf() as library:
            fix = advanced.OverflowFix.ENABLE if target.int8_saturates else advanced.OverflowFix.DISABLE
            graph = library.quantize(
                openvino().Core().read_model(str(model.path)), library.Dataset(given), subset_size=len(given),
                model_type=library.ModelType.TRANSFORMER if has_attention(model) else None,
                advanced_parameters=advanced.AdvancedQuantizationParameters(overflow_fix=fix),
            )  # fmt: skip
        return openvino_runner(graph, 1)

    return made


if __name__ == "__main__":
    main()
