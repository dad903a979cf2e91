"""Sensitivity: how each layer, with what follows it, bears int8: alone in it, and alone spared from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics, techniques
from .._cache import PART, own_folder
from ..data import Data
from ..errors import NotApplicable, TechniqueError, UnsupportedModel
from ..metric import Outputs
from ..model import Format, Model, Signature
from ..nmse import nmse
from ..prefix import Prefix, Step
from ..progress import Teller
from ..runtime import calls, predict
from ..target import Target
from ..technique import Context, Parts, Technique, remaining

MOST, FEWEST = 64, 4  # samples to judge by
SECONDS = 120.0
UNKNOWN = "none knows the format: give a network as ONNX or OpenVINO; trees have no layers to try"
LIKE = 0.1
"""Of what int8 does to the outputs: how far they may be from themselves where a runtime tells values that it would have
kept to itself. Roundings that fall otherwise do a thirtieth of it."""


@dataclass(frozen=True)
class Error:
    """What became of the outputs.

    Attributes:
        error: Of the outputs: the mean over samples of how far they are from the original's (NMSE).
        metric: What the metric came to; None where none was asked for.
    """

    error: float
    metric: float | None = None


@dataclass(frozen=True)
class Borne:
    """How one group bears int8.

    Attributes:
        name: Of its first layer, which has the weights: where it came from, if the model tells.
        layers: All of them, as the file names them.
        alone: Where only this group is in int8.
        spared: Where all but it are.
    """

    name: str
    layers: tuple[str, ...]
    alone: Error
    spared: Error


@dataclass(frozen=True)
class Sensitivity:
    """How the layers of a model bear int8.

    Attributes:
        technique: That mixes precisions so.
        samples: That it was judged by.
        metric: The name of what else was measured; empty for none.
        original: The float model's own.
        whole: Where all of it is in int8.
        groups: The most harmful first.
        left: Groups that there was no time for; asked again, they come next.
    """

    technique: str
    samples: int
    metric: str
    original: Error
    whole: Error
    groups: tuple[Borne, ...]
    left: int = 0


@dataclass(frozen=True)
class _Seen:
    """What a metric of quality may see."""

    original_outputs: Outputs
    candidate_outputs: Outputs
    labels: np.ndarray[Any, Any] | None
    groups: np.ndarray[Any, Any] | None
    seed: int


def mixers(format_: Format) -> list[type[Technique]]:
    """The techniques that mix precisions in a format: by them it can be told how its layers bear int8."""
    return [
        kind for kind in techniques.all_techniques()
        if format_ in kind.accepts and kind.quantizes and kind.parts is not Technique.parts
    ]  # fmt: skip


def sensitivity(
    model: Model,
    data: Path,
    metric: str,
    target: Target,
    seed: int,
    progress: Path,
    seconds: float = SECONDS,
    folder: Path | None = None,
) -> Sensitivity:
    """Try each group alone in int8, and all others in it, without quantizing anew. Runs in a job.

    What is known already is kept for the next time, so that an interrupted one goes on.

    Args:
        model: On disk, in a format that a technique mixes precisions of.
        data: Folder of stored samples; a part of them judges, all of them calibrate.
        metric: The name of a metric of quality, or `module:function`; empty for none.
        target: Threads and batch.
        seed: Of resamples.
        progress: A file for how far it is.
        seconds: That all of it may take, calibrating included; layers that there was no time for are left out, and
            said to be.
        folder: Where to keep what is known; by default in the user's cache.

    Raises:
        UnsupportedModel: No technique mixes precisions in this format, or here.
        StropError: The model can't be quantized or run, or not in time, or the metric can't judge it.
    """
    end, samples, tell = time.monotonic() + seconds, Data.load(data), Teller(progress)
    kept_in = own_folder("sensitivity") if folder is None else contextlib.nullcontext(folder)
    with kept_in as cache, tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        shared = cache / _digest(model.digest(), samples.digest())
        shared.mkdir(exist_ok=True)
        context = Context(samples, model, target, seed, Path(scratch), shared=shared, deadline=end, progress=tell)
        try:
            technique, parts = _opened(model, context)
        except TechniqueError as error:
            if remaining(context) > 0:
                raise
            raise TechniqueError(
                f"How layers bear int8 is told in {seconds:.0f} s, and calibrating took longer ({error}). Give fewer "
                "samples."
            ) from error
        kept = _Kept(shared / f"{_digest(str(technique), str(technique.version), metric)}.json")
        judge = _Judge(parts, model.signature, samples, metric, target, seed, kept)
        count, each = judge.fit(end - time.monotonic())
        groups, fresh = list[Borne](), 0
        for name, layers in parts.members.items():
            left = each * 2 * (len(parts.members) - len(groups))
            tell(len(groups) / len(parts.members), f"how {len(parts.members)} layers bear int8: {left:.0f} s more")
            fresh += not kept.knows(f"spared {name}")
            if fresh > 1 and time.monotonic() > end:  # one more is known each time, at the least
                break
            groups.append(Borne(parts.labels[name], tuple(layers), *judge.both(name)))
        known = tuple(sorted(groups, key=lambda group: -group.alone.error))
        original, all_in_it = judge.uniform()
        return Sensitivity(
            technique.label(), count, metric, original, all_in_it, known, len(parts.members) - len(groups)
        )


def _opened(model: Model, context: Context) -> tuple[Technique, Parts]:
    reasons = dict[str, None]()
    for kind in mixers(model.format):
        try:
            kind().requires(model, context.target)
            return kind(), kind().parts(model, context)
        except NotApplicable as error:
            reasons[str(error)] = None
    raise UnsupportedModel(
        f"Sensitivity to int8 is measured where a technique mixes precisions, and none does for this {model.format} "
        f"model ({'; '.join(reasons) or UNKNOWN})."
    )


class _Judge:
    """Runs a mix and holds it to the original's outputs."""

    def __init__(
        self, parts: Parts, signature: Signature, data: Data, metric: str, target: Target, seed: int, kept: _Kept
    ) -> None:
        self.parts, self.signature, self.whole, self.target, self.seed = parts, signature, data, target, seed
        self.metric = metrics.find(metric) if metric else None
        self.data, self.right, self.kept = data, Outputs(), kept

        lowest, exact = parts.precisions[0], parts.precisions[-1]
        self.mixes = dict.fromkeys(parts.members, exact), dict.fromkeys(parts.members, lowest)

    def fit(self, most: float) -> tuple[int, float]:
        """Take as many samples as fit into the time, or as were taken when some of it was measured before.

        Returns:
            How many, and the seconds that each mix takes at the most: to load it, and to run them.
        """
        begun = time.monotonic()
        step = self.parts.step(self.mixes[1])  # that in int8 takes longer to load
        made = time.monotonic()
        few = self._take(FEWEST)
        predict(step, self.signature, few, self.target.batch)
        each, runs = (time.monotonic() - made) / len(few), 2 * len(self.parts.members) + 2
        count = int((most / runs - (made - begun)) / each)
        self.data = self._take(self.kept.samples(max(FEWEST, min(MOST, count, len(self.whole)))))
        steps = [self.parts.step(mix) for mix in self.mixes]
        self.right = predict(steps[0], self.signature, self.data, self.target.batch)
        given = []  # where a state is carried, no step is given the same in two mixes
        if not self.signature.states:
            given = [feed for _, feeds in calls(self.signature, self.data, self.target.batch) for feed in feeds]
        right, found = ([step(feed) for feed in given] for step in steps)
        apart = LIKE * min(map(nmse, found, right), default=0.0)
        self.prefixes = (
            Prefix(self.parts, self.mixes[0], given, right), Prefix(self.parts, self.mixes[1], given, found, apart),
        )  # fmt: skip
        return len(self.data), made - begun + each * len(self.data)

    def both(self, name: str) -> tuple[Error, Error]:
        """Where only this group is in int8, and where all but it are: at once, if there are cores."""
        exact, rounded = ({**mix, name: other[name]} for mix, other in zip(self.mixes, self.mixes[::-1], strict=True))
        with ThreadPoolExecutor(self.target.at_once) as pool:
            alone = pool.submit(self._known, f"alone {name}", self.prefixes[0], exact)
            spared = pool.submit(self._known, f"spared {name}", self.prefixes[1], rounded)
            return alone.result(), spared.result()

    def uniform(self) -> tuple[Error, Error]:
        """Where all groups are in floats, and where all are in int8."""
        return (
            self._known("plain", self.prefixes[0], self.mixes[0]), self._known("whole", self.prefixes[1], self.mixes[1])
        )  # fmt: skip

    def _take(self, count: int) -> Data:
        return self.whole.take(np.linspace(0, len(self.whole) - 1, min(count, len(self.whole))).astype(np.int64))

    def _known(self, key: str, prefix: Prefix, mix: Mapping[str, str]) -> Error:
        return self.kept.get(key, lambda: self._measured(prefix.step(mix)))

    def _measured(self, step: Step) -> Error:
        found = predict(step, self.signature, self.data, self.target.batch)
        value = None
        if self.metric:
            seen = _Seen(self.right, found, self.data.label_array(), self.data.group_array(), self.seed)
            value = self.metric.measure(seen).candidate().value  # type: ignore[arg-type]
        return Error(_error(found, self.right), value)


class _Kept:
    """What was measured, in a file that outlives a kill: by the samples that it was begun with."""

    def __init__(self, file: Path):
        self.file = file
        self.known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self._writing = threading.Lock()

    def samples(self, count: int) -> int:
        if "samples" not in self.known:
            self._keep("samples", count)
        return int(self.known["samples"])

    def knows(self, key: str) -> bool:
        return key in self.known

    def get(self, key: str, measure: Callable[[], Error]) -> Error:
        if key not in self.known:
            found = measure()
            self._keep(key, [found.error, found.metric])
        return Error(*self.known[key])

    def _keep(self, key: str, value: Any) -> None:
        with self._writing:
            self.known[key] = value
            part = self.file.with_name(f"{PART}{self.file.name}")
            part.write_text(json.dumps(self.known))
            os.replace(part, self.file)


def _error(found: Outputs, right: Outputs) -> float:
    samples = range(len(next(iter(right.values()))))
    rows = ([{name: side[name][row] for name in right} for row in samples] for side in (found, right))
    return float(np.mean([nmse(*pair) for pair in zip(*rows, strict=True)]))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
