"""Bundle: the folder that is handed over. Model, manifest, report, and samples with the outputs to expect."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import jobs, report
from ._plain import restore
from .crew import run_here
from .data import Data
from .dataflow import Group
from .deploy import snippet
from .errors import BundleError
from .model import Model, digest_files
from .notebook import Figures, figures, frame, rows_of, shown
from .opened import ANATOMY, CANDIDATES, DEVICE, MANIFEST, REPORT, SAMPLES, Opened, as_written
from .outputs import load_outputs
from .plan import Candidate
from .report import frontier
from .report.why import EXPLAINED
from .rundir import finite
from .runtime import Runtime
from .server import Hosted
from .target import Target
from .trial import Outcome, plain

if TYPE_CHECKING:
    from .estimator import BundleEstimator

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
class Bundle(Opened):
    """A folder that strop handed over.

    Attributes:
        folder: Where it lies.
        manifest: What it says of itself.
    """

    def __repr__(self) -> str:
        return f"Bundle({str(self.folder)!r}, {self.manifest.get('verdict')!r})"

    def estimator(self) -> BundleEstimator:
        """The bundle as an estimator of scikit-learn's: `predict`, and of a classifier `predict_proba` and `classes_`.

        It is trained: `fit` changes nothing, a clone answers as it does, and a pickle holds the folder's path only.

        Raises:
            BundleError: It gives more than one answer a sample.
        """
        from .estimator import estimator

        return estimator(self)

    def to_mlflow(self, *files: Path) -> str:
        """Log the search that this came from, and its model where it won, to where MLflow's environment variables say.

        A run for the search has what was asked for, the figures and this bundle's files; one nested in it for each
        candidate, its route, settings, figures with their spread, and verdict. The model is one of MLflow's pyfunc,
        and holds the whole bundle, samples included.

        Args:
            files: What else belongs to the run.

        Returns:
            The id of the run.

        Raises:
            MissingDependency: MLflow is not installed.
            RunFailed: MLflow did not take it.
        """
        from .tracking import log

        return log(self, *files)

    def to_frame(self) -> Any:
        """All candidates of the search that this came from, as `Result.to_frame` has them; none, of an earlier strop's.

        Raises:
            BundleError: `candidates.json` is not what strop wrote.
        """
        with as_written(self.folder / CANDIDATES):
            told = rows_of(self._told(CANDIDATES, []))
        return frame(*told)

    def plot(self) -> Figures:
        """The frontier of these candidates, as the report draws it, for a notebook to show.

        Raises:
            MissingDependency: Plotly is not installed.
            InvalidData: No candidate was measured.
            BundleError: `candidates.json` is not what strop wrote.
        """
        with as_written(self.folder / CANDIDATES):
            drawn = frontier(self._told(CANDIDATES, []), self.manifest)
        return figures(f"strop: {self.manifest['original']['source']}", drawn)

    def report(self, explained: Mapping[str, Any] | None = None) -> str:
        """The page of `report.html`, made anew.

        Args:
            explained: What `strop.explain` found between the original and this.

        Raises:
            BundleError: The bundle is not what strop wrote.
        """
        with as_written(self.folder):
            tried = self._told(CANDIDATES, [])
            anatomy = self._told(ANATOMY, {})
            if explained is not None:
                left = [said for said in anatomy.get("why_not", []) if not said.startswith(EXPLAINED)]
                anatomy = {**anatomy, "explained": explained, "why_not": left}
            code = snippet(self.model, self.runtime, self.target, self.folder / SAMPLES)
            return report.page(self.manifest, tried, code, anatomy)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Of a mix of precisions: its groups of operators, and why each has its own; of others, none, nor where an
        older strop told less of them.

        Raises:
            BundleError: The bundle is not what strop wrote.
        """
        with as_written(self.folder / ANATOMY):
            mix = self._told(ANATOMY, {}).get("mix", ())
        try:
            return restore(tuple[Group, ...], mix)
        except ValueError:
            return ()

    def _told(self, name: str, otherwise: Any) -> Any:
        """What a file holds, which bundles of an earlier strop lack."""
        file = self.folder / name
        return json.loads(file.read_text()) if file.is_file() else otherwise

    def _repr_html_(self) -> str:
        return shown(self.manifest, str(self.folder))


def check_free(folder: Path) -> None:
    """Refuse a folder that a bundle can't be written to, before anything is spent.

    Raises:
        BundleError: It exists and holds something, or can't be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)  # first: `new/..` exists only once `new` does
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            free = f", such as {next_free(folder)}" if folder.name.strip(".") else ""
            raise BundleError(
                f"a bundle goes into a new folder, and {folder} exists already. Name another{free}, or remove it first."
            )
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent):
            pass
    except OSError as error:
        raise BundleError(f"{folder} can't be made ({error.strerror}). Name a folder that can be written.") from error


def next_free(folder: Path) -> Path:
    """The folder, or where it exists, `folder-2`, `folder-3`, ..."""
    number, free = 1, folder
    while free.exists() or free.is_symlink():
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
            f"the bundle {folder} can't be written ({error.strerror}). Make room, or name another folder."
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
    ended = jobs.run(run_here, hosted, [(data, destination)], limits=jobs.Limits(seconds, 1 << 62))
    ended.raise_unless_done()
    return load_outputs(destination)
