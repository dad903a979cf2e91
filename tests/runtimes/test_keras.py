"""Keras as it is: what users call without strop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import kerases
from strop.errors import RunFailed
from strop.model import KERAS, SAVED_MODEL, Model
from strop.plan import routes
from strop.prepare import called
from strop.runtime import Runtime
from strop.runtimes import Keras
from strop.technique import Needs
from strop.testing import Example, RuntimeCase

pytestmark = kerases.QUIET


class TestKeras(RuntimeCase):
    runtime: ClassVar[type[Runtime]] = Keras

    def example(self, folder: Path) -> Example:
        return kerases.example(kerases.two_ends(), folder)

    def broken(self, folder: Path) -> Model:
        whole, cut = self.example(folder / "whole").model, folder / "model.keras"
        cut.write_bytes(whole.path.read_bytes()[: whole.size // 2])
        return replace(whole, payload=cut, files=(cut,))


def test_it_answers_as_the_live_model_and_is_no_candidate(tmp_path: Path) -> None:
    assert called(KERAS) == called(SAVED_MODEL) == Keras()
    for live in (kerases.two_ends(), kerases.own()):
        model = kerases.stored(live, tmp_path / type(live).__name__)
        found, _ = routes(model, kerases.ONE, Needs.SAMPLES)
        assert found and Keras not in {route.runtime for route in found}
        batch = kerases.data_of(model).inputs
        runner = Keras().load(model, kerases.ONE)
        for value, expected in zip(runner(batch).values(), kerases.answers(live, batch), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        runner.close()


def test_a_call_that_fails_says_on_what(tmp_path: Path) -> None:
    runner = Keras().load(kerases.stored(kerases.dense(), tmp_path), kerases.ONE)
    with pytest.raises(RunFailed, match=r"on \[2, 3\]"):
        runner({tensor.name: np.zeros((2, 3), np.float32) for tensor in runner.function.signature.inputs})
