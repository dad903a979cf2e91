"""Store: a run directory that holds every fit that was made, and Optuna's journal of the trials.

`fits.jsonl` gets a line as soon as a fit ends, and is what a search goes on from. The journal, which takes some
milliseconds an entry, gets a trial when it ends; optuna-dashboard reads it while the search runs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .._lazy import lazy
from .._plain import restore, told
from ..diary import Diary
from ..errors import RunFailed, StropError
from ..events import Listener
from ..rundir import DIARY, JOURNAL, PLAN, RunDir, finite, read_json, write_json
from .folds import Fit
from .space import Point

if TYPE_CHECKING:
    import optuna
    import optuna.storages.journal as optuna_journal
else:
    optuna = lazy("optuna")
    optuna_journal = lazy("optuna.storages.journal")

FITS, FOUND = "fits.jsonl", "found.json"
STUDY = "tune"
NAMES = {
    "estimator": "the estimator", "space": "the space", "goal": "the goal", "data": "the data", "folds": "the folds",
    "seed": "the seed", "sampler": "the sampler", "fidelity": "the fidelity",
}  # fmt: skip


def resumable(root: Path) -> Path:
    """The directory of a search to go on with.

    Raises:
        RunFailed: It holds none.
    """
    if not (root / PLAN).exists():
        raise RunFailed(f"{root} holds no run to go on with (no {PLAN}). Start one with strop tune --run DIR.")
    return root


def telling(run: str | Path | None, listener: Listener) -> contextlib.AbstractContextManager[Listener]:
    """Who is told of a search: the listener, and where a run is kept the diary in it, for as long as it is entered."""
    return contextlib.nullcontext(listener) if run is None else Diary(Path(run) / DIARY, listener)


def is_tuning(run: RunDir | Path) -> bool:
    """Whether a run is a search over parameters, and no other."""
    return "fidelity" in read_json(run / PLAN, dict)


def so_far(run: RunDir) -> tuple[str, list[dict[str, Any]]]:
    """Of a search that was killed: its goal, and of each candidate `trial`, `state`, `value`, `params` and `why`.

    Raises:
        RunFailed: It was altered.
    """
    goal = read_json(run / PLAN, lambda asked: str(asked["goal"]))
    if not (run / JOURNAL).exists():
        return goal, []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with readable(run / JOURNAL, "Remove it: all fits are kept beside it"):
        storage = optuna.storages.JournalStorage(optuna_journal.JournalFileBackend(str(run / JOURNAL)))
        studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
        trials = [trial for study in studies for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return goal, [
        {
            "trial": trial.number, "state": str(trial.user_attrs.get("state", trial.state.name.lower())),
            "value": trial.value, "why": str(trial.user_attrs.get("why", "")),
            "params": str(trial.user_attrs.get("params") or ", ".join(f"{k}={v}" for k, v in trial.params.items())),
        }
        for trial in trials
    ]  # fmt: skip


@contextlib.contextmanager
def readable(journal: Path, remedy: str) -> Iterator[None]:
    """While a journal is read: refuse one that is damaged.

    Raises:
        RunFailed: It is.
    """
    try:
        yield
    except (StropError, OSError):
        raise
    except Exception as error:  # of Optuna, which damage may lead anywhere
        raise RunFailed(
            f"{journal} is not what strop wrote ({type(error).__name__}: {told(error)}). {remedy}."
        ) from error


@dataclass
class Store:
    """The run directory of one search."""

    run: RunDir
    file: IO[str]

    @classmethod
    def open(cls, root: str | Path, asked: Mapping[str, str]) -> Store:
        """Begin a run, or go on with one that asked the same.

        Args:
            asked: What tells one search from another.

        Raises:
            RunFailed: It is another search's, or can't be used.
        """
        run = RunDir(Path(root))
        try:
            if (run / PLAN).exists():
                earlier = read_json(run / PLAN, dict)
                if changed := [NAMES[name] for name in asked if earlier.get(name) != asked[name]]:
                    raise RunFailed(
                        f"the run in {run.root} was begun with something else: {', '.join(changed)} changed. Go on "
                        "with what it was begun with, or name another directory."
                    )
            else:
                write_json(run / PLAN, dict(asked))
        except BaseException:
            run.close()
            raise
        return cls(run, (run / FITS).open("a", encoding="utf-8"))

    def fits(self) -> dict[str, dict[str, Fit]]:
        """By candidate and stage, those of earlier processes; a line that a kill tore, or worse, is left out."""
        found: dict[str, dict[str, Fit]] = {}
        for line in (self.run / FITS).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                values = {name: float("nan") if v is None else v for name, v in entry["fit"]["values"].items()}
                fit = restore(Fit, {**entry["fit"], "values": values})
                found.setdefault(entry["candidate"], {})[entry["stage"]] = fit
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return found

    def points(self) -> list[Point]:
        """What was tried in earlier processes, in that order."""
        return [json.loads(candidate) for candidate in self.fits() if candidate.startswith("{")]

    def add(self, candidate: str, stage: object, fit: Fit) -> None:
        """Keep a fit, also should this process be killed at once."""
        self.file.write(json.dumps({"candidate": candidate, "stage": str(stage), "fit": finite(fit.to_json())}) + "\n")
        self.file.flush()

    def study(self, direction: Any) -> optuna.Study:
        """The journal's, made when first asked for.

        Raises:
            RunFailed: It is damaged.
        """
        with readable(self.run / JOURNAL, "Remove it: all fits are kept beside it"):
            backend = optuna_journal.JournalFileBackend(str(self.run / JOURNAL))
            storage = optuna.storages.JournalStorage(backend)
            return optuna.create_study(study_name=STUDY, storage=storage, direction=direction, load_if_exists=True)

    def close(self) -> None:
        self.file.close()
        self.run.close()
