"""Four candidates that fail for real beside the demo's own: each must be contained, and named in the result.

    python benchmarks/faulty_candidates.py

A third party's techniques are registered by entry points: one segfaults, one hangs, one eats memory, one fills the disk
(the run lies on a file system of 600 MB, which wants root). Prints a line a candidate; exits with 1 where a
fault was not named, or where the search did not go on to a proven winner.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import strop
from strop.events import Event, Stopped, Tried

MODEL, DATA = "examples/fashion_mnist/model.onnx", "examples/fashion_mnist/test.npz"
EXPECTED = {"segfault": "SIGSEGV", "hang": "took longer", "eat-memory": "more than the limit", "fill-disk": "No space"}
PLUGIN = '''
import os, signal, time
from dataclasses import dataclass
import numpy as np
from strop.model import ONNX
from strop.technique import Phase, Technique

@dataclass(frozen=True)
class Fault(Technique):
    """Fail."""
    accepts = frozenset({ONNX})
    phase = Phase.SHRINK

    @classmethod
    def expects(cls, target):
        return 0.01

    def apply(self, model, context):
        self.fail(context.folder)

class Segfault(Fault):
    def fail(self, folder):
        os.kill(os.getpid(), signal.SIGSEGV)

class Hang(Fault):
    def fail(self, folder):
        time.sleep(1e6)

class EatMemory(Fault):
    def fail(self, folder):
        kept = []
        while True:
            kept.append(np.ones(1 << 22))

class FillDisk(Fault):
    def fail(self, folder):
        with (folder / "model.onnx").open("wb") as file:
            while True:
                file.write(bytes(1 << 22))
'''


def register(folder: Path) -> None:
    """Lay the plug-in out as an installed package, on the path of this process and of those it starts."""
    (folder / "faulty.py").write_text(PLUGIN)
    metadata = folder / "faulty-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    names = "".join(f"{name} = faulty:{name}\n" for name in ("Segfault", "Hang", "EatMemory", "FillDisk"))
    (metadata / "entry_points.txt").write_text(f"[strop.techniques]\n{names}")
    sys.path.append(str(folder))


def tell(event: Event) -> None:
    if isinstance(event, Tried):
        outcome = event.outcome
        print(
            f"{event.number:>3} {event.candidate}: {outcome.cause} {outcome.reason} ({outcome.seconds:.1f} s)",
            flush=True,
        )
    elif isinstance(event, Stopped):
        print(event.reason)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "plugin").mkdir()
        register(root / "plugin")
        disk = root / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", disk], check=True)
        try:
            result = strop.optimize(
                MODEL, DATA, "accuracy >= 99% of original", target=strop.Target(threads=1), run=disk / "run",
                budget=strop.Budget(240, 14, memory=2_000_000_000), listener=tell,
            )  # fmt: skip
            result.save(root / "bundle")
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
        reasons = {name: [o.reason for c, o in result.tried if str(c).startswith(name)] for name in EXPECTED}
        unnamed = [name for name, words in EXPECTED.items() if not reasons[name] or words not in reasons[name][0]]
        print(result)
        print(f"faults that were not named: {unnamed or 'none'}")
        return int(bool(unnamed) or result.verdict != "met" or not result.manifest["winner"]["route"])


if __name__ == "__main__":
    sys.exit(main())
