"""Guidance: what fits the use that a model is put to and the data there are, and what to do where nothing helps.

Thresholds are those of measured experiments, which the sentences name; what is a rule of thumb says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .. import techniques
from ..caution import (
    FEW,
    FEW_ROWS,
    LEAST_ZEROS,
    ROWS_SOURCE,
    SOURCE,
    UNTRAINED,
    always_zero,
    caution,
    share_of_zeros,
)
from ..data import Data
from ..model import NETWORKS, Model
from ..spelling import option
from ..target import Target
from ..technique import Needs, Technique
from ..units import counted, quantity
from .counsel import Advice
from .roofline import shares_of
from .sensitivity import Sensitivity
from .split import Found

WORTH = 0.03
"""A gain under this is none: of one pair, ten measured ratios lie up to 2.2 % from each other's middle
(`benchmarks/noise.md`)."""
BOUND = "benchmarks/bound.md"
REPEATED = 40.0  # seconds that a recipe takes besides running the models over the data: a rule of thumb
TABLES = 0.5  # of the weights' bytes, looked up by row, from which on they are told of: a rule of thumb
HALF, FEW_LAYERS = 0.5, 0.1  # of the harm that is done by so much of the layers, or less: few do it; a rule of thumb
LOOKUPS = ("Gather", "EMBEDDING_LOOKUP", "GATHER")
REMEDIES = {
    "compute": "more arithmetic: wider vector units, a higher clock or more threads ({threads}); twice as much of it",
    "memory": "more memory bandwidth, or caches that hold the weights; twice as much of it",
    "latency": "reads that arrive sooner: caches that hold all that is read, or a higher clock; half the wait for them",
    "overhead": "calls of more samples ({batch}), which share the overhead; two samples a call",
    "conversion": "a runtime that needs fewer conversions between layers; half of them",
}


@dataclass(frozen=True)
class Guide:
    """What to do in one case.

    Attributes:
        case: Of use or data.
        said: What fits it, with the figures, as a sentence.
    """

    case: str
    said: str


def guide(
    model: Model,
    target: Target,
    found: Found,
    advice: Sequence[Advice],
    data: Data | None,
    bears: Sensitivity | None = None,
) -> list[Guide]:
    """What fits the data and each use.

    Args:
        model: As given.
        target: Where it will run.
        found: What was measured.
        advice: What was expected of each technique, most first.
        data: The user's samples; None where there are none.
        bears: How the layers bear int8, where that was measured.
    """
    worth = [one for one in advice if one.gain >= WORTH]
    free = [one for one in worth if not any(step.needs & ~Needs.SAMPLES for step in _steps(one))]
    return [
        *_by_data(model, data),
        *_by_use(model, found, worth, free, data),
        *_weights(found),
        *_int8(model, target, worth),
        *_borne(bears),
        *([] if worth else [_stronger(found)]),
    ]


def _steps(advice: Advice) -> list[type[Technique]]:
    """The techniques of an advice; none where it is a runtime alone."""
    known = {technique.label(): technique for technique in techniques.all_techniques()}
    return [known[name] for name in advice.technique.split(" + ") if name in known]


def _by_data(model: Model, data: Data | None) -> Iterator[Guide]:
    if data is None:
        return
    held, network = caution(data, model), model.format in NETWORKS
    trained = any(Needs.TRAINING in one.needs and model.format in one.accepts for one in techniques.all_techniques())
    why = " ".join((held.why[0][0].lower() + held.why[0][1:], *held.why[1:])) if held.why else ""
    little = f"these samples are to judge by. Should there be no more to train with: {why}"
    if not network and "trees" not in model.counts:
        yield Guide(
            "your data",
            "how few samples a model of this kind bears was measured for networks and trees only "
            f"({SOURCE}, {ROWS_SOURCE}). A search holds each candidate to your limits on samples that it did not see.",
        )
    elif held.doubts:
        yield Guide("your data", f"{little} {UNTRAINED}")
    elif held.most < 1:
        first = "Tune the training first" if trained else "Where you can train the model, tune that first"
        yield Guide("your data", f"{little} {first}, prune gently, and quantize after it.")
    elif len(data) >= (enough := FEW[-1][0] if network else FEW_ROWS):
        trained_with = f"prune, retrain and then quantize, were they to train with ({option('train')})"
        trains = trained_with if trained or not network else "quantize"
        said = f"{counted(len(data), 'sample')} are enough to {trains}: from {enough:,} on, nothing is held back"
        yield Guide("your data", f"{said} ({SOURCE if network else ROWS_SOURCE}).")
    if (zeros := share_of_zeros(data)) >= LEAST_ZEROS:
        yield Guide("sparse inputs", _sparse(data, zeros, network))


def _sparse(data: Data, zeros: float, network: bool) -> str:
    never, whole = always_zero(data)
    said = f"{zeros:.0%} of the inputs' values are zero"
    if never:
        said += f", and {never:,} of a sample's {whole:,} are zero in all samples: leave those out before the model"
    said += ". The runtimes compute with a zero as with another number, so no call is faster for it."
    if network and share_of_zeros(data, images=True) < LEAST_ZEROS:
        said += (
            " Networks on bags of words bear that: with 70% of the operations pruned they lost less than 0.01 of "
            f"accuracy ({SOURCE})."
        )
    return said


def _by_use(
    model: Model, found: Found, worth: Sequence[Advice], free: Sequence[Advice], data: Data | None
) -> Iterator[Guide]:
    if worth:
        first = (free or worth)[0]
        then = quantity(found.seconds.value * (1 - first.gain), "s")
        said = f"{first.technique} first: about {then} a call is expected then."
        yield Guide("real time", said + (_fastest(model, worth) if model.format in NETWORKS else ""))
    if quick := [one for one in free if not any(step.whole for step in _steps(one))]:
        samples = len(data) if data else 1000
        minutes = (REPEATED + 2 * samples * found.seconds.value) / 60
        yield Guide(
            "retrained often",
            f"steps after training only: {', '.join(one.technique for one in quick[:3])}. A finished search is "
            f"repeated on the new weights by strop optimize --recipe BUNDLE, in about {max(1, round(minutes))} min: "
            f"{REPEATED:.0f} s to build it and to time it beside the original, a rule of thumb (what single steps took "
            f"to build: {BOUND}), and what both take for {samples:,} samples.",
        )


def _fastest(model: Model, worth: Sequence[Advice]) -> str:
    """The three ways to the fastest network, each with what does it here."""
    quantizing = [one for one in worth if any(step.quantizes for step in _steps(one))]
    converting = [one for one in worth if one not in quantizing and any(step.returns for step in _steps(one))]
    ways, most = [], {"quantize": quantizing, "convert": converting}
    for way, some in sorted(most.items(), key=lambda one: -one[1][0].gain if one[1] else 0.0):
        told = f"{some[0].technique}, {some[0].gain:.0%}" if some else "nothing is expected of it here"
        ways.append(f"{way} ({told})")
    teaches = [one for one in techniques.all_techniques() if Needs.STUDENT in one.needs]
    here = next((one for one in teaches if model.format in one.accepts), None)
    how = f"{here.label()}: {option('train')}, and student in the training settings" if here else "in PyTorch or Keras"
    return f" The ways: {', '.join(ways)}, and distill into a smaller network of your own ({how})."


def _weights(found: Found) -> Iterator[Guide]:
    whole = found.structure.bytes
    tables = sum(layer.bytes for layer in found.structure.layers if layer.operator in LOOKUPS)
    if whole and tables / whole >= TABLES:
        yield Guide(
            "tables",
            f"{tables / whole:.0%} of the weights' bytes are tables of which a call looks up a few rows: fewer bits "
            f"make the file smaller there, and calls hardly faster ({BOUND}).",
        )
    zeros = found.structure.facts.get("zeros", 0.0)
    if zeros >= TABLES:
        yield Guide(
            "sparse weights",
            f"{zeros:.0%} of the weights are zero, one by one. The runtimes multiply by zeros as by other numbers "
            f"({BOUND}): the file compresses well, and calls are not faster. Whole channels that are taken out "
            "(prune-channels) are.",
        )


def _int8(model: Model, target: Target, worth: Sequence[Advice]) -> Iterator[Guide]:
    if (
        model.format in NETWORKS
        and target.int8_saturates
        and any(step.quantizes for one in worth for step in _steps(one))
    ):
        yield Guide(
            "int8 on this CPU",
            "it has no instructions for products of 8 bits (VNNI, AMX), so int8 gains less than where there are: "
            "through OpenVINO, on such a CPU, 0.64x for EfficientNet-Lite0 and 1.19x, which is slower, for MiniLM "
            "(benchmarks/mixed.md), and with them 0.43x and 0.38x (benchmarks/mixed_vnni.md).",
        )


def _borne(bears: Sensitivity | None) -> Iterator[Guide]:
    """Whether few layers do most of the harm, each by itself in int8: then a mix of precisions gains most."""
    alone = [group.alone.error for group in bears.groups] if bears else []
    whole = sum(alone)
    if bears is None or not 0 < whole < math.inf:
        return
    done = itertools.accumulate(alone)
    few = next(place for place, error in enumerate(done, 1) if error >= HALF * whole)
    first = bears.groups[0]
    tried = " that were tried" if bears.left else ""
    said = (
        f"{few:,} of {counted(len(alone), 'layer')}{tried} {'does' if few == 1 else 'do'} half of what all do, each "
        f"alone in int8. With all in int8 the outputs are {bears.whole.error:.1e} off (mean squared error over their "
        f"square), with all but {first.name} {first.spared.error:.1e}. "
    )
    if few <= FEW_LAYERS * len(alone):
        said += f"{bears.technique} leaves such layers in floats, as far as a limit asks for it; a search tries it."
    else:
        said += "The harm is spread: leaving a few layers in floats makes up for little of it."
    yield Guide("layers in int8", said)


def _stronger(found: Found) -> Guide:
    shares = shares_of(found.rows, found.overhead.value if found.overhead else 0.0)
    whole = quantity(found.seconds.value, "s")
    said = [
        "Nothing that strop knows is expected to make it faster here: keep the original, and run it on a stronger "
        "machine where it has to be faster."
    ]
    if shares:
        kind = max(shares, key=lambda name: shares[name])
        least = sum(row.attainable or 0.0 for row in found.rows)
        twice = quantity(found.seconds.value * (1 - shares[kind] / 2), "s")
        remedy = REMEDIES[kind].format(threads=option("threads"), batch=option("batch"))
        said.append(
            f"{shares[kind]:.0%} of a call is bound by {kind}; at this machine's peaks its layers would take "
            f"{quantity(least, 's')}. What would help: {remedy} would bring it to about {twice} "
            f"{'a sample' if kind == 'overhead' else 'a call'}, from {whole}."
        )
    elif found.share:
        said.append(f"A call takes {whole}, {found.share.value:.0%} of it around the model.")
    else:
        said.append(f"A call takes {whole}.")
    return Guide("nothing fits", " ".join([*said, _cores(found, shares)]))


def _cores(found: Found, shares: Mapping[str, float]) -> str:
    """What faster cores would bring, and what more of them (Amdahl 1967): a call waits for memory on any core, and one
    thread does what surrounds the layers, and reads that wait for each other."""
    seconds = found.seconds.value
    fast = quantity(seconds * (1 + shares.get("memory", 0.0)) / 2, "s")
    said = f"A core twice as fast would bring a call to {fast}"
    said += (
        ", its waiting for memory aside"
        if shares.get("memory")
        else ""
        if shares
        else ", if none of it waits for memory"
    )
    overhead = found.share.value if found.share else 0.0
    shared = shares.get("compute", 0.0) + shares.get("memory", 0.0) if shares else 1 - overhead
    most = quantity(seconds * (1 - shared / 2), "s")
    if shared < WORTH:
        return f"{said}; more cores would not help, for one thread does all of it."
    if not shares and not overhead:
        return f"{said}; whether more cores help, strop benchmark with {option('threads')} tells."
    return f"{said}; twice as many cores to {most} at the best, for one thread does {1 - shared:.0%} of it."
