"""What every runtime owes, and what each option does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import models
from strop import runtimes
from strop.errors import InvalidPlan, NotApplicable, RunFailed
from strop.model import Model
from strop.runtime import Runtime, predict
from strop.runtimes import Onnxruntime, Openvino
from strop.target import Target, instruction_sets
from strop.technique import Context, apply
from strop.techniques import ToOpenvino
from strop.testing import Example, RuntimeCase


def converted(folder: Path) -> Example:
    """The CNN of the tests in OpenVINO's format."""
    given = models.case("cnn", folder / "onnx")
    (folder / "ir").mkdir()
    context = Context(None, given.model, Target(threads=1), 0, folder / "ir")
    return Example(apply(ToOpenvino(), given.model, context), given.data)


def cut(model: Model, folder: Path) -> Model:
    """The same model, the second half of its main file missing."""
    folder.mkdir()
    for file in model.files:
        shutil.copy(file, folder / file.name)
    main = folder / model.path.name
    main.write_bytes(main.read_bytes()[: main.stat().st_size // 2])
    return replace(model, payload=main, files=tuple(folder / file.name for file in model.files))


class TestOnnxruntime(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Onnxruntime

    def example(self, folder: Path) -> Example:
        given = models.case("cnn", folder)
        return Example(given.model, given.data)

    def broken(self, folder: Path) -> Model:
        return cut(self.example(folder / "whole").model, folder / "cut")

    @pytest.mark.parametrize(("shape", "said"), [
        ((2, 3, 8), "Got: 3 Expected: 4"), ((2, 4, 8, 8), "index: 1 Got: 4 Expected: 3"),
    ])  # fmt: skip
    def test_an_input_of_another_shape_is_told_beside_what_is_taken(
        self, tmp_path: Path, shape: tuple[int, ...], said: str
    ) -> None:
        model = self.example(tmp_path).model
        (wanted,) = model.signature.inputs
        runner = Onnxruntime().load(model, Target(threads=1))
        with pytest.raises(RunFailed) as caught:
            runner({wanted.name: np.zeros(shape, np.float32)})
        message = str(caught.value)
        assert f"on {wanted.name}: float32{list(shape)}, where it takes {wanted}: " in message
        assert said in message and "\n" not in message, "all that ONNX Runtime says, in one line"


class TestOpenvino(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Openvino

    def example(self, folder: Path) -> Example:
        return converted(folder)

    def broken(self, folder: Path) -> Model:
        (folder / "whole").mkdir()
        return cut(self.example(folder / "whole").model, folder / "cut")


def test_both_answer_alike(tmp_path: Path) -> None:
    given = models.case("cnn", tmp_path / "a")
    (tmp_path / "b").mkdir()
    other = converted(tmp_path / "b")
    found = []
    for runtime, model in ((Onnxruntime(), given.model), (Openvino(), other.model)):
        runner = runtime.load(model, Target(threads=1))
        found.append(next(iter(predict(runner, model.signature, given.data, 1).values())))
        runner.close()
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", [Onnxruntime, Openvino])
def test_threads_are_an_option_below_those_of_the_target(runtime: type[Runtime]) -> None:
    runtime.of({"threads": 1}).requires(Target(threads=2))
    with pytest.raises(NotApplicable, match="not fewer"):
        runtime.of({"threads": 1}).requires(Target(threads=1))


def test_what_the_machine_lacks_is_refused_with_the_reason() -> None:
    with pytest.raises(NotApplicable, match="CUDAExecutionProvider"):
        Onnxruntime(provider="cuda").requires(Target(threads=1))
    if not instruction_sets() & {"avx512_bf16", "amx_bf16", "bf16"}:
        with pytest.raises(NotApplicable, match="no bf16 arithmetic"):
            Openvino(precision="bf16").requires(Target(threads=1))


def test_an_unknown_runtime_suggests_the_nearest() -> None:
    with pytest.raises(InvalidPlan, match="openvino"):
        runtimes.find("openvin")
