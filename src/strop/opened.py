"""Opened: a bundle's folder, read and checked."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from . import runtimes
from ._plain import restore
from .data import Data, match
from .errors import BundleError, StropError
from .goal import Goal
from .images import Preprocessing
from .model import Format, Model, Signature, digest_files
from .outputs import load_arrays
from .plan import Candidate
from .reading import read_for
from .runtime import Runner, Runtime, predict
from .server import Hosted
from .target import Target

MANIFEST, SAMPLES, REPORT, DEVICE = "manifest.json", "samples.npz", "report.html", "device.md"
CANDIDATES, ANATOMY = "candidates.json", "anatomy.json"


@dataclass(frozen=True)
class Environment:
    """The machine that figures were had on: CPU, instruction sets, versions."""

    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    system: str
    python: str
    packages: Mapping[str, str]

    def flat(self) -> dict[str, str]:
        """All of it by name; `yes` for an instruction set."""
        names = {"cpu": self.cpu, "cores": str(self.cores), "system": self.system, "python": self.python}
        return {**names, **dict.fromkeys(self.instruction_sets, "yes"), **self.packages}


@dataclass(frozen=True)
class Opened:
    """A folder that strop handed over.

    Attributes:
        folder: Where it lies.
        manifest: What it says of itself.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open a bundle and check that it is whole.

        Raises:
            BundleError: It is none, a file is missing or altered, or a newer strop wrote it.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise BundleError(f"a bundle is named by its folder, and {folder!r} is no path. Name one that strop wrote.")
        root = Path(folder)
        try:
            if not stat.S_ISREG((root / MANIFEST).stat().st_mode):  # a pipe would never end
                raise BundleError(f"{root} is no bundle: its {MANIFEST} is no regular file. Name one that strop wrote.")
            manifest = json.loads((root / MANIFEST).read_text())
        except OSError as error:
            raise BundleError(
                f"{root} is no bundle: its {MANIFEST} can't be read ({error.strerror}). Name one that strop wrote."
            ) from error
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{root / MANIFEST} is no JSON: {error}. Make the bundle again.") from error
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != 1:
            raise BundleError(
                f"{root / MANIFEST} has schema {schema!r}, and this strop reads 1. Install the strop that wrote it."
            )
        bundle = cls(root, manifest)
        with as_written(root / MANIFEST):
            hashes = restore(dict[str, str], manifest["hashes"]["files"])
            names = [*restore(list[str], bundle.content["files"]), SAMPLES]
            for made in ("model", "runtime", "target", "goal", "environment", "preprocessing"):
                getattr(bundle, made)
            bundle._check_target()
            if bundle.model.format not in bundle.runtime.loads:
                raise ValueError(f"{bundle.runtime.label()} does not load {bundle.model.format} models")
        for name in names:
            file = root / name
            if not file.resolve().is_relative_to(root.resolve()):
                raise BundleError(f"{root / MANIFEST} names {name!r}, which lies outside the bundle. Don't use it.")
            if not file.is_file():
                raise BundleError(f"{root} is incomplete: {name} is missing. Copy the whole folder, or make it again.")
            if digest_files([file]) != hashes.get(name):
                raise BundleError(f"{file} is not the file that was measured: its hash differs. Make the bundle again.")
        return bundle

    def _check_target(self) -> None:
        """Hold threads and batch against what a search takes; there may be fewer cores here than where it was made."""
        samples = sum(restore(dict[str, int], self.manifest["splits"]).values())
        if self.target.threads < 1:
            raise ValueError(f"target.threads must be 1 or more, not {self.target.threads}")
        if not 1 <= self.target.batch <= samples:
            raise ValueError(f"target.batch must be between 1 and the {samples} samples, not {self.target.batch}")

    @property
    def content(self) -> Mapping[str, Any]:
        """What the manifest says of the model in here: the winner, or the closest candidate."""
        content: Mapping[str, Any] | None = self.manifest["winner"] or self.manifest["closest"]
        if content is None:
            raise BundleError(f"{self.folder / MANIFEST} names no model.")
        return content

    @property
    def model(self) -> Model:
        files = tuple(self.folder / name for name in self.content["files"])
        return Model(Format(self.content["format"]), files[0], Signature.of(self.content["signature"]), files)

    @property
    def runtime(self) -> Runtime:
        chosen = self.content["runtime"]
        return runtimes.find(chosen["name"]).of(chosen["options"])

    @property
    def goal(self) -> Goal:
        return Goal.of_json(self.manifest["goal"])

    @property
    def target(self) -> Target:
        return restore(Target, self.manifest["target"])

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Of images, where data were folders of them."""
        return restore(Preprocessing | None, self.manifest.get("preprocessing"))  # type: ignore[arg-type]

    @property
    def environment(self) -> Environment:
        """Of the machine where it was made."""
        return restore(Environment, self.manifest["environment"])

    @property
    def candidate(self) -> Candidate:
        """The route, its settings and the runtime.

        Raises:
            BundleError: It names a technique or a setting that is not known here.
        """
        with as_written(self.folder / MANIFEST):
            return Candidate.of(self.content)

    def hosted(self, target: Target | None = None) -> Hosted:
        """The model and what runs it."""
        return Hosted(self.model, self.runtime, target or self.target)

    def runner(self) -> Runner:
        """Load the model into this process, with the options that were measured."""
        return self.runtime.load(self.model, self.target)

    def predict(self, inputs: object, runner: Runner | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """Run samples.

        Args:
            inputs: One array an input, axis 0 being samples; a scalar for an input without a sample axis. Of one input,
                the array itself, or a frame.
            runner: The model, loaded (`runner()`); by default it is loaded for this call.

        Returns:
            One array an output, axis 0 being samples.

        Raises:
            InvalidData: The arrays do not fit the model.
        """
        data, signature = match(read_for(self.model.signature, inputs), self.model.signature)
        loaded = runner or self.runner()
        try:
            return predict(loaded, signature, data, self.target.batch)
        finally:
            if runner is None:
                loaded.close()

    def samples(self) -> tuple[Data, dict[str, np.ndarray[Any, Any]]]:
        """The stored samples, and the outputs that were had from them where the bundle was made."""
        parts: dict[str, dict[str, np.ndarray[Any, Any]]] = {"input": {}, "constant": {}, "output": {}}
        with as_written(self.folder / SAMPLES):
            for name, array in load_arrays(self.folder / SAMPLES).items():
                kind, _, tensor = name.partition(".")
                parts[kind][tensor] = array
            data = Data(parts["input"], constants=parts["constant"])
            outputs = {t.name: parts["output"][t.name] for t in self.model.signature.visible_outputs}
            return match(data, self.model.signature)[0], outputs


@contextlib.contextmanager
def as_written(file: Path) -> Iterator[None]:
    """Whatever goes wrong in here does so because `file` is not what strop wrote."""
    try:
        yield
    except BundleError:
        raise
    except Exception as error:  # of libraries too, which an altered file may lead anywhere
        said = str(error) if isinstance(error, StropError) else f"{type(error).__name__}: {error}"
        raise BundleError(f"{file} is not what strop wrote ({said}). Make the bundle again.") from error
