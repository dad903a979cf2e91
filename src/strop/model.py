"""Model: what flows through strop; its format and its signature."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NewType, Self, TypeAlias

import numpy as np

from ._plain import restore
from .dataflow import Dataflow, Group
from .errors import NotApplicable, RunFailed, UnsupportedModel
from .forest import Forest
from .spelling import option
from .structure import Structure

Batch: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
"""Named arrays; the only currency between rooms. Axis 0 is samples, except where a signature says there is none."""

Value: TypeAlias = str | bool | int | float
"""What a label or a category may be."""

Format = NewType("Format", str)
"""The name of a model format. Third parties may add their own."""

ONNX = Format("onnx")
ONNX_TREES = Format("onnx-trees")
OPENVINO = Format("openvino")
TFLITE = Format("tflite")
KERAS = Format("keras")
SAVED_MODEL = Format("saved-model")
TORCH = Format("torch")
TORCH_PROGRAM = Format("torch-program")
LIGHTGBM = Format("lightgbm")
XGBOOST = Format("xgboost")
CATBOOST = Format("catboost")
SKLEARN = Format("sklearn")
FOREST = Format("forest")
NATIVE = Format("native")

NETWORKS = (ONNX, TORCH, KERAS, SAVED_MODEL, OPENVINO, TFLITE)
"""The formats of neural networks, of which another is quantized after it is converted."""

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: As the model spells it.
        dtype: NumPy's name of the type (`float32`, `int64`, ...).
        shape: An int where the size is fixed, a name or None where it is free.
        batched: Whether axis 0 is samples. False: one call serves one sample (or the input is the same for all).
        feedback: For an input that carries state: the output that is fed back into it at the next step.
        optional: Whether the model can do without this input.
        columns: Of a table's columns that are this input: their names, in its order; empty where the model has none.
        missing: Whether NaN and infinity are values like others to the model.
        categories: By column, what its numbers stand for: a value's place here is its code. A column of other numbers
            is not among them.
        closed: Whether a category that is not listed is refused; where it is not, it counts as missing.
        classes: Of a classifier's output: the labels that its columns, or numbers, stand for; empty where these are
            their own numbers.
        stored: Of a quantized input or output: the integers that the model itself takes or gives. An input that is
            handed in as these goes on as it is; one of `dtype` is quantized.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    batched: bool = True
    feedback: str | None = None
    optional: bool = False
    columns: tuple[str, ...] = ()
    missing: bool = False
    categories: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    closed: bool = False
    classes: tuple[Value, ...] = ()
    stored: str = ""

    @property
    def fixed_batch(self) -> int | None:
        """The number of samples that one call must hold, or None where it is free."""
        if self.batched and self.shape and isinstance(self.shape[0], int):
            return self.shape[0]
        return None

    @property
    def free(self) -> bool:
        """Whether sizes are free besides the number of samples."""
        return any(not isinstance(size, int) for size in self.shape[1 if self.batched else 0 :])

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """Names, shapes and dtypes of a model's inputs and outputs."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def states(self) -> tuple[Tensor, ...]:
        """The inputs that carry state from one step to the next."""
        return tuple(t for t in self.inputs if t.feedback)

    @property
    def visible_outputs(self) -> tuple[Tensor, ...]:
        """The outputs that are results: all but those that feed back as state."""
        fed = {t.feedback for t in self.states}
        return tuple(t for t in self.outputs if t.name not in fed)

    def names(self) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
        """Names and dtypes of inputs and outputs: what no technique may change."""
        return tuple((t.name, t.dtype) for t in self.inputs), tuple((t.name, t.dtype) for t in self.outputs)

    def to_json(self) -> dict[str, Any]:
        return {
            side: [
                {name: list(value) if isinstance(value, tuple) else value for name, value in vars(t).items()}
                for t in getattr(self, side)
            ]
            for side in ("inputs", "outputs")
        }

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises:
            ValueError: It is not that, or no output is a result.
        """
        made = restore(cls, json)
        if strange := {t.feedback for t in made.states} - {t.name for t in made.outputs}:
            raise ValueError(f"inputs are fed by {sorted(map(str, strange))}, which are no outputs")
        if made.outputs and not made.visible_outputs:
            raise ValueError("every output is fed back, and none is a result")
        return made


@dataclass(frozen=True)
class Model:
    """A trained model in one format.

    Attributes:
        format: The name of its format.
        payload: A live object, or the path of its main file (or folder).
        signature: Its inputs and outputs.
        files: Every file that must ship, the main one first; empty for a live object.
        history: The techniques that made it, first to last, as text.
        counts: What is known of it besides: `parameters`, and `operations` (multiply-adds for one sample).
        notes: What else a report should tell of it, in sentences.
        groups: Of one whose precisions are mixed: its operators, as they were given them.
    """

    format: Format
    payload: Any
    signature: Signature
    files: tuple[Path, ...] = ()
    history: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def path(self) -> Path:
        """The main file.

        Raises:
            TypeError: The model is a live object.
        """
        if not isinstance(self.payload, Path):
            raise TypeError(f"a {self.format} model in memory has no path; save it first")
        return self.payload

    @property
    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def size(self) -> int:
        """Bytes on disk of all that must ship."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def compressed(self) -> int:
        """The same after DEFLATE: what a download or a package takes."""
        return sum(_deflated(file) for file in self.files)

    def digest(self) -> str:
        """SHA-256 over the content of all files."""
        return digest_files(self.files)

    def copy_to(self, folder: Path) -> Model:
        """Copy all files into a folder and return the model that lies there."""
        root = self._folder
        moved = []
        for file in self.files:
            moved.append(folder / file.relative_to(root))
            moved[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, moved[-1])
        return replace(self, payload=folder / self.path.relative_to(root), files=tuple(moved))

    def to_json(self, root: Path) -> dict[str, Any]:
        """Plain data, paths relative to `root`."""
        return {
            "format": self.format,
            "path": os.path.relpath(self.path, root),
            "files": [os.path.relpath(file, root) for file in self.files],
            "signature": self.signature.to_json(),
            "history": list(self.history),
            "counts": dict(self.counts),
            "notes": list(self.notes),
            "groups": [asdict(group) for group in self.groups],
        }

    @classmethod
    def of(cls, json: Mapping[str, Any], root: Path) -> Self:
        """Read what `to_json` gave.

        Raises:
            RunFailed: A file lies outside the model's own folder, and a copy of it would land outside of the copy's.
        """
        path, *files = (Path(os.path.normpath(root / file)) for file in (json["path"], *json["files"]))
        made = cls(
            Format(json["format"]), path, Signature.of(json["signature"]), tuple(files), tuple(json["history"]),
            restore(dict[str, int], json["counts"]), restore(tuple[str, ...], json.get("notes", ())),
            restore(tuple[Group, ...], json.get("groups", ())),
        )  # fmt: skip
        for file in files:
            if not file.is_relative_to(made._folder):
                raise RunFailed(
                    f"the files of a model must lie in its folder {made._folder}, and {file} does not. Start a new run."
                )
        return made


def _deflated(file: Path) -> int:
    packer, size = zlib.compressobj(), 0
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            size += len(packer.compress(piece))
    return size + len(packer.flush())


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, read in pieces."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.name) + b"\0")
        with file.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


class ModelFormat(ABC):
    """How one format is recognized and read. A plug-in of the room `formats`."""

    name: ClassVar[Format]

    @abstractmethod
    def detects(self, source: object) -> bool:
        """Whether an object or a path looks like this format. Looks at names and first bytes; imports no framework."""

    @abstractmethod
    def open(self, source: Any) -> Model:
        """Read what the model is: its signature and the files that must ship.

        Args:
            source: An object or path for which `detects` is true.

        Raises:
            UnsupportedModel: The file is broken, or holds what strop can't handle.
        """

    def fill(self, source: Any, weights: Path) -> Any:
        """Put weights from a file of their own into a live object, and return it.

        Raises:
            UnsupportedModel: They don't fit, or models of this format hold their weights themselves.
            UntrustedModel: The file could run code.
        """
        raise UnsupportedModel(
            f"Weights of their own go with a live model of PyTorch or Keras, and this is one in {self.name}, which "
            f"holds its weights itself. Leave out {option('weights')}."
        )

    def store(self, model: Model, folder: Path) -> Model:
        """Write a live object into a folder. A format whose models are always files has nothing to write.

        Returns:
            The model that lies on disk; one that does already comes back as it is.
        """
        return model

    def fit(self, model: Model, samples: Batch) -> Model:
        """Learn from a few samples what the model itself does not tell of its signature. Runs in a job.

        Args:
            model: On disk.
            samples: Two rows or more of every array that bears the name of an input.

        Raises:
            UnsupportedModel: It fails on them.
        """
        return model

    def operations(self, model: Model) -> int | None:
        """Multiply-adds for one sample in matrix products and convolutions, or a bound from above; None where that is
        not known.

        Args:
            model: On disk.
        """
        return model.counts.get("operations")

    def structure(self, model: Model, samples: Batch | None = None) -> Structure:
        """What the model is made of, for a profile.

        Args:
            model: On disk.
            samples: Some, by which the format may tell what they meet in the model.

        Raises:
            UnsupportedModel: strop does not take models of this format apart, or the file is broken.
        """
        known = [f"{number:,} {name}" for name, number in model.counts.items()]
        files = f"{model.size:,} bytes on disk"
        raise UnsupportedModel(
            f"A profile takes apart what strop knows the parts of, and of a model in {self.name} it knows none "
            f"({', '.join([*known, files])}). strop benchmark measures it as a whole."
        )

    def forest(self, model: Model) -> Forest:
        """Read the trees, checked (`Forest.check`), so that `Forest.predict` gives what the library's own call gives.

        Raises:
            UnsupportedModel: It is no ensemble of trees, the file is broken, or it holds what is more than trees
                (linear leaves, text features).
        """
        raise UnsupportedModel(f"A model in {self.name} is no ensemble of decision trees.")

    def dataflow(self, model: Model) -> Dataflow:
        """What the model computes, operator by operator, for an explanation.

        Args:
            model: On disk.

        Raises:
            UnsupportedModel: strop does not look into models of this format.
        """
        raise UnsupportedModel(
            f"An explanation looks into models of ONNX, OpenVINO and TFLite, and what is converted to them, and into "
            f"decision trees; of a model in {self.name} only samples are told. strop compare measures it as a whole."
        )

    def tapped(self, model: Model, values: Sequence[str], folder: Path, given: Sequence[Tensor] | None = None) -> Model:
        """Write the model with values in between as further outputs, behind those of the model itself: each as it is
        read, which is rounded where all that read it are given it rounded.

        Args:
            model: On disk.
            values: Names as `dataflow` has them.
            folder: Where it is written.
            given: Values that are handed in as inputs, under their names: whatever reads one of them reads what is
                given, and the model's own outputs are left out. What each layer does by itself is then seen in one
                call; its output is not rounded there, which is the next layer's doing.
        """
        raise UnsupportedModel(f"The values in between of a model in {self.name} can't be had.")

    def shifted(self, model: Model, values: Sequence[str], folder: Path) -> tuple[Model, tuple[str, ...]]:
        """Write the model so that something is added to each of some values in between before they are read.

        Args:
            model: On disk.
            values: Names of floats, as `dataflow` has them.
            folder: Where it is written.

        Returns:
            The model, and the further inputs, float32 of the values' shapes, in the order of the values.

        Raises:
            NotApplicable: That can't be done.
        """
        raise NotApplicable(f"nothing can be added to values in a model in {self.name}")

    def folded(self, model: Model, preprocessing: Any, folder: Path) -> Model:
        """Write the model with the numeric part of pre-processing in front: its input becomes pixels, uint8
        [samples, height, width, channels], of the same name.

        Args:
            model: On disk.
            preprocessing: A `Preprocessing`.
            folder: Where it is written.

        Raises:
            UnsupportedModel: Models of this format can't take it over.
        """
        raise UnsupportedModel(
            f"Models in ONNX, Keras and TFLite can take pre-processing over, and this is one in {self.name}. Leave out "
            "fold."
        )

    def shortened(self, model: Model, folder: Path) -> Model:
        """Write the model with as few of its parts as its own runtime still runs in the same way: what a call of it
        takes is what a call takes besides the parts.

        Args:
            model: On disk.
            folder: Where it is written.

        Raises:
            NotApplicable: There is no such model, in one sentence.
        """
        raise NotApplicable(f"a model in {self.name} can't be shortened")
