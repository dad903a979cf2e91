"""Parts: two models cut into layers at the values that both know by name, so that each can be held to its other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..dataflow import Dataflow, Operator

PRODUCTS = frozenset({
    "attention", "batchmatmul", "conv", "conv2d", "conv3d", "convinteger", "convolution", "convolutionbackpropdata",
    "convtranspose", "depthwiseconv2d", "dynamicquantizelstm", "dynamicquantizematmul", "embeddinglookup",
    "fullyconnected", "fusedconv", "fusedgemm", "fusedmatmul", "gemm", "groupconvolution",
    "groupconvolutionbackpropdata", "gru", "grusequence", "lstm", "lstmsequence", "matmul", "matmulinteger",
    "matmulintegertofloat", "matmulnbits", "multiheadattention", "qattention", "qgemm", "qlinearconv", "qlinearmatmul",
    "rnn", "rnnsequence", "scaleddotproductattention", "transposeconv", "unidirectionalsequencelstm",
    "unidirectionalsequencernn",
})  # fmt: skip
"""Matrix products and what is made of them: most weights and most of the work."""
PLUMBING = frozenset({
    "cast", "constant", "convert", "dequantize", "dequantizelinear", "dynamicquantizelinear", "fakequantize",
    "identity", "quantize", "quantizelinear", "shapeof", "shape",
})  # fmt: skip
"""What only changes how numbers are held."""
FOLLOWERS = frozenset({
    "abs", "batchnormalization", "batchnorminference", "cast", "celu", "clamp", "clip", "convert", "dropout", "elu",
    "erf", "exp", "expanddims", "flatten", "gelu", "hardsigmoid", "hardswish", "hsigmoid", "hswish", "identity",
    "leakyrelu", "log", "logistic", "mish", "neg", "prelu", "relu", "relu0to1", "relu6", "relun1to1", "reshape",
    "selu", "sigmoid", "silu", "softplus", "softsign", "sqrt", "squeeze", "swish", "tanh", "transpose", "unsqueeze",
})  # fmt: skip
"""What takes one value and works on each number by itself, or moves numbers: part of the layer before it."""
CUTS = frozenset({"clamp", "clip", "relu", "relu0to1", "relu6", "relun1to1"})
"""What does nothing to numbers within a range, so that rounding to that range does it as well, and none is left."""
WITH_CONSTANT = frozenset({"add", "biasadd", "div", "divide", "mul", "multiply", "pow", "power", "sub", "subtract"})
"""What does so where all else that it reads is stored."""


@dataclass(frozen=True)
class Part:
    """A layer: the operators between a value that both models know and those before it.

    Attributes:
        value: The value that it ends in, as the original calls it.
        found: The same as the candidate calls it.
        original: Operators of the original; `candidate` likewise.
        main: Of the original's operators, the one that it is named after.
        counterpart: Of the candidate's, the one that does the same; None where nothing is left of it.
        bytes: Stored in the files for it, before and after.
    """

    value: str
    found: str
    original: tuple[Operator, ...]
    candidate: tuple[Operator, ...]
    main: Operator
    counterpart: Operator | None
    bytes: tuple[int, int]

    @property
    def precision(self) -> str:
        """What the candidate computes it in, as far as its file tells."""
        return (self.counterpart or self.main).precision


def shared(original: Dataflow, candidate: Dataflow) -> list[tuple[str, str]]:
    """The values that both models make, in the original's order, each with the candidate's name.

    Values that only go on into what belongs to the same layer (a bias, an activation, another shape) are left out.
    Where a quantizer has left a cut to the rounding before it, what is rounded is what the original has behind the cut.
    """
    known, fixed, readers = candidate.names(), constant(original), _readers(original)
    cut = _cut(candidate)
    aliases: dict[str, list[str]] = {}
    for alias, name in original.names().items():
        aliases.setdefault(name, []).append(alias)
    found, covered = list[tuple[str, str]](), set[str]()
    for operator in reversed(original.operators):
        for value in operator.outputs:
            name = next((known[alias] for alias in (value, *aliases[value]) if alias in known), "")
            follows = _goes_on(value, original, readers, fixed) and covered.issuperset(readers[value][0].outputs)
            if value in fixed or not (name or follows):
                continue
            covered.add(value)
            if not follows:
                rounded = name in candidate.seen_as and name not in cut
                found.append((_behind_cut(value, original, readers) if rounded else value, name))
    times = Counter(name for _, name in found)
    return [(value, name) for value, name in reversed(found) if times[name] == 1]


def parts(original: Dataflow, candidate: Dataflow, values: Sequence[tuple[str, str]]) -> list[Part]:
    """Cut both models at these values."""
    before = _Regions(original, [value for value, _ in values])
    after = _Regions(candidate, [found for _, found in values])
    made = []
    for place, (value, found) in enumerate(values):
        first, second = before.operators[place], after.operators[place]
        maker = before.makers[value]
        main = _main(before.moving(first), maker, original)
        theirs, last = after.moving(second), after.makers.get(found)
        alike = next((one for one in theirs if one.name == main.name and one.kind == main.kind), None)
        counterpart = alike or (_main(theirs, last, candidate) if last is not None else None)
        made.append(Part(value, found, first, second, main, counterpart, (before.bytes[place], after.bytes[place])))
    return made


def products(operators: Iterable[Operator]) -> list[Operator]:
    """Those that are matrix products, or made of them."""
    return [one for one in operators if plain(one.kind) in PRODUCTS]


def constant(flow: Dataflow) -> set[str]:
    """Names of what is stored, and of what is made of nothing else."""
    fixed = set(flow.stored)
    for operator in flow.operators:
        if operator.inputs and fixed.issuperset(operator.inputs):
            fixed |= set(operator.outputs)
    return fixed


def plain(kind: str) -> str:
    """A kind of operator as all formats would spell it."""
    return kind.lower().replace("_", "")


def _goes_on(value: str, flow: Dataflow, readers: dict[str, list[Operator]], fixed: Collection[str]) -> bool:
    users = readers.get(value, [])
    if len(users) != 1 or value in flow.outputs:
        return False
    (user,) = users
    if plain(user.kind) in FOLLOWERS:
        return user.inputs[0] == value
    others = [other for other in user.inputs if other != value]
    return plain(user.kind) in WITH_CONSTANT and bool(others) and all(other in fixed for other in others)


def _behind_cut(value: str, flow: Dataflow, readers: dict[str, list[Operator]]) -> str:
    """What becomes of a value where it only goes on into a cut; else the value."""
    users = readers.get(value, [])
    alone = len(users) == 1 and value not in flow.outputs
    return users[0].outputs[0] if alone and plain(users[0].kind) in CUTS else value


def _cut(flow: Dataflow) -> set[str]:
    """The values that go on into a cut, rounded in between or not."""
    found = set[str]()
    for operator in reversed(flow.operators):
        kind = plain(operator.kind)
        if kind in CUTS or (kind in PLUMBING and found.intersection(operator.outputs)):
            found |= set(operator.inputs)
    return found


def _main(operators: Sequence[Operator], maker: Operator, flow: Dataflow) -> Operator:
    """What a layer is named after: a product, else what holds graphs of its own, else the first operator that does more
    than follow, else the last."""
    for chosen in (
        (one for one in operators if plain(one.kind) in PRODUCTS),
        (one for one in operators if one.name in flow.opaque),
        (one for one in operators if plain(one.kind) not in PLUMBING | FOLLOWERS),
        (one for one in operators if plain(one.kind) not in PLUMBING),
    ):
        if (first := next(chosen, None)) is not None:
            return first
    return maker


def _readers(flow: Dataflow) -> dict[str, list[Operator]]:
    found: dict[str, list[Operator]] = {}
    for operator in flow.operators:
        for value in dict.fromkeys(operator.inputs):
            found.setdefault(value, []).append(operator)
    return found


class _Regions:
    """The operators and stored bytes that belong to each of some values: each to the first that needs it.

    Attributes:
        operators: Of each value, in the order in which they run.
        bytes: Likewise.
    """

    def __init__(self, flow: Dataflow, values: Sequence[str]):
        self._fixed = constant(flow)
        self.makers = {output: operator for operator in flow.operators for output in operator.outputs}
        self._ends: dict[str, int] = {}
        for place, value in enumerate(values):
            self._ends[value] = place
            if value in flow.seen_as:
                self._ends[flow.seen_as[value]] = place
        order = {operator.name: place for place, operator in enumerate(flow.operators)}
        owned: set[str] = set()
        kept: set[str] = set()
        self.operators: list[tuple[Operator, ...]] = []
        self.bytes: list[int] = []
        for place, value in enumerate(values):
            own = [one for one in self._behind(flow.seen_as.get(value, value), place) if one.name not in owned]
            owned |= {one.name for one in own}
            self.operators.append(tuple(sorted(own, key=lambda one: order[one.name])))
            stored = {name for one in own for name in one.inputs if name in flow.stored} - kept
            kept |= stored
            within = sum(flow.opaque.get(one.name, 0) for one in own)
            self.bytes.append(sum(flow.stored[name].bytes for name in stored) + within)

    def moving(self, operators: Sequence[Operator]) -> list[Operator]:
        """Without those that work on what is stored alone."""
        return [one for one in operators if not self._fixed.issuperset(one.outputs)]

    def _behind(self, value: str, place: int) -> Iterator[Operator]:
        """All operators that a value is made by, back to the values before it."""
        waiting, seen = [value], set[str]()
        while waiting:
            name = waiting.pop()
            if self._ends.get(name, place) != place or (maker := self.makers.get(name)) is None or maker.name in seen:
                continue
            seen.add(maker.name)
            yield maker
            waiting.extend(maker.inputs)
