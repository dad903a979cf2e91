"""search: goals, races, honest figures, and going on after a kill; on real estimators."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.sparse
import scipy.stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, TimeSeriesSplit, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from strop import Budget, StropError
from strop.errors import InvalidData, InvalidGoal, InvalidPlan, RunFailed
from strop.events import Event, Said
from strop.tune import Tuned, search

DIGITS: tuple[Any, Any] = load_digits(return_X_y=True)
X, y = DIGITS[0][:500], DIGITS[1][:500] % 2
MORE, MORE_Y = DIGITS[0][:1000], DIGITS[1][:1000] % 2
TREE = DecisionTreeClassifier(random_state=0)
DEPTHS = {"max_depth": list(range(1, 13)), "min_samples_leaf": [1, 2, 5, 10, 20, 40]}


def tuned(model: Any = TREE, space: Any = None, data: Any = X, labels: Any = y, **options: Any) -> Tuned:
    options = {"threads": 1, "budget": Budget(600, 12), "holdout": 0, "cv": 3, **options}
    return search(model, DEPTHS if space is None else space, data, labels, **options)


def test_a_grid_is_searched_exhaustively_and_the_first_of_equals_wins() -> None:
    grid = {"max_depth": [12, 2, 11, 30, 4]}
    found = tuned(DecisionTreeClassifier(max_depth=1, random_state=0), grid, budget=Budget(600))
    known = GridSearchCV(TREE, grid, cv=3).fit(X, y)
    assert found.ended == "every point of the space was tried"
    assert found.params == known.best_params_
    assert [trial.params for trial in found.trials[1:]] == [{"max_depth": depth} for depth in grid["max_depth"]]
    done = [trial for trial in found.trials[1:] if trial.state == "done"]
    for trial in done:
        at = known.cv_results_["params"].index(trial.params)
        assert trial.means()["score"] == pytest.approx(known.cv_results_["mean_test_score"][at])
    assert found.estimator.get_params()["max_depth"] == found.params["max_depth"]


@pytest.fixture(scope="module")
def known() -> GridSearchCV:
    return GridSearchCV(TREE, DEPTHS, cv=3).fit(X, y)


def test_a_race_finds_what_the_grid_finds_with_a_fraction_of_the_fits(known: GridSearchCV) -> None:
    found = tuned(budget=Budget(600, 72), sampler="grid")
    fits = sum(len(trial.fits) for trial in found.trials)
    assert len(found.trials) == 73
    assert fits < 0.75 * 72 * 3
    assert found.params == known.best_params_
    assert {trial.state for trial in found.trials} == {"done", "dropped"}


def test_few_trials_come_near_the_best_of_a_grid(known: GridSearchCV) -> None:
    found = tuned(budget=Budget(600, 25))
    best = next(trial for trial in found.trials if trial.params == found.params)
    spread = known.cv_results_["std_test_score"][known.best_index_] / np.sqrt(3)
    assert best.means()["score"] >= known.best_score_ - spread
    assert 0.99 < sum(found.importance.values()) < 1.01


def test_a_limit_is_kept_and_judged_against_the_estimator_as_given() -> None:
    forest = RandomForestClassifier(40, random_state=0)
    space = {"n_estimators": [2, 5, 10, 20], "max_depth": [3, 6, None]}
    goal = "minimize size; accuracy >= 90% of original; latency.p50 < 1 s; fit_time < 60 s"
    found = tuned(forest, space, MORE, MORE_Y, goal=goal, holdout=0.2)
    size = found.figures["size"]
    assert size.candidate.value < 0.6 * size.original.value
    assert [judged.limit for judged in found.limits] == goal.split("; ")[1:]
    assert {judged.verdict for judged in found.limits[1:]} == {"met"}
    assert found.judged_on == "200 samples that no fold has seen; fit_time on the folds"
    again = found.estimator.predict(MORE[:5])
    assert again.shape == (5,)
    spoken = str(found)
    assert "size" in spoken
    assert json.dumps(found.to_json())


def test_the_score_of_a_pipeline_is_that_of_its_last_step_on_what_no_fold_has_seen() -> None:
    pipeline = make_pipeline(StandardScaler(), GaussianNB())
    found = tuned(pipeline, {"gaussiannb__var_smoothing": [1e-9, 1e-2]}, MORE, MORE_Y, holdout=0.2)
    assert found.judged_on == "200 samples that no fold has seen"
    _, held = _held_out(MORE, MORE_Y)
    assert found.estimate.value == pytest.approx(found.estimator.score(MORE[held], MORE_Y[held]), abs=1e-12)


def test_limits_that_nothing_keeps_are_infeasible_and_the_closest_is_told() -> None:
    found = tuned(goal="accuracy >= 0.999; maximize score", space={"max_depth": [1, 2]})
    assert found.verdict == "infeasible"
    assert found.limits[0].verdict == "broken"


@pytest.mark.parametrize("goal", ["minimize log_loss", "minimize mse"])
def test_lower_is_better(goal: str) -> None:
    if "mse" in goal:
        data: Any = load_diabetes(return_X_y=True)
        found = tuned(Ridge(alpha=1e5), {"alpha": scipy.stats.loguniform(1e-3, 1e6)}, *data, goal=goal)
        assert found.params["alpha"] < 100
        assert found.estimate.value > 0
    else:
        found = tuned(goal=goal, holdout=0.2, data=MORE, labels=MORE_Y)
        assert found.estimate.low <= found.estimate.value <= found.estimate.high
        _, held = _held_out(MORE, MORE_Y)
        assert found.estimate.value == pytest.approx(
            log_loss(MORE_Y[held], found.estimator.predict_proba(MORE[held])), rel=1e-9
        )


def _held_out(data: Any, labels: Any) -> Any:
    from strop.tune.holdout import split

    return split(data, labels, None, 3, 0.2, 0)


def test_the_original_comes_back_where_nothing_is_better() -> None:
    found = tuned(space={"max_depth": [1], "min_samples_leaf": [200, 240]})
    assert found.params == {}
    assert found.trials[0].state == "done"
    assert found.estimator.get_params() == TREE.get_params()


def test_equal_candidates_are_tied() -> None:
    found = tuned(GaussianNB(), {"var_smoothing": [1e-12, 1e-11, 1e-10]}, budget=Budget(600))
    assert len(found.ties) == 3, "and the estimator as given"
    apart = tuned(TREE, {"max_depth": [1, 8]}, MORE, MORE_Y, cv=5)
    assert {"max_depth": 1} not in apart.ties


def test_samples_that_are_held_out_are_in_no_fold() -> None:
    seen: list[set[float]] = []

    class Watching(GaussianNB):  # type: ignore[misc]
        def fit(self, data: Any, labels: Any) -> Any:
            seen.append(set(data[:, 0]))
            return super().fit(data, labels)

    rows = np.arange(1000.0)[:, None] + MORE[:, :1] * 0
    found = tuned(Watching(), {"var_smoothing": [1e-9, 1e-8]}, rows, MORE_Y, holdout=0.2)
    kept, held = _held_out(rows, MORE_Y)
    assert found.judged_on.startswith("200 samples")
    assert set.union(*seen) == set(map(float, kept))
    assert not set.union(*seen) & set(map(float, held))
    assert abs(MORE_Y[held].mean() - MORE_Y.mean()) < 0.01, "classes in proportion"


def test_groups_are_held_out_whole_and_series_at_their_end() -> None:
    from strop.tune.holdout import split

    groups = np.arange(1000) // 7
    kept, held = split(MORE, MORE_Y, groups, None, 0.2, 0)
    assert not set(groups[kept]) & set(groups[held])
    kept, held = split(MORE, MORE_Y, None, TimeSeriesSplit(3), 0.2, 0)
    assert kept.max() < held.min()
    assert len(split(X[:80], y[:80], None, None, 0.2, 0)[1]) == 0, "too few"
    assert len(split(MORE, MORE_Y, None, [(np.arange(500), np.arange(500, 1000))], 0.2, 0)[1]) == 0
    found = tuned(data=MORE, labels=MORE_Y, groups=groups, cv=GroupKFold(3), holdout=0.2, budget=Budget(600, 3))
    assert "no fold has seen" in found.judged_on
    assert tuned(data=MORE, labels=MORE_Y, cv=TimeSeriesSplit(3), budget=Budget(600, 3)).verdict == "met"


class Moody(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fails at odd depths, or scores NaN there."""

    def __init__(self, depth: int = 2, mode: str = "fit"):
        self.depth = depth
        self.mode = mode

    def fit(self, data: Any, labels: Any) -> Moody:
        if self.depth % 2 and self.mode == "fit":
            raise ValueError("odd depths are not for me")
        self.classes_ = np.unique(labels)
        return self

    def predict(self, data: Any) -> Any:
        return np.full(data.shape[0], self.classes_[0])

    def score(self, data: Any, labels: Any) -> float:
        return np.nan if self.depth % 2 else self.depth / 10


@pytest.mark.parametrize(("mode", "why"), [("fit", "ValueError: odd depths"), ("score", "its score is not a number")])
def test_what_fails_costs_that_candidate_only(mode: str, why: str) -> None:
    found = tuned(Moody(mode=mode), {"depth": [1, 2, 3, 4, 5]})
    assert found.params == {"depth": 4}
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert [trial.params["depth"] for trial in failed] == [1, 3, 5]
    assert all(why in trial.why for trial in failed)
    assert all(len(trial.fits) == 1 for trial in failed), "and no more than one fold of it"


def test_where_all_fail_the_cause_is_told() -> None:
    with pytest.raises(RunFailed, match="odd depths are not for me"):
        tuned(Moody(depth=3), {"depth": [1, 5]})


def test_where_the_best_can_not_be_fitted_on_all_samples_it_is_named() -> None:
    class Picky(Moody):
        def fit(self, data: Any, labels: Any) -> Any:
            if len(data) == len(X):
                raise MemoryError("too many")
            return super().fit(data, labels)

    with pytest.raises(RunFailed, match=r"depth=4 was the best on the folds, .* failed with MemoryError: too many"):
        tuned(Picky(mode="score"), {"depth": [2, 4]})


def test_a_fold_that_lacks_a_class_is_left_out() -> None:
    order = np.argsort(y, kind="stable")
    found = tuned(LogisticRegression(), {"C": [0.01, 0.1]}, X[order] / 16, y[order], goal="maximize auroc", cv=KFold(4))
    whole = [trial for trial in found.trials if trial.state == "done"]
    assert whole
    assert np.isnan(whole[0].folds("auroc")).any()
    assert np.isfinite(found.estimate.value)


def test_sparse_frames_text_labels_and_pipelines() -> None:
    pandas = pytest.importorskip("pandas")
    names = np.array(["even", "odd"])[MORE_Y]
    sparse = scipy.sparse.csr_array(MORE / 16)
    found = tuned(LinearSVC(random_state=0), {"C": [0.01, 1]}, sparse, names, goal="maximize f1", holdout=0.2)
    assert set(found.estimator.predict(sparse[:20])) <= {"even", "odd"}
    assert 0.5 < found.estimate.low < found.estimate.value <= 1
    frame = pandas.DataFrame(X, columns=[f"pixel{at}" for at in range(64)])
    steps = make_pipeline(StandardScaler(), KNeighborsClassifier())
    space = [{"standardscaler": ["passthrough"]}, {"kneighborsclassifier__n_neighbors": [1, 3]}]
    framed = tuned(steps, space, frame, pandas.Series(names[:500]))
    assert set(framed.estimator.predict(frame)) == {"even", "odd"}
    assert len(framed.trials) == 4


def test_polars_frames() -> None:
    polars = pytest.importorskip("polars", reason="comes with the extra dev")
    found = tuned(data=polars.DataFrame(X), labels=polars.Series(y), budget=Budget(600, 3))
    assert found.verdict == "met"


def test_sample_weights_go_with_their_samples() -> None:
    weights = np.where(y == 0, 1.0, 0.0)
    found = tuned(fit_params={"sample_weight": weights}, budget=Budget(600, 3))
    assert set(found.estimator.predict(X)) == {0}


def test_scorers_of_ones_own() -> None:
    scoring = {"hits": make_scorer(lambda true, said: float(np.sum(true == said))), "plain": "accuracy"}
    found = tuned(scoring=scoring, goal="maximize hits; plain >= 0.5", budget=Budget(600, 4))
    assert found.figures["hits"].candidate.value > 50
    assert found.limits[0].verdict == "met"


def test_rungs_of_samples_and_of_iterations() -> None:
    found = tuned(rungs="samples", budget=Budget(600, 20), sampler="random")
    low = [trial for trial in found.trials if "behind others" in trial.why]
    assert low
    assert all(len(trial.full) == 0 for trial in low)
    forest = RandomForestClassifier(18, random_state=0)
    found = tuned(
        forest, {"max_depth": list(range(1, 9))}, rungs="n_estimators", budget=Budget(600, 8), pruner="hyperband"
    )
    assert any(stage.share < 1 for trial in found.trials for stage in trial.fits)
    assert found.estimator.get_params()["n_estimators"] == 18


def test_a_search_ends_where_more_gains_nothing() -> None:
    space = {"var_smoothing": scipy.stats.loguniform(1e-12, 1e-11)}
    found = tuned(GaussianNB(), space, budget=Budget(600, 200))
    assert "gained less than the noise" in found.ended
    assert len(found.trials) < 110


def test_fits_run_side_by_side_and_take_what_is_defined_here() -> None:
    found = tuned(Moody(), {"depth": [1, 2, 3, 4]}, threads=2)
    assert found.params == {"depth": 4}
    assert [trial.state for trial in found.trials].count("failed") == 2
    beside = cross_val_score(GaussianNB(), X, y, n_jobs=2, error_score="raise")  # joblib's processes are its own
    assert len(beside) == 5


class Fatal(LogisticRegression):
    """Kills its process at one value."""

    def fit(self, X: Any, y: Any) -> Fatal:
        if self.C == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


def test_a_fit_that_kills_its_process_costs_that_candidate_only() -> None:
    found = tuned(Fatal(), {"C": [0.1, 2.0, 3.0]}, X / 16, threads=2)
    assert [trial.params["C"] for trial in found.trials if trial.state == "failed"] == [2.0]
    assert "of which 1 failed" in str(found)
    assert "its process died with SIGKILL" in next(trial.why for trial in found.trials if trial.state == "failed")
    assert len(found.trials) == 4


class Sleepy(GaussianNB):
    """Takes a minute for one value."""

    def fit(self, X: Any, y: Any) -> Sleepy:
        time.sleep(60 if self.var_smoothing == 1 else 0)
        return super().fit(X, y)


def test_what_still_runs_when_the_time_is_over_is_cut() -> None:
    begun = time.monotonic()
    found = tuned(Sleepy(), {"var_smoothing": [1e-9, 1]}, threads=2, budget=Budget(5))
    assert time.monotonic() - begun < 30
    assert found.ended == "the time was used up"
    assert {trial.state for trial in found.trials} == {"done", "dropped"}


def test_an_interrupt_keeps_what_is_done() -> None:
    ended = 0

    def listener(event: Event) -> None:
        nonlocal ended
        ended += isinstance(event, Said)
        if ended == 4:
            raise KeyboardInterrupt

    found = tuned(budget=Budget(600, 50), listener=listener)
    assert found.ended == "it was interrupted"
    assert 3 <= len(found.trials) <= 5
    assert found.estimator.predict(X).shape == y.shape


def test_an_interrupt_before_anything_is_judged_is_one() -> None:
    class Interrupted(DecisionTreeClassifier):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(Interrupted())


def test_why_a_metric_is_no_number_is_told() -> None:
    with pytest.raises(RunFailed, match=r"log_loss is not a number on any fold \(AttributeError.*'predict_proba'\)"):
        tuned(LinearSVC(), {"C": [1, 2]}, X / 16, goal="minimize log_loss")
    with pytest.raises(RunFailed, match=r"ValueError: Input X contains NaN"):  # and not the advice that follows it
        tuned(LinearSVC(), {"C": [1, 2]}, np.where(X == 16, np.nan, X))


SCRIPT = """
import os, signal, sys, time
from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier
from strop import Budget
from strop.tune import search

class Counted(DecisionTreeClassifier):
    def fit(self, X, y):
        with open("fits.txt", "a") as file:
            file.write(f"{self.max_depth} {self.min_samples_leaf} {X.sum()}\\n")
        if len(open("fits.txt").readlines()) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)

X, y = load_digits(return_X_y=True)
space = {"max_depth": list(range(1, 13)), "min_samples_leaf": [1, 2, 5, 10]}
how = {"threads": 1, "cv": 3, "holdout": 0, "budget": Budget(6000, 10)}
found = search(Counted(random_state=0), space, X[:300], y[:300], run="run", **how)
print(len(found.trials))
"""


def test_after_a_kill_it_goes_on_and_repeats_no_finished_fit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT]
    killed = subprocess.run([*command, "16"], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    went_on = subprocess.run([*command, "0"], cwd=tmp_path, capture_output=True, text=True)
    assert went_on.returncode == 0, went_on.stderr
    fits = (tmp_path / "fits.txt").read_text().splitlines()
    assert fits[15] in fits[16:], "the one that was killed is made again"
    finished = fits[:15] + fits[16:-1]  # the last is of the winner, on all samples
    assert len(finished) == len(set(finished))
    journal = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "run/journal.log"))
    )
    study = optuna.load_study(study_name="tune", storage=journal)
    assert len(study.trials) == int(went_on.stdout) == len({t.user_attrs["candidate"] for t in study.trials})
    assert study.best_value > 0.5
    with pytest.raises(RunFailed, match=r"the estimator, the space, the data, the folds changed"):
        tuned(run=tmp_path / "run", budget=Budget(600, 10))


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"space": {}, "data": None}, InvalidData, "X is None"),
        ({"space": {"max_depth": []}}, InvalidPlan, "its list is empty"),
        ({"space": {"depth": [1]}}, InvalidPlan, "does not know it"),
        ({"labels": y[:9]}, InvalidData, "must fit each other"),
        ({"goal": "maximize acuracy"}, InvalidGoal, "Did you mean accuracy"),
        ({"goal": "minimize accuracy"}, InvalidGoal, "asks for a worse model"),
        ({"goal": "latency.p50 < 10 MB"}, InvalidGoal, "Write it as in"),
        ({"goal": "worst_slice(accuracy) >= 0.9"}, InvalidGoal, "folds have no slices"),
        ({"threads": 0}, InvalidPlan, "threads must be"),
        ({"seed": -1}, InvalidPlan, "seed must be"),
        ({"holdout": 1.5}, InvalidPlan, "holdout must be"),
        ({"sampler": "best"}, InvalidPlan, "sampler must be one of"),
        ({"rungs": "max_depth"}, InvalidPlan, "counts iterations"),
        ({"pruner": "none"}, InvalidPlan, "pruner must be one of"),
        ({"budget": 3}, InvalidPlan, "strop.Budget"),
        ({"scoring": "good"}, InvalidPlan, "scoring must be"),
        ({"model": 3}, InvalidPlan, "neither an estimator"),
    ],
)
def test_what_can_not_be_used_is_refused(options: dict[str, Any], error: type[StropError], why: str) -> None:
    with pytest.raises(error, match=why):
        tuned(**options)
