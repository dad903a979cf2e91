"""A LightGBM model of the KDD census, 500 trees of 63 leaves: the original of `forests.py`.

    python benchmarks/census_forest.py           # fetches the data and trains the original, in a minute or two

The data are those of `examples/fraud`: 199,523 rows to train on and 99,762 held out, 40 columns. Categories are split
by thresholds over their numbers, for not every peer takes categories.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from models._fetch import CACHE

sys.path.append(str(Path(__file__).parent.parent / "examples" / "fraud"))
from census import matrix, tables

FOLDER = CACHE / "census"
TREES, LEAVES, RATE = 500, 63, 0.05


def samples(kind: str) -> dict[str, np.ndarray]:
    """`train` or `test`: x [rows, 40] float64, labels [rows] int64."""
    x, labels = matrix(tables(FOLDER)[("train", "test").index(kind)])
    return {"x": x, "labels": labels}


def original() -> Path:
    """The trained model."""
    file = FOLDER / "model.txt"
    if not file.exists():
        import lightgbm

        train = samples("train")
        settings = {
            "objective": "binary", "num_leaves": LEAVES, "learning_rate": RATE, "seed": 0, "deterministic": True,
            "num_threads": 1, "verbose": -1,
        }  # fmt: skip
        lightgbm.train(settings, lightgbm.Dataset(train["x"], train["labels"]), TREES).save_model(file)
    return file


if __name__ == "__main__":
    import lightgbm
    from sklearn.metrics import roc_auc_score

    test = samples("test")
    print(
        original(),
        f"AUROC {roc_auc_score(test['labels'], lightgbm.Booster(model_file=original()).predict(test['x'])):.5f}",
    )
