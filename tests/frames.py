"""Frames with columns of categories, and models that were trained on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import xgboost as xgb

ROWS = 600
KINDS = {"town": ["Ulm", "Bonn", "NA", "007", "Köln"], "size": [30, 10, 20], "new": [True, False]}
ASCII = {"town": ["Ulm", "Bonn", "NA", "007", "Trier"], "size": KINDS["size"]}
"""What XGBoost takes: no booleans, and names of ASCII only."""


def frame(kinds: dict[str, list[Any]], seed: int = 0, gaps: float = 0.1) -> pd.DataFrame:
    """Categories drawn at random, some missing, in the order that `kinds` has them in; and two columns of numbers."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"weight": np.where(rng.random(ROWS) < gaps, np.nan, rng.normal(size=ROWS))}
    for name, values in kinds.items():
        drawn = rng.integers(0, len(values), ROWS)
        columns[name] = pd.Categorical.from_codes(np.where(rng.random(ROWS) < gaps, -1, drawn), values)
    return pd.DataFrame({**columns, "age": rng.integers(18, 90, ROWS)})


def target(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    codes = sum((place + 1) * table[name].cat.codes for place, name in enumerate(["town", "size"]))
    return np.asarray((codes % 3 == 0) ^ (table["age"] > 50), int)


def lightgbm_of(table: pd.DataFrame, **settings: Any) -> lgb.Booster:
    given = {"objective": "binary", "verbosity": -1, "min_data_per_group": 5, "cat_smooth": 1.0, "num_threads": 1}
    return lgb.train({**given, **settings}, lgb.Dataset(table, target(table)), 8)


def xgboost_of(table: pd.DataFrame, **settings: Any) -> xgb.Booster:
    given = {"objective": "binary:logistic", "max_depth": 4, "max_cat_to_onehot": 2, "nthread": 1}
    return xgb.train({**given, **settings}, xgb.DMatrix(table, target(table), enable_categorical=True), 8)


def lightgbms(folder: Path) -> tuple[Path, pd.DataFrame, Callable[[pd.DataFrame], Any]]:
    """A model's file, what it was trained on, and its library's own call on a frame."""
    table, path = frame(KINDS), folder / "model.txt"
    booster = lightgbm_of(table)
    booster.save_model(path)
    return path, table, booster.predict


def xgboosts(folder: Path) -> tuple[Path, pd.DataFrame, Callable[[pd.DataFrame], Any]]:
    table, path = frame(ASCII), folder / "model.ubj"
    booster = xgboost_of(table)
    booster.save_model(path)
    return path, table, booster.inplace_predict
