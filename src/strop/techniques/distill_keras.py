"""A smaller Keras model in place of the original, and taught by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import NotApplicable, TechniqueError
from ..formats.keras import worn
from ..model import KERAS, Format, Model
from ..target import Target
from ..technique import Context, Needs, Phase, Technique
from ..training import keras


@dataclass(frozen=True)
class DistillKeras(Technique):
    """Teach a Keras model that the user hands over (`student` of the training settings) what the original answers.

    Hinton et al. 2015. Its inputs and outputs get the original's names.
    """

    accepts: ClassVar[frozenset[Format]] = frozenset({KERAS})
    phase: ClassVar[Phase] = Phase.SHRINK
    needs: ClassVar[Needs] = Needs.TRAINING | Needs.STUDENT

    def expects(self, target: Target) -> float:
        return 0.3

    def requires(self, model: Model, target: Target) -> None:
        if model.history:
            raise NotApplicable("a student takes the place of the original, not of what was made of it")

    def apply(self, model: Model, context: Context) -> Model:
        if context.student is None:
            raise TechniqueError("there is no student")
        student = worn(keras.begin(context.student, context), keras.begin(model, context))
        return keras.saved(keras.retrain(student, context), context)
