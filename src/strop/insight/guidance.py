"""Guidance: what fits the use that a model is put to and the data there are, and what to do where nothing helps.

Thresholds are those of measured experiments: `caution` holds what `benchmarks/thresholds.md` found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..caution import FEW, LEAST_ZEROS, caution, share_of_zeros
from ..data import Data
from ..model import TORCH, Model
from ..target import Target
from ..units import counted, quantity
from .counsel import Advice
from .roofline import shares_of
from .split import Found

WORTH = 0.03  # a gain under this is none
TABLES = 0.5  # of the weights' bytes, looked up by row, from which on they dominate
MEASURING = 30.0  # seconds that a recipe takes besides running the models over the data
LOOKUPS = ("Gather", "EMBEDDING_LOOKUP", "GATHER")
REMEDIES = {
    "compute": "more arithmetic: wider vector units or a higher clock; or more --threads",
    "memory": "more memory bandwidth, or caches that hold the weights",
    "overhead": "a higher clock; or calls of more samples (--batch), which share what a call takes besides",
    "conversion": "a runtime that needs no conversions between layers",
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
        *_by_use(found, worth, free, data),
        *_weights(found),
        *([] if worth else [_stronger(found)]),
    ]


def _by_data(model: Model, data: Data | None) -> Iterator[Guide]:
    if data is None:
        return
    most, why = caution(data)
    enough = FEW[-1][0]
    if most < 1:
        yield Guide("your data", " ".join(why) + " Tune the training first, prune gently, and quantize after it.")
    elif len(data) >= enough:
        trains = "prune, retrain and then quantize (--train)" if model.format == TORCH else "quantize"
        said = f"{counted(len(data), 'sample')} are enough to {trains}: from {enough:,} on, nothing is held back."
        yield Guide("your data", said)
    if (zeros := share_of_zeros(data)) >= LEAST_ZEROS:
        yield Guide(
            "sparse inputs",
            f"{zeros:.0%} of the inputs' values are zero. The runtimes compute with zeros as with other numbers, so no "
            "call is faster for it; drop what is always zero before the model sees it.",
        )  # fmt: skip


def _by_use(found: Found, worth: Sequence[Advice], free: Sequence[Advice], data: Data | None) -> Iterator[Guide]:
    if worth:
        yield Guide(
            "real time",
            f"{worth[0].technique} first: about {quantity(found.seconds.value * (1 - worth[0].gain), 's')} a call is "
            "expected then. Where that is not fast enough, a smaller student can be taught (--train, distill).",
        )
    if free:
        samples = len(data) if data else 1000
        minutes = (MEASURING + 2 * samples * found.seconds.value) / 60
        yield Guide(
            "retrained often",
            f"steps after training only: {', '.join(one.technique for one in free[:3])}. A finished search is repeated "
            f"on the new weights by strop optimize --recipe BUNDLE, in about {max(1, round(minutes))} min for "
            f"{samples:,} samples.",
        )  # fmt: skip


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
    return Guide(
        "nothing fits",
        f"{said}. {shares[kind]:.0%} of a call is bound by {kind}; at this machine's peaks its layers would take "
        f"{quantity(least, 's')}. What would help is {REMEDIES[kind]}: with twice of that, a call would take about "
        f"{quantity(twice, 's')} instead of {quantity(found.seconds.value, 's')}.",
    )
