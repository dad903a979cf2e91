"""What int8 throughout loses: as ONNX Runtime and NNCF make it, and as strop does. Writes `rounding.md`.

    pip install -e '.[openvino]' && pip install -r benchmarks/requirements.txt
    python benchmarks/rounding.py [NAME ...]

Some five minutes. The models and samples are those of `mixed.py`: a quarter of the samples calibrates, and errors (NMSE
of the outputs) are those on another quarter. Peers are told what strop decides by itself: ranges of ONNX Runtime are
its least and greatest values, its weights by channel, and where the CPU's products saturate, weights keep to 7 bits.
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
from strop import formats
from strop._quiet import nncf, openvino, silenced
from strop.data import Data, match
from strop.formats.onnx_graph import prepared
from strop.formats.openvino import has_attention
from strop.model import Batch, Model
from strop.nmse import nmse
from strop.target import Target, cpu_name
from strop.technique import Context, Technique, apply
from strop.techniques import OpenvinoInt8, StaticInt8, ToOpenvino
from strop.techniques._onnxruntime import optimize, runner
from strop.techniques._openvino_graph import runner as openvino_runner

HERE = Path(__file__).parent
SAMPLES, CALIBRATED = 64, 100
TARGET = Target(threads=1)
Step = Callable[[Batch], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=(*NAMES, []))
    rows = [row for name in parser.parse_args().names or NAMES for row in rows_of(name)]
    bits = "keep to 7 bits, for its products saturate" if TARGET.int8_saturates else "have 8 bits"
    lines = [
        "# Rounding", "",
        f"Written by `benchmarks/rounding.py`; {cpu_name()}, whose weights {bits}. Int8 throughout, made with "
        f"{CALIBRATED} samples: what the outputs lose (NMSE, the mean over {SAMPLES} samples that no tool has "
        "seen, and the median), and the seconds that making it took.", "",
        "| model | runtime | the tool's own: mean | median | seconds | strop: mean | median | seconds | error |",
        "|---|---|---|---|---|---|---|---|---|", *rows,
    ]  # fmt: skip
    (HERE / "rounding.md").write_text("\n".join(lines) + "\n")


def rows_of(name: str) -> list[str]:
    """The two lines of a model."""
    folder = CACHE / "mixed" / name
    prepare(name, folder)
    samples, model = Samples(folder, "search"), formats.open(folder / "model.onnx")
    data, signature = match(Data(Samples(folder, "calibration").arrays), model.signature)
    model = type(model)(**{**vars(model), "signature": signature})
    given = [samples(row) for row in np.linspace(0, len(samples) - 1, SAMPLES).astype(int)]
    lines = []
    with tempfile.TemporaryDirectory(prefix="rounding-") as scratch:
        base = made(ToOpenvino(), model, data, Path(scratch, "openvino"))[0]
        for kind, source, own, technique, run in (
            ("onnxruntime", model, by_onnxruntime, StaticInt8(samples=CALIBRATED), onnx_step),
            ("openvino", base, by_nncf, OpenvinoInt8(samples=CALIBRATED), openvino_step),
        ):
            exact = run(source)
            right = [exact(feed) for feed in given]
            begun = time.perf_counter()
            peer = own(source, [data.batch(row, row + 1) for row in spread(len(data))], Path(scratch, f"{kind}-own"))
            seconds = time.perf_counter() - begun
            ours, mine = made(technique, source, data, Path(scratch, f"{kind}-strop"))
            errors = [
                [nmse(step(feed), one) for feed, one in zip(given, right, strict=True)] for step in (peer, run(ours))
            ]
            theirs, fine = ([float(tell(one)) for tell in (np.mean, np.median)] for one in errors)
            lines.append(
                f"| {name} | {kind} | {theirs[0]:.4f} | {theirs[1]:.4f} | {seconds:.0f} "
                f"| {fine[0]:.4f} | {fine[1]:.4f} | {mine:.0f} | {fine[0] / theirs[0]:.2f}x |"
            )
            print(lines[-1], flush=True)
    return lines


def made(technique: Technique, model: Model, data: Data, folder: Path) -> tuple[Model, float]:
    """What a step makes, and the seconds that it took."""
    folder.mkdir()
    begun = time.perf_counter()
    found = apply(technique, model, Context(data, model, TARGET, 0, folder / "made"))
    return found, time.perf_counter() - begun


def spread(count: int) -> np.ndarray[Any, Any]:
    return np.linspace(0, count - 1, min(count, CALIBRATED)).astype(int)


def onnx_step(model: Model) -> Step:
    return runner(model.path, 1)


def openvino_step(model: Model) -> Step:
    return openvino_runner(openvino().Core().read_model(str(model.path)), 1)


def by_onnxruntime(model: Model, given: list[Batch], folder: Path) -> Step:
    """As its own `quantize_static` does, of a graph that its pre-processing made."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    folder.mkdir()
    onnx.save(prepared(onnx.load(model.path)), folder / "ready.onnx")
    optimize(folder / "ready.onnx", folder / "folded.onnx", "basic", apart=False)
    feeds = iter(given)

    class Reader:
        def get_next(self) -> Batch | None:
            return next(feeds, None)

    with silenced():
        quantize_static(
            folder / "folded.onnx", folder / "int8.onnx", Reader(), per_channel=True,  # type: ignore[arg-type]
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=TARGET.int8_saturates,
        )  # fmt: skip
    return runner(folder / "int8.onnx", 1)


def by_nncf(model: Model, given: list[Batch], folder: Path) -> Step:
    """As its `quantize` does."""
    from nncf.quantization import advanced_parameters as advanced

    with nncf() as library:
        fix = advanced.OverflowFix.ENABLE if TARGET.int8_saturates else advanced.OverflowFix.DISABLE
        graph = library.quantize(
            openvino().Core().read_model(str(model.path)), library.Dataset(given), subset_size=len(given),
            model_type=library.ModelType.TRANSFORMER if has_attention(model) else None,
            advanced_parameters=advanced.AdvancedQuantizationParameters(overflow_fix=fix),
        )  # fmt: skip
    return openvino_runner(graph, 1)


if __name__ == "__main__":
    main()
