"""Training: the one loop for modules, its losses and its teacher; trees are trained by their own libraries."""

from .loop import gradients, retrain, train_batches
from .rehearsal import rehearse
from .saving import saved
from .statistics import reestimate

__all__ = ["gradients", "reestimate", "rehearse", "retrain", "saved", "train_batches"]
