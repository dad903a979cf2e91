"""Training: the one loop, its losses and its teacher; techniques that train import it."""

from .loop import gradients, retrain, train_batches
from .saving import saved
from .statistics import reestimate

__all__ = ["gradients", "reestimate", "retrain", "saved", "train_batches"]
