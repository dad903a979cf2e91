"""What all formats of decision trees have in common: one matrix in, and a forest that they are read into."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import UnsupportedModel
from ..forest import Array, Forest
from ..model import Batch, Format, Model, ModelFormat, Signature, Tensor, Value
from ..structure import Structure
from ._structure import structure_of

MOST_OUTPUTS = 1 << 16
"""A number of outputs above this is a broken file, which must not take memory by it."""

NAMED = 20  # columns that a sentence lists

PROBABILITIES = frozenset({"sigmoid", "sigmoid of two", "softmax", "shares", "probabilities"})


class TreeFormat(ModelFormat):
    """A format whose models can be read into a `Forest`."""

    @abstractmethod
    def forest(self, model: Model) -> Forest:
        """As for every format; here, there are some."""

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        return structure_of(self.forest(model), model, samples)


def signature(forest: Forest) -> Signature:
    """One matrix in, [samples, features]; `probability` or `prediction` out, [samples] or [samples, outputs]."""
    name = forest.result or ("probability" if forest.link in PROBABILITIES else "prediction")
    return Signature(
        (Tensor(forest.rows, forest.dtype, (None, forest.features), columns=forest.names, missing=True),),
        (Tensor(name, forest.sums, (None,) if forest.width is None else (None, forest.width)),),
    )


def counts(forest: Forest) -> Mapping[str, int]:
    """How much there is of it."""
    splits = forest.feature[(forest.tree >= 0) & (forest.feature >= 0)]
    return {
        "trees": forest.trees,
        "leaves": int(((forest.tree >= 0) & (forest.feature < 0)).sum()),
        "depth": int(forest.depth.max(initial=0)),
        "features": len(set(splits.tolist())),
    }


def notes(forest: Forest) -> tuple[str, ...]:
    """What a report should tell of it: columns that no split looks at, and what rounded leaves may do to a score."""
    found = []
    used = set(forest.feature[(forest.tree >= 0) & (forest.feature >= 0)].tolist())
    if unused := forest.features - len(used):
        first = itertools.islice((column for column in range(forest.features) if column not in used), NAMED)
        named = [forest.names[column] if forest.names else str(column) for column in first]
        more = f" and {unused - NAMED:,} more" if unused > NAMED else ""
        found.append(
            f"the forest looks at {len(used):,} of {forest.features:,} columns; not at {', '.join(named)}{more}"
        )
    if forest.step:
        summed = forest.trees if forest.values.shape[1] == forest.outputs else np.bincount(forest.output).max(initial=0)
        found.append(
            f"leaves are multiples of {forest.step:.3g}, by which a score is off by "
            f"{summed * forest.step / 2 / abs(forest.divisor):.2g} at the most, before any link"
        )
    return tuple(found)


def described(
    name: Format,
    payload: Any,
    forest: Forest,
    categories: Mapping[str, tuple[Value, ...]] = MappingProxyType({}),
    closed: bool = False,
    classes: tuple[Value, ...] = (),
) -> Model:
    """The model that a forest was read from: the path of its file, or a live object.

    Args:
        categories: What it knows of its columns, as in `Tensor`; `closed` and `classes` likewise.
    """
    files = (payload,) if isinstance(payload, Path) else ()
    (rows,), (result,) = signature(forest).inputs, signature(forest).outputs
    sides = Signature(
        (replace(rows, categories=dict(categories), closed=closed and bool(categories)),),
        (replace(result, classes=classes),),
    )
    return Model(name, payload, sides, files, counts=counts(forest), notes=notes(forest))


def classes_of(estimator: Any) -> tuple[Value, ...]:
    """The labels that a classifier was trained with, unless they are its columns' numbers."""
    return unless_numbers(getattr(estimator, "classes_", ()))


def unless_numbers(given: Any) -> tuple[Value, ...]:
    """Labels of classes, in the order of their columns; none where they are these columns' numbers."""
    classes = np.asarray(given)
    if classes.dtype.kind in "iub" and np.array_equal(classes, np.arange(len(classes))):
        return ()
    return tuple(classes.tolist())


def file_of(source: object) -> Path | None:
    """The file that a source names, if there is one."""
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    return path if path is not None and path.is_file() else None


def made_by(source: object, library: str, *classes: str) -> bool:
    """Whether an object is of one of a library's classes, told by their names: the library is not imported."""
    bases = type(source).__mro__
    return any(str(base.__module__).split(".")[0] == library and base.__name__ in classes for base in bases)


def write(content: bytes, file: Path) -> Path:
    """Write a file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)
    return file


@contextmanager
def reading(library: str, source: object) -> Iterator[None]:
    """Turn what parsing stumbles over into a refusal.

    Raises:
        UnsupportedModel: Something in the block was missing, or out of its bounds.
    """
    try:
        yield
    except UnsupportedModel:  # which is a TypeError
        raise
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        name = source if isinstance(source, Path) else f"this {type(source).__name__}"
        said = f"{type(error).__name__}: {error}"[:300]
        raise UnsupportedModel(
            f"{name} must be a whole {library} model, and is broken ({said}). Save or copy it again."
        ) from error


def inside(values: Array, most: int, what: str) -> Array:
    """The same indexes, if all lie in [0, most).

    Raises:
        ValueError: One does not.
    """
    outside = values[(values < 0) | (values >= most)]
    if len(outside):
        raise ValueError(f"{what} is {outside[0]}, and must be 0 or more and less than {most}")
    return values


def joined(trees: Sequence[Mapping[str, Array]], output: Array, base: Array, features: int, **settings: Any) -> Forest:
    """One forest of trees that were read one by one, checked.

    Args:
        trees: The arrays of `Forest` for each tree alone: its root is its node 0, and its indexes count its own nodes,
            leaves and subsets.
        output: As in `Forest`, and so all that follows.

    Raises:
        ValueError: An index is out of bounds.
        UnsupportedModel: It is no forest (`Forest.check`).
    """

    names = (*Forest.ARRAYS[:12], "values")
    none = {"values": np.zeros((0, 1))}
    parts = {name: [tree[name] for tree in trees] or [none.get(name, np.zeros(0, np.int64))] for name in names}
    whole: dict[str, Any] = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    sizes = {name: np.array([len(tree[name]) for tree in trees], np.int64) for name in names}
    starts = {name: np.cumsum(size) - size for name, size in sizes.items()}
    split, listed = whole["feature"] >= 0, whole["subset"] >= 0
    for name, of, chosen in (
        ("left", "feature", split), ("right", "feature", split), ("leaf", "values", ~split),
        ("subset", "member_ends", listed),
    ):  # fmt: skip
        most = np.repeat(sizes[of], sizes["feature"])
        wrong = chosen & ((whole[name] < 0) | (whole[name] >= most))
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(f"the {name} of a node is {whole[name][at]}, and its tree has {most[at]}")
        whole[name] = np.where(chosen, whole[name] + np.repeat(starts[of], sizes["feature"]), -1)
    whole["member_ends"] = whole["member_ends"] + np.repeat(starts["members"], sizes["member_ends"])
    inside(whole["feature"][split], min(features, 1 << 31), "the feature that a node looks at")
    return Forest(
        **whole, roots=starts["feature"], output=inside(output, len(base), "the output of a tree"), base=base,
        features=features, **settings,
    ).check()  # fmt: skip
