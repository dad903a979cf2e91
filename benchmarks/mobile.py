"""To .tflite: a MobileNet in Keras with every type that LiteRT has, and EfficientNet-Lite0 from PyTorch.

    apt-get update && apt-get install dataset-fashion-mnist
    pip install -e '.[tensorflow,torch,images]' && strop doctor --install litert-torch
    python benchmarks/fashion_mobilenet.py       # trains the first of the two
    python benchmarks/mobile.py                  # --budget 10m, --only fashion or efficientnet

Writes `mobile.md`. Each variant is made by strop's own steps and compared with the float32 file in turn; some are
trained on the 60,000 train images first, two epochs each. Then `strop optimize --target mobile` searches under two
limits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fashion_mobilenet import MODEL, images
from models._fetch import CACHE

import strop
from models import photo
from strop.data import Data, match, split
from strop.learning import Training
from strop.model import Model
from strop.plan import Candidate
from strop.prepare import complete, open_model
from strop.runtime import predict
from strop.runtimes import Litert
from strop.stats import Interval
from strop.target import Target, cpu_name
from strop.technique import Context, Technique, apply
from strop.techniques import (
    ClusterWeights,
    Factorize,
    KerasToTflite,
    PruneChannels,
    TfliteFloat16,
    TfliteInt8,
    TfliteWeights,
    ToTflite,
)
from strop.units import quantity, share

HERE = Path(__file__).parent
FOLDER = CACHE / "mobile"
ONE = Target(threads=1)
LIMITS = ("accuracy >= 90% of original", "accuracy >= 99% of original")
VARIANTS: Mapping[str, tuple[Technique, ...]] = {
    "float16 weights": (TfliteFloat16(),),
    "int8 weights, computed in float": (TfliteWeights(compute="float"),),
    "int8 weights, dynamic range": (TfliteWeights(),),
    "int4 weights, dynamic range": (TfliteWeights(weights="int4"),),
    "int8 throughout": (TfliteInt8(),),
    "int8 throughout, one scale a layer": (TfliteInt8(per_channel=False),),
    "int8 throughout, integers in and out": (TfliteInt8(integer_ends=True),),
    "int8 weights, int16 activations": (TfliteInt8(activations="int16"),),
    "32 values a layer": (ClusterWeights(),),
    "32 values a layer, int8 throughout": (ClusterWeights(), TfliteInt8()),
}
TRAINED: Mapping[str, Technique] = {
    "half of the operations pruned, int8 throughout": PruneChannels(amount=0.5),
    "four fifths of the operations pruned, int8 throughout": PruneChannels(amount=0.8),
    "factorized by a fifth, int8 throughout": Factorize(amount=0.2),
}
TRAINING = Training(epochs=2, batch=128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="10m", help="of each search; 10m by default")
    parser.add_argument("--only", choices=("fashion", "efficientnet"))
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    parts = {"fashion": lambda: fashion(options.budget), "efficientnet": efficientnet}
    for name, part in parts.items():
        if options.only in (None, name):
            title, *lines = part()
            told = f"{cpu_name()}, 1 thread: latencies are this machine's, not a phone's."
            (FOLDER / f"{name}.md").write_text("\n".join([title, "", told, *lines]) + "\n")
    head = [
        "# Models for phones", "",
        "Written by `benchmarks/mobile.py`. Ratios are to the float32 file, measured in turn.", "",
    ]  # fmt: skip
    written = [(FOLDER / f"{name}.md").read_text() for name in parts if (FOLDER / f"{name}.md").exists()]
    (HERE / "mobile.md").write_text("\n".join(head) + "\n" + "\n".join(written))


def fashion(budget: str) -> list[str]:
    x, y = images("t10k")
    np.savez(FOLDER / "fashion.npz", pixels=x, labels=y)
    data = Data({"pixels": x}, y)
    parts = split(data, 0)
    float32, original = converted(MODEL, KerasToTflite(), parts.calibration, "fashion")
    trained = json.loads((MODEL.parent / "trained.json").read_text())
    lines = [
        "## A MobileNet of Keras, Fashion-MNIST", "",
        f"{trained['parameters']:,} parameters; {trained['accuracy']:.4f} of 10,000 test images right. Accuracy below "
        f"is that of {len(parts.confirm):,} of them, which calibrated nothing; intervals at 95 %, one-sided.", "",
        "| type | size | of float32 | compressed | latency.p50 | of float32 | accuracy | change |", "|---" * 8 + "|",
    ]  # fmt: skip
    train = Data({"pixels": (learned := images("train"))[0]}, learned[1])
    judged = {"pixels": parts.confirm.batch(0, len(parts.confirm))["pixels"], "labels": parts.confirm.label_array()}
    for name in (*VARIANTS, *TRAINED):
        folder = f"fashion/{name.replace(' ', '-')}"
        if name in TRAINED:
            made = taught(original, TRAINED[name], parts.calibration, train, folder)
        else:
            made = built(float32, original, VARIANTS[name], parts.calibration, folder)
        found = strop.compare(float32.path, made.path, judged, metric=("accuracy", "size.compressed"), target=ONE)
        lines += [row("float32", found["original"], None)] * (name == next(iter(VARIANTS)))
        lines.append(row(name, found["candidate"], found))
    lines += ["", "`strop optimize model.keras --target mobile`, minimizing latency.p50:", ""]
    lines += [
        "| limits | verdict | what came of it | size | latency.p50 | of the original's | accuracy |",
        "|---" * 7 + "|",
    ]
    return lines + [searched(limit, budget) for limit in LIMITS]


def efficientnet() -> list[str]:
    folder = FOLDER / "efficientnet"
    data = folder / "data.npz"
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(data, **photo.crops())
    stored = np.load(data)
    samples = Data({"inputs": stored["image"]}, groups=stored["photo"])
    parts = split(samples, 0)
    float32, original = converted(photo.network(), ToTflite(), parts.calibration, "efficientnet")
    unseen = parts.confirm.batch(0, len(parts.confirm))
    runner = Litert().load(float32, ONE)
    answers = predict(runner, float32.signature, parts.confirm, 1)["output"]
    runner.close()
    import torch

    with torch.inference_mode():
        wanted = photo.network()(torch.from_numpy(unseen["inputs"])).numpy()
    off = float(np.abs(answers - wanted).max() / np.abs(wanted).max())
    made = built(float32, original, (TfliteInt8(),), parts.calibration, "efficientnet/int8")
    judged = {"inputs": unseen["inputs"], "photo": parts.confirm.group_array()}
    found = strop.compare(float32.path, made.path, judged, metric=("fidelity", "agreement"), group="photo", target=ONE)
    told = found["candidate"]["metrics"]
    return [
        "## EfficientNet-Lite0, from PyTorch by litert-torch", "",
        f"The .tflite differs from the module by {off:.1e} of the largest logit, over {len(answers):,} crops of "
        f"photos. int8 throughout has a fidelity of {spread(told['fidelity'])} and chooses the same class in "
        f"{spread(told['agreement'])}; size {share(interval(found['ratios']['size']))}, latency.p50 "
        f"{share(interval(found['ratios']['latency.p50']))} of the float32 file's.",
    ]  # fmt: skip


def converted(source: object, step: Technique, data: Data, name: str) -> tuple[Model, Model]:
    """A model as .tflite, and as it was given."""
    opened = complete(open_model(source, fresh(f"{name}/original")), data)
    matched, signature = match(data, opened.signature)
    opened = replace(opened, signature=signature)
    made = apply(step, opened, Context(matched, opened, ONE, 0, fresh(f"{name}/float32")))
    return made, opened


def built(model: Model, original: Model, steps: tuple[Technique, ...], data: Data, name: str) -> Model:
    for number, step in enumerate(steps):
        model = apply(step, model, Context(data, original, ONE, 0, fresh(f"{name}-{number}")))
    return model


def taught(original: Model, step: Technique, data: Data, train: Data, name: str) -> Model:
    """Made smaller by training, then int8 throughout."""
    context = Context(data, original, ONE, 0, fresh(f"{name}-trained"), train=train, training=TRAINING)
    return built(apply(step, original, context), original, (KerasToTflite(), TfliteInt8()), data, name)


def fresh(name: str) -> Path:
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    (FOLDER / name).mkdir(parents=True)
    return FOLDER / name


def row(name: str, side: Mapping[str, Any], found: Mapping[str, Any] | None) -> str:
    told = side["metrics"]
    size, packed, latency = (quantity(told[key]["value"], told[key]["unit"]) for key in COSTS)
    ratios, change = ("", ""), ""
    if found is not None:
        ratios = tuple(share(interval(found["ratios"][key])) for key in ("size", "latency.p50"))  # type: ignore[assignment]
        before, after = (found[of]["metrics"]["accuracy"]["value"] for of in ("original", "candidate"))
        change = f"{after - before:+.4f}"
    cells = [name, size, ratios[0], packed, latency, ratios[1], spread(told["accuracy"]), change]
    return f"| {' | '.join(cells)} |"


COSTS = ("size", "size.compressed", "latency.p50")


def searched(limit: str, budget: str) -> str:
    bundle, run = (FOLDER / f"{kind}-{limit.split()[2][:2]}" for kind in ("bundle", "run"))
    for old in (bundle, run):
        shutil.rmtree(old, ignore_errors=True)
    limits = ("size < 20 MB", "latency.p95 < 50 ms", limit)
    command = [sys.executable, "-m", "strop", "optimize", str(MODEL), "--data", str(FOLDER / "fashion.npz"), "--json"]
    command += ["--target", "mobile", "--threads", "1", "--budget", budget, "--out", str(bundle), "--run", str(run)]
    command += [part for one in limits for part in ("--limit", one)]
    manifest = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout)
    made = manifest["winner"] or manifest["closest"]
    told = {
        key: quantity(made["metrics"][key]["value"], made["metrics"][key]["unit"]) for key in ("size", "latency.p50")
    }
    cells = ["; ".join(limits), manifest["verdict"], str(Candidate.of(made)), told["size"], told["latency.p50"]]
    cells += [share(interval(made["ratios"]["latency.p50"])), spread(made["metrics"]["accuracy"])]
    return f"| {' | '.join(cells)} |"


def interval(found: Mapping[str, Any]) -> Interval:
    return Interval(**{key: found[key] for key in ("value", "low", "high")})


def spread(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"


if __name__ == "__main__":
    main()
