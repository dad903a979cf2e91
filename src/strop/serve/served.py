"""A runtime of MLServer's for one model: `runs.py` beside it says how that is run. Written by strop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import runs
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import Datatype, InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri

DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool", "BYTES": "str"}


class Served(MLModel):
    """Inputs and outputs are those of one call of the model: its own names, types and shapes."""

    async def load(self) -> bool:
        self.run = runs.opened(await get_model_uri(self.settings))
        self.thread = ThreadPoolExecutor(1)  # one call at a time, as it was measured; the server answers meanwhile
        return True

    async def unload(self) -> bool:
        self.thread.shutdown()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = {one.name: one for one in payload.inputs}
        wanted = {one.name: one for one in self.settings.inputs}
        if given.keys() != wanted.keys():
            raise InferenceError(f"{self.name} takes the inputs {sorted(wanted)}, not {sorted(given)}")
        try:
            inputs = {name: _array(one, wanted[name]) for name, one in given.items()}
            outputs = await asyncio.get_running_loop().run_in_executor(self.thread, self.run, inputs)
        except Exception as error:
            raise InferenceError(f"{self.name} can't run these inputs: {error}") from error
        asked = {one.name for one in payload.outputs or ()} or outputs.keys()
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[_tensor(name, np.asarray(value)) for name, value in outputs.items() if name in asked],
        )


def _array(given, wanted):
    """An input as the model takes it; one number a sample may come as [n] or as [n, 1]."""
    known = Datatype(wanted.datatype).value
    dtype = DTYPES.get(known, known.lower())
    text = dtype == "str"
    array = np.asarray(StringCodec.decode_input(given) if text else NumpyCodec.decode_input(given))
    if text:
        array = array.reshape(given.shape)
    if array.ndim == len(wanted.shape) + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return array.astype(dtype, copy=False)


def _tensor(name, value):
    made = NumpyCodec.encode_output(name, value)
    made.shape = [*value.shape]
    return made
