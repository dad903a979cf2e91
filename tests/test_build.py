"""Build: a chain's shared part is made once, what refused is remembered, and nothing half made is ever seen."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strop.build import Failure, Workshop
from strop.errors import NotApplicable, TechniqueError
from strop.model import Model
from strop.target import Target
from strop.technique import Context
from strop.testing import FakeCalibrate, FakeCompile, FakeFault, FakeRound, FakeStrip, fake_data, fake_model

made: list[str] = []


def counted(kind: type) -> type:
    """The technique, noting every time it works."""

    def apply(self, model: Model, context: Context) -> Model:  # type: ignore[no-untyped-def]
        made.append(str(self))
        return kind.apply(self, model, context)  # type: ignore[no-any-return, attr-defined]

    return type(kind.__name__, (kind,), {"apply": apply})


Strip, Round, Calibrate, Compile = map(counted, (FakeStrip, FakeRound, FakeCalibrate, FakeCompile))


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made.clear()
    model = fake_model(tmp_path / "given", padding=2000)
    data = fake_data(model, 20)
    data.save(tmp_path / "calibration")
    (tmp_path / "artifacts").mkdir()
    yield Workshop(
        tmp_path / "artifacts", model, model.digest(), tmp_path / "calibration", data.digest(), Target(threads=1), 0
    )


def test_a_shared_part_is_made_once(workshop: Workshop) -> None:
    first, seconds = workshop.build([Strip(), Round(), Compile()])
    assert list(seconds) == ["fake-strip", "fake-round", "fake-compile"]
    assert made == ["fake-strip", "fake-round", "fake-compile"]
    second, seconds = workshop.build([Strip(), Round(decimals=1)])
    assert list(seconds) == ["fake-round(decimals=1)"]
    assert made.count("fake-strip") == 1
    again, seconds = workshop.build([Strip(), Round(), Compile()])
    assert (again, seconds) == (first, {})
    assert first.history == ("fake-strip", "fake-round", "fake-compile")
    assert second.history == ("fake-strip", "fake-round(decimals=1)")


def test_no_steps_make_the_original(workshop: Workshop) -> None:
    assert workshop.build([]) == (workshop.original, {})


def test_another_process_finds_what_was_made(workshop: Workshop) -> None:
    first, _ = workshop.build([Strip()])
    again, seconds = dataclasses.replace(workshop).build([Strip()])
    assert (again, seconds) == (first, {})


def test_the_key_holds_all_that_a_result_depends_on(workshop: Workshop) -> None:
    newer = type("FakeStrip", (FakeStrip,), {"version": 2})
    changes = {
        "seed": 1,
        "digest": "another model",
        "target": Target(threads=2),
        "original": workshop.original,
        "calibration_digest": "other samples",
    }
    plain, calibrated = [Strip()], [Strip(), Calibrate()]
    keys = {workshop.key(plain), workshop.key(calibrated), workshop.key([newer()]), workshop.key([Round()])}
    keys |= {workshop.key([Round(decimals=1)]), workshop.key([Calibrate(), Strip()])}
    assert len(keys) == 6
    for field, value in changes.items():
        other = dataclasses.replace(workshop, **{field: value})
        assert (other.key(plain) == workshop.key(plain)) == (field in ("original", "calibration_digest")), field
        assert (other.key(calibrated) == workshop.key(calibrated)) == (field == "original"), field


def test_only_a_step_that_asks_for_samples_sees_them(workshop: Workshop) -> None:
    seen = {}

    def spy(kind: type) -> type:
        def apply(self, model: Model, context: Context) -> Model:  # type: ignore[no-untyped-def]
            seen[kind] = context.calibration and context.calibration.digest()
            return kind.apply(self, model, context)  # type: ignore[no-any-return, attr-defined]

        return type(kind.__name__, (kind,), {"apply": apply})

    workshop.build([spy(FakeStrip)(), spy(FakeCalibrate)()])
    assert seen == {FakeStrip: None, FakeCalibrate: workshop.calibration_digest}


def test_settings_that_a_step_refuses_are_told(workshop: Workshop) -> None:
    class Picky(FakeRound):
        def requires(self, model: Model, target: Target) -> None:
            if self.decimals == 0 and "fake-strip" in model.history:
                raise NotApplicable("rounds too much of a stripped model")

    assert workshop.fitting([Picky()]) == {"picky.decimals": [2, 1, 0]}
    assert workshop.fitting([Strip(), Picky()]) == {"picky.decimals": [2, 1]}


def test_a_refusal_is_remembered_and_costs_no_second_try(workshop: Workshop) -> None:
    asked = []

    class Choosy(FakeRound):
        def apply(self, model: Model, context: Context) -> Model:
            asked.append(self)
            raise NotApplicable("takes no such weights")

    chain = [Strip(), Choosy(), Compile()]
    assert workshop.failure(chain) is None
    for _ in range(2):
        with pytest.raises(NotApplicable, match="takes no such weights"):
            workshop.build(chain)
    assert len(asked) == 1
    assert workshop.failure(chain) == ("refused", "takes no such weights")
    assert workshop.failure([Strip()]) is None


def test_a_failure_is_no_refusal_and_leaves_nothing(workshop: Workshop) -> None:
    asked = []

    class Flaky(FakeRound):
        def apply(self, model: Model, context: Context) -> Model:
            asked.append(self)
            (context.folder / "model.fake").write_text("half")
            if len(asked) == 1:
                raise ValueError("once")
            return super().apply(model, context)

    with pytest.raises(TechniqueError, match="ValueError: once"):
        workshop.build([Flaky()])
    assert not list(workshop.folder.iterdir())
    assert workshop.failure([Flaky()]) is None
    model, _ = workshop.build([Flaky()])
    assert model.path.exists()


def test_a_crash_is_blamed_on_the_first_step_that_is_not_built(workshop: Workshop) -> None:
    workshop.build([Strip()])
    (workshop.folder / ".part-killed").mkdir()
    workshop.sweep()
    workshop.remember([Strip(), FakeRound(), Compile()], Failure("crashed", "its process was killed by SIGSEGV"))
    for chain in ([Strip(), FakeRound()], [Strip(), FakeRound(), Compile()]):
        assert workshop.failure(chain) == ("crashed", "its process was killed by SIGSEGV")
        with pytest.raises(TechniqueError, match="SIGSEGV"):
            workshop.build(chain)
    assert (
        workshop.failure([Strip()]) is workshop.failure([FakeRound()]) is workshop.failure([Strip(), Compile()]) is None
    )
    workshop.build([Strip(), Compile()])
    workshop.remember([Strip(), Compile()], Failure("timeout", "in running it"))
    assert workshop.failure([Strip(), Compile()]) is None
    assert not list(workshop.folder.glob(".part-*"))


def test_what_is_being_made_is_never_seen(workshop: Workshop) -> None:
    seen: list[bool] = []
    home = workshop.folder / workshop.key([FakeRound()])

    class Slow(FakeRound):
        @classmethod
        def label(cls) -> str:
            return "fake-round"

        def apply(self, model: Model, context: Context) -> Model:
            result = super().apply(model, context)
            seen.append(home.exists())
            return result

    workshop.build([Slow()])
    assert seen == [False]
    assert json.loads((home / "model.json").read_text())["path"] == "model.fake"
    assert [folder.name for folder in workshop.folder.iterdir()] == [home.name]


def test_a_part_that_a_kill_left_is_made_anew(workshop: Workshop) -> None:
    home = workshop.folder / workshop.key([Strip()])
    (workshop.folder / ".part-killed").mkdir()
    (workshop.folder / ".part-killed" / "model.fake").write_text("half")
    home.mkdir()  # made, and killed before a refusal was noted in it
    model, seconds = workshop.build([Strip()])
    assert list(seconds) == ["fake-strip"]
    assert model.path.parent == home


def test_a_disk_that_is_full_is_told_as_such(workshop: Workshop, tmp_path: Path) -> None:
    model = fake_model(tmp_path / "faulty", build_fault="disk")
    faulty = dataclasses.replace(workshop, original=model)
    with pytest.raises(OSError, match="No space left"):
        faulty.build([FakeFault()])
    assert not list(workshop.folder.iterdir())


def test_no_step_begins_after_the_deadline(workshop: Workshop) -> None:
    workshop.build([Strip()])
    with pytest.raises(TimeoutError, match="no time was left for fake-round"):
        workshop.build([Strip(), Round()], deadline=time.monotonic() - 1)
    assert made == ["fake-strip"]
