"""Mixed precision against NNCF's accuracy control and uniform precisions, on real models: writes `mixed.md`.

Where products of 8 bits are single instructions (VNNI), it writes `mixed_vnni.md`.

    pip install -e '.[openvino]' && pip install -r benchmarks/requirements.txt
    python benchmarks/mixed.py [--only NAME...] [--limits 0.999 0.995 0.99] [--anew]

Some 85 minutes for all. What was made and measured is kept, a model and a limit at a time, so that it goes on where it
was; `--anew` forgets what strop found, and what was timed, and keeps what the peers made.

For each model a quarter of the samples calibrates, a quarter is searched on and half is held out; samples of a group
stay together. Each limit is a fidelity (the mean cosine of outputs with the original's: logits, embeddings, the map of
probabilities of a page). NNCF's `quantize_with_accuracy_control` is told the limit as its `max_drop` and ends after ten
minutes at the most; strop gets a third of the time that it took, and no less than two minutes. All that was made is
read from disk again and timed in turns, on one thread, what NNCF made with OpenVINO's defaults (which compute in bf16
what is left in floats, where the CPU does), and what strop made as its bundle runs it; fidelity is that on held-out
samples.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models import CACHE, CASES, sentence
from strop import Bundle, formats, runtimes
from strop._quiet import nncf, openvino
from strop.formats.openvino import save
from strop.jobs import die_with_parent
from strop.target import Target, cpu_name

HERE = Path(__file__).parent
NAMES = ("efficientnet-lite0", "minilm-l6", "minilm-l6-short", "pp-ocrv4-rec", "pp-ocrv4-det", "torchcrepe")
CAP, LEAST = 600.0, 120.0  # seconds
ROUNDS = 200  # calls of each, in turns
BOUND = 16  # samples that are timed
ALIKE = 1.03  # times the winner's latency, in the search: its spread there
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, default=NAMES)
    parser.add_argument("--limits", nargs="+", type=float, metavar="L", default=(0.999, 0.995, 0.99))
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    for name in options.only:
        folder = CACHE / "mixed" / name
        prepare(name, folder)
        uniform(folder)
        for limit in options.limits:
            if options.anew:
                (folder / f"strop-{limit}.json").unlink(missing_ok=True)
                (folder / "found.json").unlink(missing_ok=True)
            controlled(folder, limit)
            searched(folder, limit)
        told, limits = folder / "found.json", known(folder)
        if not told.exists() or json.loads(told.read_text()).get("limits") != limits:
            told.write_text(json.dumps(measured(folder, limits)))
            print(name, "measured", file=sys.stderr, flush=True)
        write()


def known(folder: Path) -> list[float]:
    """The limits at which all was made, the tightest first."""
    return sorted((float(file.stem[6:]) for file in folder.glob("strop-*.json")), reverse=True)


def prepare(name: str, folder: Path) -> None:
    """The model, converted to OpenVINO too, and its samples in three parts."""
    if (folder / "confirm.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    data, groups = given(name, folder)
    count = len(next(iter(data.values())))
    groups = np.arange(count) if groups is None else groups
    order = np.random.default_rng(0).permutation(np.unique(groups))
    quarter = len(order) // 4
    parts = {"calibration": order[:quarter], "search": order[quarter : 2 * quarter], "confirm": order[2 * quarter :]}
    for part, chosen in parts.items():
        rows = np.isin(groups, chosen)
        np.savez(folder / f"{part}.npz", **{key: array[rows] for key, array in data.items()})
    save(openvino().convert_model(folder / "model.onnx"), folder / "float")


def given(name: str, folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Write `model.onnx`; the samples, and which of them belong together."""
    if name == "torchcrepe":
        import pitch
        import torch
        from models._export import export

        frames = next(iter(pitch.tones(800, 1)[0].inputs.values()))
        export(
            pitch.crepe("full"),
            {"frames": torch.from_numpy(frames[:1])},
            "pitch",
            folder / "model.onnx",
            free_batch=False,
        )
        return {"frames": frames}, None
    if name == "minilm-l6-short":
        return sentence.short(folder / "model.onnx"), None
    (case,) = (case for case in CASES if case.name == name)
    case.prepare(CACHE / name)
    shutil.copyfile(CACHE / name / "model.onnx", folder / "model.onnx")
    with np.load(CACHE / name / "data.npz") as stored:
        data = {key: stored[key] for key in stored.files if key != "labels"}
    groups = data.pop(case.group) if case.group else None
    return data, groups


class Samples:
    """One part of the samples, a call at a time."""

    def __init__(self, folder: Path, part: str):
        with np.load(folder / f"{part}.npz") as stored:
            self.arrays = {key: stored[key] for key in stored.files}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __call__(self, row: int) -> dict[str, np.ndarray]:
        return {key: array[row : row + 1] for key, array in self.arrays.items()}


def uniform(folder: Path) -> None:
    """Int8 throughout, as NNCF makes it by default."""
    if (folder / "int8" / "model.xml").exists():
        return
    calibration = Samples(folder, "calibration")
    with nncf() as library:
        graph = openvino().Core().read_model(folder / "float" / "model.xml")
        kind = library.ModelType.TRANSFORMER if "minilm" in folder.name else None
        made = library.quantize(graph, library.Dataset(range(len(calibration)), calibration), model_type=kind)
        save(made, folder / "int8")


def controlled(folder: Path, limit: float) -> None:
    """NNCF's accuracy control, in a process of its own that is ended after ten minutes."""
    made = folder / f"nncf-{limit}"
    if (made / "seconds.json").exists():
        return
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    begun = time.monotonic()
    process = multiprocessing.get_context("spawn").Process(target=control, args=(folder, limit, made))
    process.start()
    process.join(CAP)
    if process.is_alive():
        process.kill()
        process.join()
    seconds = min(CAP, time.monotonic() - begun)
    (made / "seconds.json").write_text(json.dumps(seconds))
    print(f"{folder.name} at {limit}: NNCF {seconds:.0f} s", file=sys.stderr, flush=True)


def control(folder: Path, limit: float, made: Path) -> None:
    die_with_parent()
    calibration, search = Samples(folder, "calibration"), Samples(folder, "search")
    with nncf() as library:
        core = openvino().Core()
        graph = core.read_model(folder / "float" / "model.xml")
        right = answers(core.compile_model(graph, "CPU", EXACT).create_infer_request(), search)

        def validate(compiled: Any, rows: Any) -> tuple[float, list[float]]:
            request = compiled.create_infer_request()
            scores = [cosine(right[row], flat(request.infer(search(row)).values())) for row in rows]
            return float(np.mean(scores)), scores

        result = library.quantize_with_accuracy_control(
            graph,
            library.Dataset(range(len(calibration)), calibration),
            library.Dataset(range(len(search)), search),
            validation_fn=validate,
            max_drop=1 - limit,
            drop_type=library.DropType.ABSOLUTE,
            model_type=library.ModelType.TRANSFORMER if "minilm" in folder.name else None,
        )
        save(result, made / "made")


def searched(folder: Path, limit: float) -> None:
    """`strop optimize`, in a third of the time."""
    bundle, run = folder / f"strop-{limit}", folder / f"run-{limit}"
    if (folder / f"strop-{limit}.json").exists():
        return
    for old in (bundle, run):
        shutil.rmtree(old, ignore_errors=True)
    budget = max(LEAST, json.loads((folder / f"nncf-{limit}" / "seconds.json").read_text()) / 3)
    command: list[str | Path] = [Path(sys.executable).with_name("strop"), "optimize", folder / "model.onnx"]
    command += ["--data", folder / "search.npz", "--calibration", folder / "calibration.npz"]
    command += ["--confirm", folder / "confirm.npz", "--limit", f"fidelity >= {limit}", "--minimize", "latency.p50"]
    command += ["--threads", "1", "--budget", f"{budget:.0f}s", "--out", bundle, "--run", run, "--json"]
    begun = time.monotonic()
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - begun
    if ended.returncode not in (0, 3, 4):
        sys.exit(f"{folder.name} at {limit}: strop ended with {ended.returncode}")
    told = json.loads(ended.stdout)
    (folder / f"strop-{limit}.json").write_text(json.dumps({"seconds": seconds, "manifest": told}))
    print(f"{folder.name} at {limit}: strop {seconds:.0f} s, {told['verdict']}", file=sys.stderr, flush=True)


def kept(run: Path) -> tuple[list[tuple[float, float]], float | None]:
    """What kept the limits on the search split: seconds from the start to where it had been measured, and its latency
    over the original's; and that of the winner, which was proven after it."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    since, found, ratios = events[0]["begun"]["since"], [], dict[str, float]()
    proven = [e["told"]["candidate"] for e in events if e.get("event") == "Confirmed" and e["told"]["verdict"] == "met"]
    for event in events:
        report = event["told"]["outcome"].get("report") if event.get("event") == "Tried" else None
        if report and "latency.p50" in report["figures"]:
            name, ratio = event["told"]["candidate"], report["figures"]["latency.p50"]["ratio"]["value"]
            ratios[name] = ratio
            if name in proven[-1:] or not any(one["violation"] for one in report["judged"]):
                found.append((event["at"] - since, ratio))
    return found, ratios[proven[-1]] if proven else None


def first(found: Iterable[tuple[float, float]], most: float) -> float | None:
    """Seconds until what is as fast, within `ALIKE`, had been measured."""
    return min((seconds for seconds, ratio in found if ratio <= ALIKE * most), default=None)


class Default:
    """A model in OpenVINO as it is loaded by default, but on one thread, and perhaps in a precision."""

    def __init__(self, file: Path, precision: str = ""):
        options = {"INFERENCE_NUM_THREADS": 1} | ({"INFERENCE_PRECISION_HINT": precision} if precision else {})
        self.request = openvino().Core().compile_model(file, "CPU", options).create_infer_request()

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[Any, np.ndarray]:
        return dict(self.request.infer(batch))

    def bind(self, batch: Mapping[str, np.ndarray]) -> Any:
        return lambda: self.request.infer(batch, share_inputs=True)


def measured(folder: Path, limits: Sequence[float]) -> dict[str, Any]:
    """All that was made, in turns: held-out fidelity, and latency over that of float32 in OpenVINO."""
    plain = folder / "float" / "model.xml"
    makers: dict[str, Any] = {
        "f32": Default(plain, "f32"),
        "sized": runtimes.find("openvino")().load(formats.open(plain), Target(threads=1)),
        "bf16": Default(plain, "bf16"),
        "int8": Default(folder / "int8" / "model.xml"),
        "default": Default(plain),
    }
    found: dict[str, Any] = {"made": {}, "cpu": cpu_name(), "limits": list(limits)}
    for limit in limits:
        file = folder / f"nncf-{limit}" / "made" / "model.xml"
        seconds = json.loads((folder / f"nncf-{limit}" / "seconds.json").read_text())
        found["made"][f"nncf-{limit}"] = {"seconds": seconds, "capped": not file.exists()}
        if file.exists():
            makers[f"nncf-{limit}"] = Default(file)
        strop = json.loads((folder / f"strop-{limit}.json").read_text())
        winner = strop["manifest"]["winner"]
        route = winner and " + ".join(step["technique"] for step in winner["route"])
        tried, won = kept(folder / f"run-{limit}")
        found["made"][f"strop-{limit}"] = {
            "seconds": strop["seconds"], "tried": tried, "won": won,
            "verdict": strop["manifest"]["verdict"], "route": route,
        }  # fmt: skip
        if winner:
            makers[f"strop-{limit}"] = Bundle.load(folder / f"strop-{limit}").runner()
    confirm = Samples(folder, "confirm")
    calls = {name: [made.bind(confirm(row)) for row in range(BOUND)] for name, made in makers.items()}
    right = [flat(makers["f32"](confirm(row)).values()) for row in range(len(confirm))]
    for name, made in makers.items():
        scores = [cosine(right[row], flat(made(confirm(row)).values())) for row in range(len(confirm))]
        found["made"].setdefault(name, {})["fidelity"] = float(np.mean(scores))
    times: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(ROUNDS):
        for name in makers:
            call = calls[name][turn % BOUND]
            call()
            begun = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begun)
    blocks = {name: np.median(np.array(taken).reshape(10, -1), axis=1) for name, taken in times.items()}
    for name, taken in times.items():
        ratios = blocks[name] / blocks["f32"]
        found["made"][name] |= {
            "ms": float(np.median(taken) * 1e3), "ratio": float(np.median(ratios)),
            "low": float(ratios.min()), "high": float(ratios.max()),
        }  # fmt: skip
    return found


def answers(request: Any, samples: Samples) -> list[np.ndarray]:
    return [flat(request.infer(samples(row)).values()) for row in range(len(samples))]


def flat(outputs: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(output, np.float64).ravel() for output in outputs])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


PEERS = ("int8", "bf16", "default")


def write() -> None:
    """The table: what keeps each limit on held-out samples, and how long it took to find."""
    files = {name: CACHE / "mixed" / name / "found.json" for name in NAMES}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    found = {name: case for name, case in found.items() if "limits" in case}
    cpu = next(iter(found.values()))["cpu"]
    fast = not Target(threads=1).int8_saturates
    lines = [
        "# Mixed precision, on a CPU with VNNI and bfloat16" if fast else "# Mixed precision", "",
        f"Written by `benchmarks/mixed.py`; {cpu}, 1 thread. Fidelity is the mean cosine of outputs with the "
        "original's on held-out samples; latency that of the model read from disk again, over float32's in OpenVINO, "
        f"timed in turns ({ROUNDS} calls in ten blocks: the median of these, the least and the greatest). What breaks "
        "the limit is set in brackets; *default* is OpenVINO without a word on precision, as what NNCF made is run. "
        "*sizes known* is float32 as strop runs it, and all that it makes: compiled for the sizes of the inputs that "
        "come, where the model leaves these free; the peers run what they made as it is. "
        "The rows of a model are of one run, those of two models need not be. The last columns are strop's "
        "latency over that of the fastest peer that keeps the limit, and its time over NNCF's: until what is as fast "
        "as that peer was found (*level*), until what is as fast as what it handed over (*found*; both within 3 %), "
        "and in all, with the proof on held-out samples and what each layer takes.", "",
        "| model | limit | sizes known | int8 throughout | bf16 throughout | default | NNCF accuracy control | strop "
        "| route | latency | level | found | time |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, case in found.items():
        made = case["made"]
        for limit in case["limits"]:
            nncf, strop = made[f"nncf-{limit}"], made[f"strop-{limit}"]
            peers = [made[peer] for peer in PEERS] + [nncf]
            least = min(peer["ratio"] for peer in (*peers, made["f32"]) if peer.get("fidelity", 0.0) >= limit)
            cells = [f"{made['sized']['ratio']:.2f}x", *(cell(each, limit) for each in (*peers, strop))]
            over = f"{strop['ratio'] / least:.2f}x" if strop.get("fidelity", 0.0) >= limit else "-"
            times = [None, None, strop["seconds"]]
            if won := strop["won"]:
                times[:2] = first(strop["tried"], won * least / strop["ratio"]), first(strop["tried"], won)
            cells += [strop["route"] or "the original", over]
            cells += ["-" if taken is None else f"{taken / nncf['seconds']:.2f}x" for taken in times]
            lines.append(f"| {name} | {limit} | {' | '.join(cells)} |")
    (HERE / ("mixed_vnni.md" if fast else "mixed.md")).write_text("\n".join(lines) + "\n")


def cell(made: Mapping[str, Any], limit: float) -> str:
    if "ratio" not in made:
        said = "nothing in time" if made.get("capped") else made.get("verdict", "nothing")
    else:
        said = f"{made['ratio']:.2f}x ({made['low']:.2f} to {made['high']:.2f}), {made['fidelity']:.4f}"
        said = said if made["fidelity"] >= limit else f"[{said}]"
    return said + (f"; {made['seconds']:.0f} s" if "seconds" in made else "")


if __name__ == "__main__":
    main()
