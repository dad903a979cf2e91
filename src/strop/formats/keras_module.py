"""A Keras model as a PyTorch module, its layers under their own names, and such a module as a Keras model again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._plain import told
from .._quiet import keras
from ..errors import NotApplicable
from ..model import Signature
from ._keras_again import assign, built_as
from ._keras_ends import given, returned
from ._keras_twins import Held, Shape, Step, Value, flattened, told_of, twin_of
from .keras import layers_of

if TYPE_CHECKING:
    from ._keras_network import Network

NAMED = 5  # layers, in a message


def module_of(live: Any, signature: Signature) -> Network:
    """A module that computes as a Keras model does, its layers as children under Keras's names (`outer/inner`).

    It takes and answers by name what the model does. Inside, channels come first, as PyTorch's techniques expect.

    Args:
        live: Built, and the caller's own: its layers are called.
        signature: Of the model.

    Raises:
        NotApplicable: It has layers without a counterpart; the message names them.
        MissingDependency: PyTorch is not installed.
    """
    return _Trace(live).module(live, signature)


def live_of(module: Network, live: Any) -> Any:
    """The Keras model that a module has become: its layers with the widths, factors and weights that they have there.

    Args:
        module: What `module_of` made of `live`, changed.
        live: What it was made of.
    """
    names: dict[int, str] = {id(layer): name for name, layer in layers_of(live).items()}
    made: dict[int, Any] = {}

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if id(layer) not in made:
            held = module.held(names.get(id(layer), ""))
            inner = isinstance(layer, keras().Model)
            made[id(layer)] = around(layer, (args, kwargs)) if inner else built_as(layer, held)
        return made[id(layer)](*args, **kwargs)

    def around(model: Any, values: Any) -> Any:
        """A model on inputs as wide as the values that it is given here; how many places they have, it says itself."""
        wide = (value.shape[-1] for value in keras().tree.flatten(values) if hasattr(value, "shape"))
        fresh = keras().tree.map_structure(lambda x: _input(x, (*x.shape[:-1], next(wide))), given(model))
        if isinstance(model, keras().Sequential):
            value, row = fresh, [fresh]
            for layer in model.layers:
                value = called(layer, value)
                row.append(made[id(layer)])
            return keras().Sequential(row, name=model.name)
        return keras().models.clone_model(model, fresh, clone_function=lambda layer: layer, call_function=called)

    clone = around(live, given(live))
    for name, layer in layers_of(live).items():
        if (held := module.held(name)) is not None:
            assign(made[id(layer)], held, module.orders[name])
        elif type(layer).__name__ == "Normalization":  # it was adapted to data, which its settings do not tell
            made[id(layer)].set_weights(layer.get_weights())
            made[id(layer)].finalize_state()
    return clone


def _input(like: Any, shape: Shape) -> Any:
    return keras().Input(batch_shape=shape, dtype=like.dtype, name=like._keras_history.operation.name)


class _Trace:
    """The calls of all layers of a model, those of models within it too, and where their values are kept."""

    def __init__(self, live: Any):
        self.names = {id(layer): name for name, layer in layers_of(live).items()}
        self.numbers = map(Value, itertools.count())
        self.alive: list[Any] = []  # all values of Keras, so that no two have one id
        self.shapes: dict[Value, Shape] = {}
        self.orders: dict[Value, tuple[int, ...]] = {}
        self.steps: list[Step] = []
        self.held: dict[int, Held] = {}
        self.lacking: dict[str, None] = {}

    def module(self, live: Any, signature: Signature) -> Network:
        from ._keras_network import Network

        inputs = [next(self.numbers) for _ in signature.inputs]
        outputs = self.follow(live, inputs)
        for tensor, number in zip(signature.outputs, outputs, strict=True):
            if self.orders.get(number):
                self.lacking[f"{told(tensor.name)} answers what was flattened"] = None
        if self.lacking:
            first, more = list(self.lacking)[:NAMED], len(self.lacking) - NAMED
            raise NotApplicable(
                f"needs layers that PyTorch has too: {'; '.join(first)}{f'; and {more} more' if more > 0 else ''}"
            )
        layers = {self.names[layer]: held for layer, held in self.held.items() if held.twin.module is not None}
        return Network(signature, inputs, self.steps, outputs, layers).eval()

    def follow(self, live: Any, inputs: Sequence[Value]) -> list[Value]:
        """Note the calls of a model that is given these values."""
        library, flat = keras(), keras().tree.flatten
        model = library.Model(live.inputs, live.outputs) if isinstance(live, library.Sequential) else live
        fresh = library.tree.map_structure(lambda x: _input(x, x.shape), given(model))
        places: dict[int, Value] = {}

        def note(values: Sequence[Any], numbers: Sequence[Value]) -> None:
            self.alive += values
            for value, number in zip(values, numbers, strict=True):
                places[id(value)] = number
                known = self.shapes.get(number, value.shape)  # a model within may know less of its ends
                self.shapes[number] = min(tuple(known), tuple(value.shape), key=lambda shape: shape.count(None))

        def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
            answer = layer(*args, **kwargs)
            kwargs.pop("training", None)  # it is a default; Keras, too, goes by how the whole is called
            takes = [places.get(id(value), value) for value in flat((args, kwargs)) if value is not None]
            if isinstance(layer, library.Model):
                note(flat(answer), self.follow(layer, takes))
            else:
                numbers = [next(self.numbers) for _ in flat(answer)]
                note(flat(answer), numbers)
                self.call(layer, takes, numbers)
            return answer

        note(flat(fresh), inputs)
        copy = library.models.clone_model(model, fresh, clone_function=lambda layer: layer, call_function=called)
        return [places[id(value)] for value in flat(returned(copy))]

    def new(self, layer: Any, places: Sequence[Value], order: tuple[int, ...]) -> Held:
        still = type(layer).__name__ == "BatchNormalization" and not layer.trainable
        return Held(twin_of(layer, [self.shapes[place] for place in places], order), order, still)

    def call(self, layer: Any, takes: Sequence[Any], found: Sequence[Value]) -> None:
        """Note the call of one layer."""
        name, places = self.names.get(id(layer), ""), [value for value in takes if isinstance(value, Value)]
        order = next((known for place in places if (known := self.orders.get(place, ()))), ())
        try:
            if len(found) > 1 or not all(isinstance(value, (int, float)) for value in takes):
                raise NotApplicable(f"{told_of(layer)} takes or answers other things than arrays")
            held = self.held.get(id(layer)) or self.new(layer, places, order)
            bound = type(layer).__name__ in ("Dense", "BatchNormalization")
            if held.order != order and (bound or not held.twin.spread):
                raise NotApplicable(f"{told_of(layer)} takes what is flattened, and what is not")
        except NotApplicable as error:
            self.lacking[str(error)] = None
            return
        self.held[id(layer)] = held
        self.steps.append((name, held.twin.call, tuple(takes), found[0]))
        self.orders[found[0]] = flattened(layer, self.shapes[places[0]]) or (order if held.twin.spread else ())
