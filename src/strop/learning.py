"""Learning: how techniques that train are to do it; configured once, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

from ._plain import told
from .errors import InvalidPlan

Loss: TypeAlias = Literal["auto", "cross-entropy", "binary-cross-entropy", "mse", "none"]
Optimizer: TypeAlias = Literal["adamw", "sgd"]
Schedule: TypeAlias = Literal["cosine", "linear", "constant"]

RATES = {"adamw": 1e-3, "sgd": 2e-2}
EPOCHS, FEWEST_STEPS = 5, 400
MOST = 1e300  # of any number


@dataclass(frozen=True)
class Training:
    """How to train. The defaults suit retraining what was pruned, for a few epochs.

    All of it is for neural networks. Trees are trained as their original was; `seconds` and `keep` hold for them too.

    Attributes:
        loss: What is minimized besides the distance to the original: `cross-entropy` of logits, `binary-cross-entropy`
            of logits, `mse`, a function `f(outputs, labels)` that returns a scalar tensor (or `module:function`, which
            names one), or `none`. `auto` takes cross-entropy for labels that are classes; for others that have the
            shape of the first output, binary-cross-entropy where all are 0 or 1, else mse; and none where there are no
            labels. The built-in ones judge the first output.
        teach: Weight of the distance to the original's outputs, from 0 (the loss only) to 1 (the original only).
        temperature: Of the softmax under which logits are compared (Hinton et al. 2015, section 2).
        features: Weight of the distance between the similarities that inner layers see between samples (Tung and Mori
            2019, equation 4); 0 for none, as it must be for Keras. It makes an epoch slower: the original runs in it.
        optimizer: `adamw`, or `sgd` with Nesterov's momentum.
        learning_rate: At its peak; None for 1e-3 (adamw) or 2e-2 (sgd).
        momentum: Of sgd.
        schedule: How the rate falls after a twentieth of warming up: `cosine`, `linear`, `constant`.
        l2: A term of the loss: this times the squared norm of all weights but biases and norms.
        weight_decay: Decoupled: in each step such weights shrink by this times the rate (Loshchilov and Hutter 2019).
        batch: Samples a step.
        epochs: At the most; the rate reaches its end with them. None for 5, or more where samples are so few that these
            would be less than 400 steps.
        seconds: At the most, for one technique; None for what the budget leaves.
        holdout: Share of the train data to stop early by; the weights that did best on it are kept.
        patience: Looks at the holdout without a gain, after which training stops; there is one an epoch, or one in 20
            steps where epochs are shorter.
        augment: A function `f(batch, generator)` that returns the batch to train on, arrays in and out, or
            `module:function`.
        student: A module or Keras model to teach, by `distill` or `distill-keras`; or `module:factory`.
        keep: Layers that pruning and factorizing leave alone, or features that trees never lose, by name; `*` matches
            any part of one. Layers of a Keras model within a model go by their own names, or by `outer/inner`. Where a
            model has no names for its features, they go by number, from 0.

    Raises:
        InvalidPlan: A value is none of its kind, or beyond its bounds.
    """

    loss: Any = "auto"
    teach: float = 0.7
    temperature: float = 4.0
    features: float = 0.0
    optimizer: Optimizer = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    l2: float = 0.0
    weight_decay: float = 1e-4
    batch: int = 128
    epochs: float | None = None
    seconds: float | None = None
    holdout: float = 0.1
    patience: int = 3
    augment: Any = None
    student: Any = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", tuple(self.keep) if isinstance(self.keep, (list, tuple)) else (self.keep,))
        kinds = get_type_hints(type(self))
        for name, allowed in (("optimizer", kinds["optimizer"]), ("schedule", kinds["schedule"])):
            _must(getattr(self, name) in get_args(allowed), name, f"one of {', '.join(get_args(allowed))}", self)
        spelled = isinstance(self.loss, str) and (self.loss in get_args(Loss) or ":" in self.loss)
        words = ", ".join(get_args(Loss))
        _must(spelled or callable(self.loss), "loss", f"one of {words}, a function or module:function", self)
        for name in ("teach", "holdout"):
            _must(_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1, name, "a number from 0 to 1", self)
        _must(self.holdout <= 0.5, "holdout", "0.5 at the most", self)
        for name in ("features", "momentum", "l2", "weight_decay"):
            _must(_number(getattr(self, name)) and getattr(self, name) >= 0, name, "a number of 0 or more", self)
        for name in ("temperature", "epochs", "learning_rate", "seconds"):
            value = getattr(self, name)
            optional = value is None and name != "temperature"
            _must(optional or (_number(value) and value > 0), name, "a number above 0", self)
        for name in ("batch", "patience"):
            value = getattr(self, name)
            _must(isinstance(value, int) and not isinstance(value, bool) and value >= 1, name, "1 or more", self)
        own = self.augment is None or callable(self.augment) or (isinstance(self.augment, str) and ":" in self.augment)
        _must(own, "augment", "a function or module:function", self)
        _must(all(isinstance(text, str) for text in self.keep), "keep", "names of layers or features", self)
        for name, kind in kinds.items():
            value = getattr(self, name)
            if kind in (float, float | None) and value is not None:
                object.__setattr__(self, name, float(value))  # `2` and `2.0` are the same plan

    @property
    def rate(self) -> float:
        """The learning rate at its peak."""
        return self.learning_rate or RATES[self.optimizer]

    def steps(self, epoch: int) -> int:
        """Steps in all, at the most, where an epoch has so many."""
        return max(1, round(self.epochs * epoch) if self.epochs else max(EPOCHS * epoch, FEWEST_STEPS))

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MOST < value < MOST


def _must(holds: bool, name: str, rule: str, training: Training) -> None:
    if not holds:
        raise InvalidPlan(f"{name} of the training must be {rule}, not {told(getattr(training, name), repr)}.")
