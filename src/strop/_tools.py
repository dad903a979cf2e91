"""Tools that can't live beside strop's own packages: each in an environment of its own, made once, run as a process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import InvalidPlan, MissingDependency, TechniqueError

READY = "ready"
"""The file that is written last: an environment without it is not complete."""
TOLD = 300
"""Characters of what a tool says before it fails."""
_AWAY = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Tool:
    """A package with what it needs, by exact version.

    Attributes:
        requires: As pip takes them; the first is the tool.
        gigabytes: That the environment takes on disk.
        why: It is not among strop's own packages.
    """

    requires: tuple[str, ...]
    gigabytes: float
    why: str

    @property
    def name(self) -> str:
        return self.requires[0].partition("==")[0]

    @property
    def command(self) -> str:
        """What makes its environment."""
        return f"strop doctor --install {self.name} ({self.gigabytes:g} GB)"

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self._folder / "bin" / "python"

    @property
    def ready(self) -> bool:
        return (self._folder / READY).exists()

    @property
    def _folder(self) -> Path:
        home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return home / "strop" / "tools" / f"{self.requires[0].replace('==', '-')}-python{version}"

    def install(self) -> None:
        """Make its environment; pip says on standard error what it does.

        Raises:
            MissingDependency: pip fails.
        """
        if self.ready:
            return
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=self._folder.parent, prefix=".part-"))
        try:
            venv.create(part, with_pip=True)
            command = [str(part / "bin/python"), "-m", "pip", "install", "--quiet", "--no-compile", *self.requires]
            subprocess.run(command, stdout=sys.stderr, env=_environment(), check=True)
            (part / READY).touch()
            shutil.rmtree(self._folder, ignore_errors=True)
            part.rename(self._folder)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingDependency(
                f"{self.requires[0]} needs an environment of its own, and it could not be made in "
                f"{self._folder.parent}: {error}. Mend that, and try again."
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def run(self, script: Path, arguments: Sequence[str | Path], seconds: float) -> None:
        """Run a script in it, in a process of its own.

        Args:
            script: It is given the id of this process, with which it is to end, and then the arguments.
            seconds: That it may take.

        Raises:
            TechniqueError: It fails, or takes longer.
        """
        command = [str(self.python), "-I", str(script), str(os.getpid()), *map(str, arguments)]
        try:
            ran = subprocess.run(
                command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                timeout=max(1.0, min(seconds, 1e6)), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TechniqueError(f"{self.name} did not end within {seconds:.0f} s") from None
        if ran.returncode:
            lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
            named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
            cause = (named or lines)[-1][:TOLD] if lines else f"it ended with {_code(ran.returncode)} and said nothing"
            raise TechniqueError(f"{self.name} can't convert this model: {cause}")


def _code(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _environment() -> dict[str, str]:
    """Without what would let packages of this environment into another."""
    kept = {name: value for name, value in os.environ.items() if name not in _AWAY}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "JAX_TRACEBACK_FILTERING": "off"}
    return {**kept, **quiet, "CUDA_VISIBLE_DEVICES": ""}


LITERT_TORCH = Tool(("litert-torch==0.10.0", "torch==2.13.0"), 1.8, "it needs pydantic 2.11, and strop a later one")
TOOLS = (LITERT_TORCH,)


def find(name: str) -> Tool:
    """The tool of that name.

    Raises:
        InvalidPlan: There is none.
    """
    for tool in TOOLS:
        if tool.name == name:
            return tool
    raise InvalidPlan(f"There is no tool {name!r}. There are: {', '.join(tool.name for tool in TOOLS)}.")
