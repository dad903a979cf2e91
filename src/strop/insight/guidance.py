"""Guidance: what fits the use that a model is put to and the data there are, and what to do where nothing helps.

Thresholds are those of measured experiments: `caution` holds what `benchmarks/thresholds.md` found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..caution import FEW, LEAST_ZEROS, caution, share_of_zeros
from ..data import Data
from ..model import Model
from ..spelling import option
from ..target import Target
from ..technique import Needs
from ..techniques import all_techniques
from ..units import counted, quantity
from .counsel import Advice
from .roofline import shares_of
from .split import Found

WORTH = 0.03  # a gain under this is none
TABLES = 0.5  # of the weights' bytes, looked up by row, from which on they dominate
MEASURING = 30.0  # seconds that a recipe takes besides running the models over the data
LOOKUPS = ("Gather", "EMBEDDING_LOOKUP", "GATHER")
REMEDIES = {
    "compute": "more arithmetic: wider vector units, a higher clock or more threads ({threads}); twice as much of it",
    "memory": "more memory bandwidth, or caches that hold the weights; twice as much of it",
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


def guide(model: Model, target: Target, found: Found, advice: Sequence[Advice], data: Data | None) -> list[Guide]:
    """What fits the data and each use.

    Args:
        model: As given.
        target: Where it will run.
        found: What was measured.
        advice: What was expected of each technique, most first.
        data: The user's samples; None where there are none.
    """
    worth = [one for one in advice if one.gain >= WORTH]
    free = [one for one in worth if "it needs" not in one.why]
    return [
        *_by_data(model, data),
        *_by_use(model, found, worth, free, data),
        *_weights(found),
        *([] if worth else [_stronger(found)]),
    ]


def _by_data(model: Model, data: Data | None) -> Iterator[Guide]:
    if data is None:
        return
    most, why = caution(data)
    enough = FEW[-1][0]
    trained = any(Needs.TRAINING in one.needs and model.format in one.accepts for one in all_techniques())
    if most < 1:
        first = "Tune the training first" if trained else "Where you can train the model, tune that first"
        yield Guide("your data", f"{' '.join(why)} {first}, prune gently, and quantize after it.")
    elif len(data) >= enough:
        trains = f"prune, retrain and then quantize ({option('train')})" if trained else "quantize"
        said = f"{counted(len(data), 'sample')} are enough to {trains}: from {enough:,} on, nothing is held back."
        yield Guide("your data", said)
    if (zeros := share_of_zeros(data)) >= LEAST_ZEROS:
        yield Guide(
            "sparse inputs",
            f"{zeros:.0%} of the inputs' values are zero. The runtimes compute with zeros as with other numbers, so no "
            "call is faster for it; drop what is always zero before the model sees it.",
        )  # fmt: skip


def _by_use(
    model: Model, found: Found, worth: Sequence[Advice], free: Sequence[Advice], data: Data | None
) -> Iterator[Guide]:
    if worth:
        first = (free or worth)[0]
        then = quantity(found.seconds.value * (1 - first.gain), "s")
        said = f"{first.technique} first: about {then} a call is expected then.{_taught(model)}"
        yield Guide("real time", said)
    if free:
        samples = len(data) if data else 1000
        minutes = (MEASURING + 2 * samples * found.seconds.value) / 60
        yield Guide(
            "retrained often",
            f"steps after training only: {', '.join(one.technique for one in free[:3])}. A finished search is repeated "
            f"on the new weights by strop optimize --recipe BUNDLE, in about {max(1, round(minutes))} min for "
            f"{samples:,} samples.",
        )  # fmt: skip


def _taught(model: Model) -> str:
    """What is left where nothing is fast enough."""
    teaches = [one for one in all_techniques() if Needs.STUDENT in one.needs and model.format in one.accepts]
    if not teaches:
        return ""
    return (
        f" Where that is not fast enough, teach a smaller network of your own ({teaches[0].label()}: "
        f"{option('train')}, and student in the training settings)."
    )


def _weights(found: Found) -> Iterator[Guide]:
    whole = found.structure.bytes
    tables = sum(layer.bytes for layer in found.structure.layers if layer.operator in LOOKUPS)
    if whole and tables / whole >= TABLES:
        yield Guide(
            "tables",
            f"{tables / whole:.0%} of the weights' bytes are tables of which a call looks up a few rows: fewer bits "
            "make the file smaller there, and calls hardly faster.",
        )
    zeros = found.structure.facts.get("zeros", 0.0)
    if zeros >= TABLES:
        yield Guide(
            "sparse weights",
            f"{zeros:.0%} of the weights are zero, one by one. The runtimes multiply by zeros as by other numbers: the "
            "file compresses well, and calls are not faster. Whole channels that are taken out (prune-channels) are.",
        )


def _stronger(found: Found) -> Guide:
    shares = shares_of(found.rows, found.overhead.value if found.overhead else 0.0)
    said = "Nothing that strop knows is expected to make it faster here: keep the original"
    if not shares:
        return Guide("nothing fits", f"{said}, and run it on a stronger machine where it has to be faster.")
    kind = max(shares, key=lambda name: shares[name])
    least = sum(row.attainable or 0.0 for row in found.rows)
    twice = found.seconds.value * (1 - shares[kind] / 2)
    remedy = REMEDIES[kind].format(threads=option("threads"), batch=option("batch"))
    return Guide(
        "nothing fits",
        f"{said}. {shares[kind]:.0%} of a call is bound by {kind}; at this machine's peaks its layers would take "
        f"{quantity(least, 's')}. What would help: {remedy} would bring it to about {quantity(twice, 's')} "
        f"{'a sample' if kind == 'overhead' else 'a call'}, from {quantity(found.seconds.value, 's')}.",
    )
