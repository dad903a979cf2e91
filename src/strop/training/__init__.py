"""Training: the one loop for modules, its losses and its teacher; trees are trained by their own libraries."""

from . import keras
from .alone import answer, built, digest, factory_of, look, spelled, weight_bytes
from .loop import gradients, retrain, train, train_batches
from .losses import Objective
from .opening import check_closes, opened
from .rehearsal import first_step, rehearse
from .saving import saved
from .statistics import reestimate

__all__ = [
    "Objective",
    "answer",
    "built",
    "check_closes",
    "digest",
    "factory_of",
    "first_step",
    "gradients",
    "keras",
    "look",
    "opened",
    "reestimate",
    "rehearse",
    "retrain",
    "saved",
    "spelled",
    "train",
    "train_batches",
    "weight_bytes",
]
