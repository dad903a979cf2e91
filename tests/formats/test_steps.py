"""What steps of a scikit-learn pipeline are made of: counted by hand for each family, untold where it can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import (
    compose,
    decomposition,
    ensemble,
    feature_selection,
    impute,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    svm,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from estimators import FORMAT, digits, frame, stored
from strop.formats._steps import operations
from strop.structure import Structure

X, Y = digits()
COLUMNS, CLASSES, ROWS = X.shape[1], len(set(Y)), len(X)
FEW = X[:, :20] + np.random.default_rng(0).normal(size=(ROWS, 20))


def structure(estimator: Any, folder: Path) -> Structure:
    return FORMAT.structure(stored(estimator, folder))


@pytest.mark.parametrize(
    ("estimator", "count"),
    [
        (linear_model.LogisticRegression(max_iter=5), COLUMNS * CLASSES),
        (linear_model.Ridge(), COLUMNS),
        (naive_bayes.GaussianNB(), 2 * COLUMNS * CLASSES),
        (naive_bayes.MultinomialNB(), COLUMNS * CLASSES),
        (neighbors.KNeighborsClassifier(algorithm="brute"), ROWS * COLUMNS),
        (neighbors.KNeighborsClassifier(algorithm="kd_tree"), None),
        (neural_network.MLPClassifier((16,), max_iter=1), COLUMNS * 16 + 16 * CLASSES),
        (kernel_ridge.KernelRidge(), ROWS * COLUMNS + ROWS),
        (StandardScaler(), COLUMNS),
        (decomposition.PCA(8), 8 * COLUMNS),
        (decomposition.NMF(4, max_iter=2), None),
        (kernel_approximation.RBFSampler(n_components=30), 30 * COLUMNS),
        (kernel_approximation.Nystroem(n_components=30), 30 * COLUMNS + 30 * 30),
        (feature_selection.VarianceThreshold(), 0),
        (make_pipeline(StandardScaler(), decomposition.PCA(8)), COLUMNS + 8 * COLUMNS),
        (compose.ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", "passthrough", [2])]), 2),
        (compose.ColumnTransformer([("a", StandardScaler(), [0]), ("b", impute.SimpleImputer(), [2])]), None),
        (impute.SimpleImputer(), None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else None,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_multiply_adds_are_those_of_its_family(estimator: Any, count: int | None) -> None:
    assert operations(estimator.fit(X, Y)) == count


def test_a_kernel_machine_goes_through_its_vectors_though_its_kernel_be_linear() -> None:
    for kernel in ("rbf", "linear"):
        fitted = svm.SVC(kernel=kernel).fit(X, Y)
        assert operations(fitted) == len(fitted.support_vectors_) * (COLUMNS + CLASSES - 1)


def test_each_step_is_a_layer_with_its_own_arrays_and_the_values_between(tmp_path: Path) -> None:
    inner = Pipeline([("scale", StandardScaler()), ("skip", "passthrough"), ("turn", decomposition.PCA(8))])
    made = Pipeline([("prepare", inner), ("decide", svm.SVC())]).fit(FEW, Y)
    found = structure(made, tmp_path)
    assert [layer.name for layer in found.layers] == ["prepare__scale", "prepare__turn", "decide"]
    assert [layer.operator for layer in found.layers] == ["StandardScaler", "PCA", "SVC"] == found.facts["steps"]
    scale, turn, decide = found.layers
    assert scale.parameters == 3 * 20, "means, variances and scales"
    assert scale.bytes == 3 * 20 * 8
    assert decide.bytes > decide.weights >= made[-1].support_vectors_.nbytes
    assert sum(layer.parameters for layer in found.layers) == stored(made, tmp_path / "again").counts["parameters"]
    assert scale.reads == ("x",) and turn.reads == scale.writes and decide.reads == turn.writes
    sizes = [found.values[value] for layer in found.layers for value in (*layer.reads, *layer.writes)]
    assert sizes == [8 * size for size in (20, 20, 20, 8, 8, CLASSES)]


def test_a_single_estimator_is_one_layer(tmp_path: Path) -> None:
    (layer,) = structure(linear_model.RidgeClassifier().fit(X, Y), tmp_path).layers
    assert layer.name == layer.operator == "RidgeClassifier"
    assert layer.parameters == CLASSES * (COLUMNS + 1)


def test_trees_behind_other_steps_are_counted_as_trees(tmp_path: Path) -> None:
    columns, labels = frame()
    used = columns[["size", "count"]]
    forest = ensemble.RandomForestClassifier(5, random_state=0)
    made = make_pipeline(impute.SimpleImputer(), forest).fit(used.to_numpy(float), labels)
    first, trees = structure(made, tmp_path).layers
    assert first.operations is None, "which only fills in"
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    assert trees.waits and trees.operator == "RandomForestClassifier" and trees.parameters >= nodes
    assert 0 < (trees.operations or 0) < nodes


def test_of_rows_that_may_be_sparse_no_size_is_told(tmp_path: Path) -> None:
    columns, labels = frame()
    coded = compose.ColumnTransformer([("code", OneHotEncoder(handle_unknown="ignore"), ["city"])])
    found = structure(make_pipeline(coded, linear_model.LogisticRegression()).fit(columns, labels), tmp_path)
    assert found.layers[0].writes[0] not in found.values
