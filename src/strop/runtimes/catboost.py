"""CatBoost itself, by the fastest call that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import RunFailed
from ..formats.catboost import is_json, prediction_type, with_categories
from ..model import CATBOOST, Batch, Format, Model
from ..runtime import Runtime
from ..target import Target

if TYPE_CHECKING:
    import catboost
else:
    catboost = lazy("catboost", "trees")


@dataclass(frozen=True)
class Catboost(Runtime):
    """CatBoost, by `predict`: of numbers, a row as one of its arrays, and many rows column by column.

    With categories, it takes rows of Python's numbers, as its caller must have them; to make these is not timed.
    """

    loads: ClassVar[frozenset[Format]] = frozenset({CATBOOST})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "catboost"
    extra: ClassVar[str | None] = "trees"

    def load(self, model: Model, target: Target) -> _Runner:
        booster = catboost.CatBoost()
        try:
            booster.load_model(str(model.path), "json" if is_json(model.path) else "cbm")
        except catboost.CatBoostError as error:
            raise RunFailed(f"CatBoost can't load {model.path.name}: {str(error).splitlines()[0]}") from error
        return _Runner(booster, model, target.threads)


class _Runner:
    def __init__(self, booster: Any, model: Model, threads: int):
        self.booster, self.threads, self.kind = booster, threads, prediction_type(dict(booster.get_metadata()))
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        self.rows, self.result = rows.name, result.name
        self.width = tuple(size for size in result.shape[1:] if isinstance(size, int))
        self.categories = booster.get_cat_feature_indices()

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            found = np.asarray(self.bind(batch)())
        except catboost.CatBoostError as error:
            raise RunFailed(f"CatBoost: {str(error).splitlines()[0]}") from error
        return {self.result: found.reshape(len(batch[self.rows]), *self.width)}

    def bind(self, batch: Batch) -> Callable[[], object]:
        predict, kind, threads, x = self.booster.predict, self.kind, self.threads, batch[self.rows]
        if self.categories:
            x = with_categories(x, self.categories)
        elif len(x) > 1:
            return lambda: predict(np.asfortranarray(x), kind, thread_count=threads)
        given = x[0] if len(x) == 1 else x
        return lambda: predict(given, kind, thread_count=threads)

    def close(self) -> None:
        del self.booster
