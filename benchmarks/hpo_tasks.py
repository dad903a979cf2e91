"""Four data sets with an estimator and a grid of at least 500 points each: what `hpo.py` searches.

The grids are sized so that all of one takes a few minutes on two cores.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from census_forest import samples
from lightgbm import LGBMClassifier
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SECTIONS = ("python", "perl", "java", "games", "science", "net", "gnu-r", "text")


@dataclass(frozen=True)
class Task:
    """An estimator to be tuned.

    Attributes:
        name: As the table has it.
        estimator: Not fitted.
        grid: Values by parameter, as scikit-learn's `param_grid`.
        x: [n, ...].
        y: [n].
        scoring: A scorer's name.
    """

    name: str
    estimator: Any
    grid: Mapping[str, list[Any]]
    x: Any
    y: np.ndarray[Any, Any]
    scoring: str = "accuracy"


def tasks() -> dict[str, Task]:
    return {task.name: task for task in (digits(), breast_cancer(), census(), sections())}


def digits() -> Task:
    """1,797 handwritten digits of 8 x 8; 612 support vector machines."""
    grid = {
        "kernel": ["rbf", "poly"], "C": np.geomspace(1e-3, 1e3, 18).tolist(),
        "gamma": np.geomspace(1e-5, 1, 17).tolist(),
    }  # fmt: skip
    return Task("digits, SVC", SVC(), grid, *load_digits(return_X_y=True))


def breast_cancer() -> Task:
    """569 tumours, 30 measurements; 576 small networks."""
    grid = {
        "net__hidden_layer_sizes": [(8,), (32,), (64,), (32, 16)], "net__activation": ["relu", "tanh"],
        "net__alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], "net__batch_size": [32, 128],
        "net__learning_rate_init": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    }  # fmt: skip
    net = MLPClassifier(max_iter=50, random_state=0)
    return Task(
        "breast cancer, MLP",
        Pipeline([("scale", StandardScaler()), ("net", net)]),
        grid,
        *load_breast_cancer(return_X_y=True),
    )


def census() -> Task:
    """3,000 people of the KDD census; 576 ensembles of LightGBM, by AUROC."""
    whole = samples("train")
    chosen = np.random.default_rng(0).choice(len(whole["labels"]), 3000, replace=False)
    grid = {
        "n_estimators": [25, 50, 100, 200], "num_leaves": [4, 8, 16, 32], "learning_rate": [0.02, 0.05, 0.1, 0.2],
        "min_child_samples": [10, 20, 50], "colsample_bytree": [0.3, 0.6, 1.0],
    }  # fmt: skip
    model = LGBMClassifier(n_jobs=1, verbose=-1, random_state=0)
    return Task("KDD census, LightGBM", model, grid, whole["x"][chosen], whole["labels"][chosen], "roc_auc")


def sections() -> Task:
    """1,500 descriptions of Debian's packages, a line each, of 8 sections; 540 logistic regressions on their words."""
    shown = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    rows = sorted({
        (description[1], section[1])
        for block in shown.split("\n\n")
        if (section := re.search(r"^Section: (?:.*/)?(\S+)$", block, re.MULTILINE)) and section[1] in SECTIONS
        if (description := re.search(r"^Description(?:-en)?: (.+)$", block, re.MULTILINE))
    })  # fmt: skip
    chosen = np.random.default_rng(0).choice(len(rows), 1500, replace=False)
    grid = {
        "words__ngram_range": [(1, 1), (1, 2)], "words__min_df": [1, 2, 4], "words__sublinear_tf": [False, True],
        "words__norm": ["l2", "l1", None], "model__C": np.geomspace(1e-2, 1e3, 15).tolist(),
    }  # fmt: skip
    model = LogisticRegression(max_iter=100)
    texts, labels = np.array([rows[row] for row in chosen], object).T
    return Task(
        "package sections, TF-IDF and logistic regression",
        Pipeline([("words", TfidfVectorizer()), ("model", model)]),
        grid,
        texts,
        labels.astype(str),
    )
