"""Fusion: which layers of a graph of OpenVINO's file each node of the compiled one stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONSTANT = "Constant"
AFTER = "/Dequantization"
"""What follows the name of a product in that of the node that computes it in integers and makes floats of these."""
OWN = ("Const", "Convert", "Input", "Reorder")
"""Kinds of nodes of which some are in no file."""


@dataclass(frozen=True)
class Node:
    """Of either graph.

    Attributes:
        key: In a graph, no two have the same.
        name: In a file, no two have the same.
        kind: In OpenVINO's spelling.
        reads: Keys of the nodes whose values go in, constants included.
        told: Of a compiled one, the names that OpenVINO says it had.
    """

    key: str
    name: str
    kind: str
    reads: tuple[str, ...]
    told: tuple[str, ...] = ()

    @classmethod
    def of(cls, op: Any, told: Mapping[str, str] | None = None) -> Node:
        reads = tuple(port.get_source_output().get_node().get_name() for port in op.inputs())
        told = told or {}
        names = tuple(filter(None, told.get("originalLayersNames", "").split(",")))
        return cls(op.get_name(), op.get_friendly_name(), told.get("layerType", op.get_type_name()), reads, names)


def origins(compiled: Sequence[Node], given: Sequence[Node]) -> list[tuple[str, ...]]:
    """The names of the layers of `given` that each node of `compiled` stands for, in the order of `given`.

    OpenVINO tells names, but not all: rewriting a product in integers leaves it with that of the multiplication after
    it, or with one of no meaning. Then it is known by the weights that it reads. A layer that no node is known to stand
    for was computed with what reads it: so a product is found that has the name of what scales it. And a node that
    stands for no layer is a part of what reads it, as the products within attention are; those that convert, or put in
    order, stay by themselves.

    Args:
        compiled: In topological order.
        given: In topological order.
    """
    graph = _Graph(given)
    home: dict[str, str] = {}
    found = {node.key: set(node.told) & graph.place.keys() for node in compiled}

    def claim(key: str, names: Iterable[str]) -> None:
        for name in names:
            if name in graph.place and name not in home:
                home[name] = key
                found[key].add(name)

    for node in compiled:
        claim(node.key, node.told)
    for node in compiled:
        claim(node.key, [name.partition(AFTER)[0] for name in node.told if AFTER in name])
    for node in compiled:  # what reads weights that are unpacked may be told to have been what it reads
        claim(node.key, [node.name])
    names = {node.key: node.name for node in compiled}
    for node in compiled:
        for key in node.reads:
            users = graph.users(names[key])
            claim(node.key, users if len(users) == 1 else ())
    for layer in reversed(graph.place):
        after = next((home[name] for name in graph.readers.get(layer, ()) if name in home), None)
        if after is not None:
            claim(after, [layer])
    readers: dict[str, str] = {}
    for node in reversed(compiled):
        if not found[node.key] and node.key in readers and node.kind not in OWN:
            found[node.key] = found[readers[node.key]]
        readers.update(dict.fromkeys(node.reads, node.key))
    return [tuple(sorted(found[node.key], key=graph.place.__getitem__)) for node in compiled]


class _Graph:
    """A graph as its file has it.

    Attributes:
        place: By name, where each layer comes; constants are none.
        readers: By name of a layer or constant, those of the layers that read it.
    """

    def __init__(self, nodes: Sequence[Node]):
        names = {node.key: node.name for node in nodes}
        self.place = {node.name: at for at, node in enumerate(nodes) if node.kind != CONSTANT}
        self.readers: dict[str, list[str]] = {}
        self.fixed: set[str] = set()
        for node in nodes:
            reads = [names[key] for key in node.reads]
            if node.kind == CONSTANT or (reads and self.fixed.issuperset(reads)):
                self.fixed.add(node.name)
            for name in reads:
                self.readers.setdefault(name, []).append(node.name)

    def users(self, constant: str) -> set[str]:
        """The layers that a constant ends up in, itself or what is made of constants alone."""
        open_ends, users = [constant] if constant in self.fixed else [], set[str]()
        while open_ends:
            for name in self.readers.get(open_ends.pop(), ()):
                if name in self.fixed:
                    open_ends.append(name)
                else:
                    users.add(name)
        return users
