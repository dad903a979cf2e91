"""A forest to a C library that needs nothing at run time."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .. import formats
from .._pickles import write
from ..errors import NotApplicable, RunFailed, TechniqueError
from ..formats.forest import FILE, SOURCE, ForestFormat, native_model
from ..model import FOREST, NATIVE, Format, Model
from ..native.library import SOURCES, build, compiler, write_source
from ..target import Target
from ..technique import Context, Phase, Technique


@dataclass(frozen=True)
class ToNative(Technique):
    """Write the forest as C, and compile it: `model.so` and `forest.h`, to be called from any language."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FOREST})
    returns: ClassVar[Format | None] = NATIVE
    phase: ClassVar[Phase] = Phase.COMPILE
    lossless: ClassVar[bool] = True
    version: ClassVar[int] = 2

    def expects(self, target: Target) -> float:
        return 0.2  # of LightGBM's fastest call, 500 trees of 63 leaves: 0.15 for a row, 0.05 for many

    def requires(self, model: Model, target: Target) -> None:
        if compiler() is None:
            raise NotApplicable("a C compiler is needed, and there is none here (apt-get install gcc)")

    def apply(self, model: Model, context: Context) -> Model:
        room = formats.format_of(model.format)
        assert isinstance(room, ForestFormat)
        forest = room.forest(model)
        with tempfile.TemporaryDirectory(dir=context.folder, prefix=".part-") as scratch:
            folder = Path(scratch)
            write_source(forest, folder)
            try:
                build(folder, folder / "model.so")
            except RunFailed as error:
                raise TechniqueError(str(error)) from error
            content = (folder / "model.so").read_bytes()
            library, seal = write(context.folder / "model.so", lambda file: file.write(content))
            library.chmod(0o755)
            header = Path(shutil.copy(folder / "forest.h", context.folder))
            with zipfile.ZipFile(context.folder / SOURCE, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in SOURCES:
                    archive.write(folder / name, name)
                archive.write(model.path, FILE)
        files = (seal, header, context.folder / SOURCE)
        return native_model(library, files, model.signature, forest)
