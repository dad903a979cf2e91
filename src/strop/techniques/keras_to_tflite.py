"""Keras and SavedModel to TFLite."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from .._lazy import lazy
from .._quiet import tensorflow
from ..errors import TechniqueError
from ..formats._tflite_writing import KEY
from ..formats.keras import function_of
from ..formats.tensorflow import Function, given, output, set_threads
from ..formats.tflite import TfliteFormat
from ..model import KERAS, SAVED_MODEL, TFLITE, Format, Model
from ..technique import Context, Needs, Phase, Technique
from . import _tflite as tool
from ._parity import Arrays
from ._tensorflow import check, converting, listed, named

litert = lazy("ai_edge_litert.interpreter", "litert")

_LACKING = re.compile(
    r"^(?:TF Select|Flex|Custom) ops: (.*)$|'tf\.(\w+)' op is neither a custom op nor a flex op", re.M
)
"""Where the converter names operators that TFLite does not have."""
_FIXED = "requires element_shape to be static"
"""What it says of a recurrent layer whose batch is free."""


@dataclass(frozen=True)
class KerasToTflite(Technique):
    """Convert to TFLite in float32, with LiteRT's builtin operators only, and hold it to what the original answers.

    A recurrent layer becomes a loop over steps that takes the target's batch, and no other.
    """

    version: ClassVar[int] = 2
    accepts: ClassVar[frozenset[Format]] = frozenset({KERAS, SAVED_MODEL})
    returns: ClassVar[Format | None] = TFLITE
    phase: ClassVar[Phase] = Phase.CONVERT
    needs: ClassVar[Needs] = Needs.SAMPLES
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, context: Context) -> Model:
        set_threads(context.target.threads)
        function = function_of(model)
        try:
            content = _converted(function, None)
        except _TiedToBatch:
            content = _converted(function, context.target.batch)
        inputs, outputs = function.signature.inputs, function.signature.outputs
        path = context.folder / "model.tflite"
        path.write_bytes(tool.renamed(
            content, {given(place): tensor.name for place, tensor in enumerate(inputs)},
            {output(place): tensor.name for place, tensor in enumerate(outputs)}, function.by_layers,
        ))  # fmt: skip
        made = TfliteFormat().open(path)
        with converting():
            interpreter = litert.Interpreter(str(path), num_threads=context.target.threads)
            call = interpreter.get_signature_runner(KEY)

        def answer(samples: Arrays) -> Arrays:
            with converting():
                return dict(call(**samples))

        check(function, made, context, answer)
        return made


class _TiedToBatch(Exception):
    """The converter needs a number of samples."""


def _converted(function: Function, samples: int | None) -> bytes:
    """The file that the converter makes, `samples` in a call.

    Raises:
        TechniqueError: It can't.
    """
    tf = tensorflow()
    with converting():
        traced, owner = function.traced(samples), tf.Module()
        owner.kept = list(function.variables)  # or they are written out without their values
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], owner)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return bytes(converter.convert())
        except Exception as error:  # of a compiler, on whatever the graph holds
            failure = error
    said = str(failure)
    if samples is None and _FIXED in said:
        raise _TiedToBatch from failure
    raise TechniqueError(_why(said, traced)) from failure


def _why(said: str, traced: Any) -> str:
    names = (name for found in _LACKING.findall(said) for part in found for name in part.split(","))
    lacking = {name.strip().removeprefix("Flex").removeprefix("tf.") for name in names if name.strip()}
    if lacking:
        known = named(traced.graph.as_graph_def(), lacking)
        found = {kind: known.get(kind, ["where is not told"]) for kind in lacking}
        return (
            f"TFLite has no builtin operator for some of this model: {listed(found)}. Replace these layers, or take "
            "them out of the model."
        )
    line = next((line.strip() for line in said.splitlines() if "error:" in line), said.strip().split("\n")[0])
    return f"TensorFlow can't convert it to TFLite: {line[:300]}"
