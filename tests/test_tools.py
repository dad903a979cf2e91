"""Tools of their own: an environment that is made whole or not at all, and processes that end and are told of."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from strop._tools import LITERT_TORCH, Tool, find
from strop.cli import app
from strop.errors import InvalidPlan, MissingDependency, TechniqueError
from strop.model import TORCH, Model, Signature
from strop.prepare import check_target, reference
from strop.target import Target


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def bare(tmp_path: Path) -> Tool:
    """An environment with nothing in it."""
    tool = Tool(("nothing==1",), 0.1, "it is a test")
    tool.python.parent.mkdir(parents=True)
    tool.python.symlink_to(sys.executable)
    return tool


def script(folder: Path, text: str) -> Path:
    (folder / "script.py").write_text(text)
    return folder / "script.py"


def test_what_can_not_be_installed_leaves_nothing_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tool = Tool((str(tmp_path / "no-such-package"),), 0.1, "it is a test")
    with pytest.raises(MissingDependency, match="could not be made"):
        tool.install()
    assert "no-such-package" in capfd.readouterr().err
    assert not tool.ready
    assert list(tool.python.parents[2].iterdir()) == []


def test_a_script_is_given_its_arguments_and_nothing_of_this_environment(
    tmp_path: Path, bare: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = "import os, sys\nopen(sys.argv[2], 'w').write(f'{sys.argv[1]} {os.environ.get(\"PYTHONPATH\")}')"
    bare.run(script(tmp_path, text), [tmp_path / "made"], 60)
    assert (tmp_path / "made").read_text() == f"{os.getpid()} None"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ValueError('no such operator: aten::x')", "ValueError: no such operator: aten::x"),
        ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "did not end within 1 s"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, bare: Tool, text: str, words: str) -> None:
    with pytest.raises(TechniqueError, match=words):
        bare.run(script(tmp_path, text), [], 1 if "sleep" in text else 60)


def test_the_converter_ends_with_who_began_it(tmp_path: Path) -> None:
    """Its own script, which asks for that before it imports anything."""
    from strop.techniques import _litert_torch

    ended = subprocess.run([sys.executable, _litert_torch.__file__, "1", "in", "out"], check=False)
    assert ended.returncode == 1, "another process than its parent was named"
    (tmp_path / "litert_torch.py").write_text("import time; time.sleep(60)")
    begin = (
        "import os, subprocess, sys, time; p = subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), 'a', "
        "'b'], env={**os.environ, 'PYTHONPATH': sys.argv[2]}); print(p.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", begin, _litert_torch.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.5)
        parent.kill()
    psutil.wait_procs([child], 20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_tools_go_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert find("litert-torch") is LITERT_TORCH
    with pytest.raises(InvalidPlan, match="There are: litert-torch"):
        find("nothing")
    with pytest.raises(SystemExit) as ended:
        app(["doctor", "--install", "nothing"])
    assert ended.value.code == 2
    assert "There is no tool 'nothing'" in capsys.readouterr().err


def test_a_phone_is_refused_with_the_command_before_anything_is_spent() -> None:
    model = Model(TORCH, None, Signature((), ()))
    with pytest.raises(InvalidPlan, match=r"to-tflite does, with litert-torch .*strop doctor --install litert-torch"):
        check_target(Target(threads=1, kind="mobile"), model)
    assert reference(TORCH, Target(threads=1, kind="mobile"))[0][0].label() == "to-onnx"
