"""Journal: what a search has finished, as Optuna's studies have it; a later session takes it up from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ._lazy import lazy
from .plan import Candidate
from .trial import Outcome

if TYPE_CHECKING:
    import optuna
    import optuna.storages.journal as optuna_journal
else:
    optuna = lazy("optuna")
    optuna_journal = lazy("optuna.storages.journal")


def finished(journal: Path) -> list[tuple[Candidate, Outcome]]:
    """What a search has finished, in order, as its journal has it; nothing is written.

    Raises:
        Exception: Of Optuna or json, where the journal is not what strop wrote.
    """
    if not journal.exists():  # a recipe needs none
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna_journal.JournalFileBackend(str(journal)))
    return [restored(trial) for _, trial in told(storage)]


def told(storage: optuna.storages.BaseStorage) -> list[tuple[str, optuna.trial.FrozenTrial]]:
    """Every trial that came to an outcome, with the route that it is of, in the order in which they were tried."""
    names = [summary.study_name for summary in storage.get_all_studies()]
    trials = [(name, t) for name in names for t in storage.get_all_trials(storage.get_study_id_from_name(name), False)]
    ended = [(name, trial) for name, trial in trials if "outcome" in trial.user_attrs]
    return sorted(ended, key=lambda entry: str(entry[1].datetime_start))


def restored(trial: optuna.trial.FrozenTrial) -> tuple[Candidate, Outcome]:
    """The candidate of a trial, and what came of it."""
    attrs = trial.user_attrs
    return Candidate.of(json.loads(attrs["candidate"])), Outcome.of(json.loads(attrs["outcome"]))
