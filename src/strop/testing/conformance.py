"""What every technique, runtime and format owes, as pytest classes for authors of plug-ins.

Subclass a case, name the plug-in, and give it a model:

    class TestShrink(TechniqueCase):
        technique = Shrink

        def example(self, folder):
            return Example(strop_model, data)
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .._lazy import installed
from ..build import time_layers
from ..bundle import keep_samples
from ..data import Data
from ..deploy import snippet
from ..errors import NotApplicable, RunFailed, StropError, UnsupportedModel
from ..model import Model, ModelFormat
from ..opened import SAMPLES
from ..prepare import reference
from ..runtime import Runtime, predict
from ..settings import Choice, Settings, Span
from ..target import Target, usable_cores
from ..technique import Context, Needs, Technique, Work, apply

LOSSLESS = 1e-4
"""The relative error that a lossless step may make: that of sums taken in another order."""


@dataclass(frozen=True)
class Example:
    """A model on disk, and a few samples that fit it."""

    model: Model
    data: Data


class TechniqueCase:
    """What a technique owes.

    Attributes:
        technique: The class under test.
        tolerance: Largest error of an output, relative to the largest value of that output; for lossy techniques.
        threads: Of the target.
    """

    technique: ClassVar[type[Technique]]
    tolerance: ClassVar[float] = 0.1
    threads: ClassVar[int] = 1

    def example(self, folder: Path) -> Example:
        """A model that the technique fits at its defaults."""
        raise NotImplementedError

    def misfit(self, folder: Path) -> Model | None:
        """A model that it refuses; None where it fits all of its format."""
        return None

    def test_settings_survive_json(self) -> None:
        check_settings(self.technique)

    def test_says_what_it_is(self) -> None:
        assert (self.technique.__doc__ or "").strip()
        assert self.technique.accepts
        assert all(0 < self.technique().ratio(work, Target(threads=self.threads)) < 100 for work in Work)

    def test_keeps_its_promises(self, tmp_path: Path) -> None:
        example, result = self._applied(tmp_path)
        before, after = (_outputs(model, example.data, self.threads) for model in (example.model, result))
        assert list(after) == list(before)
        for name, expected in before.items():
            assert after[name].shape == expected.shape
            assert after[name].dtype == expected.dtype
            allowed = LOSSLESS if self.technique.lossless else self.tolerance
            assert _error(after[name], expected) <= allowed, name

    def test_result_can_be_moved(self, tmp_path: Path) -> None:
        example, result = self._applied(tmp_path)
        moved = result.copy_to(tmp_path / "moved")
        expected = _outputs(result, example.data, self.threads)
        for file in result.files:
            file.unlink()
        for name, value in _outputs(moved, example.data, self.threads).items():
            np.testing.assert_array_equal(value, expected[name])

    def test_refuses_with_a_reason(self, tmp_path: Path) -> None:
        model = self.misfit(tmp_path / "misfit")
        if model is None:
            return
        (tmp_path / "result").mkdir()
        try:
            apply(self.technique(), model, self._context(Example(model, Data({})), tmp_path / "result"))
        except NotApplicable as refusal:
            assert len(str(refusal).split()) >= 3
            assert "\n" not in str(refusal)
        else:
            raise AssertionError(f"{self.technique.label()} took a model that it should refuse")

    def test_lossless_steps_pass_nan_and_infinity_on(self, tmp_path: Path) -> None:
        if not self.technique.lossless:
            return
        example, result = self._applied(tmp_path)
        data = _with_odd_values(example.data)
        before, after = (_outputs(model, data, self.threads) for model in (example.model, result))
        for name, expected in before.items():
            np.testing.assert_array_equal(np.isnan(after[name]), np.isnan(expected))
            np.testing.assert_array_equal(np.isinf(after[name]), np.isinf(expected))

    def _applied(self, folder: Path) -> tuple[Example, Model]:
        """The example and the result, which lies in a folder of its own; the input is left alone."""
        example, goal = self.example(folder / "example"), folder / "result"
        digest, samples = example.model.digest(), example.data.digest()
        goal.mkdir()
        result = apply(self.technique(), example.model, self._context(example, goal))
        assert example.model.digest() == digest, "the model was changed"
        assert example.data.digest() == samples, "the samples were changed"
        assert result.files
        assert result.payload == result.files[0]
        assert result.size > 0
        assert sorted(result.files) == sorted(f for f in goal.rglob("*") if f in result.files)
        assert not [f for f in goal.rglob(".*")], "scratch files stay behind"
        return example, result

    def _context(self, example: Example, folder: Path) -> Context:
        given = example.data if self.technique.needs & Needs.SAMPLES else None
        target = Target(threads=self.threads)
        return Context(given, example.model, target, 0, folder, layer_times=partial(time_layers, target, given))


class RuntimeCase:
    """What a runtime owes.

    Attributes:
        runtime: The class under test.
    """

    runtime: ClassVar[type[Runtime]]

    def example(self, folder: Path) -> Example:
        """A model that the runtime loads."""
        raise NotImplementedError

    def broken(self, folder: Path) -> Model:
        """A model that opens, and that the runtime can't load."""
        raise NotImplementedError

    def test_settings_survive_json(self) -> None:
        check_settings(self.runtime)

    def test_names_what_it_loads(self) -> None:
        assert self.runtime.loads
        assert installed(self.runtime.module)
        assert 0 < self.runtime.expects(Target(threads=1)) < 100

    def test_outputs_keep_names_types_and_samples(self, tmp_path: Path) -> None:
        example = self.example(tmp_path)
        outputs = _run(self.runtime(), example.model, example.data, 1)
        assert list(outputs) == [t.name for t in example.model.signature.visible_outputs]
        for tensor in example.model.signature.visible_outputs:
            assert outputs[tensor.name].dtype == tensor.dtype
            assert len(outputs[tensor.name]) == len(example.data)

    def test_its_snippet_answers_as_it_does(self, tmp_path: Path) -> None:
        """What a report says of how to deploy runs where strop is not: in a bundle's folder, from its samples."""
        runtime = self.runtime()
        if self.runtime.code is Runtime.code:
            return  # by strop itself
        example, folder, target = self.example(tmp_path), tmp_path / "deployed", Target(threads=1)
        folder.mkdir()
        few = example.data.take(range(4))
        keep_samples(folder / SAMPLES, few, _run(runtime, example.model, few, 1))
        code = snippet(example.model.copy_to(folder), runtime, target, folder / SAMPLES)
        assert "strop" not in code.replace("strop_predict", "")
        ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        assert [line.split()[-1] for line in ran.stdout.splitlines()] == ["True"] * len(
            example.model.signature.visible_outputs
        ), ran.stdout

    def test_same_input_same_output(self, tmp_path: Path) -> None:
        example = self.example(tmp_path)
        first, second = (_run(self.runtime(), example.model, example.data, 1) for _ in range(2))
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name])

    def test_outputs_are_the_callers_own(self, tmp_path: Path) -> None:
        example = self.example(tmp_path)
        runner = self.runtime().load(example.model, Target(threads=1))
        kept = runner(_call(example, 0))
        copies = {name: value.copy() for name, value in kept.items()}
        runner(_call(example, 1))
        for name, value in kept.items():
            np.testing.assert_array_equal(value, copies[name])
        runner.close()

    def test_a_bound_call_can_be_repeated(self, tmp_path: Path) -> None:
        example = self.example(tmp_path)
        runner = self.runtime().load(example.model, Target(threads=1))
        call = runner.bind(_call(example, 0))
        call()
        call()
        runner.close()

    def test_a_bound_input_is_left_alone(self, tmp_path: Path) -> None:
        example = self.example(tmp_path)
        runner = self.runtime().load(example.model, Target(threads=1))
        bound = {name: array.copy() for name, array in _call(example, 0).items()}
        call = runner.bind(bound)
        call()
        runner(_call(example, 1))
        call()
        for name, array in _call(example, 0).items():
            np.testing.assert_array_equal(bound[name], array)
        runner.close()

    def test_an_idle_runner_is_quiet(self, tmp_path: Path) -> None:
        """It spends no time while nobody calls: else it would slow whatever is measured beside it."""
        example = self.example(tmp_path)
        runner = self.runtime().load(example.model, Target(threads=len(usable_cores())))
        call = runner.bind(_call(example, 0))
        for _ in range(5):
            call()
        time.sleep(0.05)  # what a call leaves to do may end
        start = time.process_time()
        time.sleep(0.5)
        spent = time.process_time() - start
        runner.close()
        assert spent < 0.1, f"{self.runtime.label()} spent {spent:.2f} s of 0.5 s idle"

    def test_tells_what_layers_take_or_that_it_cannot(self, tmp_path: Path) -> None:
        example = self.example(tmp_path)
        try:
            found = self.runtime().profiled(example.model, Target(threads=1), [_call(example, 0)])
        except NotApplicable as error:
            assert str(error).strip(), "a refusal needs a reason"
            return
        assert found.layers and len(found.calls)
        assert all(layer.name and layer.operator and layer.seconds >= 0 for layer in found.layers)
        told = [name for layer in found.layers for name in layer.layers]
        assert len(told) == len(set(told)), "a layer of the file is part of one thing that runs"

    def test_what_it_cannot_load_is_a_named_error(self, tmp_path: Path) -> None:
        model = self.broken(tmp_path)
        try:
            self.runtime().load(model, Target(threads=1))
        except RunFailed as error:
            assert str(error)
        else:
            raise AssertionError(f"{self.runtime.label()} loaded a broken model")


class FormatCase:
    """What a format owes.

    Attributes:
        format: The instance under test.
    """

    format: ClassVar[ModelFormat]

    def example(self, folder: Path) -> Path:
        """A model file, or folder, of the format."""
        raise NotImplementedError

    def broken(self, folder: Path) -> Path:
        """What looks like the format and can't be read."""
        raise NotImplementedError

    def test_detects_its_own_only(self, tmp_path: Path) -> None:
        assert self.format.detects(self.example(tmp_path))
        other = tmp_path / "notes.txt"
        other.write_text("no model")
        for source in (other, object(), None, 3):
            assert not self.format.detects(source)

    def test_reads_a_signature_and_all_files(self, tmp_path: Path) -> None:
        model = self.format.open(self.example(tmp_path))
        assert model.format == self.format.name
        assert model.signature.inputs
        assert model.signature.outputs
        assert model.payload in model.files or model.path.is_dir()
        for tensor in (*model.signature.inputs, *model.signature.outputs):
            assert np.dtype(tensor.dtype).name == tensor.dtype

    def test_a_copy_is_the_same_model(self, tmp_path: Path) -> None:
        model = self.format.open(self.example(tmp_path / "example"))
        copy = model.copy_to(tmp_path / "copy")
        assert self.format.open(copy.path).signature == model.signature
        assert copy.digest() == model.digest()

    def test_survives_json(self, tmp_path: Path) -> None:
        model = self.format.open(self.example(tmp_path))
        assert Model.of(json.loads(json.dumps(model.to_json(tmp_path))), tmp_path) == model

    def test_what_it_cannot_read_is_a_named_error(self, tmp_path: Path) -> None:
        source = self.broken(tmp_path)
        assert self.format.detects(source), "what looks like the format is its to refuse, with a reason"
        try:
            self.format.open(source)
        except StropError as error:
            assert isinstance(error, UnsupportedModel)
            assert len(str(error).split()) >= 8
            assert "\n" not in str(error)
        else:
            raise AssertionError(f"{self.format.name} opened a broken model")


def check_settings(kind: type[Settings]) -> None:
    """Defaults lie in their domains; every value of a domain survives JSON; an unknown value is refused."""
    default = kind()
    for field in dataclasses.fields(kind):
        if field.name in kind.space():
            assert getattr(default, field.name) in kind.space()[field.name], field.name
    for settings in _around(default):
        again = json.loads(json.dumps(settings.settings()))
        assert again == settings.settings()
        assert kind.of(again) == settings
        assert kind.label() in str(settings)


def _around(default: Settings) -> Iterator[Settings]:
    yield default
    for name, domain in type(default).space().items():
        values = domain.values if isinstance(domain, Choice) else _ends(domain, getattr(default, name))
        for value in values:
            yield dataclasses.replace(default, **{name: value})


def _ends(span: Span, default: float) -> tuple[float, float]:
    kind = type(default)
    return kind(span.low), kind(span.high)


def _run(runtime: Runtime, model: Model, data: Data, threads: int) -> dict[str, np.ndarray[Any, Any]]:
    runner = runtime.load(model, Target(threads=threads))
    try:
        return predict(runner, model.signature, data, 1)
    finally:
        runner.close()


def _outputs(model: Model, data: Data, threads: int) -> dict[str, np.ndarray[Any, Any]]:
    """What a model gives on the runtime that originals of its format are measured on."""
    steps, runtime = reference(model.format)
    with tempfile.TemporaryDirectory() as scratch:
        for number, step in enumerate(steps):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            model = apply(step, model, Context(data, model, Target(threads=threads), 0, folder))
        return _run(runtime, model, data, threads)


def _call(example: Example, row: int) -> dict[str, np.ndarray[Any, Any]]:
    return example.data.batch(row, row + 1)


def _error(value: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    return float(np.abs(value.astype(np.float64) - expected.astype(np.float64)).max(initial=0)) / scale


def _with_odd_values(data: Data) -> Data:
    """The samples, some values of the first three replaced by NaN and infinities."""
    changed = {}
    for name, array in data.inputs.items():
        changed[name] = np.array(array)
        if array.dtype.kind == "f":
            for row, odd in enumerate((np.nan, np.inf, -np.inf)):
                changed[name][row].flat[0] = odd
    return dataclasses.replace(data, inputs=changed)
