"""The float32 score of a real model on its data, by ONNX Runtime alone: a check of what was prepared."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import metrics

from ._case import Case

Array = np.ndarray[Any, Any]


def score(case: Case, folder: Path) -> str:
    """Run all samples one by one on one thread, and tell shapes, quality, and the median of the time of a call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    with np.load(folder / "data.npz") as stored:
        data = dict(stored)
    names = [one.name for one in session.get_inputs() if one.name in data]
    seconds: list[float] = []

    def run(feed: dict[str, Array]) -> list[Array]:
        start = time.perf_counter()
        outputs = session.run(None, feed)
        seconds.append(time.perf_counter() - start)
        return outputs  # type: ignore[no-any-return]

    if "state" in {one.name for one in session.get_inputs()}:
        fixed = {name: data[name] for name in names if name != "input"}
        outputs = np.stack([_sequence(run, steps, fixed) for steps in data["input"]])
    else:
        samples = range(len(data[names[0]]))
        outputs = np.concatenate([run({name: data[name][i : i + 1] for name in names})[0] for i in samples])
    shapes = ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in data.items())
    quality = _quality(case, outputs, data.get("labels"))
    return (
        f"{case.name}: {shapes} -> {session.get_outputs()[0].name} {outputs.dtype}{list(outputs.shape)}; "
        f"{case.quality} {quality}; {np.median(seconds) * 1e3:.3f} ms a call, {sum(seconds):.1f} s in all"
    )


def _sequence(run: Any, steps: Array, fixed: dict[str, Array]) -> Array:
    state, said = np.zeros((2, 1, 128), np.float32), []
    for step in steps:
        probability, state = run({**fixed, "input": step[None], "state": state})
        said.append(probability.item())
    return np.array(said)


def _quality(case: Case, outputs: Array, labels: Array | None) -> str:
    if labels is None:
        return "1 by definition"
    if own := getattr(metrics, case.quality, None):
        result = own({"outputs": outputs}, labels)
        return f"{result[0].sum() / result[1].sum():.4f}" if isinstance(result, tuple) else f"{result.mean():.4f}"
    if case.quality == "accuracy":
        return f"{np.mean(outputs.argmax(-1) == labels):.4f} of {len(np.unique(labels))} classes"
    order = outputs.ravel().argsort().argsort() + 1  # auroc, as Mann and Whitney's U
    positive = labels.ravel() == 1
    count, others = positive.sum(), (~positive).sum()
    return f"{(order[positive].sum() - count * (count + 1) / 2) / (count * others):.4f}, {positive.mean():.2f} positive"
