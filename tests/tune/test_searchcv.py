"""SearchCV beside scikit-learn's own searches: same answers, same attributes, same errors."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator

from strop.errors import InvalidPlan
from strop.tune import SearchCV

IRIS: tuple[Any, Any] = load_iris(return_X_y=True)
X, y = IRIS[0][::2], IRIS[1][::2]
GRID = {"C": [0.1, 1, 10], "gamma": [1, 0.1, 0.01], "kernel": ["rbf"]}
WIDE = {"max_depth": list(range(1, 20)), "min_samples_leaf": list(range(1, 12))}

TREE = DecisionTreeClassifier(random_state=0)


class Failing(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Fails, or scores NaN, as it is told."""

    def __init__(self, depth: int = 1, mode: str = "fit"):
        self.depth = depth
        self.mode = mode

    def fit(self, X: Any, y: Any) -> Failing:
        if self.depth % 2 and self.mode == "fit":
            raise ValueError("odd")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])

    def score(self, X: Any, y: Any) -> float:
        return np.nan if self.depth % 2 else float(self.depth)


def checks() -> Iterator[Any]:
    for search in (
        SearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2, trials=1, random_state=0),
        SearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
    ):
        for estimator, check in estimator_checks_generator(search, legacy=True):
            name = check.func.__name__
            warns_inside = name == "check_supervised_y_2d"  # scikit-learn exempts its own searches from it, too
            if "array_api" not in name and not warns_inside:
                yield pytest.param(estimator, check, id=f"{type(search.estimator).__name__}-{name}")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_example_runs_changing_only_the_import(capsys: pytest.CaptureFixture[str]) -> None:
    found = SearchCV(SVC(), GRID, refit=True, verbose=2).fit(*IRIS)
    said = capsys.readouterr().out
    known = GridSearchCV(SVC(), GRID, refit=True, verbose=2).fit(*IRIS)
    assert found.best_params_ == known.best_params_
    assert found.best_score_ == known.best_score_
    assert said.splitlines()[0] == capsys.readouterr().out.splitlines()[0]
    np.testing.assert_array_equal(found.predict(IRIS[0]), known.predict(IRIS[0]))


@pytest.mark.parametrize(
    ("estimator", "grid", "options"),
    [
        (SVC(), GRID, {"return_train_score": True}),
        (SVC(), [{"kernel": ["linear"], "C": [1, 2]}, {"kernel": ["rbf"], "gamma": [0.1, 1]}], {"cv": 3}),
        (make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 3], "standardscaler": [None, "passthrough"]}, {}),
        (TREE, {"max_depth": [1, 2, None]}, {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"}),
        (TREE, {"max_depth": np.arange(1, 4)}, {"scoring": {"a": "accuracy"}, "refit": False}),
        (TREE, {"max_depth": range(1, 4)}, {"refit": lambda results: 1, "cv": TimeSeriesSplit(3)}),
        (TREE, {}, {"scoring": "neg_log_loss", "n_jobs": 1}),
    ],
)
def test_a_grid_gives_what_GridSearchCV_gives(estimator: Any, grid: Any, options: dict[str, Any]) -> None:
    found = SearchCV(clone(estimator), grid, **options).fit(X, y)
    known = GridSearchCV(clone(estimator), grid, **options).fit(X, y)
    assert found.cv_results_.keys() == known.cv_results_.keys()
    for name, column in known.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_equal(np.ma.asarray(found.cv_results_[name]).tolist(), np.ma.asarray(column).tolist())
    for name in ("best_params_", "best_index_", "best_score_", "n_splits_", "multimetric_", "n_features_in_"):
        assert hasattr(found, name) == hasattr(known, name)
        assert getattr(found, name, None) == getattr(known, name, None)


def test_ties_are_broken_in_the_grids_order() -> None:
    grid = {"max_depth": [30, 20, 25], "random_state": [0]}
    assert SearchCV(TREE, grid).fit(X, y).best_params_["max_depth"] == 30


@pytest.mark.parametrize("sampler", [None, "gp", "tpe", "random", "nsga2"])
def test_a_larger_space_is_searched_within_the_trials(sampler: Any) -> None:
    found = SearchCV(TREE, WIDE, trials=15, sampler=sampler, random_state=0, cv=3).fit(X, y)
    tried = [tuple(params.values()) for params in found.cv_results_["params"]]
    assert len(tried) == len(set(tried)) == 15
    assert found.best_score_ == max(found.cv_results_["mean_test_score"])
    again = SearchCV(TREE, WIDE, trials=15, sampler=sampler, random_state=0, cv=3).fit(X, y)
    assert again.cv_results_["params"] == found.cv_results_["params"]


def test_folds_are_the_same_for_every_candidate() -> None:
    cv = ShuffleSplit(3, random_state=np.random.RandomState(0))
    grid = {"var_smoothing": scipy.stats.loguniform(1e-12, 1e-11)}  # which changes nothing
    scores = SearchCV(GaussianNB(), grid, trials=12, cv=cv, random_state=1).fit(X, y).cv_results_
    assert np.ptp(scores["mean_test_score"]) == 0


def test_a_score_that_is_lower_for_the_better_is_searched_by() -> None:
    data: Any = load_diabetes(return_X_y=True)
    grid = {"alpha": scipy.stats.loguniform(1e-4, 1e6)}
    found = SearchCV(Ridge(), grid, trials=25, scoring="neg_mean_squared_error", random_state=0).fit(*data)
    assert found.best_params_["alpha"] < 10, "of ten decades, the six that shrink everything are worse"
    assert found.best_score_ < 0


def test_fits_that_fail_get_their_score_and_are_not_chosen() -> None:
    space = {"depth": list(range(40))}
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
        found = SearchCV(Failing(), space, trials=15, random_state=0, cv=2).fit(X, y)
    assert found.best_params_["depth"] % 2 == 0
    with pytest.raises(ValueError, match="odd"):
        SearchCV(Failing(), space, trials=15, error_score="raise").fit(X, y)
    with pytest.warns(FitFailedWarning):
        given = SearchCV(Failing(), {"depth": [1, 2]}, error_score=-7.0, cv=2).fit(X, y)
    assert list(given.cv_results_["mean_test_score"]) == [-7.0, 2.0]
    with pytest.raises(ValueError, match="All the 4 fits failed"):
        SearchCV(Failing(), {"depth": [1, 3]}, cv=2).fit(X, y)


def test_scores_that_are_nan_rank_last() -> None:
    with pytest.warns(UserWarning, match="non-finite") as said:
        found = SearchCV(Failing(mode="score"), {"depth": range(60)}, trials=20, cv=2, random_state=0).fit(X, y)
    assert len(said) == 1, "once, and not with every batch"
    assert found.best_params_["depth"] % 2 == 0


def test_a_fold_that_lacks_a_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the metric, and of what is then not finite
        options: Any = {"cv": KFold(3), "scoring": "roc_auc_ovr"}
        found = SearchCV(LogisticRegression(), {"C": [0.1, 1]}, **options).fit(X, y)
        known = GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, **options).fit(X, y)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], known.cv_results_["mean_test_score"])


def test_groups_are_kept_together() -> None:
    groups = np.arange(len(y)) // 5
    found = SearchCV(TREE, WIDE, trials=6, cv=GroupKFold(3), random_state=0).fit(X, y, groups=groups)
    best = clone(TREE).set_params(**found.best_params_)
    assert found.best_score_ == pytest.approx(cross_val_score(best, X, y, groups=groups, cv=GroupKFold(3)).mean())
    with pytest.raises(ValueError, match="groups"):
        SearchCV(TREE, WIDE, trials=6, cv=GroupKFold(3)).fit(X, y)


def test_sample_weights_reach_fit_and_score() -> None:
    weights = np.where(y == 2, 0.0, 1.0)
    grid, cv = {"max_depth": [1, 2, 3]}, StratifiedKFold(3)
    found = SearchCV(TREE, grid, cv=cv).fit(X, y, sample_weight=weights)
    known = GridSearchCV(TREE, grid, cv=cv).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], known.cv_results_["mean_test_score"])
    assert 2 not in found.predict(X)


def test_sparse_input_text_labels_and_frames() -> None:
    pandas = pytest.importorskip("pandas")
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    found = SearchCV(LinearSVC(random_state=0), {"C": [0.1, 1]}, cv=3).fit(scipy.sparse.csr_array(X), names)
    assert set(found.predict(scipy.sparse.csr_array(X))) <= set(names)
    assert list(found.classes_) == sorted(set(names))
    frame = pandas.DataFrame({"kind": names, "length": X[:, 0]})
    steps = make_pipeline(make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough"), TREE)
    framed = SearchCV(steps, {"decisiontreeclassifier__max_depth": range(1, 5)}, cv=3).fit(frame, names)
    assert framed.best_score_ == 1.0
    assert list(framed.feature_names_in_) == ["kind", "length"]


def test_an_interrupt_keeps_what_is_done() -> None:
    fits = 0

    class Interrupted(KNeighborsClassifier):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            nonlocal fits
            fits += 1
            if fits == 25:
                raise KeyboardInterrupt
            return super().fit(X, y)

    space = {"n_neighbors": list(range(1, 25)), "p": [1, 2]}
    with pytest.warns(UserWarning, match="interrupted: the best of 12 points"):
        found = SearchCV(Interrupted(), space, cv=2, trials=20, random_state=0).fit(X, y)
    assert len(found.cv_results_["params"]) == 12
    assert found.predict(X).shape == y.shape


def test_it_is_pickled_cloned_and_nested() -> None:
    search = SearchCV(TREE, WIDE, trials=4, random_state=0, cv=2)
    assert clone(search).get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert len(cross_val_score(search, X, y, cv=2)) == 2
    found = pickle.loads(pickle.dumps(search.fit(X, y)))
    np.testing.assert_array_equal(found.predict(X), search.predict(X))
    assert search.score(X, y) == found.score(X, y)


def test_what_can_not_be_used_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="its list is empty"):
        SearchCV(SVC(), {"C": []}).fit(X, y)
    with pytest.raises(InvalidPlan, match="this list is empty"):
        SearchCV(SVC(), []).fit(X, y)
    with pytest.raises(ValueError, match="'sampler' parameter"):
        SearchCV(SVC(), GRID, sampler="best").fit(X, y)
    with pytest.raises(ValueError, match="'trials' parameter"):
        SearchCV(SVC(), GRID, trials=0).fit(X, y)
    with pytest.raises(ValueError, match="Invalid parameter"):
        SearchCV(SVC(), {"depth": [1]}).fit(X, y)
    with pytest.raises(ValueError, match="the parameter refit must be set"):
        SearchCV(SVC(), GRID, scoring=["accuracy", "f1_macro"]).fit(X, y)
    with pytest.raises(NotFittedError):
        SearchCV(SVC(), GRID).predict(X)
    with pytest.raises(AttributeError):
        _ = SearchCV(SVC(), GRID, refit=False).fit(X, y).predict
