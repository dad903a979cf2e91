"""Run real models through `strop optimize`, and write what came of it to `real_models.md`.

python benchmarks/real_models.py [--only NAME...] [--budget 4m] [--peers FILE]
python benchmarks/real_models.py --prepare                 fetch, build, and tell float32 scores
python benchmarks/real_models.py --peers-folder FOLDER     write what a tool for single steps takes
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from models import CACHE, CASES, Case

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[case.name for case in CASES])
    parser.add_argument("--budget", default="4m", help="of each search; 4m by default")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="what the tool for single steps printed")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--peers-folder", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.only or case.name in options.only]
    for case in chosen:
        case.prepare(CACHE / case.name)
    if options.prepare:
        from models._score import score

        for case in chosen:
            print(score(case, CACHE / case.name), flush=True)
    elif options.peers_folder:
        from models._peers import export

        for case in chosen:
            if case.peers:
                export(case, CACHE / case.name, options.peers_folder / case.name)
                print(case.name, case.peers)
    else:
        from table import write

        results = CACHE / "results"
        results.mkdir(exist_ok=True)
        for case in chosen:
            (results / f"{case.name}.json").write_text(json.dumps(run(case, options.budget)))
        files = {case: results / f"{case.name}.json" for case in CASES}
        found = {case: json.loads(file.read_text()) for case, file in files.items() if file.exists()}
        write(HERE / "real_models.md", found, options.peers.read_text() if options.peers else "")


def run(case: Case, budget: str) -> dict[str, Any]:
    """Optimize one model: the manifest, with `peak`, the most bytes that all processes held resident at once.

    Pages that processes share are counted in each of them. A search that fails is told as `error`.
    """
    folder, bundle, journal = CACHE / case.name, CACHE / "bundles" / case.name, CACHE / "runs" / case.name
    for old in (bundle, journal):
        shutil.rmtree(old, ignore_errors=True)
        old.parent.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [Path(sys.executable).with_name("strop"), "optimize", folder / "model.onnx"]
    command += ["--data", folder / "data.npz", "--limit", case.limit, "--minimize", "latency.p50", "--threads", "1"]
    command += ["--budget", budget, "--seed", "0", "--out", bundle, "--run", journal, "--json"]
    command += ["--group", case.group] if case.group else []
    print(f"{case.name} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(HERE)}
    ) as process:
        watch = Watch(process.pid)
        watch.start()
        output = process.communicate()[0]
        watch.stop()
    seconds = time.monotonic() - start
    try:
        manifest: dict[str, Any] = json.loads(output)
    except json.JSONDecodeError:
        manifest = {"error": f"exit code {process.returncode}"}
    return {**manifest, "wall": seconds, "peak": watch.peak}


class Watch(threading.Thread):
    """Looks once a second at what a process and its descendants hold resident.

    Attributes:
        peak: The most bytes seen.
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak = pid, 0
        self._done = threading.Event()

    def run(self) -> None:
        import psutil

        root = psutil.Process(self.pid)
        while not self._done.wait(1):
            total = 0
            try:
                for process in (root, *root.children(recursive=True)):
                    try:
                        total += process.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue
            except psutil.NoSuchProcess:
                return
            self.peak = max(self.peak, total)

    def stop(self) -> None:
        self._done.set()
        self.join()


if __name__ == "__main__":
    main()
