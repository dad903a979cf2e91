"""Training: the one loop, its losses and its teacher; techniques that train import it."""

from .loop import gradients, retrain, train_batches
from .rehearsal import rehearse
from .saving import saved
from .statistics import reestimate

__all__ = ["gradients", "reestimate", "rehearse", "retrain", "saved", "train_batches"]
