"""Technique: what it declares is enforced around every call."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from strop.errors import ContractBroken, NotApplicable, RunFailed, TechniqueError
from strop.model import Format, Model, Signature, Tensor
from strop.target import Target
from strop.technique import Context, Phase, Technique, apply
from strop.testing import FAKE, FAKE_COMPILED, FakeCompile, FakeRound, FakeStrip, fake_model

Work = Callable[[Model, Context], Model]


@dataclass(frozen=True)
class Rogue(Technique):
    """Does what the test says."""

    accepts: ClassVar[frozenset[Format]] = frozenset({FAKE})
    phase: ClassVar[Phase] = Phase.SIMPLIFY
    work: ClassVar[Work]

    def apply(self, model: Model, context: Context) -> Model:
        return type(self).work(model, context)


def copied(model: Model, context: Context) -> Model:
    return model.copy_to(context.folder)


def run(work: Work, folder: Path) -> Model:
    model = fake_model(folder / "given", padding=10)
    (folder / "out").mkdir()
    rogue = type("Rogue", (Rogue,), {"work": staticmethod(work)})()
    return apply(rogue, model, Context(None, model, Target(threads=1), 0, folder / "out"))


def test_an_honest_step_is_noted_in_the_history(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "given", padding=10)
    steps = (FakeStrip(), FakeRound(decimals=1), FakeCompile())
    for number, step in enumerate(steps):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = apply(step, model, Context(None, model, Target(threads=1), 0, folder))
    assert model.history == ("fake-strip", "fake-round(decimals=1)", "fake-compile")
    assert model.format == FAKE_COMPILED


def test_what_data_told_of_the_signature_stays(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "given", padding=10)
    told = Signature((dataclasses.replace(model.signature.inputs[0], batched=False),), model.signature.outputs)
    (tmp_path / "out").mkdir()
    context = Context(None, model, Target(threads=1), 0, tmp_path / "out")
    assert apply(FakeStrip(), dataclasses.replace(model, signature=told), context).signature == told


def wrong_format(model: Model, context: Context) -> Model:
    return dataclasses.replace(copied(model, context), format=FAKE_COMPILED)


def changed_dtype(model: Model, context: Context) -> Model:
    odd = dataclasses.replace(model.signature.outputs[0], dtype="float16")
    return dataclasses.replace(copied(model, context), signature=Signature(model.signature.inputs, (odd,)))


def lost_input(model: Model, context: Context) -> Model:
    return dataclasses.replace(copied(model, context), signature=Signature((), model.signature.outputs))


def renamed_output(model: Model, context: Context) -> Model:
    odd = Signature(model.signature.inputs, (Tensor("z", "float32", ("N", 3)),))
    return dataclasses.replace(copied(model, context), signature=odd)


def rewrote_its_input(model: Model, context: Context) -> Model:
    result = copied(model, context)
    model.path.write_text(json.dumps({"weights": [[1.0]]}))
    return result


def touched_its_input(model: Model, context: Context) -> Model:
    os.utime(model.path, (1, 1))
    return copied(model, context)


def removed_its_input(model: Model, context: Context) -> Model:
    result = copied(model, context)
    model.path.unlink()
    return result


def gave_its_input_back(model: Model, context: Context) -> Model:
    return model


def wrote_elsewhere(model: Model, context: Context) -> Model:
    elsewhere = context.folder.parent / "elsewhere"
    return model.copy_to(elsewhere)


def went_up(model: Model, context: Context) -> Model:
    return model.copy_to(context.folder / ".." / "elsewhere")


def forgot_to_write(model: Model, context: Context) -> Model:
    return dataclasses.replace(copied(model, context), files=())


def named_no_such_file(model: Model, context: Context) -> Model:
    result = copied(model, context)
    result.path.unlink()
    return result


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (wrong_format, "returned fake-compiled, and declares fake"),
        (changed_dtype, "changed the signature"),
        (lost_input, "changed the signature"),
        (renamed_output, "changed the signature"),
        (rewrote_its_input, "changed the model that it was given"),
        (touched_its_input, "changed the model that it was given"),
        (removed_its_input, "changed the model that it was given"),
        (gave_its_input_back, "outside its folder"),
        (wrote_elsewhere, "outside its folder"),
        (went_up, "outside its folder"),
        (forgot_to_write, "returned no file"),
        (named_no_such_file, "did not write"),
    ],
)
def test_a_broken_promise_is_a_bug_of_the_technique(work: Work, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractBroken, match=said) as caught:
        run(work, tmp_path)
    assert str(caught.value).startswith("rogue ")


def test_a_format_that_is_not_accepted_is_never_tried(tmp_path: Path) -> None:
    model = dataclasses.replace(fake_model(tmp_path), format=FAKE_COMPILED)
    with pytest.raises(ContractBroken, match="fake-strip was given a fake-compiled model, and accepts fake"):
        apply(FakeStrip(), model, Context(None, model, Target(threads=1), 0, tmp_path))


def test_an_exception_becomes_an_error_with_technique_format_and_cause(tmp_path: Path) -> None:
    def stumble(model: Model, context: Context) -> Model:
        raise KeyError("weights\nand a long story")

    with pytest.raises(TechniqueError, match=r"^rogue failed on this fake model: KeyError: 'weights") as caught:
        run(stumble, tmp_path)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "\n" not in str(caught.value)


def test_so_does_one_while_it_is_asked_whether_it_fits(tmp_path: Path) -> None:
    class Unsure(FakeStrip):
        def requires(self, model: Model, target: Target) -> None:
            raise ZeroDivisionError("no idea")

    model = fake_model(tmp_path)
    with pytest.raises(TechniqueError, match="unsure failed on this fake model: ZeroDivisionError: no idea"):
        apply(Unsure(), model, Context(None, model, Target(threads=1), 0, tmp_path))


@pytest.mark.parametrize(
    "error", [NotApplicable("does not fit"), RunFailed("can't be run"), OSError(28, "No space left"), MemoryError()]
)
def test_errors_that_say_what_they_are_pass(error: Exception, tmp_path: Path) -> None:
    def stumble(model: Model, context: Context) -> Model:
        raise error

    with pytest.raises(type(error)) as caught:
        run(stumble, tmp_path)
    assert caught.value is error


def test_a_refusal_comes_before_any_work(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "given")
    (tmp_path / "out").mkdir()
    with pytest.raises(NotApplicable, match="no padding"):
        apply(FakeStrip(), model, Context(None, model, Target(threads=1), 0, tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())
