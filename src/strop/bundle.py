"""Bundle: the folder that is handed over. Model, manifest, report, and samples with the outputs to expect."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from . import jobs, report, runtimes
from ._plain import restore
from .bench import load_arrays, load_outputs
from .data import Data, match
from .deploy import snippet
from .errors import BundleError, StropError
from .goal import Goal
from .images import Preprocessing
from .model import Format, Model, Signature, digest_files
from .notebook import shown
from .plan import Candidate
from .reading import read_for
from .rundir import finite
from .runtime import Runner, Runtime, predict
from .server import Hosted, Server
from .target import Target
from .trial import Outcome, plain

MANIFEST, SAMPLES, REPORT, DEVICE = "manifest.json", "samples.npz", "report.html", "device.md"
CANDIDATES, ANATOMY = "candidates.json", "anatomy.json"
KEPT = 64  # samples in a bundle, where they are small
LEAST_KEPT = 8  # samples, however large
WEIGHT = 1 << 20  # bytes of inputs above which no further sample is kept
PATIENCE = 600.0  # seconds that running a few samples may take


@dataclass(frozen=True)
class Source:
    """What goes into a bundle."""

    model: Model
    runtime: Runtime
    target: Target
    samples: Path


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
class Bundle:
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
        with _as_written(root / MANIFEST):
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
        with _as_written(self.folder / MANIFEST):
            return Candidate.of(self.content)

    def hosted(self, target: Target | None = None) -> Hosted:
        """The model and what runs it."""
        return Hosted(self.model, self.runtime, target or self.target)

    def runner(self) -> Runner:
        """Load the model into this process, with the options that were measured."""
        return self.runtime.load(self.model, self.target)

    def predict(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run samples.

        Args:
            inputs: One array an input, axis 0 being samples; a scalar for an input without a sample axis.

        Returns:
            One array an output, axis 0 being samples.

        Raises:
            InvalidData: The arrays do not fit the model.
        """
        data, signature = match(read_for(self.model.signature, inputs), self.model.signature)
        runner = self.runner()
        try:
            return predict(runner, signature, data, self.target.batch)
        finally:
            runner.close()

    def report(self, explained: Mapping[str, Any] | None = None) -> str:
        """The page of `report.html`, made anew.

        Args:
            explained: What `strop.explain` found between the original and this.

        Raises:
            BundleError: The bundle is not what strop wrote.
        """
        with _as_written(self.folder):
            tried = self._told(CANDIDATES, [])
            anatomy = self._told(ANATOMY, {})
            if explained is not None:
                anatomy = {**anatomy, "explained": explained, "why_not": []}
            code = snippet(self.model, self.runtime, self.target, self.folder / SAMPLES)
            return report.page(self.manifest, tried, code, anatomy)

    def _told(self, name: str, otherwise: Any) -> Any:
        """What a file holds, which bundles of an earlier strop lack."""
        file = self.folder / name
        return json.loads(file.read_text()) if file.is_file() else otherwise

    def _repr_html_(self) -> str:
        return shown(self.manifest, str(self.folder))

    def samples(self) -> tuple[Data, dict[str, np.ndarray[Any, Any]]]:
        """The stored samples, and the outputs that were had from them where the bundle was made."""
        parts: dict[str, dict[str, np.ndarray[Any, Any]]] = {"input": {}, "constant": {}, "output": {}}
        with _as_written(self.folder / SAMPLES):
            for name, array in load_arrays(self.folder / SAMPLES).items():
                kind, _, tensor = name.partition(".")
                parts[kind][tensor] = array
            data = Data(parts["input"], constants=parts["constant"])
            outputs = {t.name: parts["output"][t.name] for t in self.model.signature.visible_outputs}
            return match(data, self.model.signature)[0], outputs


@contextlib.contextmanager
def _as_written(file: Path) -> Iterator[None]:
    """Whatever goes wrong in here does so because `file` is not what strop wrote."""
    try:
        yield
    except BundleError:
        raise
    except Exception as error:  # of libraries too, which an altered file may lead anywhere
        said = str(error) if isinstance(error, StropError) else f"{type(error).__name__}: {error}"
        raise BundleError(f"{file} is not what strop wrote ({said}). Make the bundle again.") from error


def check_free(folder: Path) -> None:
    """Refuse a folder that a bundle can't be written to, before anything is spent.

    Raises:
        BundleError: It exists and holds something, or can't be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)  # first: `new/..` exists only once `new` does
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise BundleError(
                f"a bundle goes into a new folder, and {folder} exists already. Name another, or remove it first."
            )
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent):
            pass
    except OSError as error:
        raise BundleError(f"{folder} can't be made ({error.strerror}). Name a folder that can be written.") from error


def next_free(folder: Path) -> Path:
    """The folder, or where it exists, `folder-2`, `folder-3`, ..."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def write(
    folder: Path,
    source: Source,
    manifest: Mapping[str, Any],
    tried: Sequence[tuple[Candidate, Outcome]],
    anatomy: Mapping[str, Any],
) -> Bundle:
    """Write a bundle: all of it, or nothing.

    Args:
        folder: Where it goes.
        source: What goes into it.
        manifest: What it says of itself.
        tried: All candidates, for the report.
        anatomy: What was found layer by layer, likewise.

    Raises:
        BundleError: The folder exists, or can't be written (a full disk, no permission).
        RunFailed: The model no longer runs.
    """
    check_free(folder)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        model = source.model.copy_to(part)
        _write_samples(part, source, model)
        names = [str(file.relative_to(part)) for file in (*model.files, part / SAMPLES)]
        hashes = {**manifest["hashes"], "files": {name: digest_files([part / name]) for name in names}}
        whole = {**manifest, "hashes": hashes}
        (part / MANIFEST).write_text(json.dumps(finite(whole), indent=1) + "\n")
        if device := source.runtime.elsewhere(model, source.target):
            (part / DEVICE).write_text(device)
        told = [plain(candidate, outcome) for candidate, outcome in tried]
        for name, value in ((CANDIDATES, told), (ANATOMY, anatomy)):
            if value:
                (part / name).write_text(json.dumps(finite(value), separators=(",", ":")) + "\n")
        code = snippet(model, source.runtime, source.target, part / SAMPLES)
        (part / REPORT).write_text(report.page(whole, told, code, anatomy), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        part.chmod(0o755)
        part.replace(folder)
    except OSError as error:
        raise BundleError(
            f"the bundle {folder} can't be written ({error.strerror}). Make room or choose another folder, and resume "
            "the run: it is kept, and repeats nothing."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Bundle(folder, whole)


def _write_samples(part: Path, source: Source, model: Model) -> None:
    data = Data.load(source.samples)
    sample = sum(array.nbytes for array in data.take([0]).batch(0, 1).values())
    few = data.take(np.arange(min(KEPT, max(LEAST_KEPT, WEIGHT // max(1, sample)), len(data))))
    with tempfile.TemporaryDirectory(prefix=".part-", dir=part) as scratch:
        few.save(Path(scratch))
        hosted = Hosted(model, source.runtime, source.target)
        outputs = run_samples(hosted, Path(scratch), Path(scratch) / "outputs.npz")
    keep_samples(part / SAMPLES, few, outputs)


def keep_samples(file: Path, few: Data, outputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write samples with the outputs to expect of them."""
    inputs = few.batch(0, len(few))
    named = {f"{'constant' if name in few.constants else 'input'}.{name}": array for name, array in inputs.items()}
    np.savez(file, allow_pickle=False, **named, **{f"output.{name}": out for name, out in outputs.items()})


def run_samples(
    hosted: Hosted, data: Path, destination: Path, seconds: float = PATIENCE
) -> dict[str, np.ndarray[Any, Any]]:
    """Run stored samples in a fresh process.

    Raises:
        RunFailed: The model can't be loaded or run, or takes too long.
    """
    ended = jobs.run(_predict, hosted, data, destination, limits=jobs.Limits(seconds, 1 << 62))
    ended.raise_unless_done()
    return load_outputs(destination)


def _predict(hosted: Hosted, data: Path, destination: Path) -> None:
    with Server(hosted) as server:
        server.predict(data, destination)
