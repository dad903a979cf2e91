"""Story: what was found inside two models, as plain data and in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..dataflow import Operator
from ..naming import labels
from ..units import counted
from .likeness import Likeness
from .parts import products
from .seen import Inside, Seen

NAMED = 3  # layers that a sentence names
HALF = 0.5  # of the error, that the worst layers are named up to
WIDE = 0.1  # of numbers, that are lost to one step of 8 bits, from which on that is told
MASK = 1e9  # that no number but one of a mask reaches
UNRELATED = 0.7  # cosine, under which an output has little in common with the original's
UNLIKE = ": it has little in common with the original's."
NEGLIGIBLE = 1e-10  # power of an error over that of the outputs, that is rounding of f32


def layers(found: Inside) -> list[dict[str, Any]]:
    """Each layer as plain data; see `strop.explanation.explain`."""
    whole = sum(seen.harm or 0.0 for seen in found.layers)
    return [
        {
            "name": label,
            "operator": seen.part.main.kind,
            "node": seen.part.main.name,
            "counterpart": seen.part.counterpart and seen.part.counterpart.name,
            "others": len(_others(seen)),
            "value": seen.part.value,
            "precision": seen.precision,
            "bytes": dict(zip(("original", "candidate"), seen.part.bytes, strict=True)),
            "introduced": likeness(seen.own),
            "accumulated": likeness(seen.all),
            "share": None if seen.harm is None else seen.harm / whole if whole > NEGLIGIBLE else 0.0,
            "seconds": dict(zip(("original", "candidate"), seen.seconds, strict=True)),
        }
        for label, seen in zip(labelled(found.layers), found.layers, strict=True)
    ]


def likeness(found: Likeness) -> dict[str, Any]:
    """An error as plain data: `sqnr` in dB (None where nothing differs), `cosine`, `error` (root mean square of the
    differences over that of the original), and `lost`, numbers that are not finite any more."""
    exact = not found.noise and not found.lost
    return {
        "sqnr": None if exact else found.sqnr, "cosine": found.cosine, "error": math.sqrt(found.share),
        "lost": found.lost,
    }  # fmt: skip


def labelled(found: Sequence[Seen]) -> list[str]:
    """What layers are called."""
    mains = [seen.part.main for seen in found]
    return labels([(main.name, main.kind, main.place) for main in mains])


def tell(found: Inside, plain: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the layers come to, in sentences that need no other knowledge."""
    return [*_outputs(found), *_origin(found, plain), *_causes(found), *_additive(found), *_precisions(plain)]


def untold(found: Inside) -> list[str]:
    """Which products of the original have no line of their own, and why not."""
    joined = [(label, one) for label, seen in zip(labelled(found.layers), found.layers, strict=True)
              for one in _others(seen)]  # fmt: skip
    rest = [*found.outside, *(one for _, one in joined)]
    mains = [seen.part.main for seen in found.layers]
    # beside the layers that have a line, so that none is called by what several have in common
    called = labels([(one.name, one.kind, one.place) for one in (*rest, *mains)])[: len(rest)]
    said, count = [], len(found.outside)
    if found.outside:
        said.append(f"not looked at, since it ends in no value that both models know: {', '.join(called[:count])}")
    if joined:
        pairs = [f"{other} with {label}" for (label, _), other in zip(joined, called[count:], strict=True)]
        said.append(
            f"told of as one, since the candidate has no value of the original's between them: {', '.join(pairs)}"
        )
    return said


def _others(seen: Seen) -> list[Operator]:
    """The other products that are told of as one with a layer."""
    return [one for one in products(seen.part.original) if one is not seen.part.main]


def _outputs(found: Inside) -> list[str]:
    said = []
    for name, seen in found.outputs.items():
        whose = f"The output {name}" if len(found.outputs) > 1 else "The output"
        if seen.lost:
            said.append(f"{whose} holds {counted(seen.lost, 'number')} that are infinite or none, where the original's "
                        "are finite.")  # fmt: skip
        elif seen.share <= NEGLIGIBLE:
            said.append(f"{whose} is the original's, up to the rounding of 32-bit floats.")
        elif not seen.signal:
            said.append(f"{whose} is not zero, as all of the original's is.")
        else:
            said.append(f"{whose} is off by {share(math.sqrt(seen.share))} of its size ({seen.sqnr:.1f} dB; cosine "
                        f"{seen.cosine:.4f}){'.' if seen.cosine > UNRELATED else UNLIKE}")  # fmt: skip
    return said


def _origin(found: Inside, plain: Sequence[Mapping[str, Any]]) -> list[str]:
    ranked = sorted((one for one in plain if one["share"]), key=lambda one: -one["share"])
    if not ranked:
        return []
    worst, total = [], 0.0
    for one in ranked:
        worst.append(one)
        total += one["share"]
        if total >= HALF:
            break
    count = counted(len(plain), "layer")
    if len(worst) > max(NAMED, len(plain) // 5):
        first = ranked[:NAMED]
        return [
            f"The error comes from many places: the {len(first)} worst of {count} introduce {_sum(first)} of it, "
            f"{_named(first)}; it takes {len(worst)} to make up half."
        ]
    where = f"{counted(len(worst), 'layer')} of {len(plain):,}"
    more = f" and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
    return [f"{share(total)} of the error at the output is introduced in {where}: {_named(worst[:NAMED])}{more}."]


def _causes(found: Inside) -> list[str]:
    """What of the worst layers is too wide for integers of 8 bits, which have one step for all that goes in."""
    ends = {seen.part.value: at for at, seen in enumerate(found.layers)}
    named, said = labelled(found.layers), []
    for at in sorted(range(len(named)), key=lambda at: -(found.layers[at].harm or 0.0))[:NAMED]:
        seen = found.layers[at]
        read = {ends[value] for one in seen.part.original for value in one.inputs if value in ends} - {at}
        wide = [place for place in sorted(read) if found.layers[place].small > WIDE * found.layers[place].whole]
        if wide and seen.harm and "int8" in seen.precision and "weights" not in seen.precision:
            source = found.layers[wide[0]]
            goes = f"What goes into {named[at]} from {named[wide[0]]} reaches {source.reach:.3g}"
            if source.reach > MASK:
                said.append(
                    f"{goes}, as masks do: to one step of 8 bits all else in it is nothing. Keep both in floats."
                )
            else:
                said.append(
                    f"{goes}, and {share(source.small / source.whole)} of it is less than one step of 8 bits, "
                    "1/255 of the range, and becomes nothing or a whole step."
                )
    return said


def _additive(found: Inside) -> list[str]:
    whole = sum(seen.harm or 0.0 for seen in found.layers)
    shares = [seen.share for seen in found.outputs.values() if math.isfinite(seen.share)]
    actual = sum(shares) / len(shares) if shares else 0.0
    if not found.tried or actual <= NEGLIGIBLE or whole <= NEGLIGIBLE or 0.5 <= whole / actual <= 2:
        return []
    how = "cancel each other in part" if whole > actual else "make each other worse"
    return [
        f"Errors of single layers {how}: summed up they would be {math.sqrt(whole / actual):.2g} times the error that "
        "there is, so take the shares as a ranking."
    ]


def _precisions(plain: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = Counter(one["precision"] for one in plain)
    if len(kinds) < 2:
        return []
    listed = ", ".join(f"{count} in {kind}" for kind, count in kinds.most_common())
    return [f"Of the {counted(len(plain), 'layer')}, {listed}."]


def changed(found: Mapping[str, Any]) -> list[str]:
    """How many predictions changed, as a sentence; none where there are no predictions."""
    if found["changed"] is None:
        return []
    if not found["changed"]:
        return [f"None of {counted(found['decisions'], 'prediction')} changed."]
    said = f"{found['changed']:,} of {counted(found['decisions'], 'prediction')} changed"
    if found["to_wrong"] is not None:
        said += f": {found['to_wrong']:,} were right and are wrong now, {found['to_right']:,} the other way round"
    return [f"{said}."]


def _named(some: Sequence[Mapping[str, Any]]) -> str:
    names = [f"{one['name']} and {one['others']} more as one" if one["others"] else one["name"] for one in some]
    return ", ".join(
        f"{name} ({one['operator']} in {one['precision']}, {share(one['share'])})"
        for name, one in zip(names, some, strict=True)
    )


def _sum(some: Sequence[Mapping[str, Any]]) -> str:
    return share(sum(one["share"] for one in some))


def share(value: float) -> str:
    """A part of a whole: `41 %`, `0.34 %`."""
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 or not percent else f"{percent:.2g} %" if percent >= 0.001 else "~0 %"
