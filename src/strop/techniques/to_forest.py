"""Trees of any library to strop's own form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import formats
from ..errors import NotApplicable, UnsupportedModel
from ..formats.forest import save
from ..formats.trees import TreeFormat
from ..model import CATBOOST, FOREST, LIGHTGBM, ONNX_TREES, SKLEARN, XGBOOST, Format, Model
from ..target import Target
from ..technique import Context, Phase, Technique


@dataclass(frozen=True)
class ToForest(Technique):
    """Read the trees into one form that all that is done to forests works on."""

    accepts: ClassVar[frozenset[Format]] = frozenset({LIGHTGBM, XGBOOST, CATBOOST, SKLEARN, ONNX_TREES})
    returns: ClassVar[Format | None] = FOREST
    phase: ClassVar[Phase] = Phase.CONVERT
    lossless: ClassVar[bool] = True

    def requires(self, model: Model, target: Target) -> None:
        if "trees" not in model.counts:
            raise NotApplicable("it is no ensemble of trees")

    def apply(self, model: Model, context: Context) -> Model:
        room = formats.format_of(model.format)
        if not isinstance(room, TreeFormat):
            raise NotApplicable(f"models in {model.format} are not read into trees")
        try:
            return save(room.forest(model), context.folder)
        except UnsupportedModel as error:
            raise NotApplicable(str(error)) from error
