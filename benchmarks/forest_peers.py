"""What runs a LightGBM model of two classes fast, each by the fastest public call found for it, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from strop import formats, runtimes
from strop.model import Model
from strop.runtime import Runtime
from strop.target import Target

Array = np.ndarray[Any, Any]
Call = Callable[[], object]


@dataclass(frozen=True)
class Runner:
    """One way to run the model.

    Attributes:
        name: Of the library, and its version.
        dtype: Of the rows that it takes as they are.
        call: Rows [rows, columns] that it has not seen to the probabilities of the second class [rows].
        bind: The call on such rows when all that can be prepared for them is.
    """

    name: str
    dtype: type
    call: Callable[[Array], Array]
    bind: Callable[[Array], Call]


def strop_runner(name: str, model: Model, runtime: Runtime) -> Runner:
    """A model on one of strop's own runtimes."""
    loaded = runtime.load(model, Target(threads=1))
    (rows,), (result,) = model.signature.inputs, model.signature.outputs
    return Runner(
        name, np.dtype(rows.dtype).type, lambda x: loaded({rows.name: x})[result.name],
        lambda x: loaded.bind({rows.name: x}),
    )  # fmt: skip


def peers(file: Path, folder: Path) -> list[Runner]:
    """All of them; what is costly to compile is kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = (_daal4py, _lightgbm, _lleaves, _onnxruntime, _tl2cgen, _gtil)  # daal4py before all that loads oneTBB
    return [runner for make in makers for runner in make(file, folder)]


def _daal4py(file: Path, folder: Path) -> list[Runner]:
    import daal4py
    import lightgbm

    daal4py.daalinit(1)
    model = daal4py.mb.convert_model(lightgbm.Booster(model_file=file))
    return [
        Runner(
            f"daal4py {version('daal')}", np.float32, lambda x: model.predict_proba(x)[:, 1],
            lambda x: lambda: model.predict_proba(x),
        )
    ]  # fmt: skip


def _lightgbm(file: Path, folder: Path) -> list[Runner]:
    """Its single-row fast call for one row."""
    name = f"LightGBM {version('lightgbm')}"
    return [strop_runner(name, formats.open(file), runtimes.find("lightgbm")())]


def _lleaves(file: Path, folder: Path) -> list[Runner]:
    import lleaves

    def made(kind: str, dtype: type) -> Runner:
        model = lleaves.Model(model_file=str(file))
        model.compile(
            cache=folder / f"lleaves-{kind}.bin", fblocksize=34, finline=False, fcodemodel="small",
            use_fp64=dtype is np.float64,
        )  # fmt: skip
        return Runner(
            f"lleaves {version('lleaves')}, {kind}", dtype, lambda x: model.predict(x, n_jobs=1),
            lambda x: lambda: model.predict(x, n_jobs=1),
        )  # fmt: skip

    return [made("float64", np.float64), made("float32", np.float32)]


def _onnxruntime(file: Path, folder: Path) -> list[Runner]:
    import lightgbm
    import onnxruntime
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = lightgbm.Booster(model_file=file)
    columns = [("x", FloatTensorType([None, booster.num_feature()]))]
    model = convert_lightgbm(booster, initial_types=columns, zipmap=False, target_opset=15)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[1].name

    def bind(x: Array) -> Call:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output(output)
        return lambda: session.run_with_iobinding(binding)

    return [
        Runner(
            f"ONNX Runtime {version('onnxruntime')}", np.float32,
            lambda x: session.run([output], {"x": x})[0][:, 1], bind,
        )
    ]  # fmt: skip


def _tl2cgen(file: Path, folder: Path) -> list[Runner]:
    import tl2cgen
    import treelite

    library = folder / "tl2cgen.so"
    if not library.exists():
        model = treelite.frontend.load_lightgbm_model(file)
        tl2cgen.export_lib(model, toolchain="gcc", libpath=library, params={"parallel_comp": 8, "quantize": 1})
    predictor = tl2cgen.Predictor(library, nthread=1)

    def bind(x: Array) -> Call:
        rows = tl2cgen.DMatrix(x)
        return lambda: predictor.predict(rows)

    return [
        Runner(
            f"tl2cgen {version('tl2cgen')}", np.float32,
            lambda x: predictor.predict(tl2cgen.DMatrix(x)).reshape(len(x)), bind,
        )
    ]  # fmt: skip


def _gtil(file: Path, folder: Path) -> list[Runner]:
    import treelite

    model = treelite.frontend.load_lightgbm_model(file)

    def call(x: Array) -> Array:
        return treelite.gtil.predict(model, x, nthread=1).reshape(len(x))

    return [Runner(f"treelite GTIL {version('treelite')}", np.float64, call, lambda x: lambda: call(x))]
