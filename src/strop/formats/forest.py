"""strop's own form of decision trees, and the C library that one becomes."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._archives import check_expansion
from ..errors import NotApplicable, UnsupportedModel
from ..forest import Forest
from ..model import FOREST, NATIVE, Batch, Model, ModelFormat, Signature
from ..structure import Structure
from ._structure import structure_of
from .trees import TreeFormat, counts, described, notes

FILE = "forest.npz"
SOURCE = "source.zip"


class ForestFormat(TreeFormat):
    """`forest.npz`: the arrays of a `Forest`."""

    name = FOREST

    def detects(self, source: object) -> bool:
        return isinstance(source, (str, os.PathLike)) and Path(source).name == FILE and Path(source).is_file()

    def open(self, source: Any) -> Model:
        path = Path(source)
        forest = Forest.load(path)
        return described(FOREST, path, forest)

    def forest(self, model: Model) -> Forest:
        return Forest.load(model.path)

    def shortened(self, model: Model, folder: Path) -> Model:
        forest = self.forest(model)
        if forest.trees < 2:
            raise NotApplicable("it has one tree at the most")
        return save(replace(forest, roots=forest.roots[:1], output=forest.output[:1]).without_unused_nodes(), folder)


def save(forest: Forest, folder: Path) -> Model:
    """Write a forest into a folder."""
    forest.save(folder / FILE)
    return described(FOREST, folder / FILE, forest)


class NativeFormat(ModelFormat):
    """`model.so` (its seal beside it), `forest.h`, and `source.zip`: C, tables, and the forest they were made of."""

    name = NATIVE

    def detects(self, source: object) -> bool:
        return False

    def open(self, source: Any) -> Model:
        raise UnsupportedModel(f"A compiled forest is no original; {source} must be the model that it was made of.")

    def forest(self, model: Model) -> Forest:
        return source_of(model)

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        return structure_of(source_of(model), model, samples)


def native_model(library: Path, files: Sequence[Path], like: Signature, forest: Forest) -> Model:
    """A compiled forest that lies on disk."""
    return Model(NATIVE, library, like, (library, *files), counts=counts(forest), notes=notes(forest))


def source_of(model: Model) -> Forest:
    """The forest that a library was made of.

    Raises:
        UnsupportedModel: It is missing, or broken.
    """
    path = model.path.with_name(SOURCE)
    try:
        check_expansion(path)
        with zipfile.ZipFile(path) as archive:
            return Forest.read(io.BytesIO(archive.read(FILE)), path)
    except UnsupportedModel:
        raise
    except Exception as error:  # of zipfile and what it decompresses with, which damage may lead anywhere
        raise UnsupportedModel(f"{path} must hold {FILE}, which the library was made of ({error}).") from error
