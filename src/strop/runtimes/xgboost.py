"""XGBoost itself, by the fastest call that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy, require
from .._quiet import without
from ..errors import RunFailed
from ..model import XGBOOST, Batch, Format, Model
from ..runtime import Code, Runtime
from ..target import Target

if TYPE_CHECKING:
    import xgboost
else:
    xgboost = lazy("xgboost", "trees")


@dataclass(frozen=True)
class Xgboost(Runtime):
    """XGBoost, by `inplace_predict`, which takes an array as it is: of categories, their codes; to look these up in a
    frame is not timed."""

    loads: ClassVar[frozenset[Format]] = frozenset({XGBOOST})
    apart: ClassVar[frozenset[Format]] = loads
    module: ClassVar[str] = "xgboost"
    extra: ClassVar[str | None] = "trees"

    def code(self, model: Model, target: Target) -> Code:
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        load = f"""\
import xgboost

booster = xgboost.Booster({{"nthread": {target.threads}}}, model_file=file)"""
        call = f"outputs = {{{result.name!r}: booster.inplace_predict(inputs[{rows.name!r}], validate_features=False)}}"
        return Code(load, call, ("xgboost",), ("libgomp1",))

    def start(self) -> None:
        with without("pandas", "pyarrow", "sklearn"):  # it is given arrays
            require(self.module, self.extra)

    def load(self, model: Model, target: Target) -> _Runner:
        try:
            booster = xgboost.Booster({"nthread": target.threads}, model_file=str(model.path))
            booster.set_param({"nthread": target.threads})
        except xgboost.core.XGBoostError as error:
            raise RunFailed(f"XGBoost can't load {model.path.name}: {str(error).splitlines()[0]}") from error
        return _Runner(booster, model)


class _Runner:
    def __init__(self, booster: Any, model: Model):
        self.booster = booster
        (rows,), (result,) = model.signature.inputs, model.signature.outputs
        self.rows, self.result, self.width = rows.name, result.name, result.shape[1:]

    def __call__(self, batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        try:
            found = np.asarray(self.bind(batch)())
        except xgboost.core.XGBoostError as error:
            raise RunFailed(f"XGBoost: {str(error).splitlines()[0]}") from error
        return {self.result: found.reshape(len(found), *(size for size in self.width if isinstance(size, int)))}

    def bind(self, batch: Batch) -> Callable[[], object]:
        booster, x = self.booster, batch[self.rows]
        return lambda: booster.inplace_predict(x, validate_features=False)

    def close(self) -> None:
        del self.booster
