"""Fusion: which operators of a .tflite file each thing that LiteRT's profiler tells of stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate

from ..formats.tflite import Graph

ACTIVATIONS = frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"})
"""Operators that are computed with what comes before them; others, with what reads them."""
PRODUCTS = frozenset({"FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"})
MOVES = frozenset({"CONCATENATION", "EXPAND_DIMS", "PACK", "RESHAPE", "SPLIT", "SQUEEZE"})
STANDS_FOR: Mapping[str, Collection[str]] = {
    "approxgelu": {"GELU"},
    "argmaxpooling": {"MAX_POOL_2D"},
    "averagepooling": {"AVERAGE_POOL_2D", "MEAN"},
    "bankdersrounding": {"ROUND"},  # as XNNPACK spells it
    "batchmatrixmultiply": {"BATCH_MATMUL"},
    "ceiling": {"CEIL"},
    "clamp": ACTIVATIONS,
    "constantpad": {"PAD", "PADV2"},
    "convert": {"CAST", "DEQUANTIZE", "QUANTIZE"},
    "convolution": {"CONV_2D", "DEPTHWISE_CONV_2D"},
    "copy": MOVES,
    "cosine": {"COS"},
    "deconvolution": {"TRANSPOSE_CONV"},
    "divide": {"DIV"},
    "dynamicfullyconnected": PRODUCTS,
    "fullyconnected": PRODUCTS,
    "fusedims": MOVES,
    "maxpooling": {"MAX_POOL_2D"},
    "meansquared": {"MEAN"},
    "modulus": {"FLOOR_MOD"},
    "multiply": {"MUL"},
    "negate": {"NEG"},
    "normalize": {"SUM"},  # of squares
    "power": {"POW"},
    "reciprocalsquareroot": {"RSQRT"},
    "sigmoid": {"LOGISTIC"},
    "sine": {"SIN"},
    "slice": {"SLICE", "SPLIT", "STRIDED_SLICE"},
    "splitdims": MOVES,
    "squareroot": {"SQRT"},
    "staticexpanddims": MOVES,
    "staticreshape": MOVES,
    "subtract": {"SUB"},
    "sumsquared": {"SUM"},
}
"""What XNNPACK calls otherwise than TFLite does, without spaces and capitals."""
UNARY = frozenset({
    "ABS", "CAST", "CEIL", "COS", "DEQUANTIZE", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "NEG", "QUANTIZE", "ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "TANH", *ACTIVATIONS,
})  # fmt: skip
TABLE = "invalidunaryop"
"""What looks integers up in a table, for one operator or several in a row."""
BEFORE = frozenset({"constantpad", "convert", "copy", "packlh", "staticreshape", "transpose"})
AFTER = frozenset({"clamp", "copy", "staticreshape"})
"""What XNNPACK also does for an operator of any kind, before its main part and after it."""
_Step = tuple[int, int, bool]
"""Parts and operators that are left, and whether the last operator has its main part."""
ABSENT, BESIDE, STRANGE = 2, 1, 5
"""How much there is against an operator without a main part, a part besides that, and one of no operator."""


@dataclass(frozen=True)
class Part:
    """What the profiler tells of.

    Attributes:
        name: As it spells it.
        operator: The number of the operator, where it is one of the file; else it is part of what a delegate runs.
        first: Whether it is the first of what a delegate runs at once.
        inner: Whether it is an operator in the body of a loop or branch.
    """

    name: str
    operator: int | None = None
    first: bool = False
    inner: bool = False


@dataclass
class Group:
    """Places of parts that belong together, and the numbers of the operators that they stand for."""

    parts: list[int]
    operators: list[int] = field(default_factory=list)


def grouped(parts: Sequence[Part], graph: Graph) -> list[Group]:
    """All parts in order, but those in the bodies of loops and branches, whose time is in that of the loop.

    Of what the interpreter runs the profiler tells numbers. A delegate runs all other operators, each as soon as what
    it reads is there, and tells what it runs by kind and in order; so its parts are laid along these operators. One
    without a part was computed with what reads it, an activation with what comes before it.
    """
    found, runs = list[Group](), [list[int]()]  # what a delegate ran before each operator that it did not, and at last
    for at, part in enumerate(parts):
        if part.operator is None:
            runs[-1] = [at] if part.first else [*runs[-1], at]  # what was there before was in the body of a loop
        elif not part.inner:
            found.append(Group([at], [part.operator]))
            runs.append([])
    homes = {group.operators[0]: group for group in found}
    for before, numbers in _turns(graph, set(homes)):
        run = runs[before] if before < len(runs) else []
        laid = _laid([_plain(parts[at].name) for at in run], [graph.operators[number].kind for number in numbers])
        for at, place in zip(run, laid, strict=True):
            if place is None:
                found.append(Group([at]))
            elif (number := numbers[place]) in homes:
                homes[number].parts.append(at)
            else:
                homes[number] = Group([at], [number])
                found.append(homes[number])
    _settle(graph, homes)
    return sorted(found, key=lambda group: group.parts[0])


def _turns(graph: Graph, others: Collection[int]) -> Iterator[tuple[int, list[int]]]:
    """The operators that a delegate runs at once, and how many of the others have run before.

    Delegated operators run until all that are left wait for others, and the other way round. What is made of constants
    alone was made when the file was loaded.
    """
    makes = {at: number for number, operator in enumerate(graph.operators) for at in operator.outputs}
    needs = [{makes[at] for at in operator.inputs if at in makes} for operator in graph.operators]
    fixed: set[int] = set()
    for number, operator in enumerate(graph.operators):
        if (
            number not in others
            and needs[number] <= fixed
            and all(graph.values[at].stored or at in makes for at in operator.inputs if at >= 0)
        ):
            fixed.add(number)
    done, before, left, delegated = set(fixed), 0, [n for n in range(len(needs)) if n not in fixed], None
    while left:
        turn: list[int] = []
        for number in left:  # in the file, what an operator reads comes before it
            if needs[number] <= done and (delegated is None or (number not in others) == delegated):
                delegated = number not in others
                turn.append(number)
                done.add(number)
        if delegated:
            yield before, turn
        elif turn:
            before += len(turn)
        else:
            return  # they wait for each other
        left, delegated = [number for number in left if number not in done], not delegated


def _laid(names: Sequence[str], kinds: Sequence[str]) -> list[int | None]:
    """For each part the place of its operator, with the least against it; both are in order.

    Of several operators that a part could be of, the last has it. From the end, by Hart, Nilsson, Raphael, "A formal
    basis for the heuristic determination of minimum cost paths", IEEE Transactions on Systems Science and Cybernetics
    4(2), 1968: what can be no main part is aside at the least, and operators beyond the others in number are without.
    """
    aside = [not any(_fits(name, kind) for kind in set(kinds)) for name in names]
    mains = [0, *accumulate(not is_aside for is_aside in aside)]
    rest = [0, *accumulate(is_aside * (BESIDE if name in BEFORE | AFTER else STRANGE)
                           for name, is_aside in zip(names, aside, strict=True))]  # fmt: skip
    came: dict[_Step, tuple[_Step, int | None]] = {}
    here: _Step = (len(names), len(kinds), False)
    ways: list[tuple[int, _Step, int, _Step, int]] = [(0, here, 0, here, -1)]

    def go(against: int, parts: int, operators: int, has: bool, owner: int = -1) -> None:
        least = against + rest[parts] + ABSENT * max(0, operators - has - mains[parts])
        heappush(ways, (least, (parts, operators, has), against, here, owner))

    while here[:2] != (0, 0):
        _, here, against, before, owner = heappop(ways)
        if here in came:
            continue
        came[here] = before, None if owner < 0 else owner
        parts, operators, has = here
        at = operators - 1
        if operators:
            go(against + (0 if has else ABSENT), parts, at, False)
        if parts:
            go(against + STRANGE, parts - 1, operators, has)
        if parts and operators:
            name = names[parts - 1]
            if _fits(name, kinds[at]):
                go(against, parts - 1, operators, True, at)
            elif name in (BEFORE if has else AFTER):
                go(against + BESIDE, parts - 1, operators, has, at)
    found: list[int | None] = []
    while here != (len(names), len(kinds), False):
        before, place = came[here]
        if before[0] != here[0]:
            found.append(place)
        here = before
    return found


def _fits(name: str, kind: str) -> bool:
    """Whether a part can be the main one of an operator."""
    if name == TABLE:
        return kind in UNARY
    return name == kind.replace("_", "").lower() or kind in STANDS_FOR.get(name, ())


def _plain(name: str) -> str:
    """`Fully Connected (NC, F32) GEMM` as `fullyconnected`."""
    return name.partition(" (")[0].replace(" ", "").lower()


def _settle(graph: Graph, homes: dict[int, Group]) -> None:
    """Give operators without a part to a neighbour that has one."""
    makes = {at: number for number, operator in enumerate(graph.operators) for at in operator.outputs}
    readers: dict[int, list[int]] = {}
    for number, operator in enumerate(graph.operators):
        for at in operator.inputs:
            if at in makes:
                readers.setdefault(makes[at], []).append(number)

    def join(number: int, others: Iterable[int]) -> None:
        group = next((homes[other] for other in others if other in homes), None)
        if number not in homes and group is not None:
            group.operators.append(number)
            homes[number] = group

    def writers(number: int) -> list[int]:
        return [makes[at] for at in graph.operators[number].inputs if at in makes]

    numbers = range(len(graph.operators))
    for number in numbers:
        if graph.operators[number].kind in ACTIVATIONS:
            join(number, writers(number))
    for number in reversed(numbers):
        join(number, readers.get(number, ()))
    for number in numbers:
        join(number, writers(number))
