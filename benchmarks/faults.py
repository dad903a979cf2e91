"""Kill a real search fifty times at random moments, resume it each time, and look for what was lost, repeated or torn.

    python benchmarks/faults.py [KILLS] [SEED]

The search is the demo's: the Fashion-MNIST classifier through ONNX Runtime and OpenVINO. Prints one line a kill and a
summary; exits with 1 where anything was lost, repeated or half-written.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

MODEL, DATA = "examples/fashion_mnist/model.onnx", "examples/fashion_mnist/test.npz"
STROP = [sys.executable, "-m", "strop"]
GOAL = ["--limit", "accuracy >= 99% of original", "--threads", "1", "--seed", "0"]


def finished(run: Path) -> list[str]:
    """Every candidate whose outcome is in the journal, in order, by its settings; the torn last line aside."""
    journal = run / "journal.log"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    found: dict[int, dict[str, object]] = {}
    for line in lines:
        entry = json.loads(line)
        for name, value in (entry.get("user_attr") or {}).items():
            found.setdefault(entry["trial_id"], {})[name] = value
    return [str(attrs["candidate"]) for attrs in found.values() if "outcome" in attrs]


def torn(run: Path) -> list[Path]:
    """Files under their final name that can't be read whole: every JSON, and every artifact named by one."""
    bad = []
    for path in run.rglob("*.json"):
        if any(part.startswith(".part-") for part in path.parts):
            continue
        try:
            content = json.loads(path.read_text())
        except ValueError:
            bad.append(path)
            continue
        if path.name == "model.json":
            bad += [path.parent / file for file in content["files"] if not (path.parent / file).exists()]
    return bad


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    dice = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        before: list[str] = []
        for number in range(1, kills + 1):
            started = (run / "run.json").exists()
            command = ["--resume", str(run)] if started else [MODEL, "--data", DATA, "--run", str(run), *GOAL]
            search = subprocess.Popen(
                [*STROP, "optimize", *command, "--budget", "1h"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            wait = dice.uniform(0.5, 25.0)
            ended, orphans = False, []
            try:
                search.wait(wait)
                ended = True
            except subprocess.TimeoutExpired:
                children = psutil.Process(search.pid).children(recursive=True)
                os.kill(search.pid, signal.SIGKILL)
                search.wait()
                psutil.wait_procs(children, timeout=5)
                orphans = [child for child in children if child.is_running() and child.status() != "zombie"]
            now = finished(run)
            lost = [c for c in before if c not in now]
            repeated = len(now) - len(set(now))
            half = torn(run)
            wrong += bool(lost) + repeated + len(half) + len(orphans)
            print(
                f"{number:>3}: {'ended' if ended else f'killed after {wait:4.1f} s'}, {len(now)} finished, "
                f"{len(lost)} lost, {repeated} repeated, {len(half)} torn, {len(orphans)} orphans", flush=True,
            )  # fmt: skip
            before = now
            if ended and number < kills:  # it came to its end between two kills: the next search
                run, before = Path(scratch) / f"run-{number}", []
        start = time.monotonic()
        last = subprocess.run(
            [*STROP, "optimize", "--resume", str(run), "--budget", "1h", "--trials", str(len(before) + 2), "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        manifest = json.loads(last.stdout) if last.returncode in (0, 3, 4) else {}
        now = finished(run)
        wrong += len(now) - len(set(now)) + (not manifest)
        print(f"resumed to the end in {time.monotonic() - start:.0f} s: exit code {last.returncode}, verdict "
              f"{manifest.get('verdict')}, {len(now)} finished, {len(now) - len(set(now))} repeated")  # fmt: skip
        print(f"{number} kills: {'nothing lost, repeated or torn' if not wrong else f'{wrong} things wrong'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
