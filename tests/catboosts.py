"""CatBoost's models for tests: trained on a small table, and drawn at random."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from strop.forest import Forest
from strop.formats import _cityhash
from strop.formats.catboost import CatboostFormat

cb = pytest.importorskip("catboost")

Array = np.ndarray[Any, Any]
FORMAT = CatboostFormat()
RNG = np.random.default_rng
QUIET = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
_CATEGORIES = [2, 3]
_EXPORTED: dict[int, str] = {}


def table(rng: np.random.Generator, rows: int = 150) -> Array:
    """Two columns of numbers, one of them with zeros and NaN, and two of categories."""
    x = rng.normal(size=(rows, 4)).round(1)
    x[rng.random(rows) < 0.2, 1] = np.nan
    x[:, 2] = rng.integers(0, 45, rows)
    x[:, 3] = rng.integers(0, 4, rows)
    return x.astype(np.float32)


def rows_of(x: Array, categories: list[int]) -> Array:
    """What CatBoost takes: numbers as they are, and categories as whole numbers; it has not seen -1."""
    if not categories:
        return x
    found = np.empty(x.shape, object)
    found[:] = x
    codes = x[:, categories]
    with np.errstate(invalid="ignore"):
        found[:, categories] = np.where(np.abs(codes) < 2**31, codes, -1).astype(np.int64)
    return found


def trained(loss: str = "RMSE", seed: int = 0, categorical: bool = True, rounds: int = 5, **params: Any) -> Any:
    x = table(RNG(seed))
    y = np.nan_to_num(x[:, 0]) + (x[:, 2] % 7 < 3) + RNG(seed).normal(size=len(x)) / 2
    name, pool = loss.split(":")[0], {}
    if name.startswith("Multi") and name not in ("MultiClass", "MultiClassOneVsAll", "MultiQuantile"):
        y = np.column_stack([y, y * y, -y])
    if name in ("Logloss", "Focal", "MultiLogloss", "QuerySoftMax"):
        y = (y > 0.5).astype(int)
    elif name in ("MultiClass", "MultiClassOneVsAll"):
        y = np.digitize(y, [0, 1])
    elif name in ("CrossEntropy", "MultiCrossEntropy"):
        y = np.clip(y, 0, 1)
    elif name not in ("RMSE", "MultiRMSE", "Quantile", "MultiQuantile"):
        y = np.exp(y).clip(0, 4)
    if name.startswith(("Pair", "Query", "Yeti", "Stochastic", "Lambda", "Group")):
        pool["group_id"] = np.arange(len(x)) // 50
    if name == "SurvivalAft":
        y = np.column_stack([y, y + 1])
    categories = _CATEGORIES if categorical else []
    settings = {"max_ctr_complexity": 1} if categorical else {}
    model = cb.CatBoost({**QUIET, "loss_function": loss, "iterations": rounds, "depth": 3, **settings, **params})
    return model.fit(cb.Pool(rows_of(x, categories), y, cat_features=categories, **pool))


def edges(rng: np.random.Generator, forest: Forest, rows: int = 300) -> Array:
    """Borders and their neighbours, categories known and unknown, and all that is odd."""
    at = np.append(forest.threshold[forest.feature >= 0], 0.0).astype(np.float32)
    with np.errstate(over="ignore"):
        near = [at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))]
    odd = [np.nan, np.inf, -np.inf, -0.0, 1e-45, -1e-45, 3e38, -1.0, -1.5, -0.5, 2.7, 2.0**24 - 1, 2.0**31, 1e30]
    return rng.choice(np.concatenate([*near, np.array(odd, np.float32), np.arange(60, dtype=np.float32)]),
                      (rows, forest.features))  # fmt: skip


def agrees(model: Any, forest: Forest, x: Array) -> None:
    """Sums bit for bit, but for scale and bias, which CatBoost applies at the end."""
    rows = rows_of(x, model.get_cat_feature_indices())
    raw = model.predict(rows, "RawFormulaVal", thread_count=1).reshape(len(x), -1)
    close = 0 if model.get_scale_and_bias()[0] == 1 and not forest.base.any() else 1e-14 * max(1, np.abs(raw).max())
    np.testing.assert_allclose(forest.scores(x), raw, rtol=0, atol=close, strict=True)
    single = model.predict(rows[0], "RawFormulaVal", thread_count=1)
    np.testing.assert_array_equal(np.ravel(single), raw[0])
    kind = {"identity": "RawFormulaVal", "exponential": "Exponent"}.get(forest.link, "Probability")
    own = model.predict(rows, kind, thread_count=1)
    np.testing.assert_allclose(forest.predict(x), own, rtol=1e-12, atol=1e-14, strict=True)


def drawn(rng: np.random.Generator, leaves: int, outputs: int, *, deep: bool) -> dict[str, Any]:
    """A model as JSON, of trees drawn at random: of any shape, or (no leaves given) symmetric."""
    model = exported(outputs)
    numbers = model["features_info"]["float_features"]
    odd = np.array([0, -0.0, 1e-45, -1e-45, 1e-35, 3e38, -3e38, 1, 2, 0.1, *rng.normal(size=6)], np.float32)
    for one in numbers:
        one["borders"] = sorted(set(map(float, rng.choice(odd, rng.integers(1, 9)))))
        one["has_nans"] = bool(rng.random() < 0.7)
        one["nan_value_treatment"] = str(rng.choice(["AsIs", "AsFalse", "AsTrue"]))
    splits = sum(len(one["borders"]) for one in numbers) + 3
    model["features_info"]["categorical_features"][0]["values"] = _cityhash.hashes(
        rng.choice(10, 3, replace=False)
    ).tolist()

    def leaf() -> dict[str, Any]:
        value = (rng.integers(-999, 999, outputs) / 64).tolist()
        return {"value": value if outputs > 1 else value[0], "weight": int(rng.integers(5))}

    def tree() -> dict[str, Any]:
        top = leaf()
        ends = [top]
        for _ in range(leaves - 1):
            node = ends.pop(-1 if deep else rng.integers(len(ends)))
            node.clear()
            node.update(left=leaf(), right=leaf(), split={"split_index": int(rng.integers(splits))})
            ends += [node["left"], node["right"]]
        return top

    def symmetric() -> dict[str, Any]:
        depth = int(rng.integers(0, 5))
        return {
            "leaf_values": (rng.integers(-999, 999, outputs << depth) / 64).tolist(),
            "leaf_weights": [1] * (1 << depth),
            "splits": [{"split_index": int(at)} for at in rng.integers(0, splits, depth)],
        }  # fmt: skip

    del model["oblivious_trees"]
    model["trees" if leaves else "oblivious_trees"] = [tree() if leaves else symmetric() for _ in range(3)]
    return model


def exported(outputs: int = 1) -> dict[str, Any]:
    """The export of a model of three columns of numbers and one of categories, each with a split."""
    if outputs not in _EXPORTED:
        x = table(RNG(0))
        x[:, 3] = np.nan_to_num(x[:, 1])
        loss = "MultiClass" if outputs > 1 else "Logloss"
        model = cb.CatBoost({**QUIET, "loss_function": loss, "iterations": 2, "depth": 2, "one_hot_max_size": 99})
        y = np.digitize(x[:, 0], [0] if outputs == 1 else [-0.5, 0.5])
        model.fit(cb.Pool(rows_of(x, [2]), y, cat_features=[2]))
        with TemporaryDirectory() as folder:
            model.save_model(f"{folder}/model.json", format="json")
            _EXPORTED[outputs] = Path(folder, "model.json").read_text()
    return json.loads(_EXPORTED[outputs])


def loaded(path: Path) -> Any:
    model = cb.CatBoost()
    model.load_model(path, "json" if path.suffix == ".json" else "cbm")
    return model


def same(one: Forest, other: Forest) -> None:
    one, other = one.without_unused_nodes(), other.without_unused_nodes()
    for name in Forest.ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
